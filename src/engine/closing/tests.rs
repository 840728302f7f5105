//! A shutdown in detail: what clients are sent and when, what it waits for, what the store is asked,
//! and what the report says.
//! Method: the engine's rig, with a store that answers when it is told to.

use super::*;
use crate::config::{Config, Durability, ShutdownBudget};
use crate::engine::io::{Commit, Input, SessionId, Snapshot, StoreEvent};
use crate::engine::shutdown::State;
use crate::engine::tests::{PLAIN, Rig, V1, conn, quiet};

/// Clients at slots 0 to `count`, `sundown.v1` and with a session each, on a store that answers.
pub(super) fn crowd(config: &Config, count: usize) -> Rig {
    let mut rig = Rig::with(config);
    rig.pass(0);
    rig.open_all(V1, &["s0", "s1", "s2", "s3", "s4"][..count]);
    rig
}

/// Asks twice: Persisting begins.
fn hurry(rig: &mut Rig) {
    rig.ask();
    rig.ask();
}

// The notice.

const NOTICE: &str = "{\"shutdown\":true,\"drain_ms\":2500";

#[test]
fn the_notice_goes_out_in_slices_and_notifying_lasts_until_the_last() {
    let mut config = quiet(Durability::Acked);
    config.limits.fanout_max = 2;
    let mut rig = crowd(&config, 5);
    rig.shut_down();
    for told in [2, 4] {
        rig.engine.handle_timeout(rig.now);
        rig.report_levels();
        assert_eq!(rig.log.len(), told);
        assert!(matches!(
            rig.engine.shutdown.state(),
            State::Notifying { .. }
        ));
    }
    rig.pass(0);
    assert_eq!(rig.log.len(), 5);
    assert_eq!(rig.engine.outcome().notified, 5);
}

/// The loop was held up until the cut: there has been no time for goodbyes.
#[test]
fn the_cut_goes_in_slices_and_everyone_has_a_goodbye_before() {
    let mut config = quiet(Durability::Acked);
    config.limits.fanout_max = 2;
    let mut rig = crowd(&config, 5);
    hurry(&mut rig);
    rig.flush();
    rig.log.clear();
    rig.now.instant += Duration::from_millis(9_550);
    let mut cuts = Vec::new();
    for _ in 0..3 {
        rig.engine.handle_timeout(rig.now);
        rig.report_levels();
        cuts.push(rig.engine.outcome().cut);
    }
    assert_eq!(cuts, [2, 4, 5]);
    assert_eq!(rig.engine.outcome().byes, 5);
    for slot in 0..5 {
        let mut of_slot = rig
            .log
            .iter()
            .filter(|it| it.starts_with(&format!("#{slot} ")));
        let last = of_slot.next_back().map(String::as_str);
        assert_eq!(last, Some(&*format!("#{slot} cut")), "{:?}", rig.log);
    }
}

/// A client whose session is granted only after its turn in the walk is told at once, and one
/// whose turn is still to come is told then: once, either way.
#[test]
fn whoever_is_let_in_late_is_told_once() {
    let mut config = quiet(Durability::Acked);
    config.limits.fanout_max = 1;
    let mut rig = crowd(&config, 1);
    rig.answers = false;
    rig.open(1, V1, "early");
    rig.open(2, V1, "late");
    rig.shut_down();
    rig.log.clear();
    // The walk passes slots 0 and 1.
    for _ in 0..2 {
        rig.engine.handle_timeout(rig.now);
        rig.report_levels();
    }
    rig.check(&[&format!("#0 {NOTICE}")]);
    rig.answers = true;
    rig.flush();
    rig.pass(0);
    rig.check(&[
        r#"#1 {"session":"early","count":0,"resumed":false}"#,
        &format!("#1 {NOTICE}"),
        "#1 resume",
        r#"#2 {"session":"late","count":0,"resumed":false}"#,
        "#2 resume",
        &format!("#2 {NOTICE}"),
    ]);
}

