//! Goal: a server whose database is removed, moved, replaced or overwritten under it acknowledges
//! nothing that nobody will find, and its exit code says so.
//! Method: the built binary, rm, mv and cp on its files, and SIGTERM.

use std::fs::{self, File};
use std::path::Path;

use tempfile::TempDir;

use crate::support::client::Client;
use crate::support::eventually;
use crate::support::server::{Server, Unsaved};

/// The wait for the store is short here: it would be in vain.
const SHORT: [&str; 2] = ["--drain-timeout=500ms", "--persist-timeout=1s"];

struct Case {
    dir: TempDir,
    server: Server,
    client: Client,
}

fn case() -> Case {
    let dir = TempDir::new().expect("a temporary directory");
    fs::create_dir(dir.path().join("data")).expect("a directory");
    let store = format!("sqlite:{}", dir.path().join("data/s.db").display());
    let server = Server::start(&store, &SHORT);
    let (mut client, _) = Client::v1(&server, "a");
    (1..=5).for_each(|n| assert_eq!(client.say("counted"), n));
    Case {
        dir,
        server,
        client,
    }
}

#[track_caller]
fn check(change: impl Fn(&Path)) {
    let case = case();
    change(case.dir.path());
    eventually("readiness 503", || case.server.readiness() == 503);
    expect_lost(case, 5);
}

/// The server goes on, and finds out at the exit.
#[track_caller]
fn check_content(change: impl Fn(&Path)) {
    let mut case = case();
    change(&case.dir.path().join("data"));
    assert_eq!(case.client.say("counted"), 6);
    expect_lost(case, 6);
}

#[track_caller]
fn expect_lost(mut case: Case, count: u64) {
    case.server.terminate();
    case.client.until_closed(1001);
    let report = case.server.exits_with(1);
    let told = (report.store_lost, report.synced);
    assert_eq!(told, (true, Some(false)), "{report:?}");
    assert_eq!(report.unsaved, [Unsaved::of("a", count)]);
}

#[test]
fn a_wal_that_is_emptied() {
    check_content(|data| drop(File::create(data.join("s.db-wal")).expect("it is there")));
}

/// `fs::copy` writes into the file that is there.
#[test]
fn a_wal_that_is_overwritten() {
    check_content(|data| {
        fs::copy(data.join("s.db-shm"), data.join("s.db-wal")).expect("they are there");
    });
}

#[test]
fn a_database_that_is_overwritten() {
    check_content(|data| {
        fs::copy(data.join("s.db-shm"), data.join("s.db")).expect("they are there");
        File::create(data.join("s.db-wal")).expect("it is there");
    });
}

#[test]
fn a_database_that_is_removed() {
    check(|dir| {
        for name in ["s.db", "s.db-wal", "s.db-shm"] {
            fs::remove_file(dir.join("data").join(name)).expect("it is there");
        }
    });
}

#[test]
fn a_wal_that_is_removed() {
    check(|dir| fs::remove_file(dir.join("data/s.db-wal")).expect("it is there"));
}

#[test]
fn a_directory_that_is_moved_and_made_anew() {
    check(|dir| {
        fs::rename(dir.join("data"), dir.join("old")).expect("it is there");
        fs::create_dir(dir.join("data")).expect("a directory");
    });
}

#[test]
fn a_database_that_is_replaced() {
    check(|dir| {
        fs::copy(dir.join("data/s.db"), dir.join("copy")).expect("it is there");
        fs::rename(dir.join("copy"), dir.join("data/s.db")).expect("it is there");
    });
}

#[test]
fn a_database_that_comes_back_is_taken_up_again() {
    let mut case = case();
    let (data, old) = (case.dir.path().join("data"), case.dir.path().join("old"));
    fs::rename(&data, &old).expect("it is there");
    eventually("readiness 503", || case.server.readiness() == 503);
    fs::rename(&old, &data).expect("it is there");
    eventually("readiness 200", || case.server.readiness() == 200);
    assert_eq!(case.client.say("and on"), 6);
    drop(case.client);
    assert!(!case.server.stop().store_lost);
}

/// All is saved, and everybody has gone but for one that does not answer its Close.
#[test]
fn a_database_that_is_removed_shortly_before_the_exit() {
    let mut case = case();
    let (mut silent, _) = Client::v1(&case.server, "silent");
    assert_eq!(silent.say("counted"), 1);
    case.server.terminate();
    case.client.until_closed(1001);
    fs::remove_dir_all(case.dir.path().join("data")).expect("it is there");
    let mut unsaved = case.server.exits_with(1).unsaved;
    unsaved.sort();
    assert_eq!(unsaved, [Unsaved::of("a", 5), Unsaved::of("silent", 1)]);
}
