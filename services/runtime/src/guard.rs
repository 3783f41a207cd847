//! Refuses requests by their head alone: those that a web page made (a foreign `Origin` anywhere, a foreign `Host` on a
//! loopback listener), and those that another server could take for something else.
//!
//! A browser on the same machine reaches loopback ports for any page it shows, and a page whose name was
//! rebound to 127.0.0.1 even counts as same-origin; its `Host` gives it away. Programs send no `Origin`.
//! This is no authentication: it keeps browsers out, nothing else.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HOST, ORIGIN};
use http::{HeaderName, HeaderValue, Request, Response, StatusCode};
use http_body::Body;
use hyper::service::Service;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::body::{Reply, ReplyFuture, answer, own, pass};
use crate::config::Problem;
use crate::listen::Address;

/// `PERMISSION_DENIED`.
const GRPC_PERMISSION_DENIED: &str = "7";

/// What servers that read `_` as `-` would take for framing. We never do, but whoever stands before us may.
const DISGUISES: [HeaderName; 2] =
    [HeaderName::from_static("content_length"), HeaderName::from_static("transfer_encoding")];

/// Which web pages may call.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct GuardConfig {
    /// Origins whose pages may call, such as `https://tools.example.com`; empty means that no page may.
    pub allowed_origins: Vec<String>,
}

impl GuardConfig {
    /// Makes the rules for one listener, or says what is wrong; `at` is the dotted key of this table.
    pub fn build(&self, listener: &Address, at: &str) -> Result<Rules, Vec<Problem>> {
        let mut origins = BTreeSet::new();
        let mut problems = Vec::new();
        for (index, text) in self.allowed_origins.iter().enumerate() {
            match origin(text) {
                Some(origin) => drop(origins.insert(origin)),
                None => problems.push(
                    Problem::new(format!("{at}.allowed_origins[{index}]"), "is not an origin")
                        .fix("write scheme://host or scheme://host:port, without a path"),
                ),
            }
        }
        let check_host = matches!(listener, Address::Tcp(_)) && listener.is_local();
        if problems.is_empty() { Ok(Rules { origins: Arc::new(origins), check_host }) } else { Err(problems) }
    }
}

/// The checked rules of one listener.
#[derive(Debug, Clone)]
pub struct Rules {
    origins: Arc<BTreeSet<String>>,
    check_host: bool,
}

/// Why a request was refused; always the caller's fault, and a retry does not help.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// A web page that is not allowed sent it.
    ForeignOrigin,
    /// It was meant for a name that is not this machine's own.
    ForeignHost,
    /// It names no host, or several.
    BadHost,
    /// It has a header that some servers take for one that says where a request ends.
    Disguised,
}

impl Refusal {
    const fn status(self) -> StatusCode {
        match self {
            Self::ForeignOrigin => StatusCode::FORBIDDEN,
            Self::ForeignHost => StatusCode::MISDIRECTED_REQUEST,
            Self::BadHost | Self::Disguised => StatusCode::BAD_REQUEST,
        }
    }

    const fn code(self) -> &'static str {
        match self {
            Self::ForeignOrigin => "foreign_origin",
            Self::ForeignHost => "foreign_host",
            Self::BadHost => "bad_host",
            Self::Disguised => "disguised_header",
        }
    }

    // Plain ASCII without a per cent sign: it goes into a grpc-message header as it is.
    const fn message(self) -> &'static str {
        match self {
            Self::ForeignOrigin => "requests from web pages of this origin are refused; see allowed_origins",
            Self::ForeignHost => "this listener is loopback only; call it as localhost, 127.0.0.1 or [::1]",
            Self::BadHost => "the request must name exactly one host",
            Self::Disguised => "a header is spelled almost like content-length or transfer-encoding",
        }
    }

    fn response(self, is_grpc: bool) -> Response<Bytes> {
        if is_grpc {
            let mut response = own(StatusCode::OK, "application/grpc", Bytes::new());
            let headers = response.headers_mut();
            headers.insert("grpc-status", HeaderValue::from_static(GRPC_PERMISSION_DENIED));
            headers.insert("grpc-message", HeaderValue::from_static(self.message()));
            return response;
        }
        let body = format!(
            r#"{{"error":{{"message":"{}","type":"invalid_request_error","code":"{}"}}}}"#,
            self.message(),
            self.code()
        );
        own(self.status(), "application/json", body)
    }
}

