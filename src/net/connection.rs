//! One connection: its phase, its socket, and what was received and not yet used.
//!
//! It closes so that nothing in flight is lost: a socket that is closed with unread input sends
//! RST, and RST destroys what the peer has not read yet. So everything that is over lingers: it is
//! half-closed, and read to its end. `connections` decides when.

use std::net::SocketAddr;

use mio::net::TcpStream;

use super::deadlines::Kind;
use super::frame;
use super::http::Incoming;
use super::intake::Intake;
use super::proxy_protocol::Preface;
use super::reader::{Reader, Received};
use super::silence::{Silence, Verdict};
use super::socket::{ReadOutcome, Socket};
use crate::engine::io::{CloseReason, ConnId};
use crate::memory::{Account, Kind as Held};

/// A connection that was accepted.
#[derive(Debug)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a fact of its own, set apart"
)]
pub(crate) struct Connection {
    pub(super) socket: Socket,
    generation: u32,
    entrance: Entrance,
    phase: Phase,
    /// How much the next read takes: much of a peer whose frames are large, and little of one whose
    /// frames are small, since those take longer than their bytes.
    read_len: u32,
    /// Received, and not used yet: while reading from it is paused, or until its next turn.
    stash: Vec<u8>,
    silence: Silence,
    /// Its share of the account ([`Account::replace`]).
    received_counted: u32,
    outbound_counted: u32,
    /// The engine does not want its messages now.
    paused: bool,
    /// In one of the queues of whom to read from.
    queued: bool,
    /// Our Close is out: no other follows it, and no pong.
    close_sent: bool,
    /// How it ends has been counted.
    end_counted: bool,
    /// The deadline by which it has to close is set, and stays.
    close_bounded: bool,
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
}

/// How far a connection has come.
#[derive(Debug)]
enum Phase {
    /// The request head is being received.
    Handshake(Box<Incoming>),
    /// A WebSocket connection.
    Open(Reader),
    /// The peer has closed its side, or has broken a rule; nothing of it is used any more. The
    /// engine still has something to send, or is about to let go.
    Deaf(Reader),
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

impl Connection {
    pub(super) fn new(stream: TcpStream, generation: u32, entrance: Entrance) -> Self {
        Self {
            socket: Socket::new(stream),
            generation,
            entrance,
            phase: Phase::Handshake(Box::default()),
            read_len: READ_BYTES_MIN,
            stash: Vec::new(),
            silence: Silence::default(),
            received_counted: 0,
            outbound_counted: 0,
            paused: false,
            queued: false,
            close_sent: false,
            end_counted: false,
            close_bounded: false,
        }
    }

    /// Its name, at this slot.
    pub(super) fn id_at(&self, slot: u32) -> ConnId {
        ConnId {
            slot,
            generation: self.generation,
        }
    }

    /// From where it came in.
    pub(super) fn peer(&self) -> Option<SocketAddr> {
        self.socket.peer()
    }

    pub(super) fn entrance(&self) -> Entrance {
        self.entrance
    }

    /// How much of a buffer of this size is to be filled in one go. What is dropped unseen costs
    /// nothing more.
    fn read_len(&self, buffer_bytes: usize) -> usize {
        match self.phase {
            Phase::Handshake(_) | Phase::Open(_) => (self.read_len as usize).min(buffer_bytes),
            Phase::Deaf(_) | Phase::Lingering { .. } | Phase::Dead => buffer_bytes,
        }
    }

    /// So many bytes of the last read were used, in which so many frames have begun: the next one is
    /// to take twice as much, if they filled it and are of large frames, and little, if they are of
    /// small ones.
    pub(super) fn adapt(&mut self, used: usize, frames: usize, read_bytes_max: usize) {
        if !self.is_open() {
            return;
        }
        if frames.saturating_mul(SMALL_FRAME_BYTES) > used {
            self.read_len = READ_BYTES_MIN;
        } else if used >= self.read_len as usize && !self.paused {
            let read_bytes_max = u32::try_from(read_bytes_max).unwrap_or(u32::MAX);
            self.read_len = self.read_len.saturating_mul(2).min(read_bytes_max);
        }
    }

