//! A message that comes in pieces: put together in one buffer, which is as large as what has come.
//!
//! Text is judged as it comes, and refused at the first byte that no text can go on with (RFC 6455,
//! section 8.1). What is kept of it is known to be text, and need not be judged again.
//!
//! Pure.

use crate::engine::io::CloseReason;
use crate::engine::message::Message;

/// What has come of a message.
#[derive(Debug)]
pub(super) enum Body {
    Text {
        text: String,
        /// The beginning of one more character.
        begun: [u8; 4],
        begun_len: usize,
    },
    Binary(Vec<u8>),
}

/// From this size on, a body takes the spare buffer rather than new memory.
const LARGE_BYTES: usize = 16 << 10;

impl Default for Body {
    fn default() -> Self {
        Self::Binary(Vec::new())
    }
}

impl Body {
    /// Of a message that has begun.
    pub(super) fn new(is_text: bool) -> Self {
        if is_text {
            Self::Text {
                text: String::new(),
                begun: [0; 4],
                begun_len: 0,
            }
        } else {
            Self::default()
        }
    }

    /// How many bytes have come.
    pub(super) fn len(&self) -> usize {
        match self {
            Self::Text {
                text, begun_len, ..
            } => text.len() + begun_len,
            Self::Binary(bytes) => bytes.len(),
        }
    }

    pub(super) fn capacity(&self) -> usize {
        match self {
            Self::Text { text, .. } => text.capacity(),
            Self::Binary(bytes) => bytes.capacity(),
        }
    }

    /// Adds a piece. Where there is no room for it, the buffer doubles, but for bytes that are not to
    /// come: of `left_max` at most, this is the first piece. A large body takes the `spare` buffer,
    /// if there is enough room in it.
    pub(super) fn push(
        &mut self,
        piece: &[u8],
        left_max: usize,
        spare: &mut Vec<u8>,
    ) -> Result<(), CloseReason> {
        let come = self.len();
        if come + piece.len() > self.capacity() {
            self.grow_to(come + piece.len().max(come.min(left_max)), spare);
        }
        match self {
            Self::Text {
                text,
                begun,
                begun_len,
            } => push_text(text, begun, begun_len, piece),
            Self::Binary(bytes) => {
                bytes.extend_from_slice(piece);
                Ok(())
            }
        }
    }

    fn grow_to(&mut self, capacity: usize, spare: &mut Vec<u8>) {
        let takes_spare = (LARGE_BYTES..=spare.capacity()).contains(&capacity);
        match self {
            Self::Text { text, .. } if takes_spare => {
                // Empty, which is text.
                let mut larger = String::from_utf8(std::mem::take(spare)).unwrap_or_default();
                larger.push_str(text);
                *text = larger;
            }
            Self::Binary(bytes) if takes_spare => {
                spare.extend_from_slice(bytes);
                *bytes = std::mem::take(spare);
            }
            Self::Text { text, .. } => text.reserve_exact(capacity - text.len()),
            Self::Binary(bytes) => bytes.reserve_exact(capacity - bytes.len()),
        }
    }

    /// Whether a message may end with what has come.
    pub(super) fn judge_end(&self) -> Result<(), CloseReason> {
        match self {
            Self::Text { begun_len: 1.., .. } => Err(CloseReason::InvalidUtf8),
            Self::Text { .. } | Self::Binary(_) => Ok(()),
        }
    }

    /// The message, when all of it has come.
    pub(super) fn as_message(&self) -> Message<'_> {
        match self {
            Self::Text { text, .. } => Message::Text(text),
            Self::Binary(bytes) => Message::Binary(bytes),
        }
    }

    /// Its buffer, empty.
    pub(super) fn into_buffer(self) -> Vec<u8> {
        let mut buffer = match self {
            Self::Text { text, .. } => text.into_bytes(),
            Self::Binary(bytes) => bytes,
        };
        buffer.clear();
        buffer
    }
}

fn push_text(
    text: &mut String,
    begun: &mut [u8; 4],
    begun_len: &mut usize,
    mut piece: &[u8],
) -> Result<(), CloseReason> {
    while *begun_len > 0
        && let Some((byte, rest)) = piece.split_first()
    {
        // A character has four bytes at most, and one of four is whole or refused.
        begun[*begun_len] = *byte;
        *begun_len += 1;
        let (character, begun) = whole_characters(&begun[..*begun_len])?;
        text.push_str(character);
        *begun_len = begun.len();
        piece = rest;
    }
    let (characters, rest) = whole_characters(piece)?;
    text.push_str(characters);
    begun[*begun_len..][..rest.len()].copy_from_slice(rest);
    *begun_len += rest.len();
    Ok(())
}

