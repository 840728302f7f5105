//! What operators can count: the server's numbers, in Prometheus' text format.
//!
//! It owns counters and histograms that only grow; gauges are read where they live at the moment of
//! the scrape. On the way of a message there is nothing but the addition to a number: what the
//! library needs is made from those numbers when somebody asks.

mod broadcasts;
mod families;
mod process;
mod stopwatch;
mod store;

use std::collections::BTreeMap;
use std::time::Duration;

use broadcasts::Broadcasts;
use families::{Families, Seconds};
use store::Store;
pub(crate) use store::StoreState;

/// Everything since the start.
#[derive(Debug)]
pub(crate) struct Metrics {
    accepted: u64,
    messages_received: u64,
    messages_sent: u64,
    /// Answers that are no 101, by listener and status.
    answers: BTreeMap<(&'static str, u16), u64>,
    /// Handshakes that have come to an answer, by status.
    handshakes: BTreeMap<u16, u64>,
    turns: Seconds,
    store: Store,
    broadcasts: Broadcasts,
}

/// Levels at the moment of the scrape, and what others count.
#[derive(Debug)]
pub(crate) struct Levels<'a> {
    /// WebSocket connections.
    pub(crate) connections: usize,
    /// Sockets of every kind.
    pub(crate) sockets: usize,
    /// Sessions that are open on this node.
    pub(crate) sessions: usize,
    /// Sessions that neither the store nor the spill has confirmed.
    pub(crate) unsaved_sessions: usize,
    /// Replies that wait for a save.
    pub(crate) waiting_replies: usize,
    /// Steps that an application has deferred.
    pub(crate) open_steps: usize,
    /// Connections with input to process.
    pub(crate) ready_connections: usize,
    /// Bytes that the kernel has not taken.
    pub(crate) outbound_bytes: usize,
    /// Bytes that peers make the process hold, by kind.
    pub(crate) held: &'a [(&'static str, usize)],
    /// Bytes that the kernel has given, on all sockets.
    pub(crate) received_bytes: u64,
    /// Bytes that it has taken.
    pub(crate) sent_bytes: u64,
    /// Requests that were answered before they were whole, by status.
    pub(crate) early_answers: &'a BTreeMap<u16, u64>,
    /// The same of operators.
    pub(crate) early_admin_answers: &'a BTreeMap<u16, u64>,
    /// Whether broadcasts reach other nodes.
    pub(crate) is_linked: bool,
    /// Ends of WebSocket connections, by code and reason.
    pub(crate) closes: &'a BTreeMap<(u16, &'static str), u64>,
    /// Readiness.
    pub(crate) ready: bool,
    /// The names of all phases.
    pub(crate) phases: &'a [&'static str],
    /// The phase.
    pub(crate) phase: &'static str,
    /// How long each has lasted.
    pub(crate) lasted: &'a [(&'static str, Duration)],
}

/// From a turn with nothing to do to one that everybody notices.
const TURN_BOUNDS: [f64; 14] = [
    10e-6, 25e-6, 50e-6, 100e-6, 250e-6, 500e-6, 1e-3, 2.5e-3, 5e-3, 10e-3, 25e-3, 100e-3, 250e-3,
    1.0,
];

/// From a row in memory to the time after which a store is given up.
const STORE_BOUNDS: [f64; 13] = [
    25e-6, 100e-6, 250e-6, 500e-6, 1e-3, 2.5e-3, 5e-3, 10e-3, 50e-3, 250e-3, 1.0, 5.0, 15.0,
];

impl Default for Metrics {
    fn default() -> Self {
        Self {
            accepted: 0,
            messages_received: 0,
            messages_sent: 0,
            answers: BTreeMap::new(),
            handshakes: BTreeMap::new(),
            turns: Seconds::new(
                "sundown_loop_turn_duration_seconds",
                "Turns of the event loop, from the end of the wait.",
                &TURN_BOUNDS,
            ),
            store: Store::default(),
            broadcasts: Broadcasts::default(),
        }
    }
}

