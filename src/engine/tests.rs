//! The engine against a store and clients of a few lines each: what is answered, when, and in which
//! order. Time is a number.

use super::*;
use crate::clock;
use crate::config::{Durability, ShutdownBudget};
use crate::engine::app::Chat;
use crate::engine::io::{Claim, Commit, Received, Refused, SessionKey, StoreEvent};
use crate::engine::message::Message;
use crate::engine::shutdown::{Request, State, Trigger};
use crate::store::SessionStore as _;
use crate::store::memory::MemoryStore;
use crate::store::record::Records as _;

/// The engine, a store that answers when told to, and what came out.
pub(super) struct Rig {
    pub(super) engine: Engine,
    pub(super) store: MemoryStore,
    pub(super) now: Now,
    /// What came out, in words; `#n` is the connection at slot n.
    pub(super) log: Vec<String>,
    /// The store answers at once.
    pub(super) answers: bool,
    pub(super) levels: Levels,
    /// What has been handed to the spill, and whether it takes it.
    pub(super) spilled: Vec<String>,
    pub(super) spill_keeps: bool,
    /// The session that the store refuses, whatever is asked for it.
    pub(super) bad: Option<&'static str>,
}

impl Rig {
    pub(super) fn new(durability: Durability) -> Self {
        Self::with(&quiet(durability))
    }

    pub(super) fn with(config: &Config) -> Self {
        Self::serving(config, Chat)
    }

    pub(super) fn serving(config: &Config, app: impl Application + 'static) -> Self {
        let now = clock::now();
        let mut rig = Self {
            engine: Engine::new(config, Box::new(app), [7; 32], now),
            store: MemoryStore::new(Duration::from_secs(60)),
            now,
            log: Vec::new(),
            answers: true,
            levels: Levels::default(),
            spilled: Vec::new(),
            spill_keeps: false,
            bad: None,
        };
        rig.flush();
        rig
    }

    pub(super) fn input(&mut self, input: Input<'_>) {
        self.engine.handle_input(input, self.now);
        while let Some(output) = self.engine.poll_output() {
            self.log.push(in_words(&output));
        }
        let (sessions, clients) = (&self.engine.sessions, &self.engine.clients);
        let mut counted = sessions.count_memory();
        for (_, client) in (0..clients.slots_end()).filter_map(|slot| clients.at(slot)) {
            counted.add(Kind::States, client.state().len());
        }
        assert_eq!(sessions.memory(), counted);
    }

    pub(super) fn open(&mut self, slot: u32, protocol: Protocol, session: &str) {
        let session = SessionId::parse(session).ok();
        self.levels.sockets += 1;
        self.input(Input::Opened {
            conn: conn(slot),
            protocol,
            tells: Tells::ALL,
            session,
            received: Received::default(),
        });
    }

    /// The same on a store that answers; what came out is not the matter.
    pub(super) fn open_all(&mut self, protocol: Protocol, sessions: &[&str]) {
        for (slot, session) in (0..).zip(sessions) {
            self.open(slot, protocol, session);
        }
        self.flush();
        self.log.clear();
    }

    pub(super) fn say(&mut self, slot: u32) {
        self.tell(slot, "hi");
    }

    pub(super) fn tell(&mut self, slot: u32, text: &str) {
        self.input(Input::Message {
            conn: conn(slot),
            message: Message::Text(text),
        });
    }

    pub(super) fn close(&mut self, slot: u32) {
        self.input(Input::PeerClosed {
            conn: conn(slot),
            by_frame: true,
        });
    }

    pub(super) fn shut_down(&mut self) {
        self.ask();
        self.flush();
    }

    /// Asks for the shutdown, once more each time.
    pub(super) fn ask(&mut self) {
        self.input(Input::Shutdown(Request {
            trigger: Trigger::Handle,
            at: self.now.instant,
        }));
    }

    /// Hands what the engine asks to the store, and the answers back, if it answers.
    pub(super) fn flush(&mut self) {
        for _ in 0..4 {
            self.asked();
            if self.answers {
                self.answer();
            }
        }
    }

    /// The store answers what it was asked so far, and is asked nothing more.
    pub(super) fn answer(&mut self) {
        self.store.flush(self.now);
        while let Some(event) = self.store.poll_event() {
            self.input(Input::Store(event));
        }
    }

