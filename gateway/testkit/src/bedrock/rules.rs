//! What a fake Bedrock takes for right: keys, tokens, its clock, and which model is served where under which name.
//!
//! Pure but for the machine's clock. The first rule that a request breaks is the answer that it gets.

use std::collections::{HashMap, HashSet};

use serde_json::Value;

use super::refusal::Refusal;
use super::sigv4::{Authorization, body_hash};
use crate::clock::{self, Clock};
use crate::state::Recorded;

/// How far a request's date may be from the service's clock.
const SKEW_MAX_SECONDS: i64 = 300;

/// Headers that are changed, added or dropped between a client and a service.
const UNSTABLE: [&str; 18] = [
    "authorization",
    "baggage",
    "connection",
    "expect",
    "forwarded",
    "keep-alive",
    "proxy-authorization",
    "proxy-connection",
    "session_id",
    "te",
    "traceparent",
    "tracestate",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "user-agent",
    "via",
    "x-amzn-trace-id",
];

/// The credentials that belong to an access key id.
pub(crate) struct Key {
    pub(crate) secret: String,
    pub(crate) token: Option<String>,
}

/// Where a model is served, and under which name its requests are signed.
pub(crate) struct Route {
    pub(crate) prefix: String,
    pub(crate) service: String,
}

pub(crate) struct Rules {
    pub(crate) region: String,
    pub(crate) clock: Clock,
    pub(crate) keys: HashMap<String, Key>,
    pub(crate) expired: HashSet<String>,
    pub(crate) bearers: HashSet<String>,
    pub(crate) routes: HashMap<String, Route>,
}

/// A refusal and the sentence that goes with it.
pub(crate) type Broken = (Refusal, String);

impl Rules {
    pub(crate) fn judge(&self, request: &Recorded) -> Result<(), Broken> {
        let model = request.json().get("model").and_then(Value::as_str).map(str::to_owned);
        let Some(authorization) = request.header("authorization") else {
            return Err((Refusal::Unsigned, "Missing Authentication Token".to_owned()));
        };
        match authorization.strip_prefix("Bearer ") {
            Some(token) if self.bearers.contains(token) => {}
            Some(_) => return Err((Refusal::WrongBearer, "Invalid bearer token".to_owned())),
            None => self.judge_signature(request, authorization, model.as_deref())?,
        }
        self.judge_route(request, model.as_deref())
    }

    fn judge_signature(
        &self,
        request: &Recorded,
        authorization: &str,
        model: Option<&str>,
    ) -> Result<(), Broken> {
        let alone = request.headers.get_all("authorization").iter().count() == 1;
        let Some(authorization) = Authorization::parse(authorization).filter(|_| alone) else {
            return Err((
                Refusal::Malformed,
                "Authorization header is not of the form that SigV4 gives it".to_owned(),
            ));
        };
        let Some(key) = self.keys.get(&authorization.access_key) else {
            return Err((
                Refusal::UnknownKey,
                "The security token included in the request is invalid.".to_owned(),
            ));
        };
        if self.expired.contains(&authorization.access_key) {
            return Err((
                Refusal::Expired,
                "The security token included in the request is expired".to_owned(),
            ));
        }
        if request.header("x-amz-security-token") != key.token.as_deref() {
            return Err((
                Refusal::UnknownKey,
                "The security token included in the request is invalid.".to_owned(),
            ));
        }
        self.judge_date(request)?;
        self.judge_scope(request, &authorization, model)?;
        judge_headers(request, &authorization, key)?;
        if authorization.expected(request, &key.secret).as_ref() != Some(&authorization.signature) {
            let message = "The request signature we calculated does not match the signature you provided. \
                Check your AWS Secret Access Key and signing method. Consult the service documentation for details.";
            return Err((Refusal::WrongSignature, message.to_owned()));
        }
        Ok(())
    }

    fn judge_date(&self, request: &Recorded) -> Result<(), Broken> {
        let dates = request.headers.get_all("x-amz-date").iter().count();
        let date = request.header("x-amz-date").filter(|_| dates == 1);
        let Some((date, signed_at)) = date.and_then(|date| Some((date, clock::parse_basic(date)?))) else {
            return Err((Refusal::Malformed, "Date must be in ISO-8601 'basic format'".to_owned()));
        };
        let now = self.clock.now();
        let (earliest, latest) = (now - SKEW_MAX_SECONDS, now + SKEW_MAX_SECONDS);
        let message = match signed_at {
            _ if signed_at < earliest => format!(
                "Signature expired: {date} is now earlier than {} ({} - 5 min.)",
                clock::basic(earliest),
                clock::basic(now)
            ),
            _ if signed_at > latest => format!(
                "Signature not yet current: {date} is still later than {} ({} + 5 min.)",
                clock::basic(latest),
                clock::basic(now)
            ),
            _ => return Ok(()),
        };
        Err((Refusal::Skewed, message))
    }

    fn judge_scope(
        &self,
        request: &Recorded,
        authorization: &Authorization,
        model: Option<&str>,
    ) -> Result<(), Broken> {
        let wrong = |message: String| Err((Refusal::WrongScope, message));
        let date = request.header("x-amz-date").and_then(|date| date.get(..8)).unwrap_or_default();
        if authorization.date != date {
            let (signed, scope) = (date, &authorization.date);
            return wrong(format!(
                "Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date from HTTP: \
                 '{scope}' != '{signed}'"
            ));
        }
        if authorization.region != self.region {
            return wrong(format!("Credential should be scoped to a valid region, not '{}'.", self.region));
        }
        let expected: Vec<_> = match model.and_then(|model| self.routes.get(model)) {
            Some(route) => vec![route.service.as_str()],
            None => self.routes.values().map(|route| route.service.as_str()).collect(),
        };
        if !expected.contains(&authorization.service.as_str()) {
            return wrong(format!(
                "Credential should be scoped to correct service: '{}'.",
                expected.join("', '")
            ));
        }
        Ok(())
    }

    /// A request without a model, for the list of models say, needs a path where some model is served.
    fn judge_route(&self, request: &Recorded, model: Option<&str>) -> Result<(), Broken> {
        let below = |route: &Route| {
            request.path.strip_prefix(&route.prefix).is_some_and(|rest| rest.starts_with('/'))
        };
        let served = match model {
            Some(model) => self.routes.get(model).is_some_and(below),
            None => self.routes.values().any(below),
        };
        if served {
            return Ok(());
        }
        let model = model.unwrap_or_default();
        Err((Refusal::WrongRoute, format!("model `{model}` isn't supported on this route")))
    }
}

fn judge_headers(request: &Recorded, authorization: &Authorization, key: &Key) -> Result<(), Broken> {
    let wrong = |message: String| Err((Refusal::WrongHeaders, message));
    let token = key.token.as_ref().map(|_| "x-amz-security-token");
    let hash = request.header("x-amz-content-sha256");
    let required = ["host", "x-amz-date"].into_iter().chain(token);
    for name in required.chain(hash.map(|_| "x-amz-content-sha256")) {
        if !authorization.signs(name) {
            return wrong(format!("'{name}' must be a 'SignedHeader' in the AWS Authorization."));
        }
    }
    let unstable = |name: &&String| UNSTABLE.contains(&name.as_str()) || name.starts_with("x-forwarded-");
    if let Some(name) = authorization.signed.iter().find(unstable) {
        return wrong(format!("'{name}' is signed, though it may change on its way"));
    }
    if hash.is_some_and(|hash| hash != body_hash(&request.body)) {
        return wrong(
            "The provided 'x-amz-content-sha256' header does not match what was computed.".to_owned(),
        );
    }
    Ok(())
}
