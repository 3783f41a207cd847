//! Cuts a byte stream into complete Server-Sent-Events frames without changing a byte, and writes frames.
//!
//! The framer only looks for blank lines (LF, CRLF or lone CR), passes chunks on as slices, and copies only
//! what stands after the last border. What a frame carries is read from its bytes on demand, in `frame.rs`.
//! It holds no more than its bound and never looks at a byte twice. Follows the event-stream format of the
//! HTML standard; reconnection (`id`, `retry`) has no meaning on this wire.

mod frame;
mod kind;

use bytes::{BufMut, Bytes, BytesMut};
use memchr::memchr2;
use smallvec::SmallVec;

pub use self::frame::Frame;
pub use self::kind::Kind;

#[cfg(test)]
mod tests;

/// Frame ends kept in a block without an allocation.
const ENDS_INLINE: usize = 8;

/// Why a stream cannot be framed. The upstream's fault.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// A frame has more bytes than the framer may hold.
    #[error("event frame larger than {limit} bytes")]
    FrameTooLarge {
        /// The bound.
        limit: usize,
    },
}

/// What one chunk completed: nothing, one block, or two when the first began in an earlier chunk.
pub type Blocks = SmallVec<[Block; 2]>;

/// One or more complete frames in contiguous memory, byte for byte as they came. Its
/// `Debug` form shows no content.
#[derive(Clone)]
pub struct Block {
    bytes: Bytes,
    /// The offset after each frame; the last is the block's length.
    ends: SmallVec<[usize; ENDS_INLINE]>,
    starts_stream: bool,
}

impl std::fmt::Debug for Block {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Block").field("bytes", &self.bytes.len()).field("frames", &self.ends.len()).finish()
    }
}

impl Block {
    /// All frames together.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// The same, by value.
    pub fn into_bytes(self) -> Bytes {
        self.bytes
    }

    /// The frames one by one, as slices of the block.
    pub fn frames(&self) -> impl Iterator<Item = Frame> + '_ {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        starts
            .zip(&self.ends)
            .map(|(start, end)| Frame::new(self.bytes.slice(start..*end), self.starts_stream && start == 0))
    }
}

/// Where the scan stands between two bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Line {
    /// Nothing of the current line has come.
    Start,
    /// The line has at least one byte.
    Inside,
    /// The line ended with CR; a following LF belongs to it.
    Cr,
    /// An empty line ended with CR in a stream whose lines end otherwise: a following LF belongs to it.
    BlankCr,
}

/// Finds frame borders across any cut of the stream into chunks.
pub struct Framer {
    carry: BytesMut,
    line: Line,
    frame_max_bytes: usize,
    started: bool,
}

impl std::fmt::Debug for Framer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Framer")
            .field("pending", &self.carry.len())
            .field("line", &self.line)
            .finish_non_exhaustive()
    }
}

impl Framer {
    /// A framer that refuses frames of more than `frame_max_bytes`.
    pub fn new(frame_max_bytes: usize) -> Framer {
        Framer { carry: BytesMut::new(), line: Line::Start, frame_max_bytes, started: false }
    }

    /// Takes the next chunk and returns the frames that it completes.
    ///
    /// After an error the stream is of no further use; frames that ended in the same chunk are lost with it.
    pub fn push(&mut self, chunk: Bytes) -> Result<Blocks, Error> {
        let mut blocks = Blocks::new();
        let mut from = 0;
        if !self.carry.is_empty() {
            let border = self.next_border(&chunk, 0);
            let head = border.unwrap_or(chunk.len());
            self.check_size(self.carry.len() + head)?;
            self.carry.extend_from_slice(chunk.get(..head).unwrap_or_default());
            if border.is_none() {
                return Ok(blocks);
            }
            let whole = self.carry.split().freeze();
            let ends = SmallVec::from_slice(&[whole.len()]);
            blocks.push(self.block(whole, ends));
            from = head;
        }
        let mut ends = SmallVec::new();
        let mut last = from;
        while let Some(border) = self.next_border(&chunk, last) {
            self.check_size(border - last)?;
            ends.push(border - from);
            last = border;
        }
        self.check_size(chunk.len() - last)?;
        if last > from {
            let block = self.block(chunk.slice(from..last), ends);
            blocks.push(block);
        }
        self.carry.extend_from_slice(chunk.get(last..).unwrap_or_default());
        Ok(blocks)
    }

