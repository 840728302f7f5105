//! How long a WebSocket peer has been silent, in checks: `IDLE_CHECKS` of them lie in an idle
//! timeout.

/// The checks in a row that have found a peer silent.
#[derive(Debug, Default)]
pub(super) struct Silence(u8);

/// What is to be done about a silent peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Nothing yet.
    Wait,
    /// It is to be pinged.
    Ping,
    /// It has been silent for the idle timeout.
    Close,
}

/// Checks in an idle timeout.
pub(super) const IDLE_CHECKS: u8 = 8;

/// A peer that was just upgraded has been silent for no time. After one that was heard, the first
/// check does not count: it ends a time in which the peer was not silent throughout.
const SILENT_FROM: u8 = 1;

/// A peer that has been silent for two checks is pinged: by the default idle timeout after 30 to
/// 45 s, since proxies cut what has been silent for a minute.
const PING_AT: u8 = SILENT_FROM + 2;

const CLOSE_AT: u8 = SILENT_FROM + IDLE_CHECKS;

impl Silence {
    /// The checks begin now.
    pub(super) fn begin(&mut self) {
        self.0 = SILENT_FROM;
    }

    /// The peer was heard.
    pub(super) fn end(&mut self) {
        self.0 = 0;
    }

    /// One more check. The silence of a peer that is not read from says nothing: it is never
    /// closed, and pinged again and again, for the proxies on the way.
    pub(super) fn check(&mut self, is_read_from: bool) -> Verdict {
        self.0 += 1;
        if !is_read_from && self.0 >= PING_AT {
            self.begin();
            return Verdict::Ping;
        }
        match self.0 {
            PING_AT => Verdict::Ping,
            CLOSE_AT => Verdict::Close,
            _ => Verdict::Wait,
        }
    }
}
