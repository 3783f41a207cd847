//! One list of a provider, asked for when it is old and kept when the provider cannot be asked.
//!
//! Asking is bounded in time and size, happens once however many callers wait, and belongs to the caller: if that one
//! goes away, the next one asks.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http::StatusCode;
use http::header::{ETAG, HeaderMap, HeaderValue, IF_NONE_MATCH};
use http::uri::{PathAndQuery, Uri};
use tokio::time::Instant;

use super::{Model, list, merge};
use crate::body::BodyError;
use crate::config::ModelFacts;
use crate::provider::{Operation, Provider};
use crate::send::{Line, SendError};
use crate::upstream::CallerCredential;

/// How long a list is good.
const FRESH: Duration = Duration::from_secs(5 * 60);
/// How long a provider that could not be asked is left alone.
const PAUSE_AFTER_FAILURE: Duration = Duration::from_secs(30);
/// How long a provider that was asked is left alone, whatever it announces: some announce a change with every answer.
const PAUSE_AFTER_ANSWER: Duration = Duration::from_secs(10);
/// How long asking may take: less than the 5 s that Codex waits for our own list.
const ASK_MAX: Duration = Duration::from_secs(4);
/// The largest list that is read.
const LIST_BYTES_MAX: usize = 4 * 1024 * 1024;
/// The version of Codex that OpenAI is asked for models for.
const CODEX_VERSION: &str = "0.169.0";

/// What is asked, and how.
pub(super) struct Question<'a> {
    pub(super) provider: &'a dyn Provider,
    pub(super) line: &'a Line,
    pub(super) caller: Option<&'a CallerCredential>,
    /// What the administrator adds to the answer.
    pub(super) configured: &'a BTreeMap<String, ModelFacts>,
    /// Whether to ask as Codex does.
    pub(super) as_codex: bool,
}

/// A list and when it was told.
pub(super) struct Remembered {
    known: Mutex<Known>,
    /// Held by the caller that asks the provider.
    asking: tokio::sync::Mutex<()>,
}

#[derive(Clone)]
struct Known {
    models: Arc<[Model]>,
    /// The provider's own tag of the list.
    etag: Option<HeaderValue>,
    /// When the provider is asked next; never for a list that was configured.
    ask_at: Option<Instant>,
    /// When the provider last answered.
    answered_at: Option<Instant>,
    /// The tag that the provider last announced.
    announced: Option<HeaderValue>,
}

/// What a provider told.
enum Told {
    List {
        models: Arc<[Model]>,
        etag: Option<HeaderValue>,
    },
    /// The list is still the one with the tag that was named.
    Unchanged,
}

impl Remembered {
    /// A list that nobody is asked for.
    pub(super) fn fixed(models: Arc<[Model]>) -> Remembered {
        Remembered::of(models, None)
    }

    /// A list that stands until the provider is asked.
    pub(super) fn unasked(models: Arc<[Model]>) -> Remembered {
        Remembered::of(models, Some(Instant::now()))
    }

    fn of(models: Arc<[Model]>, ask_at: Option<Instant>) -> Remembered {
        let known = Known { models, etag: None, ask_at, answered_at: None, announced: None };
        Remembered { known: Mutex::new(known), asking: tokio::sync::Mutex::new(()) }
    }

    /// The list as it is known.
    pub(super) fn models(&self) -> Arc<[Model]> {
        Arc::clone(&self.known().models)
    }

    pub(super) fn is_fixed(&self) -> bool {
        self.known().ask_at.is_none()
    }

    /// The list, after asking if it is old.
    pub(super) async fn ask(&self, question: &Question<'_>) -> Arc<[Model]> {
        let known = self.known().clone();
        if !known.is_due() {
            return known.models;
        }
        let _turn = if known.answered_at.is_some() {
            // An old list is better than waiting for somebody else's question.
            match self.asking.try_lock() {
                Ok(turn) => turn,
                Err(_) => return known.models,
            }
        } else {
            self.asking.lock().await
        };
        let known = self.known().clone();
        if known.is_due() {
            let asked = tokio::time::timeout(ASK_MAX, question.ask(known.etag)).await;
            self.remember(question.provider.id(), asked.unwrap_or(Err(AskError::TooSlow)));
        }
        self.models()
    }

