//! What one read has brought, used up from its front.
//!
//! Most reads bring whole messages, of one frame each. Such a message is unmasked where it lies and
//! lent from there: no codec, no copy, no allocation. It takes only what it can be sure of: a frame
//! that `validator` would let pass to its last byte, and all of which is there. Everything else it
//! leaves as it is, to be judged and read by the codec.
//!
//! Pure. It knows nothing of what came before: a message may be asked for only while no frame
//! and no fragment is under way.

use super::frame::{long_length, unmask};
use crate::engine::io::CloseReason;
use crate::engine::message::Message;

/// The bytes of a read that are not used yet.
#[derive(Debug)]
pub(crate) struct Intake<'a> {
    rest: &'a mut [u8],
    frames: usize,
}

/// A whole frame at the front: a data message, final and masked.
#[derive(Debug)]
struct Frame {
    is_text: bool,
    mask: [u8; 4],
    payload_at: usize,
    end: usize,
}

impl<'a> Intake<'a> {
    /// What was read, all of it.
    pub(crate) fn new(bytes: &'a mut [u8]) -> Self {
        Self {
            rest: bytes,
            frames: 0,
        }
    }

    /// What is left.
    pub(crate) fn rest(&self) -> &[u8] {
        self.rest
    }

    /// How many frames were taken as messages.
    pub(crate) fn frames(&self) -> usize {
        self.frames
    }

    /// Drops what was used by others: all but the last `len` bytes.
    pub(super) fn keep_last(&mut self, len: usize) {
        let used = self.rest.len().saturating_sub(len);
        self.take(used);
    }

    /// The message at the front, if there is one as most are: in one frame, which is whole. `Err`:
    /// it is a text that is none.
    pub(super) fn take_message(
        &mut self,
        message_bytes_max: usize,
    ) -> Result<Option<Message<'a>>, CloseReason> {
        let Some(frame) = whole_frame(self.rest, message_bytes_max) else {
            return Ok(None);
        };
        self.frames += 1;
        let payload = &mut self.take(frame.end)[frame.payload_at..];
        unmask(payload, frame.mask);
        if !frame.is_text {
            return Ok(Some(Message::Binary(payload)));
        }
        match str::from_utf8(payload) {
            Ok(text) => Ok(Some(Message::Text(text))),
            Err(_) => Err(CloseReason::InvalidUtf8),
        }
    }

    fn take(&mut self, len: usize) -> &'a mut [u8] {
        let (taken, rest) = std::mem::take(&mut self.rest).split_at_mut(len);
        self.rest = rest;
        taken
    }
}

/// Where the first frame has its parts, if it is a data message, whole, and may stand.
fn whole_frame(bytes: &[u8], message_bytes_max: usize) -> Option<Frame> {
    let (&[first, second], rest) = bytes.split_first_chunk()?;
    let is_text = match first {
        FINAL_TEXT => true,
        FINAL_BINARY => false,
        _ => return None,
    };
    let (length, mask_at): (u64, usize) = match second.checked_sub(MASKED)? {
        126 => (long_length(rest.first_chunk::<2>()?).ok()?, 2 + 2),
        127 => (long_length(rest.first_chunk::<8>()?).ok()?, 2 + 8),
        short => (u64::from(short), 2),
    };
    if length > message_bytes_max as u64 {
        return None;
    }
    let payload_at = mask_at + 4;
    // Below the limit, which is a `usize`; bytes that are there have an end that is one.
    let end = payload_at.checked_add(length as usize)?;
    if bytes.len() < end {
        return None;
    }
    Some(Frame {
        is_text,
        mask: *bytes[mask_at..].first_chunk()?,
        payload_at,
        end,
    })
}

/// RFC 6455, section 5.2: FIN, no reserved bit, and the opcode.
const FINAL_TEXT: u8 = 0x81;
const FINAL_BINARY: u8 = 0x82;

