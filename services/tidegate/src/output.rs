//! Standard output, which belongs to answers; everything else goes to standard error.

use std::io::{self, Write as _};

/// Writes and flushes, so that a streamed answer appears as it comes.
pub(crate) fn write(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}

/// Tells a person something that is not part of the answer.
#[expect(clippy::print_stderr, reason = "the one place where the desk talks to a person besides its answers")]
pub(crate) fn note(text: &str) {
    eprintln!("{text}");
}
