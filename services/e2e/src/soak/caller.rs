//! Callers on both surfaces that can leave at any moment, read slowly, or not at all.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Context as _;
use bytes::{Buf as _, Bytes, BytesMut};
use futures_util::{Stream, StreamExt as _};
use tidegate_proto::failure_of;
use tidegate_proto::gateway::v1::model_gateway_service_client::ModelGatewayServiceClient;
use tidegate_proto::gateway::v1::respond_request::Message as Ask;
use tidegate_proto::gateway::v1::respond_response::Message as Event;
use tidegate_proto::gateway::v1::{BodyChunk, RespondRequest, RespondResponse, ResponseHead};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tonic::transport::{Channel, Endpoint};
use tonic::{Status, Streaming};

use super::answer::{End, Told};
use super::replica::MODEL;

/// No answer of a scenario takes longer.
pub(super) const ANSWER_TIME_MAX: Duration = Duration::from_secs(30);
/// How many bytes of a gRPC connection may be under way: one slow stream does not stop its neighbors.
const CONNECTION_WINDOW_BYTES: u32 = 64 << 20;

/// How a caller speaks to the gateway.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Surface {
    Http,
    Grpc,
}

impl Surface {
    /// Takes turns.
    pub(super) fn of(number: u64) -> Self {
        if number.is_multiple_of(2) { Self::Http } else { Self::Grpc }
    }
}

/// The body of a call that asks the upstream for `order`.
pub(super) fn body(order: &str) -> String {
    body_for(MODEL, order)
}

