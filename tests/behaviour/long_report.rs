//! Goal: a report with more unsaved sessions than it has room for is one whole JSON object, which a
//! pipe takes at once; it counts the rest, and a file names them all, beside the store or, if that
//! cannot be, among the temporary files. Method: another process keeps the SQLite file locked until
//! the server has given up.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use rusqlite::Connection;
use tempfile::TempDir;

use crate::support::client::Client;
use crate::support::server::{Server, Unsaved, with_variables};

const SESSIONS: usize = 60;

#[test]
fn sessions_that_do_not_fit_are_counted_and_named_in_a_file() {
    let (dir, temporary) = two_directories();
    let file = file_of_unsaved(&dir, &temporary, &|| {});
    assert_eq!(file.parent(), Some(dir.path()), "{file:?}");
}

#[test]
fn without_the_directory_of_the_store_the_file_is_a_temporary_one() {
    let (dir, temporary) = two_directories();
    let remove = || fs::remove_dir_all(dir.path()).expect("the directory");
    let file = file_of_unsaved(&dir, &temporary, &remove);
    assert_eq!(file.parent(), Some(temporary.path()), "{file:?}");
}

fn two_directories() -> (TempDir, TempDir) {
    let new = || TempDir::new().expect("a temporary directory");
    (new(), new())
}

/// The file that the report names, with every session in it, when `harm` was done before the end.
fn file_of_unsaved(dir: &TempDir, temporary: &TempDir, harm: &dyn Fn()) -> PathBuf {
    let path = dir.path().join("sundown.db");
    let store = format!("sqlite:{}", path.display());
    let command = with_variables(&[("TMPDIR", &temporary.path().to_string_lossy())]);
    let mut server = Server::launch(command, &store, &["--shutdown-timeout", "2s"]);
    let mut clients: Vec<Client> = (0..SESSIONS)
        .map(|n| Client::v1(&server, &format!("{n:0>128}")).0)
        .collect();
    let other = Connection::open(&path).expect("the file");
    other.execute_batch("BEGIN IMMEDIATE").expect("the lock");
    for client in &mut clients {
        client.send("not saved");
    }
    server.turns();
    harm();
    server.terminate();
    let exit = server.exit();
    let line = exit.stdout.last().expect("a report");
    assert!(line.len() < 4_096, "{}", line.len());
    let report = exit.report();
    assert_eq!(exit.code, Some(1), "{report:?}");
    let all = report.unsaved.len() + report.unsaved_more;
    assert_eq!(all, SESSIONS, "{report:?}");
    assert!(report.unsaved_more > 0, "{report:?}");

    let file = PathBuf::from(report.unsaved_file.expect("a file"));
    let name = file.file_name().expect("a name").to_string_lossy();
    assert!(name.starts_with("sundown.db-unsaved-"), "{name}");
    let mode = fs::metadata(&file)
        .expect("it is there")
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600, "names of sessions are secrets");
    let lines = fs::read_to_string(&file).expect("UTF-8");
    let mut named: Vec<Unsaved> = lines
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect();
    named.sort();
    let expected = (0..SESSIONS).map(|n| Unsaved::of(&format!("{n:0>128}"), 1));
    assert!(named.into_iter().eq(expected));
    file
}
