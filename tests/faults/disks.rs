//! What happens to the disk below the server: it is read-only when the server starts, or becomes so
//! while it runs.

use super::campaign::{Row, Tally};
use super::deploys::busy;
use super::disk::Disk;
use super::fleet::Fleet;
use super::node;
use crate::support::server::Server;
use crate::support::store::Store;
use crate::support::{PATIENCE, eventually};

#[track_caller]
fn serve(row: &Row, disk: &Disk, flags: &[&str]) -> (Server, Fleet) {
    let address = node::address();
    let server = node::start(&disk.sqlite(), address, flags);
    let fleet = Fleet::gather(&[address], busy(100 * row.scale));
    fleet.flow(500);
    (server, fleet)
}

/// A start on a directory that cannot be written is refused, and costs nothing.
pub(crate) fn read_only(row: &mut Row) -> Tally {
    let disk = Disk::mount();
    let (mut server, fleet) = serve(row, &disk, &[]);
    let times = 2 * row.scale;
    for _ in 0..times {
        server.stop();
        disk.remount("ro");
        let (mut refused, _dir) = Server::spawn(node::program(), &disk.sqlite(), &[]);
        let (status, _) = refused.wait(PATIENCE);
        let lines = refused.stderr.all();
        assert_eq!(status.code(), Some(1), "{lines:?}");
        let reason = lines.last().map_or("", String::as_str);
        assert!(reason.contains(&disk.sqlite()), "{lines:?}");
        disk.remount("rw");
        server = node::start(&disk.sqlite(), server.address, &[]);
        fleet.flow(500);
    }
    row.note(format!("{times} starts refused, exit 1"));
    row.settle_with_sqlite(fleet, &disk.sqlite())
}

/// Nothing can be written any more, and the server lives. Its files are rescued to another disk,
/// with all that was acknowledged.
pub(crate) fn becomes_read_only(row: &mut Row) -> Tally {
    let disk = Disk::mount_ext4();
    // The wait for the store is short here: it would be in vain.
    let flags = ["--drain-timeout=500ms", "--persist-timeout=1s"];
    let (mut server, fleet) = serve(row, &disk, &flags);
    disk.fail();
    eventually("readiness 503", || server.readiness() == 503);
    server.terminate();
    let report = server.exits_with(1);
    assert!(!report.unsaved.is_empty(), "{report:?}");
    row.note(format!("exit 1, {} named as unsaved", report.unsaved.len()));
    let store = Store::sqlite();
    let Store::Sqlite(dir) = &store else {
        unreachable!("it is one of SQLite")
    };
    disk.rescue(dir.path());
    let _server = node::start(&store.url(), server.address, &[]);
    fleet.flow(500);
    row.note("its files copied to a good disk");
    row.settle_with_sqlite(fleet, &store.url())
}
