//! Who answers the notice, and when each is let go: what is waited for, and what is not.
//! Method: the engine's rig, with a store that answers when it is told to.

use std::sync::mpsc::{self, Sender};

use super::*;
use crate::config::Durability;
use crate::engine::app::{Application, Deferred, Session};
use crate::engine::io::Input;
use crate::engine::message::Message;
use crate::engine::shutdown::State;
use crate::engine::tests::{PLAIN, Rig, V2, conn, quiet};

/// So many `sundown.v2` clients at slots 0 and up, then a plain one.
fn crowd(durability: Durability, count: u32) -> Rig {
    let mut rig = Rig::new(durability);
    rig.pass(0);
    (0..count).for_each(|slot| rig.open(slot, V2, &format!("s{slot}")));
    rig.open(count, PLAIN, "");
    rig.flush();
    rig.log.clear();
    rig
}

/// With an interval of a millisecond for each, in which the others go on.
#[track_caller]
fn check_left(rig: &mut Rig, slots: &[u32]) {
    let each = |slot: &u32| {
        let goodbye = format!("#{slot} b{{\"total\":0,\"sent\":0}}");
        [goodbye, format!("#{slot} close 1001")]
    };
    let expected: Vec<_> = slots.iter().flat_map(each).collect();
    assert_eq!(std::mem::take(&mut rig.log), expected);
}

fn is_draining(rig: &Rig) -> bool {
    matches!(rig.engine.shutdown.state(), State::Draining { .. })
}

#[test]
fn each_leaves_at_its_slot_while_others_are_served() {
    for durability in [Durability::Acked, Durability::Relaxed] {
        // 7 ms for ten.
        let mut rig = crowd(durability, 9);
        rig.levels.unread = 1;
        rig.shut_down();
        rig.pass(0);
        rig.log.clear();
        (0..9).for_each(|slot| rig.tell(slot, "q"));
        rig.flush();
        rig.pass(0);
        check_left(&mut rig, &[0]);
        rig.pass(1);
        check_left(&mut rig, &[1]);
        rig.say(9);
        rig.flush();
        rig.check(&["#9 {\"count\":1}"]);
        rig.pass(2);
        check_left(&mut rig, &[2, 3, 4]);
        (0..5).for_each(|slot| rig.close(slot));
        let finished: Vec<_> = (0..5).map(|slot| format!("#{slot} finish")).collect();
        assert_eq!(std::mem::take(&mut rig.log), finished);
        rig.pass(100);
        check_left(&mut rig, &[5, 6, 7, 8]);
        assert!(is_draining(&rig));
        // Those that have left are drained, whether they are still there or not.
        rig.levels.unread = 0;
        rig.pass(1_000);
        assert!(rig.engine.phase() > Phase::Draining);
        let outcome = rig.engine.outcome();
        assert_eq!((outcome.drained, outcome.byes), (10, 10));
        assert_eq!(outcome.closed_1001, 5);
    }
}

#[test]
fn who_is_ready_after_its_slot_leaves_at_once() {
    let mut rig = crowd(Durability::Acked, 2);
    rig.levels.unread = 1;
    rig.shut_down();
    rig.pass(1_000);
    rig.log.clear();
    rig.tell(1, "q");
    // Not before its last save: the store may have lost what it has confirmed.
    rig.check(&[]);
    assert_eq!(rig.asked(), ["s1=0"]);
    rig.answer();
    rig.pass(0);
    check_left(&mut rig, &[1]);
    // It sends no more messages, whatever comes.
    rig.tell(1, "mlate");
    rig.flush();
    rig.check(&[]);
    assert_eq!(rig.engine.outcome().late, 0);
}

#[test]
fn who_said_so_before_the_notice_leaves_at_its_slot() {
    let mut rig = crowd(Durability::Acked, 2);
    rig.levels.unread = 1;
    rig.tell(1, "q");
    rig.pass(0);
    rig.check(&[]);
    rig.shut_down();
    rig.pass(0);
    rig.log.clear();
    rig.pass(2);
    check_left(&mut rig, &[1]);
}

#[test]
fn nobody_leaves_before_its_messages_are_committed() {
    for durability in [Durability::Acked, Durability::Relaxed] {
        let mut rig = crowd(durability, 2);
        rig.levels.unread = 1;
        rig.shut_down();
        rig.pass(0);
        rig.log.clear();
        rig.answers = false;
        rig.tell(0, "mone");
        rig.tell(0, "q");
        rig.asked();
        rig.pass(300);
        rig.check(&[]);
        rig.answer();
        rig.pass(0);
        let all = ["#0 c1", "#0 b{\"total\":1,\"sent\":0}", "#0 close 1001"];
        rig.check(&all);
        // The same once nothing is read any more: the phases are upper limits.
        rig.tell(1, "mone");
        rig.tell(1, "q");
        rig.asked();
        rig.pass(3_000);
        rig.check(&["#1 pause", "#2 pause"]);
        rig.answer();
        rig.engine.handle_timeout(rig.now);
        rig.input(Input::Completed);
        rig.check(&[
            "#1 c1",
            "#1 b{\"total\":1,\"sent\":0}",
            "#1 close 1001",
            "#1 resume",
        ]);
        assert_eq!(rig.engine.phase(), Phase::Persisting);
    }
}

