//! Starting, steering and stopping turns.

use agent_session::{Error, Overrides, StartTurn, SteerTurn};
use agent_threads::{ThreadId, TurnId};

use super::overrides;
use super::thread::before_a_turn;
use crate::call::{Answer, Call, refusal, thread_id};
use crate::rpc::Refusal;
use crate::wire::Empty;
use crate::wire::item::message;
use crate::wire::thread::OfThread;
use crate::wire::turn::{
    InterruptParams, ItemsView, Response, StartParams, SteerParams, SteerResponse, Turn,
};

/// `turn/start`. While a turn is running the message joins it.
pub(crate) async fn start(call: &mut Call<'_>) -> Answer {
    let params: StartParams = call.params()?;
    let id = thread_id(&params.thread_id)?;
    let shared = &call.connection.shared;
    let turn = StartTurn {
        input: message(params.input)?,
        client_message_id: params.client_user_message_id,
        overrides: Overrides {
            client_metadata: params.metadata.into(),
            ..overrides::of_turn(params.settings, call)?
        },
        service_tier_for_turn: params.service_tier_for_turn,
        output_schema: params.output_schema,
        root_turn_id: params.root_turn_id.as_deref().map(root).transpose()?,
        trace: call.trace().clone(),
    };
    before_a_turn(call, id).await?;
    let turn = shared.sessions.start_turn(call.tenant(), id, turn).await.map_err(refusal)?;
    call.done(&Response { turn: Turn::new(&turn, ItemsView::NotLoaded) })
}

/// `thread/compact/start`. Answered once the turn that condenses is there; a turn that was running is stopped for it.
pub(crate) async fn compact(call: &mut Call<'_>) -> Answer {
    let OfThread { thread_id: id } = call.params()?;
    let id = thread_id(&id)?;
    before_a_turn(call, id).await?;
    call.connection.shared.sessions.compact(call.tenant(), id).await.map_err(refusal)?;
    call.done(&Empty {})
}

/// `turn/steer`.
pub(crate) async fn steer(call: &mut Call<'_>) -> Answer {
    let params: SteerParams = call.params()?;
    let id = thread_id(&params.thread_id)?;
    let input = message(params.input)?;
    call.before_events_of(id).await;
    let expected = the_turn(call, id, &params.expected_turn_id, "steer").await?;
    let sessions = &call.connection.shared.sessions;
    let steer = SteerTurn {
        expected,
        input,
        client_message_id: params.client_user_message_id,
        client_metadata: params.metadata.into(),
    };
    let steered = sessions.steer(call.tenant(), id, steer).await;
    let turn_id = steered.map_err(|error| of_active(error, "steer"))?;
    call.done(&SteerResponse { turn_id })
}

/// `turn/interrupt`.
pub(crate) async fn interrupt(call: &mut Call<'_>) -> Answer {
    let InterruptParams { thread_id: id, turn_id } = call.params()?;
    let id = thread_id(&id)?;
    call.before_events_of(id).await;
    let turn = the_turn(call, id, &turn_id, "interrupt").await?;
    let stopped = call.connection.shared.sessions.interrupt(call.tenant(), id, Some(turn)).await;
    stopped.map_err(|error| of_active(error, "interrupt"))?;
    call.done(&Empty {})
}

/// The turn that started the tree of work, as a client names it.
fn root(text: &str) -> Result<TurnId, Refusal> {
    text.parse().map_err(|_| Refusal::invalid(format!("invalid root turn id: {text:.64}")))
}

/// The turn that the client names. A text that is no turn's id cannot be the running one.
async fn the_turn(call: &Call<'_>, id: ThreadId, turn: &str, verb: &str) -> Result<TurnId, Refusal> {
    if let Ok(turn) = turn.parse() {
        return Ok(turn);
    }
    let view = call.connection.shared.sessions.read(call.tenant(), id).await.map_err(refusal)?;
    Err(match view.active_turn {
        Some(found) => Refusal::invalid(format!("expected active turn id `{turn}` but found `{found}`")),
        None => of_active(Error::NoActiveTurn, verb),
    })
}

fn of_active(error: Error, verb: &str) -> Refusal {
    match error {
        Error::NoActiveTurn => Refusal::invalid(format!("no active turn to {verb}")),
        error => refusal(error),
    }
}
