//! Goal: nobody but its owner can read a file that the server makes, since session ids are secrets:
//! whatever the umask, and also if the file is there already.
//! Method: the modes of all files that a server of the built binary leaves in its directories.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

use crate::support::client::Client;
use crate::support::redis::Redis;
use crate::support::server::{BINARY, Server};

fn with_umask(umask: &str) -> Command {
    let mut command = Command::new("/bin/sh");
    command.args(["-c", &format!("umask {umask}; exec \"$0\" \"$@\""), BINARY]);
    command
}

/// Names and modes, in order.
fn modes(dir: &Path) -> Vec<(String, u32)> {
    let files = fs::read_dir(dir).expect("a directory");
    let mut modes: Vec<_> = files
        .map(|file| {
            let file = file.expect("an entry");
            let mode = file.metadata().expect("it is there").permissions().mode();
            (
                file.file_name().to_string_lossy().into_owned(),
                mode & 0o777,
            )
        })
        .collect();
    modes.sort();
    modes
}

#[track_caller]
fn check(dir: &Path, names: &[&str]) {
    let expected: Vec<_> = names.iter().map(|&name| (name.to_owned(), 0o600)).collect();
    assert_eq!(modes(dir), expected);
}

#[test]
fn new_files_are_private_whatever_the_umask() {
    for umask in ["000", "022", "777"] {
        let dir = TempDir::new().expect("a temporary directory");
        let store = format!("sqlite:{}", dir.path().join("s.db").display());
        let mut server = Server::launch(with_umask(umask), &store, &[]);
        let (mut client, _) = Client::v1(&server, "secret");
        client.say("counted");
        drop(client);
        check(dir.path(), &["s.db", "s.db-shm", "s.db-wal"]);
        server.stop();
    }
}

#[test]
fn the_spill_is_private_whatever_the_umask() {
    for umask in ["000", "777"] {
        let (redis, dir) = (Redis::start(), TempDir::new().expect("a directory"));
        let path = dir.path().join("spill.db");
        let spill = format!("--spill=sqlite:{}", path.display());
        drop(Server::launch(with_umask(umask), &redis.url(), &[&spill]));
        let left = rusqlite::Connection::open(&path).expect("the spill");
        left.execute(
            "INSERT INTO spilled (id, epoch, count) VALUES ('a', 1, 1)",
            [],
        )
        .expect("a row");
        drop(left);
        // A replay takes its lock.
        let _server = Server::launch(with_umask(umask), &redis.url(), &[&spill]);
        let names = ["spill.db", "spill.db-lock", "spill.db-shm", "spill.db-wal"];
        check(dir.path(), &names);
    }
}

#[test]
fn files_that_are_there_are_tightened_and_said_so() {
    let dir = TempDir::new().expect("a temporary directory");
    let store = format!("sqlite:{}", dir.path().join("s.db").display());
    let mut server = Server::start(&store, &[]);
    server.kill();
    for (name, _) in modes(dir.path()) {
        fs::set_permissions(dir.path().join(name), Permissions::from_mode(0o644)).expect("ours");
    }
    let mut server = Server::start(&store, &[]);
    check(dir.path(), &["s.db", "s.db-shm", "s.db-wal"]);
    server.log().until("its mode is 0600 now");
    server.stop();
}
