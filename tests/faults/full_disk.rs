//! A disk that new sessions and another file fill to the last byte: who is there is served, and the
//! rest is refused one by one, until there is room.

use super::campaign::{Row, Tally};
use super::deploys::busy;
use super::disk::Disk;
use super::fleet::{Fleet, Orders};
use super::{hops, node};
use crate::support::client::{Client, Event};
use crate::support::http;
use crate::support::server::Server;
use crate::support::{PATIENCE, eventually};

/// How long a session that nobody has open is kept.
const TTL: &str = "--session-ttl=5s";

/// New sessions, each with a name of its own.
#[derive(Default)]
struct Newcomers(usize);

impl Newcomers {
    /// Whether the next one is served; otherwise it is refused as docs/protocol.md says.
    #[track_caller]
    fn is_served(&mut self, server: &Server) -> bool {
        self.0 += 1;
        let path = format!("/ws/chat/?session={:0>100}", self.0);
        let head = http::upgrade_v1(&path);
        let mut client = Client::dial(server.address, &head).expect("101: the store is up");
        match client.next(PATIENCE) {
            Some(Event::Text(_)) => true,
            Some(Event::Close(1013, _)) => false,
            other => panic!("{other:?}"),
        }
    }

    /// They and another file take all that there is.
    #[track_caller]
    fn fill(&mut self, server: &Server, disk: &Disk) {
        disk.fill();
        while self.is_served(server) {
            if self.0.is_multiple_of(100) {
                disk.fill();
            }
        }
        disk.fill();
    }
}

#[track_caller]
fn serves_who_is_there(server: &Server, fleet: &Fleet, disk: &Disk, newcomers: &mut Newcomers) {
    for _ in 0..5 {
        newcomers.is_served(server);
        disk.fill();
        fleet.flow(500);
        assert_eq!(server.readiness(), 200);
    }
    assert_eq!(server.log().count("store is down"), 0);
}

pub(crate) fn tmpfs(row: &mut Row) -> Tally {
    full(row, &Disk::mount())
}

pub(crate) fn ext4(row: &mut Row) -> Tally {
    full(row, &Disk::mount_ext4())
}

/// It goes on without a restart, and with one.
fn full(row: &mut Row, disk: &Disk) -> Tally {
    let (address, store) = (node::address(), disk.sqlite());
    let mut server = node::start(&store, address, &[TTL]);
    let fleet = Fleet::gather(&[address], busy(50 * row.scale));
    let mut newcomers = Newcomers::default();
    newcomers.fill(&server, disk);
    serves_who_is_there(&server, &fleet, disk, &mut newcomers);
    eventually("what has expired makes room", || {
        disk.fill();
        newcomers.is_served(&server)
    });
    newcomers.fill(&server, disk);
    disk.free();
    eventually("newcomers are served", || newcomers.is_served(&server));
    fleet.flow(500);

    newcomers.fill(&server, disk);
    server.stop();
    disk.fill();
    server = node::start(&store, address, &[TTL]);
    fleet.until_all_open();
    serves_who_is_there(&server, &fleet, disk, &mut newcomers);

    server.kill();
    disk.fill();
    server = node::start(&store, address, &[TTL]);
    fleet.until_all_open();
    serves_who_is_there(&server, &fleet, disk, &mut newcomers);
    disk.free();
    eventually("newcomers are served", || newcomers.is_served(&server));
    row.note(format!("{} newcomers, exit 0", newcomers.0));
    row.settle_with_sqlite(fleet, &store)
}

/// Clients push to each other. A push that finds no room is refused with all of its step, and comes
/// again with its message until there is room: each is received once.
pub(crate) fn pushes(row: &mut Row) -> Tally {
    let disk = Disk::mount();
    let (address, store) = (node::address(), disk.sqlite());
    let mut server = node::start(&store, address, &[]);
    let fleet = Fleet::gather(&[address], hops::letters(10 * row.scale, 20 * row.scale));
    fleet.order(Orders::Storm);
    fleet.flow(500);
    let mut newcomers = Newcomers::default();
    newcomers.fill(&server, &disk);
    let refused = until_refused(&server);
    server.kill();
    disk.fill();
    server = node::start(&store, address, &[]);
    newcomers.fill(&server, &disk);
    let refused = refused + until_refused(&server);
    disk.free();
    fleet.flow(500);
    fleet.order(Orders::Flow);
    fleet.until_all_received();
    row.note(format!("{refused} steps refused"));
    row.settle_with_sqlite(fleet, &store)
}

/// Nobody comes who is new: what is refused are pushes.
#[track_caller]
fn until_refused(server: &Server) -> u64 {
    let refused = || {
        let sample = server.metric("store_refused_sessions_total");
        sample.expect("it is there")
    };
    let before = refused();
    eventually("pushes are refused", || refused() >= before + 20);
    assert_eq!(server.readiness(), 200);
    assert_eq!(server.log().count("store is down"), 0);
    refused() - before
}

/// Somebody else has all of it, and no file of the server's has room for more.
pub(crate) fn start(row: &mut Row) -> Tally {
    let disk = Disk::mount();
    let (address, store) = (node::address(), disk.sqlite());
    let mut server = node::start(&store, address, &[]);
    let fleet = Fleet::gather(&[address], busy(50 * row.scale));
    fleet.flow(500);
    server.kill();
    disk.forget_reserve();
    disk.fill();
    let listen = format!("--listen={address}");
    let server = Server::listening(node::program(), &store, &[&listen]);
    server.log().until("database or disk is full");
    assert_eq!(server.readiness(), 503);
    disk.free();
    eventually("readiness 200", || server.readiness() == 200);
    fleet.until_all_open();
    fleet.flow(500);
    row.settle_with_sqlite(fleet, &store)
}
