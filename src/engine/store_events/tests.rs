//! What the store's answers mean for clients: replies that wait, takeovers, refusals, and what is
//! asked again.
//! Method: the engine's rig, with a store that answers when it is told to.

use std::time::Duration;

use super::*;
use crate::config::{Config, Durability};
use crate::engine::app::{Application, Session, Tells};
use crate::engine::io::{Input, Received, SessionId};
use crate::engine::message::Message;
use crate::engine::tests::{PLAIN, Rig, V1, conn, quiet};

/// A client with the session `a`, granted, on a store that answers no more.
fn stuck(config: &Config) -> Rig {
    let mut rig = Rig::with(config);
    rig.pass(0);
    rig.open_all(PLAIN, &["a"]);
    rig.answers = false;
    rig
}

pub(in crate::engine) fn taken_over(session: &str, epoch: u64) -> Input<'static> {
    Input::Store(StoreEvent::TakenOver {
        session: SessionId::parse(session).unwrap(),
        epoch,
    })
}

#[test]
fn a_reply_leaves_when_its_own_count_is_saved_and_reading_goes_on_at_half_the_limit() {
    let mut config = quiet(Durability::Acked);
    config.limits.held_replies_max = 4;
    let mut rig = stuck(&config);
    rig.say(0);
    assert_eq!(rig.asked(), ["a=1"]);
    (0..3).for_each(|_| rig.say(0));
    rig.check(&["#0 pause"]);
    rig.answer();
    // Three still wait, which is more than half.
    rig.check(&["#0 {\"count\":1}"]);
    assert_eq!(rig.asked(), ["a=4"]);
    rig.answer();
    let counts = [2, 3, 4].map(|count| format!("#0 {{\"count\":{count}}}"));
    rig.check(&[&counts[0], &counts[1], &counts[2], "#0 resume"]);
}

/// Whatever the limits: reading goes on once nothing waits any more.
#[test]
fn the_smallest_limits_hold_nobody_back_for_ever() {
    let mut by_number = quiet(Durability::Acked);
    by_number.limits.held_replies_max = 1;
    let mut by_bytes = quiet(Durability::Acked);
    by_bytes.limits.outbound_bytes_max = 1;
    for config in [by_number, by_bytes] {
        let mut rig = stuck(&config);
        for n in 1..=3 {
            rig.say(0);
            rig.check(&["#0 pause"]);
            assert_eq!(rig.asked(), [format!("a={n}")]);
            rig.answer();
            rig.check(&[&format!("#0 {{\"count\":{n}}}"), "#0 resume"]);
        }
    }
}

#[test]
fn replies_that_wait_are_bounded_in_bytes_too() {
    let mut config = quiet(Durability::Acked);
    // Half of the limit on what waits for a peer: room for four.
    config.limits.outbound_bytes_max = 2 * 4 * ServerMessage::Count(1).weight();
    let mut rig = stuck(&config);
    // What has left takes no room.
    for first in [1, 5, 9] {
        (0..3).for_each(|_| rig.say(0));
        rig.check(&[]);
        rig.say(0);
        rig.check(&["#0 pause"]);
        rig.answers = true;
        rig.flush();
        rig.answers = false;
        let counts = [0, 1, 2, 3].map(|at| format!("#0 {{\"count\":{}}}", first + at));
        rig.check(&[&counts[0], &counts[1], &counts[2], &counts[3], "#0 resume"]);
    }
}

#[test]
fn a_takeover_finds_what_was_counted_while_a_save_was_on_its_way() {
    for durability in [Durability::Acked, Durability::Relaxed] {
        let mut rig = stuck(&quiet(durability));
        rig.say(0);
        rig.pass(100);
        rig.say(0);
        rig.open(1, V1, "a");
        assert_eq!(rig.asked(), [""; 0], "the save comes first");
        rig.log.clear();
        rig.answers = true;
        rig.answer();
        rig.pass(100);
        let hello = r#"#1 {"session":"a","count":2,"resumed":true}"#;
        assert!(rig.log.contains(&hello.to_owned()), "{:?}", rig.log);
    }
}

#[test]
fn a_takeover_of_a_takeover_still_waits_for_the_first() {
    let mut rig = stuck(&quiet(Durability::Acked));
    rig.say(0);
    rig.open(1, PLAIN, "a");
    rig.open(2, V1, "a");
    rig.check(&[
        "#1 pause",
        "#0 pause",
        "#2 pause",
        "#1 close 4001",
        "#1 resume",
    ]);
    rig.answers = true;
    rig.flush();
    rig.check(&[
        "#0 {\"count\":1}",
        "#0 close 4001",
        "#0 resume",
        r#"#2 {"session":"a","count":1,"resumed":true}"#,
        "#2 resume",
    ]);
}

#[test]
fn who_has_closed_does_not_wait_for_a_save_that_will_be_refused() {
    let mut rig = stuck(&quiet(Durability::Acked));
    rig.say(0);
    rig.close(0);
    rig.check(&[]);
    rig.input(taken_over("a", 2));
    rig.check(&["#0 finish"]);
}

