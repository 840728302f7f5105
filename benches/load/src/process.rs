//! The servers as processes: started on the server's core, and ended; and what they cost, by /proc.
//!
//! It owns the child and reads its output. The machine has two cores for the run: one is the
//! server's, the other the client's, and a Redis shares the client's.

use std::fs::{self, File};
use std::io::{self, BufRead as _, BufReader, Read as _};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, waitid};
use rustix::thread::{CpuSet, sched_setaffinity};

pub(crate) const SERVER_CORE: usize = 0;
pub(crate) const CLIENT_CORE: usize = 1;

/// A server that serves.
pub(crate) struct Server {
    child: Child,
    stdout: BufReader<ChildStdout>,
    pub(crate) addr: SocketAddr,
    /// From before the process was made to its first line, which says where it listens.
    pub(crate) listening_after: Duration,
    pub(crate) started: Instant,
}

/// What a process has cost, and holds.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Memory {
    /// Resident bytes, shared ones included.
    pub(crate) resident: u64,
    /// Of those, the ones that no file lies behind.
    pub(crate) anonymous: u64,
}

/// Has this thread, and the processes that it starts from now on, run on one core.
pub(crate) fn pin(core: usize) -> io::Result<()> {
    let mut cores = CpuSet::new();
    cores.set(core);
    Ok(sched_setaffinity(None, &cores)?)
}

/// Starts a command on a core, and goes back to the client's.
pub(crate) fn spawn_on(core: usize, command: &mut Command) -> io::Result<Child> {
    pin(core)?;
    let child = command.spawn();
    pin(CLIENT_CORE)?;
    child
}

/// Where what servers say on standard error goes.
fn stderr_file() -> io::Result<File> {
    fs::create_dir_all("target/bench")?;
    let path = PathBuf::from("target/bench/stderr.log");
    File::options().create(true).append(true).open(path)
}

impl Server {
    pub(crate) fn start(command: &mut Command) -> io::Result<Self> {
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(stderr_file()?);
        let started = Instant::now();
        let mut child = spawn_on(SERVER_CORE, command)?;
        let Some(stdout) = child.stdout.take() else {
            return Err(io::Error::other("no standard output"));
        };
        let mut stdout = BufReader::new(stdout);
        let mut line = String::new();
        stdout.read_line(&mut line)?;
        let listening_after = started.elapsed();
        let addr = line
            .trim()
            .strip_prefix("listening on ws://")
            .and_then(|rest| rest.split('/').next())
            .and_then(|addr| addr.parse().ok());
        let Some(addr) = addr else {
            child.kill()?;
            child.wait()?;
            let text = format!("{command:?} did not start: see target/bench/stderr.log");
            return Err(io::Error::other(text));
        };
        Ok(Self {
            child,
            stdout,
            addr,
            listening_after,
            started,
        })
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Reads on to the line that is `ready`.
    pub(crate) fn wait_ready(&mut self) -> io::Result<Duration> {
        let mut line = String::new();
        while line.trim() != "ready" {
            line.clear();
            if self.stdout.read_line(&mut line)? == 0 {
                return Err(io::Error::other("it ended before it was ready"));
            }
        }
        Ok(self.started.elapsed())
    }

    pub(crate) fn cpu_ns(&self) -> io::Result<u64> {
        cpu_ns(self.pid())
    }

    pub(crate) fn memory(&self) -> io::Result<Memory> {
        memory(self.pid())
    }

    pub(crate) fn signal(&self, signal: Signal) -> io::Result<()> {
        Ok(kill_process(Pid::from_child(&self.child), signal)?)
    }

    /// Whether it has ended; it stays there, to be asked what it has cost.
    pub(crate) fn has_ended(&self) -> io::Result<bool> {
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT | WaitIdOptions::NOHANG;
        let ended = waitid(WaitId::Pid(Pid::from_child(&self.child)), options)?;
        Ok(ended.is_some())
    }

    /// The rest of its output, once it has ended by itself.
    pub(crate) fn rest_of_output(mut self) -> io::Result<String> {
        let mut text = String::new();
        self.stdout.read_to_string(&mut text)?;
        Ok(text)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended already.
        let _killed = self.child.kill();
        let _reaped = self.child.wait();
    }
}

/// Nanoseconds on a core so far, by all threads.
pub(crate) fn cpu_ns(pid: u32) -> io::Result<u64> {
    let mut sum = 0;
    for task in fs::read_dir(format!("/proc/{pid}/task"))? {
        // A thread may end meanwhile.
        let Ok(text) = fs::read_to_string(task?.path().join("schedstat")) else {
            continue;
        };
        let ns = text.split(' ').next().and_then(|ns| ns.parse::<u64>().ok());
        sum += ns.ok_or_else(|| io::Error::other("schedstat was not understood"))?;
    }
    Ok(sum)
}

fn memory(pid: u32) -> io::Result<Memory> {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
    let field = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name));
        let kib = line.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok());
        kib.map(|kib| kib << 10)
            .ok_or_else(|| io::Error::other(format!("no {name} in smaps_rollup")))
    };
    Ok(Memory {
        resident: field("Rss:")?,
        anonymous: field("Anonymous:")?,
    })
}
