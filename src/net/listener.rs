//! The listening socket: accepts within a budget, backs off when descriptors run out, and closes
//! without resetting those who wait in its queue.
//!
//! A plain close resets every connection that the kernel has completed and we have not accepted.
//! So it first shuts the queue (`listen` with a backlog of 0: later SYNs are dropped, and retried
//! by the peer), then accepts until there is none left.

use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use mio::net::{TcpListener, TcpStream};
use mio::{Interest, Registry, Token};

use crate::error::Error;

/// A listener.
#[derive(Debug)]
pub(crate) struct Listener {
    socket: TcpListener,
    addr: SocketAddr,
    /// The kernel may have connections for us. Edges do not repeat.
    ready: bool,
    /// Out of descriptors: try again then.
    retry_at: Option<Instant>,
}

/// How long to wait when the process or the system is out of descriptors or memory.
const RETRY_AFTER: Duration = Duration::from_millis(100);

impl Listener {
    /// Binds and registers; `what` says what for, if it fails.
    pub(crate) fn bind(
        addr: SocketAddr,
        what: &str,
        registry: &Registry,
        token: Token,
    ) -> Result<Self, Error> {
        let failed = |source| Error::Bind {
            what: format!("{addr} ({what})"),
            source,
        };
        let mut socket = TcpListener::bind(addr).map_err(failed)?;
        let addr = socket.local_addr().map_err(failed)?;
        registry
            .register(&mut socket, token, Interest::READABLE)
            .map_err(failed)?;
        Ok(Self {
            socket,
            addr,
            ready: true,
            retry_at: None,
        })
    }

    /// Where it listens.
    pub(crate) fn local_addr(&self) -> SocketAddr {
        self.addr
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
                Ok((socket, _)) => {
                    // Replies are small and awaited: never wait for more to send with them.
                    if let Err(error) = socket.set_nodelay(true) {
                        log::trace!("TCP_NODELAY: {error}");
                    }
                    return Some(socket);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.ready = false,
                Err(error) if out_of_resources(&error) => {
                    log::warn!("cannot accept: {error}; trying again every {RETRY_AFTER:?}");
                    self.ready = false;
                    self.retry_at = Some(now + RETRY_AFTER);
                }
                // The connection was gone before we took it: on to the next.
                Err(_) => {}
            }
        }
        None
    }

    /// Takes no new connections: those that are complete already can still be accepted.
    pub(crate) fn shut_queue(&mut self) {
        if let Err(error) = rustix::net::listen(&self.socket, 0) {
            log::warn!("listen with a backlog of 0: {error}");
        }
        self.ready = true;
    }
}

fn out_of_resources(error: &io::Error) -> bool {
    use rustix::io::Errno;
    let errno = Errno::from_io_error(error);
    matches!(
        errno,
        Some(Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM)
    )
}
