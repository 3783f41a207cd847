//! A gateway that answers from a script and remembers what it was asked.

use std::{
    collections::VecDeque,
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll},
};

use agent_session::{
    AccountKind, Call, CallEvent, Failure, FailureFault, Model, ModelGateway, ModelStream, Provider,
    RateLimit, Report,
};
use agent_threads::Usage;
use bytes::Bytes;
use futures_util::{
    FutureExt as _, Stream, StreamExt as _,
    future::BoxFuture,
    stream::{self, BoxStream},
};
use tokio::sync::Notify;

/// What the gateway does next in a response.
pub(crate) enum Step {
    Send(CallEvent),
    /// The stream breaks.
    Break(Failure),
    /// The stream ends.
    End,
    /// Nothing more until it is notified.
    Wait(Arc<Notify>),
    /// Nothing more.
    Hang,
}

#[derive(Default)]
pub(crate) struct Script {
    pub(crate) responses: VecDeque<Vec<Step>>,
    pub(crate) calls: Vec<Call>,
    pub(crate) streams: usize,
    pub(crate) down: bool,
    /// What the provider says of its broken streams.
    pub(crate) stream_max_retries: Option<u32>,
    /// Whether the provider condenses by itself.
    pub(crate) compacts: bool,
    /// Those who follow usage limits.
    pub(crate) watches: Vec<tokio::sync::mpsc::UnboundedSender<Report>>,
    /// Whether responses can be continued.
    pub(crate) continues: bool,
}

#[derive(Clone, Default)]
pub(crate) struct FakeGateway(pub(crate) Arc<Mutex<Script>>);

impl FakeGateway {
    pub(crate) fn answers(&self, steps: Vec<Step>) {
        self.0.lock().unwrap().responses.push_back(steps);
    }

    pub(crate) fn calls(&self) -> Vec<Call> {
        self.0.lock().unwrap().calls.clone()
    }

    pub(crate) fn bodies(&self) -> Vec<String> {
        self.calls().iter().map(|call| String::from_utf8(call.body.to_vec()).unwrap()).collect()
    }
}

pub(crate) fn failure(reason: &str) -> Failure {
    Failure {
        reason: reason.to_owned(),
        fault: FailureFault::Upstream,
        message: format!("{reason} happened"),
        retryable: true,
        retry_delay: None,
        http_status: None,
        code: None,
    }
}

impl ModelGateway for FakeGateway {
    fn open(&self) -> Pin<Box<dyn ModelStream>> {
        self.0.lock().unwrap().streams += 1;
        Box::pin(FakeStream { script: Arc::clone(&self.0), steps: VecDeque::new(), waiting: None })
    }

    fn models(&self) -> BoxFuture<'_, Result<Vec<Model>, Failure>> {
        let answer = match self.0.lock().unwrap().down {
            true => Err(failure("gateway_unavailable")),
            false => Ok(vec![Model {
                slug: "m1".to_owned(),
                provider: "rehearsal".to_owned(),
                is_default: true,
                context_window: Some(1000),
                base_instructions: Some("be \"brief\"".to_owned()),
                ..Model::default()
            }]),
        };
        async move { answer }.boxed()
    }

    fn providers(&self) -> BoxFuture<'_, Result<Vec<Provider>, Failure>> {
        let stream_max_retries = self.0.lock().unwrap().stream_max_retries;
        let provider = Provider {
            id: "rehearsal".to_owned(),
            display_name: "Rehearsal".to_owned(),
            is_default: true,
            account_kind: AccountKind::None,
            stream_max_retries,
            compacts: self.0.lock().unwrap().compacts,
        };
        async move { Ok(vec![provider]) }.boxed()
    }

    fn rate_limits(&self, _: &str) -> BoxFuture<'_, Result<Vec<RateLimit>, Failure>> {
        async { Ok(Vec::new()) }.boxed()
    }

    fn watch_rate_limits(&self) -> BoxStream<'static, Result<Report, Failure>> {
        let (sender, receiver) = tokio::sync::mpsc::unbounded_channel();
        self.0.lock().unwrap().watches.push(sender);
        let reports =
            stream::unfold(receiver, |mut receiver| async move { Some((receiver.recv().await?, receiver)) });
        reports.map(Ok).boxed()
    }
}

