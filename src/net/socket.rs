//! A socket, and the output that the kernel has not taken yet.
//!
//! It reads and writes until the kernel has no more. The two calls that each message needs, `recv`
//! and `send`, are those of `rustix`: in the C library both are cancellation points (pthreads(7)),
//! which change an atomic flag twice for each call once the process has a second thread.

use std::io::{self, IoSlice, Write};
use std::net::{Shutdown, SocketAddr};

use mio::event::Event;
use mio::net::TcpStream;
use mio::{Interest, Registry, Token};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags};
use socket2::SockRef;

/// A socket that does not block.
#[derive(Debug)]
pub(super) struct Socket {
    stream: TcpStream,
    /// What the kernel has not taken yet, from `sent` on.
    outbound: Vec<u8>,
    sent: usize,
    /// The kernel may have something to read. Edges do not repeat: it stays set until a read
    /// came back short.
    readable: bool,
    /// The peer has closed its side, or the connection is broken: a short read is not the end.
    hung_up: bool,
    /// The kernel has taken less than it was given: wait for its edge.
    blocked: bool,
}

/// What came of one read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ReadOutcome {
    /// So many bytes.
    Bytes(usize),
    /// Nothing now.
    Empty,
    /// The peer has closed its side, in order.
    End,
    /// The connection is broken.
    Broken,
}

impl Socket {
    pub(super) fn new(stream: TcpStream) -> Self {
        Self {
            stream,
            outbound: Vec::new(),
            sent: 0,
            readable: false,
            hung_up: false,
            blocked: false,
        }
    }

    /// Registers for all events at once: no further system call when the interest changes.
    pub(super) fn register(&mut self, registry: &Registry, token: Token) -> io::Result<()> {
        let interest = Interest::READABLE | Interest::WRITABLE;
        registry.register(&mut self.stream, token, interest)
    }

    /// The other end, if it has an address of the Internet.
    pub(super) fn peer(&self) -> Option<SocketAddr> {
        self.stream.peer_addr().ok()
    }

    /// Whether the other end has come through a socket in the file system. One over TCP that is
    /// broken has no peer any more, but its own address still.
    pub(super) fn is_unix(&self) -> bool {
        let own = SockRef::from(&self.stream).local_addr();
        own.is_ok_and(|address| address.is_unix())
    }

    /// The kernel has told something new.
    pub(super) fn handle_ready(&mut self, event: &Event) {
        if event.is_writable() {
            self.blocked = false;
        }
        if event.is_readable() || event.is_read_closed() || event.is_error() {
            self.readable = true;
            self.hung_up |= event.is_read_closed() || event.is_error();
        }
    }

    /// Whether a read may bring something.
    pub(super) fn is_readable(&self) -> bool {
        self.readable
    }

    /// The next read tells whether there is something.
    pub(super) fn assume_readable(&mut self) {
        self.readable = true;
    }

    /// Whether the peer has closed its side, or the connection is broken.
    pub(super) fn has_hung_up(&self) -> bool {
        self.hung_up
    }

    /// Reads once. A short read means that the socket is empty, unless the peer has hung up.
    pub(super) fn read(&mut self, buffer: &mut [u8]) -> ReadOutcome {
        loop {
            match rustix::net::recv(&self.stream, &mut *buffer, RecvFlags::empty()) {
                Ok((0, _)) => {
                    self.readable = false;
                    return ReadOutcome::End;
                }
                Ok((len, _)) => {
                    self.readable = len == buffer.len() || self.hung_up;
                    return ReadOutcome::Bytes(len);
                }
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => {
                    self.readable = false;
                    return ReadOutcome::Empty;
                }
                Err(_) => {
                    self.readable = false;
                    return ReadOutcome::Broken;
                }
            }
        }
    }

