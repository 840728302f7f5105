//! What goes into the spill at a shutdown, when, and who waits for it.
//! Method: the engine's rig, with a store that does not answer and a spill that does.

use super::tests::crowd;
use super::*;
use crate::config::{Config, Durability};
use crate::engine::io::{Input, StoreEvent};
use crate::engine::tests::{PLAIN, Rig, V1, quiet};

/// A client at each slot from 0 on, with a session of its own, on a store that then freezes; there
/// is a spill.
fn frozen(config: &Config, clients: usize) -> Rig {
    let mut rig = crowd(config, clients);
    rig.answers = false;
    rig.spill_keeps = true;
    rig.store_is(StoreEvent::Stalled);
    rig
}

/// A client whose goodbye has been said, with the session that the store may refuse as `rig.bad`.
fn after_goodbye() -> Rig {
    let mut rig = Rig::with(&quiet(Durability::Acked));
    rig.pass(0);
    rig.open_all(PLAIN, &["bad"]);
    rig.spill_keeps = true;
    rig.shut_down();
    rig.pass(3_000);
    rig
}

/// What came out, but for the notices.
fn heard(rig: &mut Rig) -> Vec<String> {
    let mut log = std::mem::take(&mut rig.log);
    log.retain(|line| !line.contains("shutdown") && !line.contains("pause"));
    log
}

#[test]
fn what_the_store_does_not_take_goes_into_the_spill_before_the_goodbye() {
    let mut rig = frozen(&quiet(Durability::Acked), 2);
    rig.say(0);
    rig.say(0);
    rig.shut_down();
    rig.pass(7_999);
    assert_eq!((heard(&mut rig), rig.spilled.len()), (vec![], 0));
    rig.pass(1);
    assert_eq!(rig.spilled, ["s0=2"]);
    // The total is what the store holds: whoever comes back elsewhere finds no more.
    rig.pass(499);
    let goodbyes = heard(&mut rig);
    let bye = |slot| format!("#{slot} {{\"bye\":true,\"total\":0}}");
    assert_eq!(
        goodbyes,
        [
            bye(0),
            "#0 close 1001".into(),
            "#0 resume".into(),
            bye(1),
            "#1 close 1001".into(),
            "#1 resume".into()
        ]
    );
    rig.close(0);
    rig.close(1);
    rig.pass(1_000);
    let outcome = rig.engine.outcome();
    assert_eq!((outcome.saved, outcome.spilled), (1, 1));
    assert_eq!((outcome.unsaved.clone(), outcome.is_safe()), (vec![], true));
}

#[test]
fn what_the_spill_refuses_is_named_and_tried_again_at_the_cut() {
    let mut rig = frozen(&quiet(Durability::Acked), 1);
    rig.spill_keeps = false;
    rig.say(0);
    rig.shut_down();
    rig.pass(9_000);
    assert_eq!(rig.spilled, ["s0=1"]);
    assert_eq!(rig.engine.outcome().unsaved, [("s0".into(), 1)]);
    // Someone has made room on the disk.
    rig.spill_keeps = true;
    rig.pass(1_000);
    assert_eq!(rig.spilled, ["s0=1", "s0=1"]);
    let outcome = rig.engine.outcome();
    assert_eq!((outcome.spilled, outcome.is_safe()), (1, true));
}

#[test]
fn late_messages_are_spilled_and_their_peer_waits_for_that() {
    let mut rig = frozen(&quiet(Durability::Acked), 2);
    rig.say(1);
    rig.shut_down();
    rig.pass(8_000);
    heard(&mut rig);
    rig.say(0);
    rig.say(0);
    rig.close(0);
    assert_eq!(heard(&mut rig), [""; 0]);
    // The next turn: it is spilled in its flush, and the peer may go.
    rig.pass(0);
    assert_eq!(rig.spilled, ["s1=1", "s0=2"]);
    assert_eq!(heard(&mut rig), ["#0 finish"]);
    rig.pass(1_000);
    let outcome = rig.engine.outcome();
    assert_eq!((outcome.late, outcome.spilled), (2, 2));
    assert!(outcome.is_safe());
}

#[test]
fn what_the_store_takes_after_all_is_not_spilled() {
    let mut rig = frozen(&quiet(Durability::Acked), 1);
    rig.say(0);
    rig.shut_down();
    rig.pass(8_000);
    assert_eq!(rig.engine.outcome().spilled, 1);
    rig.answers = true;
    rig.answer();
    let outcome = rig.engine.outcome();
    assert_eq!((outcome.saved, outcome.spilled), (1, 0));
}

#[test]
fn the_third_request_spills_all_of_it_at_once() {
    let mut config = quiet(Durability::Acked);
    (config.limits.spill_max, config.limits.connections_max) = (2, 2);
    let mut rig = frozen(&config, 5);
    (0..5).for_each(|slot| rig.say(slot));
    for _ in 0..3 {
        rig.ask();
    }
    rig.flush();
    assert_eq!(rig.spilled.len(), 3);
    assert_eq!(rig.engine.outcome().spilled, 5);
}

#[test]
fn a_turn_spills_its_share_and_the_rest_comes_next() {
    let mut config = quiet(Durability::Acked);
    (config.limits.spill_max, config.limits.connections_max) = (2, 2);
    let mut rig = frozen(&config, 5);
    (0..5).for_each(|slot| rig.say(slot));
    rig.shut_down();
    rig.pass(7_999);
    rig.now.instant += Duration::from_millis(1);
    for spilled in [2, 4, 5] {
        rig.engine.handle_timeout(rig.now);
        rig.report_levels();
        rig.flush();
        assert_eq!(rig.engine.outcome().spilled, spilled);
        let more = rig.engine.poll_timeout() <= Some(rig.now.instant);
        assert!(more || spilled == 5, "it must not sleep on what is left");
    }
}

