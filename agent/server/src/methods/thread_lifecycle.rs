//! Naming, archiving and deleting threads.

use crate::call::{Answer, Call, refusal, thread_id};
use crate::rpc::Refusal;
use crate::wire::Empty;
use crate::wire::thread::{NameParams, OfThread, OfThreadResponse, Thread};

/// How long a name may be.
const NAME_BYTES_MAX: usize = 1_024;

/// `thread/name/set`.
pub(crate) async fn set_name(call: &mut Call<'_>) -> Answer {
    let NameParams { thread_id: id, name } = call.params()?;
    let id = thread_id(&id)?;
    let name = name.trim();
    if name.is_empty() {
        return Err(Refusal::invalid("thread name must not be empty"));
    }
    if name.len() > NAME_BYTES_MAX {
        return Err(Refusal::invalid(format!("thread name must not be over {NAME_BYTES_MAX} bytes")));
    }
    call.before_tenant_events().await;
    call.connection.shared.sessions.set_name(call.tenant(), id, name.to_owned()).await.map_err(refusal)?;
    call.done(&Empty {})
}

/// `thread/archive`.
pub(crate) async fn archive(call: &mut Call<'_>) -> Answer {
    let OfThread { thread_id: id } = call.params()?;
    let id = thread_id(&id)?;
    call.before_tenant_events().await;
    call.connection.shared.sessions.archive(call.tenant(), id).await.map_err(refusal)?;
    call.done(&Empty {})
}

/// `thread/unarchive`.
pub(crate) async fn unarchive(call: &mut Call<'_>) -> Answer {
    let OfThread { thread_id: id } = call.params()?;
    let id = thread_id(&id)?;
    call.before_tenant_events().await;
    let view = call.connection.shared.sessions.unarchive(call.tenant(), id).await.map_err(refusal)?;
    call.done(&OfThreadResponse { thread: Thread::new(&view) })
}

/// `thread/delete`.
pub(crate) async fn delete(call: &mut Call<'_>) -> Answer {
    let OfThread { thread_id: id } = call.params()?;
    let id = thread_id(&id)?;
    call.before_tenant_events().await;
    call.connection.shared.sessions.delete(call.tenant(), id).await.map_err(refusal)?;
    call.done(&Empty {})
}
