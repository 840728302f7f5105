//! A Postgres, the built example, and a client of it. All are gone when the test is over.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::net::TcpStream;
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;
use tungstenite::client::IntoClientRequest as _;
use tungstenite::{Message, WebSocket};

/// Whatever takes longer is broken.
const PATIENCE: Duration = Duration::from_secs(60);

/// A Postgres in a directory of its own, with a socket there and no port.
pub(crate) struct Postgres {
    dir: TempDir,
    server: Child,
}

impl Postgres {
    pub(crate) fn start() -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        if let Some((user, group)) = user() {
            chown(dir.path(), Some(user), Some(group)).expect("we are root");
        }
        let mut initdb = command("initdb");
        initdb.args([
            "--no-sync",
            "--auth=trust",
            "--username=postgres",
            "--encoding=UTF8",
        ]);
        initdb.arg("-D").arg(dir.path().join("data"));
        let made = initdb.output().expect("initdb runs");
        let said = String::from_utf8_lossy(&made.stderr);
        assert!(made.status.success(), "initdb: {said}");
        let server = run(dir.path());
        Self { dir, server }
    }

    pub(crate) fn url(&self) -> String {
        let dir = self.dir.path().display();
        format!("postgres:///postgres?user=postgres&host={dir}")
    }

    pub(crate) fn config(&self) -> postgres::Config {
        self.url().parse().expect("a URL")
    }

    pub(crate) fn drop_tables(&self) {
        let mut client = self
            .config()
            .connect(postgres::NoTls)
            .expect("a connection");
        let tables = "DROP TABLE IF EXISTS sundown_mailbox, sundown_sessions, sundown_floor";
        client.batch_execute(tables).expect("an owner");
    }

    /// Returns once so many connections wait for a lock.
    pub(crate) fn wait_for_waiting(&self, connections: i64) {
        let mut client = self
            .config()
            .connect(postgres::NoTls)
            .expect("a connection");
        let waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'";
        let deadline = Instant::now() + PATIENCE;
        loop {
            let row = client.query_one(waiting, &[]).expect("a count");
            let count: i64 = row.get(0);
            if count == connections {
                return;
            }
            assert!(Instant::now() < deadline, "{count} wait");
        }
    }

    /// Ends all connections, and the server.
    pub(crate) fn stop(&mut self) {
        signal(&self.server, "INT");
        self.server.wait().expect("our child");
    }

    pub(crate) fn start_again(&mut self) {
        self.server = run(self.dir.path());
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        if let Ok(None) = self.server.try_wait() {
            signal(&self.server, "QUIT");
            drop(self.server.wait());
        }
    }
}

/// Starts the server, and returns once it lets clients in.
fn run(dir: &Path) -> Child {
    let mut postgres = command("postgres");
    postgres.arg("-D").arg(dir.join("data")).arg("-k").arg(dir);
    // It survives a crash of the process, not of the machine.
    postgres.args(["-c", "listen_addresses=", "-c", "fsync=off"]);
    let mut server = postgres
        .stderr(Stdio::piped())
        .spawn()
        .expect("postgres runs");
    let log = server.stderr.take().expect("it is piped");
    let mut log = BufReader::new(log);
    let mut said = String::new();
    while !said.contains("ready to accept connections") {
        let read = log.read_line(&mut said).expect("text");
        assert_ne!(read, 0, "postgres: {said}");
    }
    thread::spawn(|| drain(log));
    server
}

/// So that it does not wait for a reader.
fn drain(log: BufReader<ChildStderr>) {
    log.lines().map_while(Result::ok).for_each(drop);
}

/// A command of Postgres, as the user who may run it.
fn command(name: &str) -> Command {
    let mut command = Command::new(binaries().join(name));
    command
        .env("LC_ALL", "C")
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::null());
    if let Some((user, group)) = user() {
        command.uid(user).gid(group);
    }
    command
}

/// Postgres refuses to run as root: Debian's package comes with a user for it.
fn user() -> Option<(u32, u32)> {
    let id = |arguments: &[&str]| -> Option<u32> {
        let output = Command::new("id").args(arguments).output().ok()?;
        String::from_utf8_lossy(&output.stdout).trim().parse().ok()
    };
    (id(&["-u"]) == Some(0)).then(|| {
        let ids = id(&["-u", "postgres"]).zip(id(&["-g", "postgres"]));
        ids.expect("the user postgres: run scripts/ensure-postgres.sh")
    })
}

