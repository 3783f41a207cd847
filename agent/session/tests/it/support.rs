//! One process's sessions over a store and a scripted gateway, and how a test watches them.

use std::{sync::Arc, time::Duration};

use agent_session::{
    ClientMetadata, Event, NewThread, Next, Options, Published, Sessions, StartTurn, SteerTurn, Subscription,
};
use agent_threads::{TenantId, ThreadId, TurnId, UserInput};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{gateway::FakeGateway, store::CountingStore};

/// On the paused clock this is reached only by a test that hangs.
pub(crate) const DEADLINE: Duration = Duration::from_secs(3600);

pub(crate) struct Desk {
    pub(crate) sessions: Sessions,
    pub(crate) gateway: FakeGateway,
    pub(crate) store: Arc<CountingStore>,
    pub(crate) tenant: TenantId,
}

impl Desk {
    pub(crate) fn new() -> Self {
        Self::over(Arc::new(CountingStore::default()), Options::default())
    }

    pub(crate) fn with(options: Options) -> Self {
        Self::over(Arc::new(CountingStore::default()), options)
    }

    pub(crate) fn over(store: Arc<CountingStore>, options: Options) -> Self {
        let gateway = FakeGateway::default();
        let sessions = Sessions::new(
            Arc::<CountingStore>::clone(&store),
            Arc::new(gateway.clone()),
            options,
            &TaskTracker::new(),
            CancellationToken::new(),
        );
        Self { sessions, gateway, store, tenant: TenantId::new("acme") }
    }

    pub(crate) async fn thread(&self) -> ThreadId {
        self.sessions.start(&self.tenant, NewThread::default()).await.unwrap().thread.id
    }

    pub(crate) async fn watched(&self) -> (ThreadId, Subscription) {
        let id = self.thread().await;
        let subscription = self.sessions.subscribe(&self.tenant, id, None).await.unwrap();
        (id, subscription)
    }

    pub(crate) async fn say(&self, id: ThreadId, text: &str) -> agent_session::TurnView {
        self.sessions.start_turn(&self.tenant, id, turn(text, None)).await.unwrap()
    }
}

pub(crate) fn text(text: &str) -> Vec<UserInput> {
    vec![UserInput::Text { text: text.to_owned(), text_elements: Vec::new() }]
}

pub(crate) fn steering(expected: TurnId, said: &str) -> SteerTurn {
    SteerTurn {
        expected,
        input: text(said),
        client_message_id: None,
        client_metadata: ClientMetadata::default(),
    }
}

pub(crate) fn turn(said: &str, client_message_id: Option<&str>) -> StartTurn {
    StartTurn {
        input: text(said),
        client_message_id: client_message_id.map(str::to_owned),
        ..StartTurn::default()
    }
}

/// The next event.
pub(crate) async fn next(subscription: &mut Subscription) -> Arc<Published> {
    match tokio::time::timeout(DEADLINE, subscription.next()).await.unwrap() {
        Next::Event(published) => published,
        other => panic!("no event but {other:?}"),
    }
}

/// All events up to one that looks like `last`.
pub(crate) async fn until(subscription: &mut Subscription, last: &str) -> Vec<Arc<Published>> {
    let mut all = Vec::new();
    loop {
        let published = next(subscription).await;
        let found = word(&published.event).starts_with(last);
        all.push(published);
        if found {
            return all;
        }
    }
}

/// All events up to the end of a turn.
pub(crate) async fn over(subscription: &mut Subscription) -> Vec<Arc<Published>> {
    let mut all = Vec::new();
    loop {
        let published = next(subscription).await;
        all.push(Arc::clone(&published));
        if matches!(published.event, Event::TurnCompleted { .. }) {
            return all;
        }
    }
}

pub(crate) fn words(events: &[Arc<Published>]) -> Vec<String> {
    events.iter().map(|published| word(&published.event)).collect()
}

/// An event in a word.
pub(crate) fn word(event: &Event) -> String {
    use agent_threads::Item;
    let kind = |item: &Item| match item {
        Item::UserMessage { .. } => "user",
        Item::AgentMessage { .. } => "agent",
        Item::Reasoning { .. } => "reasoning",
        Item::ContextCompaction { .. } => "compaction",
    };
    match event {
        Event::StatusChanged(status) => format!("{status:?}"),
        Event::TurnStarted { .. } => "turn-started".to_owned(),
        Event::ItemStarted { item, .. } => format!("started-{}", kind(item)),
        Event::ItemCompleted { item, .. } => format!("completed-{}", kind(item)),
        Event::AgentMessageDelta { delta, .. } => format!("delta-{delta}"),
        Event::TokenUsage { .. } => "tokens".to_owned(),
        Event::Error { will_retry: true, error, .. } => error.message.clone(),
        Event::Error { error, .. } => format!("error-{:?}", error.kind),
        Event::TurnCompleted { turn } => format!("turn-{:?}", turn.status),
        Event::SettingsChanged { .. } => "settings".to_owned(),
        Event::NameChanged { .. } => "name".to_owned(),
        Event::ReadStateChanged(state) if state.first_unread.is_some() => "unread".to_owned(),
        Event::ReadStateChanged(_) => "read".to_owned(),
        Event::Closed => "closed".to_owned(),
        other => format!("{other:?}"),
    }
}
