//! Goal: signals do what they say: the second goes straight to Persisting, the third ends it, one
//! during the start counts, and with nobody there the end is immediate.
//! Method: each signal is sent when the state it is meant for has been seen.

use std::process::Command;
use std::time::Duration;

use nix::sys::signal::{SigSet, SigmaskHow, Signal as Blocked};
use rustix::process::Signal;

use crate::support::client::Client;
use crate::support::crowd::{Crowd, Guest, Habit};
use crate::support::redis::Redis;
use crate::support::said::Said;
use crate::support::server::{BINARY, Exit, Server};
use crate::support::store::Store;
use crate::support::stream::{End, Stream};
use crate::support::{PATIENCE, eventually, http, ms, pause};

/// A drain that a steady client would hold open for 6 s.
const LONG_DRAIN: [&str; 4] = ["--drain-timeout", "6s", "--drain-quiet", "5s"];

/// Signals that come within 500 ms are one.
const NO_REPEAT: Duration = ms(600);

#[test]
fn the_second_goes_straight_to_persisting() {
    for second in [Signal::TERM, Signal::INT] {
        let store = Store::sqlite();
        let mut server = Server::start(&store.url(), &LONG_DRAIN);
        let (mut client, _) = Client::v1(&server, "hurried");
        assert_eq!(client.say("one"), 1);
        server.terminate();
        assert!(matches!(client.hear(), Said::Notice(_)));
        assert_eq!(client.say("two"), 2);
        pause(NO_REPEAT);
        server.signal(second);
        assert_eq!(client.hear(), Said::Bye(2));
        client.until_closed(1001);
        let report = server.exits_with(0);
        assert!(report.phases_ms.draining < 5_000, "{report:?}");
        let next = Server::start(&store.url(), &[]);
        assert_eq!(Client::v1(&next, "hurried").1.count, 2);
    }
}

#[test]
fn the_third_ends_it_at_once() {
    let store = Store::sqlite();
    let mut server = Server::start(&store.url(), &LONG_DRAIN);
    let (mut client, _) = Client::v1(&server, "cut");
    client.answers_close = false;
    assert_eq!(client.say("one"), 1);
    server.terminate();
    assert!(matches!(client.hear(), Said::Notice(_)));
    pause(NO_REPEAT);
    server.terminate();
    // It waits for our Close now, until 9.5 s.
    assert_eq!(client.until_close().0, 1001);
    pause(NO_REPEAT);
    server.terminate();
    let report = server.exits_with(0);
    assert!(report.total_ms < 5_000, "{report:?}");
    assert_eq!(report.cut, 1, "{report:?}");
    let next = Server::start(&store.url(), &[]);
    assert_eq!(Client::v1(&next, "cut").1.count, 1);
}

/// `timeout` signals the process and then its group. Two kinds, since the kernel may take two of
/// one kind for one.
#[test]
fn two_of_one_stop_are_one_and_the_report_counts_them() {
    let mut server = Server::start("memory:", &["--drain-timeout", "7s", "--drain-quiet", "3s"]);
    let (mut client, _) = Client::v1(&server, "drained");
    for signal in [Signal::TERM, Signal::INT] {
        server.signal(signal);
    }
    assert!(matches!(client.hear(), Said::Notice(_)));
    assert_eq!(client.say("while it drains"), 1);
    assert_eq!(client.hear(), Said::Bye(1));
    client.until_closed(1001);
    let report = server.exit().report();
    assert_eq!(report.repeats, 1, "{report:?}");
    assert!(report.phases_ms.draining >= 3_000, "{report:?}");
}

/// A mask is inherited, and not every program that starts others has an empty one.
#[test]
fn signals_that_were_blocked_at_the_start_are_let_through() {
    let blocked: SigSet = [Blocked::SIGTERM, Blocked::SIGINT].into_iter().collect();
    for signal in [Signal::TERM, Signal::INT] {
        let before = blocked.thread_swap_mask(SigmaskHow::SIG_BLOCK);
        let mut server = Server::start("memory:", &[]);
        let before = before.expect("a mask of this thread");
        before.thread_set_mask().expect("it was that before");
        server.signal(signal);
        assert_eq!(server.exit().code, Some(0));
    }
}

/// Even with a Redis that never answers and no spill: it exits, and says what it cost.
#[test]
fn the_third_ends_a_persisting_that_cannot_end() {
    let redis = Redis::start();
    let mut server = Server::start(&redis.url(), &["--spill", "sqlite:missing/spill.db"]);
    let (mut client, _) = Client::v1(&server, "lost");
    assert_eq!(client.say("saved"), 1);
    redis.freeze();
    client.send("not saved");
    server.terminate();
    assert!(matches!(client.hear(), Said::Notice(_)));
    pause(NO_REPEAT);
    server.terminate();
    // It has been seen, and has the time at which it came.
    server.turns();
    pause(NO_REPEAT);
    server.terminate();
    let report = server.exits_with(1);
    assert!(report.total_ms < 5_000, "{report:?}");
    assert_eq!(report.unsaved.len(), 1, "{report:?}");
}

