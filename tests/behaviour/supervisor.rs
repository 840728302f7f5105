//! Goal: a supervisor with a notify socket is told `READY=1` once the store has answered and not
//! before, `STOPPING=1` when the shutdown begins, and where the server is in between; and nothing
//! that is wrong with that socket costs the server anything.
//! Method: a datagram socket of the test's own in `NOTIFY_SOCKET`, a Redis that comes later, a
//! socket that takes nothing more, and values that lead nowhere.

use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::process::Command;

use tempfile::TempDir;

use crate::support::client::Client;
use crate::support::redis::Redis;
use crate::support::said::Said;
use crate::support::server::{Server, with_variables};
use crate::support::{PATIENCE, ms, pause};

/// Longer than the server waits before it tries a message again, a few times over.
const QUIET: std::time::Duration = ms(400);

/// The supervisor's end of the socket.
struct Supervisor {
    socket: UnixDatagram,
    /// What is in `NOTIFY_SOCKET`.
    variable: String,
    _dir: TempDir,
}

impl Supervisor {
    /// At a path.
    fn at_path() -> Self {
        let dir = TempDir::new().expect("a temporary directory");
        let path = dir.path().join("notify");
        Self {
            socket: UnixDatagram::bind(&path).expect("a new path"),
            variable: path.to_str().expect("UTF-8").to_owned(),
            _dir: dir,
        }
    }

    /// At a name that is no file. The directory's name is nobody else's, so this one is neither.
    fn at_name() -> Self {
        let dir = TempDir::new().expect("a temporary directory");
        let name = dir.path().to_str().expect("UTF-8");
        let address = SocketAddr::from_abstract_name(name).expect("it is short");
        Self {
            socket: UnixDatagram::bind_addr(&address).expect("a new name"),
            variable: format!("@{name}"),
            _dir: dir,
        }
    }

    /// Fills the socket, so that it takes nothing more until it is read.
    fn stop_reading(&self) {
        let other = UnixDatagram::unbound().expect("a socket");
        other.set_nonblocking(true).expect("non-blocking");
        let address = self.socket.local_addr().expect("an address");
        let mut sent = 0;
        while other.send_to_addr(b"X_FULL=1", &address).is_ok() {
            sent += 1;
        }
        assert!(sent > 0, "it was full before");
    }

    /// The next message; empty if none comes in time.
    fn hears_within(&self, patience: std::time::Duration) -> Vec<String> {
        let timeout = Some(patience);
        self.socket.set_read_timeout(timeout).expect("a duration");
        let mut buffer = [0; 512];
        let Ok(len) = self.socket.recv(&mut buffer) else {
            return Vec::new();
        };
        let text = std::str::from_utf8(&buffer[..len]).expect("UTF-8");
        text.lines().map(str::to_owned).collect()
    }

    fn hears(&self) -> Vec<String> {
        self.hears_within(PATIENCE)
    }

    /// The binary, with this supervisor. Its own environment is empty.
    fn command(&self) -> Command {
        supervised(&self.variable)
    }
}

fn supervised(variable: &str) -> Command {
    with_variables(&[("NOTIFY_SOCKET", variable)])
}

#[test]
fn it_hears_ready_once_the_store_has_answered() {
    for supervisor in [Supervisor::at_path(), Supervisor::at_name()] {
        let mut redis = Redis::durable();
        redis.kill();
        let mut server = Server::listening(supervisor.command(), &redis.url(), &[]);
        let waiting = format!(
            "STATUS=Listening on {}, waiting for the store",
            server.address
        );
        assert_eq!(supervisor.hears(), [waiting]);
        assert_eq!(server.readiness(), 503);
        assert_eq!(supervisor.hears_within(QUIET), [""; 0]);

        redis.restart();
        let serving = format!("STATUS=Serving on {}", server.address);
        assert_eq!(supervisor.hears(), ["READY=1", &serving]);
        let (mut client, _) = Client::v1(&server, "supervised");
        assert_eq!(client.say("one"), 1);
        // Nothing more until there is more to say, whatever the store does.
        redis.kill();
        assert_eq!(supervisor.hears_within(QUIET), [""; 0]);
        redis.restart();

        server.terminate();
        // The notice is not answered yet: it is told at the beginning, and not at the end.
        assert_eq!(supervisor.hears(), ["STOPPING=1", "STATUS=Shutting down"]);
        assert!(matches!(client.hear(), Said::Notice(_)));
        assert_eq!(client.hear(), Said::Bye(1));
        client.until_close();
        let stopped = "STATUS=Stopped: every session is safe";
        assert_eq!(supervisor.hears(), ["STOPPING=1", stopped]);
        assert_eq!(server.exit().code, Some(0));
    }
}

