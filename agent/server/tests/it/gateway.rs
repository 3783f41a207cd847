//! A gateway that says what the test tells it to.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, ready};

use agent_session::{
    AccountKind, Attestation, Call, CallEvent, Failure, Model, ModelGateway, ModelStream, Provider,
    RateLimit, ReasoningEffort, Report, TraceContext,
};
use agent_threads::Usage;
use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::stream::{self, BoxStream};
use futures_util::{FutureExt as _, Stream, StreamExt as _};
use serde_json::{Value, json};
use tokio::sync::mpsc::{self, UnboundedSender};

/// What a response is.
#[derive(Debug, Clone)]
pub(crate) enum Reply {
    /// Reasoning and this text, in deltas of a few characters.
    Say(String),
    /// A summary of reasoning in one delta, and then `ok`.
    Think(String),
    /// The beginning of a text, and then nothing more.
    Hold,
    /// The same as when nothing is scripted, once an attestation was asked for.
    Attest,
    /// The gateway answers with this failure.
    Fail(Failure),
    /// The beginning of a text, and then the connection is lost.
    Lose,
}

/// The gateway. A clone is another handle to the same.
#[derive(Clone, Default)]
pub(crate) struct Scripted {
    replies: Arc<Mutex<VecDeque<Reply>>>,
    seen: Arc<Mutex<Seen>>,
    /// Those who follow usage limits.
    watches: Arc<Mutex<Vec<UnboundedSender<Report>>>>,
}

/// What the gateway was told, and what it stands on.
#[derive(Default)]
struct Seen {
    bodies: Vec<Bytes>,
    can_attest: Vec<bool>,
    attested: Vec<Attestation>,
    account: Option<AccountKind>,
    traces: Vec<TraceContext>,
    limits: Vec<RateLimit>,
}

impl Scripted {
    /// Adds the next response; without any it says `ok`.
    pub(crate) fn reply(&self, reply: Reply) {
        self.replies.lock().unwrap().push_back(reply);
    }

    /// The bodies of all calls.
    pub(crate) fn bodies(&self) -> Vec<Bytes> {
        self.seen.lock().unwrap().bodies.clone()
    }

    /// The traces that all calls belong to.
    pub(crate) fn traces(&self) -> Vec<TraceContext> {
        self.seen.lock().unwrap().traces.clone()
    }

    /// For all calls, whether somebody could attest for them.
    pub(crate) fn can_attest(&self) -> Vec<bool> {
        self.seen.lock().unwrap().can_attest.clone()
    }

    /// Identifies to its provider like this from now on, under these limits.
    pub(crate) fn account(&self, kind: AccountKind, limits: Vec<RateLimit>) {
        let mut seen = self.seen.lock().unwrap();
        (seen.account, seen.limits) = (Some(kind), limits);
    }

    /// Reports these limits to whoever follows them.
    pub(crate) fn report(&self, limits: &[RateLimit]) {
        let report = || Report { provider: "scripted".to_owned(), limits: limits.to_vec() };
        self.watches.lock().unwrap().retain(|watch| watch.send(report()).is_ok());
    }

    /// What came of asking since the last time.
    pub(crate) fn attested(&self) -> Vec<Attestation> {
        std::mem::take(&mut self.seen.lock().unwrap().attested)
    }
}

impl ModelGateway for Scripted {
    fn open(&self) -> Pin<Box<dyn ModelStream>> {
        Box::pin(Talk { gateway: self.clone(), asked: None, lost: false, events: VecDeque::new() })
    }

    fn models(&self) -> BoxFuture<'_, Result<Vec<Model>, Failure>> {
        let effort =
            |effort: &str| ReasoningEffort { effort: effort.to_owned(), description: "d".to_owned() };
        let model = Model {
            slug: "model-a".to_owned(),
            provider: "scripted".to_owned(),
            is_default: true,
            reasoning_efforts: vec![effort("low"), effort("high")],
            default_reasoning_effort: Some("low".to_owned()),
            context_window: Some(1_000),
            ..Model::default()
        };
        let other = Model { slug: "model-b".to_owned(), is_default: false, ..model.clone() };
        async move { Ok(vec![model, other]) }.boxed()
    }

    fn providers(&self) -> BoxFuture<'_, Result<Vec<Provider>, Failure>> {
        let kind = self.seen.lock().unwrap().account;
        let provider = |account_kind| Provider {
            id: "scripted".to_owned(),
            display_name: "Scripted".to_owned(),
            is_default: true,
            account_kind,
            compacts: false,
            stream_max_retries: None,
        };
        async move { Ok(kind.map(provider).into_iter().collect()) }.boxed()
    }

    fn rate_limits(&self, provider: &str) -> BoxFuture<'_, Result<Vec<RateLimit>, Failure>> {
        assert_eq!(provider, "scripted");
        let limits = self.seen.lock().unwrap().limits.clone();
        async move { Ok(limits) }.boxed()
    }

    fn watch_rate_limits(&self) -> BoxStream<'static, Result<Report, Failure>> {
        let limits = self.seen.lock().unwrap().limits.clone();
        let first = Report { provider: "scripted".to_owned(), limits };
        let (sender, receiver) = mpsc::unbounded_channel();
        self.watches.lock().unwrap().push(sender);
        let later =
            stream::unfold(receiver, |mut receiver| async move { Some((receiver.recv().await?, receiver)) });
        stream::iter([first]).chain(later).map(Ok).boxed()
    }
}

