//! What the supervisor is told, in the words of `sd_notify(3)`: that the server is ready, that it
//! is stopping, and a line of text for people. It owns the socket for that. It must never wait for
//! a reader, since it runs on the loop's thread, and whatever is wrong with `NOTIFY_SOCKET` must
//! never do more harm than a line in the log.
//!
//! A reader that does not keep up costs nothing but its own knowledge: the newest message is kept
//! and tried again in each turn, the next of which is no further than [`RETRY_EVERY`], because a
//! supervisor that never hears `READY=1` waits for ever. The exit does not wait: a `STOPPING=1`
//! that is lost is told by the exit itself.
//!
//! There are no pings for a watchdog: see docs/adr/0015-notifications-that-never-wait.md.

use std::ffi::OsString;
use std::fmt;
use std::io::{self, ErrorKind};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

/// How soon a message is tried again that the socket had no room for.
const RETRY_EVERY: Duration = Duration::from_millis(100);

/// The variable in which a supervisor leaves the address of its socket.
pub(crate) const VARIABLE: &str = "NOTIFY_SOCKET";

/// Tells the supervisor, if there is one that wants to know.
pub(crate) struct Notifier {
    socket: Option<Socket>,
    /// The newest message, if it has not been taken yet.
    unsent: Option<String>,
    /// One line in the log is enough.
    complained: bool,
}

/// Not connected, so that a supervisor which starts anew at its address is found again.
struct Socket {
    datagrams: UnixDatagram,
    supervisor: SocketAddr,
}

impl Notifier {
    /// For the value of [`VARIABLE`]; without one, nobody is told anything.
    pub(crate) fn new(address: Option<OsString>) -> Self {
        // Empty is how scripts say "not set".
        let address = address.filter(|address| !address.is_empty());
        let socket = address.and_then(|address| {
            let opened = Socket::open(address.as_bytes());
            let warn = |error: &io::Error| log::warn!("cannot tell anybody at {VARIABLE}: {error}");
            opened.inspect_err(warn).ok()
        });
        Self {
            socket,
            unsent: None,
            complained: false,
        }
    }

    /// Clients can connect; whether the store answers is not known yet.
    pub(crate) fn listening(&mut self, address: impl fmt::Display) {
        self.say(format!(
            "STATUS=Listening on {address}, waiting for the store"
        ));
    }

    /// The store has answered for the first time. It is not taken back when the store goes away
    /// later: the server goes on, and readiness is for whoever sends it clients.
    pub(crate) fn ready(&mut self, address: impl fmt::Display) {
        self.say(format!("READY=1\nSTATUS=Serving on {address}"));
    }

    /// A shutdown has begun.
    pub(crate) fn stopping(&mut self) {
        self.say("STOPPING=1\nSTATUS=Shutting down".to_owned());
    }

    /// It is over; this stays to be read when the process has gone.
    pub(crate) fn stopped(&mut self, is_safe: bool) {
        let how = if is_safe {
            "every session is safe"
        } else {
            "not every session is safe, the report names them"
        };
        self.say(format!("STOPPING=1\nSTATUS=Stopped: {how}"));
    }

    /// How long the loop may wait, if there is something to try again.
    pub(crate) fn timeout(&self) -> Option<Duration> {
        self.unsent.is_some().then_some(RETRY_EVERY)
    }

    /// Tries again what has not been taken yet. A newer message has replaced an older one: that the
    /// server was ready is not worth a word once it is stopping.
    pub(crate) fn retry(&mut self) {
        let (Some(socket), Some(message)) = (&self.socket, &self.unsent) else {
            return;
        };
        let Err(error) = socket.send(message) else {
            self.unsent = None;
            return;
        };
        if !is_full(&error) {
            self.unsent = None;
        }
        if !self.complained {
            self.complained = true;
            log::warn!("the supervisor takes no message at {VARIABLE}: {error}");
        }
    }

    fn say(&mut self, message: String) {
        if self.socket.is_some() {
            self.unsent = Some(message);
            self.retry();
        }
    }
}

impl Socket {
    fn open(address: &[u8]) -> io::Result<Self> {
        let supervisor = match address {
            [b'/', ..] => SocketAddr::from_pathname(std::ffi::OsStr::from_bytes(address))?,
            [b'@', name @ ..] => abstract_address(name)?,
            _ => {
                let text = "expected a path from the root, or @ and a name";
                return Err(io::Error::new(ErrorKind::InvalidInput, text));
            }
        };
        let datagrams = UnixDatagram::unbound()?;
        datagrams.set_nonblocking(true)?;
        Ok(Self {
            datagrams,
            supervisor,
        })
    }

    /// A datagram goes whole or not at all.
    fn send(&self, message: &str) -> io::Result<()> {
        let bytes = message.as_bytes();
        self.datagrams.send_to_addr(bytes, &self.supervisor)?;
        Ok(())
    }
}

/// Linux has names that are no files.
#[cfg(target_os = "linux")]
fn abstract_address(name: &[u8]) -> io::Result<SocketAddr> {
    use std::os::linux::net::SocketAddrExt as _;
    SocketAddr::from_abstract_name(name)
}

#[cfg(not(target_os = "linux"))]
fn abstract_address(_: &[u8]) -> io::Result<SocketAddr> {
    Err(ErrorKind::Unsupported.into())
}

/// Nothing is wrong: there is no room at this moment.
fn is_full(error: &io::Error) -> bool {
    // `ENOBUFS` is how BSDs say it; std has no kind for it.
    let no_buffers = rustix::io::Errno::NOBUFS.raw_os_error();
    error.kind() == ErrorKind::WouldBlock || error.raw_os_error() == Some(no_buffers)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a supervisor would read, without waiting for it.
    fn heard(supervisor: &UnixDatagram) -> Option<String> {
        let mut buffer = [0; 512];
        let len = supervisor.recv(&mut buffer).ok()?;
        Some(String::from_utf8_lossy(&buffer[..len]).into_owned())
    }

    fn supervisor(dir: &tempfile::TempDir) -> (UnixDatagram, OsString) {
        let path = dir.path().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        socket.set_nonblocking(true).unwrap();
        (socket, path.into_os_string())
    }

    #[test]
    fn what_nobody_can_take_is_not_tried_again() {
        let dir = tempfile::tempdir().unwrap();
        let (first, address) = supervisor(&dir);
        let mut notifier = Notifier::new(Some(address.clone()));
        drop(first);
        notifier.ready("x");
        assert_eq!(notifier.timeout(), None);
        // One that starts at the same address hears the next.
        std::fs::remove_file(&address).unwrap();
        let (second, _) = supervisor(&dir);
        notifier.stopping();
        let said = heard(&second);
        assert_eq!(said.as_deref(), Some("STOPPING=1\nSTATUS=Shutting down"));
    }
}
