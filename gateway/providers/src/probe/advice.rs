//! What to do about each finding, in one sentence that names the configuration key.

use std::error::Error;
use std::fmt::Write as _;

use rustls::CertificateError;

use super::{Finding, said};
use crate::openai;
use crate::provider::{AccountKind, Operation};
use crate::send::{SendError, cause};

/// The keys that say where a credential comes from.
const CREDENTIAL_KEYS: [&str; 6] =
    ["auth", "key_file", "env_key", "experimental_bearer_token", "requires_openai_auth", "aws"];

/// How a server says that it wants a certificate of ours, or another one.
const CERTIFICATE_ALERTS: [&str; 4] = [
    "fatal alert: CertificateRequired",
    "fatal alert: BadCertificate",
    "fatal alert: CertificateUnknown",
    "fatal alert: UnknownCA",
];

/// What advice depends on.
pub(super) struct Advice<'a> {
    pub(super) id: &'a str,
    /// The keys that are set in the provider's table.
    pub(super) keys: &'a [&'static str],
    pub(super) account: AccountKind,
    /// Whether it is one of the providers that requests can be signed for.
    pub(super) is_bedrock: bool,
}

impl Advice<'_> {
    /// What to do about a finding; none if there is nothing to do.
    pub(super) fn of(&self, finding: Finding, status: Option<u16>, operation: Operation) -> Option<String> {
        Some(match finding {
            Finding::Reached | Finding::CallersCredential | Finding::InProcess => return None,
            Finding::Limited => {
                "wait, or raise the limit at the provider; the configuration is good".to_owned()
            }
            Finding::Accepted => "nothing has to be done if models do answer".to_owned(),
            Finding::Unauthorized => self.replace_credential(),
            Finding::Forbidden => {
                format!("allow it at the provider, or use another credential: {}", self.credential_key())
            }
            Finding::NotFound => self.wrong_path(operation),
            Finding::ServerError => format!("try again later; if it stays, check {}", self.key("base_url")),
            Finding::Strange if operation == Operation::Models => self.wrong_path(operation),
            Finding::Strange => {
                format!("check that {} is the address of a Responses API", self.key("base_url"))
            }
            Finding::Silent => {
                format!("check {}, and what stands between here and there", self.key("base_url"))
            }
            Finding::Dns | Finding::Connect => self.unreachable(finding),
            Finding::Proxy => self.proxy(status),
            Finding::Tls => format!("check {}", self.key("base_url")),
            Finding::Credential => self.make_credential(),
            Finding::Bug => "report this, with the configuration but without its secrets".to_owned(),
        })
    }

    /// What to do about a secure connection that cannot be made.
    pub(super) fn tls(&self, error: &SendError) -> String {
        let error: &(dyn Error + 'static) = error;
        let said = said::causes(error);
        match cause::<rustls::Error>(error) {
            Some(rustls::Error::InvalidCertificate(why)) => match why {
                _ if self.is_bedrock => {
                    "have this machine trust the certificate: update its CA certificates".to_owned()
                }
                CertificateError::UnknownIssuer | CertificateError::BadSignature => format!(
                    "name a PEM file with the authority of the provider's certificate in {}",
                    self.key("ca_file")
                ),
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                    format!("use a host in {} that the certificate names", self.key("base_url"))
                }
                CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
                    "renew the provider's certificate, or set this machine's clock".to_owned()
                }
                _ => format!("have the provider's certificate mended, or check {}", self.key("base_url")),
            },
            // Behind HTTP/2 the alert of a server has no type any more.
            _ if CERTIFICATE_ALERTS.iter().any(|alert| said.contains(alert)) => {
                format!(
                    "show a certificate that the provider takes: {} and {}",
                    self.key("client_certificate_file"),
                    self.key("client_key_file")
                )
            }
            _ => format!("check that {} begins with the right scheme and port", self.key("base_url")),
        }
    }

    fn has(&self, key: &str) -> bool {
        self.keys.contains(&key)
    }

    fn key(&self, key: &str) -> String {
        format!("model_providers.{}.{key}", self.id)
    }

    /// Where the credential is configured.
    fn credential_key(&self) -> String {
        match CREDENTIAL_KEYS.into_iter().find(|key| self.has(key)) {
            // A bearer token in the environment wins over what the table says of signing.
            _ if self.is_bedrock && self.account == AccountKind::ApiKey => {
                "AWS_BEARER_TOKEN_BEDROCK".to_owned()
            }
            Some("requires_openai_auth") => openai::ENV_KEY.to_owned(),
            Some(key) => self.key(key),
            None if self.id == openai::ID => openai::ENV_KEY.to_owned(),
            None if self.is_bedrock => self.key("aws"),
            None => self.key("env_key"),
        }
    }

    fn replace_credential(&self) -> String {
        let key = self.credential_key();
        match CREDENTIAL_KEYS.into_iter().find(|key| self.has(key)) {
            _ if self.account == AccountKind::None => {
                format!("give the provider a credential: set {key}, key_file or auth")
            }
            Some("auth") => format!("run the command of {key} by hand and look whether its token is good"),
            Some("key_file") => {
                format!("write a good key into the file of {key}; it is read again by itself")
            }
            Some("env_key") => format!("put a good key into the variable that {key} names, and start again"),
            _ if self.account == AccountKind::Aws => {
                format!("sign in to AWS again, or choose another profile in {key}")
            }
            _ => format!("put a good key into {key}, and start again"),
        }
    }

    fn make_credential(&self) -> String {
        let key = self.credential_key();
        match CREDENTIAL_KEYS.into_iter().find(|key| self.has(key)) {
            Some("auth") => {
                format!("run the command of {key} by hand: it has to print a token and nothing else")
            }
            Some("key_file") => {
                format!("make the file of {key} readable, with the key and nothing else in it")
            }
            _ if self.account == AccountKind::Aws => {
                format!("sign in to AWS, or choose a profile that has credentials in {key}")
            }
            _ => format!("check {key}"),
        }
    }

    fn wrong_path(&self, operation: Operation) -> String {
        let base = self.key("base_url");
        match operation {
            Operation::Models => format!(
                "end {base} before /models, or list the models in {} so that the provider is not asked",
                self.key("models")
            ),
            _ if self.is_bedrock => {
                "check the model's path in bedrock_models, and that the region has it".to_owned()
            }
            Operation::Responses | Operation::Compact | Operation::InputTokens => {
                format!("end {base} before /responses, and name a model that the provider has")
            }
        }
    }

    fn unreachable(&self, finding: Finding) -> String {
        let what = if finding == Finding::Dns { "the host" } else { "host and port" };
        let mut fix = format!("check {what} in {}", self.key("base_url"));
        // Writing to a String cannot fail.
        let _ = match self.has("proxy") {
            _ if self.is_bedrock => write!(fix, " or {}", self.key("aws.region")),
            true => write!(fix, ", and that {} does not name it", self.key("no_proxy")),
            false => write!(fix, "; if the way out is a proxy, set {}", self.key("proxy")),
        };
        fix
    }

    fn proxy(&self, status: Option<u16>) -> String {
        let key = self.key("proxy");
        match status {
            Some(407) => format!("write a good user and password into {key}, before the host"),
            Some(_) => format!("have the proxy of {key} allow the host, or go around it with no_proxy"),
            None => format!("check host and port in {key}"),
        }
    }
}