#[test]
fn the_time_to_come_back_is_spread_with_the_crowd() {
    let mut rig = Rig::new(Durability::Acked);
    for (clients, window) in [(0, 250), (100, 250), (4_000, 4_000), (1_000_000, 10_000)] {
        rig.engine.closing.outcome.connections = clients;
        let times: Vec<_> = (0..1_000)
            .map(|slot| rig.engine.reconnect_ms(conn(slot)))
            .collect();
        assert!(times.iter().all(|ms| *ms < window), "{clients}: {times:?}");
        for tenth in 0..10 {
            let from = window * tenth / 10;
            let range = from..from + window / 10;
            let within = times.iter().filter(|ms| range.contains(ms)).count();
            assert!(
                (50..200).contains(&within),
                "{clients}: {within} in {range:?}"
            );
        }
    }
}

// The drain.

#[test]
fn nothing_is_renewed_during_the_drain() {
    let config = Config {
        session_ttl: Duration::from_secs(4),
        ..quiet(Durability::Acked)
    };
    let mut rig = crowd(&config, 1);
    rig.levels.unread = 1;
    rig.shut_down();
    rig.now.instant += Duration::from_millis(2_400);
    rig.engine.handle_timeout(rig.now);
    assert_eq!(rig.asked(), [""; 0]);
}

#[test]
fn a_drain_lasts_while_anything_is_left() {
    let check = |leave: fn(&mut Rig), drained: usize| {
        let mut rig = crowd(&quiet(Durability::Acked), 3);
        rig.shut_down();
        leave(&mut rig);
        rig.pass(2_499);
        assert!(
            matches!(rig.engine.shutdown.state(), State::Draining { .. }),
            "{:?}",
            rig.engine.shutdown.state()
        );
        rig.pass(1);
        assert!(rig.engine.saving.is_persisting());
        assert_eq!(rig.engine.outcome().drained, drained);
    };
    check(|rig| rig.levels.unread = 1, 2);
    check(
        |rig| {
            // The notices have left, and something came after them.
            rig.pass(0);
            rig.levels.unsent = 2;
        },
        1,
    );
    check(
        |rig| {
            rig.answers = false;
            rig.say(0);
        },
        2,
    );
}

// The end.

#[test]
fn a_stranger_is_waited_for_for_a_while() {
    let mut rig = crowd(&quiet(Durability::Acked), 0);
    rig.levels.sockets = 1;
    rig.shut_down();
    rig.pass(249);
    rig.check(&["close listener"]);
    rig.pass(1);
    rig.check(&["stop"]);
}

// The save.

#[test]
fn the_sync_is_asked_after_the_saves_and_the_goodbye_waits_for_it() {
    let goodbye = "#0 {\"bye\":true,\"total\":1}".to_owned();
    for durability in [Durability::Acked, Durability::Relaxed] {
        let mut rig = crowd(&quiet(durability), 1);
        rig.say(0);
        hurry(&mut rig);
        assert_eq!(rig.asked(), ["s0=1", "sync"]);
        rig.answers = false;
        rig.pass(100);
        rig.log.clear();
        // The save is confirmed, the sync is not.
        rig.input(Input::Store(StoreEvent::Committed {
            batch: vec![Commit {
                key: rig
                    .engine
                    .clients
                    .get(conn(0))
                    .unwrap()
                    .session()
                    .key()
                    .unwrap(),
                session: SessionId::parse("s0").unwrap(),
                epoch: 1,
                snapshot: Snapshot::counted(1),
                mail: None,
            }],
            fenced: Vec::new(),
            pushed: Vec::new(),
        }));
        rig.pass(100);
        assert!(!rig.log.contains(&goodbye), "{:?}", rig.log);
        rig.answer();
        rig.pass(0);
        assert!(rig.log.contains(&goodbye), "{:?}", rig.log);
    }
}