/// Signals are registered before anything else, so that one in the middle of the start counts.
#[test]
fn one_during_the_start_counts() {
    for _ in 0..10 {
        let (mut process, _dir) = Server::spawn(Command::new(BINARY), "sqlite:start.db", &[]);
        let status = format!("/proc/{}/status", process.pid().as_raw_nonzero());
        // proc(5): a mask of the signals that have a handler, SIGTERM's bit is 14.
        let handled = || {
            let status = std::fs::read_to_string(&status).expect("a child that was not reaped");
            let mask = status.lines().find_map(|line| line.strip_prefix("SigCgt:"));
            let mask = mask.map_or(0, |mask| u64::from_str_radix(mask.trim(), 16).unwrap_or(0));
            mask & (1 << 14) != 0
        };
        let deadline = crate::support::now() + PATIENCE;
        while !handled() {
            assert!(crate::support::now() < deadline, "no handler for SIGTERM");
        }
        process.signal(Signal::TERM);
        let exit = Exit::of(&mut process, PATIENCE);
        assert_eq!(exit.code, Some(0), "{:?}", exit.stdout);
        assert_eq!(exit.report().connections, 0);
    }
}

/// Nobody to wait for: no phase lasts as long as it might.
#[test]
fn with_nobody_there_it_is_over_at_once() {
    for store in [Store::Memory, Store::sqlite(), Store::redis()] {
        let mut server = Server::start(
            &store.url(),
            &["--drain-quiet", "4s", "--drain-timeout", "5s"],
        );
        eventually("ready", || server.readiness() == 200);
        let report = server.stop();
        assert!(report.total_ms < 2_000, "{report:?}");
        assert_eq!(
            (report.connections, report.byes, report.cut),
            (0, 0, 0),
            "{report:?}"
        );
    }
}

/// A quiet client does not hold it up to any ceiling either.
#[test]
fn with_quiet_clients_it_is_over_soon() {
    let mut server = Server::start("memory:", &[]);
    let guest = |_| Guest {
        habit: Habit::Idle,
        session: None,
        v1: true,
    };
    let crowd = Crowd::gather(server.address, (0..20).map(guest).collect());
    let report = server.stop();
    crowd
        .disperse()
        .iter()
        .for_each(|one| one.assert_farewell());
    assert!(report.phases_ms.draining < 2_500, "{report:?}");
    assert!(report.total_ms < 5_000, "{report:?}");
}

/// Nor does whoever is no client: a balancer that asks all the time.
#[test]
fn balancers_do_not_hold_up_the_drain() {
    let mut server = Server::start("memory:", &["--drain-timeout", "6s"]);
    let quiet = Client::plain(&server, "/ws/chat/");
    let listens = std::thread::spawn(move || {
        let mut quiet = quiet;
        assert_eq!(quiet.hear(), Said::Bye(0));
        quiet.until_end()
    });
    server.terminate();
    while !listens.is_finished() {
        if let Ok(mut stream) = Stream::try_connect(server.address) {
            stream.queue(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n");
            http::answer(&mut stream, PATIENCE);
        }
        pause(ms(10));
    }
    assert_eq!(listens.join().expect("it only listens"), End::Eof);
    let report = server.exit().report();
    assert!(report.phases_ms.draining < 4_000, "{report:?}");
}

#[test]
fn a_delay_lets_balancers_notice_first() {
    let flags = ["--shutdown-delay", "2s", "--heartbeat", "0s"];
    let mut server = Server::start("memory:", &flags);
    let (mut old, _) = Client::v1(&server, "old");
    server.terminate();
    eventually("readiness 503", || server.readiness() == 503);
    assert_eq!(
        crate::support::http::get(server.admin, "/readyz").status,
        503
    );
    assert_eq!(
        crate::support::http::get(server.address, "/healthz").status,
        200
    );
    // Everything else goes on as before: no notice, upgrades are taken, messages are answered.
    assert_eq!(old.say("one"), 1);
    let (mut new, _) = Client::v1(&server, "new");
    assert_eq!(new.say("one"), 1);
    old.hears_nothing_more();
    for client in [&mut old, &mut new] {
        assert!(matches!(client.hear(), Said::Notice(_)));
        assert_eq!(client.hear(), Said::Bye(1));
        client.until_closed(1001);
    }
    let report = server.exits_with(0);
    assert!((2_000..10_000).contains(&report.total_ms), "{report:?}");
}
