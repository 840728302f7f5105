//! Goal: what people and supervisors see of the command line: texts, exit codes, one clear line
//! for a mistake, no password anywhere, and an exit that no unread pipe holds up. Method: the built
//! binary with an environment of its own; health checks ask a listener inside the test.

use std::io::{self, BufRead, BufReader, Read as _, Write as _};
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::support::now;
use crate::support::peer::{Nobody, Peer, head};
use crate::support::process::Running;
use crate::support::server::{BINARY, Server, run, run_with, with_variables};
use crate::support::terminal::terminal;

/// A server with sessions in memory, on a free port.
const SERVER: [&str; 3] = ["--listen=127.0.0.1:0", "--admin=off", "--store=memory:"];

/// The binary with these arguments, a misspelled variable, and nothing else.
fn sundown(args: &[&str]) -> Command {
    let mut command = Command::new(BINARY);
    command.args(args).env_clear().env("SUNDOWN_LISTN", "x");
    command.stdin(Stdio::null());
    command
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).expect("UTF-8")
}

#[test]
fn help_and_version_go_to_standard_output() {
    for args in [["--help"], ["-h"], ["help"]] {
        let out = run(&args);
        assert!(out.status.success());
        assert!(out.stderr.is_empty());
        let help = text(&out.stdout);
        assert!(help.starts_with("sundown: a WebSocket server"), "{help}");
        assert!(help.contains("--shutdown-timeout DURATION  [default: 10s]"));
        assert!(help.lines().all(|line| line.chars().count() <= 80));
    }
    for args in [["--version"], ["-V"]] {
        let out = run(&args);
        assert!(out.status.success());
        let expected = concat!("sundown ", env!("CARGO_PKG_VERSION"), "\n");
        assert_eq!(text(&out.stdout), expected);
    }
}

/// Exit 64, nothing on standard output, and exactly one line, which names `place`.
#[track_caller]
fn check_refused(args: &[&str], variables: &[(&str, &str)], place: &str) {
    let out = run_with(args, variables);
    let line = text(&out.stderr);
    assert_eq!(
        out.status.code(),
        Some(64),
        "{args:?} {variables:?}: {line}"
    );
    assert!(out.stdout.is_empty(), "{args:?}");
    assert_eq!(line.lines().count(), 1, "{line}");
    assert!(line.ends_with('\n'), "{line}");
    assert!(line.starts_with(&format!("sundown: {place}")), "{line}");
    assert!(!line.contains("secret"), "{line}");
}

/// Arguments, and how the one line begins: a value, a contradiction, and what is no argument. Each
/// setting is for the tests of `cli::settings` and `config`.
const BAD_ARGUMENTS: &[(&[&str], &str)] = &[
    (
        &["--listen", "localhost:8000"],
        "--listen \"localhost:8000\": expected IP:PORT",
    ),
    (&["--app", "ping\npong"], "--app"),
    (&["--store", "redis://:secret@h:x"], "--store (not shown"),
    (&["--spill", "redis://:secret@h"], "--spill"),
    (
        &["--allowed-origins", "redis://:secret@h"],
        "--allowed-origins (entry 1)",
    ),
    (&["--shutdown-timeout", "200years"], "--shutdown-timeout"),
    (
        &["--shutdown-delay", "10s"],
        "--shutdown-delay 10s: expected less than",
    ),
    (&["--unknown"], "--unknown: no such flag"),
    (&["serve", "redis://:secret@h"], "(not shown"),
    (&["serve", "shutdown-report"], "expected one command"),
    (
        &["--app", "echo", "shutdown-report"],
        "shutdown-report takes",
    ),
    (&["shutdown-report"], "shutdown-report: expected a file"),
    (
        &["shutdown-report", "a", "b"],
        "shutdown-report: expected one file",
    ),
    (
        &["shutdown-report", "--store=redis://:secret@h", "-"],
        "shutdown-report takes",
    ),
];

/// A variable, its value, and how the one line begins.
const BAD_VARIABLES: &[(&str, &str, &str)] = &[
    (
        "SUNDOWN_LISTEN",
        "8000",
        "SUNDOWN_LISTEN \"8000\": expected IP:PORT",
    ),
    ("SUNDOWN_STORE", "secret@host", "SUNDOWN_STORE (not shown"),
    (
        "SUNDOWN_MAX_CONNECTIONS",
        "0",
        "SUNDOWN_MAX_CONNECTIONS 0: expected at least 1",
    ),
];