/// Debian has a directory for each version, and none of them is in the path.
fn binaries() -> PathBuf {
    let versions = fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .flatten();
    let version = |path: &PathBuf| path.parent()?.file_name()?.to_str()?.parse::<u32>().ok();
    let debians = versions.map(|entry| entry.path().join("bin"));
    let debians = debians.filter(|bin| bin.join("initdb").exists());
    let paths = std::env::var_os("PATH").unwrap_or_default();
    let mut others = std::env::split_paths(&paths);
    let newest = debians.max_by_key(version);
    newest
        .or_else(|| others.find(|bin| bin.join("initdb").exists()))
        .expect("postgresql: run scripts/ensure-postgres.sh")
}

fn signal(child: &Child, name: &str) {
    let id = child.id().to_string();
    let sent = Command::new("kill").args(["-s", name, &id]).status();
    assert!(sent.expect("kill runs").success());
}

/// The built example.
pub(crate) struct Service {
    process: Child,
    address: String,
}

impl Service {
    pub(crate) fn start(postgres: &Postgres) -> Self {
        let mut process = Command::new(env!("CARGO_BIN_EXE_postgres_store"))
            .args(["--listen", "127.0.0.1:0", "--store", &postgres.url()])
            .stdout(Stdio::piped())
            .spawn()
            .expect("the example runs");
        let mut line = String::new();
        let output = process.stdout.as_mut().expect("it is piped");
        BufReader::new(output).read_line(&mut line).expect("text");
        let address = line
            .trim()
            .strip_prefix("listening on ")
            .expect("its address");
        let address = address.to_owned();
        Self { process, address }
    }

    /// SIGKILL.
    pub(crate) fn kill(mut self) {
        self.process.kill().expect("our child");
        self.process.wait().expect("our child");
    }

    /// SIGTERM, and how it went. The client answers the Close.
    pub(crate) fn stop(mut self, mut client: Client) -> ExitStatus {
        signal(&self.process, "TERM");
        while client.socket.read().is_ok() {}
        self.process.wait().expect("our child")
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

/// A client of `sundown.v1`, which sends numbers.
pub(crate) struct Client {
    socket: WebSocket<TcpStream>,
    /// Messages that the server has acknowledged.
    pub(crate) count: u64,
    /// Messages of the session that were sent, from whichever connection.
    pub(crate) sent: u64,
}

impl Client {
    /// Connects as soon as the server has its store, and waits for the hello.
    pub(crate) fn connect(service: &Service, session: &str) -> Self {
        let url = format!("ws://{}/ws/chat/?session={session}", service.address);
        let deadline = Instant::now() + PATIENCE;
        let socket = loop {
            let mut request = url.as_str().into_client_request().expect("a URL");
            let protocol = "sundown.v1".parse().expect("a header");
            request
                .headers_mut()
                .insert("Sec-WebSocket-Protocol", protocol);
            let stream = TcpStream::connect(&service.address).expect("a listener");
            stream.set_read_timeout(Some(PATIENCE)).expect("a time");
            match tungstenite::client(request, stream) {
                Ok((socket, _)) => break socket,
                // 503: the store is not up yet.
                Err(error) => assert!(Instant::now() < deadline, "{error}"),
            }
            thread::sleep(Duration::from_millis(10));
        };
        let (count, sent) = (0, 0);
        let mut client = Self {
            socket,
            count,
            sent,
        };
        let hello = client.next_text();
        assert!(hello.starts_with("{\"session\":"), "{hello}");
        client.count = number(&hello, "\"count\":");
        client.sent = client.count;
        client
    }

    /// Sends all numbers that were not sent yet, up to this one, without waiting for an answer.
    pub(crate) fn send(&mut self, until: u64) {
        for next in self.sent + 1..=until {
            let message = Message::text(next.to_string());
            self.socket.send(message).expect("a server that reads");
            self.sent = next;
        }
    }

    /// The reply to the next message, and its acknowledgement.
    pub(crate) fn next_sum(&mut self) -> u64 {
        let reply = self.next_text();
        let sum = number(&reply, "sum ");
        let count = self.next_text();
        self.count += 1;
        assert_eq!(number(&count, "{\"count\":"), self.count);
        sum
    }

    fn next_text(&mut self) -> String {
        loop {
            let message = self.socket.read().expect("a message");
            let text = message.to_text().expect("text");
            if message.is_text() && !text.starts_with("{\"ts\":") {
                return text.to_owned();
            }
        }
    }
}

/// The number that follows this.
#[track_caller]
fn number(text: &str, before: &str) -> u64 {
    let (_, rest) = text.split_once(before).unwrap_or_else(|| panic!("{text}"));
    let end = rest
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(rest.len());
    rest[..end].parse().unwrap_or_else(|_| panic!("{text}"))
}
