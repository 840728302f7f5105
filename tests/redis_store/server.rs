//! A real `redis-server` for one test: started on a free port and a Unix socket in a directory of
//! its own, ended when it goes out of scope. Must never be skipped: without the program, the test
//! fails.

use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

pub(crate) struct RedisServer {
    child: Child,
    dir: TempDir,
    port: u16,
    arguments: Vec<String>,
}

impl RedisServer {
    /// Starts with TCP on 127.0.0.1 and a Unix socket, and these arguments more.
    pub(crate) fn start(arguments: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let arguments: Vec<String> = arguments.iter().map(|&text| text.to_owned()).collect();
        // Somebody may take the free port before Redis does; then there is another one.
        for _ in 0..20 {
            let port = free_port();
            if let Some(child) = spawn(&dir, port, &arguments) {
                return Self {
                    child,
                    dir,
                    port,
                    arguments,
                };
            }
        }
        panic!("redis-server did not start in 20 attempts");
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.dir.path().join("redis.sock")
    }

    /// Stops it where it is: its sockets stay, and answer nothing.
    pub(crate) fn freeze(&self) {
        self.signal(Signal::STOP);
    }

    pub(crate) fn thaw(&self) {
        self.signal(Signal::CONT);
    }

    /// `kill -9`.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// After `kill`: again, on the same port. Someone else's connection may hold it for a moment.
    pub(crate) fn restart(&mut self) {
        let attempts = std::iter::repeat_with(|| spawn(&self.dir, self.port, &self.arguments));
        self.child = attempts.take(1_000).flatten().next().expect("port taken");
    }

    /// A command of an onlooker, with its answer.
    pub(crate) fn command(&self, words: &[&str]) -> redis::Value {
        self.command_as("", words)
    }

    /// The same where a password is needed.
    pub(crate) fn command_as(&self, password: &str, words: &[&str]) -> redis::Value {
        let client = redis::Client::open(format!("redis+unix://{}", self.socket().display()));
        let mut connection = client.unwrap().get_connection().unwrap();
        if !password.is_empty() {
            let mut auth = redis::cmd("AUTH");
            auth.arg(password).exec(&mut connection).unwrap();
        }
        let mut command = redis::cmd(words[0]);
        command.arg(&words[1..]);
        command.query(&mut connection).unwrap()
    }

    fn signal(&self, signal: Signal) {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, signal).unwrap();
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        // By its own process id, and reaped. A stopped process is killed all the same.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

pub(crate) fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

/// Starts the server and waits until it says that it accepts; `None` if it ends before that.
fn spawn(dir: &TempDir, port: u16, arguments: &[String]) -> Option<Child> {
    let mut child = Command::new("redis-server")
        .args(["--port", &port.to_string(), "--bind", "127.0.0.1"])
        .args(["--save", "", "--appendonly", "no", "--daemonize", "no"])
        .arg("--unixsocket")
        .arg(dir.path().join("redis.sock"))
        .arg("--dir")
        .arg(dir.path())
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("these tests need the program redis-server (Debian: apt-get install redis-server)");
    let mut log = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    while log.read_line(&mut line).unwrap() > 0 {
        // The last line of the start, after TCP's own: both sockets accept from here on.
        if line.contains("ready to accept connections at /") || line.contains("unix socket is now")
        {
            std::thread::spawn(move || std::io::copy(&mut log, &mut std::io::sink()));
            return Some(child);
        }
        line.clear();
    }
    child.wait().unwrap();
    None
}
