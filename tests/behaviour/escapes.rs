//! Goal: no text of a peer or of a file acts on the operator's terminal. Method: the built binary is
//! given escape sequences by every way that a text comes in, and what it prints has no control
//! character but the line break.

use std::io::{Read as _, Write as _};
use std::net::Shutdown;
use std::process::Output;

use crate::support::peer::Peer;
use crate::support::server::{run, run_with};

/// Clears the screen, sets the title, and begins a line of its own; in C0, in C1 and by directions.
const HOSTILE: &str = "a\x1b[2J\x1b]0;x\x07\r\nb\u{9b}31m\u{202e}c";

/// One line on each stream at most, and all of it visible; it has `part` in it.
#[track_caller]
fn assert_visible(output: &Output, code: i32, part: &str) {
    assert_eq!(output.status.code(), Some(code), "{output:?}");
    let all = [&output.stdout, &output.stderr].map(|out| String::from_utf8_lossy(out).into_owned());
    for text in &all {
        let line = text.strip_suffix('\n').unwrap_or(text);
        assert!(!line.contains(char::is_control), "{line:?}");
        assert!(!line.contains('\u{202e}'), "{line:?}");
    }
    assert!(all.concat().contains(part), "{all:?}");
}

/// Who holds the port: answers one request with this.
fn answering(answer: String) -> Peer<()> {
    Peer::start(move |stream| {
        stream.write_all(answer.as_bytes()).expect("written");
        stream.shutdown(Shutdown::Write).expect("it is connected");
        // To its end: what is closed unread is reset.
        stream.read_to_end(&mut Vec::new()).expect("a request");
    })
}

#[test]
fn an_answer_to_a_broadcast() {
    for (status, body, code, part) in [
        (
            "200 OK",
            HOSTILE.to_owned(),
            0,
            r"a\u001b[2J\u001b]0;x\u0007\r\nb\u009b31m\u202ec",
        ),
        (
            "503 No",
            HOSTILE.to_owned(),
            1,
            r"broadcast: 503 No: a\u001b[2J",
        ),
        (
            "400 \x1b[31m",
            r#"{"error":"\u001b[2Jno \"JSON\""}"#.to_owned(),
            1,
            r#"no "JSON""#,
        ),
    ] {
        let answer = format!("HTTP/1.1 {status}\r\n\r\n{body}");
        let peer = answering(answer);
        let output = run(&["broadcast", "--admin", &peer.addr.to_string(), "1"]);
        peer.join();
        assert_visible(&output, code, part);
    }
}

#[test]
fn an_answer_to_a_health_check() {
    let peer = answering(format!("HTTP/1.1 500 {HOSTILE}\r\n\r\n"));
    let output = run(&["healthcheck", "--admin", &peer.addr.to_string()]);
    peer.join();
    assert_visible(&output, 1, "500 a");
}

#[test]
fn an_answer_to_a_smoke_test() {
    let peer = answering(format!(
        "HTTP/1.1 500 x\r\nContent-Length: 20\r\n\r\n{HOSTILE}"
    ));
    let output = run(&["smoke", "--listen", &peer.addr.to_string()]);
    peer.join();
    assert_visible(&output, 1, "500 a");
}

#[test]
fn names_of_files_and_values() {
    let path = format!("/nowhere/{}", HOSTILE.replace('\r', ""));
    let store = format!("sqlite:{path}");
    let free = ["--listen", "127.0.0.1:0", "--admin", "off"];
    assert_visible(&run(&["shutdown-report", &path]), 1, r"a\u001b[2J");
    let started = [&free[..], &["--store", &store]].concat();
    assert_visible(&run(&started), 1, r"a\u001b[2J");
    assert_visible(&run(&[HOSTILE]), 64, "no such command");
    assert_visible(&run(&[&format!("--{HOSTILE}")]), 64, "no such flag");
    assert_visible(&run(&["--app", HOSTILE]), 64, "chat or echo");
    let variable = ("SUNDOWN_LOG", HOSTILE);
    assert_visible(&run_with(&[], &[variable]), 64, "SUNDOWN_LOG");
}
