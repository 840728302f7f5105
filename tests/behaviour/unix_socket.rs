//! Goal: with `--listen unix:PATH` all is as over TCP: clients, health, the smoke test, the goodbye,
//! and no reset until nobody can connect; its file is for user and group, replaced only if nobody
//! listens, and gone after the exit; without it, readiness is 503. Method: the built binary, and
//! clients on sockets of that family.

use std::fs;
use std::io::{self, ErrorKind};
use std::net::TcpStream;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::mpsc;
use std::thread;

use rustix::process::Signal;
use tempfile::TempDir;

use super::never_a_reset::knock;
use crate::support::PATIENCE;
use crate::support::client::Client;
use crate::support::http;
use crate::support::process::Process;
use crate::support::server::{BINARY, Server, run};
use crate::support::stream::Stream;

/// A server on a socket, and the directory that both are in.
struct Local {
    process: Process,
    path: PathBuf,
    dir: TempDir,
}

impl Local {
    fn start() -> Self {
        let dir = TempDir::new().expect("a temporary directory");
        Self::start_in(dir)
    }

    #[track_caller]
    fn start_in(dir: TempDir) -> Self {
        let path = dir.path().join("ws.sock");
        let (process, _) = Server::spawn(
            Command::new(BINARY),
            "memory:",
            &["--listen", &listen(&path)],
        );
        process.stdout.until("ready");
        Self { process, path, dir }
    }

    fn client(&self, session: &str) -> Client {
        let stream = connect(&self.path).expect("the socket takes the connection");
        Client::v1_over(stream, &format!("/ws/chat/?session={session}")).0
    }
}

fn listen(path: &Path) -> String {
    format!("unix:{}", path.display())
}

#[expect(
    clippy::disallowed_methods,
    reason = "the ban is for the server's loop; this is a client's thread"
)]
fn connect(path: &Path) -> io::Result<Stream> {
    let socket = UnixStream::connect(path)?;
    Stream::over(TcpStream::from(OwnedFd::from(socket)))
}

#[test]
fn clients_and_commands_reach_it_and_it_ends_as_over_tcp() {
    let mut server = Local::start();
    let place = listen(&server.path);
    let first = format!("listening on ws+{place}:/ws/chat/");
    assert!(server.process.stdout.all().contains(&first), "{first}");
    assert_eq!(
        server.path.metadata().expect("its file").mode() & 0o777,
        0o660
    );
    let mut client = server.client("ann");
    assert_eq!(client.say("one"), 1);

    let health = run(&["healthcheck", "--admin", "off", "--listen", &place]);
    assert!(health.status.success(), "{health:?}");
    let smoke = run(&["smoke", "--listen", &place]);
    assert!(smoke.status.success(), "{smoke:?}");

    let second = run(&["--admin", "off", "--store", "memory:", "--listen", &place]);
    assert_eq!(second.status.code(), Some(1), "{second:?}");
    let line = String::from_utf8_lossy(&second.stderr);
    assert!(line.contains(&format!("{place} (--listen)")), "{line}");
    assert!(line.contains("in use"), "{line}");
    assert!(line.contains("another path"), "{line}");
    assert!(!line.contains("127.0.0.1"), "a port would not do: {line}");
    assert_eq!(client.say("two"), 2, "the first has kept its place");

    server.process.signal(Signal::TERM);
    client.until_closed(1001);
    let (status, _) = server.process.wait(PATIENCE);
    assert_eq!(status.code(), Some(0));
    assert!(!server.path.exists(), "its file goes with it");
}

#[test]
fn what_a_killed_server_leaves_behind_is_replaced() {
    let mut server = Local::start();
    server.process.signal(Signal::KILL);
    server.process.wait(PATIENCE);
    assert!(server.path.exists());
    let refused = connect(&server.path).map_err(|error| error.kind()).err();
    assert_eq!(refused, Some(ErrorKind::ConnectionRefused));
    let server = Local::start_in(server.dir);
    assert_eq!(server.client("ann").say("one"), 1);
}

#[test]
fn without_its_file_it_is_not_ready_and_says_so_once() {
    let mut server = Local::start();
    let intro = "admin on http://";
    let line = server.process.stdout.until(intro);
    let admin = line[intro.len()..].parse().expect("an address");
    let readiness = || http::get(admin, "/readyz").status;
    assert_eq!(readiness(), 200);
    let mut client = server.client("ann");

    let aside = server.dir.path().join("aside");
    fs::rename(&server.path, &aside).expect("its file");
    assert_eq!([readiness(), readiness()], [503, 503], "it is gone");
    fs::write(&server.path, "another's").expect("a file");
    assert_eq!(readiness(), 503, "there is another");
    assert_eq!(client.say("one"), 1, "who is in stays");
    fs::rename(&aside, &server.path).expect("both files");
    assert_eq!(readiness(), 200, "it is back");
    fs::remove_file(&server.path).expect("its file");
    assert_eq!(readiness(), 503);

    server.process.signal(Signal::TERM);
    client.until_closed(1001);
    let (status, _) = server.process.wait(PATIENCE);
    assert_eq!(status.code(), Some(0));
    assert_eq!(server.process.stderr.count("removed, moved"), 2);
}

#[test]
fn nobody_who_gets_in_is_reset() {
    let mut server = Local::start();
    let (inside, arrivals) = mpsc::channel();
    let knockers = [(); 4].map(|()| {
        let (path, inside) = (server.path.clone(), inside.clone());
        thread::spawn(move || knock(|| connect(&path), &inside))
    });
    for _ in 0..20 {
        arrivals.recv().expect("the door is open");
    }
    server.process.signal(Signal::TERM);
    for knocker in knockers {
        let answers = knocker.join().expect("a client does not panic");
        assert!(answers.broken.is_empty(), "{answers:?}");
    }
    let (status, _) = server.process.wait(PATIENCE);
    assert_eq!(status.code(), Some(0));
}
