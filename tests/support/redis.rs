//! Debian's redis-server on a free port, with its files in a temporary directory.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::process::Command;

use rustix::process::Signal;
use tempfile::TempDir;

use super::PATIENCE;
use super::process::Process;

pub(crate) struct Redis {
    process: Process,
    port: u16,
    dir: TempDir,
    options: Vec<String>,
}

impl Redis {
    /// Keeps nothing on disk.
    #[track_caller]
    pub(crate) fn start() -> Self {
        Self::with(&["--appendonly", "no"])
    }

    /// Every write is on disk before it is answered.
    #[track_caller]
    pub(crate) fn durable() -> Self {
        Self::with(&["--appendonly", "yes", "--appendfsync", "always"])
    }

    /// With these options of redis-server; its working directory is the temporary one.
    #[track_caller]
    pub(crate) fn with(options: &[&str]) -> Self {
        let dir = TempDir::new().expect("a temporary directory");
        let options: Vec<String> = options.iter().map(|&option| option.to_owned()).collect();
        // Another process may take the port between our look and the start: then try the next.
        for _ in 0..10 {
            let port = free_port();
            if let Some(process) = launch(port, &dir, &options) {
                return Self {
                    process,
                    port,
                    dir,
                    options,
                };
            }
        }
        panic!("redis-server found no free port");
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    pub(crate) fn dir(&self) -> &std::path::Path {
        self.dir.path()
    }

    /// A command of an onlooker, which must be carried out.
    #[track_caller]
    pub(crate) fn command(&self, words: &[&str]) -> redis::Value {
        self.command_as("", words)
    }

    /// The same where a password is needed.
    #[track_caller]
    pub(crate) fn command_as(&self, password: &str, words: &[&str]) -> redis::Value {
        let client = redis::Client::open(self.url()).expect("a URL");
        let mut connection = client.get_connection().expect("Redis listens");
        if !password.is_empty() {
            let mut auth = redis::cmd("AUTH");
            auth.arg(password).exec(&mut connection).expect("OK");
        }
        let mut command = redis::cmd(words[0]);
        command.arg(&words[1..]);
        command.query(&mut connection).expect("an answer")
    }

    /// How many connections it has taken so far, this one included.
    #[track_caller]
    pub(crate) fn connections(&self) -> u64 {
        let info: String =
            redis::from_redis_value(self.command(&["INFO", "stats"])).expect("a text");
        let count = info
            .lines()
            .find_map(|line| line.strip_prefix("total_connections_received:"));
        count
            .and_then(|count| count.parse().ok())
            .expect("a number")
    }

    pub(crate) fn freeze(&self) {
        self.process.signal(Signal::STOP);
    }

    pub(crate) fn thaw(&self) {
        self.process.signal(Signal::CONT);
    }

    /// `kill -9`, and waits until it is gone.
    #[track_caller]
    pub(crate) fn kill(&mut self) {
        self.process.signal(Signal::KILL);
        self.process.wait(PATIENCE);
    }

    /// Starts it again, where it was. Someone else's connection may hold its port for a moment.
    #[track_caller]
    pub(crate) fn restart(&mut self) {
        self.restart_with(&[]);
    }

    /// The same, with these options on top for this time.
    #[track_caller]
    pub(crate) fn restart_with(&mut self, options: &[&str]) {
        let more = options.iter().map(|&option| option.to_owned());
        let options: Vec<String> = self.options.iter().cloned().chain(more).collect();
        let attempts = std::iter::repeat_with(|| launch(self.port, &self.dir, &options));
        let process = attempts.take(100).flatten().next();
        self.process = process.expect("redis-server comes back on its port");
    }
}

fn launch(port: u16, dir: &TempDir, options: &[String]) -> Option<Process> {
    let found = std::env::var_os("PATH").is_some_and(|path| {
        std::env::split_paths(&path).any(|dir| dir.join("redis-server").is_file())
    });
    assert!(
        found,
        "redis-server is missing: apt-get install redis-server, or run `make test`"
    );
    let mut command = Command::new("redis-server");
    command
        .args([
            "--port",
            &port.to_string(),
            "--bind",
            "127.0.0.1",
            "--save",
            "",
        ])
        .arg("--dir")
        .arg(dir.path())
        .args(options);
    let process = Process::spawn(command);
    let ready = |line: &str| line.contains("Ready to accept connections").then_some(());
    process.stdout.wait_for(PATIENCE, ready).map(|()| process)
}

pub(crate) fn free_port() -> u16 {
    let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let listener = TcpListener::bind(any).expect("a free port");
    listener.local_addr().expect("its address").port()
}