/// Defers what it does, and hands it to the test: when it gets a message, or when it is woken because
/// of a message.
struct Later(Sender<Deferred>);

impl Application for Later {
    fn on_message(&mut self, message: Message<'_>, session: &mut Session<'_>) {
        match message {
            Message::Text("wake") => session.wake_in(Duration::from_millis(1)),
            Message::Text(_) | Message::Binary(_) => self.0.send(session.defer()).unwrap(),
        }
    }

    fn on_timer(&mut self, session: &mut Session<'_>) {
        self.0.send(session.defer()).unwrap();
    }
}

/// Its slot is looked at again when the step ends: one that saves nothing gets no answer of the store,
/// which would remind of it.
#[test]
fn who_has_a_step_open_at_its_slot_leaves_when_it_ends() {
    for (session, says) in [("", "mdefer"), ("", "mwake"), ("a", "mwake")] {
        let (sender, steps) = mpsc::channel();
        let mut rig = Rig::serving(&quiet(Durability::Acked), Later(sender));
        rig.open(0, V2, session);
        rig.open(1, PLAIN, "");
        rig.flush();
        rig.tell(0, says);
        rig.flush();
        rig.pass(1);
        let step = steps.try_recv().unwrap();
        rig.levels.unread = 1;
        rig.tell(0, "q");
        rig.shut_down();
        rig.pass(300);
        assert!(!rig.log.iter().any(|line| line.starts_with("#0 b")));
        rig.log.clear();
        step.complete(|_| {});
        assert!(rig.engine.has_completions());
        rig.input(Input::Completed);
        rig.flush();
        rig.pass(0);
        rig.log
            .retain(|line| line != "#0 c1" && line != "#0 resume");
        rig.check(&["#0 b{\"total\":1,\"sent\":0}", "#0 close 1001"]);
        assert!(is_draining(&rig));
    }
}

/// What each phase does about a peer that does not answer its Close, or that has said that it
/// leaves and closes by itself.
#[test]
fn the_drain_waits_for_nobody_who_has_left() {
    let mut rig = crowd(Durability::Acked, 3);
    rig.shut_down();
    rig.pass(0);
    rig.close(3);
    rig.tell(0, "q");
    rig.tell(1, "q");
    rig.close(1);
    rig.pass(100);
    assert!(is_draining(&rig));
    // Of the three, one has had its goodbye, one has gone, and this one breaks a rule.
    rig.tell(2, "q");
    rig.tell(2, "q");
    rig.pass(0);
    assert!(rig.engine.phase() > Phase::Draining);
}

#[test]
fn who_answers_is_told_what_remains_of_its_wait() {
    let mut rig = crowd(Durability::Acked, 2);
    rig.levels.unread = 1;
    rig.shut_down();
    rig.engine.slots = Some(Slots::new(rig.now.instant, 2_000, 2));
    rig.pass(300);
    let closes_after = |rig: &Rig, slot| rig.engine.going_away(conn(slot)).text().into_owned();
    // Who has not answered waits for the whole, from the Close on.
    let whole = "server shutdown; retry-after-ms=740";
    assert_eq!(closes_after(&rig, 1), whole);
    rig.tell(1, "q");
    for (ms, remains) in [(0, 440), (399, 41), (40, 1), (1_000, 0)] {
        rig.pass(ms);
        let expected = format!("server shutdown; retry-after-ms={remains}");
        assert_eq!(closes_after(&rig, 1), expected);
    }
}

#[test]
fn those_whose_slots_have_passed_leave_one_after_the_other() {
    // 700 ms for a thousand.
    let mut slots = Slots::new(crate::clock::instant(), 1_000, 1_000);
    let now = slots.at(0) + Duration::from_millis(500);
    let mut left_by = |ms| {
        let now = now + Duration::from_millis(ms);
        let mut left = 0;
        while slots.at(0) <= now {
            slots.go(now);
            left += 1;
        }
        left
    };
    // What a turn of 10 ms has kept them from is made up for, and no more.
    assert_eq!([left_by(0), left_by(0), left_by(1)], [20, 0, 1]);
    assert_eq!((2..=100).map(&mut left_by).sum::<u32>(), 189);
}

#[test]
fn slots_are_spread_over_the_rows_there_are() {
    let check = |clients, rows, row, expected_us| {
        let slots = Slots::new(crate::clock::instant(), clients, rows);
        assert_eq!(slots.until_slot(row), Duration::from_micros(expected_us));
    };
    check(1_000, 1_000, 0, 0);
    check(1_000, 1_000, 999, 699_300);
    // Few of many rows: no wait for those who have gone.
    check(100, 1_000, 500, 35_000);
    // Who has come since shares a slot.
    check(100, 100, 150, 35_000);
    check(0, 0, 7, 0);
    check(1_000_000, 1_000_000, 999_999, 9_999_990);
}
