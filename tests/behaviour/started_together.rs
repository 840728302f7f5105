//! Goal: of two servers that start at once with a file that is not there yet, neither fails, and
//! neither goes without: one makes the file, the other waits.
//! Method: pairs of the built binary, each with a new file, for the store and for the spill.

use std::process::Command;

use tempfile::TempDir;

use crate::support::PATIENCE;
use crate::support::server::{BINARY, Server};

const PAIRS: usize = 200;

/// Starts pairs until each of them has said this on standard output; none may warn.
#[track_caller]
fn check(store: impl Fn(&str) -> String, flags: impl Fn(&str) -> Vec<String>, said: &str) {
    for pair in 0..PAIRS {
        let dir = TempDir::new().expect("a temporary directory");
        let file = format!("sqlite:{}", dir.path().join("new.db").display());
        let flags = flags(&file);
        let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
        let both = [(); 2].map(|()| Server::spawn(Command::new(BINARY), &store(&file), &flags));
        for (server, _dir) in &both {
            let started = |line: &str| line.starts_with(said).then_some(());
            let started = server.stdout.wait_for(PATIENCE, started);
            let log = server.stderr.all();
            assert!(started.is_some(), "pair {pair}: {log:?}");
            let warned = log.iter().any(|line| line.contains("no spill"));
            assert!(!warned, "pair {pair}: {log:?}");
        }
    }
}

#[test]
fn with_a_new_store() {
    check(str::to_owned, |_| Vec::new(), "ready");
}

#[test]
fn with_a_new_spill() {
    // Nobody listens there: the spill is opened all the same.
    let nobody = |_: &str| "redis://127.0.0.1:1".to_owned();
    check(nobody, |file| vec![format!("--spill={file}")], "admin on");
}
