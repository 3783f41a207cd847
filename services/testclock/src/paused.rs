//! A paused clock that waits for the kernel.

use std::future::Future;
use std::io;
use std::time::Duration;

/// How long the kernel has to deliver what was written before time moves on.
const DELIVERY: Duration = Duration::from_millis(5);

/// Runs a test whose clock stands still and leaps to the next timer once nothing is left to do.
///
/// `#[tokio::test(start_paused = true)]` leaps as soon as every task waits, also when the bytes that they wait for
/// are still on their way through the kernel; a limit of minutes then passes before an answer that has been
/// written. So whatever crosses a socket is tested here, where each leap is preceded by a moment of real time.
///
/// # Errors
/// When the runtime cannot be built.
pub fn paused<F: Future>(test: F) -> io::Result<F::Output> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .on_thread_park(|| std::thread::sleep(DELIVERY))
        .build()?;
    Ok(runtime.block_on(test))
}
