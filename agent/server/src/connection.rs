//! One client from its first frame to its last: reads requests, has them answered, and closes up behind it.
//!
//! Requests are answered in the order in which they came, except the slow ones, which may wait for the gateway and are
//! answered aside. One task reads and writes, side by side: neither waits for the other, and both halves of a WebSocket
//! wake whoever used either last, so that a task for each would be woken for nothing with every frame. Each subscription
//! has a task of its own. A client that does not read stops its own tasks and nobody else's.

use std::collections::HashSet;
use std::io;
use std::pin::pin;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use serde::Serialize;
use serde_json::value::RawValue;
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::call::Call;
use crate::door::Standing;
use crate::outbound::{self, Gone, Outbound, Queued};
use crate::principal::Principal;
use crate::questions::{Question, Questions, Unanswered};
use crate::router::{self, Method};
use crate::rpc::{self, Incoming, Refusal, Request};
use crate::server::Shared;
use crate::subscriptions::Subscriptions;
use crate::transport::{BATCH_MAX, Goodbye, Inbound, Sink, Source, WRITE_STALL_MAX};

/// How many slow requests of one connection are under way at once.
const ASIDE_MAX: usize = 16;
/// How often a silent client is asked whether it is there.
const PING_EVERY: Duration = Duration::from_secs(30);
/// How long a client may say nothing, not even answer a ping.
const SILENCE_MAX: Duration = Duration::from_secs(100);
/// How long a goodbye may take, and what is to be said before it.
const GOODBYE_MAX: Duration = Duration::from_secs(1);

/// A client that has introduced itself.
#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) name: String,
    pub(crate) version: String,
    /// Whether it asked for what is still experimental.
    pub(crate) experimental: bool,
    /// Whether it offers to attest for model calls.
    pub(crate) attests: bool,
}

/// What is said to a client, and what it is asked.
#[derive(Debug)]
pub(crate) struct Voice {
    outbound: Outbound,
    questions: Questions,
    /// The notifications that it does not want to hear.
    silenced: OnceLock<HashSet<String>>,
}

impl Voice {
    /// A notification to be sent, unless the client does not want to hear it.
    pub(crate) fn notification<P: Serialize>(
        &self,
        method: &'static str,
        params: &P,
        at_ms: i64,
    ) -> Option<String> {
        let silenced = self.silenced.get().is_some_and(|silenced| silenced.contains(method));
        (!silenced).then(|| rpc::notification(method, params, at_ms))
    }

    pub(crate) async fn send(&self, text: String) -> Result<(), Gone> {
        self.outbound.send(text).await
    }

    /// Asks the client and waits for its answer for so long. Dropping the future withdraws the question.
    pub(crate) fn ask<P: Serialize>(
        &self,
        question: Question<'_, P>,
        within: Duration,
    ) -> impl Future<Output = Result<Box<RawValue>, Unanswered>> + Send + use<P> {
        self.questions.ask(self.outbound.clone(), question, within)
    }
}

/// A connection.
pub(crate) struct Connection {
    pub(crate) shared: Arc<Shared>,
    pub(crate) principal: Principal,
    pub(crate) voice: Arc<Voice>,
    pub(crate) subscriptions: Subscriptions,
    client: OnceLock<Client>,
    /// Why we end it, if we do.
    goodbye: Arc<OnceLock<Goodbye>>,
    aside: Arc<Semaphore>,
    tasks: Mutex<JoinSet<()>>,
}

/// Serves a client until it leaves, breaks a rule, does not keep up, or the server stops.
pub(crate) async fn run<R, W>(
    shared: Arc<Shared>,
    (principal, standing): (Principal, Standing),
    source: R,
    sink: W,
) where
    R: Source,
    W: Sink,
{
    let (outbound, queue) = outbound::queue();
    let goodbye = Arc::new(OnceLock::new());
    let mut writer = pin!(write(sink, queue, Arc::clone(&goodbye)));
    let mut written = false;
    let connection = Arc::new(Connection {
        voice: Arc::new(Voice { outbound, questions: Questions::default(), silenced: OnceLock::new() }),
        subscriptions: Subscriptions::default(),
        client: OnceLock::new(),
        goodbye,
        aside: Arc::new(Semaphore::new(ASIDE_MAX)),
        tasks: Mutex::new(JoinSet::new()),
        principal,
        shared: Arc::clone(&shared),
    });
    let ended = tokio::select! {
        ended = connection.read(source) => ended,
        () = shared.stop.cancelled() => Some(Goodbye::Stopping),
        // The writer ends first only when the client takes nothing any more.
        () = &mut writer => {
            written = true;
            None
        }
        reason = connection.subscriptions.failed() => Some(reason),
        () = standing.lost() => Some(Goodbye::Barred),
    };
    // Nobody reads answers any more.
    connection.voice.questions.close();
    if let Some(reason) = ended {
        let _ = connection.goodbye.set(reason);
    }
    if ended == Some(Goodbye::Stopping) {
        tokio::select! {
            () = connection.finish() => {}
            () = &mut writer => written = true,
        }
    }
    tracing::debug!(goodbye = ?connection.goodbye.get(), "client has gone");
    connection.end();
    drop(connection);
    if !written {
        // It says what is queued and goodbye; it is bounded by its own time-outs.
        writer.await;
    }
}

