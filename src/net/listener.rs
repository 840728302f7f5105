//! The listening socket: accepts within a budget, backs off when descriptors run out, and closes
//! without resetting those who wait in its queue.
//!
//! A plain close resets every connection that the kernel has completed and we have not accepted.
//! So the queue is shut first: SYNs are dropped from then on, and retried by the peer until the
//! port is closed and refuses them (or they are refused at once). Handshakes that were half through
//! still complete, and are accepted like any other, until there is none left. A socket in the file
//! system has its own way (`unix`).

use std::io;
#[cfg(target_os = "linux")]
use std::num::NonZeroU32;
use std::time::{Duration, Instant};

use mio::event::Source;
use mio::net::{TcpListener, TcpStream};
use mio::{Interest, Registry, Token};
use socket2::SockRef;

use super::unix::UnixSocket;
use crate::config::Listen;
use crate::error::Error;

/// A listener.
#[derive(Debug)]
pub(crate) struct Listener {
    socket: Socket,
    addr: Listen,
    /// The kernel may have connections for us. Edges do not repeat.
    ready: bool,
    /// Out of descriptors: try again then.
    retry_at: Option<Instant>,
    /// The last attempt failed, and the log has been told.
    failing: bool,
    /// The socket's file is gone or another's, and that has been logged.
    lost: bool,
}

#[derive(Debug)]
enum Socket {
    Tcp(TcpListener),
    Unix(UnixSocket),
}

/// How long to wait when the process or the system is out of descriptors or memory.
const RETRY_AFTER: Duration = Duration::from_millis(100);

/// Connections that may wait to be accepted; the kernel makes it `net.core.somaxconn` if that is
/// less. mio asks for 128, and when all clients of another instance come back within a second there
/// are more. Those who find no room are dropped without a word, and TCP tries again only after 1 s.
const BACKLOG_MAX: i32 = 4_096;

impl Listener {
    /// Binds and registers; `what` says what for, if it fails.
    pub(crate) fn bind(
        addr: &Listen,
        what: &str,
        registry: &Registry,
        token: Token,
    ) -> Result<Self, Error> {
        let failed = |source| Error::Bind {
            what: format!("{addr} ({what})"),
            source,
        };
        let mut socket = Socket::bind(addr).map_err(failed)?;
        let addr = socket.local_addr(addr).map_err(failed)?;
        registry
            .register(socket.source(), token, Interest::READABLE)
            .map_err(failed)?;
        Ok(Self {
            socket,
            addr,
            ready: true,
            retry_at: None,
            failing: false,
            lost: false,
        })
    }

    /// Where it listens.
    pub(crate) fn local_addr(&self) -> &Listen {
        &self.addr
    }

    /// The kernel says that there are connections.
    pub(crate) fn handle_ready(&mut self) {
        self.ready = true;
    }

    /// The time that `poll_timeout` gave may have come.
    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        if self.retry_at.is_some_and(|at| at <= now) {
            self.retry_at = None;
            self.ready = true;
        }
    }

    /// When to try again after running out of descriptors.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        self.retry_at
    }

    /// Whether `accept` may have something.
    pub(crate) fn is_ready(&self) -> bool {
        self.ready
    }

    /// The next connection; `None` when there is none now.
    pub(crate) fn accept(&mut self, now: Instant) -> Option<TcpStream> {
        while self.ready {
            match self.socket.accept() {
                Ok(socket) => {
                    self.failing = false;
                    return Some(socket);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.ready = false,
                // The connection was gone before we took it: on to the next.
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // Out of descriptors, mostly. Trying on at once would spin.
                Err(error) => {
                    if !self.failing {
                        log::warn!("cannot accept: {error}; trying again every {RETRY_AFTER:?}");
                    }
                    self.failing = true;
                    self.ready = false;
                    self.retry_at = Some(now + RETRY_AFTER);
                }
            }
        }
        None
    }

    /// Looks whether the socket in the file system is still at its path.
    pub(crate) fn look_for_file(&mut self) {
        let Socket::Unix(socket) = &self.socket else {
            return;
        };
        let lost = !socket.is_at_its_path();
        if lost != self.lost {
            self.lost = lost;
            if lost {
                log::error!("not ready: {} was removed, moved or replaced", self.addr);
            } else {
                log::info!("{} is back", self.addr);
            }
        }
    }

    /// Whether the socket's file was gone or another's at the last look.
    pub(crate) fn is_lost(&self) -> bool {
        self.lost
    }

    /// Takes no new connections: those that are complete, or half through, can still be accepted.
    pub(crate) fn shut_queue(&mut self) {
        if let Err(error) = self.socket.shut_queue() {
            log::warn!("cannot shut the accept queue: {error}");
        }
        self.ready = true;
    }
}

