//! Goal: a server that has ended leaves its SQLite file alone in its directory, without the companions
//! that it has while it is open; another server keeps them. Method: the directory, after the exit.

use std::path::Path;

use crate::support::client::Client;
use crate::support::server::Server;
use crate::support::store::Store;

const QUICK: [&str; 3] = [
    "--notify-timeout=50ms",
    "--drain-quiet=10ms",
    "--close-spread=10ms",
];

/// The files there, in the order of their names.
#[track_caller]
pub(crate) fn names_in(dir: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(dir).expect("a directory");
    let name = |entry: std::io::Result<std::fs::DirEntry>| {
        let name = entry.expect("an entry").file_name();
        name.to_string_lossy().into_owned()
    };
    let mut names: Vec<_> = entries.map(name).collect();
    names.sort();
    names
}

#[test]
fn the_last_server_on_a_file_takes_its_companions_along() {
    let store = Store::sqlite();
    let Store::Sqlite(dir) = &store else {
        unreachable!("it is one of those");
    };
    for count in 1..=10 {
        let mut first = Server::start(&store.url(), &QUICK);
        let mut last = Server::start(&store.url(), &QUICK);
        let (mut client, _) = Client::v1(&last, "a");
        assert_eq!(client.say("one more"), count);
        client.leave();
        first.stop();
        let open = ["sundown.db", "sundown.db-shm", "sundown.db-wal"];
        assert_eq!(names_in(dir.path()), open);
        last.stop();
        assert_eq!(names_in(dir.path()), ["sundown.db"], "after {count}");
    }
}
