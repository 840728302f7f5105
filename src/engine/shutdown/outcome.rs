//! How a server ended: the values of the report, and whether every session is safe.

use super::{Timeline, Trigger};

/// How a server ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Who asked first.
    pub trigger: Option<Trigger>,
    /// Signals that came within 500 ms of another one, and counted as one with it.
    pub repeats: u32,
    /// WebSocket connections when the notice was due: at the request, or after the delay.
    pub connections: usize,
    /// Clients that were sent the notice.
    pub notified: usize,
    /// Connections when draining ended, less those with something left to read, to send or to save:
    /// the largest of these three numbers.
    pub drained: usize,
    /// Sessions that were open during the shutdown and are safe in the store.
    pub saved: usize,
    /// Sessions that went to the spill file.
    pub spilled: usize,
    /// Goodbyes that were sent.
    pub byes: usize,
    /// Messages that arrived after the goodbye.
    pub late: u64,
    /// Steps that were open at the cut: their messages are not counted.
    pub abandoned: usize,
    /// Pushes to the sessions that were open during the shutdown that no client has confirmed: they wait
    /// in the store.
    pub unconfirmed_pushes: usize,
    /// Peers that completed the closing handshake after our Close 1001.
    pub closed_1001: usize,
    /// Connections that were cut: their peer had not closed in time.
    pub cut: usize,
    /// Rows that wait in the spill file and are not from this shutdown; `None` if it does not tell.
    pub spill_rows_waiting: Option<u64>,
    /// Whether the file of the store, or the spill, is on the disk; `None` if nothing was written
    /// to a file.
    pub synced: Option<bool>,
    /// The disk has refused to take what was written, so that any of it may be lost.
    pub sync_failed: bool,
    /// Sessions whose count is neither in the store nor in the spill file, by name.
    pub unsaved: Vec<(String, u64)>,
    /// The file with all of them, if the report has no room for them.
    pub unsaved_file: Option<String>,
    /// What the store had confirmed is gone, with sessions that were closed before the shutdown:
    /// their names are not known.
    pub store_lost: bool,
    /// When each phase began.
    pub timeline: Timeline,
}

impl Outcome {
    /// Whether every session is safe: in the store or in the spill, and not refused by the disk.
    pub fn is_safe(&self) -> bool {
        self.unsaved.is_empty() && !self.sync_failed && !self.store_lost
    }
}
