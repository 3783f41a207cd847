//! Tries a provider's credential and routes with requests that are refused before any token is spent.
//!
//! A probe goes the way of a call: credential, signature, proxy, TLS. It is sent once, and once more with a newer
//! credential if the first one is rejected. Of a refusal only its message is read, of an accepted call nothing.

mod advice;
mod finding;
mod said;

use std::collections::HashSet;
use std::time::Duration;

use bytes::Bytes;
use http::Uri;
use tokio::time::Instant;

pub use finding::Finding;

use crate::catalogue::read_list;
use crate::provider::{Endpoint, Operation, Provider};
use crate::registry::{Member, Providers};
use crate::send::{Line, SendError};
use crate::transport::Alpn;
use crate::upstream::{Answer, Route};
use advice::Advice;
use said::Secrets;

/// How long one probe may take, the making of its credential included.
const PROBE_MAX: Duration = Duration::from_secs(20);
/// The largest list of models that is read.
const LIST_BYTES_MAX: usize = 4 * 1024 * 1024;
/// What is read of a refusal, and how long it is waited for.
const REFUSAL_BYTES_MAX: usize = 64 * 1024;
const REFUSAL_WAIT_MAX: Duration = Duration::from_secs(5);
/// A model's name where none is known. What is wrong with the rest of the request is found without it.
const SOME_MODEL: &str = "tidegate-doctor";

/// What one probe met.
#[derive(Debug, Clone)]
pub struct Probe {
    /// The provider's id.
    pub provider: String,
    /// What was asked for.
    pub operation: Operation,
    /// The host that was asked, with its port if it is not the usual one; none if no network was needed.
    pub address: Option<String>,
    /// The model of the call.
    pub model: Option<String>,
    /// What was found.
    pub finding: Finding,
    /// The status of the answer, the provider's or the proxy's.
    pub status: Option<u16>,
    /// What the provider, or whatever stood in the way, says about it: one short line without secrets.
    pub said: Option<String>,
    /// What to do, in one sentence; none if everything is fine.
    pub fix: Option<String>,
    /// How long it took.
    pub took: Duration,
}

/// Is told of each probe as it ends.
pub type Told<'a> = &'a (dyn Fn(&Probe) + Send + Sync);

impl Providers {
    /// Tries everything that one provider is asked for: its list of models, if it is asked for that, and one call for
    /// each address and signing name that its models have. Ends at the first obstacle that all of them would meet, such
    /// as a name without an address. None if there is no such provider.
    pub async fn probe(&self, id: &str, told: Told<'_>) -> Option<Vec<Probe>> {
        let (member, keys) = (self.member(id)?, self.keys(id));
        let (provider, account) = (&*member.upstream.provider, member.upstream.account());
        Some(match &member.upstream.route {
            Route::Http(line) => {
                let advice = Advice { id, keys, account, is_bedrock: line.signer.is_some() };
                Prober { provider, line, advice, told }.all(member).await
            }
            Route::Rehearsal => {
                let probe = Probe {
                    provider: id.to_owned(),
                    operation: Operation::Responses,
                    address: None,
                    model: None,
                    finding: Finding::InProcess,
                    status: None,
                    said: None,
                    fix: None,
                    took: Duration::ZERO,
                };
                told(&probe);
                vec![probe]
            }
        })
    }
}

/// Tries one provider.
struct Prober<'a> {
    provider: &'a dyn Provider,
    line: &'a Line,
    advice: Advice<'a>,
    told: Told<'a>,
}

/// What a probe asks for.
struct Target {
    operation: Operation,
    endpoint: Endpoint,
    model: Option<String>,
}

/// What a probe met, before it is put into words.
struct Met {
    finding: Finding,
    status: Option<u16>,
    said: Option<String>,
    fix: Option<String>,
}