/// Without anybody to wait for, the store has its time until the sweep is over.
#[test]
fn what_is_left_when_the_sweep_ends_is_spilled() {
    let mut rig = frozen(&quiet(Durability::Relaxed), 1);
    rig.shut_down();
    rig.store_is(StoreEvent::Resumed);
    rig.answers = true;
    rig.pass(300);
    assert_eq!(rig.engine.outcome().byes, 1);
    rig.answers = false;
    rig.say(0);
    rig.flush();
    rig.store_is_down();
    rig.close(0);
    rig.levels.sockets = 0;
    rig.pass(1_000);
    assert_eq!(rig.spilled, ["s0=1"]);
    assert!(rig.engine.outcome().is_safe());
    assert_eq!(rig.log.last().map(String::as_str), Some("stop"));
}

/// A session that a newcomer waits for is spilled under its own epoch; the newcomer's, which the
/// store never granted, is not.
#[test]
fn a_session_that_is_being_taken_over_is_spilled() {
    let mut rig = frozen(&quiet(Durability::Acked), 1);
    rig.say(0);
    rig.open(1, V1, "s0");
    rig.shut_down();
    rig.pass(8_000);
    assert_eq!(rig.spilled, ["s0=1"]);
    rig.pass(2_000);
    let outcome = rig.engine.outcome();
    assert_eq!((outcome.spilled, outcome.is_safe()), (1, true));
}

/// A file that another process is writing answers late.
#[test]
fn a_session_has_one_spill_on_its_way_and_its_peer_waits_for_the_last() {
    fn turn(rig: &mut Rig) -> Option<Vec<Commit>> {
        rig.report_levels();
        rig.engine.poll_spill()
    }
    let mut rig = frozen(&quiet(Durability::Acked), 2);
    rig.say(1);
    rig.shut_down();
    rig.pass(8_000);
    heard(&mut rig);
    rig.say(0);
    let first = turn(&mut rig).unwrap();
    rig.say(0);
    rig.close(0);
    assert_eq!(turn(&mut rig), None);
    let kept = true;
    let batch = first;
    rig.input(Input::Store(StoreEvent::Spilled { batch, kept }));
    assert_eq!(heard(&mut rig), [""; 0]);
    let batch = turn(&mut rig).unwrap();
    assert_eq!(batch[0].snapshot.count, 2);
    rig.input(Input::Store(StoreEvent::Spilled { batch, kept }));
    assert_eq!(heard(&mut rig), ["#0 finish"]);
}

#[test]
fn what_the_store_refuses_goes_into_the_spill_without_waiting_for_the_others() {
    let mut rig = Rig::with(&quiet(Durability::Acked));
    rig.pass(0);
    rig.open_all(PLAIN, &["bad", "good"]);
    rig.bad = Some("bad");
    rig.say(0);
    rig.flush();
    rig.spill_keeps = true;
    rig.shut_down();
    // The drain has its 2.5 s, since something is unsaved; saving has not.
    rig.pass(3_000);
    assert_eq!(rig.spilled, ["bad=1"]);
    assert!(rig.log.contains(&"#1 close 1001".into()), "{:?}", rig.log);
    rig.close(0);
    rig.close(1);
    rig.pass(1_000);
    let outcome = rig.engine.outcome();
    assert_eq!((outcome.saved, outcome.spilled), (1, 1));
    assert!(outcome.is_safe());
}

#[test]
fn what_is_spilled_and_refused_again_is_spilled_once_more_when_it_has_grown() {
    let mut rig = after_goodbye();
    // What comes late is refused, and spilled, again and again.
    rig.bad = Some("bad");
    rig.say(0);
    rig.flush();
    rig.pass(2_500);
    rig.say(0);
    rig.flush();
    assert_eq!(rig.spilled, ["bad=1", "bad=2"]);
    rig.pass(5_000);
    let outcome = rig.engine.outcome();
    assert_eq!((outcome.spilled, outcome.unsaved.clone()), (1, vec![]));
}

#[test]
fn what_is_spilled_and_has_grown_since_is_not_called_safe() {
    let mut rig = after_goodbye();
    rig.bad = Some("bad");
    rig.say(0);
    rig.flush();
    assert_eq!(rig.spilled, ["bad=1"]);
    // The store takes the next save, and does not answer any more.
    (rig.bad, rig.answers, rig.spill_keeps) = (None, false, false);
    rig.say(0);
    rig.pass(10_000);
    let outcome = rig.engine.outcome();
    assert_eq!(
        (outcome.spilled, outcome.unsaved),
        (0, vec![("bad".into(), 2)])
    );
}

#[test]
fn what_store_and_spill_refuse_is_named() {
    let mut rig = Rig::with(&quiet(Durability::Relaxed));
    rig.pass(0);
    rig.open_all(PLAIN, &["bad"]);
    rig.bad = Some("bad");
    rig.say(0);
    rig.pass(100);
    rig.shut_down();
    rig.pass(10_000);
    let outcome = rig.engine.outcome();
    assert_eq!(outcome.unsaved, [("bad".into(), 1)]);
}
