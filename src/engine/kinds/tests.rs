//! A `sundown.v2` client, from its hello to its goodbye: what its messages do, and in which order it
//! is answered.
//! Method: the engine's rig; the service sends each body back.

use std::time::Duration;

use super::*;
use crate::config::{Config, Durability};
use crate::engine::app::Echo;
use crate::engine::io::{self, Input, Origin};
use crate::engine::tests::{Rig, V1, V2, conn, quiet};

/// A client at slot 0 with the session "a", on a store that answers when it is told to.
fn rig(config: &Config) -> Rig {
    let mut rig = Rig::serving(config, Echo);
    rig.pass(0);
    rig.open_all(V2, &["a"]);
    rig
}

const HELLO: &str = r#"#0 h{"session":"a","incarnation":1,"count":0,"resumed":false,"sent":0}"#;

#[test]
fn counts_and_replies_wait_for_their_commit_and_one_count_covers_all() {
    for durability in [Durability::Acked, Durability::Relaxed] {
        let mut rig = Rig::serving(&quiet(durability), Echo);
        rig.pass(0);
        rig.open(0, V2, "a");
        rig.flush();
        rig.check(&["#0 pause", HELLO, "#0 resume"]);
        rig.answers = false;
        rig.tell(0, "mone");
        rig.tell(0, "mtwo");
        assert_eq!(rig.asked(), ["a=2"], "{durability:?}");
        // The next commit waits for this one.
        rig.tell(0, "mthree");
        assert!(rig.asked().is_empty());
        rig.check(&[]);
        rig.answer();
        rig.check(&["#0 rone", "#0 rtwo", "#0 c2"]);
        assert_eq!(rig.asked(), ["a=3"], "{durability:?}");
        rig.answer();
        rig.check(&["#0 rthree", "#0 c3"]);
    }
}

#[test]
fn a_session_goes_on_in_its_incarnation_and_a_client_without_one_is_given_one() {
    let mut rig = rig(&quiet(Durability::Acked));
    rig.tell(0, "m");
    rig.flush();
    rig.open(1, V2, "a");
    rig.flush();
    let hello = r#"#1 h{"session":"a","incarnation":1,"count":1,"resumed":true,"sent":0}"#;
    assert!(rig.log.iter().any(|line| line == hello), "{:?}", rig.log);
    rig.log.clear();
    rig.open(2, V2, "");
    rig.flush();
    let is_hello = |line: &String| line.starts_with("#2 h{\"session\":\"") && line.len() > 60;
    assert!(rig.log.iter().any(is_hello), "{:?}", rig.log);
}

#[test]
fn what_is_none_of_its_kinds_is_not_counted_and_nothing_after_it() {
    for bad in ["", "x", "{}", "a", "a-1", "q1", "ptopic body", "T"] {
        let mut rig = rig(&quiet(Durability::Acked));
        rig.answers = false;
        rig.tell(0, "mone");
        rig.tell(0, bad);
        rig.tell(0, "mtwo");
        rig.check(&[]);
        assert_eq!(rig.asked(), ["a=1"], "{bad:?}");
        rig.answer();
        rig.check(&["#0 rone", "#0 c1", "#0 close 1002"]);
    }
    // A client that speaks no `sundown.v2` may say what it will.
    let mut rig = Rig::serving(&quiet(Durability::Acked), Echo);
    rig.open_all(V1, &["a"]);
    rig.tell(0, "");
    rig.flush();
    rig.check(&["#0 ", "#0 {\"count\":1}"]);
}

#[test]
fn after_the_goodbye_what_is_none_of_its_kinds_ends_the_late_messages() {
    let mut rig = rig(&quiet(Durability::Acked));
    rig.ask();
    rig.ask();
    rig.pass(1_000);
    assert!(rig.log.contains(&"#0 close 1001".to_owned()));
    rig.log.clear();
    rig.tell(0, "mlate");
    rig.tell(0, "x");
    rig.tell(0, "mlater");
    assert_eq!(rig.asked(), ["a=1"]);
    rig.check(&[]);
    assert_eq!(rig.engine.outcome().late, 1);
}

