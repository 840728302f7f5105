//! Steps that are deferred: what waits for them, and how they end.

use std::panic::resume_unwind;
use std::sync::mpsc::{self, Receiver, Sender};

use crate::config::{Config, Durability};
use crate::engine::app::{Application, Closed, Deferred, Session};
use crate::engine::io::Input;
use crate::engine::message::Message;
use crate::engine::shutdown::Phase;
use crate::engine::tests::{PLAIN, Rig, V1, conn, quiet};

/// Hands each of its steps over, with what the callback has asked for before.
struct Later {
    steps: Sender<Deferred>,
    calls: Sender<String>,
}

impl Application for Later {
    fn on_message(&mut self, _message: Message<'_>, session: &mut Session<'_>) {
        session.reply_text("soon");
        let state = [session.state(), b"m"].concat();
        session.set_state(&state).unwrap();
        self.steps.send(session.defer()).unwrap();
    }

    fn on_close(&mut self, session: &mut Session<'_>, why: Closed) {
        let state = String::from_utf8_lossy(session.state()).into_owned();
        let call = format!("{why:?} {} {state:?}", session.count());
        self.calls.send(call).unwrap();
        // It is too late for that.
        drop(session.defer());
    }
}

struct Service {
    rig: Rig,
    steps: Receiver<Deferred>,
    calls: Receiver<String>,
}

impl Service {
    fn new(config: &Config) -> Self {
        let ((step_sender, steps), (call_sender, calls)) = (mpsc::channel(), mpsc::channel());
        let app = Later {
            steps: step_sender,
            calls: call_sender,
        };
        let rig = Rig::serving(config, app);
        Self { rig, steps, calls }
    }

    /// A client that has its session.
    fn open(&mut self, slot: u32, session: &str) {
        self.rig.open(slot, PLAIN, session);
        self.rig.flush();
        self.rig.log.clear();
    }

    fn step(&self) -> Deferred {
        self.steps.try_recv().unwrap()
    }

    /// The loop is woken.
    fn wake(&mut self) {
        while self.rig.engine.has_completions() {
            self.rig.input(Input::Completed);
        }
        self.rig.flush();
    }

    #[track_caller]
    fn check(&mut self, outputs: &[&str], calls: &[&str]) {
        self.rig.check(outputs);
        assert_eq!(self.calls.try_iter().collect::<Vec<_>>(), calls);
    }
}

/// Appends to the state, and answers with it.
fn done(session: &mut Session<'_>) {
    let state = [session.state(), b"d"].concat();
    session.set_state(&state).unwrap();
    let (count, state) = (session.count(), String::from_utf8_lossy(&state));
    session.reply_text(format!("{count} {state}"));
}

#[test]
fn a_deferred_step_counts_when_it_is_completed() {
    for session in ["a", ""] {
        let mut service = Service::new(&quiet(Durability::Acked));
        service.open(0, session);
        service.open(1, "b");
        service.rig.say(0);
        let step = service.step();
        service.rig.say(1);
        service.rig.flush();
        service.check(&["#0 pause", "#1 pause"], &[]);
        assert_eq!(
            (
                service.rig.engine.unsaved(),
                service.rig.engine.open_steps()
            ),
            (0, 2)
        );
        // Others are not held up.
        service.step().complete(done);
        service.wake();
        service.check(
            &["#1 resume", "#1 soon", "#1 1 md", "#1 {\"count\":1}"],
            &[],
        );
        assert!(!step.is_cancelled());
        step.complete(done);
        service.wake();
        let mut expected = ["#0 soon", "#0 1 md", "#0 {\"count\":1}"].to_vec();
        expected.insert(if session.is_empty() { 3 } else { 0 }, "#0 resume");
        service.check(&expected, &[]);
        service.rig.close(0);
        service.rig.flush();
        service.check(&["#0 finish"], &["ByClient 1 \"md\""]);
        assert_eq!(service.rig.engine.open_steps(), 0);
    }
}

/// Neither the count nor the state, and the client sends the message again.
#[test]
fn a_step_that_fails_is_not_counted() {
    for panics in [false, true] {
        let mut service = Service::new(&quiet(Durability::Acked));
        service.open(0, "a");
        service.rig.say(0);
        let (step, why) = (
            service.step(),
            if panics {
                "as told"
            } else {
                "it was dropped, and not completed"
            },
        );
        if panics {
            step.complete(|_| resume_unwind(Box::new("as told")));
        } else {
            drop(step);
        }
        service.wake();
        let panic = format!("panic in a deferred step: {why}");
        service.check(
            &["#0 pause", &panic, "#0 close 1011", "#0 resume"],
            &["Failed 0 \"\""],
        );
        assert_eq!(service.rig.engine.unsaved(), 0);
    }
}

