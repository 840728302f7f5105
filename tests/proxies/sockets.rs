//! Goal: each proxy reaches instances that listen on sockets in the file system as it does by
//! ports, with the lines that docs/deploy has for that; a stop cuts nobody.
//! Method: the shipped file with those lines in place of the ports, clients that send all the time,
//! and a SIGTERM of one instance.

use std::path::Path;
use std::process::Command;

use rustix::process::Signal;
use tempfile::TempDir;

use crate::fleet::session::Habit;
use crate::fleet::{Fleet, plans};
use crate::proxy::{Backend, Change, Kind};
use crate::site::Ground;
use crate::stops::assess;
use crate::support::PATIENCE;
use crate::support::process::Process;
use crate::support::server::{BINARY, Server};

/// What names an instance in the proxy's file: by its port, and by its socket.
fn change(kind: Kind, backend: &Backend, socket: &Path) -> Change {
    let (listen, admin) = (backend.listen.to_string(), backend.admin);
    let socket = socket.display();
    match kind {
        Kind::HaProxy | Kind::Compose => (
            format!("{listen} check port"),
            format!("unix@{socket} check addr {} port", admin.ip()),
        ),
        Kind::Nginx => (listen, format!("unix:{socket}")),
        Kind::Caddy => (listen, format!("unix/{socket}")),
    }
}

#[track_caller]
fn check(kind: Kind) {
    let dir = TempDir::new().expect("a temporary directory");
    let sockets = ["blue", "green"].map(|name| dir.path().join(name));
    let ground = Ground::prepare_with(kind, |backends| {
        let pairs = backends.iter().zip(&sockets);
        pairs
            .map(|(backend, socket)| change(kind, backend, socket))
            .collect()
    });
    let store = format!("sqlite:{}", dir.path().join("sundown.db").display());
    let mut instances = [0, 1].map(|colour| {
        let listen = format!("unix:{}", sockets[colour].display());
        let admin = ground.backends[colour].admin.to_string();
        let flags = ["--listen", &listen, "--admin", &admin];
        let (process, _) = Server::spawn(Command::new(BINARY), &store, &flags);
        process.stdout.until("ready");
        process
    });
    (0..2).for_each(|colour| ground.until_reached(colour));
    let doors = [ground.doors.here];
    let fleet = Fleet::gather(&doors, plans("socket", 20, Habit::Steady));
    fleet.flow(100);
    let [blue, green] = &mut instances;
    stop(blue);
    fleet.until_all_open();
    fleet.flow(100);
    let accounts = fleet.finish();
    let left = accounts.iter().filter(|account| !account.breaks.is_empty());
    assert!(left.count() > 0, "nobody was on the one that was stopped");
    assess(&accounts);
    stop(green);
}

#[track_caller]
fn stop(instance: &mut Process) {
    instance.signal(Signal::TERM);
    assert_eq!(instance.wait(PATIENCE).0.code(), Some(0));
}

#[test]
fn haproxy_reaches_sockets() {
    check(Kind::HaProxy);
}

#[test]
fn nginx_reaches_sockets() {
    check(Kind::Nginx);
}

#[test]
fn caddy_reaches_sockets() {
    check(Kind::Caddy);
}
