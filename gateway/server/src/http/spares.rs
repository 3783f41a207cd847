//! Memory of large bodies, kept for the next ones: fresh memory costs a page fault for each 4 KiB of it, which is a good part
//! of what a large body costs in all.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;

/// How many buffers are kept.
const SPARES_MAX: usize = 8;
/// The smallest that is kept: below, the allocator's own memory is warm.
const SPARE_BYTES_MIN: usize = 128 << 10;
/// The largest that is kept. With the number above it says what all may hold: 16 MiB.
const SPARE_BYTES_MAX: usize = 2 << 20;

/// Buffers that wait for a body.
#[derive(Debug, Clone, Default)]
pub(crate) struct Spares(Arc<Mutex<Vec<Vec<u8>>>>);

/// A whole body in a buffer that comes back when nobody reads it any more.
struct Lent {
    bytes: Vec<u8>,
    spares: Spares,
}

impl Spares {
    /// An empty buffer for a body of about this size.
    pub(super) fn take(&self, bytes: usize) -> Vec<u8> {
        let fitting = |spares: &mut Vec<Vec<u8>>| {
            let place = spares.iter().position(|spare| spare.capacity() >= bytes)?;
            Some(spares.swap_remove(place))
        };
        let spare = (bytes >= SPARE_BYTES_MIN).then(|| fitting(&mut self.lock())).flatten();
        spare.unwrap_or_else(|| Vec::with_capacity(bytes))
    }

    /// The bytes of a buffer, which comes back afterwards.
    pub(super) fn lend(&self, bytes: Vec<u8>) -> Bytes {
        match bytes.capacity() {
            SPARE_BYTES_MIN..=SPARE_BYTES_MAX => Bytes::from_owner(Lent { bytes, spares: self.clone() }),
            _ => bytes.into(),
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Vec<u8>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl AsRef<[u8]> for Lent {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        let mut spares = self.spares.lock();
        if spares.len() < SPARES_MAX {
            let mut bytes = std::mem::take(&mut self.bytes);
            bytes.clear();
            spares.push(bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(spares: &Spares, length: usize, byte: u8) -> Bytes {
        let mut buffer = spares.take(length);
        assert!(buffer.is_empty() && buffer.capacity() >= length);
        buffer.resize(length, byte);
        spares.lend(buffer)
    }

    #[test]
    fn a_buffer_comes_back_once_nobody_reads_it() {
        let spares = Spares::default();
        let first = body(&spares, SPARE_BYTES_MIN, 1);
        let part = first.slice(10..20);
        drop(first);
        assert_eq!(spares.lock().len(), 0, "a part of it is still read");
        assert_eq!(part, [1; 10].as_slice());
        let place = part.as_ptr().wrapping_sub(10);
        drop(part);
        let second = body(&spares, SPARE_BYTES_MIN, 2);
        assert_eq!((second.as_ptr(), spares.lock().len()), (place, 0));
        assert!(second.iter().all(|byte| *byte == 2));
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let spares = Spares::default();
        let many: Vec<_> = (0..SPARES_MAX + 3).map(|_| body(&spares, SPARE_BYTES_MAX, 0)).collect();
        let others = [body(&spares, SPARE_BYTES_MAX + 1, 0), body(&spares, SPARE_BYTES_MIN - 1, 0)];
        drop((many, others));
        let kept = spares.lock();
        assert_eq!(kept.len(), SPARES_MAX);
        assert!(kept.iter().all(|spare| spare.capacity() == SPARE_BYTES_MAX));
    }
}