#[test]
fn a_store_that_returns_is_asked_for_the_sync_again() {
    let mut rig = crowd(&quiet(Durability::Acked), 1);
    rig.say(0);
    hurry(&mut rig);
    rig.store_is(StoreEvent::Stalled);
    assert_eq!(rig.asked(), ["s0=1", "sync"]);
    rig.store_is_down();
    assert_eq!(rig.asked(), [""; 0]);
    rig.store_is(StoreEvent::Up);
    rig.engine.handle_timeout(rig.now);
    assert_eq!(rig.asked(), ["s0=1", "sync"]);
}

#[test]
fn every_session_is_saved_once_more_changed_or_not_in_slices_and_before_the_sync() {
    let mut config = quiet(Durability::Acked);
    config.limits.fanout_max = 2;
    let mut rig = crowd(&config, 5);
    rig.say(0);
    rig.flush();
    assert_eq!(rig.engine.unsaved(), 0);
    rig.answers = false;
    hurry(&mut rig);
    let mut asked = vec![rig.asked()];
    while !asked.last().unwrap().contains(&"sync".to_owned()) {
        rig.engine.handle_timeout(rig.now);
        asked.push(rig.asked());
    }
    assert_eq!(asked.concat(), ["s1=0 s0=1", "s3=0 s2=0", "s4=0", "sync"]);
    rig.log.clear();
    rig.pass(1_000);
    let has_bye = |rig: &Rig| rig.log.iter().any(|line| line.contains("bye"));
    assert!(!has_bye(&rig), "{:?}", rig.log);
    rig.answers = true;
    rig.flush();
    rig.pass(0);
    assert!(has_bye(&rig), "{:?}", rig.log);
}

/// It has been confirmed, and nobody has said that it is not there.
#[test]
fn a_quiet_session_is_saved_if_the_store_does_not_answer_any_more() {
    let mut rig = crowd(&quiet(Durability::Acked), 1);
    rig.say(0);
    rig.flush();
    rig.answers = false;
    rig.shut_down();
    rig.pass(10_000);
    let outcome = rig.engine.outcome();
    assert_eq!((outcome.saved, outcome.is_safe()), (1, true));
}

#[test]
fn with_everything_saved_a_store_that_is_away_is_not_waited_for() {
    let mut rig = crowd(&quiet(Durability::Acked), 1);
    rig.store_is_down();
    hurry(&mut rig);
    rig.log.clear();
    rig.pass(0);
    rig.check(&[
        &format!("#0 {NOTICE}"),
        "#0 {\"bye\":true,\"total\":0}",
        "#0 close 1001",
        "#0 resume",
    ]);
}

// The goodbye.

#[test]
fn the_reason_tells_when_to_come_back() {
    let rig = crowd(&quiet(Durability::Acked), 1);
    let retry = rig.engine.reconnect_ms(conn(0));
    let text = format!("server shutdown; retry-after-ms={retry}");
    assert_eq!(rig.engine.going_away(conn(0)).text(), text);
}

/// A third of the spread is no whole number of nanoseconds.
#[test]
fn the_next_goodbye_is_due_when_its_turn_comes() {
    let mut rig = crowd(&quiet(Durability::Acked), 3);
    hurry(&mut rig);
    rig.pass(1_000);
    assert_eq!(rig.engine.outcome().byes, 3);
}

#[test]
fn goodbyes_without_a_spread_still_leave_in_slices() {
    let mut config = Config {
        shutdown: ShutdownBudget {
            close_spread: Duration::ZERO,
            ..ShutdownBudget::default()
        },
        ..quiet(Durability::Acked)
    };
    config.limits.fanout_max = 2;
    let mut rig = Rig::with(&config);
    (0..5).for_each(|slot| rig.open(slot, PLAIN, ""));
    rig.store_is_down();
    hurry(&mut rig);
    rig.report_levels();
    for said in [2, 4, 5] {
        assert_eq!(rig.engine.outcome().byes, said);
        rig.engine.handle_timeout(rig.now);
    }
}

