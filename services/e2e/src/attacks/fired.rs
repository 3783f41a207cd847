//! What an attack has really done. Counted by the attacker, so that a test can prove that it tested something.

use std::collections::BTreeMap;

/// What was fired, and what came back.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Fired {
    /// Frames, bytes, heads or requests, as the attack counts, that were handed to the socket.
    pub shots: u64,
    /// Connections that were used for it.
    pub connections: u64,
    /// Connections that the server ended.
    pub ended: u64,
    /// HTTP/2 streams that the server reset.
    pub resets: u64,
    /// Connections that the server sent away, by the code of its GOAWAY.
    pub sent_away: BTreeMap<u32, u64>,
    /// HTTP/1 answers by status; 0 is an end without an answer.
    pub statuses: BTreeMap<u16, u64>,
}

impl Fired {
    /// Adds what another attacker has done.
    pub fn add(&mut self, other: &Fired) {
        self.shots += other.shots;
        self.connections += other.connections;
        self.ended += other.ended;
        self.resets += other.resets;
        for (code, count) in &other.sent_away {
            *self.sent_away.entry(*code).or_default() += count;
        }
        for (status, count) in &other.statuses {
            *self.statuses.entry(*status).or_default() += count;
        }
    }

    pub(super) fn status(&mut self, status: u16) {
        *self.statuses.entry(status).or_default() += 1;
    }
}