/// The same for another model.
pub(super) fn body_for(model: &str, order: &str) -> String {
    format!(r#"{{"model":"{model}","stream":true,"input":"{order}"}}"#)
}

/// One call on a fresh HTTP connection, or on a gRPC connection that calls share.
pub(super) async fn call(at: SocketAddr, grpc: &Grpc, surface: Surface, order: &str) -> Told {
    let told = async {
        match surface {
            Surface::Http => match Http::connect(at).await {
                Ok(mut http) => http.call(order).await,
                Err(why) => Told::silent(format!("connect: {why:#}")),
            },
            Surface::Grpc => grpc.call(order).await,
        }
    };
    tokio::time::timeout(ANSWER_TIME_MAX, told).await.unwrap_or_else(|_| Told::silent("no end in time"))
}

/// The head of an HTTP answer.
#[derive(Debug)]
pub(super) struct Head {
    pub(super) status: u16,
    /// Names in lower case.
    pub(super) fields: Vec<(String, String)>,
}

/// How much of a body is to come.
#[derive(Debug, Clone, Copy)]
enum Rest {
    Chunks,
    Bytes(usize),
}

/// An HTTP/1.1 connection.
pub(super) struct Http {
    stream: TcpStream,
    read: BytesMut,
    at: SocketAddr,
    rest: Rest,
}

impl Http {
    pub(super) async fn connect(at: SocketAddr) -> anyhow::Result<Self> {
        Self::connected(at, TcpStream::connect(at).await?)
    }

    /// The same, with little room for what was not read yet.
    pub(super) async fn connect_narrow(at: SocketAddr, room: u32) -> anyhow::Result<Self> {
        let socket = TcpSocket::new_v4()?;
        socket.set_recv_buffer_size(room)?;
        Self::connected(at, socket.connect(at).await?)
    }

    fn connected(at: SocketAddr, stream: TcpStream) -> anyhow::Result<Self> {
        stream.set_nodelay(true)?;
        Ok(Self { stream, read: BytesMut::new(), at, rest: Rest::Bytes(0) })
    }

    /// Sends a call up to this many bytes of its body.
    pub(super) async fn ask_in_part(&mut self, body: &str, bytes: usize) -> anyhow::Result<()> {
        let head = format!(
            "POST /v1/responses HTTP/1.1\r\nhost: {}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
            self.at,
            body.len()
        );
        let part = body.as_bytes().get(..bytes.min(body.len())).unwrap_or_default();
        self.stream.write_all(&[head.as_bytes(), part].concat()).await.context("send the call")
    }

    /// Sends what is left of a call's body.
    pub(super) async fn ask_rest(&mut self, body: &str, sent: usize) -> anyhow::Result<()> {
        let rest = body.as_bytes().get(sent..).unwrap_or_default();
        self.stream.write_all(rest).await.context("send the rest of the call")
    }

    pub(super) async fn ask(&mut self, order: &str) -> anyhow::Result<()> {
        let body = body(order);
        self.ask_in_part(&body, body.len()).await
    }

    /// One call, and everything that it is answered.
    pub(super) async fn call(&mut self, order: &str) -> Told {
        match self.ask(order).await {
            Ok(()) => self.told().await,
            Err(why) => Told::silent(format!("{why:#}")),
        }
    }

    /// Everything that the call is answered.
    pub(super) async fn told(&mut self) -> Told {
        match self.head().await {
            Ok(head) => self.told_after(head, Vec::new()).await,
            Err(why) => Told::silent(format!("{why:#}")),
        }
    }

    /// The same, when the head and a part of the body were read already.
    pub(super) async fn told_after(&mut self, head: Head, mut body: Vec<u8>) -> Told {
        loop {
            match self.piece().await {
                Ok(Some(piece)) => body.extend_from_slice(&piece),
                Ok(None) => return Told::over_http(head, body, Ok(())),
                Err(why) => return Told::over_http(head, body, Err(why)),
            }
        }
    }

    pub(super) async fn head(&mut self) -> anyhow::Result<Head> {
        let status = self.line().await?;
        let status: u16 =
            status.split(' ').nth(1).and_then(|status| status.parse().ok()).context("a status")?;
        let mut fields = Vec::new();
        loop {
            let line = self.line().await?;
            if line.is_empty() {
                break;
            }
            let (name, value) = line.split_once(':').context("a header")?;
            fields.push((name.to_ascii_lowercase(), value.trim().to_owned()));
        }
        let length = fields.iter().find(|(name, _)| name == "content-length");
        self.rest = match length {
            Some((_, length)) => Rest::Bytes(length.parse()?),
            None => Rest::Chunks,
        };
        Ok(Head { status, fields })
    }

    /// The next part of the body; none at its proper end.
    pub(super) async fn piece(&mut self) -> anyhow::Result<Option<Bytes>> {
        match self.rest {
            Rest::Bytes(0) => Ok(None),
            Rest::Bytes(rest) => {
                if self.read.is_empty() {
                    self.more().await?;
                }
                let piece = self.read.split_to(rest.min(self.read.len())).freeze();
                self.rest = Rest::Bytes(rest - piece.len());
                Ok(Some(piece))
            }
            Rest::Chunks => {
                let line = self.line().await?;
                let size = usize::from_str_radix(line.trim(), 16).context("a chunk's size")?;
                while self.read.len() < size + 2 {
                    self.more().await?;
                }
                let piece = self.read.split_to(size).freeze();
                self.read.advance(2);
                Ok((size > 0).then_some(piece))
            }
        }
    }

    /// Whether the gateway ends the connection, in order and soon.
    pub(super) async fn is_ended(&mut self, limit: Duration) -> bool {
        let ended = async { matches!(self.stream.read_buf(&mut self.read).await, Ok(0)) };
        tokio::time::timeout(limit, ended).await.unwrap_or(false)
    }

    async fn line(&mut self) -> anyhow::Result<String> {
        loop {
            if let Some(end) = self.read.windows(2).position(|bytes| bytes == b"\r\n") {
                let line = self.read.split_to(end);
                self.read.advance(2);
                return Ok(String::from_utf8_lossy(&line).into_owned());
            }
            self.more().await?;
        }
    }

    async fn more(&mut self) -> anyhow::Result<()> {
        anyhow::ensure!(self.stream.read_buf(&mut self.read).await.context("read")? > 0, "hung up");
        Ok(())
    }
}

/// A gRPC connection; clones share it.
#[derive(Clone)]
pub(super) struct Grpc(ModelGatewayServiceClient<Channel>);

/// The events of a gRPC call.
pub(super) type Events = Streaming<RespondResponse>;

impl Grpc {
    pub(super) async fn connect(at: SocketAddr) -> anyhow::Result<Self> {
        Self::connected(Self::endpoint(at)?).await
    }

    /// The same, with little room on each stream for what was not read yet.
    pub(super) async fn connect_narrow(at: SocketAddr, room: u32) -> anyhow::Result<Self> {
        Self::connected(Self::endpoint(at)?.initial_stream_window_size(room)).await
    }

    fn endpoint(at: SocketAddr) -> anyhow::Result<Endpoint> {
        let endpoint = Endpoint::from_shared(format!("http://{at}"))?;
        Ok(endpoint.tcp_nodelay(true).initial_connection_window_size(CONNECTION_WINDOW_BYTES))
    }

    async fn connected(endpoint: Endpoint) -> anyhow::Result<Self> {
        Ok(Self(ModelGatewayServiceClient::new(endpoint.connect().await?)))
    }

    pub(super) async fn ask(&self, order: &str) -> Result<Events, Status> {
        self.stream(tokio_stream::iter(messages(&body(order)))).await
    }

    pub(super) async fn stream(
        &self,
        messages: impl Stream<Item = RespondRequest> + Send + 'static,
    ) -> Result<Events, Status> {
        Ok(self.0.clone().respond(messages).await?.into_inner())
    }

    pub(super) async fn call(&self, order: &str) -> Told {
        self.call_with(&body(order)).await
    }

    pub(super) async fn call_with(&self, body: &str) -> Told {
        match self.stream(tokio_stream::iter(messages(body))).await {
            Ok(events) => told(events).await,
            Err(status) => Told { end: refused(&status), ..Told::silent("") },
        }
    }
}

/// A call's messages, its body in one chunk.
pub(super) fn messages(body: &str) -> [RespondRequest; 2] {
    let chunk = BodyChunk { data: Bytes::copy_from_slice(body.as_bytes()), last: true };
    [Ask::Start(Box::default()), Ask::BodyChunk(chunk)]
        .map(|message| RespondRequest { message: Some(message) })
}

/// Everything that a gRPC call is answered.
pub(super) async fn told(mut events: Events) -> Told {
    let mut told = Told::silent("the stream ended without a last word");
    let mut over = false;
    while let Some(event) = events.next().await {
        let message = match event {
            Ok(event) => event.message,
            Err(status) if told.fields.is_empty() => {
                told.end = refused(&status);
                return told;
            }
            Err(status) => {
                told.end = End::Silent(format!("a status after the head: {status}"));
                return told;
            }
        };
        if over {
            told.end = End::Silent("something came after the last word".to_owned());
            return told;
        }
        match message {
            Some(Event::Head(head)) => told.fields = fields(head),
            Some(Event::Event(event)) => told.events.push((event.r#type, event.data)),
            Some(Event::Completed(_)) => (told.end, over) = (End::Completed, true),
            Some(Event::Failed(failed)) => {
                let reason = failed.failure.unwrap_or_default().reason;
                (told.end, over) = (End::Failed(reason), true);
            }
            other => {
                told.end = End::Silent(format!("nobody asked for {other:?}"));
                return told;
            }
        }
    }
    told
}

fn refused(status: &Status) -> End {
    let failure = failure_of(status);
    End::Refused { status: format!("{:?}", status.code()), reason: failure.reason, retry: failure.retryable }
}

/// A head's fields under the names that they have over HTTP.
fn fields(head: ResponseHead) -> Vec<(String, String)> {
    let named = [
        ("x-tidegate-model", head.model),
        ("x-tidegate-provider", head.provider),
        ("x-tidegate-generation", head.generation.to_string()),
    ];
    named.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}