/// Replies that were not confirmed before the goodbye do not follow it; what they stood for is
/// saved all the same.
#[test]
fn nothing_follows_the_goodbye_when_the_store_answers_after_it() {
    let mut rig = crowd(&quiet(Durability::Acked), 1);
    rig.answers = false;
    rig.say(0);
    hurry(&mut rig);
    rig.pass(8_000);
    rig.log.clear();
    rig.say(0);
    rig.answers = true;
    rig.flush();
    rig.close(0);
    rig.check(&["#0 finish"]);
    rig.levels.sockets -= 1;
    rig.pass(10);
    let outcome = rig.engine.outcome();
    assert_eq!((outcome.late, outcome.exit_code()), (1, 0), "{outcome:?}");
}

#[test]
fn a_client_that_was_never_granted_its_session_gets_the_close_alone() {
    let mut rig = crowd(&quiet(Durability::Acked), 0);
    rig.answers = false;
    rig.open(0, V1, "never");
    rig.shut_down();
    rig.log.clear();
    rig.pass(8_000);
    rig.check(&["#0 close 1001", "#0 resume"]);
    assert_eq!(rig.engine.outcome().byes, 0);
    // An answer that comes after all is for nobody.
    rig.answers = true;
    rig.flush();
    rig.check(&[]);
}

#[test]
fn a_peer_that_has_closed_is_let_go_when_the_store_is_given_up() {
    let mut rig = crowd(&quiet(Durability::Acked), 1);
    rig.answers = false;
    rig.say(0);
    rig.close(0);
    rig.shut_down();
    rig.store_is(StoreEvent::Stalled);
    rig.pass(7_999);
    rig.check(&[]);
    rig.pass(1);
    rig.check(&["#0 finish", "close listener"]);
}

#[test]
fn saving_gets_a_flush_however_little_time_there_is() {
    let second = Duration::from_secs(1);
    let mut config = quiet(Durability::Acked);
    config.shutdown.drain = second;
    config.shutdown.persist = second;
    let mut rig = crowd(&config, 1);
    rig.levels.unread = 1;
    rig.shut_down();
    rig.pass(999);
    rig.log.clear();
    rig.say(0);
    rig.pass(1);
    let bye = [
        r#"#0 {"count":1}"#,
        r#"#0 {"bye":true,"total":1}"#,
        "#0 close 1001",
    ];
    rig.check(&["#0 pause", bye[0], bye[1], bye[2], "#0 resume"]);
}

#[test]
fn a_store_that_still_answers_is_waited_for_beyond_its_time() {
    let mut rig = crowd(&quiet(Durability::Acked), 2);
    rig.answers = false;
    rig.say(0);
    rig.close(0);
    rig.say(1);
    rig.close(1);
    rig.shut_down();
    rig.pass(8_000);
    // It may only be slow: what is on its way is worth the wait.
    rig.check(&[]);
    rig.answers = true;
    rig.flush();
    let counts = [
        "#0 {\"count\":1}",
        "#0 finish",
        "#1 {\"count\":1}",
        "#1 finish",
    ];
    assert_eq!(rig.log.len(), counts.len(), "{:?}", rig.log);
    assert!(
        counts
            .iter()
            .all(|count| rig.log.iter().any(|line| line == count))
    );
}

#[test]
fn a_store_that_leaves_after_its_time_is_waited_for_no_longer() {
    let mut rig = crowd(&quiet(Durability::Acked), 1);
    rig.answers = false;
    rig.say(0);
    rig.close(0);
    rig.shut_down();
    rig.pass(8_000);
    rig.check(&[]);
    rig.store_is(StoreEvent::Stalled);
    rig.check(&["#0 finish"]);
}

#[test]
fn only_a_close_frame_completes_the_handshake() {
    let mut rig = crowd(&quiet(Durability::Acked), 2);
    hurry(&mut rig);
    rig.flush();
    rig.pass(500);
    assert_eq!(rig.engine.outcome().byes, 2);
    rig.close(0);
    rig.input(Input::PeerClosed {
        conn: conn(1),
        by_frame: false,
    });
    assert_eq!(rig.engine.outcome().closed_1001, 1);
}