    /// What the engine asks of the store, in words, and hands to it all the same.
    pub(super) fn asked(&mut self) -> Vec<String> {
        let mut asked = Vec::new();
        while let Some(batch) = self.engine.poll_spill() {
            asked.push(format!("spill {}", commits_in_words(&batch)));
            self.spill(batch);
        }
        while let Some(command) = self.engine.poll_store() {
            asked.push(match command {
                StoreCommand::Commit(batch) => {
                    let words = commits_in_words(&batch);
                    self.save(batch);
                    words
                }
                StoreCommand::Claim(claim) => {
                    let words = format!("claim {}", claim.session);
                    self.claim(claim);
                    words
                }
                StoreCommand::Read(read) => {
                    let words = format!("read {}", read.session);
                    self.store.ask(StoreCommand::Read(read));
                    words
                }
                StoreCommand::Sync => {
                    self.store.ask(StoreCommand::Sync);
                    "sync".into()
                }
            });
        }
        asked
    }

    fn save(&mut self, batch: Vec<Commit>) {
        let is_bad = |commit: &Commit| self.bad == Some(commit.session.as_str());
        let (bad, rest): (Vec<_>, Vec<_>) = batch.into_iter().partition(is_bad);
        for commit in bad {
            self.refuse(Refused::Commit(commit));
        }
        self.store.ask(StoreCommand::Commit(rest));
    }

    fn claim(&mut self, claim: Claim) {
        if self.bad == Some(claim.session.as_str()) {
            self.refuse(Refused::Claim(claim.key));
        } else {
            self.store.ask(StoreCommand::Claim(claim));
        }
    }

    fn refuse(&mut self, request: Refused) {
        let reason = "WRONGTYPE".into();
        self.input(Input::Store(StoreEvent::Refused { request, reason }));
    }

    /// How the store is, from now on.
    pub(super) fn store_is(&mut self, event: StoreEvent) {
        self.input(Input::Store(event));
    }

    pub(super) fn store_is_down(&mut self) {
        let reason = String::new();
        self.store_is(StoreEvent::Down { reason });
    }

    /// The levels of this moment, as the loop reports them.
    pub(super) fn report_levels(&mut self) {
        let levels = self.levels;
        self.input(Input::Levels(levels));
    }

    /// Answers at once, as the spill does.
    fn spill(&mut self, batch: Vec<Commit>) {
        let kept = self.spill_keeps;
        self.spilled.push(commits_in_words(&batch));
        self.input(Input::Store(StoreEvent::Spilled { batch, kept }));
    }

    /// The number of the latest push to a session that the store holds.
    pub(super) fn store_sent(&self, session: &str) -> u64 {
        let session = SessionId::parse(session).unwrap();
        let record = self.store.find(&session);
        record.map_or(0, |(record, _)| record.mailbox().sent())
    }

    /// How many pushes to a session the store keeps.
    pub(super) fn store_waiting(&self, session: &str) -> usize {
        let session = SessionId::parse(session).unwrap();
        let record = self.store.find(&session);
        record.map_or(0, |(record, _)| record.mailbox().len())
    }

    /// Another node claims a session, behind the engine's back.
    pub(super) fn claim_elsewhere(&mut self, session: &str) {
        self.store.ask(StoreCommand::Claim(Claim {
            key: SessionKey {
                slot: 99,
                generation: 99,
            },
            session: SessionId::parse(session).unwrap(),
            token: 1,
        }));
        self.store.flush(self.now);
    }

    /// Lets so much time pass, turn by turn.
    pub(super) fn pass(&mut self, ms: u64) {
        let until = self.now.instant + Duration::from_millis(ms);
        let mut turns = 0;
        while self.log.last().is_none_or(|last| last != "stop") {
            turns += 1;
            assert!(turns < 10_000, "it asks for a turn, and does nothing in it");
            let has_changed = self.levels != self.engine.levels;
            let at_once = has_changed.then_some(self.now.instant);
            let due = at_once.or_else(|| self.engine.poll_timeout());
            let due = due.filter(|due| *due <= until);
            if due.is_none() && self.now.instant == until {
                return;
            }
            self.now.instant = due.unwrap_or(until).max(self.now.instant);
            self.engine.handle_timeout(self.now);
            self.report_levels();
            self.flush();
        }
    }

    /// What came out since the last call.
    #[track_caller]
    pub(super) fn check(&mut self, expected: &[&str]) {
        assert_eq!(std::mem::take(&mut self.log), expected);
    }
}

/// Without a heartbeat.
pub(super) fn quiet(durability: Durability) -> Config {
    Config {
        durability,
        heartbeat: Duration::ZERO,
        ..Config::default()
    }
}

