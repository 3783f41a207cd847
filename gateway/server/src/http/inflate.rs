//! Inflates request bodies as they arrive: zstd, which Codex sends with a ChatGPT login, and gzip.
//!
//! What comes out is bounded in bytes and in proportion to what came in, and what the decoder holds is bounded too, so
//! that a small body cannot become a large one.

use std::io::{self, Write as _};

use flate2::write::GzDecoder;
use http::{HeaderMap, header};
use zstd::stream::raw::{DParameter, Decoder, InBuffer, Operation as _, OutBuffer};

use crate::failure::CallError;

/// How many times larger than its compressed form a body may be. JSON with long runs of repetition stays far below.
const RATIO_MAX: usize = 256;
/// What any body may become, whatever its ratio.
const RATIO_FREE_BYTES: usize = 1024 * 1024;
/// The largest window of a zstd stream, 8 MiB, as RFC 9659 asks of senders.
const ZSTD_WINDOW_LOG_MAX: u32 = 23;
/// How much is inflated at a time.
const STEP_BYTES: usize = 64 * 1024;

/// How a body is encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Encoding {
    Zstd,
    Gzip,
}

impl Encoding {
    /// What the headers say; none for a body that is sent as it is.
    pub(super) fn of(headers: &HeaderMap) -> Result<Option<Encoding>, CallError> {
        let mut encodings = headers.get_all(header::CONTENT_ENCODING).iter();
        let Some(value) = encodings.next() else { return Ok(None) };
        let name = String::from_utf8_lossy(value.as_bytes()).trim().to_ascii_lowercase();
        match (name.as_str(), encodings.next()) {
            ("" | "identity", None) => Ok(None),
            ("zstd", None) => Ok(Some(Encoding::Zstd)),
            ("gzip" | "x-gzip", None) => Ok(Some(Encoding::Gzip)),
            // Encodings on top of each other have no honest use here.
            (_, more) => {
                let encoding = if more.is_some() { format!("{name}, ...") } else { name };
                Err(CallError::BodyEncoded { encoding })
            }
        }
    }
}

/// A body that is being inflated.
pub(super) struct Inflater {
    decoder: Kind,
    received: usize,
}

enum Kind {
    Zstd { decoder: Decoder<'static>, out: Sink, complete: bool },
    Gzip(GzDecoder<Sink>),
}

impl Inflater {
    /// An inflater whose result has at most `limit` bytes.
    pub(super) fn new(encoding: Encoding, limit: usize) -> Result<Inflater, CallError> {
        let out = Sink { bytes: Vec::new(), allowed: 0, limit };
        let decoder = match encoding {
            Encoding::Gzip => Kind::Gzip(GzDecoder::new(out)),
            Encoding::Zstd => {
                let mut decoder = Decoder::new().map_err(|_| ZSTD_CORRUPT)?;
                decoder
                    .set_parameter(DParameter::WindowLogMax(ZSTD_WINDOW_LOG_MAX))
                    .map_err(|_| ZSTD_CORRUPT)?;
                Kind::Zstd { decoder, out, complete: false }
            }
        };
        Ok(Inflater { decoder, received: 0 })
    }

    /// Takes the next part.
    pub(super) fn push(&mut self, chunk: &[u8]) -> Result<(), CallError> {
        self.received = self.received.saturating_add(chunk.len());
        let allowed = self.received.saturating_mul(RATIO_MAX).max(RATIO_FREE_BYTES);
        match &mut self.decoder {
            Kind::Gzip(decoder) => {
                decoder.get_mut().allowed = allowed;
                let written = decoder.write_all(chunk);
                written.map_err(|error| decoder.get_ref().blame(&error, "gzip"))
            }
            Kind::Zstd { decoder, out, complete } => {
                out.allowed = allowed;
                *complete = inflate(decoder, chunk, out, *complete)?;
                Ok(())
            }
        }
    }

    /// How many bytes are there so far.
    pub(super) fn held(&self) -> usize {
        match &self.decoder {
            Kind::Zstd { out, .. } => out.bytes.capacity(),
            Kind::Gzip(decoder) => decoder.get_ref().bytes.capacity(),
        }
    }