impl Prober<'_> {
    async fn all(&self, member: &Member) -> Vec<Probe> {
        let mut probes = Vec::new();
        let mut models = member.catalogue.slugs();
        if member.open
            && let Some(endpoint) = self.provider.endpoint(Operation::Models, "")
        {
            let target = Target { operation: Operation::Models, endpoint, model: None };
            let mut listed = Vec::new();
            probes.push(self.one(target, &mut listed).await);
            models.append(&mut listed);
        }
        for target in self.calls(models) {
            if probes.last().is_some_and(|probe| probe.finding.is_in_every_way()) {
                break;
            }
            probes.push(self.one(target, &mut Vec::new()).await);
        }
        probes
    }

    /// One call for each way that a call to one of these models can take.
    fn calls(&self, mut models: Vec<String>) -> Vec<Target> {
        if models.is_empty() {
            models.push(SOME_MODEL.to_owned());
        }
        let mut ways = HashSet::new();
        let mut targets = Vec::new();
        for model in models {
            let operation = Operation::Responses;
            let Some(endpoint) = self.provider.endpoint(operation, &model) else { continue };
            if ways.insert((endpoint.uri.clone(), endpoint.service.clone())) {
                targets.push(Target { operation, endpoint, model: Some(model) });
            }
        }
        targets
    }

    async fn one(&self, target: Target, listed: &mut Vec<String>) -> Probe {
        let began = Instant::now();
        let met = match tokio::time::timeout(PROBE_MAX, self.meet(&target, listed)).await {
            Ok(met) => met,
            Err(_) => {
                let said = format!("nothing within {} s", PROBE_MAX.as_secs());
                self.met(Finding::Silent, None, Some(said), &target)
            }
        };
        let Met { finding, status, said, fix } = met;
        let probe = Probe {
            provider: self.provider.id().to_owned(),
            operation: target.operation,
            address: Some(host(&target.endpoint.uri)),
            model: target.model,
            finding,
            status,
            said,
            fix,
            took: began.elapsed(),
        };
        (self.told)(&probe);
        probe
    }

    async fn meet(&self, target: &Target, listed: &mut Vec<String>) -> Met {
        if self.line.credential.is_caller() {
            return match self.line.transport.dialer().connect(&target.endpoint.uri, Alpn::Http).await {
                Ok(_) => self.met(Finding::CallersCredential, None, None, target),
                Err(error) => self.unanswered(&error.into(), target),
            };
        }
        let body = target.model.as_deref().map(refused_body);
        match self.line.probe(target.endpoint.clone(), body, PROBE_MAX).await {
            Ok(answer) => self.answered(answer, target, listed).await,
            Err(error) => self.unanswered(&error, target),
        }
    }

    fn unanswered(&self, error: &SendError, target: &Target) -> Met {
        let status = match error {
            SendError::Proxy { status, .. } => status.map(|status| status.as_u16()),
            _ => None,
        };
        let finding = Finding::of_error(error);
        let mut met = self.met(finding, status, Some(said::causes(error)), target);
        if finding == Finding::Tls {
            met.fix = Some(self.advice.tls(error));
        }
        met
    }

    async fn answered(&self, mut answer: Answer, target: &Target, listed: &mut Vec<String>) -> Met {
        let status = answer.status;
        let finding = Finding::of_status(target.operation, status);
        if status.is_success() {
            // An accepted call is cancelled by not reading its answer.
            let finding = match target.operation {
                Operation::Models => match self.list(answer).await {
                    Some(models) => {
                        *listed = models;
                        finding
                    }
                    None => Finding::Strange,
                },
                Operation::Responses | Operation::Compact | Operation::InputTokens => finding,
            };
            return self.met(finding, Some(status.as_u16()), None, target);
        }
        let body = answer.body.beginning(REFUSAL_BYTES_MAX, REFUSAL_WAIT_MAX).await;
        let said = match said::message(&body) {
            Some(text) => Some(Secrets::of(self.line, &target.endpoint.uri).await.hide(&text)),
            None => None,
        };
        self.met(finding, Some(status.as_u16()), said, target)
    }

    /// The models of a list, those first that answer calls; none if it is no list.
    async fn list(&self, answer: Answer) -> Option<Vec<String>> {
        let body = answer.body.collect(LIST_BYTES_MAX).await.ok()?;
        let entries = read_list(&body).ok()?;
        let answers = |slug: &String| self.provider.model_facts(slug).is_some();
        Some(entries.into_iter().map(|entry| entry.slug).filter(answers).collect())
    }

    fn met(&self, finding: Finding, status: Option<u16>, said: Option<String>, target: &Target) -> Met {
        let fix = self.advice.of(finding, status, target.operation);
        Met { finding, status, said, fix }
    }
}

/// A call that is wrong in two ways which every server sees before it asks a model: an input is a text or a list and
/// never a number, and no response has less than no tokens. Two, for a server that lets one of them pass. One that lets
/// both pass is asked neither to stream nor to keep anything, and its answer is not waited for.
fn refused_body(model: &str) -> Bytes {
    let body = serde_json::json!({
        "model": model, "input": 0, "max_output_tokens": -1, "stream": false, "store": false,
    });
    Bytes::from(body.to_string())
}

/// Nothing of an address but its host and port: what else it has may be secret.
fn host(uri: &Uri) -> String {
    let host = uri.host().unwrap_or_default();
    uri.port_u16().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
}