pub(super) fn conn(slot: u32) -> ConnId {
    ConnId {
        slot,
        generation: 0,
    }
}

fn commits_in_words(batch: &[Commit]) -> String {
    let saves = batch
        .iter()
        .map(|commit| format!("{}={}", commit.session, commit.snapshot.count));
    saves.collect::<Vec<_>>().join(" ")
}

fn in_words(output: &Output) -> String {
    match output {
        Output::Send {
            conn,
            protocol,
            message,
        } => {
            let mut scratch = Vec::new();
            let payload = message.payload(*protocol, &mut scratch);
            let text = String::from_utf8_lossy(payload).into_owned();
            // What is random in it is not the matter here.
            let text = text.split(",\"reconnect_ms\"").next().map(str::to_owned);
            format!("#{} {}", conn.slot, text.unwrap_or_default())
        }
        Output::Close { conn, reason, .. } => format!("#{} close {}", conn.slot, reason.code()),
        Output::Fail { conn, reason } => format!("#{} fail {}", conn.slot, reason.code()),
        Output::Finish { conn } => format!("#{} finish", conn.slot),
        Output::Pause { conn } => format!("#{} pause", conn.slot),
        Output::Resume { conn } => format!("#{} resume", conn.slot),
        Output::Publish { text, .. } => format!("publish {text}"),
        Output::BroadcastDone { origin, queued } => format!("told {queued:?}, for {origin:?}"),
        Output::CloseListener => "close listener".into(),
        Output::Cut { conn } => format!("#{} cut", conn.slot),
        Output::Panicked(panicked) => format!("panic in {}", panicked.what),
        Output::Stop => "stop".into(),
    }
}

pub(super) const PLAIN: Protocol = Protocol::Plain;
pub(super) const V1: Protocol = Protocol::V1;
pub(super) const V2: Protocol = Protocol::V2;

#[test]
fn a_plain_client_without_a_session_counts_for_itself() {
    let mut rig = Rig::new(Durability::Acked);
    rig.answers = false;
    rig.open(0, PLAIN, "");
    rig.say(0);
    rig.say(0);
    rig.check(&["#0 {\"count\":1}", "#0 {\"count\":2}"]);
    rig.close(0);
    rig.check(&["#0 finish"]);
}

#[test]
fn a_session_goes_on_where_it_was() {
    let mut rig = Rig::new(Durability::Acked);
    rig.open(0, V1, "a");
    rig.check(&["#0 pause"]);
    rig.flush();
    rig.check(&[
        r#"#0 {"session":"a","count":0,"resumed":false}"#,
        "#0 resume",
    ]);
    rig.say(0);
    rig.check(&[]);
    rig.flush();
    rig.check(&["#0 {\"count\":1}"]);
    rig.close(0);
    rig.check(&["#0 finish"]);
    rig.open(1, V1, "a");
    rig.flush();
    let hello = r#"#1 {"session":"a","count":1,"resumed":true}"#;
    rig.check(&["#1 pause", hello, "#1 resume"]);
}

#[test]
fn acked_replies_wait_for_the_store_and_reading_stops_at_the_limit() {
    let mut config = quiet(Durability::Acked);
    config.limits.held_replies_max = 4;
    let mut rig = Rig::with(&config);
    rig.open_all(PLAIN, &["a"]);
    rig.answers = false;
    for _ in 0..4 {
        rig.say(0);
        rig.flush();
    }
    rig.check(&["#0 pause"]);
    rig.close(0);
    rig.check(&["#0 resume"]);
    rig.answers = true;
    rig.flush();
    // The Close is answered after the replies, and not before the save.
    let counts = [1, 2, 3, 4].map(|count| format!("#0 {{\"count\":{count}}}"));
    rig.check(&[&counts[0], &counts[1], &counts[2], &counts[3], "#0 finish"]);
}

#[test]
fn relaxed_replies_leave_at_once_and_are_saved_later() {
    let mut rig = Rig::new(Durability::Relaxed);
    rig.open(0, PLAIN, "a");
    rig.flush();
    rig.pass(0);
    rig.log.clear();
    rig.say(0);
    rig.check(&["#0 {\"count\":1}"]);
    assert_eq!(rig.engine.unsaved(), 1);
    rig.pass(99);
    assert_eq!(rig.engine.unsaved(), 1);
    rig.pass(1);
    assert_eq!(rig.engine.unsaved(), 0);
}

