//! What this service asks a client: questions on their way, and the answers that are awaited.
//!
//! A question's id is the service's and not one connection's, so that several clients can be asked the same one. An
//! answer that nobody awaits any more is dropped. What is asked and what the answers mean is up to whoever asks.

use std::collections::HashMap;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::Serialize;
use serde_json::value::RawValue;
use tokio::sync::oneshot;

use crate::outbound::{Gone, Outbound};
use crate::rpc::{self, Refused};

/// How many answers of one client are awaited at once.
const AWAITED_MAX: usize = 64;

/// A question's id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
pub(crate) struct QuestionId(i64);

/// Where ids come from.
#[derive(Debug, Default)]
pub(crate) struct QuestionIds(AtomicI64);

impl QuestionIds {
    pub(crate) fn next(&self) -> QuestionId {
        QuestionId(self.0.fetch_add(1, Ordering::Relaxed))
    }
}

/// A question: a request of ours.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct Question<'a, P> {
    pub(crate) id: QuestionId,
    pub(crate) method: &'static str,
    pub(crate) params: &'a P,
}

/// Why a question has no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Unanswered {
    #[error("the client did not answer in time")]
    Late,
    #[error("the client answered with an error")]
    Refused,
    #[error("the client is gone")]
    Gone,
    #[error("the client is asked too much at once")]
    TooMany,
}

type Reply = Result<Box<RawValue>, Unanswered>;

/// What one client is asked. A clone is another handle to the same.
#[derive(Debug, Clone, Default)]
pub(crate) struct Questions {
    awaited: Arc<Mutex<Awaited>>,
}

#[derive(Debug, Default)]
struct Awaited {
    replies: HashMap<QuestionId, oneshot::Sender<Reply>>,
    /// Nobody reads answers any more.
    closed: bool,
}

impl Questions {
    /// Asks, and waits for the answer for so long. Dropping the future withdraws the question.
    pub(crate) fn ask<P: Serialize>(
        &self,
        outbound: Outbound,
        question: Question<'_, P>,
        within: Duration,
    ) -> impl Future<Output = Reply> + Send + use<P> {
        let waiting = self.wait_for(question.id);
        let text = rpc::question(&question);
        async move {
            let mut waiting = waiting?;
            let answered = async {
                outbound.send(text).await.map_err(|Gone| Unanswered::Gone)?;
                // A client is let go when nobody is left who could speak to it.
                drop(outbound);
                // A reply that is never given is one that `close` has dropped.
                (&mut waiting.reply).await.unwrap_or(Err(Unanswered::Gone))
            };
            tokio::time::timeout(within, answered).await.unwrap_or(Err(Unanswered::Late))
        }
    }

    /// Takes a client's answer.
    pub(crate) fn answer(&self, id: &RawValue, result: Result<&RawValue, Refused>) {
        let Ok(id) = id.get().parse() else { return };
        let Some(reply) = self.lock().replies.remove(&QuestionId(id)) else { return };
        // Whoever asked may have gone away just now.
        let _ = reply.send(result.map(ToOwned::to_owned).map_err(|Refused| Unanswered::Refused));
    }

    /// Nobody reads answers any more: what is awaited, and what is asked from now on, stays unanswered.
    pub(crate) fn close(&self) {
        let mut awaited = self.lock();
        awaited.closed = true;
        awaited.replies.clear();
    }

    fn wait_for(&self, id: QuestionId) -> Result<Waiting, Unanswered> {
        let mut awaited = self.lock();
        if awaited.closed {
            return Err(Unanswered::Gone);
        }
        if awaited.replies.len() >= AWAITED_MAX {
            return Err(Unanswered::TooMany);
        }
        let (sender, reply) = oneshot::channel();
        awaited.replies.insert(id, sender);
        Ok(Waiting { questions: self.clone(), id, reply })
    }

    /// A panic elsewhere cannot leave a half-done change.
    fn lock(&self) -> MutexGuard<'_, Awaited> {
        self.awaited.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An awaited answer; not awaited any more once this is dropped.
struct Waiting {
    questions: Questions,
    id: QuestionId,
    reply: oneshot::Receiver<Reply>,
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.questions.lock().replies.remove(&self.id);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures_util::FutureExt as _;
    use serde_json::value::RawValue;

    use super::{AWAITED_MAX, Question, QuestionId, QuestionIds, Questions, Unanswered};
    use crate::outbound;
    use crate::rpc::Refused;

    const WITHIN: Duration = Duration::from_secs(1);

    fn question(id: QuestionId) -> Question<'static, [u8; 0]> {
        Question { id, method: "test/ask", params: &[] }
    }

    fn raw(json: &str) -> Box<RawValue> {
        RawValue::from_string(json.to_owned()).unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn answers_find_their_questions() {
        let (outbound, mut queue) = outbound::queue();
        let (questions, ids) = (Questions::default(), QuestionIds::default());
        let (first, second) = (ids.next(), ids.next());
        let asked = [first, second].map(|id| questions.ask(outbound.clone(), question(id), WITHIN));
        let answering = async {
            for id in [0, 1] {
                let sent = queue.recv().await.unwrap().text;
                assert_eq!(sent, format!(r#"{{"id":{id},"method":"test/ask","params":[]}}"#));
            }
            // Neither of these is the answer to anything.
            questions.answer(&raw("7"), Ok(&raw("7")));
            questions.answer(&raw(r#""0""#), Ok(&raw("7")));
            questions.answer(&raw("1"), Err(Refused));
            questions.answer(&raw("0"), Ok(&raw("[1]")));
            // Whoever answers twice is not heard twice.
            questions.answer(&raw("0"), Ok(&raw("[2]")));
        };
        let [one, two] = asked;
        let (one, two, ()) = tokio::join!(one, two, answering);
        assert_eq!(one.unwrap().get(), "[1]");
        assert_eq!(two.unwrap_err(), Unanswered::Refused);
        assert!(questions.lock().replies.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_is_awaited_after_its_time() {
        let (outbound, _queue) = outbound::queue();
        let (questions, ids) = (Questions::default(), QuestionIds::default());
        let late = questions.ask(outbound.clone(), question(ids.next()), WITHIN).await;
        assert_eq!(late.unwrap_err(), Unanswered::Late);
        drop(questions.ask(outbound.clone(), question(ids.next()), WITHIN));
        assert!(questions.lock().replies.is_empty());
        // A queue that has no room counts as well.
        let (outbound, _queue) = outbound::queue();
        outbound.send("x".repeat(8 << 20)).await.unwrap();
        let late = questions.ask(outbound, question(ids.next()), WITHIN).await;
        assert_eq!(late.unwrap_err(), Unanswered::Late);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_awaited_is_bounded_and_ends_with_its_client() {
        let (outbound, _queue) = outbound::queue();
        let (questions, ids) = (Questions::default(), QuestionIds::default());
        let ask = || questions.ask(outbound.clone(), question(ids.next()), WITHIN);
        let mut asked: Vec<_> = (0..AWAITED_MAX).map(|_| Box::pin(ask())).collect();
        assert_eq!(ask().await.unwrap_err(), Unanswered::TooMany);
        assert!(asked[0].as_mut().now_or_never().is_none());
        questions.close();
        for asked in asked {
            assert_eq!(asked.await.unwrap_err(), Unanswered::Gone);
        }
        assert_eq!(ask().await.unwrap_err(), Unanswered::Gone);
    }
}
