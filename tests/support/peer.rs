//! The other side of a connection that the binary makes: a listener that takes one client and does
//! with it what the test says, and a port on which nobody listens.

use std::io::Read as _;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::thread::JoinHandle;

use rustix::fd::OwnedFd;
use rustix::net::{AddressFamily, SocketType, bind, getsockname, socket};

use super::eventually;

/// Takes one connection.
pub(crate) struct Peer<T> {
    pub(crate) addr: SocketAddr,
    thread: JoinHandle<T>,
}

impl<T: Send + 'static> Peer<T> {
    pub(crate) fn start(does: impl FnOnce(&mut TcpStream) -> T + Send + 'static) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let addr = listener.local_addr().expect("an address");
        let thread = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("a client");
            does(&mut stream)
        });
        Self { addr, thread }
    }

    #[track_caller]
    pub(crate) fn join(self) -> T {
        eventually("the peer is done", || self.thread.is_finished());
        self.thread.join().expect("the peer met what it should")
    }
}

/// The head of a request.
pub(crate) fn head(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte).expect("a request");
        head.extend(byte);
    }
    String::from_utf8(head).expect("UTF-8")
}

/// A port that is taken, and on which nobody listens.
pub(crate) struct Nobody {
    pub(crate) addr: SocketAddr,
    _socket: OwnedFd,
}

impl Nobody {
    pub(crate) fn new() -> Self {
        let socket = socket(AddressFamily::INET, SocketType::STREAM, None).expect("a socket");
        bind(&socket, &SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).expect("a free port");
        let addr = getsockname(&socket).expect("an address");
        Self {
            addr: addr.try_into().expect("an IP address"),
            _socket: socket,
        }
    }
}