#[test]
fn a_takeover_on_this_node_waits_for_what_is_owed() {
    let mut rig = Rig::new(Durability::Acked);
    rig.open_all(PLAIN, &["a"]);
    rig.say(0);
    rig.open(1, V1, "a");
    // Too late to be counted: the newcomer will be told one message.
    rig.say(0);
    rig.flush();
    rig.check(&[
        "#1 pause",
        "#0 pause",
        "#0 {\"count\":1}",
        "#0 close 4001",
        "#0 resume",
        r#"#1 {"session":"a","count":1,"resumed":true}"#,
        "#1 resume",
    ]);
}

#[test]
fn a_takeover_before_the_claim_is_answered_ends_the_elder_at_once() {
    let mut rig = Rig::new(Durability::Acked);
    rig.open(0, PLAIN, "a");
    rig.open(1, PLAIN, "a");
    rig.open(2, PLAIN, "a");
    rig.flush();
    let ended = [
        "#1 pause",
        "#0 close 4001",
        "#0 resume",
        "#2 pause",
        "#1 close 4001",
        "#1 resume",
    ];
    rig.check(&[&["#0 pause"], ended.as_slice(), &["#2 resume"]].concat());
}

#[test]
fn a_takeover_elsewhere_drops_what_the_store_refuses() {
    let mut rig = Rig::new(Durability::Acked);
    rig.open_all(PLAIN, &["a"]);
    rig.claim_elsewhere("a");
    rig.say(0);
    rig.flush();
    rig.check(&["#0 close 4001"]);

    rig.open(1, PLAIN, "a");
    rig.flush();
    rig.log.clear();
    let session = SessionId::parse("a").unwrap();
    rig.input(Input::Store(StoreEvent::TakenOver {
        session: session.clone(),
        epoch: 3,
    }));
    rig.check(&[]);
    rig.input(Input::Store(StoreEvent::TakenOver { session, epoch: 4 }));
    rig.check(&["#1 close 4001"]);
}

#[test]
fn what_a_store_forgot_is_asked_again() {
    let mut rig = Rig::new(Durability::Acked);
    rig.open(0, PLAIN, "a");
    rig.flush();
    rig.answers = false;
    rig.say(0);
    rig.open(1, PLAIN, "b");
    assert_eq!(rig.asked(), ["a=1", "claim b"]);
    rig.say(0);
    assert_eq!(
        rig.asked(),
        [""; 0],
        "one save of a session is on its way at a time"
    );
    rig.store_is_down();
    assert!(!rig.engine.gate().sessions && !rig.engine.gate().ready);
    assert_eq!(rig.asked(), [""; 0]);
    rig.store_is(StoreEvent::Up);
    assert_eq!(rig.asked(), ["a=2", "claim b"]);
}

#[test]
fn open_sessions_are_renewed_when_a_store_returns() {
    let mut rig = Rig::new(Durability::Acked);
    rig.open(0, PLAIN, "a");
    rig.flush();
    rig.say(0);
    rig.flush();
    // It comes back empty.
    rig.store = MemoryStore::new(Duration::from_secs(60));
    rig.store_is_down();
    rig.flush();
    rig.pass(1);
    rig.close(0);
    rig.open(1, V1, "a");
    rig.log.clear();
    rig.flush();
    rig.check(&[
        r#"#1 {"session":"a","count":1,"resumed":true}"#,
        "#1 resume",
    ]);
}

#[test]
fn the_heartbeat_reaches_all_in_slices_and_stops_at_the_shutdown() {
    let mut config = Config {
        heartbeat: Duration::from_secs(30),
        ..Config::default()
    };
    config.limits.fanout_max = 2;
    let mut rig = Rig::with(&config);
    for slot in 0..5 {
        rig.open(slot, PLAIN, "");
    }
    rig.pass(29_999);
    rig.check(&[]);
    rig.pass(1);
    assert_eq!(rig.log.len(), 5);
    assert!(rig.log[4].starts_with("#4 {\"ts\":\""), "{:?}", rig.log);
    rig.pass(29_000);
    rig.log.clear();
    rig.levels.unread = 1;
    // The drain spans the next beat.
    rig.shut_down();
    rig.pass(2_400);
    rig.check(&[]);
}