#[test]
fn a_report_is_drawn_from_the_output_of_a_server() {
    let directory = tempfile::tempdir().expect("a directory");
    let log = directory.path().join("sundown.log");
    let path = log.to_str().expect("UTF-8");
    let mut server = Server::start("memory:", &[]);
    server.stop();
    std::fs::write(&log, server.process.stdout.all().join("\n")).expect("a file");
    let drawn = run(&["shutdown-report", path]);
    assert!(drawn.status.success());
    let drawn = text(&drawn.stdout);
    assert!(
        drawn.starts_with("SIGTERM, 0 connections: gone after "),
        "{drawn}"
    );
    assert!(drawn.contains("every session is safe"), "{drawn}");

    let from_stdin = sundown(&["shutdown-report", "-"])
        .stdin(std::fs::File::open(&log).expect("a file"))
        .output()
        .expect("the binary runs");
    assert_eq!(text(&from_stdin.stdout), drawn);

    let svg = run(&["shutdown-report", "--svg", path]);
    assert!(text(&svg.stdout).starts_with("<svg "));
    assert!(text(&svg.stdout).ends_with("</svg>\n"));
}

#[test]
fn what_holds_no_report_is_exit_1_and_one_line() {
    let directory = tempfile::tempdir().expect("a directory");
    let check = |name: &str, content: &[u8], expected: &str| {
        let path = directory.path().join(name);
        std::fs::write(&path, content).expect("a file");
        let out = run(&["shutdown-report", path.to_str().expect("UTF-8")]);
        assert_eq!(out.status.code(), Some(1));
        let line = text(&out.stderr);
        assert_eq!(line.lines().count(), 1, "{line}");
        assert!(line.contains(expected), "{line}");
        assert!(out.stdout.is_empty());
    };
    check("empty.log", b"", "no report");
    check("ready.log", b"ready\n\xff\n", "no report");
    check(
        "cut.log",
        b"{\"signal\":null,\"phases_ms\":{\n",
        "is not whole",
    );
    let out = run(&["shutdown-report", "/nonexistent/sundown.log"]);
    assert_eq!(out.status.code(), Some(1));
    assert!(text(&out.stderr).contains("/nonexistent/sundown.log: "));
}

#[test]
fn a_mistake_is_exit_64_and_one_line() {
    for (args, place) in BAD_ARGUMENTS {
        check_refused(args, &[], place);
    }
    for &(name, value, place) in BAD_VARIABLES {
        check_refused(&["serve"], &[(name, value)], place);
    }
}

/// What the listener in the test does with the one request that it gets.
#[derive(Clone, Copy)]
enum Behaviour {
    Answer(&'static str),
    /// The answer a byte at a time, for ever within each single timeout.
    Trickle,
    Silence,
}

fn fake_server(behaviour: Behaviour) -> Peer<String> {
    Peer::start(move |stream| {
        let head = head(stream);
        match behaviour {
            Behaviour::Answer(answer) => stream.write_all(answer.as_bytes()).expect("written"),
            Behaviour::Trickle => {
                // Ends when the client has gone, or after ten times what it may take.
                for _ in 0..100 {
                    thread::park_timeout(Duration::from_millis(200));
                    if stream.write_all(b"x").is_err() {
                        break;
                    }
                }
            }
            Behaviour::Silence => {
                let end = stream.read(&mut [0]);
                let goes = matches!(end, Ok(0) | Err(_));
                assert!(goes, "the client goes without a word");
            }
        }
        head
    })
}

/// Runs a health check against a listener: its exit code, its line, and what it asked.
fn healthcheck(behaviour: Behaviour) -> (Option<i32>, String, String) {
    let server = fake_server(behaviour);
    let begun = now();
    let out = run(&["healthcheck", "--admin", &server.addr.to_string()]);
    let took = begun.elapsed();
    assert!(took < Duration::from_secs(4), "{took:?}");
    assert!(out.stdout.is_empty());
    let request = server.join();
    (out.status.code(), text(&out.stderr).to_owned(), request)
}

#[test]
fn a_ready_server_is_healthy() {
    let answer = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}";
    let (code, line, request) = healthcheck(Behaviour::Answer(answer));
    assert_eq!((code, line.as_str()), (Some(0), ""));
    assert!(
        request.starts_with("GET /readyz HTTP/1.1\r\nHost: 127.0.0.1:"),
        "{request}"
    );
}

#[test]
fn a_live_server_is_asked_for_its_health() {
    let server = fake_server(Behaviour::Answer("HTTP/1.1 200 OK\r\n\r\n"));
    let admin = server.addr.to_string();
    let out = run(&["healthcheck", "--live", "--admin", &admin]);
    assert_eq!(out.status.code(), Some(0), "{}", text(&out.stderr));
    let request = server.join();
    assert!(
        request.starts_with("GET /healthz HTTP/1.1\r\n"),
        "{request}"
    );
}

