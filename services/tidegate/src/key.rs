//! The keys that this program shows: the user's to an agent that asks who calls, as `TIDEGATE_KEY` has it, and the agent's
//! own to the gateway.

use std::{ffi::OsString, path::Path};

use anyhow::Context as _;
use secrecy::{ExposeSecret as _, SecretString};
use tidegate_proto::gateway::v1::{Failure, Fault};
use tonic::{
    Request, Status,
    metadata::{Ascii, MetadataValue},
    service::Interceptor,
};

/// The environment variable that has it.
const VARIABLE: &str = "TIDEGATE_KEY";

fn given() -> Option<OsString> {
    std::env::var_os(VARIABLE).filter(|key| !key.is_empty())
}

/// Shows the key, if there is one, with each call.
#[derive(Debug, Clone)]
pub(crate) struct Key(Option<MetadataValue<Ascii>>);

impl Key {
    /// The key that the environment has.
    pub(crate) fn find() -> anyhow::Result<Self> {
        Self::of(given().map(|key| SecretString::from(key.to_string_lossy().trim())), VARIABLE)
    }

    /// The key that a file has, if one is named.
    pub(crate) fn in_file(file: Option<&Path>) -> anyhow::Result<Self> {
        let Some(file) = file else { return Ok(Self(None)) };
        let shown = file.display().to_string();
        let named = || format!("cannot read {shown}, which `token_file` under [gateway_access] names");
        let text = std::fs::read_to_string(file).with_context(named)?;
        Self::of(Some(SecretString::from(text.trim())), &shown)
    }

    /// `holder` is what has it.
    fn of(given: Option<SecretString>, holder: &str) -> anyhow::Result<Self> {
        let Some(key) = given else { return Ok(Self(None)) };
        // The reason would quote the key.
        let header = SecretString::from(format!("Bearer {}", key.expose_secret()));
        let shown = header.expose_secret().parse::<MetadataValue<Ascii>>();
        let mut shown = shown.map_err(|_| anyhow::anyhow!("{holder} holds what no key has in it"))?;
        shown.set_sensitive(true);
        Ok(Self(Some(shown)))
    }
}

impl Interceptor for Key {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(key) = &self.0 {
            request.metadata_mut().insert("authorization", key.clone());
        }
        Ok(request)
    }
}

/// A failure in the words of the agent, and what to do if somebody is not known: the user to the agent, or the agent to the
/// gateway.
pub(crate) fn told(failure: &Failure) -> anyhow::Error {
    told_to(failure, given().is_some())
}

fn told_to(failure: &Failure, with_key: bool) -> anyhow::Error {
    const OF_AGENT: &str =
        "the file that `token_file` under [gateway_access] in the agent's agent.toml names";
    let Failure { message, reason, .. } = failure;
    match (reason.as_str(), failure.fault()) {
        ("unauthenticated", Fault::Credential) => {
            anyhow::anyhow!("{message} ({reason}); put a key that the gateway knows into {OF_AGENT}")
        }
        ("unauthenticated", _) if with_key => anyhow::anyhow!(
            "the agent does not take the key in {VARIABLE}: {message} ({reason}); set one that the agent knows, or none for an \
             agent that asks for none: a key for the gateway belongs into {OF_AGENT}"
        ),
        ("unauthenticated", _) => anyhow::anyhow!(
            "{message} ({reason}); set {VARIABLE} to a key that the agent knows, as `tidegate keys create` prints it"
        ),
        _ => anyhow::anyhow!("{message} ({reason})"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_not_known_to_whom_is_told() {
        let told = |fault: Fault, with_key: bool| {
            let reason = "unauthenticated".to_owned();
            told_to(&Failure { reason, fault: fault.into(), ..Failure::default() }, with_key).to_string()
        };
        assert!(told(Fault::Caller, false).contains("set TIDEGATE_KEY"));
        let of_the_user = told(Fault::Caller, true);
        assert!(of_the_user.contains("the key in TIDEGATE_KEY"), "{of_the_user}");
        for with_key in [true, false] {
            let of_the_agent = told(Fault::Credential, with_key);
            assert!(of_the_agent.contains("[gateway_access]"), "{of_the_agent}");
            assert!(!of_the_agent.contains("TIDEGATE_KEY"), "{of_the_agent}");
        }
    }

    #[test]
    fn a_key_goes_along_and_is_never_shown() {
        let mut key = Key::of(Some("tg_canary".into()), "X").unwrap();
        let request = key.call(Request::new(())).unwrap();
        assert_eq!(request.metadata().get("authorization").unwrap(), "Bearer tg_canary");
        for shown in [
            format!("{key:?} {request:?}"),
            format!("{:#}", Key::of(Some("tg_canary\u{7}".into()), "X").unwrap_err()),
        ] {
            assert!(!shown.contains("canary"), "{shown}");
        }
        let nothing = Key::of(None, "X").unwrap().call(Request::new(())).unwrap();
        assert!(nothing.metadata().is_empty());
    }
}
