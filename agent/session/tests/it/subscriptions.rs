//! Following a thread from a sequence number: each stored event once and in order, wherever a subscriber is cut.
//!
//! Turns run beside the subscribers, over a store that lets everybody else run between a commit and its answer. The same
//! check is shown to catch subscribers that come back in a wrong way.

use std::{
    collections::{BTreeMap, HashSet},
    num::NonZeroUsize,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use agent_session::{Error, Event, Next, Options, Published, TurnStatus};
use agent_threads::{
    Entry, Item, ItemId, OwnerId, PageQuery, Settings, ThreadId, ThreadStore as _, TurnEnd, TurnId, TurnStart,
};
use serde_json::value::RawValue;
use tokio::{task::yield_now, time::timeout};

use crate::{
    gateway::{Step, added, answer, completed, delta, done, head, message},
    store::CountingStore,
    support::{DEADLINE, Desk, next, steering, until, word, words},
};

/// How many ways of running it are tried.
const SEEDS: u64 = 150;
/// On the paused clock nothing is left to come after so long.
const QUIET: Duration = Duration::from_secs(60);
const TURNS: usize = 6;

/// Numbers that look random and are the same each time.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }

    async fn wait(&mut self, bound: u64) {
        for _ in 0..self.below(bound) {
            yield_now().await;
        }
    }
}

/// How a subscriber comes back after a cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Return {
    /// With its last number.
    Right,
    /// Without a number, from now on.
    Fresh,
    /// With the number before its last one.
    Early,
}

#[derive(Default)]
struct Seen {
    stored: Vec<(u64, String)>,
    complete: HashSet<String>,
    /// Something of an item after the item was complete.
    late: Option<String>,
    cuts: usize,
    lags: usize,
}

impl Seen {
    fn last(&self) -> u64 {
        self.stored.last().map_or(0, |(sequence, _)| *sequence)
    }

    fn take(&mut self, published: &Published) {
        let item = match &published.event {
            Event::ItemStarted { item, .. } => Some(item.id().to_string()),
            Event::AgentMessageDelta { item_id, .. } => Some(item_id.to_string()),
            Event::ItemCompleted { item, .. } => {
                self.complete.insert(item.id().to_string());
                None
            }
            _ => None,
        };
        self.late = self.late.take().or(item.filter(|item| self.complete.contains(item)));
        if let Some(sequence) = published.sequence {
            self.stored.push((sequence, word(&published.event)));
        }
    }
}

/// Follows the thread until everything is over and told, cut again and again.
async fn follow(desk: &Desk, id: ThreadId, back: Return, over: &AtomicBool, dice: &mut Dice) -> Seen {
    let mut seen = Seen::default();
    loop {
        let after = match back {
            Return::Fresh if seen.cuts > 0 => None,
            Return::Early if seen.cuts > 0 => Some(seen.last().saturating_sub(1)),
            Return::Right | Return::Fresh | Return::Early => Some(seen.last()),
        };
        let ended = over.load(Ordering::SeqCst);
        let mut events = desk.sessions.subscribe(&desk.tenant, id, after).await.unwrap();
        let mut left = if ended { u64::MAX } else { dice.below(12) };
        while left > 0 {
            match timeout(QUIET, events.next()).await {
                Ok(Next::Event(published)) => seen.take(&published),
                Ok(Next::Lagged) => {
                    assert!(back != Return::Right || events.told() >= seen.last());
                    seen.lags += 1;
                    break;
                }
                Ok(other) => panic!("{other:?}"),
                Err(_) if ended => return seen,
                Err(_) => break,
            }
            left -= 1;
            dice.wait(4).await;
        }
        drop(events);
        seen.cuts += 1;
        dice.wait(6).await;
    }
}

/// A turn of two messages and some deltas.
fn steps(turn: usize, dice: &mut Dice) -> Vec<Step> {
    let mut steps = vec![head()];
    for part in 0..2 {
        let id = format!("msg_{turn}_{part}");
        steps.push(added(&id));
        steps.extend((0..dice.below(5)).map(|n| delta(&id, &n.to_string())));
        steps.push(done(&message(&id, "said")));
    }
    steps.push(completed());
    steps
}

