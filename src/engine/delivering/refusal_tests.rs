//! Pushes that the store refuses: the application is told of each once, whatever its client does.

use std::sync::{Arc, Mutex};

use super::*;
use crate::config::Durability;
use crate::engine::app::{Application, Closed, Deferred, Session};
use crate::engine::io::Input;
use crate::engine::mailbox::PushRefused;
use crate::engine::message::Message;
use crate::engine::tests::{Rig, V2, conn, quiet};

/// What the service has seen, and the step that it has deferred last.
#[derive(Clone, Default)]
struct Seen(Arc<Mutex<(Vec<String>, Option<Deferred>)>>);

impl Seen {
    fn note(&self, what: String) {
        self.0.lock().unwrap().0.push(what);
    }

    fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().unwrap().0)
    }
}

/// `to SESSION`, `defer`, both in one message, or nothing. It pushes to itself what it is told of a
/// refusal, and tries to defer that step if the message was `stubborn`.
struct Sender {
    seen: Seen,
    is_stubborn: bool,
}

impl Application for Sender {
    fn on_open(&mut self, _session: &mut Session<'_>) {
        self.seen.note("open".to_owned());
    }

    fn on_message(&mut self, message: Message<'_>, session: &mut Session<'_>) {
        let Message::Text(text) = message else { return };
        for word in text.split(' ') {
            match word {
                "defer" => {
                    let deferred = session.defer();
                    self.seen.0.lock().unwrap().1 = Some(deferred);
                }
                "stubborn" => self.is_stubborn = true,
                "hi" => {}
                to => session
                    .push_to(&SessionId::parse(to).unwrap(), "x")
                    .unwrap(),
            }
        }
    }

    fn on_push_refused(
        &mut self,
        to: &SessionId,
        _body: &Body,
        why: PushRefused,
        session: &mut Session<'_>,
    ) {
        assert_eq!(why, PushRefused::Unknown);
        let name = session.id().map(ToString::to_string).unwrap_or_default();
        let replies = if session.can_reply() { "can" } else { "cannot" };
        let slot = session.conn().slot;
        self.seen
            .note(format!("{name}: no {to}; #{slot} {replies} reply"));
        session.push(format!("no {to}")).unwrap();
        if self.is_stubborn {
            let deferred = session.defer();
            self.seen.0.lock().unwrap().1 = Some(deferred);
        }
    }

    fn on_close(&mut self, session: &mut Session<'_>, _why: Closed) {
        let name = session.id().map(ToString::to_string).unwrap_or_default();
        self.seen.note(format!("close {name}"));
    }
}

fn serve() -> (Rig, Seen) {
    let seen = Seen::default();
    let sender = Sender {
        seen: seen.clone(),
        is_stubborn: false,
    };
    let mut rig = Rig::serving(&quiet(Durability::Acked), sender);
    rig.open_all(V2, &["a"]);
    seen.take();
    (rig, seen)
}

fn complete(rig: &mut Rig, seen: &Seen) {
    let deferred = seen.0.lock().unwrap().1.take().unwrap();
    deferred.complete(|session| session.reply_text("done"));
    assert!(rig.engine.has_completions());
    rig.input(Input::Completed);
}

/// A refusal is told in a step of its own, which has to wait for one that is open.
#[test]
fn a_refusal_waits_while_a_step_of_its_session_is_open() {
    let (mut rig, seen) = serve();
    rig.answers = false;
    rig.tell(0, "mnobody");
    rig.asked();
    rig.tell(0, "mdefer");
    rig.answer();
    rig.check(&["#0 pause", "#0 c1"]);
    assert_eq!(seen.take(), [""; 0]);
    rig.answers = true;
    complete(&mut rig, &seen);
    rig.flush();
    rig.check(&["#0 resume", "#0 rdone", "#0 c2", "#0 m1 no nobody"]);
    assert_eq!(seen.take(), ["a: no nobody; #0 can reply"]);
}

/// The client leaves while a step is open: what is left is told when that ends, before `on_close`.
#[test]
fn a_refusal_is_told_before_the_close_of_its_client() {
    let (mut rig, seen) = serve();
    rig.answers = false;
    rig.tell(0, "mnobody");
    rig.asked();
    rig.tell(0, "mdefer");
    rig.answer();
    rig.input(Input::Gone { conn: conn(0) });
    assert_eq!(seen.take(), [""; 0]);
    rig.answers = true;
    complete(&mut rig, &seen);
    assert_eq!(seen.take(), ["a: no nobody; #0 cannot reply", "close a"]);
    rig.flush();
    assert_eq!(rig.store_sent("a"), 1, "what it has pushed is in the store");
    assert_eq!(rig.engine.sessions.len(), 0);
}

