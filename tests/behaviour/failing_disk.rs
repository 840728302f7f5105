//! Goal: the report and the exit code say what the disk has made of the sessions, and a disk that
//! hangs moves no deadline. Method: the built binary, with a C library before its own that fails as
//! files in a directory say (tests/support/disk.c, compiled here).

use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

use crate::support::client::Client;
use crate::support::redis::Redis;
use crate::support::server::{Server, with_variables};
use crate::support::store::Store;
use crate::support::{eventually, ms, pause};

/// What the files of one server are on.
struct Disk(TempDir);

impl Disk {
    fn new() -> Self {
        let dir = TempDir::new().expect("a temporary directory");
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/disk.c");
        let compiled = Command::new("cc")
            .args(["-shared", "-fPIC", "-o"])
            .args([&dir.path().join("disk.so"), Path::new(source)])
            .arg("-ldl")
            .status();
        assert!(compiled.expect("a C compiler").success());
        Self(dir)
    }

    fn start(&self, store: &str, flags: &[&str]) -> Server {
        let dir = self.0.path().to_string_lossy();
        let library = format!("{dir}/disk.so");
        let variables = [("LD_PRELOAD", &*library), ("SUNDOWN_TEST_DISK", &dir)];
        Server::launch(with_variables(&variables), store, flags)
    }

    fn begins(&self, what: &str) {
        std::fs::write(self.0.path().join(what), "").expect("ours");
    }

    fn ends(&self, what: &str) {
        std::fs::remove_file(self.0.path().join(what)).expect("it is there");
    }

    fn does(&self, what: &str) -> bool {
        self.0.path().join(what).exists()
    }
}

#[test]
fn what_was_synced_is_reported_as_that() {
    let store = Store::sqlite();
    let mut server = Disk::new().start(&store.url(), &[]);
    let (mut client, _) = Client::v1(&server, "synced");
    assert_eq!(client.say("one"), 1);
    client.leave();
    assert_eq!(server.stop().synced, Some(true));
    let mut server = Server::start("memory:", &[]);
    assert_eq!(server.stop().synced, None, "there is no file");
}

#[test]
fn a_disk_that_fails_the_sync_is_exit_1() {
    let (store, disk) = (Store::sqlite(), Disk::new());
    let mut server = disk.start(&store.url(), &[]);
    let (mut client, _) = Client::v1(&server, "refused");
    assert_eq!(client.say("one"), 1);
    client.leave();
    disk.begins("sync-fails");
    server.terminate();
    let report = server.exits_with(1);
    assert_eq!(report.synced, Some(false), "{report:?}");
    assert_eq!(report.unsaved, [], "the kernel has it: {report:?}");
}

/// What is in the kernel survives the process: that the disk has not answered is reported, and is
/// no loss.
#[test]
fn a_sync_that_never_returns_is_exit_0_and_reported() {
    let (store, disk) = (Store::sqlite(), Disk::new());
    let mut server = disk.start(&store.url(), &["--shutdown-timeout", "3s"]);
    let (mut client, _) = Client::v1(&server, "kept");
    assert_eq!(client.say("one"), 1);
    disk.begins("sync-hangs");
    server.terminate();
    let report = server.exits_with(0);
    assert_eq!(report.synced, Some(false), "{report:?}");
    assert!(report.total_ms <= 3_000, "{report:?}");
    let next = Server::start(&store.url(), &[]);
    assert_eq!(Client::v1(&next, "kept").1.count, 1);
}

#[test]
fn a_spill_that_the_disk_refuses_is_exit_1() {
    let (redis, disk) = (Redis::start(), Disk::new());
    let flags = ["--spill", "sqlite:spill.db", "--shutdown-timeout", "3s"];
    let mut server = disk.start(&redis.url(), &flags);
    let (mut client, _) = Client::v1(&server, "spilled");
    assert_eq!(client.say("saved"), 1);
    redis.freeze();
    client.send("not saved");
    disk.begins("sync-fails");
    server.terminate();
    let report = server.exits_with(1);
    let safe = (report.spilled, report.synced);
    assert_eq!(safe, (1, Some(false)), "{report:?}");
}

/// The deadline counts from the signal, whatever the loop waits for meanwhile.
#[test]
fn a_write_that_hangs_hides_nothing() {
    let (store, disk) = (Store::sqlite(), Disk::new());
    let mut server = disk.start(&store.url(), &[]);
    let (mut client, _) = Client::v1(&server, "late");
    disk.begins("write-hangs");
    client.send("one");
    eventually("the write hangs", || disk.does("hanging"));
    server.terminate();
    pause(ms(1_500));
    drop(client);
    disk.ends("write-hangs");
    let report = server.exit().report();
    assert!(report.phases_ms.delaying >= 1_400, "{report:?}");
    assert!(report.total_ms >= 1_400, "{report:?}");
    let log = server.log().all();
    let is_told = |line: &String| line.contains("a turn took") && line.contains("the store");
    assert!(log.iter().any(is_told), "{log:?}");
}
