//! Following a thread: its events as messages, and an end that says where to go on.

use agent_session::{Next, Subscription};
use futures_util::future::{BoxFuture, FutureExt as _};
use futures_util::stream::{self, BoxStream, StreamExt as _};
use tidegate_proto::agent::v1::{SubscribeRequest, SubscribeResponse};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Status};

use super::failure::{self, status};
use super::{Service, convert, thread_id, visitor};
use crate::door::Visitor;
use crate::principal::Principal;
use crate::seats::Seat;

/// Somebody who follows a thread.
struct Follower {
    events: Subscription,
    stop: CancellationToken,
    /// Ends when the follower's credential holds no more.
    barred: BoxFuture<'static, ()>,
    /// Its place, for as long as the stream lasts.
    _seat: Seat,
}

type Told = Result<SubscribeResponse, Status>;

impl Service {
    pub(super) async fn follow(
        &self,
        request: Request<SubscribeRequest>,
    ) -> Result<BoxStream<'static, Told>, Status> {
        let Visitor { principal: Principal { tenant, .. }, standing } = visitor(&request)?.clone();
        let seat = self.shared.seat(&tenant).map_err(failure::full)?;
        let SubscribeRequest { thread_id: id, after_sequence } = request.into_inner();
        let id = thread_id(&id)?;
        let events = self.shared.sessions.subscribe(&tenant, id, Some(after_sequence)).await;
        let follower = Follower {
            events: events.map_err(status)?,
            stop: self.shared.stop.clone(),
            barred: standing.lost().boxed(),
            _seat: seat,
        };
        let told = stream::unfold(Some(follower), async |follower| follower?.next().await);
        Ok(told.boxed())
    }
}

impl Follower {
    /// The next message. When the server stops, everything is told that has happened by then.
    async fn next(mut self) -> Option<(Told, Option<Self>)> {
        loop {
            let next = tokio::select! {
                biased;
                () = &mut self.barred => return Some((Err(failure::barred(self.events.told())), None)),
                next = self.events.next() => next,
                () = self.stop.cancelled() => {
                    return Some((Err(failure::stopping(self.events.told())), None));
                }
            };
            let end = match next {
                Next::Event(published) => match convert::event(&published) {
                    Some(message) => return Some((Ok(message), Some(self))),
                    None => continue,
                },
                Next::Lagged => failure::too_slow(self.events.told()),
                Next::Failed(error) => failure::unreadable(&error, self.events.told()),
                Next::Closed => return None,
            };
            return Some((Err(end), None));
        }
    }
}
