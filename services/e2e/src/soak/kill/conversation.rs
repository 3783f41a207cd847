//! A client that talks in one thread, is cut off by a kill, connects again and goes on.

use std::sync::Arc;

use anyhow::Context as _;
use serde_json::{Value, json};
use tokio::sync::Notify;

use super::Heard;
use super::book::{Book, Fresh};
use crate::rpc::Rpc;

/// After so many messages a conversation begins anew in another thread.
const MESSAGES_MAX: usize = 60;

/// A client and what it knows.
pub(super) struct Conversation {
    name: String,
    heard: Arc<Heard>,
    thread: Option<String>,
    book: Book,
    /// Messages so far, over all threads.
    count: u64,
    /// The connection of this round, with all that came on it.
    rpc: Option<Rpc>,
    /// How much of that is in the book.
    read: usize,
}

impl Conversation {
    pub(super) fn new(name: String, heard: Arc<Heard>) -> Self {
        Self { name, heard, thread: None, book: Book::default(), count: 0, rpc: None, read: 0 }
    }

    /// Connects, looks at what is left, and talks until the connection breaks.
    pub(super) async fn go_on(&mut self, url: &str, accepted: &Notify) -> anyhow::Result<()> {
        self.take_up(url).await?;
        loop {
            let message = match self.book.pending.clone() {
                Some(pending) => pending,
                None => self.next_message(),
            };
            let turn = self.say(&message).await?;
            self.book.accept(message);
            accepted.notify_one();
            self.heard.tally.attempted();
            let running = turn.get("status").is_some_and(|status| status == "inProgress");
            if running {
                self.rpc()?.notified("turn/completed").await?;
            }
            self.read();
            if running {
                self.check_call();
            }
        }
    }

    /// Connects and compares the thread with what is known of it. One in which nothing was accepted may be gone.
    pub(super) async fn take_up(&mut self, url: &str) -> anyhow::Result<()> {
        let mut rpc = Rpc::connect(url).await?;
        rpc.initialize().await?;
        if self.book.accepted.len() >= MESSAGES_MAX {
            self.history(&mut rpc).await?;
            (self.thread, self.book) = (None, Book::default());
        }
        if let Some(thread) = &self.thread {
            let resume = json!({"threadId": thread, "excludeTurns": true});
            let resumed = rpc.ask("thread/resume", resume).await?;
            if resumed.get("error").is_none() {
                self.history(&mut rpc).await?;
            } else {
                self.heard.tally.expect(self.book.accepted.is_empty(), || {
                    format!("{}: the thread is lost: {resumed}", self.name)
                });
                (self.thread, self.book) = (None, Book::default());
            }
        }
        if self.thread.is_none() {
            let started = rpc.call("thread/start", json!({})).await?;
            let id = started.pointer("/thread/id").and_then(Value::as_str);
            self.thread = Some(id.context("a thread has an id")?.to_owned());
        }
        (self.rpc, self.read) = (Some(rpc), 0);
        Ok(())
    }

    /// The process is gone: takes down what it has said last.
    pub(super) fn killed(&mut self) -> Fresh {
        self.read();
        self.rpc = None;
        self.book.close()
    }

    fn next_message(&mut self) -> String {
        self.count += 1;
        format!("{}-{}", self.name, self.count)
    }

    async fn say(&mut self, message: &str) -> anyhow::Result<Value> {
        self.book.pending = Some(message.to_owned());
        let params = json!({
            "threadId": self.thread,
            "clientUserMessageId": message,
            "input": [{"type": "text", "text": message, "text_elements": []}],
        });
        let answer = self.rpc()?.call("turn/start", params).await?;
        answer.get("turn").cloned().context("an answer with a turn")
    }

    fn rpc(&mut self) -> anyhow::Result<&mut Rpc> {
        self.rpc.as_mut().context("connected")
    }

    fn read(&mut self) {
        let Some(rpc) = &self.rpc else { return };
        let new = rpc.received().iter().skip(self.read);
        new.for_each(|received| self.book.hear(&received.message));
        self.read = rpc.received().len();
    }

    async fn history(&self, rpc: &mut Rpc) -> anyhow::Result<()> {
        let (mut turns, mut cursor) = (Vec::new(), Value::Null);
        loop {
            let params = json!({
                "threadId": self.thread, "itemsView": "full", "sortDirection": "asc", "limit": 100, "cursor": cursor,
            });
            let page = rpc.call("thread/turns/list", params).await?;
            turns.extend(page.get("data").and_then(Value::as_array).cloned().unwrap_or_default());
            cursor = page.get("nextCursor").cloned().unwrap_or_default();
            if cursor.is_null() {
                break;
            }
        }
        self.book.check(&self.name, &turns, &self.heard.tally);
        Ok(())
    }

    /// The model was told everything that was accepted.
    fn check_call(&self) {
        let told = self.heard.last_of(self.thread.as_deref().unwrap_or_default());
        for message in &self.book.accepted {
            self.heard.tally.expect(told.contains(message), || {
                format!("{}: the model was not told {message}", self.name)
            });
        }
    }
}
