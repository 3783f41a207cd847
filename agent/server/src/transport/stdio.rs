//! One JSON object a line, over a pair of byte streams.
//!
//! A line over the bound is read to its end and dropped, not kept: there is no telling whose it was.

use std::io;

use tokio::io::{AsyncBufRead, AsyncBufReadExt as _, AsyncWrite, AsyncWriteExt as _};

use super::{FRAME_BYTES_MAX, Goodbye, Inbound, Sink, Source};

/// Reads lines.
pub(crate) struct Lines<R> {
    reader: R,
    line: Vec<u8>,
    /// Whether the line has outgrown the bound and only its end is looked for.
    over: bool,
}

impl<R> Lines<R> {
    pub(crate) fn new(reader: R) -> Self {
        Self { reader, line: Vec::new(), over: false }
    }
}

impl<R: AsyncBufRead + Unpin + Send> Source for Lines<R> {
    type Text = String;

    const ANSWERS_PINGS: bool = false;

    async fn next(&mut self) -> io::Result<Option<Inbound<String>>> {
        loop {
            let piece = self.reader.fill_buf().await?;
            if piece.is_empty() {
                // The rest without a line's end is what a broken pipe left.
                return Ok(None);
            }
            let end = piece.iter().position(|byte| *byte == b'\n');
            let (taken, used) = match end {
                Some(at) => (piece.get(..at).unwrap_or_default(), at + 1),
                None => (piece, piece.len()),
            };
            if self.line.len() + taken.len() > FRAME_BYTES_MAX {
                self.over = true;
                self.line = Vec::new();
            }
            if !self.over {
                self.line.extend_from_slice(taken);
            }
            self.reader.consume(used);
            if end.is_none() {
                continue;
            }
            if std::mem::take(&mut self.over) {
                return Ok(Some(Inbound::Noise));
            }
            return Ok(Some(match String::from_utf8(std::mem::take(&mut self.line)) {
                Ok(text) => Inbound::Text(text),
                Err(_) => Inbound::Noise,
            }));
        }
    }
}

/// Writes lines.
pub(crate) struct LineWriter<W> {
    writer: W,
    buffer: Vec<u8>,
}

impl<W> LineWriter<W> {
    pub(crate) fn new(writer: W) -> Self {
        Self { writer, buffer: Vec::new() }
    }
}

impl<W: AsyncWrite + Unpin + Send> Sink for LineWriter<W> {
    async fn send(&mut self, messages: &mut Vec<String>) -> io::Result<()> {
        self.buffer.clear();
        for message in messages.drain(..) {
            self.buffer.extend_from_slice(message.as_bytes());
            self.buffer.push(b'\n');
        }
        self.writer.write_all(&self.buffer).await?;
        self.writer.flush().await
    }

    async fn ping(&mut self) -> io::Result<()> {
        Ok(())
    }

    async fn close(&mut self, _: Goodbye) {
        // The other end of a pipe sees its end; there is nobody to tell about a failure.
        let _ = self.writer.shutdown().await;
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::BufReader;

    use super::{FRAME_BYTES_MAX, Inbound, Lines, Source as _};

    async fn all(bytes: &[u8]) -> Vec<Inbound<String>> {
        let mut lines = Lines::new(BufReader::with_capacity(7, bytes));
        let mut seen = Vec::new();
        while let Some(line) = lines.next().await.unwrap() {
            seen.push(line);
        }
        seen
    }

    #[tokio::test]
    async fn lines_come_whole_and_what_is_no_text_is_noise() {
        let seen = all(b"{\"id\":1}\r\n\n\xff\xfe\nlast line\nrest without an end").await;
        let texts = [
            Inbound::Text("{\"id\":1}\r".to_owned()),
            Inbound::Text(String::new()),
            Inbound::Noise,
            Inbound::Text("last line".to_owned()),
        ];
        assert_eq!(seen, texts);
    }

    #[tokio::test]
    async fn a_line_over_the_bound_is_dropped_and_the_next_is_read() {
        let mut bytes = vec![b'x'; FRAME_BYTES_MAX + 1];
        bytes.extend_from_slice(b"\nnext\n");
        assert_eq!(all(&bytes).await, [Inbound::Noise, Inbound::Text("next".to_owned())]);
        let mut bytes = vec![b'x'; FRAME_BYTES_MAX];
        bytes.push(b'\n');
        assert!(
            matches!(all(&bytes).await.as_slice(), [Inbound::Text(text)] if text.len() == FRAME_BYTES_MAX)
        );
    }
}
