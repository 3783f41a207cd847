//! The smallest HTTP client that can be rude: sends bytes as they are written down, and reads what comes back.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Context as _;
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// A service on loopback answers within this time, also what it does not like.
pub const ANSWER_TIME_MAX: Duration = Duration::from_secs(20);
/// No answer of a test is larger.
const ANSWER_BYTES_MAX: u64 = 16 << 20;

/// What a server sent before it closed the connection.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The status of the first response; 0 if none came.
    pub status: u16,
    /// Everything, head included, as text. A chunked body still has its chunk sizes.
    pub text: String,
}

impl Answer {
    /// The body of an answer with a length, as JSON.
    pub fn json(&self) -> anyhow::Result<Value> {
        let body = self.text.split_once("\r\n\r\n").map(|(_, body)| body).unwrap_or_default();
        serde_json::from_str(body).with_context(|| format!("not JSON: {}", self.text))
    }

    /// The value of a header.
    pub fn header(&self, name: &str) -> Option<&str> {
        let head = self.text.split_once("\r\n\r\n")?.0;
        let mut fields = head.lines().filter_map(|line| line.split_once(": "));
        fields.find(|(field, _)| field.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }
}

/// A connection that sends what it is told.
pub struct Raw(TcpStream);

impl Raw {
    /// Connects.
    pub async fn connect(at: SocketAddr) -> anyhow::Result<Self> {
        let stream = tokio::time::timeout(ANSWER_TIME_MAX, TcpStream::connect(at)).await??;
        stream.set_nodelay(true)?;
        Ok(Self(stream))
    }

    /// Sends these bytes. A server that has hung up already has its answer on the way.
    pub async fn send(&mut self, bytes: &[u8]) -> anyhow::Result<()> {
        let _ =
            tokio::time::timeout(ANSWER_TIME_MAX, self.0.write_all(bytes)).await.context("send in time")?;
        Ok(())
    }

    /// Reads until the server has sent `wanted`.
    pub async fn read_until(&mut self, wanted: &str) -> anyhow::Result<String> {
        let mut read = Vec::new();
        let seen = async {
            while !String::from_utf8_lossy(&read).contains(wanted) {
                anyhow::ensure!(self.0.read_buf(&mut read).await? > 0, "the server hung up");
            }
            Ok(())
        };
        let outcome = tokio::time::timeout(ANSWER_TIME_MAX, seen).await.context("in time").flatten();
        let text = String::from_utf8_lossy(&read).into_owned();
        outcome.with_context(|| format!("waited for {wanted:?}, read {text:?}"))?;
        Ok(text)
    }

    /// Reads until the server hangs up. A reset after an answer is no failure.
    pub async fn finish_bytes(self) -> anyhow::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        let mut stream = self.0.take(ANSWER_BYTES_MAX);
        let read = tokio::time::timeout(ANSWER_TIME_MAX, stream.read_to_end(&mut bytes)).await;
        let text = || String::from_utf8_lossy(&bytes).into_owned();
        let _ = read.with_context(|| format!("the server kept the connection open after {:?}", text()))?;
        Ok(bytes)
    }

    /// The same as an answer.
    pub async fn finish(self) -> anyhow::Result<Answer> {
        let text = String::from_utf8_lossy(&self.finish_bytes().await?).into_owned();
        let status = text.get(9..12).and_then(|status| status.parse().ok()).unwrap_or(0);
        Ok(Answer { status, text })
    }
}

/// Sends one request as written and reads until the server hangs up.
pub async fn send(at: SocketAddr, request: &[u8]) -> anyhow::Result<Answer> {
    let mut raw = Raw::connect(at).await?;
    raw.send(request).await?;
    raw.finish().await
}

/// A GET of one document.
pub async fn get(at: SocketAddr, path: &str) -> anyhow::Result<Answer> {
    send(at, format!("GET {path} HTTP/1.1\r\nhost: {at}\r\nconnection: close\r\n\r\n").as_bytes()).await
}

/// The bytes of a POST of JSON with these further header lines, each ended by CRLF.
pub fn post(at: SocketAddr, path: &str, headers: &str, body: &[u8]) -> Vec<u8> {
    let head = format!(
        "POST {path} HTTP/1.1\r\nhost: {at}\r\nconnection: close\r\ncontent-type: application/json\r\n\
         content-length: {}\r\n{headers}\r\n",
        body.len()
    );
    [head.as_bytes(), body].concat()
}
