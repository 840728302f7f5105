//! What the application is called with, and what a callback that panics leaves behind.

use std::panic::resume_unwind;
use std::sync::mpsc::{self, Receiver, Sender};

use super::*;
use crate::config::{Config, Durability};
use crate::engine::app::{Application, InvalidCloseCode, Session};
use crate::engine::io::{Input, Received};
use crate::engine::tests::{PLAIN, Rig, V1, conn, quiet};

const PANIC: &str = "panic in on_message: as it was told";

/// Tells what it is called with, and panics in the callback of this name.
struct Told {
    calls: Sender<String>,
    panics_in: &'static str,
}

impl Told {
    fn called(&self, callback: &str, session: &Session<'_>, more: &str) {
        let name = session.id().map_or("-", SessionId::as_str);
        let (slot, count) = (session.conn().slot, session.count());
        let can_reply = if session.can_reply() { "" } else { ", mute" };
        let call = format!("{callback} #{slot} {name} {count}{more}{can_reply}");
        self.calls.send(call).unwrap();
        self.may_panic(callback);
    }

    /// Without the hook, which would print it.
    fn may_panic(&self, callback: &str) {
        if callback == self.panics_in {
            resume_unwind(Box::new("as it was told"));
        }
    }
}

impl Application for Told {
    fn on_upgrade(&mut self, request: &Upgrade<'_>) -> Admission {
        self.may_panic("on_upgrade");
        Admission::accept(request)
    }

    fn on_open(&mut self, session: &mut Session<'_>) {
        session.reply_text("welcome");
        let more = if session.is_resumed() {
            ", resumed"
        } else {
            ""
        };
        self.called("on_open", session, more);
    }

    fn on_message(&mut self, _message: Message<'_>, session: &mut Session<'_>) {
        session.reply_text("heard");
        self.called("on_message", session, "");
    }

    fn on_close(&mut self, session: &mut Session<'_>, why: Closed) {
        session.reply_text("never sent");
        self.called("on_close", session, &format!(", {why:?}"));
    }
}

/// The engine, and the calls.
struct Service {
    rig: Rig,
    calls: Receiver<String>,
}

impl Service {
    fn new(config: &Config, panics_in: &'static str) -> Self {
        let (sender, calls) = mpsc::channel();
        let app = Told {
            calls: sender,
            panics_in,
        };
        let rig = Rig::serving(config, app);
        Self { rig, calls }
    }

    #[track_caller]
    fn check(&mut self, outputs: &[&str], calls: &[&str]) {
        self.rig.flush();
        self.rig.check(outputs);
        let called: Vec<_> = self.calls.try_iter().collect();
        assert_eq!(called, calls);
    }
}

#[test]
fn a_service_is_told_of_each_client_from_its_beginning_to_its_end() {
    let mut service = Service::new(&quiet(Durability::Acked), "");
    service.rig.open(0, PLAIN, "");
    service.check(&["#0 welcome"], &["on_open #0 - 0"]);
    service.rig.say(0);
    service.check(&["#0 heard", "#0 {\"count\":1}"], &["on_message #0 - 1"]);
    service.rig.close(0);
    service.check(&["#0 finish"], &["on_close #0 - 1, ByClient, mute"]);

    service.rig.open(1, PLAIN, "a");
    service.check(
        &["#1 pause", "#1 welcome", "#1 resume"],
        &["on_open #1 a 0"],
    );
    service.rig.say(1);
    service.rig.input(Input::Gone { conn: conn(1) });
    service.check(&[], &["on_message #1 a 1", "on_close #1 a 1, Lost, mute"]);
    service.rig.open(2, PLAIN, "a");
    service.check(
        &["#2 pause", "#2 welcome", "#2 resume"],
        &["on_open #2 a 1, resumed"],
    );
}

/// The end of the one comes before the beginning of the other, also on one node.
#[test]
fn a_takeover_is_an_end_and_a_beginning() {
    let mut service = Service::new(&quiet(Durability::Acked), "");
    service.rig.open(0, PLAIN, "a");
    service.check(
        &["#0 pause", "#0 welcome", "#0 resume"],
        &["on_open #0 a 0"],
    );
    service.rig.open(1, PLAIN, "a");
    service.rig.say(0);
    service.check(
        &[
            "#1 pause",
            "#0 pause",
            "#0 close 4001",
            "#0 resume",
            "#1 welcome",
            "#1 resume",
        ],
        &[
            "on_close #0 a 0, TakenOver, mute",
            "on_open #1 a 0, resumed",
        ],
    );
    service.rig.close(0);
    service.check(&["#0 finish"], &[]);
}