    /// Fills `buffer` with what is held back, and returns how much of it that was.
    pub(super) fn take_held(&mut self, buffer: &mut [u8]) -> usize {
        let len = self.read_len(buffer.len()).min(self.stash.len());
        buffer[..len].copy_from_slice(&self.stash[..len]);
        self.stash.drain(..len);
        if self.stash.is_empty() {
            self.stash = Vec::new();
        }
        len
    }

    /// Keeps what was received and is not used now, before what is held back already.
    pub(super) fn hold_back(&mut self, input: &[u8]) {
        self.stash.splice(..0, input.iter().copied());
    }

    /// Whether something was received and is not used yet.
    pub(super) fn holds_input(&self) -> bool {
        !self.stash.is_empty()
    }

    /// Whether there may be input that no edge will tell of.
    pub(super) fn may_have_more(&self) -> bool {
        self.socket.is_readable() || self.holds_input()
    }

    /// Reads once into `buffer`.
    pub(super) fn read(&mut self, buffer: &mut [u8]) -> ReadOutcome {
        let len = self.read_len(buffer.len());
        let outcome = self.socket.read(&mut buffer[..len]);
        if let ReadOutcome::Bytes(_) = outcome {
            self.silence.end();
        }
        outcome
    }

    /// Stops reading from it, or goes on.
    pub(super) fn set_paused(&mut self, paused: bool) {
        self.paused = paused;
    }

    pub(super) fn is_paused(&self) -> bool {
        self.paused
    }

    /// It is in a queue, or is not any more. Returns whether it was.
    pub(super) fn set_queued(&mut self, queued: bool) -> bool {
        std::mem::replace(&mut self.queued, queued)
    }

    pub(super) fn is_queued(&self) -> bool {
        self.queued
    }

    /// The request that is being received.
    pub(super) fn request(&mut self) -> Option<&mut Incoming> {
        match &mut self.phase {
            Phase::Handshake(request) => Some(request),
            Phase::Open(_) | Phase::Deaf(_) | Phase::Lingering { .. } | Phase::Dead => None,
        }
    }

    /// What is to come before its request, of which nothing has come yet.
    pub(super) fn set_preface(&mut self, preface: Preface) {
        if let Phase::Handshake(request) = &mut self.phase {
            **request = Incoming::behind(preface);
        }
    }

    /// The client's address, if a proxy has said one before the request that is answered now.
    pub(super) fn client(&self) -> Option<SocketAddr> {
        match &self.phase {
            Phase::Handshake(request) => request.client(),
            Phase::Open(_) | Phase::Deaf(_) | Phase::Lingering { .. } | Phase::Dead => None,
        }
    }

    /// The request is granted: from here on it is a WebSocket connection.
    pub(super) fn open(&mut self) {
        self.phase = Phase::Open(Reader::default());
    }

    /// Whether its messages are used.
    pub(super) fn is_open(&self) -> bool {
        matches!(self.phase, Phase::Open(_))
    }

    /// Whether it is a WebSocket connection, which is not over.
    pub(super) fn is_websocket(&self) -> bool {
        matches!(self.phase, Phase::Open(_) | Phase::Deaf(_))
    }

    /// Whether it is over, and only lingers.
    pub(super) fn is_lingering(&self) -> bool {
        matches!(self.phase, Phase::Lingering { .. })
    }

    /// Whether it is finished, and only waits to be freed.
    pub(super) fn is_dead(&self) -> bool {
        matches!(self.phase, Phase::Dead)
    }

    /// The reader of a WebSocket connection.
    pub(super) fn reader(&self) -> Option<&Reader> {
        match &self.phase {
            Phase::Open(reader) | Phase::Deaf(reader) => Some(reader),
            Phase::Handshake(_) | Phase::Lingering { .. } | Phase::Dead => None,
        }
    }

