//! What happens to one thread at the same moment: ends, messages and interrupts in every order that a scheduler can give.
//!
//! Each round lets one side wait for some turns of the scheduler more than the other. A test counts both outcomes, so that
//! a range of rounds that never meets the race fails.

use std::sync::Arc;

use agent_session::{Error, Event, StartTurn, Subscription, TurnStatus};
use agent_threads::{Item, PageQuery, ThreadId, TurnId, UserInput};
use tokio::{sync::Notify, task::yield_now, time::timeout};

use crate::{
    gateway::{Step, answer},
    support::{DEADLINE, Desk, steering, turn, until},
};

/// How many turns of the scheduler one side waits at most.
const WAIT_MAX: usize = 24;

async fn after(turns: usize) {
    for _ in 0..turns {
        yield_now().await;
    }
}

/// A turn that says `Hi` once the gate is opened.
async fn held(desk: &Desk, id: ThreadId) -> (TurnId, Arc<Notify>) {
    let gate = Arc::new(Notify::new());
    let mut steps = answer("msg_1", "Hi");
    steps.insert(1, Step::Wait(Arc::clone(&gate)));
    desk.gateway.answers(steps);
    (desk.say(id, "hello").await.id, gate)
}

/// How the next turn to end has ended, as its subscribers are told and as it is stored.
async fn end(desk: &Desk, id: ThreadId, events: &mut Subscription) -> (TurnId, TurnStatus) {
    loop {
        let told = until(events, "turn-").await;
        let Some(Event::TurnCompleted { turn }) = told.last().map(|published| &published.event) else {
            continue;
        };
        let stored = desk.sessions.turns(&desk.tenant, id, PageQuery::default()).await.unwrap().elements;
        let stored: Vec<_> = stored.into_iter().filter(|stored| stored.id == turn.id).collect();
        assert_eq!(stored.len(), 1);
        assert_eq!(stored[0].status, turn.status);
        return (turn.id, turn.status);
    }
}

/// How often the user said this, in what is stored.
async fn said(desk: &Desk, id: ThreadId, wanted: &str) -> usize {
    let query = PageQuery { limit: 1_000, ..PageQuery::default() };
    let items = desk.sessions.items(&desk.tenant, id, None, query).await.unwrap().elements;
    let is = |item: &Item| match item {
        Item::UserMessage { content, .. } => {
            matches!(&content[..], [UserInput::Text { text, .. }] if text == wanted)
        }
        _ => false,
    };
    items.iter().filter(|record| is(&record.item)).count()
}

#[tokio::test(start_paused = true)]
async fn an_interrupt_is_always_answered_and_a_turn_ends_once() {
    let (mut interrupted, mut completed) = (0, 0);
    for opened in 0..WAIT_MAX {
        for asked in 0..WAIT_MAX {
            let desk = Desk::new();
            let (id, mut events) = desk.watched().await;
            let (turn_id, gate) = held(&desk, id).await;
            let open = async {
                after(opened).await;
                gate.notify_one();
            };
            let interrupt = async {
                after(asked).await;
                desk.sessions.interrupt(&desk.tenant, id, Some(turn_id)).await
            };
            let ((), answered) = timeout(DEADLINE, async { tokio::join!(open, interrupt) }).await.unwrap();
            // Whoever was told that the turn has ended finds none.
            let view = desk.sessions.read(&desk.tenant, id).await.unwrap();
            assert_eq!(view.active_turn, None, "{opened} {asked}");
            match (end(&desk, id, &mut events).await, answered) {
                ((ended, TurnStatus::Interrupted), Ok(())) if ended == turn_id => interrupted += 1,
                ((ended, TurnStatus::Completed), Ok(()) | Err(Error::NoActiveTurn)) if ended == turn_id => {
                    completed += 1;
                }
                other => panic!("{opened} {asked}: {other:?}"),
            }
            desk.say(id, "again").await;
            assert_eq!(end(&desk, id, &mut events).await.1, TurnStatus::Completed);
        }
    }
    assert!(interrupted > 0 && completed > 0, "{interrupted} {completed}");
}