#[test]
fn a_rest_may_defer_again() {
    let mut service = Service::new(&quiet(Durability::Acked));
    service.open(0, "");
    service.rig.say(0);
    let (sender, again) = mpsc::channel();
    service.step().complete(move |session| {
        session.reply_text("once more");
        sender.send(session.defer()).unwrap();
    });
    service.wake();
    service.check(&["#0 pause"], &[]);
    again.recv().unwrap().complete(done);
    service.wake();
    service.check(
        &[
            "#0 soon",
            "#0 once more",
            "#0 1 md",
            "#0 {\"count\":1}",
            "#0 resume",
        ],
        &[],
    );
}

#[test]
fn of_two_deferrals_of_one_step_the_second_counts() {
    struct Twice(Sender<Deferred>);

    impl Application for Twice {
        fn on_message(&mut self, _message: Message<'_>, session: &mut Session<'_>) {
            for _ in 0..2 {
                self.0.send(session.defer()).unwrap();
            }
        }
    }

    let (sender, steps) = mpsc::channel();
    let mut rig = Rig::serving(&quiet(Durability::Acked), Twice(sender));
    rig.open(0, PLAIN, "");
    rig.say(0);
    let (first, second) = (steps.recv().unwrap(), steps.recv().unwrap());
    assert!(first.is_cancelled() && !second.is_cancelled());
    first.complete(|_| panic!("it never runs"));
    second.complete(|_| {});
    while rig.engine.has_completions() {
        rig.input(Input::Completed);
    }
    rig.check(&["#0 pause", "#0 {\"count\":1}", "#0 resume"]);
}

// The client goes.

#[test]
fn a_lost_connection_does_not_end_the_step_of_a_session() {
    let mut service = Service::new(&quiet(Durability::Acked));
    service.open(0, "a");
    service.rig.say(0);
    let step = service.step();
    service.rig.input(Input::Gone { conn: conn(0) });
    service.rig.flush();
    service.check(&["#0 pause"], &[]);
    step.complete(|session| {
        assert!(!session.can_reply());
        done(session);
    });
    service.wake();
    service.check(&[], &["Lost 1 \"md\""]);
    assert_eq!(
        (service.rig.engine.unsaved(), service.rig.engine.sessions()),
        (0, 0)
    );
    service.open(1, "a");
    service.rig.say(1);
    service.step().complete(done);
    service.wake();
    service.check(
        &[
            "#1 pause",
            "#1 resume",
            "#1 soon",
            "#1 2 mdmd",
            "#1 {\"count\":2}",
        ],
        &[],
    );
}

/// A client that closes is finished when its step has ended.
#[test]
fn a_close_waits_for_the_step() {
    let mut service = Service::new(&quiet(Durability::Acked));
    service.open(0, "a");
    service.rig.say(0);
    let step = service.step();
    service.rig.close(0);
    service.rig.flush();
    service.check(&["#0 pause", "#0 resume"], &[]);
    step.complete(done);
    service.wake();
    service.check(&["#0 finish"], &["ByClient 1 \"md\""]);
}

#[test]
fn a_step_of_a_client_without_a_session_ends_with_its_connection() {
    let mut service = Service::new(&quiet(Durability::Acked));
    service.open(0, "");
    service.rig.say(0);
    let step = service.step();
    service.rig.input(Input::Gone { conn: conn(0) });
    assert!(step.is_cancelled());
    step.complete(|_| panic!("it never runs"));
    service.wake();
    service.check(&["#0 pause"], &["Lost 0 \"\""]);
}

#[test]
fn a_newer_claim_cancels_the_step() {
    for elsewhere in [false, true] {
        let mut service = Service::new(&quiet(Durability::Acked));
        service.open(0, "a");
        service.rig.say(0);
        let step = service.step();
        service.rig.log.clear();
        if elsewhere {
            service
                .rig
                .input(crate::engine::store_events::tests::taken_over("a", 2));
            service.rig.log.retain(|line| line.contains("close"));
            service.check(&["#0 close 4001"], &["TakenOver 0 \"\""]);
        } else {
            service.rig.open(1, PLAIN, "a");
            service.rig.flush();
            service.rig.log.retain(|line| line.contains("close"));
            service.check(&["#0 close 4001"], &["TakenOver 0 \"\""]);
        }
        assert!(step.is_cancelled());
        step.complete(|_| panic!("it never runs"));
        service.wake();
        service.check(&[], &[]);
    }
}

/// Its client is gone already, and the session is claimed again on this node.
#[test]
fn a_newer_claim_cancels_the_step_of_a_client_that_is_gone() {
    let mut service = Service::new(&quiet(Durability::Acked));
    service.open(0, "a");
    service.rig.say(0);
    let step = service.step();
    service.rig.input(Input::Gone { conn: conn(0) });
    service.rig.flush();
    service.check(&["#0 pause"], &[]);
    service.open(1, "a");
    assert!(step.is_cancelled());
    service.check(&[], &["Lost 0 \"\""]);
    drop(step);
    service.rig.say(1);
    service.step().complete(done);
    service.wake();
    service.rig.log.retain(|line| line.contains("count"));
    service.check(&["#1 {\"count\":1}"], &[]);
}