/// The signal comes before the store: it has never been ready, and does not say so.
#[test]
fn it_hears_no_ready_from_one_that_is_stopped_before() {
    let mut redis = Redis::durable();
    redis.kill();
    let supervisor = Supervisor::at_path();
    let mut server = Server::listening(supervisor.command(), &redis.url(), &[]);
    supervisor.hears();
    server.terminate();
    assert_eq!(server.exit().code, Some(0));
    assert_eq!(supervisor.hears(), ["STOPPING=1", "STATUS=Shutting down"]);
    assert_eq!(supervisor.hears()[0], "STOPPING=1");
    assert_eq!(supervisor.hears_within(ms(1)), [""; 0]);
}

#[test]
fn one_that_reads_nothing_holds_nothing_up() {
    let supervisor = Supervisor::at_path();
    supervisor.stop_reading();
    let mut server = Server::launch(supervisor.command(), "memory:", &[]);
    let (mut client, _) = Client::v1(&server, "unheard");
    assert_eq!(client.say("one"), 1);
    server.terminate();
    assert!(matches!(client.hear(), Said::Notice(_)));
    assert_eq!(client.hear(), Said::Bye(1));
    client.until_close();
    server.exits_with(0);
    assert_eq!(server.log().count("NOTIFY_SOCKET"), 1);
}

/// A supervisor that never hears `READY=1` waits for ever: it hears it once it reads again, though
/// the loop has nothing else to do meanwhile.
#[test]
fn one_that_reads_late_hears_the_newest() {
    let supervisor = Supervisor::at_path();
    supervisor.stop_reading();
    // Nobody connects, not even to ask for readiness: after this line the loop sleeps.
    let mut server = Server::listening(supervisor.command(), "memory:", &["--heartbeat", "0s"]);
    server.process.stdout.until("ready");
    pause(QUIET);
    let serving = format!("STATUS=Serving on {}", server.address);
    let mut heard = vec!["X_FULL=1".to_owned()];
    while heard == ["X_FULL=1"] {
        heard = supervisor.hears();
    }
    assert_eq!(heard, ["READY=1", &serving]);
    server.terminate();
    assert_eq!(supervisor.hears()[0], "STOPPING=1");
    assert_eq!(server.exit().code, Some(0));
}

#[test]
fn an_address_that_leads_nowhere_does_no_harm() {
    let dir = TempDir::new().expect("a temporary directory");
    let file = dir.path().join("file");
    std::fs::write(&file, "").expect("a file");
    let file = file.to_str().expect("UTF-8");
    let lengthy = format!("/{}", "x".repeat(200));
    // What is in the variable, and how many lines of the log speak of it.
    let cases = [
        ("", 0),
        ("relative", 1),
        ("vsock:2:1234", 1),
        ("/nonexistent/notify", 1),
        ("@sundown: nobody listens here", 1),
        ("@", 1),
        (file, 1),
        (lengthy.as_str(), 1),
    ];
    for (variable, complaints) in cases {
        let mut server = Server::launch(supervised(variable), "memory:", &[]);
        server.stop();
        let found = server.log().count("NOTIFY_SOCKET");
        assert_eq!(found, complaints, "{variable:?}");
    }
}
