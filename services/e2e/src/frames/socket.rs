//! The client's side of a WebSocket that may break every rule.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Context as _;
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::Frame;

/// No handshake on loopback takes this long, and no frame.
const TIME_MAX: Duration = Duration::from_secs(10);
/// No message of a server is larger.
const MESSAGE_BYTES_MAX: u64 = 64 << 20;

/// What a frame is said to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Opcode {
    /// A text.
    Text,
    /// Bytes.
    Binary,
    /// The end of the connection.
    Close,
    /// A question whether somebody is there.
    Ping,
    /// The answer to it.
    Pong,
    /// Something else.
    Other(u8),
}

impl Opcode {
    const fn number(self) -> u8 {
        match self {
            Self::Text => 1,
            Self::Binary => 2,
            Self::Close => 8,
            Self::Ping => 9,
            Self::Pong => 10,
            Self::Other(number) => number & 15,
        }
    }
}

/// A connection.
pub struct Socket {
    stream: TcpStream,
}

impl Socket {
    /// Connects and upgrades.
    pub async fn connect(at: SocketAddr) -> anyhow::Result<Self> {
        let connected = async {
            let mut stream = TcpStream::connect(at).await?;
            stream.set_nodelay(true)?;
            let upgrade = format!(
                "GET / HTTP/1.1\r\nhost: {at}\r\nconnection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n\
                 sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
            );
            stream.write_all(upgrade.as_bytes()).await?;
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(stream.read_u8().await?);
            }
            anyhow::ensure!(head.starts_with(b"HTTP/1.1 101 "), "{}", String::from_utf8_lossy(&head));
            Ok(Self { stream })
        };
        tokio::time::timeout(TIME_MAX, connected).await.context("a handshake in time")?
    }

    /// Sends a frame.
    pub async fn send(&mut self, frame: &Frame) -> anyhow::Result<()> {
        let bytes = match frame {
            Frame::Bytes(bytes) => bytes.clone(),
            Frame::Whole(opcode, payload) => {
                let mut bytes = vec![0x80 | opcode.number()];
                match (u8::try_from(payload.len()), u16::try_from(payload.len())) {
                    (Ok(length), _) if length < 126 => bytes.push(0x80 | length),
                    (_, Ok(length)) => {
                        bytes.push(0x80 | 126);
                        bytes.extend(length.to_be_bytes());
                    }
                    _ => {
                        bytes.push(0x80 | 127);
                        bytes.extend(u64::try_from(payload.len())?.to_be_bytes());
                    }
                }
                // A mask of zeros changes nothing.
                bytes.extend([0; 4]);
                bytes.extend(payload);
                bytes
            }
        };
        tokio::time::timeout(TIME_MAX, self.stream.write_all(&bytes)).await.context("sent in time")??;
        Ok(())
    }

    /// The next message; `None` once the server has ended the connection, in whatever way.
    pub async fn receive(&mut self) -> anyhow::Result<Option<Value>> {
        loop {
            let Ok((opcode, payload)) = self.frame().await else { return Ok(None) };
            match opcode {
                1 => return serde_json::from_slice(&payload).map(Some).context("a server speaks JSON"),
                8 => return Ok(None),
                _ => {}
            }
        }
    }

    async fn frame(&mut self) -> anyhow::Result<(u8, Vec<u8>)> {
        let opcode = self.stream.read_u8().await? & 15;
        let length = match self.stream.read_u8().await? & 127 {
            126 => u64::from(self.stream.read_u16().await?),
            127 => self.stream.read_u64().await?,
            short => u64::from(short),
        };
        anyhow::ensure!(length <= MESSAGE_BYTES_MAX, "a message of {length} bytes");
        let mut payload = vec![0; usize::try_from(length)?];
        self.stream.read_exact(&mut payload).await?;
        Ok((opcode, payload))
    }
}