    /// The whole body, if it was whole.
    pub(super) fn finish(self) -> Result<Vec<u8>, CallError> {
        match self.decoder {
            Kind::Zstd { complete: false, .. } => Err(ZSTD_CORRUPT),
            Kind::Zstd { out, .. } => Ok(out.bytes),
            Kind::Gzip(mut decoder) => {
                let ended = decoder.try_finish();
                ended.map_err(|error| decoder.get_ref().blame(&error, "gzip"))?;
                let out = decoder.finish().map_err(|_| CallError::BodyCorrupt { encoding: "gzip" })?;
                Ok(out.bytes)
            }
        }
    }
}

const ZSTD_CORRUPT: CallError = CallError::BodyCorrupt { encoding: "zstd" };

/// Inflates a chunk; tells whether the stream is complete after it.
fn inflate(
    decoder: &mut Decoder<'static>,
    chunk: &[u8],
    out: &mut Sink,
    mut complete: bool,
) -> Result<bool, CallError> {
    let mut step = vec![0; STEP_BYTES];
    let mut input = InBuffer::around(chunk);
    loop {
        let mut output = OutBuffer::around(step.as_mut_slice());
        let hint = decoder.run(&mut input, &mut output).map_err(|_| ZSTD_CORRUPT)?;
        let produced = output.pos();
        out.write_all(step.get(..produced).unwrap_or_default()).map_err(|error| out.blame(&error, "zstd"))?;
        let drained = produced < STEP_BYTES;
        if produced > 0 || input.pos() > 0 {
            complete = hint == 0;
        }
        if input.pos() == chunk.len() && drained {
            return Ok(complete);
        }
    }
}

/// What was inflated so far, which refuses to grow beyond its bounds.
struct Sink {
    bytes: Vec<u8>,
    /// What may be there in proportion to what has come.
    allowed: usize,
    limit: usize,
}

impl Sink {
    /// Why writing failed: for its size, or for its content.
    fn blame(&self, error: &io::Error, encoding: &'static str) -> CallError {
        match error.kind() {
            io::ErrorKind::FileTooLarge => CallError::BodyTooLarge { limit: self.limit },
            io::ErrorKind::QuotaExceeded => CallError::BodyBomb { ratio: RATIO_MAX },
            _ => CallError::BodyCorrupt { encoding },
        }
    }
}

impl io::Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let length = self.bytes.len().saturating_add(bytes.len());
        if length > self.limit {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        if length > self.allowed {
            return Err(io::ErrorKind::QuotaExceeded.into());
        }
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use flate2::{Compression, write::GzEncoder};

    use super::*;

    fn gzip(body: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(body).unwrap();
        encoder.finish().unwrap()
    }

    fn zstd(body: &[u8]) -> Vec<u8> {
        ::zstd::bulk::compress(body, 3).unwrap()
    }

    fn through(encoding: Encoding, sent: &[u8], cut: usize, limit: usize) -> Result<Vec<u8>, CallError> {
        let mut inflater = Inflater::new(encoding, limit)?;
        for chunk in sent.chunks(cut) {
            inflater.push(chunk)?;
        }
        inflater.finish()
    }

    fn body() -> Vec<u8> {
        (0..40_000_u32)
            .flat_map(|n| format!("{{\"n\":{}}}", n.wrapping_mul(2_654_435_761)).into_bytes())
            .collect()
    }

    #[test]
    fn a_body_is_the_same_however_it_was_cut() {
        let body = body();
        for cut in [1, 7, 1000, 1 << 20] {
            assert_eq!(through(Encoding::Zstd, &zstd(&body), cut, body.len()).unwrap(), body);
            assert_eq!(through(Encoding::Gzip, &gzip(&body), cut, body.len()).unwrap(), body);
        }
        // Two frames behind each other are one body.
        let twice = [zstd(b"ab"), zstd(b"cd")].concat();
        assert_eq!(through(Encoding::Zstd, &twice, 3, 10).unwrap(), b"abcd"[..]);
    }

    #[test]
    fn a_body_that_is_cut_or_spoilt_is_refused() {
        let body = body();
        for (encoding, sent) in [(Encoding::Zstd, zstd(&body)), (Encoding::Gzip, gzip(&body))] {
            for keep in [0, 1, 5, sent.len() / 2, sent.len() - 1] {
                let result = through(encoding, &sent[..keep], 100, body.len());
                assert!(matches!(result, Err(CallError::BodyCorrupt { .. })), "{encoding:?} {keep}");
            }
            let result = through(encoding, b"{\"model\":1}", 100, body.len());
            assert!(matches!(result, Err(CallError::BodyCorrupt { .. })), "{encoding:?}");
        }
    }

    #[test]
    fn a_bomb_is_refused_by_size_and_by_ratio() {
        let zeros = vec![b' '; 8 << 20];
        for (encoding, sent) in [(Encoding::Zstd, zstd(&zeros)), (Encoding::Gzip, gzip(&zeros))] {
            let result = through(encoding, &sent, 4096, 1 << 20);
            assert!(matches!(result, Err(CallError::BodyTooLarge { .. } | CallError::BodyBomb { .. })));
            let result = through(encoding, &sent, 4096, 64 << 20);
            assert!(matches!(result, Err(CallError::BodyBomb { .. })), "{encoding:?} {result:?}");
        }
    }
}