    /// Reads messages and control frames from `input`, while it is open. A pong is appended to the
    /// output.
    #[inline]
    pub(super) fn receive<'a>(
        &mut self,
        input: &'a mut Intake<'_>,
        message_bytes_max: usize,
        spare: &mut Vec<u8>,
    ) -> Received<'a> {
        let Phase::Open(reader) = &mut self.phase else {
            return Received::Nothing;
        };
        let received = reader.next(input, message_bytes_max, spare);
        if matches!(received, Received::Ping) && !self.close_sent {
            frame::encode_pong(reader.ping_payload(), self.socket.outbound());
        }
        received
    }

    /// Lets go of what it does without until more comes.
    pub(super) fn rest(&mut self) {
        if let Phase::Open(reader) = &mut self.phase {
            reader.rest();
        }
    }

    /// Appends a Close frame, or the answer to the peer's, once. Returns whether it is a WebSocket.
    pub(super) fn close(&mut self, reason: &CloseReason) -> bool {
        let (Phase::Open(reader) | Phase::Deaf(reader)) = &self.phase else {
            return false;
        };
        if !std::mem::replace(&mut self.close_sent, true) {
            let outbound = self.socket.outbound();
            match reader.close_payload() {
                None => frame::encode_close(reason, outbound),
                Some(payload) => frame::encode_close_answer(payload, outbound),
            }
        }
        true
    }

    /// How it ends is counted now. Returns whether this is the first time.
    pub(super) fn count_end(&mut self) -> bool {
        !std::mem::replace(&mut self.end_counted, true)
    }

    /// It has to close by a deadline. Returns whether that is new.
    pub(super) fn bound_close(&mut self) -> bool {
        !std::mem::replace(&mut self.close_bounded, true)
    }

    /// Takes the deadline back from an open connection that has not begun to close: it has hung up,
    /// and what it has sent before is read after all. Returns whether there was one.
    pub(super) fn unbound_close(&mut self) -> bool {
        let is_unbound = self.close_bounded && !self.end_counted && self.is_open();
        self.close_bounded &= !is_unbound;
        is_unbound
    }

    /// The checks of its silence begin.
    pub(super) fn begin_silence(&mut self) {
        self.silence.begin();
    }

    /// One more check of its silence. Nothing follows a Close, nor does a ping.
    pub(super) fn check_silence(&mut self) -> Verdict {
        let verdict = self.silence.check(!self.paused);
        if verdict == Verdict::Ping && self.end_counted {
            return Verdict::Wait;
        }
        verdict
    }

    /// The peer has closed its side: nothing more of it is used. Returns whether it was open.
    pub(super) fn deafen(&mut self) -> bool {
        let Phase::Open(reader) = &mut self.phase else {
            return false;
        };
        self.phase = Phase::Deaf(std::mem::take(reader));
        self.stash = Vec::new();
        true
    }

    /// It is over: what waits is sent, and what comes is dropped. Returns whether that is new.
    pub(super) fn linger(&mut self) -> bool {
        let is_new = !self.is_lingering();
        if is_new {
            self.phase = Phase::Lingering {
                half_closed: false,
                was_client: self.is_websocket(),
            };
        }
        self.stash = Vec::new();
        self.paused = false;
        self.socket.assume_readable();
        is_new
    }

    /// Closes our side, if it lingers. Returns the deadline of the peer, if that is new.
    pub(super) fn half_close(&mut self) -> Option<Kind> {
        let Phase::Lingering {
            half_closed: half_closed @ false,
            was_client,
        } = &mut self.phase
        else {
            return None;
        };
        *half_closed = true;
        self.socket.half_close();
        Some(match (was_client, self.entrance) {
            (true, _) => Kind::HalfClosed,
            (false, Entrance::Public) => Kind::Answered,
            (false, Entrance::Admin) => Kind::AdminAnswered,
        })
    }

    /// Bytes that it has received and that are not processed.
    pub(super) fn received(&self) -> usize {
        let begun = match &self.phase {
            Phase::Open(reader) | Phase::Deaf(reader) => reader.held_bytes(),
            Phase::Lingering { .. } | Phase::Dead => 0,
            Phase::Handshake(request) => request.held_bytes(),
        };
        begun + self.stash.len()
    }

    /// Updates its share of the received bytes in `account`.
    pub(super) fn count_received(&mut self, account: &mut Account) {
        let received = self.received();
        account.replace(Held::Received, &mut self.received_counted, received);
    }

    /// Updates its share of the outbound bytes in `account`.
    pub(super) fn count_outbound(&mut self, account: &mut Account) {
        let unsent = self.socket.unsent();
        account.replace(Held::Outbound, &mut self.outbound_counted, unsent);
    }

    /// It is freed: removes its share from `account`.
    pub(super) fn uncount(&mut self, account: &mut Account) {
        account.replace(Held::Received, &mut self.received_counted, 0);
        account.replace(Held::Outbound, &mut self.outbound_counted, 0);
    }

    /// It is finished. Returns whether it was not before.
    pub(super) fn die(&mut self) -> bool {
        let is_new = !self.is_dead();
        self.phase = Phase::Dead;
        is_new
    }
}

