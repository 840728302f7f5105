//! The promise, for people to watch: `make test-graceful-shutdown`.
//!
//! Goal: the built binary, 200 clients of every habit at once on real sockets, a real SIGTERM; it
//! prints the timeline as the clients saw it and what each of them got, and holds it to the
//! promises.
//! Method: a thread for each client notes what came and when; the times are milliseconds since
//! the signal.

#![expect(
    clippy::expect_used,
    reason = "a test stops at the first thing that is not as it should be"
)]

#[path = "support/mod.rs"]
#[expect(
    dead_code,
    reason = "it is shared with the other tests, which use more of it"
)]
mod support;

use std::time::Instant;

use support::client::Client;
use support::crowd::{Crowd, Habit, Seen, every_habit};
use support::server::{Exit, Server};
use support::store::Store;
use support::stream::End;
use support::{SHUTDOWN_MAX, now};

#[test]
fn graceful_shutdown() {
    let store = Store::sqlite();
    let mut server = Server::start(&store.url(), &[]);
    let crowd = Crowd::gather(server.address, every_habit(40));
    println!("200 clients of every habit, connected and in their stride; SIGTERM.\n");
    let signalled_at = now();
    server.terminate();
    let exit = server.exit();
    let seen = crowd.disperse();

    print_timeline(&seen, &exit, signalled_at);
    print_habits(&seen);
    let report = exit.stdout.last().expect("the report");
    println!("The server's own report:\n{report}\n");
    let took = exit.at.duration_since(signalled_at);
    let resumed = resume_all(&store, &seen);
    println!(
        "Gone after {} ms with exit code {:?}; {resumed} sessions resumed on a new process, each \
         at the exact message.",
        took.as_millis(),
        exit.code,
    );

    for one in &seen {
        one.assert_farewell();
    }
    assert_eq!(exit.code, Some(0), "every session is safe");
    assert!(took < SHUTDOWN_MAX, "it took {took:?}");
    let report = exit.report();
    assert_eq!((report.connections, report.byes), (160, 160), "{report:?}");
}

/// Everyone who parted by the book comes back to another process, and is told their exact count.
#[track_caller]
fn resume_all(store: &Store, seen: &[Seen]) -> usize {
    let server = Server::start(&store.url(), &[]);
    let mut resumed = 0;
    for one in seen.iter().filter(|one| one.parted()) {
        let Some(session) = &one.session else {
            continue;
        };
        let (client, hello) = Client::v1(&server, session);
        assert_eq!(hello.count, one.sent, "{one:?}");
        client.leave();
        resumed += 1;
    }
    resumed
}

fn print_timeline(seen: &[Seen], exit: &Exit, signalled_at: Instant) {
    let print = |what: &str, time_of: &dyn Fn(&Seen) -> Option<Instant>| {
        // Who never reads sees it all when it is over: not a time of the server's.
        let readers = seen
            .iter()
            .filter(|one| one.guest.habit != Habit::NeverReading);
        let since = |at: Instant| at.checked_duration_since(signalled_at);
        let mut times: Vec<_> = readers.filter_map(time_of).filter_map(since).collect();
        times.sort_unstable();
        if let (Some(first), Some(last)) = (times.first(), times.last()) {
            let (first, last) = (first.as_millis(), last.as_millis());
            println!("{first:>7} {last:>7}   {what} ({} clients)", times.len());
        }
    };
    println!("  first    last   ms since SIGTERM, as the clients saw it");
    print("notice", &|one| one.notice);
    print("last reply", &|one| one.last_reply);
    print("goodbye", &|one| Some(one.bye.as_ref()?.0));
    print("Close 1001", &|one| Some(one.close.as_ref()?.0));
    print("end of the connection", &|one| Some(one.end.as_ref()?.0));
    let exited = exit.at.duration_since(signalled_at).as_millis();
    println!("{exited:>7} {exited:>7}   exit\n");
}

fn print_habits(seen: &[Seen]) {
    println!(
        "habit          clients  notice  goodbye  total=last  1001  clean end  reset     sent  late"
    );
    let habits = [
        Habit::Steady,
        Habit::Idle,
        Habit::Blasting,
        Habit::NeverReading,
        Habit::HalfOpen,
    ];
    for habit in habits {
        let of: Vec<&Seen> = seen.iter().filter(|one| one.guest.habit == habit).collect();
        let count = |wanted: &dyn Fn(&Seen) -> bool| of.iter().filter(|one| wanted(one)).count();
        let ended = |wanted: &dyn Fn(&End) -> bool| {
            count(&|one| one.end.as_ref().is_some_and(|(_, end)| wanted(end)))
        };
        println!(
            "{:<14} {:>7} {:>7} {:>8} {:>11} {:>5} {:>10} {:>6} {:>8} {:>5}",
            format!("{habit:?}"),
            of.len(),
            count(&|one| one.notice.is_some()),
            count(&|one| one.bye.is_some()),
            count(&|one| one.bye.is_some_and(|(_, total)| total == one.last_count)),
            count(&|one| one.close.as_ref().is_some_and(|(_, code, _)| *code == 1001)),
            ended(&|end| *end == End::Eof),
            ended(&|end| matches!(end, End::Reset(_))),
            of.iter().map(|one| one.sent).sum::<u64>(),
            of.iter()
                .map(|one| one.sent.saturating_sub(one.last_count))
                .sum::<u64>(),
        );
    }
    println!();
}
