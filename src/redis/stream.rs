//! One connection to Redis: TCP or a Unix socket, with or without TLS, read and written without
//! ever blocking.
//!
//! Owns the socket, its registration, and the TLS session. Must never decide anything: when to
//! connect, what to say, and what an error means is for `link`.

use std::fmt;
use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::path::PathBuf;

use mio::event::Source;
use mio::net::{TcpStream, UnixStream};
use mio::{Interest, Registry, Token};
use rustls::ClientConnection;

use super::certificates::Tls;
use super::outbound::Outbound;

/// Where a connection goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Address {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => path.display().fmt(f),
        }
    }
}

/// A registered connection.
pub(crate) struct Stream {
    socket: Socket,
    tls: Option<Box<ClientConnection>>,
    /// False after the kernel took nothing, until the next readiness.
    writable: bool,
}

enum Socket {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Stream {
    /// Begins to connect.
    pub(crate) fn connect(
        address: &Address,
        tls: Option<&Tls>,
        registry: &Registry,
        token: Token,
    ) -> io::Result<Self> {
        let tls = match tls {
            Some(tls) => Some(Box::new(tls.connect().map_err(io::Error::other)?)),
            None => None,
        };
        let mut socket = match address {
            Address::Tcp(address) => Socket::Tcp(TcpStream::connect(*address)?),
            Address::Unix(path) => Socket::Unix(UnixStream::connect(path)?),
        };
        // Once and for both: the edges are only hints, and each is answered by trying.
        registry.register(
            socket.source(),
            token,
            Interest::READABLE | Interest::WRITABLE,
        )?;
        Ok(Self {
            socket,
            tls,
            writable: true,
        })
    }

    /// Closes and unregisters.
    pub(crate) fn close(mut self, registry: &Registry) {
        if let Err(error) = registry.deregister(self.socket.source()) {
            log::debug!("deregistering the Redis socket: {error}");
        }
    }

    /// Whether the connection is made; an error says why it could not be.
    pub(crate) fn is_connected(&self) -> io::Result<bool> {
        let (error, peer) = match &self.socket {
            Socket::Tcp(socket) => (socket.take_error()?, socket.peer_addr().map(drop)),
            Socket::Unix(socket) => (socket.take_error()?, socket.peer_addr().map(drop)),
        };
        if let Some(error) = error {
            return Err(error);
        }
        match peer {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotConnected => return Ok(false),
            Err(error) => return Err(error),
        }
        if let Socket::Tcp(socket) = &self.socket {
            tune(socket)?;
        }
        Ok(true)
    }

    /// The socket may take bytes again.
    pub(crate) fn handle_ready(&mut self) {
        self.writable = true;
    }

    /// Sends until all is sent or the kernel takes no more; the next readiness goes on.
    pub(crate) fn write(&mut self, outbound: &mut Outbound) -> io::Result<()> {
        while self.writable {
            if let Some(tls) = &mut self.tls {
                // Until the handshake is over, rustls keeps what it is given, up to a limit.
                let taken = tls.writer().write(outbound.pending())?;
                outbound.consume(taken);
                if !tls.wants_write() {
                    return Ok(());
                }
            } else if outbound.pending().is_empty() {
                return Ok(());
            }
            let written = match &mut self.tls {
                Some(tls) => tls.write_tls(&mut self.socket),
                None => self.socket.write(outbound.pending()),
            };
            match written {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) if self.tls.is_none() => outbound.consume(count),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.writable = false,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Reads once: `None` when there is nothing to read, `Some(0)` at the end of the stream.
    pub(crate) fn read(&mut self, buffer: &mut [u8]) -> io::Result<Option<usize>> {
        loop {
            let result = match &mut self.tls {
                Some(tls) => read_tls(tls, &mut self.socket, buffer),
                None => self.socket.read(buffer),
            };
            return match result {
                Ok(count) => Ok(Some(count)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => Err(error),
            };
        }
    }
}

/// Decrypts until there is something to give, or nothing more to read.
fn read_tls(
    tls: &mut ClientConnection,
    socket: &mut Socket,
    buffer: &mut [u8],
) -> io::Result<usize> {
    loop {
        match tls.reader().read(buffer) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            result => return result,
        }
        if tls.read_tls(socket)? == 0 {
            return Ok(0);
        }
        if let Err(error) = tls.process_new_packets() {
            // The alert tells the other side why; if it cannot be sent, the close says enough.
            drop(tls.write_tls(socket));
            return Err(io::Error::other(error));
        }
    }
}

fn tune(socket: &TcpStream) -> io::Result<()> {
    socket.set_nodelay(true)?;
    #[cfg(any(target_os = "linux", target_os = "android"))]
    rustix::net::sockopt::set_tcp_user_timeout(socket, UNACKNOWLEDGED_MS_MAX)?;
    Ok(())
}

/// How long the network may leave bytes unacknowledged before the kernel gives up: a host that has
/// vanished is noticed long before TCP's own quarter of an hour.
const UNACKNOWLEDGED_MS_MAX: u32 = 10_000;

impl Socket {
    fn source(&mut self) -> &mut dyn Source {
        match self {
            Self::Tcp(socket) => socket,
            Self::Unix(socket) => socket,
        }
    }
}

impl Read for Socket {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(socket) => socket.read(buffer),
            Self::Unix(socket) => socket.read(buffer),
        }
    }
}

impl Write for Socket {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(socket) => socket.write(bytes),
            Self::Unix(socket) => socket.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