impl Rules {
    /// Judges a request by its head.
    pub fn check<B>(&self, request: &Request<B>) -> Result<(), Refusal> {
        let headers = request.headers();
        for value in headers.get_all(ORIGIN) {
            let allowed =
                value.to_str().ok().and_then(origin).is_some_and(|origin| self.origins.contains(&origin));
            if !allowed {
                return Err(Refusal::ForeignOrigin);
            }
        }
        if DISGUISES.iter().any(|name| headers.contains_key(name)) {
            return Err(Refusal::Disguised);
        }
        let mut hosts = headers.get_all(HOST).iter();
        let host = hosts.next();
        if hosts.next().is_some() {
            return Err(Refusal::BadHost);
        }
        if !self.check_host {
            return Ok(());
        }
        // HTTP/2 has :authority here, HTTP/1 an absolute-form target; where both are sent, both must be ours.
        let authority = request.uri().authority().map(|authority| authority.as_str());
        let host = host.map(|host| host.to_str().map_err(|_| Refusal::BadHost)).transpose()?;
        if authority.is_none() && host.is_none() {
            return Err(Refusal::BadHost);
        }
        match [authority, host].into_iter().flatten().all(is_this_machine) {
            true => Ok(()),
            false => Err(Refusal::ForeignHost),
        }
    }
}

/// Whether `host` or `host:port` is a loopback name; any port, because a port may be forwarded.
fn is_this_machine(authority: &str) -> bool {
    let (host, port) = match authority.strip_prefix('[') {
        Some(rest) => match rest.split_once(']') {
            Some((host, rest)) => (host, rest),
            None => return false,
        },
        None => authority.split_at(authority.find(':').unwrap_or(authority.len())),
    };
    let port_ok = match port.strip_prefix(':') {
        Some(digits) => digits.parse::<u16>().is_ok(),
        None => port.is_empty(),
    };
    let bracketed = authority.starts_with('[');
    port_ok
        && if bracketed {
            host == "::1"
        } else {
            host == "127.0.0.1" || host.eq_ignore_ascii_case("localhost")
        }
}

/// An origin in its one canonical form: lower case, without a default port; `null` and others are none.
fn origin(text: &str) -> Option<String> {
    let (scheme, rest) = text.split_once("://")?;
    let authority: http::uri::Authority = rest.parse().ok()?;
    if authority.as_str().contains('@')
        || !scheme.chars().all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c))
    {
        return None;
    }
    let scheme = scheme.to_ascii_lowercase();
    let host = authority.host().to_ascii_lowercase();
    match (authority.port_u16(), scheme.as_str()) {
        (None, _) if authority.as_str().ends_with(':') => None,
        (None, _) | (Some(80), "http") | (Some(443), "https") => Some(format!("{scheme}://{host}")),
        (Some(port), _) => Some(format!("{scheme}://{host}:{port}")),
    }
}

/// A service that asks the rules first.
#[derive(Debug, Clone)]
pub struct Guard<S> {
    inner: S,
    rules: Rules,
}

impl<S> Guard<S> {
    /// Puts the rules in front of a service; it belongs outermost.
    pub fn new(inner: S, rules: Rules) -> Self {
        Self { inner, rules }
    }
}

impl<S, R, B> Service<Request<R>> for Guard<S>
where
    S: Service<Request<R>, Response = Response<B>>,
    B: Body<Data = Bytes>,
{
    type Response = Response<Reply<B>>;
    type Error = S::Error;
    type Future = ReplyFuture<S::Future, B, S::Error>;

    fn call(&self, request: Request<R>) -> Self::Future {
        match self.rules.check(&request) {
            Ok(()) => pass(self.inner.call(request)),
            Err(refusal) => {
                tracing::debug!(code = refusal.code(), "request refused");
                answer(refusal.response(is_grpc(&request)))
            }
        }
    }
}