    /// The provider announced the tag of its list. Whether the list has to be asked for because of that.
    pub(super) fn announced(&self, etag: &HeaderValue) -> bool {
        let mut known = self.known();
        let Some(answered_at) = known.answered_at else { return false };
        let now = Instant::now();
        let told = known.etag.as_ref() == Some(etag) || known.announced.as_ref() == Some(etag);
        if told || known.ask_at.is_none() || now < answered_at + PAUSE_AFTER_ANSWER {
            return false;
        }
        known.announced = Some(etag.clone());
        known.ask_at = Some(now);
        true
    }

    fn remember(&self, provider: &str, asked: Result<Told, AskError>) {
        let mut known = self.known();
        let now = Instant::now();
        match asked {
            Ok(told) => {
                if let Told::List { models, etag } = told {
                    known.models = models;
                    known.etag = etag;
                }
                known.ask_at = Some(now + FRESH);
                known.answered_at = Some(now);
            }
            Err(error) => {
                known.ask_at = Some(now + PAUSE_AFTER_FAILURE);
                let kept = known.models.len();
                let error: &dyn std::error::Error = &error;
                tracing::warn!(provider, kept, error, "cannot list the models of a provider");
            }
        }
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        // Nothing in here panics between two steps that belong together.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    fn is_due(&self) -> bool {
        self.ask_at.is_some_and(|at| at <= Instant::now())
    }
}

impl Question<'_> {
    async fn ask(&self, etag: Option<HeaderValue>) -> Result<Told, AskError> {
        let mut endpoint = self.provider.endpoint(Operation::Models, "").ok_or(SendError::NotOffered)?;
        if self.as_codex {
            endpoint.uri = with_version(endpoint.uri)?;
        }
        let mut headers = HeaderMap::new();
        let conditional = etag.is_some();
        if let Some(etag) = etag {
            headers.insert(IF_NONE_MATCH, etag);
        }
        let answer = self.line.models(endpoint, headers, self.caller.cloned(), ASK_MAX).await?;
        if answer.status == StatusCode::NOT_MODIFIED && conditional {
            return Ok(Told::Unchanged);
        }
        if !answer.status.is_success() {
            return Err(AskError::Refused { status: answer.status.as_u16() });
        }
        let etag = answer.headers.get(ETAG).cloned();
        let body = answer.body.collect(LIST_BYTES_MAX).await?;
        let models = merge(list::read(&body)?, self.provider, self.configured).into();
        Ok(Told::List { models, etag })
    }
}

fn with_version(uri: Uri) -> Result<Uri, AskError> {
    let mut parts = uri.into_parts();
    let path = parts.path_and_query.as_ref().map_or("/", PathAndQuery::as_str);
    let joint = if path.contains('?') { '&' } else { '?' };
    parts.path_and_query =
        Some(PathAndQuery::try_from(format!("{path}{joint}client_version={CODEX_VERSION}"))?);
    Ok(Uri::from_parts(parts)?)
}

/// Why a provider's models are not known. Only ever logged.
#[derive(Debug, thiserror::Error)]
enum AskError {
    #[error("no answer within {} s", ASK_MAX.as_secs())]
    TooSlow,
    #[error(transparent)]
    Send(#[from] SendError),
    #[error(transparent)]
    Body(#[from] BodyError),
    #[error("answered with status {status}")]
    Refused { status: u16 },
    #[error("not a list of models")]
    Malformed(#[from] serde_json::Error),
    #[error("not an address with a query")]
    Query(#[from] http::uri::InvalidUri),
    #[error("not an address with a query")]
    Address(#[from] http::uri::InvalidUriParts),
}
