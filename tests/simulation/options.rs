//! What a run is like: drawn before it begins, so that one run has many of one fault and none of
//! another, where an average of all would meet none of them often enough.

use std::time::Duration;

use sundown::engine::io::Protocol;
use sundown::{Config, Durability, Limits, ShutdownBudget};

use super::dice::Dice;

/// What goes wrong, on schedule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// A node gets SIGTERM, SIGINT or its handle's call, and maybe more of them later.
    Signal,
    /// A node is killed between two steps of a turn.
    Crash,
    /// A node gets no processor for a while.
    Freeze,
    /// A node's link to the store breaks.
    LoseLink,
    /// The store answers nobody for a while.
    FreezeStore,
    /// The store refuses single sessions for a while, and takes all others.
    RefuseSessions,
}

const FAULTS: [Fault; 6] = [
    Fault::Signal,
    Fault::Crash,
    Fault::Freeze,
    Fault::LoseLink,
    Fault::FreezeStore,
    Fault::RefuseSessions,
];

/// One run.
#[derive(Debug)]
pub(crate) struct Options {
    pub(crate) config: Config,
    pub(crate) nodes: usize,
    pub(crate) clients: Vec<Habits>,
    /// When everything that goes wrong ends.
    pub(crate) faults_end: Duration,
    pub(crate) faults: Vec<(Duration, Fault)>,
    /// The store answers within the flush, as one in the same process does.
    pub(crate) store_is_local: bool,
    pub(crate) store_delay_max: Duration,
    /// There is a file for what the store does not take in time.
    pub(crate) has_spill: bool,
    /// All nodes have the same.
    pub(crate) spill_is_shared: bool,
    pub(crate) spill_locked: f64,
    pub(crate) spill_refused: f64,
    /// Of the sessions, how many are refused while the store refuses any.
    pub(crate) sessions_refused: f64,
    /// Of the requests for such a session, how many.
    pub(crate) requests_refused: f64,
    /// Of the rows that are replayed, how many are refused.
    pub(crate) rows_refused: f64,
    /// How often it begins with a shutdown.
    pub(crate) refuses_in_shutdown: f64,
    /// What the store does with all its records once everybody is at rest.
    pub(crate) records_lost: Option<Repair>,
    pub(crate) news_lost: f64,
    pub(crate) news_delay_max: Duration,
    /// Of what was asked on a link that broke, how much is carried out all the same.
    pub(crate) carried_out: f64,
    /// Until when: a request may come out of a dead link's buffers after the next one is up.
    pub(crate) carried_out_after_max: Duration,
    /// How long a link that has broken seems to live.
    pub(crate) silence_max: Duration,
    pub(crate) down_max: Duration,
    pub(crate) net_delay_max: Duration,
    /// Bytes that the kernels between two peers hold, in each direction.
    pub(crate) window: (usize, usize),
    /// How often the kernel takes less than it could.
    pub(crate) short_write: f64,
    /// Frames read from a connection before the next has its turn.
    pub(crate) read_frames_max: usize,
    pub(crate) turn_frames_max: usize,
    pub(crate) turn_cost_max: Duration,
    pub(crate) extra_signal: f64,
    /// How often in a turn a process pushes from outside of a step.
    pub(crate) pushes: f64,
    pub(crate) restart_after_max: Duration,
}

/// By what records that the store has lost come back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Repair {
    /// Open sessions are saved again every quarter of their time to live.
    Renewal,
    /// Open sessions are saved once more at Persisting.
    Shutdown,
}

/// One client's ways, until the faults end.
#[derive(Clone, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is drawn on its own")]
pub(crate) struct Habits {
    pub(crate) protocol: Protocol,
    pub(crate) names_session: bool,
    pub(crate) messages: u64,
    pub(crate) burst_max: usize,
    pub(crate) think_max: Duration,
    /// Between two reads of one frame; zero reads all at once.
    pub(crate) read_delay_max: Duration,
    /// How often a connection is one that is never read from.
    pub(crate) never_reads: f64,
    pub(crate) never_answers_close: f64,
    pub(crate) close_delay_max: Duration,
    pub(crate) sends_while_closing: bool,
    pub(crate) sends_before_hello: bool,
    pub(crate) obeys_reconnect_ms: bool,
    pub(crate) heeds_notice: bool,
    pub(crate) patience: Duration,
    pub(crate) takes_over: f64,
    pub(crate) drops: f64,
    pub(crate) closes: f64,
    pub(crate) half_closes: f64,
    pub(crate) pings: f64,
    pub(crate) asks_text: f64,
    pub(crate) text_max: usize,
    pub(crate) asks_close: f64,
    pub(crate) asks_deferral: f64,
    pub(crate) message_bytes_max: usize,
    /// Every so many messages push to someone; 0 for none.
    pub(crate) pushes_every: u64,
    /// How often it says which pushes it has received.
    pub(crate) confirms: f64,
}