#[tokio::test(start_paused = true)]
async fn a_steering_message_is_in_the_turn_or_refused() {
    let (mut steered, mut refused) = (0, 0);
    for opened in 0..WAIT_MAX {
        for asked in 0..WAIT_MAX {
            let desk = Desk::new();
            let (id, mut events) = desk.watched().await;
            let (turn_id, gate) = held(&desk, id).await;
            let open = async {
                after(opened).await;
                gate.notify_one();
            };
            let steer = async {
                after(asked).await;
                desk.sessions.steer(&desk.tenant, id, steering(turn_id, "steer")).await
            };
            let ((), answered) = timeout(DEADLINE, async { tokio::join!(open, steer) }).await.unwrap();
            assert_eq!(end(&desk, id, &mut events).await, (turn_id, TurnStatus::Completed));
            let times = said(&desk, id, "steer").await;
            match (times, answered) {
                (1, Ok(joined)) if joined == turn_id => {
                    steered += 1;
                    assert!(desk.gateway.bodies().last().unwrap().contains("\"steer\""));
                }
                (0, Err(Error::NoActiveTurn)) => refused += 1,
                other => panic!("{opened} {asked}: {other:?}"),
            }
        }
    }
    assert!(steered > 0 && refused > 0, "{steered} {refused}");
}

#[tokio::test(start_paused = true)]
async fn two_clients_that_start_a_turn_at_once_are_both_heard() {
    let (mut joined, mut followed) = (0, 0);
    for first in 0..WAIT_MAX {
        for second in 0..WAIT_MAX {
            let desk = Desk::new();
            let (id, mut events) = desk.watched().await;
            let start = async |wait: usize, said: &str| {
                after(wait).await;
                let begin = StartTurn { client_message_id: Some(said.to_owned()), ..turn(said, None) };
                desk.sessions.start_turn(&desk.tenant, id, begin).await.unwrap().id
            };
            let both = async { tokio::join!(start(first, "one"), start(second, "two")) };
            let (one, two) = timeout(DEADLINE, both).await.unwrap();
            assert_eq!(end(&desk, id, &mut events).await.1, TurnStatus::Completed);
            match one == two {
                true => joined += 1,
                false => {
                    followed += 1;
                    assert_eq!(end(&desk, id, &mut events).await.1, TurnStatus::Completed);
                }
            }
            assert_eq!((said(&desk, id, "one").await, said(&desk, id, "two").await), (1, 1));
            let body = desk.gateway.bodies().pop().unwrap();
            assert!(body.contains("\"one\"") && body.contains("\"two\""), "{first} {second}");
        }
    }
    assert!(joined > 0 && followed > 0, "{joined} {followed}");
}

#[tokio::test(start_paused = true)]
async fn an_interrupt_and_a_message_at_once_leave_nothing_open() {
    for asked in 0..WAIT_MAX {
        for spoken in 0..WAIT_MAX {
            let desk = Desk::new();
            let (id, mut events) = desk.watched().await;
            let (turn_id, _gate) = held(&desk, id).await;
            let interrupt = async {
                after(asked).await;
                desk.sessions.interrupt(&desk.tenant, id, None).await
            };
            let speak = async {
                after(spoken).await;
                desk.sessions.start_turn(&desk.tenant, id, turn("more", None)).await.unwrap().id
            };
            let (stopped, spoke) = timeout(DEADLINE, async { tokio::join!(interrupt, speak) }).await.unwrap();
            assert!(matches!(stopped, Ok(()) | Err(Error::NoActiveTurn)), "{stopped:?}");
            let mut ends = vec![end(&desk, id, &mut events).await];
            if spoke != turn_id {
                ends.push(end(&desk, id, &mut events).await);
            }
            assert_eq!(ends[0].0, turn_id, "{asked} {spoken}");
            // A message that joined the turn can have brought it to its own end before the interrupt.
            assert!(spoke == turn_id || ends[0].1 == TurnStatus::Interrupted, "{asked} {spoken}");
            assert_eq!(said(&desk, id, "more").await, 1, "{asked} {spoken}");
            assert_eq!(desk.sessions.read(&desk.tenant, id).await.unwrap().active_turn, None);
            let turns = desk.sessions.turns(&desk.tenant, id, PageQuery::default()).await.unwrap().elements;
            assert_eq!(turns.len(), ends.len(), "{asked} {spoken}");
        }
    }
}