impl Metrics {
    /// A client's connection was accepted.
    pub(crate) fn accepted(&mut self) {
        self.accepted += 1;
    }

    /// A data message was received.
    pub(crate) fn message_received(&mut self) {
        self.messages_received += 1;
    }

    /// A data message was queued to be sent.
    pub(crate) fn message_sent(&mut self) {
        self.messages_sent += 1;
    }

    /// Counts what happens to the store.
    pub(crate) fn store(&mut self) -> &mut Store {
        &mut self.store
    }

    /// Counts what happens to broadcasts.
    pub(crate) fn broadcasts(&mut self) -> &mut Broadcasts {
        &mut self.broadcasts
    }

    /// A request has got an answer, or a handshake its 101.
    pub(crate) fn answered(&mut self, listener: &'static str, status: u16, is_handshake: bool) {
        if is_handshake {
            *self.handshakes.entry(status).or_default() += 1;
        } else {
            *self.answers.entry((listener, status)).or_default() += 1;
        }
    }

    /// A turn of the loop is over.
    pub(crate) fn turned(&self, lasted: Duration) {
        self.turns.observe(lasted);
    }

    /// The page, and its media type.
    pub(crate) fn page(&self, levels: &Levels<'_>) -> (String, &'static str) {
        let families = Families::default();
        families.gauges(
            "sundown_build_info",
            "1, with the version of this server.",
            ["version"],
            [([env!("CARGO_PKG_VERSION")], 1.0)],
        );
        self.append_network(&families, levels);
        self.store.append(&families, levels);
        self.broadcasts.append(&families, levels.is_linked);
        families.seconds(&self.turns);
        append_shutdown(&families, levels);
        process::append(&families);
        (families.page(), families::MEDIA_TYPE)
    }

    fn append_network(&self, families: &Families, levels: &Levels<'_>) {
        let counters = [
            (
                "sundown_accepted_connections_total",
                "Connections accepted on the listener for clients.",
                self.accepted,
            ),
            (
                "sundown_messages_received_total",
                "Data messages received.",
                self.messages_received,
            ),
            (
                "sundown_messages_sent_total",
                "Data messages queued to be sent.",
                self.messages_sent,
            ),
            (
                "sundown_received_bytes_total",
                "Bytes read from all sockets.",
                levels.received_bytes,
            ),
            (
                "sundown_sent_bytes_total",
                "Bytes that the kernel has taken from all sockets.",
                levels.sent_bytes,
            ),
        ];
        for (name, help, value) in counters {
            families.counter(name, help, value);
        }
        let gauges = [
            (
                "sundown_connections",
                "WebSocket connections.",
                levels.connections,
            ),
            (
                "sundown_sockets",
                "Sockets of every kind: clients, handshakes, HTTP, lingering ones.",
                levels.sockets,
            ),
            (
                "sundown_ready_connections",
                "Connections with input that waits for its turn.",
                levels.ready_connections,
            ),
            (
                "sundown_outbound_queued_bytes",
                "Bytes that the kernel has not taken yet: sundown_held_bytes{kind=\"outbound\"}.",
                levels.outbound_bytes,
            ),
        ];
        for (name, help, value) in gauges {
            families.gauge(name, help, value as u64);
        }
        append_held(families, levels);
        self.append_answers(families, levels);
    }

