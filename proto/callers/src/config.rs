//! The tables `[authentication]` and `[[callers]]` of a configuration file, as they are written.
//!
//! What they mean is checked in `check`; nothing here reads a file or an environment.

use std::{
    borrow::Cow,
    collections::BTreeMap,
    fmt,
    path::{Path, PathBuf},
};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{
    Deserialize, Deserializer,
    de::{SeqAccess, Visitor, value::SeqAccessDeserializer},
};

/// The header that identifies a caller whose `Authorization` belongs to the provider.
pub const HEADER_DEFAULT: &str = "x-tidegate-authorization";

/// Both tables. A service's configuration has them as two top-level keys.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct CallersConfig {
    /// Which credentials are known.
    pub authentication: AuthenticationConfig,
    /// Whom a credential stands for. The first row that fits is used.
    pub callers: Vec<CallerConfig>,
}

/// Which credentials are known, and where their proofs come from.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct AuthenticationConfig {
    /// Whether callers of loopback and unix-socket listeners need no credential; they are then the user `local` of the
    /// tenant `local`. Default: only while neither callers nor keys nor issuers are configured.
    pub anonymous: Option<bool>,
    /// The header that identifies a caller whose `Authorization` belongs to the provider; its value is `Bearer <token>`.
    pub header: String,
    /// The file with the hashed keys that `tidegate keys create` makes. A change takes effect within a second.
    pub keys_file: Option<PathBuf>,
    /// Whose signed tokens are taken.
    pub issuers: Vec<IssuerConfig>,
}

impl AuthenticationConfig {
    /// The files that are read together with the tables, as they are written there.
    pub fn files(&self) -> impl Iterator<Item = &Path> {
        let issuers = self.issuers.iter();
        let of_issuers = issuers.flat_map(|issuer| [&issuer.jwks_file, &issuer.secret_file, &issuer.ca_file]);
        std::iter::once(&self.keys_file).chain(of_issuers).filter_map(|file| file.as_deref())
    }
}

impl Default for AuthenticationConfig {
    fn default() -> Self {
        Self { anonymous: None, header: HEADER_DEFAULT.to_owned(), keys_file: None, issuers: Vec::new() }
    }
}

/// One issuer of signed tokens (JWT). Exactly one of `discovery`, `jwks_url`, `jwks_file`, `secret_file` and `secret_env`
/// says where its keys are.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct IssuerConfig {
    /// What `[[callers]]` rows call it.
    pub name: String,
    /// The exact value of the tokens' `iss`.
    pub issuer: String,
    /// What the tokens' `aud` must contain: one value or a list of which one suffices.
    pub audience: Audience,
    /// Find the keys as OpenID Connect says: `<issuer>/.well-known/openid-configuration`.
    #[serde(default)]
    pub discovery: bool,
    /// Where the issuer publishes its keys (JWKS).
    pub jwks_url: Option<String>,
    /// A file with the issuer's public keys (JWKS). A change takes effect within a second.
    pub jwks_file: Option<PathBuf>,
    /// A file with the secret of HS256 tokens, at least 32 bytes. A change takes effect within a second.
    pub secret_file: Option<PathBuf>,
    /// The environment variable with the secret of HS256 tokens, at least 32 bytes.
    pub secret_env: Option<String>,
    /// Which algorithms are taken; by default each key is used with the one that fits its type.
    pub algorithms: Option<Vec<Algorithm>>,
    /// A PEM file with further certificate authorities for fetching the keys, such as that of a Kubernetes API server.
    pub ca_file: Option<PathBuf>,
    /// A file with a token that is sent when the keys are fetched; Kubernetes wants the pod's own.
    pub bearer_token_file: Option<PathBuf>,
    /// The HTTP proxy through which the keys are fetched.
    pub proxy: Option<String>,
}

/// One row of the callers table. Exactly one of `key`, `spiffe` and `issuer` says which credentials it is about.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct CallerConfig {
    /// The id of a key. Replaces what the keys file says of it.
    pub key: Option<String>,
    /// The SPIFFE id of a client certificate, such as `spiffe://example.org/agent`; one that ends in `/*` stands for every
    /// id below that path.
    pub spiffe: Option<String>,
    /// The name of an issuer of tokens.
    pub issuer: Option<String>,
    /// Claims that the token must have: a string, boolean or number that is the claim's value or is in its list. A name
    /// that starts with `/` is a JSON pointer to a nested claim.
    pub claims: BTreeMap<String, serde_json::Value>,
    /// The Kubernetes service account that the token is for: `namespace/name`.
    pub service_account: Option<String>,
    /// The tenant.
    pub tenant: Option<String>,
    /// The claim that names the tenant.
    pub tenant_claim: Option<String>,
    /// Who it is within the tenant. Default: `sub` of a token, the id of a key, the path of a SPIFFE id.
    pub subject: Option<String>,
    /// The claim that names the subject.
    pub subject_claim: Option<String>,
    /// What the credential was given for, in your own words; policy rules can ask for it.
    pub scopes: Vec<String>,
}

/// How tokens may be signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
pub enum Algorithm {
    /// HMAC with SHA-256 and a shared secret.
    HS256,
    /// RSA PKCS #1 v1.5 with SHA-256.
    RS256,
    /// ECDSA on P-256 with SHA-256.
    ES256,
    /// Ed25519.
    EdDSA,
}

/// What a token's `aud` must contain: one of these.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Audience(pub Vec<String>);

impl<'de> Deserialize<'de> for Audience {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct OneOrMany;
        impl<'de> Visitor<'de> for OneOrMany {
            type Value = Audience;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string or a list of strings")
            }

            fn visit_str<E>(self, value: &str) -> Result<Audience, E> {
                Ok(Audience(vec![value.to_owned()]))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, values: A) -> Result<Audience, A::Error> {
                Vec::deserialize(SeqAccessDeserializer::new(values)).map(Audience)
            }
        }
        deserializer.deserialize_any(OneOrMany)
    }
}

impl JsonSchema for Audience {
    fn schema_name() -> Cow<'static, str> {
        "Audience".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "One audience or a list of them.",
            "anyOf": [
                { "type": "string" },
                { "type": "array", "items": { "type": "string" } },
            ],
        })
    }
}

/// One thing that is wrong with the tables, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The dotted key, for example `authentication.issuers[0].jwks_url`.
    pub key: String,
    /// What is wrong: continues a sentence that starts with the key.
    pub message: String,
    /// What to write instead.
    pub fix: String,
}

impl Problem {
    pub(crate) fn new(key: impl Into<String>, message: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { key: key.into(), message: message.into(), fix: fix.into() }
    }
}
