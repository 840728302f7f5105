//! A TCP connection that never blocks in one direction: what is queued is written and what
//! arrives is read in one wait, so that a client can blast and listen at once. Tells a clean end
//! from a reset.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{AddressFamily, SocketType, bind, connect, socket};

use super::{PATIENCE, now};

/// How a connection ended, as the client saw it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// The server's FIN, after all that it had sent.
    Eof,
    /// A reset, or a write that was refused.
    Reset(ErrorKind),
}

pub(crate) struct Stream {
    socket: TcpStream,
    inbound: Vec<u8>,
    taken: usize,
    outbound: Vec<u8>,
    written: usize,
    end: Option<End>,
}

impl Stream {
    #[track_caller]
    pub(crate) fn connect(address: SocketAddr) -> Self {
        Self::try_connect(address).expect("the listener takes the connection")
    }

    pub(crate) fn try_connect(address: SocketAddr) -> std::io::Result<Self> {
        let socket = TcpStream::connect_timeout(&address, PATIENCE)?;
        socket.set_nodelay(true)?;
        Self::over(socket)
    }

    /// From another address of this machine.
    #[track_caller]
    pub(crate) fn connect_from(source: Ipv4Addr, address: SocketAddr) -> Self {
        let socket = socket(AddressFamily::INET, SocketType::STREAM, None).expect("a socket");
        bind(&socket, &SocketAddr::from((source, 0))).expect("an address of ours");
        connect(&socket, &address).expect("the listener takes the connection");
        Self::over(socket).expect("a socket")
    }

    /// A connection that is made. One through a socket in the file system is written, read and shut
    /// by the same calls: give its descriptor.
    pub(crate) fn over(socket: impl Into<TcpStream>) -> std::io::Result<Self> {
        let socket = socket.into();
        socket.set_nonblocking(true)?;
        Ok(Self {
            socket,
            inbound: Vec::new(),
            taken: 0,
            outbound: Vec::new(),
            written: 0,
            end: None,
        })
    }

    /// The smallest receive buffer there is: the peer's window is soon shut.
    pub(crate) fn shrink_window(&self) {
        rustix::net::sockopt::set_socket_recv_buffer_size(&self.socket, 1)
            .expect("a socket takes a buffer size");
    }

    /// A receive buffer of 64 KiB: what is not read waits at the server, and not in the kernel,
    /// whose default may hold tens of megabytes.
    pub(crate) fn shrink_inbox(&self) {
        rustix::net::sockopt::set_socket_recv_buffer_size(&self.socket, 64 << 10)
            .expect("a socket takes a buffer size");
    }

    /// A send buffer of 64 KiB: what waits in it is sent and not received, and its default holds
    /// megabytes.
    pub(crate) fn shrink_backlog(&self) {
        rustix::net::sockopt::set_socket_send_buffer_size(&self.socket, 64 << 10)
            .expect("a socket takes a buffer size");
    }

    /// Queues bytes; `pump` writes them.
    pub(crate) fn queue(&mut self, bytes: &[u8]) {
        self.outbound.extend_from_slice(bytes);
    }

    /// Bytes that the kernel has not taken yet.
    pub(crate) fn unwritten(&self) -> usize {
        self.outbound.len() - self.written
    }

    /// What has arrived and was not taken.
    pub(crate) fn unread(&self) -> &[u8] {
        &self.inbound[self.taken..]
    }

    pub(crate) fn take(&mut self, len: usize) {
        self.taken += len;
        assert!(self.taken <= self.inbound.len(), "took more than there was");
        // Moves the rest only when most of the buffer is behind: a blasting client's cost.
        if self.taken * 2 > self.inbound.len() {
            self.inbound.drain(..self.taken);
            self.taken = 0;
        }
    }

    /// How it ended, if it did and everything that came before has been taken.
    pub(crate) fn end(&self) -> Option<End> {
        self.end.clone()
    }

    /// Ends the client's side only (FIN), after what is queued.
    #[track_caller]
    pub(crate) fn finish(&mut self) {
        self.flush();
        self.socket
            .shutdown(Shutdown::Write)
            .expect("a socket that is still open");
    }

    /// Reads to the end of the connection, which must be the server's FIN. Returns what came before it
    /// and was not taken.
    #[track_caller]
    pub(crate) fn hear_out(&mut self) -> String {
        let deadline = now() + PATIENCE;
        while self.end.is_none() && now() < deadline {
            self.pump(deadline);
        }
        let heard = String::from_utf8_lossy(self.unread()).into_owned();
        assert_eq!(self.end, Some(End::Eof), "{heard}");
        heard
    }

    /// Ends in a reset, as the kernel of a machine that has crashed or forgotten it.
    #[track_caller]
    pub(crate) fn reset(self) {
        rustix::net::sockopt::set_socket_linger(&self.socket, Some(Duration::ZERO))
            .expect("a socket takes SO_LINGER");
    }

    /// Writes all that is queued, and reads nothing: the habit of a client that does not listen.
    #[track_caller]
    pub(crate) fn flush(&mut self) {
        let deadline = now() + PATIENCE;
        while self.unwritten() > 0 && self.end.is_none() {
            assert!(
                now() < deadline,
                "{} bytes were not taken",
                self.unwritten()
            );
            self.wait(PollFlags::OUT, deadline);
            self.write();
        }
    }

    /// Writes and reads what is possible, waiting until `deadline` for something to be.
    pub(crate) fn pump(&mut self, deadline: Instant) {
        if self.end.is_some() {
            return;
        }
        let mut interest = PollFlags::IN;
        if self.unwritten() > 0 {
            interest |= PollFlags::OUT;
        }
        let ready = self.wait(interest, deadline);
        // Reads first: after a reset the write would fail, and hide what can still be read.
        if ready.intersects(PollFlags::IN | PollFlags::HUP | PollFlags::ERR) {
            self.read();
        }
        if ready.contains(PollFlags::OUT) {
            self.write();
        }
    }

    fn wait(&self, interest: PollFlags, deadline: Instant) -> PollFlags {
        let mut fds = [PollFd::new(&self.socket, interest)];
        let timeout = timespec(deadline.saturating_duration_since(now()));
        match poll(&mut fds, Some(&timeout)) {
            Ok(_) => fds[0].revents(),
            Err(rustix::io::Errno::INTR) => PollFlags::empty(),
            Err(error) => panic!("poll: {error}"),
        }
    }

    fn read(&mut self) {
        let mut chunk = [0; 16 << 10];
        match self.socket.read(&mut chunk) {
            Ok(0) => self.end = Some(End::Eof),
            Ok(len) => self.inbound.extend_from_slice(&chunk[..len]),
            Err(error) => self.failed(error.kind()),
        }
    }

    /// Writes what the kernel takes now.
    pub(crate) fn write(&mut self) {
        if self.unwritten() == 0 || self.end.is_some() {
            return;
        }
        match self.socket.write(&self.outbound[self.written..]) {
            Ok(len) => self.written += len,
            Err(error) => self.failed(error.kind()),
        }
        if self.unwritten() == 0 {
            self.outbound.clear();
            self.written = 0;
        }
    }

    fn failed(&mut self, kind: ErrorKind) {
        if !matches!(kind, ErrorKind::WouldBlock | ErrorKind::Interrupted) {
            self.end = Some(End::Reset(kind));
        }
    }
}

pub(crate) fn timespec(duration: Duration) -> Timespec {
    Timespec {
        tv_sec: i64::try_from(duration.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: i64::from(duration.subsec_nanos()),
    }
}