struct FakeStream {
    script: Arc<Mutex<Script>>,
    steps: VecDeque<Step>,
    waiting: Option<BoxFuture<'static, ()>>,
}

impl ModelStream for FakeStream {
    fn call(mut self: Pin<&mut Self>, call: Call) {
        let steps = {
            let mut script = self.script.lock().unwrap();
            script.calls.push(call);
            script.responses.pop_front().unwrap_or_else(|| answer("msg_default", "ok"))
        };
        self.steps = steps.into();
    }
}

impl Stream for FakeStream {
    type Item = Result<CallEvent, Failure>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            if let Some(waiting) = &mut self.waiting {
                std::task::ready!(waiting.as_mut().poll(context));
                self.waiting = None;
            }
            return match self.steps.pop_front() {
                Some(Step::Send(mut event)) => {
                    if let CallEvent::Head { continues, .. } = &mut event {
                        *continues = self.script.lock().unwrap().continues;
                    }
                    Poll::Ready(Some(Ok(event)))
                }
                Some(Step::Break(failure)) => Poll::Ready(Some(Err(failure))),
                Some(Step::End) => Poll::Ready(None),
                Some(Step::Wait(notify)) => {
                    self.waiting = Some(async move { notify.notified().await }.boxed());
                    continue;
                }
                Some(Step::Hang) | None => Poll::Pending,
            };
        }
    }
}

pub(crate) fn event(json: &str) -> Step {
    let value: serde_json::Value = serde_json::from_str(json).unwrap();
    let kind = value["type"].as_str().unwrap().to_owned();
    Step::Send(CallEvent::Event { kind, data: Bytes::copy_from_slice(json.as_bytes()) })
}

pub(crate) fn head() -> Step {
    Step::Send(CallEvent::Head {
        provider: "rehearsal".to_owned(),
        turn_state: Some("sticky".to_owned()),
        rate_limits: Vec::new(),
        continues: false,
    })
}

pub(crate) fn added(id: &str) -> Step {
    event(&format!(
        r#"{{"type":"response.output_item.added","output_index":0,"item":{{"type":"message","role":"assistant","id":"{id}","content":[]}}}}"#
    ))
}

pub(crate) fn delta(id: &str, text: &str) -> Step {
    event(&format!(
        r#"{{"type":"response.output_text.delta","item_id":"{id}","output_index":0,"delta":"{text}"}}"#
    ))
}

/// The item's JSON has spaces in odd places, so that a copy that is not exact is seen.
pub(crate) fn message(id: &str, text: &str) -> String {
    format!(
        r#"{{"type": "message",  "role":"assistant","id":"{id}", "status":"completed","content":[{{"type":"output_text","text":"{text}"}}]}}"#
    )
}

pub(crate) fn done(json: &str) -> Step {
    event(&format!(r#"{{"type":"response.output_item.done","output_index":0,"item":{json}}}"#))
}

pub(crate) fn completed() -> Step {
    let usage = Usage { input_tokens: 10, output_tokens: 3, total_tokens: 13, ..Usage::default() };
    Step::Send(CallEvent::Completed { response_id: String::new(), usage: Some(usage) })
}

/// The end of a response that has an id and used so many tokens.
pub(crate) fn ended(response_id: &str, total_tokens: u64) -> Step {
    let usage = Usage { input_tokens: total_tokens, total_tokens, ..Usage::default() };
    Step::Send(CallEvent::Completed { response_id: response_id.to_owned(), usage: Some(usage) })
}

/// A response of one message.
pub(crate) fn answer(id: &str, text: &str) -> Vec<Step> {
    vec![head(), added(id), delta(id, text), done(&message(id, text)), completed()]
}