/// Runs turns in the thread, and does now and then what else changes its log.
async fn live(desk: &Desk, id: ThreadId, dice: &mut Dice, over: &AtomicBool) {
    let mut turns = Vec::new();
    for turn in 0..TURNS {
        desk.gateway.answers(steps(turn, dice));
        turns.push(desk.say(id, "go on").await.id);
        dice.wait(20).await;
        match dice.below(6) {
            0 => drop(desk.sessions.steer(&desk.tenant, id, steering(turns[turn], "more")).await),
            1 => drop(desk.sessions.interrupt(&desk.tenant, id, None).await),
            2 => {
                let item = RawValue::from_string("{\"type\":\"message\"}".to_owned()).unwrap();
                desk.sessions.inject(&desk.tenant, id, vec![item]).await.unwrap();
            }
            3 => {
                desk.sessions.revert(&desk.tenant, id, turns.pop().unwrap()).await.unwrap();
                turns.push(TurnId::generate());
                continue;
            }
            _ => {}
        }
        idle(desk, id).await;
    }
    over.store(true, Ordering::SeqCst);
}

/// Waits until no turn is running.
async fn idle(desk: &Desk, id: ThreadId) {
    while desk.sessions.read(&desk.tenant, id).await.unwrap().active_turn.is_some() {
        yield_now().await;
    }
}

/// What a subscriber is told of an entry.
fn told(entry: &Entry) -> Option<String> {
    Some(match entry {
        Entry::TurnStarted(_) => "turn-started".to_owned(),
        Entry::Item { item: Item::UserMessage { .. }, .. } => "completed-user".to_owned(),
        Entry::Item { item: Item::AgentMessage { .. }, .. } => "completed-agent".to_owned(),
        Entry::Item { item: Item::Reasoning { .. }, .. } => "completed-reasoning".to_owned(),
        Entry::Item { item: Item::ContextCompaction { .. }, .. } => "completed-compaction".to_owned(),
        Entry::Usage { .. } => "tokens".to_owned(),
        Entry::TurnEnded { end: TurnEnd::Completed, .. } => format!("turn-{:?}", TurnStatus::Completed),
        Entry::TurnEnded { end: TurnEnd::Interrupted, .. } => format!("turn-{:?}", TurnStatus::Interrupted),
        Entry::TurnEnded { end: TurnEnd::Failed { .. }, .. } => format!("turn-{:?}", TurnStatus::Failed),
        Entry::Reverted { .. } => "reverted".to_owned(),
        Entry::ModelItem { .. } | Entry::ContextItem { .. } | Entry::Compacted { .. } => return None,
    })
}

/// Whether a subscriber was told each stored event once and in order. What a revert has taken out may have been told before.
async fn check(desk: &Desk, id: ThreadId, seen: &Seen) -> Result<(), String> {
    if let Some(item) = &seen.late {
        return Err(format!("something of {item} was told after it was complete"));
    }
    if let Some(pair) = seen.stored.windows(2).find(|pair| pair[0].0 >= pair[1].0) {
        return Err(format!("{pair:?} were told in this order"));
    }
    let seen: BTreeMap<u64, &str> =
        seen.stored.iter().map(|(sequence, word)| (*sequence, word.as_str())).collect();
    for record in desk.store.records(&desk.tenant, id, 0, 0).await.unwrap() {
        let expected = told(&record.entry);
        let found = seen.get(&record.sequence).map(|word| word.split('-').next().unwrap_or_default());
        let kind = expected.as_deref().map(|word| word.split('-').next().unwrap_or_default());
        if found.map(|word| word.starts_with("Reverted")) == Some(true) && kind == Some("reverted") {
            continue;
        }
        if seen.get(&record.sequence).copied() != expected.as_deref() {
            return Err(format!("of {} was told {found:?} instead of {expected:?}", record.sequence));
        }
    }
    Ok(())
}

/// Runs one way; counts cuts and lags.
async fn run(seed: u64, back: Return) -> (Result<(), String>, usize, usize) {
    let mut dice = Dice(seed);
    let queue = if dice.below(3) == 0 { 2 } else { 4_096 };
    let mut store = CountingStore::default();
    store.yields = usize::try_from(dice.below(4)).unwrap();
    let options = Options { event_queue: NonZeroUsize::new(queue).unwrap(), ..Options::default() };
    let desk = Desk::over(Arc::new(store), options);
    let id = desk.thread().await;
    let over = AtomicBool::new(false);
    let mut dices = [1, 2, 3].map(|n| Dice(seed * 31 + n));
    let [one, two, turns] = &mut dices;
    let all = async {
        tokio::join!(
            follow(&desk, id, back, &over, one),
            follow(&desk, id, back, &over, two),
            live(&desk, id, turns, &over),
        )
    };
    let (one, two, ()) = timeout(DEADLINE, all).await.unwrap();
    let result = check(&desk, id, &one).await.and(check(&desk, id, &two).await);
    (result, one.cuts + two.cuts, one.lags + two.lags)
}

