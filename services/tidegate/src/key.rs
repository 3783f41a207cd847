//! The user's key for an agent that asks who calls, as `TIDEGATE_KEY` has it.

use secrecy::{ExposeSecret as _, SecretString};
use tidegate_proto::gateway::v1::Failure;
use tonic::{
    Request, Status,
    metadata::{Ascii, MetadataValue},
    service::Interceptor,
};

/// The environment variable that has it.
const VARIABLE: &str = "TIDEGATE_KEY";

/// Shows the key, if there is one, with each call.
#[derive(Debug, Clone)]
pub(crate) struct Key(Option<MetadataValue<Ascii>>);

impl Key {
    /// The key that the environment has.
    pub(crate) fn find() -> anyhow::Result<Self> {
        let given = std::env::var_os(VARIABLE).filter(|key| !key.is_empty());
        Self::of(given.map(|key| SecretString::from(key.to_string_lossy().trim())))
    }

    fn of(given: Option<SecretString>) -> anyhow::Result<Self> {
        let Some(key) = given else { return Ok(Self(None)) };
        // The reason would quote the key.
        let header = SecretString::from(format!("Bearer {}", key.expose_secret()));
        let shown = header.expose_secret().parse::<MetadataValue<Ascii>>();
        let mut shown = shown.map_err(|_| anyhow::anyhow!("{VARIABLE} holds what no key has in it"))?;
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

/// A failure in the words of the agent, and what to do if it does not know who asks.
pub(crate) fn told(failure: &Failure) -> anyhow::Error {
    let Failure { message, reason, .. } = failure;
    match reason.as_str() {
        "unauthenticated" => anyhow::anyhow!(
            "{message} ({reason}); set {VARIABLE} to a key that the agent knows, as `tidegate keys create` prints it"
        ),
        _ => anyhow::anyhow!("{message} ({reason})"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_goes_along_and_is_never_shown() {
        let mut key = Key::of(Some("tg_canary".into())).unwrap();
        let request = key.call(Request::new(())).unwrap();
        assert_eq!(request.metadata().get("authorization").unwrap(), "Bearer tg_canary");
        for shown in [
            format!("{key:?} {request:?}"),
            format!("{:#}", Key::of(Some("tg_canary\u{7}".into())).unwrap_err()),
        ] {
            assert!(!shown.contains("canary"), "{shown}");
        }
        let nothing = Key::of(None).unwrap().call(Request::new(())).unwrap();
        assert!(nothing.metadata().is_empty());
    }
}
