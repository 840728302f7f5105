//! Goal: what people and supervisors see of the command line: texts, exit codes, one clear line
//! for a mistake, no password anywhere, and an exit that no unread pipe holds up. Method: the built
//! binary with an environment of its own; health checks ask a listener inside the test.

#![expect(
    clippy::expect_used,
    reason = "what a test cannot set up has failed, in helpers too"
)]

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::process::{Child, Command, Output, Stdio};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rustix::net::{AddressFamily, SocketType};
use rustix::process::{Pid, Signal};
use sundown::clock;

/// The binary with these arguments and variables, and no others.
fn sundown(args: &[&str], variables: &[(&str, &str)]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sundown"));
    command
        .args(args)
        .env_clear()
        .envs(variables.iter().copied());
    command.stdin(Stdio::null());
    command
}

fn output(args: &[&str], variables: &[(&str, &str)]) -> Output {
    sundown(args, variables).output().expect("the binary runs")
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).expect("UTF-8")
}

#[test]
fn help_and_version_go_to_standard_output() {
    for args in [["--help"], ["-h"], ["help"]] {
        let out = output(&args, &[]);
        assert!(out.status.success());
        assert!(out.stderr.is_empty());
        let help = text(&out.stdout);
        assert!(help.starts_with("sundown: a WebSocket server"), "{help}");
        assert!(help.contains("--shutdown-timeout DURATION  [default: 10s]"));
        assert!(help.lines().all(|line| line.chars().count() <= 80));
    }
    for args in [["--version"], ["-V"]] {
        let out = output(&args, &[]);
        assert!(out.status.success());
        let expected = concat!("sundown ", env!("CARGO_PKG_VERSION"), "\n");
        assert_eq!(text(&out.stdout), expected);
    }
}