/// The bit beside the length.
const MASKED: u8 = 0x80;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::masked::{frame, header};
    use crate::net::validator::Validator;

    const LIMIT: usize = 70_000;

    #[track_caller]
    fn is_left(bytes: &[u8]) {
        let mut copy = bytes.to_vec();
        let mut intake = Intake::new(&mut copy);
        assert_eq!(intake.take_message(LIMIT), Ok(None));
        assert_eq!((intake.rest(), intake.frames()), (bytes, 0));
    }

    #[test]
    fn whole_messages_of_every_length_one_after_the_other() {
        let lens = [0, 1, 3, 4, 7, 8, 20, 125, 126, 65_535, 65_536, LIMIT];
        let payloads: Vec<Vec<u8>> = lens
            .map(|len| (0..len).map(|index| (index % 101) as u8).collect())
            .into();
        let frames = payloads.iter().map(|payload| frame(0x82, payload));
        let mut bytes = frames.collect::<Vec<_>>().concat();
        let rest = [&frame(0x81, "é€😀".as_bytes())[..], &[0x81]].concat();
        bytes.extend(&rest);
        let mut intake = Intake::new(&mut bytes);
        for payload in &payloads {
            let message = intake.take_message(LIMIT).unwrap();
            assert_eq!(message, Some(Message::Binary(payload)));
        }
        assert_eq!(intake.rest(), rest);
        let message = intake.take_message(LIMIT);
        assert_eq!(message, Ok(Some(Message::Text("é€😀"))));
        assert_eq!(intake.take_message(LIMIT), Ok(None));
        assert_eq!((intake.rest(), intake.frames()), (&[0x81][..], 13));
    }

    #[test]
    fn what_is_not_whole_is_left_as_it_is() {
        for len in [4, 200, 65_536] {
            let bytes = frame(0x81, &vec![b'x'; len]);
            for cut in (0..20).chain([bytes.len() - 1]) {
                is_left(&bytes[..cut.min(bytes.len() - 1)]);
            }
        }
        is_left(&frame(0x82, &vec![0; LIMIT + 1]));
        is_left(&header(0x82, 0xff, u64::MAX));
    }

    #[test]
    fn nothing_is_taken_that_the_validator_would_refuse() {
        for [first, second] in (0..=u16::MAX).map(u16::to_be_bytes) {
            let lengths = match second & 0x7f {
                126 => vec![0, 125, 126, 65_535],
                127 => vec![0, 65_535, 65_536, LIMIT as u64, 70_001, 1 << 63],
                short => vec![u64::from(short)],
            };
            for length in lengths {
                let mut bytes = header(first, second, length);
                // As much as a frame that is taken can have.
                let len = bytes.len() + length.min(LIMIT as u64) as usize;
                bytes.resize(len, 0);
                let is_data = matches!(first, 0x81 | 0x82);
                let passes = is_data && Validator::new(LIMIT).check(&bytes) == bytes.len();
                let message = Intake::new(&mut bytes).take_message(LIMIT);
                let taken = matches!(message, Ok(Some(_)));
                assert_eq!(taken, passes, "{first:#x} {second:#x} {length}");
            }
        }
    }

    #[test]
    fn a_text_that_is_none_is_refused() {
        for text in [&b"ab\x80cd"[..], b"ab\xc3", b"\xed\xa0\x80", b"\xff"] {
            let mut bytes = frame(0x81, text);
            let refused = Intake::new(&mut bytes).take_message(LIMIT);
            assert_eq!(refused, Err(CloseReason::InvalidUtf8), "{text:?}");
            let mut bytes = frame(0x82, text);
            let message = Intake::new(&mut bytes).take_message(LIMIT);
            assert_eq!(message, Ok(Some(Message::Binary(text))));
        }
    }

    #[test]
    fn what_others_have_used_is_dropped() {
        let mut bytes = *b"abcd";
        let mut intake = Intake::new(&mut bytes);
        intake.keep_last(3);
        assert_eq!(intake.rest(), b"bcd");
        intake.keep_last(0);
        assert_eq!(intake.rest(), b"");
    }
}
