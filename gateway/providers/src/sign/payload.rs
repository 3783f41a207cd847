//! The final bytes of a request's body, and their digest for signatures.

use std::fmt::Write as _;
use std::sync::OnceLock;

use bytes::Bytes;
use sha2::{Digest as _, Sha256};

/// The bytes of a body. Their digest is computed when the first signature needs it, once for all attempts.
pub(crate) struct Payload {
    bytes: Bytes,
    digest: OnceLock<String>,
}

impl Payload {
    pub(crate) fn new(bytes: Bytes) -> Payload {
        Payload { bytes, digest: OnceLock::new() }
    }

    pub(crate) fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// The SHA-256 of the bytes, in lower-case hexadecimal digits.
    pub(super) fn digest(&self) -> &str {
        self.digest.get_or_init(|| {
            let mut text = String::with_capacity(64);
            for byte in Sha256::digest(&self.bytes) {
                // Writing to a string cannot fail.
                let _ = write!(text, "{byte:02x}");
            }
            text
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_digest_is_the_one_that_everybody_computes() {
        let empty = Payload::new(Bytes::new());
        assert_eq!(empty.digest(), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
        let abc = Payload::new(Bytes::from_static(b"abc"));
        assert_eq!(abc.digest(), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    }
}
