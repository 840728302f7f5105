//! One socket: its phase, what waits to be sent, and what was received and not yet used.
//!
//! It reads and writes until the kernel has no more, and closes so that nothing in flight is lost:
//! a socket that is closed with unread input sends RST, and RST destroys what the peer has not read
//! yet. So everything that is over lingers: it is half-closed, and read to its end. It decides
//! nothing; `connections` knows when.
//!
//! The two calls that each message needs, `recv` and `send`, are those of `rustix`: in the C library
//! both are cancellation points (pthreads(7)), which change an atomic flag twice for each call once
//! the process has a second thread.

use std::io::{self, IoSlice, Write};
use std::net::Shutdown;

use mio::net::TcpStream;
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags};

use super::deadlines::Kind;
use super::http::Incoming;
use super::pool::BUFFER_BYTES_MAX;
use super::websocket::WebSocket;

/// A socket that was accepted.
#[derive(Debug)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a fact of its own, set apart"
)]
pub(crate) struct Connection {
    pub(super) socket: TcpStream,
    pub(super) generation: u32,
    /// On which listener it came in.
    pub(super) entrance: Entrance,
    pub(super) phase: Phase,
    /// What the kernel has not taken yet, from `sent` on.
    pub(super) outbound: Vec<u8>,
    sent: usize,
    /// How much the next read takes: much of a peer whose frames are large, and little of one whose
    /// frames are small, since those take longer than their bytes.
    read_len: u32,
    /// Received, and not used yet: while reading from it is paused, or until its next turn.
    pub(super) stash: Vec<u8>,
    /// The kernel may have something to read. Edges do not repeat: it stays set until a read
    /// came back short.
    pub(super) readable: bool,
    /// The peer has closed its side, or the connection is broken: a short read is not the end.
    pub(super) hung_up: bool,
    /// The kernel has taken less than it was given: wait for its edge.
    blocked: bool,
    /// The engine does not want its messages now.
    pub(super) paused: bool,
    /// In one of the queues of whom to read from.
    pub(super) listed: bool,
    /// How it ends is counted: once.
    pub(super) tallied: bool,
    /// The deadline by which it has to close is set, and stays.
    pub(super) closing: bool,
    /// How many times it was looked at since it was last heard.
    pub(super) silent: u8,
}

/// Where a connection came in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Entrance {
    /// The listener for clients.
    Public,
    /// The listener for operators.
    Admin,
}

impl Entrance {
    /// The deadline of a request that came in there.
    pub(super) fn handshake(self) -> Kind {
        match self {
            Self::Public => Kind::Handshake,
            Self::Admin => Kind::AdminHandshake,
        }
    }

    /// The deadline of output that is left for a connection which is over.
    pub(super) fn sending(self) -> Kind {
        match self {
            Self::Public => Kind::Sending,
            Self::Admin => Kind::AdminSending,
        }
    }

    /// The deadline of a peer that has its HTTP answer.
    pub(super) fn answered(self) -> Kind {
        match self {
            Self::Public => Kind::Answered,
            Self::Admin => Kind::AdminAnswered,
        }
    }
}

/// How far a connection has come.
#[derive(Debug)]
pub(super) enum Phase {
    /// The request head is being received.
    Handshake { head: Box<Incoming> },
    /// A WebSocket connection; with a codec, while something is under way.
    Open(Option<Box<WebSocket>>),
    /// The peer has closed its side, or has broken a rule; nothing of it is used any more. The
    /// engine still has something to send, or is about to let go.
    Deaf(Option<Box<WebSocket>>),
    /// Over: what waits is sent, then our side is closed, then the rest is read and dropped.
    Lingering {
        half_closed: bool,
        /// It was a WebSocket connection.
        was_client: bool,
    },
    /// The socket is finished: it is freed at the end of the turn, or of the turn in which its
    /// place in a queue comes up.
    Dead,
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

impl Connection {
    pub(super) fn new(socket: TcpStream, generation: u32, entrance: Entrance) -> Self {
        Self {
            socket,
            generation,
            entrance,
            phase: Phase::Handshake {
                head: Box::default(),
            },
            outbound: Vec::new(),
            sent: 0,
            read_len: READ_BYTES_MIN,
            stash: Vec::new(),
            readable: false,
            hung_up: false,
            blocked: false,
            paused: false,
            listed: false,
            tallied: false,
            closing: false,
            silent: 0,
        }
    }

    /// How much of a buffer of this size is to be filled in one go. What is dropped unseen costs
    /// nothing more.
    pub(super) fn read_len(&self, buffer_bytes: usize) -> usize {
        match self.phase {
            Phase::Handshake { .. } | Phase::Open(_) => (self.read_len as usize).min(buffer_bytes),
            Phase::Deaf(_) | Phase::Lingering { .. } | Phase::Dead => buffer_bytes,
        }
    }

