//! Goal: a start that fails because a database file cannot be opened names the cause.
//! Method: the built binary with too few descriptors. What other causes are called is for
//! `tests/sqlite_store.rs`.

use std::process::Command;

use crate::support::PATIENCE;
use crate::support::server::{BINARY, Server};

/// The last line of a start that fails.
#[track_caller]
fn refused(command: Command, store: &str) -> String {
    let (mut process, _dir) = Server::spawn(command, store, &[]);
    let (status, _) = process.wait(PATIENCE);
    assert_eq!(status.code(), Some(1), "{:?}", process.stdout.all());
    process.stderr.all().pop().expect("a reason")
}

#[test]
fn too_many_open_files() {
    let mut named = 0;
    // Standard streams, sockets and the poll take some; where SQLite is next, the cause is named.
    for files in 4..13 {
        let mut command = Command::new("/bin/sh");
        let script = format!("ulimit -n {files}; exec \"$0\" \"$@\"");
        command.args(["-c", &script, BINARY]);
        let line = refused(command, "sqlite:s.db");
        assert!(line.contains("Too many open files"), "{files}: {line}");
        named += u32::from(line.contains("sqlite:s.db"));
    }
    assert!(named > 1, "the file was never what could not be opened");
}
