//! Goal: behind each proxy, a SIGTERM of one instance gives every client its goodbye and Close 1001,
//! each comes back through the proxy to the other instance at the exact message, and no handshake is
//! refused meanwhile. When neither runs, clients get a 503. No session id is in the proxy's log.
//! Method: clients that send all the time, and newcomers, while each instance is stopped in turn.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};

use crate::fleet::journal::End;
use crate::fleet::session::Habit;
use crate::fleet::{Account, Fleet, plans};
use crate::proxy::Kind;
use crate::site::Site;
use crate::support::client::Client;
use crate::support::stream::Stream;
use crate::support::{PATIENCE, http, ms, pause};

/// In the name of each session.
const SECRET: &str = "guess-me-not";

#[track_caller]
fn check(kind: Kind) {
    let mut site = Site::start(kind);
    let steady = plans(&format!("{SECRET}-steady"), 20, Habit::Steady);
    let ceaseless = plans(&format!("{SECRET}-ceaseless"), 10, Habit::Ceaseless);
    let clients = [steady, ceaseless].concat();
    let fleet = Fleet::gather(&[site.ground.doors.here], clients);
    fleet.flow(200);

    for colour in [0, 1] {
        let newcomers = Newcomers::begin(site.ground.doors.here);
        let stopped = site.servers[colour].stop();
        fleet.until_all_open();
        fleet.flow(200);
        assert!(newcomers.end() > 0);
        assert!(stopped.connections > 0, "nobody was there: {stopped:?}");
        assert_eq!(
            (stopped.byes, stopped.cut),
            (stopped.connections, 0),
            "{stopped:?}"
        );
        if colour == 0 {
            site.restart(colour);
        }
    }
    site.restart(1);
    let accounts = fleet.finish();
    let stayed = accounts.iter().find(|account| account.breaks.is_empty());
    assert!(stayed.is_none(), "on neither of the two: {stayed:?}");
    assess(&accounts);

    for server in &mut site.servers {
        server.stop();
    }
    let path = format!("/ws/chat/?session={SECRET}");
    let mut stream = Stream::connect(site.ground.doors.here);
    stream.queue(http::upgrade(&path, &[]).as_bytes());
    let refused = http::head(&mut stream, PATIENCE).expect("an answer");
    assert_eq!(refused.status, 503, "{refused:?}");
    assert_eq!(refused.header("Retry-After"), Some("1"), "{refused:?}");
    let log = site.ground.log();
    assert!(log.contains("/ws/chat/"), "it is no access log: {log}");
    let betrayed = log.lines().find(|line| line.contains(SECRET));
    assert_eq!(betrayed, None);
}

/// Clients that come one after the other, each of which must be let in.
struct Newcomers {
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<u32>>,
}

impl Newcomers {
    fn begin(at: SocketAddr) -> Self {
        let over = Arc::new(AtomicBool::new(false));
        let theirs = Arc::clone(&over);
        let come = move || {
            let mut welcomed = 0;
            while !theirs.load(Ordering::Relaxed) {
                let newcomer = Client::dial(at, &http::upgrade("/ws/chat/", &[]));
                newcomer.expect("101, whatever happens behind the proxy");
                welcomed += 1;
                pause(ms(100));
            }
            welcomed
        };
        Self {
            over,
            thread: Some(thread::spawn(come)),
        }
    }

    /// How many were let in.
    fn end(mut self) -> u32 {
        self.over.store(true, Ordering::Relaxed);
        let thread = self.thread.take().expect("it ends once");
        thread.join().expect("every newcomer was let in")
    }
}

impl Drop for Newcomers {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
    }
}

/// Nobody was cut, nobody was refused, and nothing is lost or counted twice.
#[track_caller]
pub(crate) fn assess(accounts: &[Account]) {
    let breaks: Vec<_> = accounts
        .iter()
        .flat_map(|account| &account.breaks)
        .collect();
    let cut = breaks
        .iter()
        .filter(|noticed| noticed.end != End::Farewell)
        .count();
    let refused: u32 = breaks.iter().map(|noticed| noticed.refused).sum();
    println!(
        "{} goodbyes, {cut} cut, {refused} refused",
        breaks.len() - cut
    );
    assert_eq!((cut, refused), (0, 0), "{breaks:?}");
    for Account { ledger, .. } in accounts {
        ledger.assert_clean();
    }
}

#[test]
fn a_stop_behind_haproxy_cuts_nobody() {
    check(Kind::HaProxy);
}

#[test]
fn a_stop_behind_nginx_cuts_nobody() {
    check(Kind::Nginx);
}

#[test]
fn a_stop_behind_caddy_cuts_nobody() {
    check(Kind::Caddy);
}
