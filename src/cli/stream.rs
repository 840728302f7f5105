//! How the commands that ask a running server reach it: where it listens, as seen from this
//! machine, and a blocking stream on which everything together ends by one deadline. It is for
//! short processes of their own; it must never share a process with the loop.

use std::fmt::Display;
use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, TcpStream};
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::net::{AddressFamily, SocketAddrUnix, SocketType, sockopt};
use sundown::clock;
use sundown::config::{Config, Listen, TrustedProxies};
use sundown::net::proxy_protocol;

/// Why there is nobody to ask, where [`reachable`] gives `None`.
pub(crate) const NO_PORT: &str = "port 0 is not where the server listens: give the port it printed";

/// Where a client on this machine finds who listens there; `None` if nobody can know the port.
pub(crate) fn reachable(listen: &Listen) -> Option<Listen> {
    let Some(mut addr) = listen.tcp() else {
        return Some(listen.clone());
    };
    if addr.ip().is_unspecified() {
        addr.set_ip(IpAddr::V4(Ipv4Addr::LOCALHOST));
    }
    (addr.port() != 0).then_some(Listen::Tcp(addr))
}

/// The URL of a path there, for people: `http://127.0.0.1:8001/readyz`. A socket in the file system
/// has none that everybody knows; this is how Node's `ws` writes it.
pub(crate) fn url(scheme: &str, addr: &Listen, path: &str) -> String {
    match addr {
        Listen::Tcp(addr) => format!("{scheme}://{addr}{path}"),
        Listen::Unix(_) => format!("{scheme}+{addr}:{path}"),
    }
}

/// For the field `Host`.
pub(crate) fn host(addr: &Listen) -> &dyn Display {
    match addr {
        Listen::Tcp(addr) => addr,
        Listen::Unix(_) => &"localhost",
    }
}

/// A connection to a server, with the time that is left for it.
pub(crate) struct Stream {
    /// Of either family: both are read and written by the same calls.
    socket: TcpStream,
    patience: Patience,
}

impl Stream {
    /// Connects. The time counts from here on, for this and for all that follows. A server that takes
    /// this process for a proxy gets the header that a proxy sends for itself.
    pub(crate) fn connect(config: &Config, addr: &Listen, patience: Duration) -> io::Result<Self> {
        let patience = Patience {
            whole: patience,
            deadline: clock::now().instant + patience,
        };
        let socket = match addr {
            Listen::Tcp(addr) => TcpStream::connect_timeout(addr, patience.left()?),
            Listen::Unix(path) => connect_unix(path, patience.left()?),
        };
        let socket = socket.map_err(|error| patience.explain(error))?;
        let mut stream = Self { socket, patience };
        if is_proxy(config, &stream.socket) {
            stream.write_all(proxy_protocol::LOCAL)?;
        }
        Ok(stream)
    }
}

/// Whether a server of this configuration waits for a PROXY header here. On one machine, its peer's
/// address is what our end of the socket has.
fn is_proxy(config: &Config, socket: &TcpStream) -> bool {
    // What is wrong with the list is for the server to say.
    let proxies = TrustedProxies::parse(&config.trusted_proxies).unwrap_or_default();
    config.proxy_protocol
        && match socket.local_addr() {
            Ok(addr) => proxies.trust(addr.ip()),
            Err(_) => proxies.trust_unix(),
        }
}

fn connect_unix(path: &Path, within: Duration) -> io::Result<TcpStream> {
    let socket = rustix::net::socket(AddressFamily::UNIX, SocketType::STREAM, None)?;
    // Connecting waits for room in the queue for as long as sending may (unix(7)).
    sockopt::set_socket_timeout(&socket, sockopt::Timeout::Send, Some(within))?;
    rustix::net::connect(&socket, &SocketAddrUnix::new(path)?)?;
    Ok(socket.into())
}

impl Read for Stream {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.socket.set_read_timeout(Some(self.patience.left()?))?;
        let read = self.socket.read(buf);
        read.map_err(|error| self.patience.explain(error))
    }
}

impl Write for Stream {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.socket.set_write_timeout(Some(self.patience.left()?))?;
        let written = self.socket.write(buf);
        written.map_err(|error| self.patience.explain(error))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.socket.flush()
    }
}

/// One deadline, however many calls there are: a peer that says a little from time to time must
/// not move it.
struct Patience {
    whole: Duration,
    deadline: Instant,
}

impl Patience {
    /// What is left until the deadline: never zero, which sockets take for "no timeout".
    fn left(&self) -> io::Result<Duration> {
        let left = self
            .deadline
            .saturating_duration_since(clock::now().instant);
        if left.is_zero() {
            Err(self.late())
        } else {
            Ok(left)
        }
    }

    /// Linux calls a read that took too long "resource temporarily unavailable".
    fn explain(&self, error: io::Error) -> io::Error {
        let slow = matches!(
            error.kind(),
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut
        );
        if slow { self.late() } else { error }
    }

    fn late(&self) -> io::Error {
        let whole = humantime::format_duration(self.whole);
        io::Error::new(io::ErrorKind::TimedOut, format!("no answer within {whole}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unspecified_address_is_reached_over_loopback_and_port_0_never() {
        let reached = |listen: &str| {
            let addr = reachable(&listen.parse().unwrap());
            addr.map(|addr| addr.to_string())
        };
        let some = |addr: &str| Some(addr.to_owned());
        assert_eq!(reached("10.0.0.1:80"), some("10.0.0.1:80"));
        assert_eq!(reached("0.0.0.0:80"), some("127.0.0.1:80"));
        assert_eq!(reached("[::]:80"), some("127.0.0.1:80"));
        assert_eq!(reached("[::1]:80"), some("[::1]:80"));
        assert_eq!(reached("unix:/run/s"), some("unix:/run/s"));
        assert_eq!(reached("127.0.0.1:0"), None);
        assert_eq!(reached("0.0.0.0:0"), None);
    }
}