struct Talk {
    gateway: Scripted,
    asked: Option<BoxFuture<'static, Attestation>>,
    /// Whether the connection ends after the events.
    lost: bool,
    events: VecDeque<CallEvent>,
}

impl ModelStream for Talk {
    fn call(mut self: Pin<&mut Self>, call: Call) {
        let reply = self.gateway.replies.lock().unwrap().pop_front();
        let reply = reply.unwrap_or_else(|| Reply::Say("ok".to_owned()));
        {
            let mut seen = self.gateway.seen.lock().unwrap();
            seen.traces.push(call.trace);
            seen.bodies.push(call.body);
            seen.can_attest.push(call.attesters.can_attest());
        }
        self.lost = matches!(reply, Reply::Lose);
        self.asked = matches!(reply, Reply::Attest).then(|| call.attesters.attest());
        self.events = match reply {
            Reply::Say(text) => said(&text),
            Reply::Think(text) => thought(&text),
            Reply::Hold => begun("msg_held", "so far"),
            Reply::Attest => said("ok"),
            Reply::Fail(failure) => VecDeque::from([CallEvent::Failed { failure, usage: None }]),
            Reply::Lose => begun("msg_lost", "so far"),
        };
    }
}

impl Stream for Talk {
    type Item = Result<CallEvent, Failure>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if let Some(asked) = &mut self.asked {
            let attestation = ready!(asked.as_mut().poll(context));
            self.asked = None;
            self.gateway.seen.lock().unwrap().attested.push(attestation);
        }
        match self.events.pop_front() {
            Some(event) => Poll::Ready(Some(Ok(event))),
            None if self.lost => Poll::Ready(None),
            None => Poll::Pending,
        }
    }
}

fn event(value: Value) -> CallEvent {
    let kind = value["type"].as_str().unwrap().to_owned();
    CallEvent::Event { kind, data: value.to_string().into() }
}

fn begun(id: &str, text: &str) -> VecDeque<CallEvent> {
    let limit =
        RateLimit { id: "codex".to_owned(), name: None, primary: None, secondary: None, reached_type: None };
    let head = CallEvent::Head {
        provider: "scripted".to_owned(),
        turn_state: None,
        rate_limits: vec![limit],
        continues: false,
    };
    let item =
        json!({"id": id, "type": "message", "role": "assistant", "status": "in_progress", "content": []});
    let mut events = VecDeque::from([
        head,
        event(json!({"type": "response.created", "response": {"id": "resp_1"}})),
        event(json!({"type": "response.output_item.added", "output_index": 0, "item": item})),
    ]);
    for piece in text.as_bytes().chunks(5) {
        let delta = std::str::from_utf8(piece).unwrap();
        let delta = json!({"type": "response.output_text.delta", "item_id": id, "output_index": 0,
            "content_index": 0, "delta": delta});
        events.push_back(event(delta));
    }
    events
}

fn thought(text: &str) -> VecDeque<CallEvent> {
    let item = |summary| json!({"id": "rs_1", "type": "reasoning", "summary": summary});
    let delta = json!({"type": "response.reasoning_summary_text.delta", "item_id": "rs_1", "output_index": 0,
        "summary_index": 0, "delta": text});
    let whole = item(json!([{"type": "summary_text", "text": text}]));
    let thought = [
        json!({"type": "response.output_item.added", "output_index": 0, "item": item(json!([]))}),
        delta,
        json!({"type": "response.output_item.done", "output_index": 0, "item": whole}),
    ];
    let mut events = said("ok");
    let answer = events.split_off(2);
    events.extend(thought.map(event));
    events.extend(answer);
    events
}

fn said(text: &str) -> VecDeque<CallEvent> {
    let mut events = begun("msg_1", text);
    let content = json!([{"type": "output_text", "text": text, "annotations": []}]);
    let item = json!({"id": "msg_1", "type": "message", "role": "assistant", "status": "completed",
        "content": content});
    events.push_back(event(json!({"type": "response.output_item.done", "output_index": 0, "item": item})));
    let usage = Usage {
        input_tokens: 100,
        cached_input_tokens: 20,
        output_tokens: 10,
        reasoning_output_tokens: 3,
        total_tokens: 110,
    };
    let told = json!({"input_tokens": 100, "output_tokens": 10, "total_tokens": 110,
        "input_tokens_details": {"cached_tokens": 20}, "output_tokens_details": {"reasoning_tokens": 3}});
    let response = json!({"id": "resp_1", "usage": told, "end_turn": true});
    events.push_back(event(json!({"type": "response.completed", "response": response})));
    events.push_back(CallEvent::Completed { response_id: String::new(), usage: Some(usage) });
    events
}