#[test]
fn a_server_that_is_not_ready_is_unhealthy() {
    for (behaviour, expected) in [
        (
            Behaviour::Answer("HTTP/1.1 503 Service Unavailable\r\n\r\n"),
            "503",
        ),
        (Behaviour::Answer("HTTP/1.1 2000\r\n\r\n"), "answered"),
        (Behaviour::Answer("200\r\n"), "answered"),
        (Behaviour::Answer(""), "answered"),
        (Behaviour::Trickle, "no answer within 2s"),
        (Behaviour::Silence, "no answer within 2s"),
    ] {
        let (code, line, _) = healthcheck(behaviour);
        assert_eq!(code, Some(1), "{line}");
        assert_eq!(line.lines().count(), 1, "{line}");
        assert!(line.contains(expected), "{line}");
    }
}

#[test]
fn no_server_is_unhealthy() {
    let nobody = Nobody::new();
    let addr = nobody.addr.to_string();
    // Without an admin listener the public one is asked.
    let variables = [("SUNDOWN_ADMIN", "off"), ("SUNDOWN_LISTEN", addr.as_str())];
    let out = run_with(&["healthcheck"], &variables);
    assert_eq!(out.status.code(), Some(1));
    let line = text(&out.stderr);
    assert_eq!(line.lines().count(), 1, "{line}");
    assert!(line.contains(&format!("http://{addr}/readyz")), "{line}");
}

#[test]
fn standard_streams_that_are_closed_are_no_panic() {
    for args in [&["--help"][..], &["--bad-flag"]] {
        let (reader, writer) = io::pipe().expect("a pipe");
        drop(reader);
        let stderr = writer.try_clone().expect("a descriptor");
        let status = sundown(args).stdout(writer).stderr(stderr).status();
        let code = status.expect("the binary runs").code();
        assert!(matches!(code, Some(0 | 64)), "{code:?}");
    }
}

#[test]
fn an_error_for_a_full_pipe_does_not_hold_up_the_exit() {
    let (_reader, writer) = full_pipe();
    let begun = now();
    let status = sundown(&["--bad-flag"]).stderr(writer).status();
    assert_eq!(status.expect("the binary runs").code(), Some(64));
    let took = begun.elapsed();
    assert!(took < Duration::from_secs(3), "{took:?}");
}

#[test]
fn it_says_where_it_listens_and_reports_last() {
    let mut server = Server::start("memory:", &[]);
    let lines = server.process.stdout.all();
    let [listening, _page, admin, store, ready] = lines.as_slice() else {
        panic!("{lines:?}");
    };
    assert_eq!(
        *listening,
        format!("listening on ws://{}/ws/chat/", server.address)
    );
    assert_eq!(*admin, format!("admin on http://{}", server.admin));
    assert!(store.starts_with("store memory"), "{store}");
    assert_eq!(ready, "ready");

    let admin = server.admin.to_string();
    let healthy = run_with(&["healthcheck"], &[("SUNDOWN_ADMIN", &admin)]);
    assert_eq!(healthy.status.code(), Some(0), "{}", text(&healthy.stderr));
    server.stop();
    assert_eq!(server.process.stdout.all().len(), lines.len() + 1);
}

/// What a server with a misspelled variable has logged, from its start to its exit.
fn logged(args: &[&str]) -> Vec<String> {
    let command = with_variables(&[("SUNDOWN_LISTN", "x")]);
    let mut server = Server::launch(command, "memory:", args);
    server.stop();
    server.log().all()
}

#[test]
fn the_log_is_json_where_no_person_reads_it() {
    for args in [&[][..], &["--log-format=json"]] {
        let log = logged(args);
        let parse = |line: &String| serde_json::from_str(line).expect(line);
        let lines: Vec<serde_json::Value> = log.iter().map(parse).collect();
        assert_eq!(lines[0]["level"], "WARN");
        assert_eq!(lines[0]["target"], "sundown");
        let message = lines[0]["message"].as_str().expect("a text");
        let warning = "the variable SUNDOWN_LISTN is no setting";
        assert!(message.starts_with(warning), "{log:?}");
        let ts = lines[0]["ts"].as_str().expect("a time");
        assert!(ts.starts_with("20") && ts.ends_with('Z'), "{log:?}");
    }
}

#[test]
fn the_log_is_text_where_that_is_asked_for() {
    let log = logged(&["--log-format", "text"]);
    for end in [
        "Z WARN the variable SUNDOWN_LISTN",
        "Z INFO shutdown asked for by SIGTERM",
    ] {
        assert!(log.iter().any(|line| line.contains(end)), "{log:?}");
    }
}