    /// Ends the stream: what stands after the last border, which a reader of events must not take for one.
    pub fn finish(self) -> Option<Bytes> {
        (!self.carry.is_empty()).then(|| self.carry.freeze())
    }

    /// How many bytes wait for their border.
    pub fn pending(&self) -> usize {
        self.carry.len()
    }

    fn block(&mut self, bytes: Bytes, ends: SmallVec<[usize; ENDS_INLINE]>) -> Block {
        let starts_stream = !std::mem::replace(&mut self.started, true);
        Block { bytes, ends, starts_stream }
    }

    fn check_size(&self, size: usize) -> Result<(), Error> {
        let limit = self.frame_max_bytes;
        if size > limit { Err(Error::FrameTooLarge { limit }) } else { Ok(()) }
    }

    /// The offset after the next blank line, scanning `bytes` from `at`; none when all bytes are scanned.
    ///
    /// In a stream of lone CRs a frame is complete at its second CR; waiting for the next byte would hold
    /// back the last frame for ever. After any other line end an empty CR line waits for a possible LF.
    fn next_border(&mut self, bytes: &[u8], mut at: usize) -> Option<usize> {
        loop {
            match (self.line, bytes.get(at)?) {
                (Line::Inside, _) => {
                    let found = at + memchr2(b'\n', b'\r', bytes.get(at..)?)?;
                    self.line = if bytes.get(found) == Some(&b'\r') { Line::Cr } else { Line::Start };
                    at = found + 1;
                }
                (Line::Start | Line::BlankCr, b'\n') | (Line::Cr, b'\r') => {
                    self.line = Line::Start;
                    return Some(at + 1);
                }
                (Line::BlankCr, _) => {
                    self.line = Line::Start;
                    return Some(at);
                }
                (Line::Start, b'\r') => {
                    self.line = Line::BlankCr;
                    at += 1;
                }
                (Line::Cr, b'\n') => {
                    self.line = Line::Start;
                    at += 1;
                }
                (Line::Start | Line::Cr, _) => self.line = Line::Inside,
            }
        }
    }
}

/// Writes one frame. Data of several lines becomes several `data` fields, which a reader joins again with LF.
pub fn encode(event_type: &str, data: &[u8]) -> Bytes {
    debug_assert!(!event_type.contains(['\n', '\r']), "an event type is one line");
    let mut out = BytesMut::with_capacity(event_type.len() + data.len() + "event: \ndata: \n\n".len());
    out.put_slice(b"event: ");
    out.put_slice(event_type.as_bytes());
    out.put_u8(b'\n');
    put_data(&mut out, data);
    out.freeze()
}

/// Writes a JSON message, as a WebSocket carries it, as a frame; its top-level `type` becomes the event's. A
/// message without one, or with one that is no line of text, becomes a frame without `event`.
pub fn encode_message(data: &[u8]) -> Bytes {
    match kind::type_name(data) {
        Some(name) if !name.is_empty() && !name.contains(['\n', '\r', '\0']) => encode(&name, data),
        _ => {
            let mut out = BytesMut::with_capacity(data.len() + "data: \n\n".len());
            put_data(&mut out, data);
            out.freeze()
        }
    }
}

fn put_data(out: &mut BytesMut, data: &[u8]) {
    let mut rest = data;
    loop {
        out.put_slice(b"data: ");
        let Some(end) = memchr2(b'\n', b'\r', rest) else { break };
        let (line, tail) = rest.split_at(end);
        out.put_slice(line);
        out.put_u8(b'\n');
        rest = tail.strip_prefix(b"\r\n").or(tail.get(1..)).unwrap_or_default();
    }
    out.put_slice(rest);
    out.put_slice(b"\n\n");
}
