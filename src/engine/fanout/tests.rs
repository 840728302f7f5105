//! Messages to every client: their order, their limits, and what a shutdown does with them.

use std::time::Duration;

use crate::config::{Config, Durability};
use crate::engine::io::{self, Input, Origin};
use crate::engine::tests::{PLAIN, Rig, V1, conn, quiet};

fn broadcast(text: &str) -> Input<'static> {
    Input::Broadcast(io::Broadcast {
        text: text.into(),
        origin: if text == "y" {
            Origin::Node
        } else {
            Origin::Operator(conn(99))
        },
    })
}

fn told(told: &str) -> String {
    let origin = Origin::Operator(conn(99));
    format!("told {told}, for {origin:?}")
}

#[test]
fn broadcasts_reach_all_one_after_the_other_and_then_the_asker_hears() {
    let mut config = quiet(Durability::Acked);
    config.limits.fanout_max = 2;
    let mut rig = Rig::with(&config);
    rig.open_all(PLAIN, &["", "", ""]);
    // Its session is not there yet, so neither is its hello.
    rig.answers = false;
    rig.open(3, V1, "a");
    rig.log.clear();
    rig.input(broadcast("x"));
    rig.input(broadcast("y"));
    // It begins; what was heard from another node, as the other one, is not passed on.
    rig.check(&["publish x"]);
    rig.pass(0);
    rig.check(&[
        "#0 x",
        "#1 x",
        "#2 x",
        &told("Some(3)"),
        "#0 y",
        "#1 y",
        "#2 y",
        "told Some(3), for Node",
    ]);
}

#[test]
fn a_heartbeat_goes_before_broadcasts_that_wait() {
    let mut config = Config {
        heartbeat: Duration::from_secs(30),
        ..Config::default()
    };
    config.limits.fanout_max = 1;
    let mut rig = Rig::with(&config);
    rig.open_all(PLAIN, &["", ""]);
    rig.now.instant += Duration::from_secs(30);
    rig.input(broadcast("a"));
    rig.input(broadcast("b"));
    let heard = |log: &[String]| {
        let of_one = log.iter().filter(|line| line.starts_with("#0 "));
        of_one
            .map(|line| line.chars().skip(3).take(2).collect::<String>())
            .collect::<Vec<_>>()
    };
    rig.pass(10);
    assert_eq!(heard(&rig.log), ["a", "{\"", "b"], "{:?}", rig.log);
}

#[test]
fn no_more_broadcasts_wait_than_there_may() {
    let mut config = Config::default();
    config.limits.broadcasts_max = 2;
    let mut rig = Rig::with(&config);
    rig.open(0, PLAIN, "");
    rig.log.clear();
    // One is under way, and two wait.
    for text in ["a", "b", "c", "d"] {
        rig.input(broadcast(text));
    }
    rig.check(&["publish a", &told("None")]);
    rig.pass(0);
    assert_eq!(*rig.log.last().unwrap(), told("Some(1)"));
    assert_eq!(rig.log.len(), 8, "{:?}", rig.log);
}

#[test]
fn a_shutdown_takes_no_more_of_operators_and_says_what_it_owes() {
    for delay in [Duration::ZERO, Duration::from_secs(1)] {
        let mut config = Config::default();
        config.limits.fanout_max = 1;
        config.shutdown.delay = delay;
        let mut rig = Rig::with(&config);
        rig.open_all(PLAIN, &["", ""]);
        rig.input(broadcast("a"));
        rig.engine.handle_timeout(rig.now);
        let promised = |text: &str, origin| {
            let text = text.into();
            Input::Broadcast(io::Broadcast { text, origin })
        };
        rig.input(broadcast("b"));
        rig.input(promised("c", Origin::Handle));
        rig.log.clear();
        // A thread has been promised one more, which is still on its way.
        rig.levels.promised = 1;
        rig.shut_down();
        rig.input(broadcast("d"));
        rig.pass(100);
        assert_eq!(
            rig.engine.phase().name(),
            if delay.is_zero() {
                "notifying"
            } else {
                "delaying"
            }
        );
        rig.input(promised("e", Origin::Node));
        rig.levels.promised = 0;
        rig.pass(2_000);
        let answers: Vec<_> = rig
            .log
            .iter()
            .filter(|line| line.starts_with("told"))
            .collect();
        let refused = told("None");
        assert_eq!(answers[..2], [&refused, &refused], "{answers:?}");
        assert_eq!(answers.len(), 5, "{answers:?}");
        for line in ["#1 a", "#0 c", "#1 c", "#0 e", "#1 e"] {
            assert!(rig.log.contains(&line.to_owned()), "{line}: {:?}", rig.log);
        }
    }
}

#[test]
fn a_broadcast_is_held_until_it_is_queued_for_all() {
    let mut config = Config::default();
    config.limits.fanout_max = 1;
    let mut rig = Rig::with(&config);
    rig.open_all(PLAIN, &["", ""]);
    rig.input(broadcast("abc"));
    rig.input(broadcast("operators"));
    rig.input(broadcast("y"));
    rig.engine.handle_timeout(rig.now);
    assert_eq!(rig.engine.memory().total(), 3 + 9 + 1);
    rig.ask();
    assert_eq!(rig.engine.fanout.notice_cursor(), Some(0));
    let part = "one is refused, and one goes on after the notice";
    assert_eq!(rig.engine.memory().total(), 3 + 1, "{part}");
    rig.pass(100);
    assert_eq!(rig.engine.memory().total(), 0);
}