const MS: Duration = Duration::from_millis(1);

impl Options {
    pub(crate) fn may_refuse_spills(&self) -> bool {
        !self.has_spill || self.spill_refused > 0.0
    }

    /// Whether sessions may be lost that neither the store nor the file has taken in time.
    pub(crate) fn may_fail_to_spill(&self) -> bool {
        self.may_refuse_spills() || self.spill_locked > 0.0
    }

    /// Whether the store has the time to answer a save in Persisting, and the sync behind it; and
    /// is quick enough not to be taken for stalled, for which nobody waits.
    pub(crate) fn may_save_in_persisting(&self) -> bool {
        let budget = &self.config.shutdown;
        let answer = 2 * self.store_delay_max + 50 * MS;
        answer < 900 * MS && budget.persist.saturating_sub(budget.drain) > 2 * answer
    }

    pub(crate) fn draw(dice: &mut Dice) -> Self {
        let faults_end = dice.time(1000 * MS, 16_000 * MS);
        let local = dice.chance(0.25);
        Self {
            config: config(dice),
            nodes: dice.among(2, 3),
            clients: (0..dice.among(2, 10)).map(|_| habits(dice)).collect(),
            faults_end,
            faults: faults(dice, faults_end),
            store_is_local: local,
            has_spill: !local && dice.chance(0.6),
            spill_is_shared: dice.chance(0.4),
            spill_locked: dice.pick(&[0.0, 0.3]),
            spill_refused: dice.pick(&[0.0, 0.0, 0.5]),
            store_delay_max: dice.pick(&[MS, 5 * MS, 100 * MS, 700 * MS]),
            sessions_refused: dice.pick(&[0.2, 1.0]),
            requests_refused: dice.pick(&[0.5, 1.0]),
            rows_refused: dice.pick(&[0.0, 0.5]),
            refuses_in_shutdown: dice.pick(&[0.0, 0.5]),
            records_lost: dice.pick(&[None, Some(Repair::Renewal), Some(Repair::Shutdown)]),
            news_lost: dice.pick(&[0.0, 0.3, 1.0]),
            news_delay_max: dice.pick(&[MS, 100 * MS, 5000 * MS]),
            carried_out: dice.pick(&[0.0, 0.5, 1.0]),
            carried_out_after_max: dice.pick(&[MS, 200 * MS, 4000 * MS]),
            silence_max: dice.pick(&[Duration::ZERO, 200 * MS, 3000 * MS]),
            down_max: dice.pick(&[50 * MS, 1000 * MS, 12_000 * MS]),
            net_delay_max: dice.pick(&[MS, 20 * MS, 200 * MS]),
            window: dice.pick(&[(64, 200), (500, 2000), (20_000, 60_000)]),
            short_write: dice.pick(&[0.0, 0.2, 0.8]),
            read_frames_max: dice.among(1, 20),
            turn_frames_max: dice.among(2, 60),
            turn_cost_max: dice.pick(&[MS / 10, MS, 2 * MS]),
            extra_signal: dice.pick(&[0.0, 0.3, 0.8]),
            pushes: dice.pick(&[0.0, 0.02, 0.2]),
            restart_after_max: dice.pick(&[10 * MS, 2000 * MS]),
        }
    }
}

fn config(dice: &mut Dice) -> Config {
    let timeout = dice.pick(&[700 * MS, 1500 * MS, 4000 * MS, 10_000 * MS]);
    let part = |share: f64| timeout.mul_f64(share);
    let notify = part(dice.pick(&[0.02, 0.05, 0.2]));
    let drain = notify + part(dice.pick(&[0.05, 0.2, 0.35]));
    let persist = drain + part(dice.pick(&[0.01, 0.1, 0.4]));
    let config = Config {
        durability: if dice.chance(0.7) {
            Durability::Acked
        } else {
            Durability::Relaxed
        },
        // A quarter of this is how often sessions are renewed.
        session_ttl: dice.pick(&[4000 * MS, 40_000 * MS, 86_400_000 * MS]),
        heartbeat: dice.pick(&[Duration::ZERO, 150 * MS, 2000 * MS]),
        shutdown: ShutdownBudget {
            delay: if dice.chance(0.2) {
                part(dice.pick(&[0.05, 0.3]))
            } else {
                Duration::ZERO
            },
            timeout,
            notify,
            drain,
            drain_quiet: dice.pick(&[Duration::ZERO, 50 * MS, 250 * MS]),
            persist,
            close_spread: dice.pick(&[Duration::ZERO, timeout / 20, timeout / 5]),
        },
        limits: Limits {
            outbound_bytes_max: dice.pick(&[1024, 4096, 1 << 20]),
            held_replies_max: dice.pick(&[1, 3, 20, 1024]),
            fanout_max: dice.pick(&[1, 3, 512]),
            spill_max: dice.pick(&[1, 512]),
            batch_max: dice.pick(&[1, 2, 512]),
            accepts_max: dice.pick(&[1, 128]),
            linger_timeout: dice.pick(&[100 * MS, 10_000 * MS]),
            close_timeout: dice.pick(&[300 * MS, 10_000 * MS]),
            ..Limits::default()
        },
        ..Config::default()
    };
    config.validate().expect("a configuration that makes sense");
    config
}