/// What a text begins with, and the beginning of a character behind that.
pub(super) fn whole_characters(piece: &[u8]) -> Result<(&str, &[u8]), CloseReason> {
    let error = match str::from_utf8(piece) {
        Ok(characters) => return Ok((characters, &[])),
        Err(error) => error,
    };
    if error.error_len().is_some() {
        return Err(CloseReason::InvalidUtf8);
    }
    let (valid, rest) = piece.split_at(error.valid_up_to());
    Ok((str::from_utf8(valid).unwrap_or_default(), rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_the_same_wherever_it_is_cut() {
        let text = "aé€😀z";
        let bytes = text.as_bytes();
        for first in 0..=bytes.len() {
            for second in first..=bytes.len() {
                let mut body = Body::new(true);
                for piece in [&bytes[..first], &bytes[first..second], &bytes[second..]] {
                    let len = body.len();
                    assert_eq!(body.push(piece, bytes.len(), &mut Vec::new()), Ok(()));
                    assert_eq!(body.len(), len + piece.len());
                }
                assert_eq!(body.judge_end(), Ok(()));
                assert_eq!(body.as_message(), Message::Text(text));
            }
        }
    }

    #[test]
    fn a_text_is_refused_at_the_byte_that_it_cannot_go_on_with() {
        let no_text: [&[u8]; 8] = [
            b"\x80",
            b"\xff",
            b"\xc0",
            b"\xc3a",
            b"\xe2\x82a",
            b"\xed\xa0",
            b"\xf4\x90",
            b"\xf0\x9f\x98a",
        ];
        for bytes in no_text.map(|wrong| [b"ab", wrong].concat()) {
            let last = bytes.len() - 1;
            for cut in 0..=last {
                let mut body = Body::new(true);
                let mut push = |piece: &[u8]| body.push(piece, 99, &mut Vec::new());
                assert_eq!(push(&bytes[..cut]), Ok(()));
                assert_eq!(push(&bytes[cut..last]), Ok(()));
                assert_eq!(
                    push(&bytes[last..]),
                    Err(CloseReason::InvalidUtf8),
                    "{bytes:x?}"
                );
            }
        }
        for begun in ["é", "€", "😀"].map(|text| &text.as_bytes()[..text.len() - 1]) {
            let mut body = Body::new(true);
            assert_eq!(body.push(begun, 99, &mut Vec::new()), Ok(()));
            assert_eq!(body.judge_end(), Err(CloseReason::InvalidUtf8));
        }
    }

    #[test]
    fn a_buffer_takes_no_more_than_twice_what_has_come_nor_more_than_will() {
        for is_text in [true, false] {
            for piece_len in [1, 7, 1_000, 5_000] {
                let (mut body, mut left) = (Body::new(is_text), 100_000);
                while left > 0 {
                    let piece = vec![b'x'; piece_len.min(left)];
                    assert_eq!(body.push(&piece, left, &mut Vec::new()), Ok(()));
                    left -= piece.len();
                    let (len, capacity) = (body.len(), body.capacity());
                    assert!(capacity <= 2 * len, "{capacity} bytes for {len}");
                }
                assert_eq!((body.len(), body.capacity()), (100_000, 100_000));
            }
        }
    }

    #[test]
    fn a_large_body_takes_the_spare_buffer_if_it_is_large_enough() {
        for is_text in [true, false] {
            let mut spare = Vec::with_capacity(100_000);
            let mut body = Body::new(is_text);
            let mut push = |len: usize, spare: &mut Vec<u8>| {
                let pushed = body.push(&vec![b'x'; len], usize::MAX, spare);
                assert_eq!(pushed, Ok(()));
                spare.capacity() > 0
            };
            assert!(push(1_000, &mut spare), "it is small");
            assert!(!push(20_000, &mut spare), "it takes it");
            assert!(!push(70_000, &mut spare));
            let mut small = Vec::with_capacity(50_000);
            assert!(push(10_000, &mut small), "it would have to be larger");
            let bytes = match body.as_message() {
                Message::Text(text) => text.as_bytes(),
                Message::Binary(bytes) => bytes,
            };
            assert!(bytes.iter().all(|byte| *byte == b'x') && bytes.len() == 101_000);
            let spare = body.into_buffer();
            assert_eq!(spare.len(), 0);
            assert!(spare.capacity() >= 101_000);
        }
    }
}