#[test]
fn what_arrives_after_the_goodbye_reaches_the_service() {
    let mut service = Service::new(&quiet(Durability::Acked), "");
    service.rig.open(0, PLAIN, "a");
    service.rig.open(1, PLAIN, "");
    service.rig.flush();
    service.rig.log.clear();
    service.calls.try_iter().for_each(drop);
    service.rig.shut_down();
    for _ in 0..100 {
        service.rig.pass(50);
    }
    service.rig.log.clear();
    for slot in [0, 1] {
        service.rig.say(slot);
        service.rig.close(slot);
    }
    // The one waits for its commit, and the other has no session.
    service.check(
        &["#1 finish", "#0 finish"],
        &[
            "on_message #0 a 1, mute",
            "on_close #0 a 1, Shutdown, mute",
            "on_message #1 - 1, mute",
            "on_close #1 - 1, Shutdown, mute",
        ],
    );
    assert_eq!(service.rig.engine.outcome().late, 2);
}

// Panics.

#[test]
fn a_message_on_which_the_service_panics_is_not_counted() {
    let mut service = Service::new(&quiet(Durability::Acked), "on_message");
    for (slot, session) in [(0, "a"), (1, "")] {
        service.rig.open(slot, PLAIN, session);
        service.rig.flush();
        service.rig.log.clear();
        service.calls.try_iter().for_each(drop);
        service.rig.say(slot);
        service.rig.say(slot);
        let name = if session.is_empty() { "-" } else { session };
        service.check(
            &[PANIC, &format!("#{slot} close 1011")],
            &[
                &format!("on_message #{slot} {name} 1"),
                &format!("on_close #{slot} {name} 0, Failed, mute"),
            ],
        );
        assert_eq!(service.rig.engine.unsaved(), 0);
    }
}

#[test]
fn a_late_message_on_which_the_service_panics_is_not_counted_nor_is_the_next() {
    let mut service = Service::new(&quiet(Durability::Acked), "on_message");
    service.rig.open(0, PLAIN, "a");
    service.rig.flush();
    service.rig.shut_down();
    for _ in 0..100 {
        service.rig.pass(50);
    }
    service.rig.log.clear();
    service.calls.try_iter().for_each(drop);
    service.rig.say(0);
    service.rig.say(0);
    service.rig.close(0);
    service.check(
        &[PANIC, "#0 finish"],
        &["on_message #0 a 1, mute", "on_close #0 a 0, Shutdown, mute"],
    );
    let outcome = service.rig.engine.outcome();
    assert_eq!((outcome.late, outcome.closed_1001), (0, 1));
}

#[test]
fn panics_in_the_other_callbacks() {
    let mut service = Service::new(&quiet(Durability::Acked), "on_open");
    service.rig.open(0, V1, "a");
    service.rig.flush();
    let hello = "#0 {\"session\":\"a\",\"count\":0,\"resumed\":false}";
    service.check(
        &[
            "#0 pause",
            hello,
            "panic in on_open: as it was told",
            "#0 close 1011",
            "#0 resume",
        ],
        &["on_open #0 a 0", "on_close #0 a 0, Failed, mute"],
    );

    let mut service = Service::new(&quiet(Durability::Acked), "on_close");
    service.rig.open(0, PLAIN, "");
    service.rig.close(0);
    service.check(
        &[
            "#0 welcome",
            "panic in on_close: as it was told",
            "#0 finish",
        ],
        &["on_open #0 - 0", "on_close #0 - 0, ByClient, mute"],
    );

    let mut service = Service::new(&quiet(Durability::Acked), "on_upgrade");
    let request = Upgrade {
        path: "/",
        query: "",
        headers: &[],
        peer: None,
        session: None,
        subprotocol: None,
        is_listed: true,
    };
    let admission = service.rig.engine.admit(&request);
    assert_eq!(
        admission.0.map_err(|refusal| refusal.status).err(),
        Some(500)
    );
    service.rig.pass(1);
    service.check(&["panic in on_upgrade: as it was told"], &[]);
}

/// What was processed before is acknowledged, though its commit comes after the panic.
#[test]
fn a_panic_keeps_what_was_processed_before_it() {
    struct Second;

    impl Application for Second {
        fn on_message(&mut self, _message: Message<'_>, session: &mut Session<'_>) {
            if session.count() == 2 {
                resume_unwind(Box::new("as it was told".to_owned()));
            }
        }
    }

    let mut rig = Rig::serving(&quiet(Durability::Acked), Second);
    rig.open(0, PLAIN, "a");
    rig.flush();
    rig.log.clear();
    (0..3).for_each(|_| rig.say(0));
    rig.check(&[PANIC]);
    rig.flush();
    rig.check(&["#0 {\"count\":1}", "#0 close 1011"]);
}

// State.

/// Appends each message to the state, and what it is told besides; sends back all of it.
struct Chain;

impl Chain {
    fn append(session: &mut Session<'_>, text: &str) {
        let state = [session.state(), text.as_bytes()].concat();
        session.set_state(&state).unwrap();
        let state = String::from_utf8_lossy(session.state()).into_owned();
        session.reply_text(state);
    }
}

impl Application for Chain {
    fn on_open(&mut self, session: &mut Session<'_>) {
        Self::append(session, "(");
    }

    fn on_message(&mut self, message: Message<'_>, session: &mut Session<'_>) {
        let Message::Text(text) = message else { return };
        Self::append(session, text);
        if session.state().ends_with(b"hihihi") {
            resume_unwind(Box::new("enough"));
        }
    }

