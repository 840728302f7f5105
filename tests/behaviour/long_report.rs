//! Goal: a report with more unsaved sessions than it has room for is one whole JSON object, which a
//! pipe takes at once; it counts the rest, and a file beside the store names them all. Method:
//! another process keeps the SQLite file locked until the server has given up.

use std::os::unix::fs::PermissionsExt as _;

use rusqlite::Connection;
use tempfile::TempDir;

use crate::support::client::Client;
use crate::support::server::{Server, Unsaved};

const SESSIONS: usize = 60;

#[test]
fn sessions_that_do_not_fit_are_counted_and_named_in_a_file() {
    let dir = TempDir::new().expect("a temporary directory");
    let path = dir.path().join("sundown.db");
    let store = format!("sqlite:{}", path.display());
    let mut server = Server::start(&store, &["--shutdown-timeout", "2s"]);
    let mut clients: Vec<Client> = (0..SESSIONS)
        .map(|n| Client::v1(&server, &format!("{n:0>128}")).0)
        .collect();
    let other = Connection::open(&path).expect("the file");
    other.execute_batch("BEGIN IMMEDIATE").expect("the lock");
    for client in &mut clients {
        client.text("not saved");
        client.stream.flush();
    }
    server.turns();
    server.terminate();
    let exit = server.exit();
    let line = exit.stdout.last().expect("a report");
    assert!(line.len() < 4_096, "{}", line.len());
    let report = exit.report();
    assert_eq!(exit.code, Some(1), "{report:?}");
    assert_eq!(
        report.unsaved.len() + report.unsaved_more,
        SESSIONS,
        "{report:?}"
    );
    assert!(report.unsaved_more > 0, "{report:?}");

    let file = report.unsaved_file.expect("a file");
    assert!(
        file.starts_with(&format!("{}-unsaved-", path.display())),
        "{file}"
    );
    let mode = std::fs::metadata(&file)
        .expect("it is there")
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600, "names of sessions are secrets");
    let lines = std::fs::read_to_string(&file).expect("UTF-8");
    let mut named: Vec<Unsaved> = lines
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect();
    named.sort();
    let expected = (0..SESSIONS).map(|n| Unsaved {
        session: format!("{n:0>128}"),
        count: 1,
    });
    assert!(named.into_iter().eq(expected));
}