    fn append_answers(&self, families: &Families, levels: &Levels<'_>) {
        let handshakes = self.handshakes.iter().chain(levels.early_answers);
        // Those that have not been yet, too: a rate can be made of what has once been 0.
        let mut outcomes: BTreeMap<&str, u64> = OUTCOMES.map(|(_, name)| (name, 0)).into();
        for (status, count) in handshakes {
            *outcomes.entry(outcome_of(*status)).or_default() += count;
        }
        families.counters(
            "sundown_handshakes_total",
            "Opening handshakes, by what came of them.",
            ["outcome"],
            outcomes.iter().map(|(name, count)| ([*name], *count)),
        );
        let early = levels.early_admin_answers.iter();
        let mut answers = self.answers.clone();
        for (status, count) in early {
            *answers.entry(("admin", *status)).or_default() += count;
        }
        let answers = answers.iter().map(|((listener, status), count)| {
            let labels = [(*listener).to_owned(), status.to_string()];
            (labels, *count)
        });
        families.counters(
            "sundown_http_responses_total",
            "Answers to requests that are no handshakes, by listener and status.",
            ["listener", "code"],
            answers,
        );
        let closes = levels.closes.iter().map(|((code, reason), count)| {
            let labels = [code.to_string(), (*reason).to_owned()];
            (labels, *count)
        });
        families.counters(
            "sundown_closes_total",
            "WebSocket connections that have ended, by the first close code and its reason.",
            ["code", "reason"],
            closes,
        );
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "no machine has the 8 PiB from which on it begins"
)]
fn append_held(families: &Families, levels: &Levels<'_>) {
    let held = levels.held.iter();
    families.gauges(
        "sundown_held_bytes",
        "Bytes that peers make the process hold, by what they are.",
        ["kind"],
        held.map(|(kind, bytes)| ([*kind], *bytes as f64)),
    );
}

fn append_shutdown(families: &Families, levels: &Levels<'_>) {
    families.gauge(
        "sundown_ready",
        "1 while readiness is 200.",
        u64::from(levels.ready),
    );
    families.state(
        "sundown_shutdown_phase",
        "1 for the phase that the shutdown is in.",
        "phase",
        levels.phases,
        levels.phase,
    );
    let lasted = levels.lasted.iter();
    families.gauges(
        "sundown_shutdown_phase_seconds",
        "For how long each phase of the shutdown has lasted.",
        ["phase"],
        lasted.map(|(phase, lasted)| ([*phase], lasted.as_secs_f64())),
    );
}

/// What an opening handshake can come to, in a word.
const OUTCOMES: [(u16, &str); 9] = [
    (101, "upgraded"),
    (400, "malformed"),
    (403, "origin_refused"),
    (404, "no_such_path"),
    (405, "wrong_method"),
    (408, "timed_out"),
    (426, "no_upgrade"),
    (431, "too_large"),
    (503, "unavailable"),
];