    fn on_close(&mut self, session: &mut Session<'_>, _why: Closed) {
        Self::append(session, ")");
    }
}

/// All that changes a state is committed, and a step that fails changes nothing.
#[test]
fn a_state_lives_as_long_as_its_session() {
    for durability in [Durability::Acked, Durability::Relaxed] {
        let mut rig = Rig::serving(&quiet(durability), Chain);
        rig.open(0, PLAIN, "a");
        rig.flush();
        rig.log.clear();
        (0..4).for_each(|_| rig.say(0));
        rig.close(0);
        rig.pass(200);
        rig.log.retain(|line| !line.contains("count"));
        rig.check(&match durability {
            Durability::Acked => [
                "panic in on_message: enough",
                "#0 (hi",
                "#0 (hihi",
                "#0 close 1011",
                "#0 finish",
            ],
            Durability::Relaxed => [
                "#0 (hi",
                "#0 (hihi",
                "panic in on_message: enough",
                "#0 close 1011",
                "#0 finish",
            ],
        });
        assert_eq!((rig.engine.unsaved(), rig.engine.sessions()), (0, 0));
        rig.open(1, PLAIN, "a");
        rig.pass(200);
        let opened = match durability {
            Durability::Acked => ["#1 pause", "#1 resume", "#1 (hihi)("],
            Durability::Relaxed => ["#1 pause", "#1 (hihi)(", "#1 resume"],
        };
        rig.check(&opened);
        // Taken over on the same node, before anything was said.
        rig.open(2, PLAIN, "a");
        rig.pass(200);
        rig.log.retain(|line| line.starts_with("#2 ("));
        rig.check(&["#2 (hihi)()("]);
        rig.input(Input::Gone { conn: conn(2) });
        rig.pass(200);
        assert_eq!(rig.engine.unsaved(), 0);
    }
}

#[test]
fn a_state_without_a_session_ends_with_its_connection() {
    let mut rig = Rig::serving(&quiet(Durability::Acked), Chain);
    rig.open(0, PLAIN, "");
    rig.say(0);
    rig.check(&["#0 (", "#0 (hi", "#0 {\"count\":1}"]);
    rig.close(0);
    rig.log.clear();
    rig.open(1, PLAIN, "");
    rig.check(&["#1 ("]);
    // A newer claim elsewhere: what it had is the other's, and the end says so once.
    rig.open(2, PLAIN, "b");
    rig.flush();
    rig.claim_elsewhere("b");
    rig.say(2);
    rig.flush();
    rig.log.retain(|line| line.contains("4001"));
    rig.check(&["#2 close 4001"]);
}

// What a service may say.

#[test]
fn codes_that_a_service_may_close_with() {
    struct Closes;

    impl Application for Closes {
        fn on_message(&mut self, message: Message<'_>, session: &mut Session<'_>) {
            let Message::Text(code) = message else { return };
            let code = code.parse().unwrap();
            if let Err(InvalidCloseCode(refused)) = session.close(code, "") {
                assert_eq!(refused, code);
                session.reply_text("refused");
            }
        }
    }

    let allowed = |code: u16| matches!(code, 1000 | 1003 | 1008 | 3000..=3999 | 4010..=4999);
    let edges = [
        0, 999, 1000, 1001, 1003, 1005, 1006, 1008, 1011, 1015, 2999, 3000, 3999,
    ];
    for code in edges
        .into_iter()
        .chain([4000, 4009, 4010, 4999, 5000, u16::MAX])
    {
        let mut rig = Rig::serving(&quiet(Durability::Acked), Closes);
        rig.open(0, PLAIN, "");
        rig.input(Input::Message {
            conn: conn(0),
            message: Message::Text(&code.to_string()),
        });
        let closed = format!("#0 close {code}");
        if allowed(code) {
            rig.check(&["#0 {\"count\":1}", &closed]);
        } else {
            rig.check(&["#0 refused", "#0 {\"count\":1}"]);
        }
    }
}

/// What sundown says by itself is the application's choice.
#[test]
fn a_client_that_is_told_nothing_by_sundown_gets_the_close_alone() {
    let mut service = Service::new(&quiet(Durability::Acked), "");
    service.rig.input(Input::Opened {
        conn: conn(0),
        protocol: PLAIN,
        tells: crate::engine::app::Tells::NOTHING,
        session: None,
        received: Received::default(),
    });
    service.rig.say(0);
    service.rig.shut_down();
    for _ in 0..100 {
        service.rig.pass(50);
    }
    service.rig.close(0);
    service.rig.pass(1);
    let log = &service.rig.log;
    let told: Vec<_> = log.iter().filter(|line| line.starts_with("#0")).collect();
    assert_eq!(
        told,
        [
            "#0 welcome",
            "#0 heard",
            "#0 pause",
            "#0 close 1001",
            "#0 resume",
            "#0 finish"
        ]
    );
    let outcome = service.rig.engine.outcome();
    assert_eq!((outcome.byes, outcome.closed_1001), (0, 1));
}