/// Exit 64, nothing on standard output, and exactly one line, which names `place`.
#[track_caller]
fn check_refused(args: &[&str], variables: &[(&str, &str)], place: &str) {
    let out = output(args, variables);
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

/// Arguments, and how the one line begins.
const BAD_ARGUMENTS: &[(&[&str], &str)] = &[
    (
        &["--listen", "localhost:8000"],
        "--listen \"localhost:8000\": expected IP:PORT",
    ),
    (&["--listen=127.0.0.1"], "--listen"),
    (&["--listen"], "--listen without a value"),
    (&["--admin", "yes"], "--admin"),
    (
        &["--admin", "127.0.0.1:8000"],
        "--admin 127.0.0.1:8000: expected another address",
    ),
    (&["--app", "ping\npong"], "--app"),
    (&["--store", "redis:/user:secret@h"], "--store (not shown"),
    (&["--store", "secret"], "--store (not shown"),
    (&["--store", "redis://:secret@h:x"], "--store (not shown"),
    (&["--store", "sqlite:"], "--store"),
    (&["--spill", "redis://:secret@h"], "--spill"),
    (&["--durability", "strong"], "--durability"),
    (
        &["--session-ttl", "0s"],
        "--session-ttl 0s: expected at least 1ms",
    ),
    (&["--heartbeat", "30"], "--heartbeat"),
    (&["--shutdown-timeout", "0s"], "--shutdown-timeout 0s"),
    (&["--shutdown-timeout", "200years"], "--shutdown-timeout"),
    (
        &["--shutdown-delay", "10s"],
        "--shutdown-delay 10s: expected less than",
    ),
    (
        &["--drain-timeout", "1ms"],
        "--drain-timeout 1ms: expected at least --notify-timeout",
    ),
    (
        &["--persist-timeout", "1s"],
        "--persist-timeout 1s: expected at least --drain-timeout",
    ),
    (
        &["--persist-timeout", "10s"],
        "--persist-timeout 10s: expected less than",
    ),
    (
        &["--max-connections", "0"],
        "--max-connections 0: expected at least 1",
    ),
    (&["--max-message-size", "0"], "--max-message-size 0"),
    (&["--max-message-size", "1MB"], "--max-message-size"),
    (&["--max-outbound-bytes", "0KiB"], "--max-outbound-bytes 0"),
    (&["--handshake-timeout", "0s"], "--handshake-timeout 0s"),
    (&["--idle-timeout", "-1s"], "--idle-timeout"),
    (
        &["--allowed-origins", "example.org"],
        "--allowed-origins (entry 1)",
    ),
    (
        &["--allowed-origins", "redis://:secret@h"],
        "--allowed-origins",
    ),
    (&["--unknown"], "--unknown: no such flag"),
    (&["-x"], "-x: no such flag"),
    (&["run"], "\"run\": no such command"),
    (&["serve", "redis://:secret@h"], "(not shown"),
    (&["serve", "serve"], "expected one command"),
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

/// What a server prints from its start to its exit.
fn printed_by_a_server() -> String {
    let mut server = sundown(
        &["--listen=127.0.0.1:0", "--admin=off", "--store=memory:"],
        &[],
    )
    .stdout(Stdio::piped())
    .stderr(Stdio::null())
    .spawn()
    .expect("the binary runs");
    let stdout = server.stdout.take().expect("a pipe");
    let mut stdout = BufReader::new(stdout);
    let mut all = String::new();
    while !all.ends_with("ready\n") {
        assert!(stdout.read_line(&mut all).expect("UTF-8") > 0, "{all}");
    }
    rustix::process::kill_process(Pid::from_child(&server), Signal::TERM).expect("it runs");
    stdout.read_to_string(&mut all).expect("UTF-8");
    assert!(server.wait().expect("it ends").success());
    all
}

#[test]
fn a_report_is_drawn_from_the_output_of_a_server() {
    let directory = tempfile::tempdir().expect("a directory");
    let log = directory.path().join("sundown.log");
    let path = log.to_str().expect("UTF-8");
    std::fs::write(&log, printed_by_a_server()).expect("a file");
    let drawn = output(&["shutdown-report", path], &[]);
    assert!(drawn.status.success());
    let drawn = text(&drawn.stdout);
    assert!(
        drawn.starts_with("SIGTERM, 0 connections: gone after "),
        "{drawn}"
    );
    assert!(drawn.contains("every session is safe"), "{drawn}");

    let from_stdin = sundown(&["shutdown-report", "-"], &[])
        .stdin(std::fs::File::open(&log).expect("a file"))
        .output()
        .expect("the binary runs");
    assert_eq!(text(&from_stdin.stdout), drawn);

    let svg = output(&["shutdown-report", "--svg", path], &[]);
    assert!(text(&svg.stdout).starts_with("<svg "));
    assert!(text(&svg.stdout).ends_with("</svg>\n"));
}

#[test]
fn what_holds_no_report_is_exit_1_and_one_line() {
    let directory = tempfile::tempdir().expect("a directory");
    let check = |name: &str, content: &[u8], expected: &str| {
        let path = directory.path().join(name);
        std::fs::write(&path, content).expect("a file");
        let out = output(&["shutdown-report", path.to_str().expect("UTF-8")], &[]);
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
    let out = output(&["shutdown-report", "/nonexistent/sundown.log"], &[]);
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

fn fake_server(behaviour: Behaviour) -> (SocketAddr, JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let addr = listener.local_addr().expect("an address");
    let serve = move || {
        let (mut stream, _) = listener.accept().expect("a client");
        let mut head = Vec::new();
        let mut byte = [0];
        while !head.ends_with(b"\r\n\r\n") {
            stream.read_exact(&mut byte).expect("a request");
            head.extend(byte);
        }
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
                let end = stream.read(&mut byte);
                assert!(
                    matches!(end, Ok(0) | Err(_)),
                    "the client goes without a word"
                );
            }
        }
        String::from_utf8(head).expect("UTF-8")
    };
    (addr, thread::spawn(serve))
}

/// Runs a health check against a listener: its exit code, its line, and what it asked.
fn healthcheck(behaviour: Behaviour) -> (Option<i32>, String, String) {
    let (addr, server) = fake_server(behaviour);
    let begun = clock::now().instant;
    let out = output(&["healthcheck", "--admin", &addr.to_string()], &[]);
    let took = clock::now().instant - begun;
    assert!(took < Duration::from_secs(4), "{took:?}");
    assert!(out.stdout.is_empty());
    let request = server.join().expect("a request came");
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
    let (addr, server) = fake_server(Behaviour::Answer("HTTP/1.1 200 OK\r\n\r\n"));
    let admin = addr.to_string();
    let out = output(&["healthcheck", "--live", "--admin", &admin], &[]);
    assert_eq!(out.status.code(), Some(0), "{}", text(&out.stderr));
    let request = server.join().expect("a request came");
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
    // Bound and not listening: nobody else can take the port meanwhile.
    let (_socket, addr) = deaf_socket();
    let addr = addr.to_string();
    // Without an admin listener the public one is asked.
    let variables = [("SUNDOWN_ADMIN", "off"), ("SUNDOWN_LISTEN", addr.as_str())];
    let out = output(&["healthcheck"], &variables);
    assert_eq!(out.status.code(), Some(1));
    let line = text(&out.stderr);
    assert_eq!(line.lines().count(), 1, "{line}");
    assert!(line.contains(&format!("http://{addr}/readyz")), "{line}");
}

fn deaf_socket() -> (OwnedFd, SocketAddr) {
    let socket = rustix::net::socket(AddressFamily::INET, SocketType::STREAM, None);
    let socket = socket.expect("a socket");
    let any_port = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    rustix::net::bind(&socket, &any_port).expect("a free port");
    let addr = rustix::net::getsockname(&socket).expect("an address");
    (socket, addr.try_into().expect("an IP address"))
}

#[test]
fn standard_streams_that_are_closed_are_no_panic() {
    for args in [&["--help"][..], &["--bad-flag"]] {
        let (reader, writer) = io::pipe().expect("a pipe");
        drop(reader);
        let stderr = writer.try_clone().expect("a descriptor");
        let status = sundown(args, &[]).stdout(writer).stderr(stderr).status();
        let code = status.expect("the binary runs").code();
        assert!(matches!(code, Some(0 | 64)), "{code:?}");
    }
}

#[test]
fn an_error_for_a_full_pipe_does_not_hold_up_the_exit() {
    let (_reader, writer) = full_pipe();
    let begun = clock::now().instant;
    let status = sundown(&["--bad-flag"], &[]).stderr(writer).status();
    assert_eq!(status.expect("the binary runs").code(), Some(64));
    let took = clock::now().instant - begun;
    assert!(took < Duration::from_secs(3), "{took:?}");
}

#[test]
fn it_says_where_it_listens_and_reports_last() {
    let mut server = Server::start(&["--admin", "127.0.0.1:0"], &[("SUNDOWN_LISTN", "x")]);
    let lines = server.lines_until_ready();
    let [listening, _page, admin, store, _] = lines.as_slice() else {
        panic!("{lines:?}");
    };
    assert!(
        listening.starts_with("listening on ws://127.0.0.1:"),
        "{listening}"
    );
    assert!(listening.ends_with("/ws/chat/"), "{listening}");
    assert!(!listening.contains(":0/"), "{listening}");
    assert!(store.starts_with("store memory"), "{store}");

    let admin = admin
        .strip_prefix("admin on http://")
        .expect("the admin listener");
    let healthy = output(&["healthcheck"], &[("SUNDOWN_ADMIN", admin)]);
    assert_eq!(healthy.status.code(), Some(0), "{}", text(&healthy.stderr));

    server.terminate();
    let rest = server.rest_of_stdout();
    assert_eq!(rest.lines().count(), 1, "{rest}");
    let report: serde_json::Value = serde_json::from_str(&rest).expect("JSON");
    assert!(report.is_object());
    assert_eq!(server.exit_code(), Some(0));
    let log = server.log();
    assert!(
        log.contains("the variable SUNDOWN_LISTN is no setting"),
        "{log}"
    );
}

/// What a server with a misspelled variable has logged, from its start to its exit.
fn logged(args: &[&str]) -> String {
    let mut server = Server::start(args, &[("SUNDOWN_LISTN", "x"), ("SUNDOWN_ADMIN", "off")]);
    server.lines_until_ready();
    server.terminate();
    assert_eq!(server.exit_code(), Some(0));
    server.log()
}

#[test]
fn the_log_is_json_where_no_person_reads_it() {
    for args in [&[][..], &["--log-format=json"]] {
        let log = logged(args);
        let lines: Vec<serde_json::Value> = log
            .lines()
            .map(|line| serde_json::from_str(line).expect(line))
            .collect();
        assert_eq!(lines[0]["level"], "WARN");
        assert_eq!(lines[0]["target"], "sundown");
        let message = lines[0]["message"].as_str().expect("a text");
        assert!(message.starts_with("the variable SUNDOWN_LISTN"), "{log}");
        let ts = lines[0]["ts"].as_str().expect("a time");
        assert!(ts.starts_with("20") && ts.ends_with('Z'), "{log}");
    }
}

#[test]
fn the_log_is_text_where_that_is_asked_for() {
    let log = logged(&["--log-format", "text"]);
    assert!(log.contains("Z WARN the variable SUNDOWN_LISTN"), "{log}");
    assert!(
        log.contains("Z INFO shutdown asked for by SIGTERM\n"),
        "{log}"
    );
}

#[test]
fn the_log_is_text_on_a_terminal() {
    let master = rustix::pty::openpt(rustix::pty::OpenptFlags::NOCTTY).expect("a terminal");
    rustix::pty::grantpt(&master).expect("ours");
    rustix::pty::unlockpt(&master).expect("ours");
    let path = rustix::pty::ptsname(&master, Vec::new()).expect("a name");
    let path = path.to_str().expect("UTF-8");
    let open = std::fs::OpenOptions::new().write(true).open(path);
    let args = ["--listen=127.0.0.1:0", "--admin=off", "--store=memory:"];
    let mut server = sundown(&args, &[("SUNDOWN_LISTN", "x")])
        .stdout(Stdio::null())
        .stderr(open.expect("the other end"))
        .spawn()
        .expect("the binary runs");
    let mut line = String::new();
    let read = BufReader::new(std::fs::File::from(master)).read_line(&mut line);
    rustix::process::kill_process(Pid::from_child(&server), Signal::TERM).expect("a process");
    assert!(server.wait().expect("a child").success());
    assert!(read.expect("UTF-8") > 0);
    assert!(line.contains("Z WARN the variable SUNDOWN_LISTN"), "{line}");
}

#[test]
fn the_log_has_what_its_level_lets_through() {
    let at = |level: &str| logged(&["--log", level]);
    assert_eq!(at("off"), "");
    assert_eq!(at("error"), "");
    let log = at("warn");
    assert_eq!(log.lines().count(), 1, "{log}");
    assert!(at("info").contains("the store is up"));
}

#[test]
fn a_log_that_nobody_reads_holds_up_nothing() {
    let variables = [("SUNDOWN_LISTN", "x")];
    let args = [
        "--listen=127.0.0.1:0",
        "--admin=off",
        "--store=memory:",
        "--log=trace",
    ];
    let (_reader, writer) = full_pipe();
    let mut command = sundown(&args, &variables);
    command.stdout(Stdio::piped()).stderr(writer);
    let mut server = Running(command.spawn().expect("the binary runs"));
    let stdout = server.0.stdout.take().expect("a pipe");
    let mut stdout = BufReader::new(stdout);
    let mut lines = String::new();
    while !lines.ends_with("ready\n") {
        assert!(stdout.read_line(&mut lines).expect("UTF-8") > 0, "{lines}");
    }
    let listen = lines
        .strip_prefix("listening on ws://")
        .and_then(|rest| rest.split('/').next())
        .expect("an address");
    for _ in 0..10 {
        let out = output(&["healthcheck", "--admin=off", "--listen", listen], &[]);
        assert!(out.status.success(), "{}", text(&out.stderr));
    }
    rustix::process::kill_process(Pid::from_child(&server.0), Signal::TERM).expect("a process");
    assert!(server.0.wait().expect("a child").success());
}

#[test]
fn without_an_admin_listener_nothing_is_said_of_one() {
    let mut server = Server::start(&["--admin", "off", "--app", "echo"], &[]);
    let lines = server.lines_until_ready();
    assert_eq!(lines.len(), 4, "{lines:?}");
    assert!(
        lines[0].ends_with('/') && !lines[0].ends_with("/ws/chat/"),
        "{lines:?}"
    );
    server.terminate();
    assert_eq!(server.exit_code(), Some(0));
}

#[test]
fn an_address_in_use_is_exit_1_and_one_line() {
    let (_socket, addr) = deaf_socket();
    let out = output(
        &[
            "--listen",
            &addr.to_string(),
            "--store",
            "memory:",
            "--admin=off",
        ],
        &[],
    );
    let line = text(&out.stderr);
    assert_eq!(out.status.code(), Some(1), "{line}");
    assert!(out.stdout.is_empty());
    assert_eq!(line.lines().count(), 1, "{line}");
    assert!(line.contains(&format!("{addr} (--listen)")), "{line}");
    assert!(line.contains("SUNDOWN_LISTEN="), "{line}");
}

#[test]
fn pipes_that_nobody_reads_do_not_hold_up_the_exit() {
    let mut server = Server::start(&["--admin", "off"], &[]);
    server.lines_until_ready();
    fill(server.stdout_writer.as_ref().expect("a pipe"));
    fill(&server.stderr_writer);
    let begun = clock::now().instant;
    server.terminate();
    assert_eq!(server.exit_code(), Some(0));
    let took = clock::now().instant - begun;
    assert!(took < Duration::from_secs(5), "{took:?}");
}

/// Ends with the test, also with one that fails.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // After an exit there is nothing left to kill, and that is fine.
        if self.0.kill().is_ok() {
            drop(self.0.wait());
        }
    }
}