#[test]
fn what_has_been_received_is_said_at_any_time_and_is_not_counted() {
    let mut rig = rig(&quiet(Durability::Acked));
    for number in ["a0", "a7", "a18446744073709551615"] {
        rig.tell(0, number);
    }
    rig.tell(0, "q");
    rig.tell(0, "a8");
    assert!(rig.asked().is_empty());
    rig.check(&[]);
}

#[test]
fn after_q_only_what_has_been_received_is_said() {
    for bad in ["m", "q", "x"] {
        let mut rig = rig(&quiet(Durability::Acked));
        rig.tell(0, "mone");
        rig.tell(0, "q");
        rig.tell(0, bad);
        rig.flush();
        rig.check(&["#0 rone", "#0 c1", "#0 close 1002"]);
    }
    // Whoever has the slot next has said nothing.
    let mut rig = rig(&quiet(Durability::Acked));
    rig.tell(0, "q");
    rig.close(0);
    rig.open_all(V2, &["b"]);
    rig.tell(0, "mone");
    rig.flush();
    rig.check(&["#0 rone", "#0 c1"]);
}

/// How long a shutdown drains, in ms, with two clients of which so many have said `q`.
fn drained_after(leaving: u32) -> u64 {
    let mut rig = rig(&quiet(Durability::Acked));
    rig.open(1, V2, "b");
    rig.flush();
    let began = rig.now.instant;
    rig.levels.heard_at = Some(began + Duration::from_millis(100));
    rig.shut_down();
    rig.pass(100);
    for slot in 0..leaving {
        rig.tell(slot, "mone");
        rig.tell(slot, "q");
    }
    rig.flush();
    rig.pass(5_000);
    let persisting = rig.engine.outcome().timeline.persisting.unwrap();
    (persisting - began).as_millis() as u64
}

#[test]
fn nobody_waits_for_quiet_when_all_have_said_that_they_leave() {
    let quiet_ms = Config::default().shutdown.drain_quiet.as_millis() as u64;
    assert_eq!(drained_after(2), 100);
    assert_eq!(drained_after(1), 100 + quiet_ms);
    assert_eq!(drained_after(0), 100 + quiet_ms);
}

#[test]
fn what_sundown_says_by_itself_has_a_kind() {
    let mut config = quiet(Durability::Acked);
    config.heartbeat = Duration::from_secs(30);
    let mut rig = rig(&config);
    rig.now.unix_ms = 1_795_353_540_000;
    rig.pass(30_000);
    rig.check(&["#0 k2026-11-22T13:19:00.000Z"]);
    rig.input(Input::Broadcast(io::Broadcast {
        text: r#"{"broadcast":1}"#.into(),
        origin: Origin::Node,
    }));
    rig.pass(0);
    rig.check(&[r#"#0 o{"broadcast":1}"#, "told Some(1), for Node"]);
    rig.tell(0, "mone");
    rig.shut_down();
    rig.pass(0);
    rig.check(&["#0 rone", "#0 c1", "#0 n{\"drain_ms\":2500"]);
    rig.pass(5_000);
    let goodbye = ["#0 b{\"total\":1,\"sent\":0}", "#0 close 1001"];
    assert_eq!(rig.log[1..3], goodbye, "{:?}", rig.log);
}

/// What a client of its own kind is closed for is told apart in the Close frame.
#[test]
fn the_reason_says_what_was_wrong() {
    let mut rig = rig(&quiet(Durability::Acked));
    let message = Message::Text("stopic");
    let conn = conn(0);
    rig.engine
        .handle_input(Input::Message { conn, message }, rig.now);
    let Some(io::Output::Close { reason, .. }) = rig.engine.poll_output() else {
        panic!("no Close");
    };
    assert_eq!(
        (reason.code(), &*reason.text()),
        (1002, Invalid::NotYet.text())
    );
}