fn is_grpc<B>(request: &Request<B>) -> bool {
    let kind = request.headers().get(CONTENT_TYPE).map(HeaderValue::as_bytes);
    kind.is_some_and(|kind| kind.starts_with(b"application/grpc"))
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::{GuardConfig, Refusal, Rules};

    fn rules(listener: &str, origins: &[&str]) -> Rules {
        let config = GuardConfig { allowed_origins: origins.iter().map(ToString::to_string).collect() };
        config.build(&listener.parse().unwrap(), "guard").unwrap()
    }

    fn check(rules: &Rules, target: &str, headers: &[(&str, &str)]) -> Option<Refusal> {
        let mut request = Request::builder().uri(target);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        rules.check(&request.body(()).unwrap()).err()
    }

    #[test]
    fn hosts_on_a_loopback_listener() {
        let rules = rules("127.0.0.1:4100", &[]);
        for host in ["localhost", "LOCALHOST:4100", "127.0.0.1:4100", "127.0.0.1", "[::1]:9", "localhost:80"]
        {
            assert_eq!(check(&rules, "/", &[("host", host)]), None, "{host}");
        }
        for host in [
            "evil.example",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "evil.example:4100",
            "127.0.0.1@evil",
            "localhost@evil.example",
            "user@localhost",
            "[::1",
            "::1",
            "[::1]x",
            "localhost:",
            "localhost:x",
            "localhost:99999",
            "0.0.0.0",
            "127.1",
            "2130706433",
            "[::ffff:127.0.0.1]",
            "localhost.",
            "",
            "[localhost]",
            "[127.0.0.1]",
        ] {
            assert_eq!(check(&rules, "/", &[("host", host)]), Some(Refusal::ForeignHost), "{host}");
        }
        assert_eq!(check(&rules, "/", &[]), Some(Refusal::BadHost));
        let twice = [("host", "localhost"), ("host", "localhost")];
        assert_eq!(check(&rules, "/", &twice), Some(Refusal::BadHost));
    }

    #[test]
    fn authority_and_host_must_both_be_ours() {
        let rules = rules("[::1]:4100", &[]);
        let ours = [("host", "localhost")];
        let foreign = [("host", "evil.example")];
        assert_eq!(check(&rules, "http://localhost:4100/x", &[]), None);
        assert_eq!(check(&rules, "http://localhost:4100/x", &ours), None);
        assert_eq!(check(&rules, "http://evil.example/x", &ours), Some(Refusal::ForeignHost));
        assert_eq!(check(&rules, "http://localhost/x", &foreign), Some(Refusal::ForeignHost));
        assert_eq!(check(&rules, "http://a@localhost/x", &[]), Some(Refusal::ForeignHost));
    }

    #[test]
    fn other_listeners_skip_the_host() {
        for listener in ["unix:/run/a.sock", "0.0.0.0:4100"] {
            let rules = rules(listener, &[]);
            assert_eq!(check(&rules, "/", &[("host", "gateway.corp.example")]), None);
            assert_eq!(check(&rules, "/", &[]), None);
            assert_eq!(check(&rules, "/", &[("origin", "http://a.example")]), Some(Refusal::ForeignOrigin));
        }
    }

    #[test]
    fn heads_that_can_be_read_in_two_ways_are_refused_everywhere() {
        for listener in ["unix:/run/a.sock", "0.0.0.0:4100", "127.0.0.1:4100"] {
            let rules = rules(listener, &[]);
            for name in ["content_length", "Transfer_Encoding"] {
                let headers = [("host", "localhost"), (name, "5")];
                assert_eq!(check(&rules, "/", &headers), Some(Refusal::Disguised), "{name}");
            }
            let twice = [("host", "localhost"), ("host", "other.example")];
            assert_eq!(check(&rules, "/", &twice), Some(Refusal::BadHost));
            // Codex itself writes names in this way.
            assert_eq!(check(&rules, "/", &[("host", "localhost"), ("session_id", "5")]), None);
        }
    }

    #[test]
    fn origins() {
        let rules = rules("unix:a", &["https://Tools.example", "http://localhost:3000"]);
        for origin in ["https://tools.example", "https://TOOLS.example:443", "http://localhost:3000"] {
            assert_eq!(check(&rules, "/", &[("origin", origin)]), None, "{origin}");
        }
        for origin in [
            "null",
            "",
            "http://tools.example",
            "https://tools.example:444",
            "https://tools.example.evil.example",
            "https://x@tools.example",
            "http://localhost",
            "tools.example",
            "https://tools.example/path",
            "file://",
        ] {
            assert_eq!(check(&rules, "/", &[("origin", origin)]), Some(Refusal::ForeignOrigin), "{origin}");
        }
        let two = [("origin", "https://tools.example"), ("origin", "https://evil.example")];
        assert_eq!(check(&rules, "/", &two), Some(Refusal::ForeignOrigin));
    }

    #[test]
    fn bad_origins_in_the_configuration_are_named() {
        let config = GuardConfig { allowed_origins: vec!["https://a.example".into(), "*".into()] };
        let problems = config.build(&"unix:a".parse().unwrap(), "guard").unwrap_err();
        assert_eq!(problems.len(), 1);
        assert_eq!(problems[0].message, "`guard.allowed_origins[1]` is not an origin");
    }
}