#[tokio::test(start_paused = true)]
async fn wherever_it_is_cut_each_stored_event_is_told_once() {
    let (mut cuts, mut lags) = (0, 0);
    for seed in 0..SEEDS {
        let (result, cut, lagged) = run(seed, Return::Right).await;
        assert_eq!(result, Ok(()), "seed {seed}");
        (cuts, lags) = (cuts + cut, lags + lagged);
    }
    assert!(cuts > 1_000 && lags > 10, "{cuts} cuts, {lags} lags");
}

#[tokio::test(start_paused = true)]
async fn who_comes_back_in_a_wrong_way_is_caught() {
    for (back, expected) in [(Return::Fresh, "instead of"), (Return::Early, "in this order")] {
        let mut caught = 0;
        for seed in 0..20 {
            if run(seed, back).await.0.is_err_and(|error| error.contains(expected)) {
                caught += 1;
            }
        }
        assert!(caught >= 15, "{back:?} was caught {caught} times");
    }
}

#[tokio::test(start_paused = true)]
async fn a_thread_without_history_is_followed_from_its_first_event() {
    let desk = Desk::new();
    let id = desk.thread().await;
    let mut events = desk.sessions.subscribe(&desk.tenant, id, Some(0)).await.unwrap();
    desk.gateway.answers(answer("msg_1", "Hi"));
    desk.say(id, "hello").await;
    let live = until(&mut events, "turn-Completed").await;
    let sequences: Vec<u64> = live.iter().filter_map(|published| published.sequence).collect();
    assert_eq!(sequences, [1, 2, 4, 6, 7]);
    let mut again = desk.sessions.subscribe(&desk.tenant, id, Some(0)).await.unwrap();
    let stored = words(&until(&mut again, "turn-Completed").await);
    assert_eq!(stored, ["turn-started", "completed-user", "completed-agent", "tokens", "turn-Completed"]);
    assert_eq!((again.told(), events.told()), (7, 7));
}

#[tokio::test(start_paused = true)]
async fn a_number_that_the_thread_has_not_reached_is_refused() {
    let desk = Desk::new();
    let id = desk.thread().await;
    let refused = desk.sessions.subscribe(&desk.tenant, id, Some(1)).await;
    assert!(matches!(refused, Err(Error::UnknownSequence(1))));
    let mut events = desk.sessions.subscribe(&desk.tenant, id, Some(0)).await.unwrap();
    desk.say(id, "hello").await;
    until(&mut events, "turn-Completed").await;
    let last = events.told();
    assert!(desk.sessions.subscribe(&desk.tenant, id, Some(last)).await.is_ok());
    for beyond in [last + 1, u64::MAX] {
        let refused = desk.sessions.subscribe(&desk.tenant, id, Some(beyond)).await;
        assert!(matches!(refused, Err(Error::UnknownSequence(number)) if number == beyond));
    }
    // A revert gives no number out twice, so numbers of what it took out stay known.
    let turns = desk.sessions.turns(&desk.tenant, id, PageQuery::default()).await.unwrap().elements;
    desk.sessions.revert(&desk.tenant, id, turns[0].id).await.unwrap();
    let mut again = desk.sessions.subscribe(&desk.tenant, id, Some(last - 1)).await.unwrap();
    let reverted = next(&mut again).await;
    assert_eq!(reverted.sequence, Some(last + 1));
    assert!(matches!(reverted.event, Event::Reverted { keep: 0, .. }));
}

#[tokio::test(start_paused = true)]
async fn what_another_process_wrote_is_told_before_what_comes_after_it() {
    let store = Arc::new(CountingStore::default());
    let (here, there) =
        (Desk::over(Arc::clone(&store), Options::default()), Desk::over(store, Options::default()));
    let id = here.thread().await;
    let mut events = here.sessions.subscribe(&here.tenant, id, Some(0)).await.unwrap();
    here.say(id, "one").await;
    until(&mut events, "turn-Completed").await;
    let mut theirs = there.sessions.subscribe(&there.tenant, id, None).await.unwrap();
    there.say(id, "two").await;
    until(&mut theirs, "turn-Completed").await;
    here.say(id, "three").await;
    let two = until(&mut events, "turn-Completed").await;
    let three = until(&mut events, "turn-Completed").await;
    let sequences: Vec<u64> = two.iter().chain(&three).filter_map(|published| published.sequence).collect();
    assert_eq!(sequences, [8, 9, 11, 13, 14, 15, 16, 18, 20, 21]);
    assert!(words(&two).iter().all(|word| !word.starts_with("delta")), "{:?}", words(&two));
}