/// The refusal of a save comes after its session has ended: it is for nobody, least of all for
/// whoever has its place.
#[test]
fn a_refusal_that_comes_late_hits_nobody() {
    let mut rig = stuck(&quiet(Durability::Acked));
    rig.claim_elsewhere("a");
    rig.say(0);
    assert_eq!(rig.asked(), ["a=1"]);
    rig.input(taken_over("a", 2));
    rig.check(&["#0 close 4001"]);
    rig.open(1, PLAIN, "b");
    rig.answers = true;
    rig.flush();
    rig.say(1);
    rig.flush();
    rig.check(&["#1 pause", "#1 resume", "#1 {\"count\":1}"]);
}

#[test]
fn a_slot_that_has_a_new_tenant_is_not_the_old_one() {
    let mut rig = Rig::new(Durability::Acked);
    rig.open(0, PLAIN, "");
    rig.input(Input::Gone { conn: conn(0) });
    let tenant = ConnId {
        generation: 1,
        ..conn(0)
    };
    rig.input(Input::Opened {
        conn: tenant,
        protocol: PLAIN,
        tells: Tells::ALL,
        session: None,
        received: Received::default(),
    });
    rig.say(0);
    rig.close(0);
    rig.check(&[]);
    rig.input(Input::Message {
        conn: tenant,
        message: Message::Text("hi"),
    });
    rig.check(&["#0 {\"count\":1}"]);
}

#[test]
fn a_session_is_forgotten_when_it_is_closed_and_saved() {
    let mut rig = stuck(&quiet(Durability::Acked));
    rig.say(0);
    rig.input(Input::Gone { conn: conn(0) });
    assert_eq!(rig.engine.sessions.len(), 1, "it is not saved");
    rig.answers = true;
    rig.flush();
    rig.check(&[]);
    assert_eq!(rig.engine.sessions.len(), 0);
}

#[test]
fn a_store_that_stalls_is_asked_on_and_newcomers_go_elsewhere() {
    let mut rig = stuck(&quiet(Durability::Acked));
    rig.store_is(StoreEvent::Stalled);
    let gate = rig.engine.gate();
    assert!(!gate.ready && !gate.sessions && gate.upgrades, "{gate:?}");
    rig.say(0);
    assert_eq!(rig.asked(), ["a=1"]);
    rig.store_is(StoreEvent::Resumed);
    let gate = rig.engine.gate();
    assert!(gate.ready && gate.sessions, "{gate:?}");
}

#[test]
fn open_sessions_are_renewed_when_the_wall_clock_has_stepped_forward() {
    let mut rig = stuck(&quiet(Durability::Acked));
    for (step_ms, asked) in [(0, &[][..]), (24 * 60 * 60 * 1_000, &["a=0"])] {
        rig.now.unix_ms += step_ms;
        rig.engine.handle_timeout(rig.now);
        assert_eq!(rig.asked(), asked);
    }
}

#[test]
fn open_sessions_are_renewed_in_time() {
    let config = Config {
        session_ttl: Duration::from_secs(40),
        ..quiet(Durability::Acked)
    };
    let mut rig = stuck(&config);
    for _ in 0..3 {
        rig.now.instant += Duration::from_secs(10);
        rig.engine.handle_timeout(rig.now);
        assert_eq!(rig.asked(), ["a=0"]);
        rig.answer();
    }
}

// `relaxed`.

#[test]
fn relaxed_claims_do_not_wait_for_the_next_save() {
    let mut rig = Rig::new(Durability::Relaxed);
    rig.pass(0);
    rig.open(0, PLAIN, "a");
    rig.flush();
    rig.check(&["#0 pause", "#0 resume"]);
}

#[test]
fn relaxed_counts_that_rise_during_a_save_go_with_the_next() {
    let mut rig = stuck(&quiet(Durability::Relaxed));
    rig.say(0);
    rig.pass(100);
    rig.say(0);
    // Its time comes while the other is still on its way.
    rig.pass(100);
    rig.answer();
    rig.answers = true;
    rig.pass(100);
    assert_eq!(rig.engine.unsaved(), 0);
}

#[test]
fn relaxed_peers_that_close_are_saved_at_once() {
    let mut rig = stuck(&quiet(Durability::Relaxed));
    rig.answers = true;
    rig.say(0);
    rig.close(0);
    rig.check(&["#0 {\"count\":1}"]);
    rig.pass(0);
    rig.check(&["#0 finish"]);
}

#[test]
fn relaxed_peers_that_close_do_not_wait_for_a_store_that_is_away() {
    let mut rig = stuck(&quiet(Durability::Relaxed));
    rig.store_is_down();
    rig.say(0);
    rig.close(0);
    rig.check(&["#0 {\"count\":1}", "#0 finish"]);
    assert_eq!(rig.engine.unsaved(), 1);
    rig.store_is(StoreEvent::Up);
    rig.answers = true;
    rig.pass(0);
    assert_eq!(rig.engine.unsaved(), 0);
}

