//! How each server is started: the peers, `sundown` as an echo and as a chat, and a Redis.
//!
//! It owns the files that they leave, in a directory that goes away with the run.

use std::fs;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::options::Options;
use crate::process::{CLIENT_CORE, Server, spawn_on};

/// Where servers keep their files.
pub(crate) struct Scratch(PathBuf);

impl Scratch {
    pub(crate) fn new() -> io::Result<Self> {
        let name = format!("sundown-bench-{}", std::process::id());
        let path = std::env::temp_dir().join(name);
        fs::create_dir_all(&path)?;
        Ok(Self(path))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// A file that is not there yet.
    pub(crate) fn fresh(&self, name: &str) -> PathBuf {
        for tail in ["", "-wal", "-shm", "-lock"] {
            // Mostly there is none.
            let _absent = fs::remove_file(self.0.join(format!("{name}{tail}")));
        }
        self.0.join(name)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.0) {
            eprintln!("{} stays behind: {error}", self.0.display());
        }
    }
}

/// An echo server of this name.
pub(crate) fn echo(options: &Options, peer: &str) -> io::Result<Server> {
    if peer != "sundown" {
        return Server::start(Command::new(&options.peers_binary).arg(peer));
    }
    let mut command = sundown(&options.sundown);
    Server::start(command.args(["--app", "echo", "--store", "memory:"]))
}

/// `sundown`, on any port, for as many as there are descriptors.
pub(crate) fn sundown(binary: &Path) -> Command {
    let mut command = without_settings(binary);
    command.args(["--listen", "127.0.0.1:0", "--admin", "off"]);
    command.args(["--max-connections", "19000"]);
    command
}

/// A command that finds none of our settings in its environment.
pub(crate) fn without_settings(program: &Path) -> Command {
    let mut command = Command::new(program);
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("SUNDOWN_") {
            command.env_remove(name);
        }
    }
    command
}

/// The chat with a store, once it is ready. Without heartbeats, each data message is an answer.
pub(crate) fn chat(options: &Options, store: &str, more: &[&str]) -> io::Result<Server> {
    let mut command = sundown(&options.sundown);
    command.args(["--store", store, "--heartbeat", "0s"]);
    let mut server = Server::start(command.args(more))?;
    server.wait_ready()?;
    Ok(server)
}

/// A Redis of our own, on the client's core.
pub(crate) struct Redis {
    child: Child,
    addr: SocketAddr,
}

impl Redis {
    pub(crate) fn start(scratch: &Scratch) -> io::Result<Self> {
        // Free a moment ago, which is as good as it gets.
        let addr = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?;
        let port = addr.port().to_string();
        let mut command = Command::new("redis-server");
        command
            .args(["--port", &port, "--bind", "127.0.0.1", "--save", ""])
            .args(["--appendonly", "no", "--dir"])
            .arg(scratch.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null());
        let child = spawn_on(CLIENT_CORE, &mut command)?;
        let redis = Self { child, addr };
        let deadline = Instant::now() + Duration::from_secs(5);
        while TcpStream::connect(addr).is_err() {
            if Instant::now() > deadline {
                return Err(io::Error::other("redis-server does not answer"));
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(redis)
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://{}/", self.addr)
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        // It may have ended already.
        let _killed = self.child.kill();
        let _reaped = self.child.wait();
    }
}