#[test]
fn the_log_is_text_on_a_terminal() {
    let (master, path) = terminal();
    let open = std::fs::OpenOptions::new().write(true).open(path);
    let mut command = sundown(&SERVER);
    command
        .stdout(Stdio::null())
        .stderr(open.expect("the other end"));
    let mut server = Running(command.spawn().expect("the binary runs"));
    let mut line = String::new();
    let read = BufReader::new(std::fs::File::from(master)).read_line(&mut line);
    stop(&mut server);
    assert!(read.expect("UTF-8") > 0);
    assert!(line.contains("Z WARN the variable SUNDOWN_LISTN"), "{line}");
}

#[test]
fn the_log_has_what_its_level_lets_through() {
    let at = |level: &str| logged(&["--log", level]);
    assert_eq!(at("off"), [""; 0]);
    assert_eq!(at("error"), [""; 0]);
    let log = at("warn");
    assert_eq!(log.len(), 1, "{log:?}");
    assert!(at("info").concat().contains("the store is up"));
}

#[test]
fn a_log_that_nobody_reads_holds_up_nothing() {
    let (_reader, writer) = full_pipe();
    let mut command = sundown(&[&SERVER[..], &["--log=trace"]].concat());
    command.stdout(Stdio::piped()).stderr(writer);
    let mut server = Running(command.spawn().expect("the binary runs"));
    let lines = until_ready(server.0.stdout.take().expect("a pipe"));
    let listen = lines
        .strip_prefix("listening on ws://")
        .and_then(|rest| rest.split('/').next())
        .expect("an address");
    for _ in 0..10 {
        let out = run(&["healthcheck", "--admin=off", "--listen", listen]);
        assert!(out.status.success(), "{}", text(&out.stderr));
    }
    stop(&mut server);
}

#[test]
fn without_an_admin_listener_nothing_is_said_of_one() {
    let flags = ["--admin", "off", "--app", "echo"];
    let (process, _dir) = Server::spawn(Command::new(BINARY), "memory:", &flags);
    process.stdout.until("ready");
    let lines = process.stdout.all();
    assert_eq!(lines.len(), 4, "{lines:?}");
    let first = &lines[0];
    assert!(
        first.ends_with('/') && !first.ends_with("/ws/chat/"),
        "{first}"
    );
}

#[test]
fn an_address_in_use_is_exit_1_and_one_line() {
    let Nobody { addr, .. } = &Nobody::new();
    let listen = addr.to_string();
    let out = run(&[&SERVER[1..], &["--listen", &listen]].concat());
    let line = text(&out.stderr);
    assert_eq!(out.status.code(), Some(1), "{line}");
    assert!(out.stdout.is_empty());
    assert_eq!(line.lines().count(), 1, "{line}");
    assert!(line.contains(&format!("{addr} (--listen)")), "{line}");
    assert!(line.contains("SUNDOWN_LISTEN="), "{line}");
}

#[test]
fn pipes_that_nobody_reads_do_not_hold_up_the_exit() {
    let ((stdout, stdout_writer), (_stderr, stderr_writer)) = (pipe(), pipe());
    let mut command = sundown(&SERVER);
    command.stdout(stdout_writer.try_clone().expect("a descriptor"));
    command.stderr(stderr_writer.try_clone().expect("a descriptor"));
    let mut server = Running(command.spawn().expect("the binary runs"));
    until_ready(&stdout);
    fill(&stdout_writer);
    fill(&stderr_writer);
    let begun = now();
    stop(&mut server);
    let took = begun.elapsed();
    assert!(took < Duration::from_secs(5), "{took:?}");
}

/// The start-up lines of a server.
fn until_ready(stdout: impl io::Read) -> String {
    let (mut stdout, mut lines) = (BufReader::new(stdout), String::new());
    while !lines.ends_with("ready\n") {
        assert!(stdout.read_line(&mut lines).expect("UTF-8") > 0, "{lines}");
    }
    lines
}

/// SIGTERM, and exit code 0.
#[track_caller]
fn stop(server: &mut Running) {
    kill_process(Pid::from_child(&server.0), Signal::TERM).expect("a process");
    assert!(server.0.wait().expect("a child").success());
}

fn pipe() -> (io::PipeReader, io::PipeWriter) {
    io::pipe().expect("a pipe")
}

/// A pipe that takes not a byte more, as a reader that has stopped reading leaves it.
fn full_pipe() -> (io::PipeReader, io::PipeWriter) {
    let (reader, writer) = pipe();
    fill(&writer);
    (reader, writer)
}

/// The mode is the pipe's, not the descriptor's: it is set back for whoever else writes to it.
fn fill(mut writer: &io::PipeWriter) {
    rustix::io::ioctl_fionbio(writer, true).expect("non-blocking");
    while writer.write(&[b'x'; 4096]).is_ok() {}
    while writer.write(b"x").is_ok() {}
    rustix::io::ioctl_fionbio(writer, false).expect("blocking");
}