/// So it is if a newer connection takes the session while a step is open, which is cancelled then.
#[test]
fn a_refusal_is_told_before_the_session_goes_to_a_newer_connection() {
    let (mut rig, seen) = serve();
    rig.answers = false;
    rig.tell(0, "mnobody");
    rig.asked();
    rig.tell(0, "mdefer");
    rig.answer();
    rig.answers = true;
    rig.open(1, V2, "a");
    assert_eq!(seen.take(), ["a: no nobody; #0 cannot reply", "close a"]);
    rig.flush();
    assert!(
        rig.log.contains(&"#1 m1 no nobody".to_owned()),
        "{:?}",
        rig.log
    );
    assert_eq!(seen.take(), ["open"]);
}

/// The answer of the store comes when the client has gone.
#[test]
fn a_refusal_is_told_after_the_close_of_its_client() {
    for is_stubborn in [false, true] {
        let (mut rig, seen) = serve();
        rig.answers = false;
        rig.tell(
            0,
            if is_stubborn {
                "mnobody nil stubborn"
            } else {
                "mnobody nil"
            },
        );
        rig.asked();
        rig.input(Input::Gone { conn: conn(0) });
        assert_eq!(seen.take(), ["close a"]);
        rig.answers = true;
        rig.answer();
        let told = [
            "a: no nobody; #0 cannot reply",
            "a: no nil; #0 cannot reply",
        ];
        assert_eq!(seen.take(), told);
        rig.flush();
        assert_eq!(rig.engine.sessions.len(), 0);
        // A step that was to be deferred without a client is none.
        let sent = if is_stubborn { 0 } else { 2 };
        assert_eq!(rig.store_sent("a"), sent);
    }
}

/// The answer of the store comes when another connection waits for the session.
#[test]
fn a_refusal_is_told_to_the_connection_that_has_the_session_by_then() {
    let (mut rig, seen) = serve();
    rig.answers = false;
    rig.tell(0, "mnobody");
    rig.asked();
    rig.open(1, V2, "a");
    assert_eq!(seen.take(), ["close a"]);
    rig.answers = true;
    rig.answer();
    assert_eq!(seen.take(), [""; 0], "the session is not granted");
    rig.flush();
    assert_eq!(seen.take(), ["open", "a: no nobody; #1 can reply"]);
    assert_eq!(rig.log.last().unwrap(), "#1 m1 no nobody");
}

/// That connection has gone before it was granted the session: the store is asked for it all the same.
#[test]
fn a_refusal_is_told_if_the_connection_that_waits_for_the_session_goes() {
    for has_asked in [false, true] {
        let (mut rig, seen) = serve();
        rig.answers = false;
        rig.tell(0, "mnobody");
        rig.asked();
        rig.open(1, V2, "a");
        rig.answer();
        if has_asked {
            assert_eq!(rig.asked(), ["claim a"]);
        }
        rig.input(Input::Gone { conn: conn(1) });
        rig.answers = true;
        rig.flush();
        assert_eq!(seen.take(), ["close a", "a: no nobody; #1 cannot reply"]);
        assert_eq!((rig.store_sent("a"), rig.engine.sessions.len()), (1, 0));
    }
}

/// A step that is left open on a refusal ends before the next is told.
#[test]
fn refusals_are_told_one_step_after_the_other() {
    let (mut rig, seen) = serve();
    rig.tell(0, "mnobody nil stubborn");
    rig.flush();
    assert_eq!(seen.take(), ["a: no nobody; #0 can reply"]);
    complete(&mut rig, &seen);
    assert_eq!(seen.take(), ["a: no nil; #0 can reply"]);
    complete(&mut rig, &seen);
    rig.flush();
    assert_eq!(rig.store_sent("a"), 2);
}

/// The last push of a client before the end of the server is refused, and what comes of that is saved.
#[test]
fn a_refusal_at_the_end_of_a_shutdown_is_told_and_saved() {
    let (mut rig, seen) = serve();
    rig.shut_down();
    rig.answers = false;
    rig.tell(0, "mnobody");
    rig.asked();
    rig.input(Input::Gone { conn: conn(0) });
    rig.levels.sockets = 0;
    rig.report_levels();
    let has_stopped = |rig: &Rig| rig.log.iter().any(|line| line == "stop");
    assert!(!has_stopped(&rig), "a save is under way");
    rig.answers = true;
    rig.answer();
    assert_eq!(seen.take(), ["close a", "a: no nobody; #0 cannot reply"]);
    rig.pass(10_000);
    assert!(has_stopped(&rig));
    assert_eq!(rig.store_sent("a"), 1);
}