#[tokio::test(start_paused = true)]
async fn a_turn_that_a_crash_left_open_is_told_as_interrupted_before_the_next_one() {
    let desk = Desk::new();
    let fresh = Desk::new();
    let facts = fresh.sessions.read(&fresh.tenant, fresh.thread().await).await.unwrap().thread;
    let (id, left) = (facts.id, TurnId::generate());
    let start = TurnStart { turn_id: left, settings: Settings::default() };
    let entries = vec![Entry::TurnStarted(Box::new(start))];
    desk.store.create(facts, &OwnerId::generate(), entries).await.unwrap();
    let mut events = desk.sessions.subscribe(&desk.tenant, id, Some(0)).await.unwrap();
    assert_eq!(word(&next(&mut events).await.event), "turn-started");
    // It has read all there is before anything else is written.
    assert!(timeout(QUIET, events.next()).await.is_err());
    desk.say(id, "again").await;
    let told = until(&mut events, "turn-Completed").await;
    let stored: Vec<&Arc<Published>> = told.iter().filter(|told| told.sequence.is_some()).collect();
    assert!(matches!(&stored[0].event,
        Event::TurnCompleted { turn } if turn.id == left && turn.status == TurnStatus::Interrupted));
    assert_eq!(stored[0].sequence, Some(2));
    assert_eq!(word(&stored[1].event), "turn-started");
}

#[tokio::test(start_paused = true)]
async fn a_long_history_is_told_whole_across_the_pages_that_it_is_read_in() {
    const ENTRIES: u64 = 700;
    let desk = Desk::new();
    let fresh = Desk::new();
    let facts = fresh.sessions.read(&fresh.tenant, fresh.thread().await).await.unwrap().thread;
    let (id, turn_id) = (facts.id, TurnId::generate());
    let start = TurnStart { turn_id, settings: Settings::default() };
    let mut entries = vec![Entry::TurnStarted(Box::new(start))];
    // Each of them is told.
    entries.extend((2..ENTRIES).map(|n| Entry::Item {
        turn_id,
        item: Item::ContextCompaction { id: ItemId::from_provider(&format!("item_{n}")) },
    }));
    entries.push(Entry::TurnEnded { turn_id, end: TurnEnd::Completed });
    desk.store.create(facts, &OwnerId::generate(), entries).await.unwrap();
    for after in [0, 1, 255, 256, 257, 511, 512, ENTRIES - 1] {
        let mut events = desk.sessions.subscribe(&desk.tenant, id, Some(after)).await.unwrap();
        for expected in after + 1..=ENTRIES {
            assert_eq!((next(&mut events).await.sequence, events.told()), (Some(expected), expected));
        }
        assert!(timeout(QUIET, events.next()).await.is_err(), "after {after}");
    }
    // What happens while it is read comes behind it. The model's own copy of a message is told to nobody.
    let mut events = desk.sessions.subscribe(&desk.tenant, id, Some(0)).await.unwrap();
    next(&mut events).await;
    desk.say(id, "meanwhile").await;
    let told = until(&mut events, "completed-user").await;
    let sequences: Vec<u64> = told.iter().filter_map(|told| told.sequence).collect();
    assert_eq!(sequences, [(2..=ENTRIES).collect::<Vec<_>>(), vec![ENTRIES + 1, ENTRIES + 3]].concat());
}

#[tokio::test(start_paused = true)]
async fn a_store_that_cannot_be_read_is_told_as_such() {
    let desk = Desk::new();
    let id = desk.thread().await;
    desk.say(id, "hello").await;
    let mut events = desk.sessions.subscribe(&desk.tenant, id, Some(0)).await.unwrap();
    desk.store.blind.store(true, Ordering::SeqCst);
    assert!(matches!(events.next().await, Next::Failed(_)));
    // It goes on where it was.
    desk.store.blind.store(false, Ordering::SeqCst);
    assert_eq!(next(&mut events).await.sequence, Some(1));
}
