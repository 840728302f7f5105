//! A child process with its two outputs read line by line: waits for a line or for the exit,
//! always with a deadline, and is killed by its pid when it is dropped.

use std::io::{BufRead as _, BufReader, Read};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open};

use super::stream::timespec;
use super::{PATIENCE, now};

pub(crate) struct Process {
    name: String,
    child: Child,
    exited: Option<(ExitStatus, Instant)>,
    pub(crate) stdout: Lines,
    pub(crate) stderr: Lines,
}

impl Process {
    #[track_caller]
    pub(crate) fn spawn(mut command: Command) -> Self {
        let name = command.get_program().to_string_lossy().into_owned();
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = match command.spawn() {
            Ok(child) => child,
            Err(error) => panic!("cannot start {name}: {error}"),
        };
        let stdout = Lines::read(child.stdout.take().expect("it is piped"));
        let stderr = Lines::read(child.stderr.take().expect("it is piped"));
        Self {
            name,
            child,
            exited: None,
            stdout,
            stderr,
        }
    }

    pub(crate) fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    #[track_caller]
    pub(crate) fn signal(&self, signal: Signal) {
        assert!(
            self.exited.is_none(),
            "{} has exited: its pid may be another's",
            self.name
        );
        kill_process(self.pid(), signal).expect("a child that was not reaped can be signalled");
    }

    /// Waits for the exit. The status has no code if a signal ended the process.
    #[track_caller]
    pub(crate) fn wait(&mut self, within: Duration) -> (ExitStatus, Instant) {
        if let Some(exited) = self.exited {
            return exited;
        }
        let fd = pidfd_open(self.pid(), PidfdFlags::empty()).expect("a pidfd for a child");
        let deadline = now() + within;
        loop {
            let left = deadline.saturating_duration_since(now());
            let ready = poll(
                &mut [PollFd::new(&fd, PollFlags::IN)],
                Some(&timespec(left)),
            );
            if ready == Ok(1) {
                break;
            }
            assert!(!left.is_zero(), "{} still runs after {within:?}", self.name);
        }
        let at = now();
        let status = self.child.wait().expect("a child can be waited for");
        self.exited = Some((status, at));
        self.stdout.join();
        self.stderr.join();
        (status, at)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.exited.is_none() {
            // Fails only if the child is gone already, and then there is nothing to do.
            drop(self.child.kill());
            drop(self.child.wait());
        }
        if std::thread::panicking() {
            let (stdout, stderr) = (self.stdout.all(), self.stderr.all());
            eprintln!("--- {} said:\n{}", self.name, last(&stdout));
            eprintln!("--- and on stderr:\n{}\n---", last(&stderr));
        }
    }
}

/// A child whose outputs are the test's own matter: it ends with the test, also with one that fails.
pub(crate) struct Running(pub(crate) Child);

impl Drop for Running {
    fn drop(&mut self) {
        // After an exit there is nothing left to kill, and that is fine.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

fn last(lines: &[String]) -> String {
    lines[lines.len().saturating_sub(40)..].join("\n")
}

/// The lines of one output, read by a thread of their own so that the child never blocks on it.
pub(crate) struct Lines {
    shared: Arc<(Mutex<Output>, Condvar)>,
    reader: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Output {
    lines: Vec<String>,
    done: bool,
}

impl Lines {
    fn read(source: impl Read + Send + 'static) -> Self {
        let shared = Arc::new((Mutex::new(Output::default()), Condvar::new()));
        let theirs = Arc::clone(&shared);
        let reader = std::thread::spawn(move || {
            let (output, changed) = &*theirs;
            for line in BufReader::new(source).lines().map_while(Result::ok) {
                output.lock().expect("no holder panics").lines.push(line);
                changed.notify_all();
            }
            output.lock().expect("no holder panics").done = true;
            changed.notify_all();
        });
        Self {
            shared,
            reader: Some(reader),
        }
    }

    /// Waits for a line that `wanted` makes something of; `None` if the output ends without.
    #[track_caller]
    pub(crate) fn wait_for<T>(
        &self,
        within: Duration,
        wanted: impl Fn(&str) -> Option<T>,
    ) -> Option<T> {
        let (output, changed) = &*self.shared;
        let deadline = now() + within;
        let mut output = output.lock().expect("no holder panics");
        loop {
            if let Some(found) = output.lines.iter().find_map(|line| wanted(line)) {
                return Some(found);
            }
            let left = deadline.saturating_duration_since(now());
            if output.done || left.is_zero() {
                return None;
            }
            output = changed
                .wait_timeout(output, left)
                .expect("no holder panics")
                .0;
        }
    }

    /// Waits for a line that has these words, and returns it.
    #[track_caller]
    pub(crate) fn until(&self, words: &str) -> String {
        let found = |line: &str| line.contains(words).then(|| line.to_owned());
        let line = self.wait_for(PATIENCE, found);
        line.unwrap_or_else(|| panic!("no line says `{words}`: {:#?}", self.all()))
    }

    /// How many lines so far have these words.
    pub(crate) fn count(&self, words: &str) -> usize {
        let lines = self.all();
        lines.iter().filter(|line| line.contains(words)).count()
    }

    pub(crate) fn all(&self) -> Vec<String> {
        self.shared
            .0
            .lock()
            .expect("no holder panics")
            .lines
            .clone()
    }

    fn join(&mut self) {
        if let Some(reader) = self.reader.take() {
            reader.join().expect("the reader only reads");
        }
    }
}
