//! `examples/chain.rs` as a server that comes back at the address it had: on a port of its own outside of those that the
//! kernel gives to outgoing connections, so that nobody sits on it while it is away.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::process::Command;

use rand::RngExt as _;

use crate::example::example;
use crate::support::server::Server;

/// An address at which nobody listens.
pub(crate) fn address() -> SocketAddr {
    for _ in 0..100 {
        let port = rand::rng().random_range(PORTS.0..PORTS.1);
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        if TcpListener::bind(address).is_ok() {
            return address;
        }
    }
    panic!("no free port between {} and {}", PORTS.0, PORTS.1);
}

/// Starts a server there, and waits until it is ready.
#[track_caller]
pub(crate) fn start(store: &str, address: SocketAddr, flags: &[&str]) -> Server {
    let listen = address.to_string();
    let flags = [&["--listen", listen.as_str()], flags].concat();
    Server::launch(program(), store, &flags)
}

pub(crate) fn program() -> Command {
    example("chain")
}

/// Below the kernel's own range (`net.ipv4.ip_local_port_range` begins at 32768).
const PORTS: (u16, u16) = (20_000, 32_000);
