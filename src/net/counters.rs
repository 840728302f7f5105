//! What the sockets have carried so far, and how connections have ended: numbers that only grow.
//!
//! No peer can make it larger: what a peer chooses is counted under one of few names.

use std::collections::BTreeMap;

use super::connection::Entrance;
use crate::engine::io::CloseReason;

/// Everything since the start.
#[derive(Debug)]
pub(crate) struct Counters {
    /// Bytes that the kernel has given.
    pub(crate) received_bytes: u64,
    /// Bytes that the kernel has taken.
    pub(crate) sent_bytes: u64,
    /// Requests of clients that were answered before they were whole, by status.
    pub(crate) early_answers: BTreeMap<u16, u64>,
    /// The same of operators.
    pub(crate) early_admin_answers: BTreeMap<u16, u64>,
    closes: BTreeMap<(u16, &'static str), u64>,
}

/// RFC 6455, section 7.1.5: what stands for a connection that ended without a Close.
const ABNORMAL: u16 = 1006;
/// The same for a Close without a code.
pub(super) const NO_STATUS: u16 = 1005;

/// Codes of an application, and their texts, that are counted by themselves.
const CLOSES_MAX: usize = 64;

/// How connections end with this server. They are there from the start: a rate can be made of what
/// has once been 0.
const USUAL: [(u16, &str); 9] = [
    (1000, "by peer"),
    (1001, "idle timeout"),
    (1001, "server shutdown"),
    (1002, "protocol error"),
    (1006, "lost"),
    (1007, "invalid UTF-8"),
    (1008, "reader too slow"),
    (1009, "message too big"),
    (4001, "session taken over"),
];

impl Default for Counters {
    fn default() -> Self {
        Self {
            received_bytes: 0,
            sent_bytes: 0,
            early_answers: BTreeMap::new(),
            early_admin_answers: BTreeMap::new(),
            closes: USUAL.map(|end| (end, 0)).into(),
        }
    }
}

impl Counters {
    /// The kernel has given so many bytes.
    pub(super) fn received(&mut self, bytes: usize) {
        self.received_bytes += bytes as u64;
    }

    /// The kernel has taken so many bytes.
    pub(super) fn sent(&mut self, bytes: usize) {
        self.sent_bytes += bytes as u64;
    }

    /// A request was answered before it was whole.
    pub(super) fn answered(&mut self, entrance: Entrance, status: u16) {
        let answers = match entrance {
            Entrance::Public => &mut self.early_answers,
            Entrance::Admin => &mut self.early_admin_answers,
        };
        *answers.entry(status).or_default() += 1;
    }

    /// We have closed first.
    pub(super) fn closed(&mut self, reason: &CloseReason) {
        let name = match reason {
            CloseReason::Shutdown { .. } => "server shutdown",
            CloseReason::Idle => "idle timeout",
            CloseReason::ProtocolError | CloseReason::InvalidMessage(_) => "protocol error",
            CloseReason::InvalidUtf8 => "invalid UTF-8",
            CloseReason::TooSlow => "reader too slow",
            CloseReason::TooBig => "message too big",
            CloseReason::TakenOver => "session taken over",
            CloseReason::Failed { .. } => "application failed",
            CloseReason::Refused | CloseReason::Application { .. } => "by application",
        };
        self.count(reason.code(), name);
    }

    /// The peer has closed first, with this code. What is not in RFC 6455 or IANA's registry it may
    /// have made up.
    pub(crate) fn closed_by_peer(&mut self, code: Option<u16>) {
        let code = match code {
            Some(code @ (1000..=1003 | 1007..=1014)) => code,
            Some(3000..=3999) => 3000,
            Some(4000..=4999) => 4000,
            Some(_) | None => NO_STATUS,
        };
        self.count(code, "by peer");
    }

    /// The connection is gone, and neither side has sent a Close.
    pub(super) fn lost(&mut self) {
        self.count(ABNORMAL, "lost");
    }

    /// By code and reason.
    pub(crate) fn closes(&self) -> &BTreeMap<(u16, &'static str), u64> {
        &self.closes
    }

    fn count(&mut self, code: u16, reason: &'static str) {
        let is_known = self.closes.contains_key(&(code, reason));
        let key = if is_known || self.closes.len() < CLOSES_MAX {
            (code, reason)
        } else {
            (0, "other")
        };
        *self.closes.entry(key).or_default() += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn closes_are_counted_by_code_and_reason() {
        let mut counters = Counters::default();
        for retry in [1, 2] {
            counters.closed(&CloseReason::Shutdown {
                retry_after_ms: retry,
            });
        }
        counters.closed(&CloseReason::Idle);
        counters.closed(&CloseReason::of(4000, "mine"));
        counters.closed_by_peer(Some(1000));
        counters.closed_by_peer(None);
        counters.lost();
        let closes = counters.closes().iter();
        let closes: Vec<_> = closes
            .map(|(&(code, reason), &count)| (code, reason, count))
            .filter(|(.., count)| *count > 0)
            .collect();
        let expected = [
            (1000, "by peer", 1),
            (1001, "idle timeout", 1),
            (1001, "server shutdown", 2),
            (1005, "by peer", 1),
            (1006, "lost", 1),
            (4000, "by application", 1),
        ];
        assert_eq!(closes, expected);
    }

    #[test]
    fn neither_peer_nor_application_makes_it_grow() {
        let mut counters = Counters::default();
        for code in 0..=u16::MAX {
            counters.closed_by_peer(Some(code));
            counters.closed(&CloseReason::of(code, "mine"));
        }
        assert!(counters.closes().len() <= CLOSES_MAX + 1);
        let all: u64 = counters.closes().values().sum();
        assert_eq!(all, 2 << 16);
    }
}
