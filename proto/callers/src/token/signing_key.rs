//! One key that tokens are signed with. Its algorithm comes from the key; the token has no say in it.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{DecodingKey, crypto};
use sha2::{Digest as _, Sha256};

use crate::config::Algorithm;

/// The shortest secret in bytes: as long as what HS256 computes.
pub(crate) const SECRET_BYTES_MIN: usize = 32;
/// The modulus of an RSA key in bytes, at least and at most.
const MODULUS_BYTES_MIN: usize = 256;
const MODULUS_BYTES_MAX: usize = 1024;
/// The public exponent of an RSA key in bytes, at most.
const EXPONENT_BYTES_MAX: usize = 8;
/// A coordinate on P-256, and a key on Ed25519.
const POINT_BYTES: usize = 32;

/// One key that tokens are signed with.
pub(crate) struct SigningKey {
    pub(crate) id: Option<Box<str>>,
    pub(crate) algorithm: Algorithm,
    key: DecodingKey,
    /// Of the material: two keys with the same print are the same key.
    print: [u8; 32],
}

impl SigningKey {
    /// `None` if the secret is too short.
    pub(crate) fn secret(secret: &[u8]) -> Option<Self> {
        (secret.len() >= SECRET_BYTES_MIN)
            .then(|| Self::new(None, Algorithm::HS256, DecodingKey::from_secret(secret), &[secret]))
    }

    /// From modulus and exponent in base64.
    pub(crate) fn rsa(id: Option<Box<str>>, n: &str, e: &str) -> Option<Self> {
        let (n, e) = (trimmed(decode(n)?), trimmed(decode(e)?));
        let bits_fit = (MODULUS_BYTES_MIN..=MODULUS_BYTES_MAX).contains(&n.len())
            && (1..=EXPONENT_BYTES_MAX).contains(&e.len());
        bits_fit.then(|| {
            let key = DecodingKey::from_rsa_raw_components(&n, &e);
            Self::new(id, Algorithm::RS256, key, &[&n, &e])
        })
    }

    /// From the coordinates of a point on P-256 in base64.
    pub(crate) fn p256(id: Option<Box<str>>, x: &str, y: &str) -> Option<Self> {
        let point = [vec![4], decode(x)?, decode(y)?];
        let right = point.iter().skip(1).all(|half| half.len() == POINT_BYTES);
        right.then(|| {
            let point = point.concat();
            Self::new(id, Algorithm::ES256, DecodingKey::from_ec_der(&point), &[&point])
        })
    }

    /// From a public key on Ed25519 in base64.
    pub(crate) fn ed25519(id: Option<Box<str>>, x: &str) -> Option<Self> {
        let x = decode(x)?;
        (x.len() == POINT_BYTES).then(|| Self::new(id, Algorithm::EdDSA, DecodingKey::from_ed_der(&x), &[&x]))
    }

    fn new(id: Option<Box<str>>, algorithm: Algorithm, key: DecodingKey, material: &[&[u8]]) -> Self {
        let mut print = Sha256::new();
        for part in material {
            print.update(part);
        }
        Self { id, algorithm, key, print: print.finalize().into() }
    }

    pub(crate) fn is(&self, other: &Self) -> bool {
        (&self.id, self.algorithm, self.print) == (&other.id, other.algorithm, other.print)
    }

    /// Whether `signature`, in base64, is this key's over `message`.
    pub(crate) fn verifies(&self, message: &[u8], signature: &str) -> bool {
        let algorithm = match self.algorithm {
            Algorithm::HS256 => jsonwebtoken::Algorithm::HS256,
            Algorithm::RS256 => jsonwebtoken::Algorithm::RS256,
            Algorithm::ES256 => jsonwebtoken::Algorithm::ES256,
            Algorithm::EdDSA => jsonwebtoken::Algorithm::EdDSA,
        };
        crypto::verify(signature, message, &self.key, algorithm).unwrap_or(false)
    }
}

/// Some issuers write a zero byte in front of the modulus.
fn trimmed(number: Vec<u8>) -> Vec<u8> {
    number.into_iter().skip_while(|byte| *byte == 0).collect()
}

fn decode(text: &str) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(text).ok()
}
