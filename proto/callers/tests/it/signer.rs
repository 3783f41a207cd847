//! Signs tokens of any shape, with keys of its own.

use aws_lc_rs::{
    encoding::AsDer as _,
    hmac,
    rand::SystemRandom,
    rsa::KeySize,
    signature::{
        ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _, RSA_PKCS1_SHA256,
        RsaKeyPair,
    },
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Value, json};

use crate::support::NOW;

pub(crate) enum Signer {
    Secret(String),
    Rsa(String, RsaKeyPair),
    P256(String, EcdsaKeyPair),
    Ed25519(String, Ed25519KeyPair),
}

pub(crate) fn encode(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// Claims that every test's issuer would give out.
pub(crate) fn claims() -> Value {
    json!({
        "iss": "https://issuer.example", "aud": "tidegate", "sub": "ada",
        "iat": NOW, "exp": NOW + 600, "tenant": "acme",
    })
}

/// The same with some replaced; `null` removes one.
pub(crate) fn claims_with(changes: Value) -> Value {
    let mut claims = claims();
    for (name, value) in changes.as_object().unwrap() {
        match value {
            Value::Null => drop(claims.as_object_mut().unwrap().remove(name)),
            value => claims[name] = value.clone(),
        }
    }
    claims
}

impl Signer {
    pub(crate) fn secret() -> Self {
        Self::Secret("a secret that is at least 32 bytes long".to_owned())
    }

    pub(crate) fn rsa(id: &str) -> Self {
        Self::Rsa(id.to_owned(), RsaKeyPair::generate(KeySize::Rsa2048).unwrap())
    }

    pub(crate) fn p256(id: &str) -> Self {
        Self::P256(id.to_owned(), EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap())
    }

    pub(crate) fn ed25519(id: &str) -> Self {
        Self::Ed25519(id.to_owned(), Ed25519KeyPair::generate().unwrap())
    }

    pub(crate) fn jwk(&self) -> Value {
        match self {
            Self::Secret(secret) => json!({"kty": "oct", "k": encode(secret), "alg": "HS256"}),
            Self::Rsa(id, pair) => {
                // An RSAPublicKey of 2048 bits has its modulus in one place.
                let der = pair.public_key().as_ref();
                json!({"kty": "RSA", "kid": id, "use": "sig", "n": encode(&der[9..265]), "e": "AQAB"})
            }
            Self::P256(id, pair) => {
                let (x, y) = pair.public_key().as_ref()[1..].split_at(32);
                json!({"kty": "EC", "crv": "P-256", "kid": id, "x": encode(x), "y": encode(y)})
            }
            Self::Ed25519(id, pair) => {
                json!({"kty": "OKP", "crv": "Ed25519", "kid": id, "x": encode(pair.public_key())})
            }
        }
    }

    /// What an attacker would take for a shared secret.
    pub(crate) fn public_bytes(&self) -> Vec<u8> {
        match self {
            Self::Secret(_) => Vec::new(),
            Self::Rsa(_, pair) => pair.public_key().as_der().unwrap().as_ref().to_vec(),
            Self::P256(_, pair) => pair.public_key().as_ref().to_vec(),
            Self::Ed25519(_, pair) => pair.public_key().as_ref().to_vec(),
        }
    }

    pub(crate) fn header(&self) -> Value {
        match self {
            Self::Secret(_) => json!({"alg": "HS256", "typ": "JWT"}),
            Self::Rsa(id, _) => json!({"alg": "RS256", "kid": id}),
            Self::P256(id, _) => json!({"alg": "ES256", "kid": id}),
            Self::Ed25519(id, _) => json!({"alg": "EdDSA", "kid": id}),
        }
    }

    pub(crate) fn token(&self, claims: &Value) -> String {
        self.sign(&self.header().to_string(), &claims.to_string())
    }

    pub(crate) fn sign(&self, header: &str, payload: &str) -> String {
        let message = format!("{}.{}", encode(header), encode(payload));
        let signature = encode(self.signature(message.as_bytes()));
        format!("{message}.{signature}")
    }

    fn signature(&self, message: &[u8]) -> Vec<u8> {
        let random = SystemRandom::new();
        match self {
            Self::Secret(secret) => hmac_of(secret.as_bytes(), message),
            Self::Rsa(_, pair) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(&RSA_PKCS1_SHA256, &random, message, &mut signature).unwrap();
                signature
            }
            Self::P256(_, pair) => pair.sign(&random, message).unwrap().as_ref().to_vec(),
            Self::Ed25519(_, pair) => pair.sign(message).as_ref().to_vec(),
        }
    }
}

pub(crate) fn hmac_of(secret: &[u8], message: &[u8]) -> Vec<u8> {
    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), message).as_ref().to_vec()
}

pub(crate) fn jwks(signers: &[&Signer]) -> Value {
    json!({"keys": signers.iter().map(|signer| signer.jwk()).collect::<Vec<_>>()})
}