/// The first read of a connection, and every read of small frames.
const READ_BYTES_MIN: u32 = 2 << 10;

/// Frames that are smaller on average are small.
const SMALL_FRAME_BYTES: usize = 256;

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, TcpListener};

    use super::*;
    use crate::engine::message::Message;
    use crate::net::frame;
    use crate::net::masked::frame;

    const MAX: usize = 64 << 10;

    fn open() -> Connection {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let mut connection = Connection::new(stream, 0, Entrance::Public);
        connection.open();
        connection
    }

    /// How much the next read takes, after one that frames of this many bytes have filled.
    fn next_read_len(connection: &mut Connection, frame_bytes: usize) -> usize {
        let len = connection.read_len(MAX);
        let binary = |payload: usize| {
            let mut frame = vec![0x82, 0xfe, (payload >> 8) as u8, payload as u8];
            frame.resize(8 + payload, 0);
            frame
        };
        let mut input = binary(frame_bytes - 8).repeat(len / frame_bytes + 1);
        let mut input = Intake::new(&mut input);
        while connection.receive(&mut input, 1 << 20, &mut Vec::new()) != Received::Nothing {}
        connection.adapt(len, input.frames(), MAX);
        connection.read_len(MAX)
    }

    #[test]
    fn a_connection_takes_little_room() {
        // mio's sockets hold 12 bytes more in a debug build.
        let debug_bytes = size_of::<TcpStream>() - size_of::<i32>();
        let bytes = size_of::<Option<Connection>>() - debug_bytes;
        assert!(bytes <= 112, "{bytes} bytes for each, even at rest");
    }

    #[test]
    fn large_frames_are_read_in_large_pieces_and_small_ones_are_not() {
        let mut connection = open();
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
        connection.linger();
        assert_eq!(
            connection.read_len(MAX),
            MAX,
            "what is dropped costs nothing more"
        );
    }

    /// What is sent when this has come.
    fn sent(connection: &mut Connection, bytes: &[u8]) -> Vec<u8> {
        let mut bytes = bytes.to_vec();
        let mut input = Intake::new(&mut bytes);
        while let Received::Message(_) | Received::Ping =
            connection.receive(&mut input, 1 << 20, &mut Vec::new())
        {}
        std::mem::take(connection.socket.outbound())
    }

    #[test]
    fn a_close_is_answered_once_and_after_what_was_sent_before() {
        let mut connection = open();
        assert_eq!(sent(&mut connection, &frame(0x88, &[0x03, 0xe8])), b"");
        assert!(connection.deafen());
        frame::encode_message(b"late", false, connection.socket.outbound());
        for _ in 0..2 {
            assert!(connection.close(&CloseReason::of(1001, "too late")));
        }
        let sent = connection.socket.outbound();
        assert_eq!(sent, b"\x81\x04late\x88\x02\x03\xe8");
    }

    #[test]
    fn messages_are_still_read_after_our_close_and_no_pong_follows_it() {
        let mut connection = open();
        let ping = frame(0x89, b"hi");
        assert_eq!(sent(&mut connection, &ping), b"\x8a\x02hi");
        assert!(connection.close(&CloseReason::of(1001, "")));
        assert_eq!(sent(&mut connection, &ping), b"\x88\x02\x03\xe9");
        let mut late = [frame(0x81, b"late"), frame(0x88, &[0x03, 0xe9])].concat();
        let mut input = Intake::new(&mut late);
        let late = connection.receive(&mut input, 1 << 20, &mut Vec::new());
        assert_eq!(late, Received::Message(Message::Text("late")));
        assert_eq!(
            connection.receive(&mut input, 1 << 20, &mut Vec::new()),
            Received::Closed
        );
        assert!(connection.deafen());
        assert!(connection.close(&CloseReason::of(1000, "")));
        assert_eq!(connection.socket.outbound(), b"", "there is one Close");
    }
}