// Limits and the end.

#[test]
fn too_many_open_steps_hold_all_clients_back() {
    let mut config = quiet(Durability::Acked);
    config.limits.deferred_max = 4;
    let mut service = Service::new(&config);
    (0..6).for_each(|slot| service.open(slot, ""));
    (0..3).for_each(|slot| service.rig.say(slot));
    service.check(&["#0 pause", "#1 pause", "#2 pause"], &[]);
    service.rig.say(3);
    service.check(&["#3 pause", "#4 pause", "#5 pause"], &[]);
    service.step().complete(|_| {});
    service.wake();
    service.rig.log.retain(|line| line.contains("resume"));
    service.check(&[], &[]);
    service.step().complete(|_| {});
    service.wake();
    service.rig.log.retain(|line| line.contains("resume"));
    service.rig.log.sort();
    service.check(&["#0 resume", "#1 resume", "#4 resume", "#5 resume"], &[]);
}

/// Draining waits for it; its reply leaves before the goodbye.
#[test]
fn a_shutdown_waits_for_a_step() {
    let mut service = Service::new(&quiet(Durability::Acked));
    service.rig.open(0, V1, "a");
    service.rig.flush();
    service.rig.say(0);
    let step = service.step();
    service.rig.shut_down();
    service.rig.pass(1_000);
    assert_eq!(service.rig.engine.phase(), Phase::Draining);
    service.rig.log.clear();
    step.complete(done);
    service.wake();
    service.rig.pass(1_500);
    service
        .rig
        .log
        .retain(|line| !line.contains("pause") && !line.contains("resume"));
    service.rig.log.truncate(5);
    service.check(
        &[
            "#0 soon",
            "#0 1 md",
            "#0 {\"count\":1}",
            "#0 {\"bye\":true,\"total\":1}",
            "#0 close 1001",
        ],
        &[],
    );
}

/// After the goodbye it is late: it is counted, and not answered.
#[test]
fn a_step_that_is_late_is_counted() {
    for leaves_early in [false, true] {
        let mut service = Service::new(&quiet(Durability::Acked));
        service.open(0, "a");
        service.rig.say(0);
        let step = service.step();
        service.rig.shut_down();
        service.rig.pass(5_000);
        assert_eq!(service.rig.engine.phase(), Phase::Closing);
        service
            .rig
            .log
            .retain(|line| line.starts_with("#0 {") || line.contains("close"));
        service.check(&["#0 {\"bye\":true,\"total\":0}", "#0 close 1001"], &[]);
        if leaves_early {
            // Its client is gone, and the end still waits for it.
            service.rig.input(Input::Gone { conn: conn(0) });
            service.rig.levels.sockets = 0;
        }
        service.rig.pass(1_000);
        assert_eq!(service.rig.engine.phase(), Phase::Closing);
        step.complete(done);
        service.wake();
        if !leaves_early {
            service.rig.close(0);
            service.rig.levels.sockets = 0;
        }
        service.rig.pass(1_000);
        let outcome = service.rig.engine.outcome();
        assert_eq!((outcome.abandoned, outcome.unsaved), (0, vec![]));
        assert_eq!(
            service.calls.try_iter().collect::<Vec<_>>(),
            ["Shutdown 1 \"md\""]
        );
        assert_eq!(service.rig.log.last().map(String::as_str), Some("stop"));
    }
}

/// A worker that never completes delays nothing beyond the cut.
#[test]
fn a_step_that_is_open_at_the_cut_is_not_counted() {
    for leaves_early in [false, true] {
        let mut service = Service::new(&quiet(Durability::Acked));
        service.open(0, "a");
        service.rig.say(0);
        let step = service.step();
        service.rig.shut_down();
        service.rig.pass(5_000);
        if leaves_early {
            service.rig.input(Input::Gone { conn: conn(0) });
        }
        service.rig.levels.sockets = 0;
        service.rig.pass(5_000);
        assert_eq!(service.rig.log.last().map(String::as_str), Some("stop"));
        let outcome = service.rig.engine.outcome();
        assert_eq!((outcome.abandoned, outcome.unsaved), (1, vec![]));
        assert_eq!(
            service.calls.try_iter().collect::<Vec<_>>(),
            ["Shutdown 0 \"\""]
        );
        assert!(step.is_cancelled());
        let cut = usize::from(!leaves_early);
        assert_eq!(outcome.cut, cut);
    }
}

/// It may even outlive the server.
#[test]
fn a_step_that_outlives_its_server_is_harmless() {
    let mut service = Service::new(&quiet(Durability::Acked));
    service.open(0, "a");
    service.open(1, "b");
    service.rig.say(0);
    service.rig.say(1);
    let (first, second) = (service.step(), service.step());
    drop(service.rig);
    assert!(first.is_cancelled() && second.is_cancelled());
    first.complete(|_| panic!("it never runs"));
    drop(second);
}
