//! Two instances on one SQLite file, a proxy in front of them, and clients' way to it over TLS.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicU8, Ordering};

use tempfile::TempDir;

use crate::proxy::{Backend, Change, Doors, Kind, Proxy};
use crate::support::client::Client;
use crate::support::server::{BINARY, Server};
use crate::support::stream::Stream;
use crate::support::{PATIENCE, eventually, http, ms, pause};

/// What stands around the instances.
pub(crate) struct Ground {
    pub(crate) backends: [Backend; 2],
    pub(crate) proxy: Proxy,
    pub(crate) doors: Doors,
    dir: TempDir,
}

pub(crate) struct Site {
    /// Blue and green.
    pub(crate) servers: [Server; 2],
    pub(crate) ground: Ground,
    flags: Vec<String>,
}

impl Ground {
    /// The proxy; nobody listens behind it.
    #[track_caller]
    pub(crate) fn prepare(kind: Kind, changes: &[Change]) -> Self {
        Self::prepare_with(kind, |_| changes.to_vec())
    }

    /// The same, where the changes depend on the instances' addresses.
    #[track_caller]
    pub(crate) fn prepare_with(
        kind: Kind,
        changes: impl FnOnce(&[Backend; 2]) -> Vec<Change>,
    ) -> Self {
        let dir = TempDir::new().expect("a temporary directory");
        make_certificate(dir.path());
        let [at, here, elsewhere, blue, blue_admin, green, green_admin] = addresses();
        let backends = [(blue, blue_admin), (green, green_admin)];
        let backends = backends.map(|(listen, admin)| Backend { listen, admin });
        let proxy = Proxy::start(kind, dir.path(), at, backends, &changes(&backends));
        let doors = Doors::open(kind, dir.path(), at, [here, elsewhere]);
        Self {
            backends,
            proxy,
            doors,
            dir,
        }
    }

    pub(crate) fn log(&self) -> String {
        self.proxy.log(self.dir.path())
    }

    /// Until the proxy passes requests to this instance.
    #[track_caller]
    pub(crate) fn until_reached(&self, colour: usize) {
        let admin = self.backends[colour].admin;
        let asked = || http::metric(admin, "handshakes_total{outcome=\"upgraded\"}");
        let before = asked();
        eventually("the proxy passes clients to the instance", || {
            pause(ms(50));
            let mut stream = Stream::connect(self.doors.here);
            stream.queue(http::upgrade("/ws/chat/", &[]).as_bytes());
            let answer = http::head(&mut stream, PATIENCE);
            if answer.is_some_and(|answer| answer.status == 101) {
                Client::over(stream).leave();
            }
            asked() > before
        });
    }

    /// Starts an instance, which the proxy may not reach yet.
    #[track_caller]
    pub(crate) fn launch(&self, colour: usize, flags: &[String]) -> Server {
        let Backend { listen, admin } = self.backends[colour];
        let (listen, admin) = (listen.to_string(), admin.to_string());
        let mut all = vec!["--listen", &listen, "--admin", &admin];
        all.extend(flags.iter().map(String::as_str));
        let store = format!("sqlite:{}", self.dir.path().join("sundown.db").display());
        Server::launch(Command::new(BINARY), &store, &all)
    }
}

impl Site {
    #[track_caller]
    pub(crate) fn start(kind: Kind) -> Self {
        Self::start_with(kind, &[], &[])
    }

    /// With these flags for both instances, and these changes to the proxy's file.
    #[track_caller]
    pub(crate) fn start_with(kind: Kind, flags: &[&str], changes: &[Change]) -> Self {
        let ground = Ground::prepare(kind, changes);
        let flags: Vec<String> = flags.iter().map(|&flag| flag.to_owned()).collect();
        let site = Self {
            servers: [0, 1].map(|colour| ground.launch(colour, &flags)),
            ground,
            flags,
        };
        for colour in [0, 1] {
            site.ground.until_reached(colour);
        }
        site
    }

    /// Starts an instance again that has been stopped.
    #[track_caller]
    pub(crate) fn restart(&mut self, colour: usize) {
        self.servers[colour] = self.ground.launch(colour, &self.flags);
        self.ground.until_reached(colour);
    }
}

/// A certificate for `localhost` that is its own authority.
fn make_certificate(dir: &Path) {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]);
    let rcgen::CertifiedKey { cert, signing_key } = made.expect("a certificate");
    let (cert, key) = (cert.pem(), signing_key.serialize_pem());
    for (file, text) in [
        ("both.pem", format!("{cert}{key}")),
        ("cert.pem", cert),
        ("cert.key", key),
    ] {
        fs::write(dir.join(file), text).expect("a file in the test's directory");
    }
}

/// Free ports on a loopback address that no other test has: nothing takes one between our look and
/// the start, nor while an instance is restarted.
fn addresses<const N: usize>() -> [SocketAddr; N] {
    static TESTS: AtomicU8 = AtomicU8::new(0);
    let [.., high, low] = std::process::id().to_be_bytes();
    let test = 100 + TESTS.fetch_add(1, Ordering::Relaxed);
    let home = Ipv4Addr::new(127, test, high, low);
    let bound: [TcpListener; N] =
        std::array::from_fn(|_| TcpListener::bind((home, 0)).expect("a free port"));
    bound.map(|listener| listener.local_addr().expect("its address"))
}
