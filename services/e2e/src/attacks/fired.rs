//! What an attack has really done. Counted by the attacker, so that a test can prove that it tested something.

use std::collections::BTreeMap;

/// What was fired, and what came back.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Fired {
    /// Frames, bytes, heads or requests, as the attack counts, that were handed to the socket.
    pub shots: u64,
    /// Bytes that were handed to the socket, as far as they are counted.
    pub bytes: u64,
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
        self.bytes += other.bytes;
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

impl std::fmt::Display for Fired {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} on {} connections: {}", self.shots, self.connections, self.came_back())
    }
}

impl Fired {
    /// What the server did about it, in words.
    pub fn came_back(&self) -> String {
        let mut parts = vec![format!("{} ended", self.ended)];
        if self.resets > 0 {
            parts.push(format!("{} resets", self.resets));
        }
        parts.extend(self.sent_away.iter().map(|(code, count)| format!("{count} × GOAWAY {code}")));
        let answers = self.statuses.iter().filter(|(status, count)| **status > 0 && **count > 0);
        parts.extend(answers.map(|(status, count)| format!("{count} × {status}")));
        parts.join(", ")
    }
}