#[test]
fn a_whole_shutdown_in_order() {
    let mut rig = Rig::new(Durability::Acked);
    rig.open(0, V1, "a");
    rig.open(1, PLAIN, "");
    rig.flush();
    rig.log.clear();
    rig.shut_down();
    assert!(!rig.engine.gate().upgrades && !rig.engine.gate().ready);
    rig.pass(100);
    rig.check(&["#0 {\"shutdown\":true,\"drain_ms\":2500"]);
    rig.say(0);
    rig.say(1);
    rig.flush();
    rig.check(&["#1 {\"count\":1}", "#0 {\"count\":1}"]);
    rig.levels.heard_at = Some(rig.now.instant);
    rig.pass(249);
    rig.check(&[]);
    rig.pass(1);
    let bye = |slot: u32, total| {
        [
            format!("#{slot} {{\"bye\":true,\"total\":{total}}}"),
            format!("#{slot} close 1001"),
        ]
    };
    let (first, second) = (bye(0, 1), bye(1, 1));
    rig.check(&["#0 pause", "#1 pause", &first[0], &first[1], "#0 resume"]);
    rig.pass(250);
    rig.check(&[&second[0], &second[1], "#1 resume"]);
    // Late messages are counted and saved before our side is closed, and not answered.
    rig.say(0);
    rig.say(0);
    rig.close(0);
    rig.check(&[]);
    rig.flush();
    rig.check(&["#0 finish"]);
    rig.levels.sockets -= 1;
    rig.close(1);
    rig.levels.sockets -= 1;
    rig.pass(10);
    rig.check(&["#1 finish", "close listener", "stop"]);
    let outcome = rig.engine.outcome();
    assert_eq!(
        (outcome.connections, outcome.notified, outcome.drained),
        (2, 1, 2)
    );
    assert_eq!((outcome.byes, outcome.late, outcome.closed_1001), (2, 2, 2));
    assert_eq!((outcome.saved, outcome.cut, outcome.exit_code()), (1, 0, 0));
}

#[test]
fn a_dead_store_costs_the_replies_and_names_the_sessions() {
    let mut rig = Rig::new(Durability::Acked);
    rig.open(0, PLAIN, "a");
    rig.open(1, PLAIN, "b");
    rig.flush();
    rig.say(0);
    rig.flush();
    rig.log.clear();
    rig.answers = false;
    rig.store_is(StoreEvent::Stalled);
    rig.say(0);
    rig.shut_down();
    rig.pass(7_999);
    rig.check(&["#0 pause", "#1 pause"]);
    rig.pass(501);
    // The total is what the store has confirmed.
    rig.check(&[
        "#0 {\"bye\":true,\"total\":1}",
        "#0 close 1001",
        "#0 resume",
        "#1 {\"bye\":true,\"total\":0}",
        "#1 close 1001",
        "#1 resume",
    ]);
    rig.close(0);
    rig.check(&["#0 finish"]);
    rig.pass(1_500);
    rig.check(&["#1 cut", "close listener", "stop"]);
    let outcome = rig.engine.outcome();
    assert_eq!(outcome.unsaved, [("a".to_owned(), 2)]);
    assert_eq!((outcome.cut, outcome.saved, outcome.exit_code()), (1, 1, 1));
}

#[test]
fn a_second_request_skips_the_drain_and_a_third_ends_it() {
    let mut rig = Rig::new(Durability::Acked);
    rig.open(0, PLAIN, "");
    rig.shut_down();
    rig.levels.unread = 1;
    rig.pass(10);
    rig.check(&[]);
    rig.shut_down();
    rig.pass(0);
    rig.check(&[
        "#0 pause",
        "#0 {\"bye\":true,\"total\":0}",
        "#0 close 1001",
        "#0 resume",
    ]);
    rig.shut_down();
    rig.check(&["#0 cut", "stop"]);
    assert_eq!(rig.engine.shutdown.state(), State::Stopped);
}

#[test]
fn goodbyes_are_spread() {
    let config = Config {
        heartbeat: Duration::ZERO,
        shutdown: ShutdownBudget {
            drain_quiet: Duration::ZERO,
            ..ShutdownBudget::default()
        },
        ..Config::default()
    };
    let mut rig = Rig::with(&config);
    for slot in 0..100 {
        rig.open(slot, PLAIN, "");
    }
    rig.shut_down();
    let mut said = Vec::new();
    for _ in 0..6 {
        rig.pass(if said.is_empty() { 0 } else { 100 });
        said.push(rig.engine.outcome().byes);
    }
    assert_eq!(said, [1, 21, 41, 61, 81, 100]);
}
