//! Looks at what a client has sent while the kernel still holds it.

use std::io;
use std::mem::MaybeUninit;

use rustix::net::{RecvFlags, recv};
use tokio::io::Interest;
use tokio::net::TcpStream;

/// How far one can look: further than the first record of any TLS client that is known, and than most heads.
pub(super) const LOOK_BYTES_MAX: usize = 4 << 10;

/// Waits until there is enough to be read, or as much as one can see, or all that will come; how much that is.
pub(super) async fn until(tcp: &TcpStream, is_enough: impl Fn(&[u8]) -> bool) -> io::Result<usize> {
    loop {
        let ended = tcp.ready(Interest::READABLE).await?.is_read_closed();
        // Inside of `try_io`, which waits for what comes after this look if it was not enough.
        let looked = tcp.try_io(Interest::READABLE, || {
            let mut room = [MaybeUninit::uninit(); LOOK_BYTES_MAX];
            let ((there, unused), _) = recv(tcp, &mut room[..], RecvFlags::PEEK)?;
            let is_all = ended || there.is_empty() || unused.is_empty();
            if is_all || is_enough(there) { Ok(there.len()) } else { Err(io::ErrorKind::WouldBlock.into()) }
        });
        match looked {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            looked => return looked,
        }
    }
}
