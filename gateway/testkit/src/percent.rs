//! Percent-encoding in its strictest form, as signatures take it.

use std::fmt::Write;

/// Undoes every complete escape; all else stays as it is.
pub(crate) fn decode(text: &str) -> Vec<u8> {
    let bytes = text.as_bytes();
    let (mut decoded, mut at) = (Vec::with_capacity(bytes.len()), 0);
    while let Some(byte) = bytes.get(at) {
        let digits = bytes.get(at + 1..at + 3).filter(|digits| *byte == b'%' && digits.is_ascii());
        let digits = digits.and_then(|digits| std::str::from_utf8(digits).ok());
        match digits.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(escaped) => {
                decoded.push(escaped);
                at += 3;
            }
            None => {
                decoded.push(*byte);
                at += 1;
            }
        }
    }
    decoded
}

/// Escapes everything but the unreserved characters of RFC 3986 and `kept`.
pub(crate) fn encode(bytes: &[u8], kept: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len()), |mut text, byte| {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(byte) || kept.contains(byte) {
            text.push(char::from(*byte));
        } else {
            // Writing to memory cannot fail.
            let _written = write!(text, "%{byte:02X}");
        }
        text
    })
}

#[cfg(test)]
mod tests {
    use super::{decode, encode};

    #[test]
    fn escapes_are_undone_and_made() {
        for (text, decoded) in
            [("", ""), ("a%2Fb%c3%a9", "a/bé"), ("%", "%"), ("%4", "%4"), ("%4g%41", "%4gA"), ("1+1", "1+1")]
        {
            assert_eq!(decode(text), decoded.as_bytes(), "{text}");
        }
        assert_eq!(encode("a/b é~".as_bytes(), b"/"), "a/b%20%C3%A9~");
        assert_eq!(encode(b"a/b+%", b""), "a%2Fb%2B%25");
    }
}
