//! Threads: starting, taking up, forking and finding them.

use agent_session::{ForkPoint, ForkThread, NewThread, Resumed};
use agent_threads::{Direction, ListQuery, PageQuery, SortKey, TurnId};
use tidegate_proto::agent::v1::{
    CreateThreadRequest, CreateThreadResponse, ForkThreadRequest, ForkThreadResponse, GetThreadRequest,
    GetThreadResponse, ListThreadsRequest, ListThreadsResponse, ReadTraceRequest, ReadTraceResponse,
    ResumeThreadRequest, ResumeThreadResponse, ThreadOrder, fork_thread_request,
};
use tonic::{Request, Status};

use super::failure::{invalid, status};
use super::settings::{check_name, overrides, some};
use super::{Service, convert, tenant, thread_id, traces, user_agent, visitor};
use crate::methods::overrides::with_defaults;

/// How many threads a page has when the caller does not say, and at most.
const PAGE_DEFAULT: u32 = 25;
const PAGE_MAX: u32 = 100;
/// How much of a trace is on a page at most.
const TRACE_PAGE_MAX: u32 = 1_000;
/// Where a thread that was started here says that it comes from.
const SOURCE: &str = "appServer";

impl Service {
    pub(super) async fn create(
        &self,
        request: Request<CreateThreadRequest>,
    ) -> Result<CreateThreadResponse, Status> {
        let (originator, principal) = (user_agent(&request), visitor(&request)?.principal.clone());
        let CreateThreadRequest { model, cwd, ephemeral, settings, provider, thread_source } =
            request.into_inner();
        check_name("provider", &provider)?;
        check_name("thread_source", &thread_source)?;
        let mut settings = settings.unwrap_or_default();
        settings.model = settings.model.or_else(|| some(model));
        settings.cwd = settings.cwd.or_else(|| some(cwd));
        let defaults = self.shared.effective(&principal);
        let mut asked = overrides(Some(settings), &self.shared)?;
        // A model that is named empty is none.
        asked.model = asked.model.and_then(some);
        let new = NewThread {
            originator,
            source: SOURCE.to_owned(),
            thread_source: some(thread_source),
            provider: some(provider).or_else(|| defaults.text("model_provider")),
            ephemeral,
            overrides: with_defaults(asked, &defaults),
            ..NewThread::default()
        };
        let view = self.shared.sessions.start(&principal.tenant, new).await.map_err(status)?;
        Ok(CreateThreadResponse { thread: Some(convert::thread(&view)) })
    }

    pub(super) async fn resume(
        &self,
        request: Request<ResumeThreadRequest>,
    ) -> Result<ResumeThreadResponse, Status> {
        let tenant = tenant(&request)?;
        let ResumeThreadRequest { thread_id: id, settings, provider } = request.into_inner();
        let (id, overrides) = (thread_id(&id)?, overrides(settings, &self.shared)?);
        let provider = some(provider);
        let resumed = self.shared.sessions.resume(&tenant, id, provider.as_deref(), overrides).await;
        let Resumed { view, model_before } = resumed.map_err(status)?;
        let thread = Some(convert::thread(&view));
        Ok(ResumeThreadResponse { thread, model_before: model_before.unwrap_or_default() })
    }

    pub(super) async fn fork(
        &self,
        request: Request<ForkThreadRequest>,
    ) -> Result<ForkThreadResponse, Status> {
        use fork_thread_request::Until;
        let (originator, tenant) = (user_agent(&request), tenant(&request)?);
        let ForkThreadRequest { thread_id: id, until, settings, ephemeral, thread_source, provider } =
            request.into_inner();
        check_name("thread_source", &thread_source)?;
        let fork = ForkThread {
            until: match until {
                None => ForkPoint::Whole,
                Some(Until::ThroughTurnId(turn)) => ForkPoint::Through(turn_id(&turn)?),
                Some(Until::BeforeTurnId(turn)) => ForkPoint::Before(turn_id(&turn)?),
            },
            originator,
            source: SOURCE.to_owned(),
            thread_source: some(thread_source),
            provider: some(provider),
            ephemeral,
            overrides: overrides(settings, &self.shared)?,
            ..ForkThread::default()
        };
        let view = self.shared.sessions.fork(&tenant, thread_id(&id)?, fork).await.map_err(status)?;
        Ok(ForkThreadResponse { thread: Some(convert::thread(&view)) })
    }

    pub(super) async fn get(&self, request: Request<GetThreadRequest>) -> Result<GetThreadResponse, Status> {
        let tenant = tenant(&request)?;
        let id = thread_id(&request.into_inner().thread_id)?;
        let view = self.shared.sessions.read(&tenant, id).await.map_err(status)?;
        Ok(GetThreadResponse { thread: Some(convert::thread(&view)) })
    }

    pub(super) async fn list(
        &self,
        request: Request<ListThreadsRequest>,
    ) -> Result<ListThreadsResponse, Status> {
        let tenant = tenant(&request)?;
        let request = request.into_inner();
        let order = request.order();
        let ListThreadsRequest { page_size, page_token, archived, cwds, providers, sources, search, .. } =
            request;
        let limit = if page_size == 0 { PAGE_DEFAULT } else { page_size.min(PAGE_MAX) };
        let query = ListQuery {
            page: PageQuery { cursor: some(page_token), limit, direction: Direction::Descending },
            sort: match order {
                ThreadOrder::Unspecified | ThreadOrder::Updated => SortKey::UpdatedAt,
                ThreadOrder::Created => SortKey::CreatedAt,
            },
            archived,
            cwds,
            providers,
            sources,
            search: some(search),
            ..ListQuery::default()
        };
        let page = self.shared.sessions.list(&tenant, query).await.map_err(status)?;
        Ok(ListThreadsResponse {
            threads: page.elements.iter().map(convert::thread).collect(),
            next_page_token: page.next.unwrap_or_default(),
        })
    }

    pub(super) async fn trace(
        &self,
        request: Request<ReadTraceRequest>,
    ) -> Result<ReadTraceResponse, Status> {
        let tenant = tenant(&request)?;
        let ReadTraceRequest { thread_id: id, page_size, page_token } = request.into_inner();
        let after = match page_token.as_str() {
            "" => 0,
            token => token.parse().map_err(|_| invalid("page_token is none of this list's"))?,
        };
        let limit = if page_size == 0 { TRACE_PAGE_MAX } else { page_size.min(TRACE_PAGE_MAX) };
        let found = self.shared.sessions.trace(&tenant, thread_id(&id)?, after, limit).await;
        let found = found.map_err(status)?;
        let full = u32::try_from(found.len()).is_ok_and(|count| count >= limit);
        let next = found.last().filter(|_| full).map(|last| last.number.to_string());
        Ok(ReadTraceResponse {
            records: found.into_iter().map(traces::record).collect(),
            next_page_token: next.unwrap_or_default(),
        })
    }
}

/// Reads a turn's id.
pub(super) fn turn_id(text: &str) -> Result<TurnId, Status> {
    text.parse().map_err(|_| invalid("turn_id is not an id"))
}