/// A running server, and both ends of the pipes that are its output.
struct Server {
    child: Running,
    stdout: BufReader<io::PipeReader>,
    stdout_writer: Option<io::PipeWriter>,
    stderr: io::PipeReader,
    stderr_writer: io::PipeWriter,
}

impl Server {
    /// On a free port, with sessions in memory.
    fn start(args: &[&str], variables: &[(&str, &str)]) -> Self {
        let (stdout, stdout_writer) = io::pipe().expect("a pipe");
        let (stderr, stderr_writer) = io::pipe().expect("a pipe");
        let mut command = sundown(
            &["--listen", "127.0.0.1:0", "--store", "memory:"],
            variables,
        );
        command.args(args);
        command.stdout(stdout_writer.try_clone().expect("a descriptor"));
        command.stderr(stderr_writer.try_clone().expect("a descriptor"));
        Self {
            child: Running(command.spawn().expect("the binary runs")),
            stdout: BufReader::new(stdout),
            stdout_writer: Some(stdout_writer),
            stderr,
            stderr_writer,
        }
    }

    /// The start-up lines, `ready` included.
    fn lines_until_ready(&mut self) -> Vec<String> {
        let mut lines = Vec::new();
        while lines.last().is_none_or(|line| line != "ready") {
            let mut line = String::new();
            let len = self.stdout.read_line(&mut line).expect("UTF-8");
            assert!(len > 0, "no line says ready: {lines:?}");
            lines.push(line.trim_end().to_owned());
        }
        lines
    }

    /// What follows, until the exit.
    fn rest_of_stdout(&mut self) -> String {
        self.stdout_writer = None;
        let mut rest = String::new();
        self.stdout.read_to_string(&mut rest).expect("UTF-8");
        rest
    }

    /// SIGTERM.
    fn terminate(&self) {
        let pid = Pid::from_child(&self.child.0);
        rustix::process::kill_process(pid, Signal::TERM).expect("a process");
    }

    /// Waits for the exit.
    fn exit_code(&mut self) -> Option<i32> {
        self.child.0.wait().expect("a child").code()
    }

    /// What is in the log, after the exit.
    fn log(self) -> String {
        drop(self.stderr_writer);
        let mut log = String::new();
        { self.stderr }.read_to_string(&mut log).expect("UTF-8");
        log
    }
}

/// A pipe that takes not a byte more, as a reader that has stopped reading leaves it.
fn full_pipe() -> (io::PipeReader, io::PipeWriter) {
    let (reader, writer) = io::pipe().expect("a pipe");
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