fn outcome_of(status: u16) -> &'static str {
    let known = OUTCOMES.iter().find(|(known, _)| *known == status);
    known.map_or("other", |(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;

    /// Everything that can happen to the store and to broadcasts.
    fn count_store_and_broadcasts(metrics: &mut Metrics) {
        let begun = clock::instant();
        let at = |seconds| begun + Duration::from_secs(seconds);
        let store = metrics.store();
        store.claim_asked(at(0));
        store.commit_asked(at(0));
        store.changed(StoreState::Down); // what was asked is forgotten
        store.changed(StoreState::Up);
        store.claim_asked(at(0));
        store.claim_asked(at(1));
        store.claimed(at(2));
        store.claim_refused(at(4));
        store.commit_asked(at(0));
        store.commit_refused();
        store.pushed(5, 1);
        store.committed(3, 2, at(4));
        store.changed(StoreState::Stalled);
        let broadcasts = metrics.broadcasts();
        broadcasts.asked(at(0));
        broadcasts.heard(at(1));
        broadcasts.asked(at(2));
        broadcasts.refused(); // the newest
        broadcasts.unpublished();
        broadcasts.unreadable();
        broadcasts.queued(at(3));
        broadcasts.queued(at(5));
    }

    fn page(metrics: &Metrics) -> String {
        let levels = Levels {
            connections: 1,
            sockets: 2,
            sessions: 3,
            unsaved_sessions: 4,
            waiting_replies: 5,
            open_steps: 17,
            ready_connections: 6,
            outbound_bytes: 7,
            held: &[("received", 13)],
            received_bytes: 8,
            sent_bytes: 9,
            early_answers: &[(408, 10)].into(),
            early_admin_answers: &[(413, 12)].into(),
            is_linked: false,
            closes: &[((1000, "by peer"), 11)].into(),
            ready: true,
            phases: &["serving", "draining"],
            phase: "serving",
            lasted: &[("draining", Duration::from_millis(1_500))],
        };
        metrics.page(&levels).0
    }

    #[track_caller]
    fn assert_lines(page: &str, lines: &[&str]) {
        for line in lines {
            assert!(
                page.lines().any(|other| other == *line),
                "{line} in\n{page}"
            );
        }
    }

    #[test]
    fn a_page_has_every_family_with_its_help() {
        let mut metrics = Metrics::default();
        metrics.answered("public", 101, true);
        metrics.answered("admin", 200, false);
        metrics.turned(Duration::from_micros(30));
        let page = page(&metrics);
        let lines = [
            "sundown_connections 1",
            "sundown_waiting_replies 5",
            "sundown_deferred_steps 17",
            "sundown_handshakes_total{outcome=\"upgraded\"} 1",
            "sundown_http_responses_total{code=\"200\",listener=\"admin\"} 1",
            "sundown_http_responses_total{code=\"413\",listener=\"admin\"} 12",
            "sundown_held_bytes{kind=\"received\"} 13",
            "sundown_received_bytes_total 8",
            "sundown_handshakes_total{outcome=\"timed_out\"} 10",
            "sundown_handshakes_total{outcome=\"unavailable\"} 0",
            "sundown_closes_total{code=\"1000\",reason=\"by peer\"} 11",
            "sundown_shutdown_phase_seconds{phase=\"draining\"} 1.5",
            "sundown_loop_turn_duration_seconds_bucket{le=\"0.00005\"} 1",
            "sundown_shutdown_phase{phase=\"serving\"} 1",
            "sundown_store_state{state=\"down\"} 1",
        ];
        assert_lines(&page, &lines);
        let samples = page.lines().filter(|line| !line.starts_with('#'));
        for sample in samples {
            let name = sample.split(['{', ' ']).next().unwrap_or_default();
            let family = ["_bucket", "_sum", "_count"]
                .iter()
                .find_map(|suffix| name.strip_suffix(suffix))
                .unwrap_or(name);
            assert!(page.contains(&format!("# HELP {family} ")), "{family}");
        }
    }

    #[test]
    fn what_happens_is_counted() {
        let mut metrics = Metrics::default();
        metrics.accepted();
        metrics.message_received();
        metrics.message_sent();
        count_store_and_broadcasts(&mut metrics);
        let lines = [
            "sundown_accepted_connections_total 1",
            "sundown_messages_received_total 1",
            "sundown_messages_sent_total 1",
            "sundown_store_state{state=\"stalled\"} 1",
            "sundown_store_failures_total 1",
            "sundown_store_saved_sessions_total 3",
            "sundown_store_fenced_sessions_total 2",
            "sundown_store_refused_sessions_total 2",
            "sundown_pushes_accepted_total 5",
            "sundown_pushes_refused_total 1",
            "sundown_store_claim_duration_seconds_sum 5",
            "sundown_store_claim_duration_seconds_count 2",
            "sundown_store_save_duration_seconds_sum 4",
            "sundown_broadcasts_total{origin=\"local\"} 2",
            "sundown_broadcasts_total{origin=\"remote\"} 1",
            "sundown_broadcasts_refused_total 1",
            "sundown_broadcasts_unpublished_total 1",
            "sundown_broadcasts_unreadable_total 1",
            "sundown_broadcast_fanout_duration_seconds_sum 7",
            "sundown_broadcast_fanout_duration_seconds_count 2",
        ];
        assert_lines(&page(&metrics), &lines);
    }
}