impl Connection {
    /// The client, once it has introduced itself.
    pub(crate) fn client(&self) -> Option<&Client> {
        self.client.get()
    }

    /// Takes note of who the client is and begins to tell it about its tenant's threads.
    pub(crate) fn introduce(
        self: &Arc<Self>,
        client: Client,
        silenced: HashSet<String>,
    ) -> Result<(), Refusal> {
        self.client.set(client).map_err(|_| Refusal::invalid("Already initialized"))?;
        let _ = self.voice.silenced.set(silenced);
        self.subscriptions.follow_tenant(self);
        Ok(())
    }

    /// Runs a task that ends with the connection.
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) -> tokio::task::AbortHandle {
        let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        while tasks.try_join_next().is_some() {}
        tasks.spawn(task)
    }

    /// Waits a moment for the tasks that are about to end by themselves, so that the client hears how its turns ended.
    async fn finish(&self) {
        let mut tasks = std::mem::take(&mut *self.tasks.lock().unwrap_or_else(PoisonError::into_inner));
        let ended = async { while tasks.join_next().await.is_some() {} };
        let _ = tokio::time::timeout(GOODBYE_MAX, ended).await;
    }

    fn end(&self) {
        self.subscriptions.clear();
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner).abort_all();
    }

    /// Reads frames and has them answered; returns why we end the connection, or nothing when the client did.
    async fn read<R: Source>(self: &Arc<Self>, mut source: R) -> Option<Goodbye> {
        let mut heard = Instant::now();
        loop {
            let frame = tokio::select! {
                frame = source.next() => frame,
                () = tokio::time::sleep_until(heard + SILENCE_MAX), if R::ANSWERS_PINGS => {
                    return Some(Goodbye::TooSlow);
                }
            };
            heard = Instant::now();
            match frame {
                Ok(Some(Inbound::Text(text))) => self.receive(text.as_ref()).await.ok()?,
                Ok(Some(Inbound::Noise)) => {}
                Ok(None) => return None,
                Err(error) if error.kind() == io::ErrorKind::InvalidData => return Some(Goodbye::Misbehaved),
                Err(_) => return None,
            }
        }
    }

    async fn receive(self: &Arc<Self>, frame: &str) -> Result<(), Gone> {
        let request = match rpc::parse(frame) {
            Incoming::Request(request) => request,
            Incoming::Answer { id, result } => {
                self.voice.questions.answer(id, result);
                return Ok(());
            }
            // `initialized` says nothing that the answer to `initialize` has not settled, and no other is known.
            Incoming::Notification | Incoming::Noise => return Ok(()),
        };
        let method = match self.admit(&request) {
            Ok(method) => method,
            Err(refusal) => return self.voice.send(rpc::failure(request.id, &refusal)).await,
        };
        if !method.is_slow() {
            return Call::new(self, request.id, request.params, request.trace).answer(method).await;
        }
        let (id, params) = (request.id.to_owned(), request.params.map(ToOwned::to_owned));
        let trace = request.trace;
        let permit = Arc::clone(&self.aside).acquire_owned().await.map_err(|_| Gone)?;
        let connection = Arc::clone(self);
        self.spawn(async move {
            // Whoever is gone is noticed by the reader.
            let _ = Call::new(&connection, &id, params.as_deref(), trace).answer(method).await;
            drop(permit);
        });
        Ok(())
    }

    /// Whether this client may ask this now.
    fn admit(&self, request: &Request<'_>) -> Result<Method, Refusal> {
        let method = Method::of(&request.method).ok_or_else(|| router::unknown(&request.method))?;
        let client = self.client();
        match (method, client) {
            (Method::Initialize, _) => Ok(method),
            (_, None) => Err(Refusal::invalid("Not initialized")),
            (_, Some(client)) if method.is_experimental() && !client.experimental => {
                Err(Refusal::invalid(format!("{} requires experimentalApi capability", request.method)))
            }
            (_, Some(_)) => Ok(method),
        }
    }
}

/// Writes what is queued, as much at once as there is, until nobody speaks any more or the client takes nothing.
async fn write<W: Sink>(mut sink: W, mut queue: mpsc::Receiver<Queued>, goodbye: Arc<OnceLock<Goodbye>>) {
    let (mut batch, mut texts) = (Vec::with_capacity(BATCH_MAX), Vec::with_capacity(BATCH_MAX));
    let mut ping = tokio::time::interval(PING_EVERY);
    ping.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    ping.reset();
    loop {
        let written = tokio::select! {
            count = queue.recv_many(&mut batch, BATCH_MAX) => {
                if count == 0 {
                    break;
                }
                texts.extend(batch.iter_mut().map(|queued: &mut Queued| std::mem::take(&mut queued.text)));
                let written = tokio::time::timeout(WRITE_STALL_MAX, sink.send(&mut texts)).await;
                batch.clear();
                written
            }
            _ = ping.tick() => tokio::time::timeout(WRITE_STALL_MAX, sink.ping()).await,
        };
        match written {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                tracing::debug!(%error, "cannot write to the client");
                return;
            }
            Err(_) => {
                tracing::info!("the client takes nothing; disconnecting it");
                return;
            }
        }
    }
    let reason = goodbye.get().copied().unwrap_or(Goodbye::Left);
    let _ = tokio::time::timeout(GOODBYE_MAX, sink.close(reason)).await;
}