    /// What a read would bring, without its bytes.
    pub(super) fn peek(&self) -> ReadOutcome {
        if !matches!(self.stream.take_error(), Ok(None)) {
            return ReadOutcome::Broken;
        }
        loop {
            match self.stream.peek(&mut [0]) {
                Ok(0) => return ReadOutcome::End,
                Ok(len) => return ReadOutcome::Bytes(len),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    return ReadOutcome::Empty;
                }
                Err(_) => return ReadOutcome::Broken,
            }
        }
    }

    /// Drops what has been received, as far as that takes few reads: a socket that is closed with
    /// unread input resets its peer.
    pub(super) fn drain(&mut self) {
        let mut dropped = [0; DRAIN_READ_BYTES];
        for _ in 0..DRAIN_READS_MAX {
            match self.read(&mut dropped) {
                ReadOutcome::Bytes(len) if len == dropped.len() => {}
                ReadOutcome::Bytes(_)
                | ReadOutcome::Empty
                | ReadOutcome::End
                | ReadOutcome::Broken => return,
            }
        }
    }

    /// Where output is appended, to be sent by the next flush.
    pub(super) fn outbound(&mut self) -> &mut Vec<u8> {
        &mut self.outbound
    }

    /// How many bytes wait for the kernel to take them.
    pub(super) fn unsent(&self) -> usize {
        self.outbound.len() - self.sent
    }

    /// Writes what waits, as far as the kernel takes it. Returns how many bytes that was.
    ///
    /// A peer that can no longer be written to may still have sent something that counts: what
    /// waits is dropped, and reading tells the end.
    pub(super) fn flush(&mut self) -> usize {
        let mut taken = 0;
        while !self.blocked && self.unsent() > 0 {
            match rustix::net::send(&self.stream, &self.outbound[self.sent..], SEND_FLAGS) {
                Ok(len) => {
                    self.sent += len;
                    taken += len;
                }
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => self.blocked = true,
                Err(_) => self.drop_unsent(),
            }
        }
        self.forget_sent();
        taken
    }

    /// Sends a payload behind what waits, its header included: the kernel is offered all of it at
    /// once, and only what it does not take is copied. Returns how many bytes it has taken.
    pub(super) fn offer(&mut self, mut payload: &[u8]) -> usize {
        let (mut offered, mut taken) = (false, 0);
        while !self.blocked && !offered {
            let waiting = self.unsent();
            let slices = [&self.outbound[self.sent..], payload].map(IoSlice::new);
            match self.stream.write_vectored(&slices) {
                Ok(len) => {
                    taken = len;
                    self.sent += len.min(waiting);
                    payload = &payload[len.saturating_sub(waiting)..];
                    offered = true;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.blocked = true,
                Err(_) => {
                    self.drop_unsent();
                    payload = &[];
                    offered = true;
                }
            }
        }
        self.forget_sent();
        self.outbound.extend_from_slice(payload);
        taken
    }

    /// The peer takes nothing more, ever.
    fn drop_unsent(&mut self) {
        self.sent = self.outbound.len();
        self.hung_up = true;
        self.readable = true;
    }

    fn forget_sent(&mut self) {
        if self.unsent() == 0 {
            self.outbound.clear();
            self.sent = 0;
        } else if self.sent > SENT_BYTES_MAX && self.sent > self.outbound.len() / 2 {
            self.outbound.drain(..self.sent);
            self.sent = 0;
        }
    }

    /// Closes our side, once all has been sent. Errors say that the peer is gone already, which
    /// reading will tell.
    pub(super) fn half_close(&mut self) {
        if let Err(error) = self.stream.shutdown(Shutdown::Write) {
            log::trace!("shutdown(WR): {error}");
        }
        self.readable = true;
    }
}

/// A peer that is gone is an error, and no SIGPIPE. Where the flag does not exist, Rust's runtime
/// has the signal ignored.
#[cfg(not(target_vendor = "apple"))]
const SEND_FLAGS: SendFlags = SendFlags::NOSIGNAL;
#[cfg(target_vendor = "apple")]
const SEND_FLAGS: SendFlags = SendFlags::empty();

/// So much that is sent may stay in front of what is not.
const SENT_BYTES_MAX: usize = 4 << 10;

/// What `drain` reads at a time.
const DRAIN_READ_BYTES: usize = 8 << 10;

/// How often `drain` reads: more than a request head takes.
const DRAIN_READS_MAX: usize = 4;

#[cfg(test)]
mod tests {
    use std::io::Read as _;
    use std::net::{Ipv4Addr, TcpListener};

    use super::*;

    fn open() -> (Socket, TcpStream) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let peer = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (socket, _) = listener.accept().unwrap();
        socket.set_nonblocking(true).unwrap();
        (Socket::new(TcpStream::from_std(socket)), peer)
    }

    /// Sends all that waits, and returns what the peer has received.
    fn arrived(mut socket: Socket, mut peer: TcpStream) -> Vec<u8> {
        let (mut received, mut chunk) = (Vec::new(), [0; 8 << 10]);
        loop {
            socket.blocked = false;
            socket.flush();
            if socket.unsent() == 0 {
                socket.half_close();
            }
            match peer.read(&mut chunk) {
                Ok(0) => return received,
                Ok(len) => received.extend_from_slice(&chunk[..len]),
                // It is on its way, within this machine.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => panic!("{error}"),
            }
        }
    }

    #[test]
    fn what_is_offered_arrives_in_order_and_only_what_is_left_is_copied() {
        let payload: Vec<u8> = (0..=250).cycle().take(8 << 20).collect();
        for (is_blocked, len, copied) in [
            (false, 1 << 10, 0..=0),
            (true, 1 << 10, (1 << 10) + 6..=(1 << 10) + 6),
            // More than the kernel takes of anyone.
            (false, payload.len(), 1..=payload.len() - 1),
        ] {
            let (mut socket, peer) = open();
            socket.outbound.extend_from_slice(b"before");
            socket.blocked = is_blocked;
            socket.offer(&payload[..len]);
            assert!(copied.contains(&socket.unsent()), "{len} bytes");
            socket.offer(b"behind");
            let expected = [b"before", &payload[..len], b"behind"].concat();
            assert!(arrived(socket, peer) == expected, "{len} bytes");
        }
    }

    #[test]
    fn what_is_offered_to_a_peer_that_is_gone_is_dropped() {
        let (mut socket, peer) = open();
        socket.outbound.extend_from_slice(b"before");
        socket.stream.shutdown(Shutdown::Write).unwrap();
        socket.offer(b"payload");
        assert_eq!(socket.unsent(), 0);
        assert!(socket.readable && socket.hung_up, "reading tells");
        assert_eq!(arrived(socket, peer), b"");
    }
}
