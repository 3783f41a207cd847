//! Looks at many bytes of a string at once.

use wide::u8x32;

/// Bytes that are looked at together.
pub(super) const BLOCK: usize = 32;

/// A bit for each byte that is a quote, a backslash or a control character; the first byte's is the lowest.
pub(super) fn special(block: &[u8; BLOCK]) -> u32 {
    let bytes = u8x32::new(*block);
    let is = |byte: u8| bytes.simd_eq(u8x32::splat(byte));
    let control = bytes.min(u8x32::splat(0x1f)).simd_eq(bytes);
    (is(b'"') | is(b'\\') | control).to_bitmask()
}

#[cfg(test)]
mod tests {
    use super::{BLOCK, special};

    #[test]
    fn each_byte_has_its_bit() {
        for byte in 0..=255_u8 {
            for place in 0..BLOCK {
                for plain in [b' ', b'a', 0x7f, 0x80, 0xff] {
                    let mut block = [plain; BLOCK];
                    block[place] = byte;
                    let expected = u32::from(byte < 0x20 || byte == b'"' || byte == b'\\') << place;
                    assert_eq!(special(&block), expected, "{byte:#x} at {place}");
                }
            }
        }
    }
}