// What the application closes.

/// Answers once.
struct Once;

impl Application for Once {
    fn on_message(&mut self, _message: Message<'_>, session: &mut Session<'_>) {
        session.close(4010, "once is enough").unwrap();
    }
}

#[test]
fn a_close_by_the_application_leaves_after_its_replies() {
    let mut rig = Rig::serving(&quiet(Durability::Acked), Once);
    rig.open_all(PLAIN, &["a"]);
    rig.say(0);
    rig.say(0);
    rig.check(&[]);
    rig.flush();
    rig.check(&["#0 {\"count\":1}", "#0 close 4010"]);
}

/// Its session is lost, or the store is given up: the Close that waited for it leaves without.
#[test]
fn a_close_by_the_application_outlives_its_replies() {
    let mut rig = Rig::serving(&quiet(Durability::Acked), Once);
    rig.open_all(PLAIN, &["a", "b"]);
    rig.answers = false;
    rig.say(0);
    rig.say(1);
    rig.input(taken_over("a", 2));
    rig.check(&["#0 close 4010"]);
    rig.shut_down();
    rig.pass(7_999);
    rig.check(&[]);
    rig.pass(501);
    rig.check(&["#1 close 4010"]);
}

/// Its client may be on another node by then, and must not lose the session to its own shadow.
#[test]
fn a_claim_that_nobody_waits_for_is_not_asked_again() {
    let mut rig = Rig::new(Durability::Acked);
    rig.answers = false;
    for (slot, session) in (0..).zip(["gone-before", "gone-after", "here"]) {
        rig.open(slot, PLAIN, session);
    }
    assert_eq!(rig.asked().len(), 3);
    rig.input(Input::Gone { conn: conn(0) });
    rig.store_is_down();
    rig.input(Input::Gone { conn: conn(1) });
    assert_eq!(rig.engine.unsaved(), 1);
    rig.store_is(StoreEvent::Up);
    assert_eq!(rig.asked(), ["claim here"]);
}

#[test]
fn a_refused_claim_closes_its_client_and_nobody_else() {
    let mut rig = Rig::new(Durability::Acked);
    rig.bad = Some("evil");
    rig.open(0, V1, "evil");
    rig.open(1, PLAIN, "a");
    rig.flush();
    rig.check(&[
        "#0 pause",
        "#1 pause",
        "#0 close 1013",
        "#0 resume",
        "#1 resume",
    ]);
    assert_eq!(rig.engine.sessions(), 1);
    // The next attempt is a claim of its own.
    rig.bad = None;
    rig.open(2, V1, "evil");
    rig.flush();
    let hello = r#"#2 {"session":"evil","count":0,"resumed":false}"#;
    rig.check(&["#2 pause", hello, "#2 resume"]);
}

#[test]
fn a_refused_takeover_ends_both_since_the_earlier_one_counts_no_more() {
    let mut rig = Rig::new(Durability::Acked);
    rig.open_all(PLAIN, &["a"]);
    rig.bad = Some("a");
    rig.open(1, V1, "a");
    rig.flush();
    rig.check(&[
        "#1 pause",
        "#0 pause",
        "#0 close 1013",
        "#0 resume",
        "#1 close 1013",
        "#1 resume",
    ]);
    assert_eq!(rig.engine.sessions(), 0);
}

#[test]
fn a_refused_save_closes_its_client_and_is_repeated_until_it_is_taken() {
    for durability in [Durability::Acked, Durability::Relaxed] {
        let mut rig = Rig::new(durability);
        rig.pass(0);
        rig.open(0, PLAIN, "a");
        rig.open(1, PLAIN, "b");
        rig.flush();
        rig.bad = Some("a");
        rig.say(0);
        rig.say(1);
        rig.log.clear();
        rig.pass(100);
        let closed = rig.log.iter().filter(|line| line.contains("close"));
        assert_eq!(closed.collect::<Vec<_>>(), ["#0 close 1013"]);
        assert_eq!(rig.engine.unsaved(), 1);
        // Whoever comes for the session hears of it, too, and not before the next attempt.
        rig.open(2, V1, "a");
        rig.log.clear();
        rig.pass(1_000);
        rig.check(&["#2 close 1013", "#2 resume"]);
        rig.open(3, V1, "a");
        rig.bad = None;
        rig.log.clear();
        rig.pass(1_000);
        let hello = r#"#3 {"session":"a","count":1,"resumed":true}"#;
        rig.check(&[hello, "#3 resume"]);
        assert_eq!(rig.engine.unsaved(), 0);
    }
}

#[test]
fn a_renewal_that_is_refused_makes_a_session_unsaved() {
    let mut rig = Rig::new(Durability::Acked);
    rig.open(0, PLAIN, "a");
    rig.say(0);
    rig.flush();
    rig.say(0);
    rig.flush();
    assert_eq!(rig.engine.unsaved(), 0);
    rig.bad = Some("a");
    rig.pass(10 * 60 * 1_000);
    assert_eq!(rig.engine.unsaved(), 1);
}
