//! What operators can count: the server's numbers, in Prometheus' text format.
//!
//! It owns counters that only grow; gauges are read where they live at the moment of the scrape.

use std::fmt::Write as _;

/// Counters since the start.
#[derive(Debug, Default)]
pub(crate) struct Metrics {
    /// Connections accepted on the listener for clients.
    pub(crate) accepted: u64,
    /// Handshakes answered 101.
    pub(crate) upgraded: u64,
    /// Requests answered otherwise.
    pub(crate) answered: u64,
    /// Data messages received.
    pub(crate) messages_received: u64,
    /// Data messages queued to be sent.
    pub(crate) messages_sent: u64,
    /// Turns of the loop.
    pub(crate) turns: u64,
}

/// Levels at the moment of the scrape.
#[derive(Debug)]
pub(crate) struct Gauges {
    /// WebSocket connections.
    pub(crate) connections: usize,
    /// Sockets of every kind.
    pub(crate) sockets: usize,
    /// Sessions that the store has not confirmed.
    pub(crate) unsaved: usize,
    /// Connections closed so far because their peer read too slowly.
    pub(crate) slow_readers: u64,
    /// Readiness.
    pub(crate) ready: bool,
}

impl Metrics {
    /// The page.
    pub(crate) fn render(&self, gauges: &Gauges) -> String {
        let counters = [
            (
                "accepted_connections_total",
                "Connections accepted.",
                self.accepted,
            ),
            ("upgrades_total", "Handshakes answered 101.", self.upgraded),
            (
                "answers_total",
                "Requests answered with another status.",
                self.answered,
            ),
            (
                "messages_received_total",
                "Data messages received.",
                self.messages_received,
            ),
            (
                "messages_sent_total",
                "Data messages queued.",
                self.messages_sent,
            ),
            (
                "slow_readers_total",
                "Connections closed for reading slowly.",
                gauges.slow_readers,
            ),
            ("loop_turns_total", "Turns of the event loop.", self.turns),
        ];
        let gauges = [
            (
                "connections",
                "WebSocket connections.",
                gauges.connections as u64,
            ),
            (
                "sockets",
                "Open sockets of every kind.",
                gauges.sockets as u64,
            ),
            (
                "unsaved_sessions",
                "Sessions not confirmed by the store.",
                gauges.unsaved as u64,
            ),
            (
                "ready",
                "1 while readiness is 200.",
                u64::from(gauges.ready),
            ),
        ];
        let mut page = String::new();
        for (kind, samples) in [
            ("counter", counters.as_slice()),
            ("gauge", gauges.as_slice()),
        ] {
            for (name, help, value) in samples {
                let written = write!(
                    page,
                    "# HELP sundown_{name} {help}\n# TYPE sundown_{name} {kind}\n\
                     sundown_{name} {value}\n"
                );
                debug_assert!(written.is_ok(), "a String takes everything");
            }
        }
        page
    }
}
