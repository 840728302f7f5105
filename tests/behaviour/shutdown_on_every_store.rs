//! Goal: on each store, by SIGTERM and by SIGINT, every client of every habit gets its goodbye with
//! the total it knows, then 1001, and no reset; the process is gone in time, with exit code 0 and
//! a report that agrees with what the clients saw.
//! Method: a crowd of every habit against the binary, and a real signal in full traffic.

use rustix::process::Signal;

use crate::support::crowd::{Crowd, Habit, Seen, every_habit};
use crate::support::server::{Report, Server};
use crate::support::store::Store;

/// A shorter shutdown than the default, for the clients that would hold it to its deadline.
const BRISK: [&str; 3] = [
    "--drain-timeout=1s",
    "--persist-timeout=4s",
    "--shutdown-timeout=5s",
];

#[track_caller]
fn check(store: &Store, signal: Signal, name: &str, flags: &[&str]) {
    let mut server = Server::start(&store.url(), flags);
    let crowd = Crowd::gather(server.address, every_habit(8));
    server.signal(signal);
    let report = server.exits_with(0);
    let seen = crowd.disperse();
    for one in &seen {
        one.assert_farewell();
    }
    assert_eq!(report.signal, name);
    assert_report_agrees(&report, &seen);
}

#[track_caller]
fn assert_report_agrees(report: &Report, seen: &[Seen]) {
    let count =
        |wanted: &dyn Fn(&Seen) -> bool| seen.iter().filter(|one| wanted(one)).count() as u64;
    let clients = count(&|one| one.guest.habit != Habit::HalfOpen);
    assert_eq!(report.connections, clients, "{report:?}");
    assert_eq!(
        report.notified,
        count(&|one| one.notice.is_some()),
        "{report:?}"
    );
    assert_eq!(report.byes, count(&|one| one.bye.is_some()), "{report:?}");
    assert_eq!(report.closed_1001, count(&|one| one.parted()), "{report:?}");
    let stuck = count(&|one| one.guest.habit == Habit::NeverReading);
    assert_eq!(report.cut, stuck, "{report:?}");
    assert!(report.drained <= clients, "{report:?}");
    assert_eq!(report.saved, count(&|one| one.has_session()), "{report:?}");
    assert_eq!(report.spilled, 0, "{report:?}");
    assert_eq!(report.unsaved, [], "{report:?}");
    let late: u64 = seen
        .iter()
        .filter(|one| one.parted())
        .map(|one| one.sent - one.last_count)
        .sum();
    assert_eq!(report.late, late, "{report:?}");
    // Each phase is rounded down on its own.
    let sum = report.phases_ms.sum();
    assert!((sum..=sum + 6).contains(&report.total_ms), "{report:?}");
}

#[test]
fn memory_by_sigterm() {
    check(&Store::Memory, Signal::TERM, "SIGTERM", &[]);
}

#[test]
fn memory_by_sigint() {
    check(&Store::Memory, Signal::INT, "SIGINT", &BRISK);
}

#[test]
fn sqlite_by_sigterm() {
    check(&Store::sqlite(), Signal::TERM, "SIGTERM", &BRISK);
}

#[test]
fn sqlite_by_sigint() {
    check(&Store::sqlite(), Signal::INT, "SIGINT", &BRISK);
}

#[test]
fn redis_by_sigterm() {
    check(&Store::redis(), Signal::TERM, "SIGTERM", &BRISK);
}

#[test]
fn redis_by_sigint() {
    check(&Store::redis(), Signal::INT, "SIGINT", &BRISK);
}

/// The relaxed mode keeps the same promise at a shutdown.
#[test]
fn relaxed_on_redis_by_sigterm() {
    let flags = [&BRISK[..], &["--durability", "relaxed"]].concat();
    check(&Store::redis(), Signal::TERM, "SIGTERM", &flags);
}