impl Socket {
    fn bind(addr: &Listen) -> io::Result<Self> {
        match addr {
            Listen::Tcp(addr) => {
                let socket = TcpListener::bind(*addr)?;
                SockRef::from(&socket).listen(BACKLOG_MAX)?;
                Ok(Self::Tcp(socket))
            }
            Listen::Unix(path) => UnixSocket::bind(path, BACKLOG_MAX).map(Self::Unix),
        }
    }

    /// With the port that was taken.
    fn local_addr(&self, asked: &Listen) -> io::Result<Listen> {
        match self {
            Self::Tcp(socket) => socket.local_addr().map(Listen::Tcp),
            Self::Unix(_) => Ok(asked.clone()),
        }
    }

    fn source(&mut self) -> &mut dyn Source {
        match self {
            Self::Tcp(socket) => socket,
            Self::Unix(socket) => &mut socket.listener,
        }
    }

    fn accept(&self) -> io::Result<TcpStream> {
        match self {
            Self::Tcp(socket) => {
                let (socket, _) = socket.accept()?;
                // Replies are small and awaited: never wait for more to send with them.
                if let Err(error) = socket.set_nodelay(true) {
                    log::trace!("TCP_NODELAY: {error}");
                }
                Ok(socket)
            }
            Self::Unix(socket) => socket.accept(),
        }
    }

    fn shut_queue(&mut self) -> io::Result<()> {
        match self {
            Self::Tcp(socket) => refuse_handshakes(&SockRef::from(&*socket)),
            Self::Unix(socket) => socket.shut_queue(),
        }
    }
}

/// Has the kernel drop every SYN for this listener or, where that is not allowed, refuse it.
///
/// Recent kernels refuse a TCP filter without `CAP_NET_ADMIN`, which a server should not have.
/// But since Linux 5.7 everybody may bind a socket to an interface, even to one that is none. Then
/// no SYN finds this listener any more, while those who are half through, or in the queue, are in.
#[cfg(target_os = "linux")]
fn refuse_handshakes(socket: &SockRef<'_>) -> io::Result<()> {
    drop_handshakes(socket).or_else(|_| socket.bind_device_by_index_v4(NO_INTERFACE))
}

/// The kernel counts interfaces up from 1, and no machine has so many. (`_v4` is said for other
/// systems: Linux has one such option for both families.)
#[cfg(target_os = "linux")]
const NO_INTERFACE: Option<NonZeroU32> = NonZeroU32::new(i32::MAX.unsigned_abs());

/// Has the kernel drop every SYN for this listener: the peer tries again in a second, and may find
/// the next instance there.
///
/// A backlog of 0 would not do: it still lets one connection in, and leaves those who are half
/// through to be reset. The filter sees the segment from its TCP header on (RFC 9293, section 3.1):
/// byte 13 holds the flags, of which SYN without ACK begins a handshake.
#[cfg(target_os = "linux")]
fn drop_handshakes(socket: &SockRef<'_>) -> io::Result<()> {
    use socket2::SockFilter;
    const LOAD_BYTE: u16 = 0x30;
    const AND: u16 = 0x54;
    const JUMP_IF_EQUAL: u16 = 0x15;
    const RETURN: u16 = 0x06;
    const SYN: u32 = 0x02;
    const ACK: u32 = 0x10;
    socket.attach_filter(&[
        SockFilter::new(LOAD_BYTE, 0, 0, 13),
        SockFilter::new(AND, 0, 0, SYN | ACK),
        SockFilter::new(JUMP_IF_EQUAL, 0, 1, SYN),
        SockFilter::new(RETURN, 0, 0, 0),
        SockFilter::new(RETURN, 0, 0, u32::MAX),
    ])
}

/// The next best thing: room for one in the queue.
#[cfg(not(target_os = "linux"))]
fn refuse_handshakes(socket: &SockRef<'_>) -> io::Result<()> {
    socket.listen(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;
    use mio::Poll;
    use std::net::Ipv4Addr;

    #[test]
    fn a_crowd_that_comes_at_once_finds_room() {
        let poll = Poll::new().unwrap();
        let any = Listen::from((Ipv4Addr::LOCALHOST, 0));
        let mut listener = Listener::bind(&any, "a test", poll.registry(), Token(0)).unwrap();
        let connect = |_| TcpStream::connect(listener.local_addr().tcp().unwrap()).unwrap();
        let crowd: Vec<TcpStream> = (0..300).map(connect).collect();
        let now = clock::now().instant;
        let accepted: Vec<TcpStream> = std::iter::from_fn(|| listener.accept(now)).collect();
        assert_eq!(accepted.len(), crowd.len());
    }
}
