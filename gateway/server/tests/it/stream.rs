//! A `Respond` stream from the caller's side.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::BoxStream;
use tidegate_proto::gateway::v1::{
    BodyChunk, Envelope, RespondRequest, RespondResponse, ResponseStart, respond_request::Message,
    respond_response::Message as Answer,
};
use tokio::sync::mpsc;
use tokio_stream::StreamExt as _;
use tonic::{Request, Streaming};

use crate::harness::{Gate, deadline};

type Requests = BoxStream<'static, RespondRequest>;

/// One open stream.
pub(crate) struct Stream {
    pub(crate) send: mpsc::Sender<RespondRequest>,
    pub(crate) events: Streaming<RespondResponse>,
}

impl Stream {
    pub(crate) async fn open(gate: &Gate) -> Self {
        Self::open_with(gate, |_| ()).await
    }

    /// A stream of a caller that shows this `authorization`.
    pub(crate) async fn open_as(gate: &Gate, authorization: &str) -> Self {
        let value = authorization.parse().unwrap();
        Self::open_with(gate, |request| drop(request.metadata_mut().insert("authorization", value))).await
    }

    /// A stream of a caller that waits so long.
    pub(crate) async fn open_within(gate: &Gate, limit: Duration) -> Self {
        Self::open_with(gate, |request| request.set_timeout(limit)).await
    }

    async fn open_with(gate: &Gate, change: impl FnOnce(&mut Request<Requests>)) -> Self {
        let (send, mut receive) = mpsc::channel(64);
        let requests: Requests = Box::pin(futures_util::stream::poll_fn(move |cx| receive.poll_recv(cx)));
        let mut request = Request::new(requests);
        change(&mut request);
        let events = deadline(gate.grpc().await.respond(request)).await.unwrap().into_inner();
        Self { send, events }
    }

    pub(crate) async fn call(&self, body: &str, chunk: usize) {
        self.start(ResponseStart::default(), body, chunk).await;
    }

    /// A call whose start has these fields besides the usual envelope.
    pub(crate) async fn start(&self, start: ResponseStart, body: &str, chunk: usize) {
        let envelope = Envelope {
            thread_id: "thread-1".to_owned(),
            session_id: "session-1".to_owned(),
            originator: "codex-tui".to_owned(),
            ..Envelope::default()
        };
        let start = ResponseStart { envelope: Some(envelope), turn_state: "state-1".to_owned(), ..start };
        self.message(Message::Start(Box::new(start))).await;
        self.body(body, chunk).await;
    }

    /// A body after its start, in chunks.
    pub(crate) async fn body(&self, body: &str, chunk: usize) {
        let body = Bytes::copy_from_slice(body.as_bytes());
        let count = body.len().div_ceil(chunk);
        for index in 0..count {
            let data = body.slice(index * chunk..body.len().min((index + 1) * chunk));
            self.message(Message::BodyChunk(BodyChunk { data, last: index + 1 == count })).await;
        }
    }

    pub(crate) async fn message(&self, message: Message) {
        self.send.send(RespondRequest { message: Some(message) }).await.unwrap();
    }

    pub(crate) async fn next(&mut self) -> Answer {
        deadline(self.events.next()).await.unwrap().unwrap().message.unwrap()
    }

    /// Everything up to the end of one response.
    pub(crate) async fn response(&mut self) -> Vec<Answer> {
        let mut all = Vec::new();
        loop {
            let answer = self.next().await;
            let last = matches!(answer, Answer::Completed(_) | Answer::Failed(_));
            all.push(answer);
            if last {
                return all;
            }
        }
    }
}

/// The messages of one call whose body goes in chunks of the greatest usual size.
pub(crate) fn messages(body: &str) -> Vec<RespondRequest> {
    let start = Message::Start(Box::default());
    let bytes = Bytes::copy_from_slice(body.as_bytes());
    let data = |from: usize| bytes.slice(from..bytes.len().min(from + CHUNK));
    let chunk =
        |from: usize| Message::BodyChunk(BodyChunk { data: data(from), last: from + CHUNK >= bytes.len() });
    let chunks = (0..bytes.len()).step_by(CHUNK).map(chunk);
    std::iter::once(start).chain(chunks).map(|message| RespondRequest { message: Some(message) }).collect()
}

const CHUNK: usize = 1024 * 1024;
