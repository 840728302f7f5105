//! The built binary: started on free ports, signalled by pid, and read to its report.

use std::cell::Cell;
use std::net::SocketAddr;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde::Deserialize;
use tempfile::TempDir;

use super::process::{Lines, Process};
use super::{PATIENCE, SHUTDOWN_MAX, http, now};

pub(crate) const BINARY: &str = env!("CARGO_BIN_EXE_sundown");

/// The binary with these variables in its environment, for `Server::launch`, which clears its own.
pub(crate) fn with_variables(variables: &[(&str, &str)]) -> Command {
    let mut command = Command::new("/usr/bin/env");
    command.args(
        variables
            .iter()
            .map(|(name, value)| format!("{name}={value}")),
    );
    command.arg(BINARY);
    command
}

/// Runs a command of the binary to its end, in a directory of its own and with no variables.
#[track_caller]
pub(crate) fn run(args: &[&str]) -> Output {
    run_with(args, &[])
}

/// The same with these variables.
#[track_caller]
pub(crate) fn run_with(args: &[&str], variables: &[(&str, &str)]) -> Output {
    let dir = TempDir::new().expect("a temporary directory");
    let mut command = Command::new(BINARY);
    command.args(args).env_clear().current_dir(dir.path());
    let command = command.envs(variables.iter().copied()).stdin(Stdio::null());
    command.output().expect("the binary runs")
}

pub(crate) struct Server {
    pub(crate) process: Process,
    /// Where WebSocket clients connect.
    pub(crate) address: SocketAddr,
    /// The admin listener.
    pub(crate) admin: SocketAddr,
    /// When it was first asked to stop, by SIGTERM or SIGINT.
    asked_at: Cell<Option<Instant>>,
    /// Its working directory: no file of its defaults lands in the repository.
    _dir: TempDir,
}

/// What a server leaves behind.
pub(crate) struct Exit {
    /// None if a signal ended it.
    pub(crate) code: Option<i32>,
    pub(crate) at: Instant,
    pub(crate) stdout: Vec<String>,
}

/// The last line on stdout.
#[derive(Debug, Deserialize)]
pub(crate) struct Report {
    pub(crate) signal: String,
    pub(crate) repeats: u64,
    pub(crate) spill_rows_waiting: Option<u64>,
    pub(crate) synced: Option<bool>,
    pub(crate) store_lost: bool,
    pub(crate) connections: u64,
    pub(crate) notified: u64,
    pub(crate) drained: u64,
    pub(crate) saved: u64,
    pub(crate) spilled: u64,
    pub(crate) byes: u64,
    pub(crate) late: u64,
    pub(crate) closed_1001: u64,
    pub(crate) cut: u64,
    pub(crate) phases_ms: PhasesMs,
    pub(crate) total_ms: u64,
    pub(crate) unsaved: Vec<Unsaved>,
    #[serde(default)]
    pub(crate) unsaved_more: usize,
    pub(crate) unsaved_file: Option<String>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct PhasesMs {
    pub(crate) delaying: u64,
    pub(crate) notifying: u64,
    pub(crate) draining: u64,
    pub(crate) persisting: u64,
    pub(crate) closing: u64,
    /// The accept queue and the strangers.
    pub(crate) sweeping: u64,
}

impl PhasesMs {
    pub(crate) fn sum(&self) -> u64 {
        let before = self.delaying + self.notifying + self.draining;
        before + self.persisting + self.closing + self.sweeping
    }
}

/// A session that was lost, and the count that it had.
#[derive(Debug, Deserialize, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Unsaved {
    pub(crate) session: String,
    pub(crate) count: u64,
}

impl Unsaved {
    pub(crate) fn of(session: &str, count: u64) -> Self {
        let session = session.to_owned();
        Self { session, count }
    }
}

impl Server {
    /// Starts it with this store and these flags, and waits until it is ready for clients.
    #[track_caller]
    pub(crate) fn start(store: &str, flags: &[&str]) -> Self {
        Self::launch(Command::new(BINARY), store, flags)
    }

    /// The same through another program that ends in the binary.
    #[track_caller]
    pub(crate) fn launch(command: Command, store: &str, flags: &[&str]) -> Self {
        let server = Self::listening(command, store, flags);
        server.process.stdout.until("ready");
        assert_eq!(server.readiness(), 200, "once it has said so");
        server
    }

    /// Starts it with a store that does not answer, and waits until it listens.
    #[track_caller]
    pub(crate) fn start_unready(store: &str, flags: &[&str]) -> Self {
        Self::listening(Command::new(BINARY), store, flags)
    }

    #[track_caller]
    pub(crate) fn listening(command: Command, store: &str, flags: &[&str]) -> Self {
        let (process, dir) = Self::spawn(command, store, flags);
        let bound = |intro: &str| {
            let found = process
                .stdout
                .wait_for(PATIENCE, |line| authority(line, intro));
            found.unwrap_or_else(|| panic!("the server never said `{intro}…`"))
        };
        let address = bound("listening on ws://");
        let admin = bound("admin on http://");
        Self {
            process,
            address,
            admin,
            asked_at: Cell::new(None),
            _dir: dir,
        }
    }

    /// Starts it and waits for nothing.
    #[track_caller]
    pub(crate) fn spawn(mut command: Command, store: &str, flags: &[&str]) -> (Process, TempDir) {
        let dir = TempDir::new().expect("a temporary directory");
        command
            .args([
                "--listen",
                "127.0.0.1:0",
                "--admin",
                "127.0.0.1:0",
                "--store",
                store,
            ])
            .args(flags)
            .current_dir(dir.path())
            .env_clear();
        (Process::spawn(command), dir)
    }

