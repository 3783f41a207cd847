//! A bare HTTP/1.1 client that sees what arrived on its socket, and nothing nicer.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use gateway_testkit::Upstream;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Runs a test body, and fails it when it takes too long.
pub(crate) async fn within_deadline<T>(test: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(30), test).await.unwrap_or_else(|_| panic!("the test hangs"))
}

pub(crate) struct Client {
    stream: TcpStream,
    pub(crate) received: Vec<u8>,
}

impl Client {
    pub(crate) async fn connect(upstream: &Upstream) -> Client {
        Client::connect_to(upstream.address()).await
    }

    pub(crate) async fn connect_to(address: SocketAddr) -> Client {
        Client { stream: TcpStream::connect(address).await.unwrap(), received: Vec::new() }
    }

    /// A client that has sent a model call.
    pub(crate) async fn call(upstream: &Upstream) -> Client {
        let mut client = Client::connect(upstream).await;
        client.send("POST /v1/responses HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\n{}").await;
        client
    }

    pub(crate) async fn send(&mut self, text: &str) {
        self.stream.write_all(text.as_bytes()).await.unwrap();
    }

    /// Reads until what came ends with `end`.
    pub(crate) async fn read_until(&mut self, end: &[u8]) {
        while !self.received.ends_with(end) {
            assert_ne!(self.stream.read_buf(&mut self.received).await.unwrap(), 0, "ended before {end:?}");
        }
    }

    /// Reads until the connection ends, well or badly.
    pub(crate) async fn read_to_end(&mut self) -> io::Result<()> {
        while self.stream.read_buf(&mut self.received).await? > 0 {}
        Ok(())
    }

    /// The head of the answer and what came after it.
    pub(crate) fn answer(&self) -> (String, &[u8]) {
        let end = self.received.windows(4).position(|four| four == b"\r\n\r\n").unwrap() + 4;
        (
            String::from_utf8(self.received[..end].to_vec()).unwrap().to_ascii_lowercase(),
            &self.received[end..],
        )
    }

    /// The chunks of a chunked body, and whether the last one came.
    pub(crate) fn chunks(&self) -> (Vec<Vec<u8>>, bool) {
        let (mut chunks, mut rest) = (Vec::new(), self.answer().1);
        while let Some(line) = rest.windows(2).position(|two| two == b"\r\n") {
            let size = usize::from_str_radix(std::str::from_utf8(&rest[..line]).unwrap(), 16).unwrap();
            if size == 0 {
                return (chunks, true);
            }
            chunks.push(rest[line + 2..line + 2 + size].to_vec());
            rest = &rest[line + 2 + size + 2..];
        }
        (chunks, false)
    }
}
