//! Goal: where systemd's journal reads standard error, a line has a priority and no time of its own,
//! so that `journalctl -p warning` finds warnings; anywhere else it has neither. Method: the built
//! binary writes to a file, and is told in `JOURNAL_STREAM` that this file is the journal's socket.

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt as _;
use std::process::{Command, Stdio};

use crate::support::server::BINARY;

/// What it writes to standard error when it warns and cannot start, and the exit code.
fn log(args: &[&str], is_journal: bool) -> Vec<String> {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let path = dir.path().join("stderr");
    let file = File::create(&path).expect("a file");
    let metadata = file.metadata().expect("a file");
    let inode = metadata.ino() + u64::from(!is_journal);
    let status = Command::new(BINARY)
        .args(["--listen", "127.0.0.1:0", "--admin", "off"])
        .args(["--store", "sqlite:missing/s.db"])
        .args(args)
        .env_clear()
        .env("JOURNAL_STREAM", format!("{}:{inode}", metadata.dev()))
        .env("SUNDOWN_LISTN", "x")
        .current_dir(dir.path())
        .stdout(Stdio::null())
        .stderr(file)
        .status()
        .expect("the binary runs");
    assert!(matches!(status.code(), Some(1 | 64)), "{status}");
    let text = fs::read_to_string(&path).expect("UTF-8");
    text.lines().map(str::to_owned).collect()
}

#[track_caller]
fn check(args: &[&str], is_journal: bool, expected: &[&str]) {
    let log = log(args, is_journal);
    let begins = log.iter().zip(expected);
    assert_eq!(log.len(), expected.len(), "{log:#?}");
    for (line, begin) in begins {
        assert!(line.starts_with(begin), "{line}");
    }
}

#[test]
fn lines_have_a_priority_where_the_journal_reads() {
    let warning = "the variable SUNDOWN_LISTN is no setting";
    let error = "sundown: sqlite:missing/s.db: ";
    let of = |priority: &str, text: &str| format!("<{priority}>{text}");
    let (warned, failed) = (of("4", warning), of("3", error));
    check(&[], true, &[&warned, &failed]);
    check(&["--log-format", "text"], true, &[&warned, &failed]);
    check(&["--log-format", "json"], true, &["<4>{\"ts\":", &failed]);
    check(&["--bad"], true, &["<3>sundown: --bad: no such flag"]);
    // Inherited by a process whose standard error is another.
    check(&[], false, &["{\"ts\":", error]);
}