    #[track_caller]
    pub(crate) fn signal(&self, signal: Signal) {
        if matches!(signal, Signal::TERM | Signal::INT) {
            self.asked_at.set(self.asked_at.get().or(Some(now())));
        }
        self.process.signal(signal);
    }

    #[track_caller]
    pub(crate) fn terminate(&self) {
        self.signal(Signal::TERM);
    }

    /// What it has written to standard error.
    pub(crate) fn log(&self) -> &Lines {
        &self.process.stderr
    }

    /// Waits for the exit that was asked for.
    #[track_caller]
    pub(crate) fn exit(&mut self) -> Exit {
        self.exit_within(PATIENCE)
    }

    #[track_caller]
    pub(crate) fn exit_within(&mut self, within: Duration) -> Exit {
        Exit::of(&mut self.process, within)
    }

    /// SIGTERM, and the report of a shutdown in which nothing was lost.
    #[track_caller]
    pub(crate) fn stop(&mut self) -> Report {
        self.terminate();
        self.exits_with(0)
    }

    /// Waits for the exit, which has this code, and is in time if it was asked for by a signal.
    /// Returns the report.
    #[track_caller]
    pub(crate) fn exits_with(&mut self, code: i32) -> Report {
        let exit = self.exit();
        let report = exit.report();
        assert_eq!(exit.code, Some(code), "{report:?}");
        if let Some(asked_at) = self.asked_at.get() {
            let took = exit.at.duration_since(asked_at);
            assert!(took < SHUTDOWN_MAX, "it took {took:?}: {report:?}");
        }
        report
    }

    /// `kill -9`, and waits until the process is gone.
    #[track_caller]
    pub(crate) fn kill(&mut self) {
        self.signal(Signal::KILL);
        self.process.wait(PATIENCE);
    }

    /// Returns when what was sent to the server before has been seen by its loop: a request that
    /// arrives later has been answered, and another after it.
    #[track_caller]
    pub(crate) fn turns(&self) {
        for _ in 0..2 {
            assert_eq!(http::get(self.address, "/healthz").status, 200);
        }
    }

    /// The status of `/readyz`.
    #[track_caller]
    pub(crate) fn readiness(&self) -> u16 {
        http::get(self.address, "/readyz").status
    }

    /// The value of this sample of `/metrics`, if it is there.
    #[track_caller]
    pub(crate) fn metric(&self, sample: &str) -> Option<u64> {
        http::metric(self.admin, sample)
    }

    /// Whether it has closed somebody who did not read.
    #[track_caller]
    pub(crate) fn has_closed_a_slow_reader(&self) -> bool {
        let sample = "closes_total{code=\"1008\",reason=\"reader too slow\"}";
        self.metric(sample) == Some(1)
    }

    /// A health check of the operator's, which must succeed.
    #[track_caller]
    pub(crate) fn assert_healthy(&self) {
        let check = run(&["healthcheck", "--admin", &self.admin.to_string()]);
        assert_eq!(check.status.code(), Some(0), "{check:?}");
    }

    /// Processor time that it has used so far, from `/proc/PID/stat` (proc(5): `utime` and
    /// `stime`, in ticks of which Linux shows 100 a second).
    pub(crate) fn cpu_time(&self) -> Duration {
        let stat = self.proc("stat");
        let after_name = stat.rsplit_once(')').expect("a name in parentheses").1;
        let fields: Vec<&str> = after_name.split_whitespace().collect();
        let ticks = |at: usize| fields[at].parse::<u64>().expect("a number of ticks");
        Duration::from_millis((ticks(11) + ticks(12)) * 10)
    }

    /// Memory in use, in KiB.
    pub(crate) fn resident_kib(&self) -> u64 {
        self.status_kib("VmRSS:")
    }

    /// The most memory that was in use since `forget_peak`, in KiB.
    pub(crate) fn peak_kib(&self) -> u64 {
        self.status_kib("VmHWM:")
    }

    /// From now on, the peak is what comes (proc(5): 5 resets it).
    pub(crate) fn forget_peak(&self) {
        std::fs::write(self.proc_path("clear_refs"), "5").expect("our child is ours to reset");
    }

    fn status_kib(&self, name: &str) -> u64 {
        let status = self.proc("status");
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        let digits = line
            .expect("a line of /proc/PID/status")
            .trim()
            .trim_end_matches(" kB");
        digits.parse().expect("a number of KiB")
    }

    fn proc(&self, file: &str) -> String {
        std::fs::read_to_string(self.proc_path(file)).expect("the process lives")
    }

    fn proc_path(&self, file: &str) -> String {
        format!("/proc/{}/{file}", self.process.pid().as_raw_nonzero())
    }
}

impl Exit {
    #[track_caller]
    pub(crate) fn of(process: &mut Process, within: Duration) -> Self {
        let (status, at) = process.wait(within);
        Self {
            code: status.code(),
            at,
            stdout: process.stdout.all(),
        }
    }

    #[track_caller]
    pub(crate) fn report(&self) -> Report {
        let line = self.stdout.last().expect("something on stdout");
        match serde_json::from_str(line) {
            Ok(report) => report,
            Err(error) => panic!("the last line is no report: {error}: {line}"),
        }
    }
}

fn authority(line: &str, intro: &str) -> Option<SocketAddr> {
    let rest = line.strip_prefix(intro)?;
    rest.split('/').next()?.parse().ok()
}
