//! `docker compose -f docker/compose.yml stop app_blue`, with clients on it.

use super::engine::{docker, engine};
use super::stack::{Report, Stack};
use crate::support::SHUTDOWN_MAX;
use crate::support::client::Client;
use crate::support::crowd::{Crowd, Guest, Habit, Seen};

/// Plain clients and such of `sundown.v1`, each with a session; most send all the time.
fn guests(count: usize) -> Vec<Guest> {
    let guest = |at: usize| Guest {
        habit: if at.is_multiple_of(5) {
            Habit::Idle
        } else {
            Habit::Steady
        },
        session: Some(format!("guest-{at}")),
        v1: at % 2 == 1,
    };
    (0..count).map(guest).collect()
}

/// Stops blue, and sees that everyone was told and that it was in time.
#[track_caller]
fn stop_blue(stack: &Stack, crowd: Crowd) -> (Report, Vec<Seen>) {
    let usage = docker(&[
        "stats",
        "--no-stream",
        "--format",
        "{{.MemUsage}}",
        &stack.container("app_blue"),
    ]);
    let begun = docker(&["info", "--format", "{{.SystemTime}}"]);
    stack.compose(&["stop", "app_blue"]);
    let report = stack.report("app_blue");
    assert_eq!(report.signal, "SIGTERM");
    let (signals, took) = stack.ending("app_blue", &begun);
    println!("memory before: {usage}; gone after {took:?}; {report:?}");
    assert_eq!(signals, ["15"], "SIGTERM once, and nothing else");
    assert!(took < SHUTDOWN_MAX, "{took:?}");
    let seen = crowd.disperse();
    for seen in &seen {
        seen.assert_farewell();
    }
    let clients = seen.len() as u64;
    let told = (report.byes, report.closed_1001, report.cut);
    assert_eq!(told, (clients, clients, 0), "{report:?}");
    (report, seen)
}

/// A colour that has been stopped has left every count where the next one finds it.
#[track_caller]
fn assert_all_counted(stack: &Stack, seen: &[Seen]) {
    for seen in seen {
        let session = seen.session.as_ref().expect("a session");
        let (client, hello) = Client::v1_to(stack.address, session);
        assert_eq!(hello.count, seen.sent, "{seen:?}");
        client.leave();
    }
}

#[track_caller]
fn check(stack: &Stack) {
    stack.up("app_blue");
    let crowd = Crowd::gather(stack.address, guests(500));
    let (report, seen) = stop_blue(stack, crowd);
    assert_eq!(report.spilled, 0);
    stack.up("app_green");
    assert_all_counted(stack, &seen);
}

#[test]
fn a_stop_says_goodbye_to_500_clients() {
    let Some(engine) = engine() else { return };
    check(&Stack::new(engine));
}

#[test]
fn a_stop_in_32_megabytes() {
    let Some(engine) = engine() else { return };
    let stack = Stack::new(engine).with_memory("32m");
    check(&stack);
    let limit = stack.state("app_blue", "HostConfig.Memory");
    assert_eq!(limit, (32 << 20).to_string());
}

/// What a frozen Redis does not take is in the volume of this colour, and goes into Redis when the
/// colour is started again.
#[test]
fn a_stop_while_redis_is_paused() {
    let Some(engine) = engine() else { return };
    let stack = Stack::new(engine);
    stack.up("app_blue");
    let crowd = Crowd::gather(stack.address, guests(500));
    stack.compose(&["pause", "redis"]);
    let (report, seen) = stop_blue(&stack, crowd);
    assert!(report.spilled > 0, "{report:?}");
    stack.compose(&["unpause", "redis"]);
    stack.compose(&["start", "app_blue"]);
    stack.until_ready();
    assert_all_counted(&stack, &seen);
}

/// All of it is taken down, and the way to the clients goes last.
#[test]
fn down_says_goodbye_before_the_proxy_goes() {
    let Some(engine) = engine() else { return };
    let stack = Stack::new(engine);
    stack.up("app_blue");
    let crowd = Crowd::gather(stack.address, guests(100));
    stack.compose(&["down"]);
    let seen = crowd.disperse();
    for seen in &seen {
        seen.assert_farewell();
    }
    // The volumes are still there.
    stack.up("app_green");
    assert_all_counted(&stack, &seen);
}
