//! The pool of codecs and of buffers for output. A connection at rest has neither.
//!
//! Most connections are silent most of the time. One that has nothing under way gives both back,
//! and takes the next best when something comes; so ten thousand silent ones hold nothing of the
//! kind, and those that speak share what is still warm in the cache. It is bounded: what is too
//! many or too large is freed.
//!
//! It knows no connection. Only a codec [`WebSocket::is_at_rest`] of may be given to it: it must
//! never carry a byte from one peer to another.

use super::websocket::WebSocket;

/// Codecs and buffers that no connection has; the last that came is the next that goes.
#[derive(Debug)]
pub(super) struct Pool {
    message_bytes_max: usize,
    #[expect(
        clippy::vec_box,
        reason = "they move by pointer, to and from connections"
    )]
    codecs: Vec<Box<WebSocket>>,
    /// One of the codecs has a large buffer.
    has_large: bool,
    buffers: Vec<Vec<u8>>,
}

/// Few are under way at the same time: one read is used up before the next is made.
const CODECS_MAX: usize = 32;

/// A codec's buffer becomes as large as the longest frame that it has seen. There may be one that
/// has seen longer ones than this, so that a peer who sends such frames alone has it to itself, ...
const SMALL_FRAME_BYTES_MAX: u64 = 4 << 10;

/// ... unless they were longer than even this.
const LARGE_FRAME_BYTES_MAX: u64 = 1 << 20;

/// Buffers are under way from a message to the end of the turn, which serves many.
const BUFFERS_MAX: usize = 256;

/// An outbound buffer larger than this is freed when it is empty.
pub(super) const BUFFER_BYTES_MAX: usize = 4 << 10;

impl Pool {
    /// An empty pool. Its codecs accept messages of `message_bytes_max` at most.
    pub(super) fn new(message_bytes_max: usize) -> Self {
        Self {
            message_bytes_max,
            codecs: Vec::new(),
            has_large: false,
            buffers: Vec::new(),
        }
    }

    /// A codec in the state in which a connection begins.
    pub(super) fn take_codec(&mut self) -> Box<WebSocket> {
        let Some(codec) = self.codecs.pop() else {
            return Box::new(WebSocket::new(self.message_bytes_max));
        };
        if codec.frame_bytes_max() > SMALL_FRAME_BYTES_MAX {
            self.has_large = false;
        }
        codec
    }

    /// Takes back a codec, which is at rest.
    pub(super) fn keep_codec(&mut self, codec: Box<WebSocket>) {
        debug_assert!(codec.is_at_rest(), "{codec:?}");
        if self.codecs.len() >= CODECS_MAX {
            return;
        }
        if codec.frame_bytes_max() > SMALL_FRAME_BYTES_MAX {
            if self.has_large || codec.frame_bytes_max() > LARGE_FRAME_BYTES_MAX {
                return;
            }
            self.has_large = true;
        }
        self.codecs.push(codec);
    }

    /// Gives `buffer` memory from the pool, if it has none.
    pub(super) fn lend_buffer(&mut self, buffer: &mut Vec<u8>) {
        if buffer.capacity() == 0
            && let Some(spare) = self.buffers.pop()
        {
            *buffer = spare;
        }
    }

    /// Takes back a buffer, which is empty.
    pub(super) fn keep_buffer(&mut self, buffer: &mut Vec<u8>) {
        debug_assert!(buffer.is_empty(), "{buffer:?}");
        let buffer = std::mem::take(buffer);
        let is_useful = (1..=BUFFER_BYTES_MAX).contains(&buffer.capacity());
        if is_useful && self.buffers.len() < BUFFERS_MAX {
            self.buffers.push(buffer);
        }
    }