fn faults(dice: &mut Dice, end: Duration) -> Vec<(Duration, Fault)> {
    let kinds: Vec<Fault> = FAULTS.into_iter().filter(|_| dice.chance(0.55)).collect();
    if kinds.is_empty() {
        return Vec::new();
    }
    let count = dice.among(1, 14);
    let mut faults: Vec<_> = (0..count)
        .map(|_| (dice.time(Duration::ZERO, end), dice.pick(&kinds)))
        .collect();
    faults.sort_by_key(|(at, _)| *at);
    faults
}

fn habits(dice: &mut Dice) -> Habits {
    // Most probabilities are those of one look at the client, of which there are many.
    let mut rarely = |probability: f64| if dice.chance(0.25) { probability } else { 0.0 };
    let (takes_over, drops, closes) = (rarely(0.1), rarely(0.1), rarely(0.1));
    let (half_closes, pings) = (rarely(0.05), rarely(0.5));
    let (never_reads, never_answers_close) = (rarely(0.5), rarely(0.7));
    let (asks_text, asks_close) = (rarely(0.7), rarely(0.05));
    let asks_deferral = rarely(0.2);
    Habits {
        protocol: dice.pick(&[Protocol::Plain, Protocol::V1, Protocol::V2, Protocol::V2]),
        names_session: dice.chance(0.7),
        messages: dice.among(1, 60) as u64,
        burst_max: dice.pick(&[1, 4, 30]),
        think_max: dice.pick(&[20 * MS, 200 * MS, 1500 * MS]),
        read_delay_max: dice.pick(&[Duration::ZERO, Duration::ZERO, 10 * MS, 300 * MS]),
        never_reads,
        never_answers_close,
        close_delay_max: dice.pick(&[Duration::ZERO, 50 * MS, 1500 * MS]),
        sends_while_closing: dice.chance(0.6),
        sends_before_hello: dice.chance(0.3),
        obeys_reconnect_ms: dice.chance(0.7),
        heeds_notice: dice.chance(0.7),
        patience: dice.pick(&[1000 * MS, 5000 * MS, 20_000 * MS]),
        takes_over,
        drops,
        closes,
        half_closes,
        pings,
        asks_text,
        text_max: dice.pick(&[20, 400, 3000]),
        asks_close,
        asks_deferral,
        message_bytes_max: dice.pick(&[10, 100, 1000]),
        pushes_every: dice.pick(&[0, 1, 3]),
        confirms: dice.pick(&[0.0, 0.3, 1.0]),
    }
}

impl Habits {
    /// For how long another thread is to have the next message.
    pub(crate) fn defer_ms(&self, dice: &mut Dice) -> u64 {
        if dice.chance(self.asks_deferral) {
            dice.pick(&[1, 20, 400, 3_000, 60_000])
        } else {
            0
        }
    }

    /// The client to whose session a message pushes, if it does: the same when it is sent again.
    pub(crate) fn pushes_to(&self, client: usize, index: u64, clients: usize) -> Option<usize> {
        let every = self.pushes_every;
        let pushes = every > 0 && index > 0 && index.is_multiple_of(every);
        pushes.then(|| (client + index as usize) % clients)
    }

    /// When the faults have ended, everyone is at their best.
    pub(crate) fn reform(&mut self) {
        let at_once = Duration::ZERO;
        self.read_delay_max = at_once;
        self.close_delay_max = at_once;
        self.think_max = self.think_max.min(200 * MS);
        // The least time that a store which is merely slow may take.
        self.patience = self.patience.max(5000 * MS);
        self.confirms = 1.0;
        for probability in [
            &mut self.never_reads,
            &mut self.never_answers_close,
            &mut self.takes_over,
            &mut self.drops,
            &mut self.closes,
            &mut self.half_closes,
            &mut self.asks_close,
            &mut self.asks_text,
            &mut self.asks_deferral,
        ] {
            *probability = 0.0;
        }
    }
}