    /// So many bytes of the last read were used, and so many frames of them without a codec: the
    /// next one is to take twice as much, if they filled it and are of large frames, and little, if
    /// they are of small ones.
    pub(super) fn adapt(&mut self, used: usize, lent: usize, read_bytes_max: usize) {
        let Phase::Open(codec) = &mut self.phase else {
            return;
        };
        let frames = lent + codec.as_mut().map_or(0, |codec| codec.take_frames());
        if frames.saturating_mul(SMALL_FRAME_BYTES) > used {
            self.read_len = READ_BYTES_MIN;
        } else if used >= self.read_len as usize && !self.paused {
            let read_bytes_max = u32::try_from(read_bytes_max).unwrap_or(u32::MAX);
            self.read_len = self.read_len.saturating_mul(2).min(read_bytes_max);
        }
    }

    /// Reads once. A short read means that the socket is empty, unless the peer has hung up.
    pub(super) fn read(&mut self, buffer: &mut [u8]) -> ReadOutcome {
        loop {
            match rustix::net::recv(&self.socket, &mut *buffer, RecvFlags::empty()) {
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

    /// What a read would bring, without its bytes: how a connection that is not read from has ended.
    pub(super) fn look(&self) -> ReadOutcome {
        if !matches!(self.socket.take_error(), Ok(None)) {
            return ReadOutcome::Broken;
        }
        loop {
            match self.socket.peek(&mut [0]) {
                Ok(0) if self.stash.is_empty() => return ReadOutcome::End,
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

    /// Whether there may be input that no edge will tell of.
    pub(super) fn may_have_more(&self) -> bool {
        self.readable || !self.stash.is_empty()
    }

    /// Keeps what was received and is not used now, before what the stash still holds.
    pub(super) fn hold_back(&mut self, input: &[u8]) {
        self.stash.splice(..0, input.iter().copied());
    }

    /// How many bytes wait for the kernel to take them.
    pub(super) fn unsent(&self) -> usize {
        self.outbound.len() - self.sent
    }

    /// The kernel takes more again.
    pub(super) fn unblock(&mut self) {
        self.blocked = false;
    }

    /// Writes what waits, as far as the kernel takes it. Answers how many bytes that was.
    ///
    /// A peer that can no longer be written to may still have sent something that counts: what
    /// waits is dropped, and reading tells the end.
    pub(super) fn flush(&mut self) -> usize {
        let mut taken = 0;
        while !self.blocked && self.unsent() > 0 {
            match rustix::net::send(&self.socket, &self.outbound[self.sent..], SEND_FLAGS) {
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
    /// once, and only what it does not take is copied. Answers how many bytes it has taken.
    pub(super) fn offer(&mut self, mut payload: &[u8]) -> usize {
        let (mut offered, mut taken) = (false, 0);
        while !self.blocked && !offered {
            let waiting = self.unsent();
            let slices = [&self.outbound[self.sent..], payload].map(IoSlice::new);
            match self.socket.write_vectored(&slices) {
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
        } else if self.sent > BUFFER_BYTES_MAX && self.sent > self.outbound.len() / 2 {
            self.outbound.drain(..self.sent);
            self.sent = 0;
        }
    }

    /// Closes our side, once all has been sent. Errors say that the peer is gone already, which
    /// reading will tell.
    pub(super) fn half_close(&mut self) {
        if let Err(error) = self.socket.shutdown(Shutdown::Write) {
            log::trace!("shutdown(WR): {error}");
        }
    }

    /// Whether it is over, and only lingers.
    pub(super) fn is_lingering(&self) -> bool {
        matches!(self.phase, Phase::Lingering { .. })
    }

    /// Whether it is finished, and only waits to be freed.
    pub(super) fn is_dead(&self) -> bool {
        matches!(self.phase, Phase::Dead)
    }

    /// Whether it is a WebSocket connection, which is not over.
    pub(super) fn is_websocket(&self) -> bool {
        matches!(self.phase, Phase::Open(_) | Phase::Deaf(_))
    }

    /// The codec that it holds, if it is a WebSocket connection.
    pub(super) fn codec(&mut self) -> Option<&mut Option<Box<WebSocket>>> {
        match &mut self.phase {
            Phase::Open(codec) | Phase::Deaf(codec) => Some(codec),
            Phase::Handshake { .. } | Phase::Lingering { .. } | Phase::Dead => None,
        }
    }

    /// Its codec, if it has one that it does not need: nothing is under way.
    pub(super) fn rest(&mut self) -> Option<Box<WebSocket>> {
        match &mut self.phase {
            Phase::Open(codec) => codec.take_if(|codec| codec.is_at_rest()),
            Phase::Handshake { .. } | Phase::Deaf(_) | Phase::Lingering { .. } | Phase::Dead => {
                None
            }
        }
    }
}

/// The first read of a connection, and every read of small frames.
const READ_BYTES_MIN: u32 = 2 << 10;

/// A peer that is gone is an error, and no SIGPIPE. Where the flag does not exist, Rust's runtime has
/// the signal ignored.
#[cfg(not(target_vendor = "apple"))]
const SEND_FLAGS: SendFlags = SendFlags::NOSIGNAL;
#[cfg(target_vendor = "apple")]
const SEND_FLAGS: SendFlags = SendFlags::empty();

/// What `drain` reads at a time.
const DRAIN_READ_BYTES: usize = 8 << 10;

/// How often `drain` reads: more than a request head takes.
const DRAIN_READS_MAX: usize = 4;

/// Frames that are smaller on average are small.
const SMALL_FRAME_BYTES: usize = 256;

#[cfg(test)]
mod tests {
    use std::io::Read as _;
    use std::net::{Ipv4Addr, TcpListener};

    use super::*;
    use crate::net::websocket::Received;

    const MAX: usize = 64 << 10;

    fn open() -> (Connection, TcpStream) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let peer = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (socket, _) = listener.accept().unwrap();
        socket.set_nonblocking(true).unwrap();
        let mut connection = Connection::new(TcpStream::from_std(socket), 0, Entrance::Public);
        connection.phase = Phase::Open(Some(Box::new(WebSocket::new(1 << 20))));
        (connection, peer)
    }

    /// Sends all that waits, and answers what the peer has received.
    fn arrived(mut connection: Connection, mut peer: TcpStream) -> Vec<u8> {
        let (mut received, mut chunk) = (Vec::new(), [0; 8 << 10]);
        loop {
            connection.unblock();
            connection.flush();
            if connection.unsent() == 0 {
                connection.half_close();
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

    /// How much the next read takes, after one that frames of this many bytes have filled.
    fn next_read_len(connection: &mut Connection, frame_bytes: usize) -> usize {
        let len = connection.read_len(MAX);
        let binary = |payload: usize| {
            let mut frame = vec![0x82, 0xfe, (payload >> 8) as u8, payload as u8];
            frame.resize(8 + payload, 0);
            frame
        };
        let input = binary(frame_bytes - 8).repeat(len / frame_bytes + 1);
        let (mut input, mut output) = (&input[..], Vec::new());
        let websocket = connection.codec().unwrap().as_mut().unwrap();
        while !matches!(
            websocket.receive(&mut input, &mut output),
            Received::Nothing
        ) {}
        connection.adapt(len, 0, MAX);
        connection.read_len(MAX)
    }

    #[test]
    fn a_connection_takes_little_room() {
        // mio's sockets hold 12 bytes more in a debug build.
        let debug_bytes = size_of::<TcpStream>() - size_of::<i32>();
        let bytes = size_of::<Option<Connection>>() - debug_bytes;
        assert!(bytes <= 112, "{bytes} bytes for each, be it ever so silent");
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
            let (mut connection, peer) = open();
            connection.outbound.extend_from_slice(b"before");
            connection.blocked = is_blocked;
            connection.offer(&payload[..len]);
            assert!(copied.contains(&connection.unsent()), "{len} bytes");
            connection.offer(b"behind");
            let expected = [b"before", &payload[..len], b"behind"].concat();
            assert!(arrived(connection, peer) == expected, "{len} bytes");
        }
    }

    #[test]
    fn what_is_offered_to_a_peer_that_is_gone_is_dropped() {
        let (mut connection, peer) = open();
        connection.outbound.extend_from_slice(b"before");
        connection.socket.shutdown(Shutdown::Write).unwrap();
        connection.offer(b"payload");
        assert_eq!(connection.unsent(), 0);
        assert!(connection.readable && connection.hung_up, "reading tells");
        assert_eq!(arrived(connection, peer), b"");
    }

    #[test]
    fn large_frames_are_read_in_large_pieces_and_small_ones_are_not() {
        let (mut connection, _peer) = open();
        let lens = |connection: &mut Connection, frame_bytes| {
            [(); 7].map(|()| next_read_len(connection, frame_bytes) >> 10)
        };
        assert_eq!(lens(&mut connection, 8_000), [4, 8, 16, 32, 64, 64, 64]);
        assert_eq!(lens(&mut connection, 140), [2; 7]);
        next_read_len(&mut connection, 8_000);
        connection.adapt(100, 0, MAX);
        assert_eq!(
            connection.read_len(MAX),
            4 << 10,
            "a short read says nothing"
        );
        connection.phase = Phase::Lingering {
            half_closed: true,
            was_client: false,
        };
        assert_eq!(
            connection.read_len(MAX),
            MAX,
            "what is dropped costs nothing more"
        );
    }
}