    /// Frees all, when no connection is left.
    pub(super) fn clear(&mut self) {
        *self = Self::new(self.message_bytes_max);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::io::CloseReason;
    use crate::engine::message::Message;
    use crate::net::frame::encode_message;
    use crate::net::masked::frame;
    use crate::net::websocket::Received;

    const LIMIT: usize = 100;

    /// A peer, as its connection sees it: an echo, with a codec while something is under way.
    #[derive(Default)]
    struct Peer {
        codec: Option<Box<WebSocket>>,
        sent: Vec<u8>,
        over: bool,
    }

    impl Peer {
        fn receive(&mut self, mut input: &[u8], pool: &mut Pool, rests: bool) {
            while !self.over {
                let codec = self.codec.get_or_insert_with(|| pool.take_codec());
                match codec.receive(&mut input, &mut self.sent) {
                    Received::Nothing => break,
                    Received::Control => {}
                    Received::Message(payload) => {
                        encode_message(b"echo", false, &mut self.sent);
                        let bytes = match payload.as_message() {
                            Message::Text(text) => text.as_bytes(),
                            Message::Binary(bytes) => bytes,
                        };
                        encode_message(bytes, false, &mut self.sent);
                    }
                    Received::Closed => {
                        codec.close(&CloseReason::of(1000, ""), &mut self.sent);
                        self.over = true;
                    }
                    Received::Failed(reason) => {
                        codec.close(&reason, &mut self.sent);
                        self.over = true;
                    }
                }
                self.rest(pool, rests);
            }
            self.rest(pool, rests);
        }

        /// As early as it may: behind each message, and not only when the input is used up.
        fn rest(&mut self, pool: &mut Pool, rests: bool) {
            let codec = self.codec.take_if(|codec| rests && codec.is_at_rest());
            if let Some(codec) = codec {
                assert!(!self.over, "a codec is not used again after a Close");
                pool.keep_codec(codec);
            }
        }
    }

    /// What a peer is sent for `bytes`, cut at these places; `between` are pieces of another peer,
    /// each of which comes after one of its own, and both take their codecs from the same pool.
    fn exchange(bytes: &[u8], cuts: [usize; 2], between: &[&[u8]], rests: bool) -> Vec<u8> {
        let mut pool = Pool::new(LIMIT);
        let (mut peer, mut other) = (Peer::default(), Peer::default());
        let pieces = [
            &bytes[..cuts[0]],
            &bytes[cuts[0]..cuts[1]],
            &bytes[cuts[1]..],
        ];
        for (index, piece) in pieces.into_iter().enumerate() {
            peer.receive(piece, &mut pool, rests);
            if let Some(foreign) = between.get(index) {
                other.receive(foreign, &mut pool, rests);
            }
        }
        peer.sent
    }

    #[test]
    fn whatever_is_cut_anywhere_ends_the_same_with_codecs_that_others_had() {
        let euro = "a €".as_bytes();
        let streams = [
            [frame(0x81, euro), frame(0x82, b"xyz")].concat(),
            [
                frame(0x01, &euro[..3]),
                frame(0x89, b"p"),
                frame(0x80, &euro[3..]),
            ]
            .concat(),
            [frame(0x89, b"one"), frame(0x89, b"two"), frame(0x8a, b"")].concat(),
            [
                frame(0x02, &[7; 60]),
                frame(0x00, &[]),
                frame(0x80, &[7; 41]),
            ]
            .concat(),
            [frame(0x81, b"a"), frame(0x88, &[3, 0xe9, b'b', b'y', b'e'])].concat(),
            [frame(0x81, b"a"), frame(0x81, b"\xff")].concat(),
            [frame(0x81, b"a"), frame(0x80, b"")].concat(),
        ];
        let whole = frame(0x81, b"whole");
        let others: [[&[u8]; 2]; 4] = [
            [&whole, &whole],
            [&whole[..3], &whole[3..]],
            [&[0x01, 0x80, 0, 0, 0, 0], &[0x89, 0x80, 0]],
            [&[0x88, 0x80, 0, 0, 0, 0], &[]],
        ];
        for stream in &streams {
            let expected = exchange(stream, [stream.len(); 2], &[], false);
            for first in 0..=stream.len() {
                for second in first..=stream.len() {
                    for between in &others {
                        let sent = exchange(stream, [first, second], between, true);
                        assert_eq!(sent, expected, "{stream:x?} cut at {first} and {second}");
                    }
                }
            }
        }
    }

    #[test]
    fn rest_is_between_messages_and_nowhere_else() {
        let bytes = [
            frame(0x01, b"a"),
            frame(0x89, b""),
            frame(0x80, b"b"),
            frame(0x89, b""),
        ];
        let ends = [0, bytes[..3].concat().len(), bytes.concat().len()];
        let bytes = bytes.concat();
        for cut in 0..=bytes.len() {
            let mut peer = Peer::default();
            peer.receive(&bytes[..cut], &mut Pool::new(LIMIT), true);
            assert_eq!(peer.codec.is_none(), ends.contains(&cut), "cut at {cut}");
        }
        let mut closed = WebSocket::new(LIMIT);
        assert!(closed.is_at_rest());
        closed.close(&CloseReason::of(1001, ""), &mut Vec::new());
        assert!(!closed.is_at_rest());
    }

    /// A codec that has seen a frame with a payload of this length.
    fn used(pool: &mut Pool, length: usize) -> Box<WebSocket> {
        let mut codec = pool.take_codec();
        let bytes = frame(0x82, &vec![0; length]);
        let (mut input, mut output) = (bytes.as_slice(), Vec::new());
        while !matches!(codec.receive(&mut input, &mut output), Received::Nothing) {}
        codec
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let mut pool = Pool::new(2 << 20);
        let mut give = |lengths: &[usize]| {
            let codecs: Vec<_> = lengths.iter().map(|len| used(&mut pool, *len)).collect();
            for codec in codecs {
                pool.keep_codec(codec);
            }
            pool.codecs.len()
        };
        assert_eq!(give(&[5_000, 5_000]), 1, "one large codec");
        assert_eq!(give(&[5_000, 100]), 2, "the large one went, and came back");
        assert_eq!(
            give(&[(1 << 20) + 1]),
            1,
            "the last was the first, and is too large now"
        );
        assert_eq!(give(&[5_000]), 1);
        assert_eq!(give(&[(1 << 20) + 1]), 0);
        assert_eq!(give(&[5_000]), 1, "there is no large one any more");
        assert_eq!(give(&[1; CODECS_MAX + 5]), CODECS_MAX);

        for bytes in [0, BUFFER_BYTES_MAX + 1] {
            pool.keep_buffer(&mut Vec::with_capacity(bytes));
            assert_eq!(pool.buffers.len(), 0, "{bytes} bytes");
        }
        for _ in 0..BUFFERS_MAX + 5 {
            pool.keep_buffer(&mut Vec::with_capacity(100));
        }
        assert_eq!(pool.buffers.len(), BUFFERS_MAX);
        let mut buffer = Vec::new();
        pool.lend_buffer(&mut buffer);
        assert_eq!(
            (buffer.capacity(), pool.buffers.len()),
            (100, BUFFERS_MAX - 1)
        );
        pool.lend_buffer(&mut buffer);
        assert_eq!(pool.buffers.len(), BUFFERS_MAX - 1, "it has one");
    }
}
