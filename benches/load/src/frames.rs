//! Frames as a client makes and takes them: one masked frame, repeated, to send from, and a reader
//! that finds the frames in what a server sends.
//!
//! It is written for speed and for a server that keeps to the protocol. It must never share code
//! with the server, whose codec is what is measured.

use std::io;

/// Section 5.3 of RFC 6455 wants a mask that nobody can foresee. Here it is always this one, so
/// that a frame is made once.
const MASK: [u8; 4] = [0x5a, 0x13, 0xc7, 0x8e];

pub(crate) const TEXT: u8 = 1;
pub(crate) const CLOSE: u8 = 8;

/// One text frame, as often as fits, to send any number of them from any place in one.
pub(crate) struct Template {
    bytes: Vec<u8>,
    pub(crate) frame_len: usize,
    pub(crate) payload_len: usize,
}

/// Small frames that wait together are sent together.
const TEMPLATE_BYTES: usize = 16 << 10;

impl Template {
    pub(crate) fn new(payload_len: usize) -> Self {
        let frame = masked(TEXT, &vec![b'x'; payload_len]);
        Self {
            frame_len: frame.len(),
            payload_len,
            bytes: frame.repeat((TEMPLATE_BYTES / frame.len()).max(1)),
        }
    }

    /// The next bytes to send, of `wanted` from `at` in a frame.
    pub(crate) fn slice(&self, at: usize, wanted: usize) -> &[u8] {
        let end = self.bytes.len().min(at + wanted);
        &self.bytes[at..end]
    }
}

/// A frame from a client.
pub(crate) fn masked(opcode: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![0x80 | opcode];
    match payload.len() {
        len @ ..126 => frame.push(0x80 | len as u8),
        len @ ..0x1_0000 => {
            frame.push(0x80 | 126);
            frame.extend((len as u16).to_be_bytes());
        }
        len => {
            frame.push(0x80 | 127);
            frame.extend((len as u64).to_be_bytes());
        }
    }
    frame.extend(MASK);
    let masks = MASK.iter().cycle();
    frame.extend(payload.iter().zip(masks).map(|(byte, mask)| byte ^ mask));
    frame
}

/// A frame that a server has sent.
#[derive(Clone, Copy)]
pub(crate) struct Frame<'a> {
    pub(crate) opcode: u8,
    pub(crate) len: usize,
    /// All of it, if it is short; of a long one, nothing.
    pub(crate) payload: &'a [u8],
}

/// Where in a frame the next byte of a connection stands.
#[derive(Default)]
pub(crate) struct Reader {
    /// A header or a short frame, in pieces.
    partial: Vec<u8>,
    /// The frame whose payload is passing by, and how much of it is to come.
    opcode: u8,
    len: usize,
    left: usize,
}

/// Payloads up to this length are handed over whole.
const SHORT_BYTES: usize = 125;

impl Reader {
    /// Takes the next bytes, and tells of each frame that they complete.
    pub(crate) fn take(
        &mut self,
        mut bytes: &[u8],
        tell: &mut impl FnMut(Frame<'_>) -> io::Result<()>,
    ) -> io::Result<()> {
        while !bytes.is_empty() {
            if self.left > 0 {
                let len = self.left.min(bytes.len());
                self.left -= len;
                bytes = &bytes[len..];
                if self.left == 0 {
                    tell(self.passed())?;
                }
            } else if self.partial.is_empty() {
                let used = self.take_frame(bytes, tell)?;
                if used == 0 {
                    self.partial.extend_from_slice(bytes);
                    return Ok(());
                }
                bytes = &bytes[used..];
            } else {
                // Byte by byte: a header or a short frame was cut, which is rare.
                self.partial.push(bytes[0]);
                bytes = &bytes[1..];
                let partial = std::mem::take(&mut self.partial);
                if self.take_frame(&partial, tell)? == 0 {
                    self.partial = partial;
                }
            }
        }
        Ok(())
    }

    fn passed(&self) -> Frame<'static> {
        Frame {
            opcode: self.opcode,
            len: self.len,
            payload: &[],
        }
    }

    /// Takes a short frame, or the header of a long one; answers how many bytes that were, and 0 if
    /// it is not complete.
    fn take_frame(
        &mut self,
        bytes: &[u8],
        tell: &mut impl FnMut(Frame<'_>) -> io::Result<()>,
    ) -> io::Result<usize> {
        let [first, second, ..] = *bytes else {
            return Ok(0);
        };
        if second & 0x80 != 0 || first & 0x70 != 0 {
            return Err(io::Error::other("not a frame from a server"));
        }
        let (header, len) = match second {
            126 if bytes.len() >= 4 => (4, usize::from(bytes[2]) << 8 | usize::from(bytes[3])),
            127 if bytes.len() >= 10 => {
                let long = bytes[2..10].iter();
                (10, long.fold(0, |sum, byte| sum << 8 | usize::from(*byte)))
            }
            126 | 127 => return Ok(0),
            len => (2, usize::from(len)),
        };
        let opcode = first & 0x0f;
        if len <= SHORT_BYTES {
            let Some(payload) = bytes.get(header..header + len) else {
                return Ok(0);
            };
            tell(Frame {
                opcode,
                len,
                payload,
            })?;
            return Ok(header + len);
        }
        (self.opcode, self.len, self.left) = (opcode, len, len);
        Ok(header)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The lengths of the frames in `pieces`, taken one after the other.
    fn lens(pieces: &[&[u8]]) -> Vec<usize> {
        let (mut reader, mut lens) = (Reader::default(), Vec::new());
        for piece in pieces {
            let taken = reader.take(piece, &mut |frame| {
                lens.push(frame.len);
                Ok(())
            });
            taken.unwrap();
        }
        lens
    }

    #[test]
    fn frames_are_found_wherever_they_are_cut() {
        let mut bytes = vec![0x81, 3, 1, 2, 3, 0x82, 0];
        bytes.extend([0x82, 126, 1, 0]);
        bytes.resize(bytes.len() + 256, 7);
        bytes.extend([0x82, 127, 0, 0, 0, 0, 0, 0, 1, 1]);
        bytes.resize(bytes.len() + 257, 7);
        bytes.extend([0x81, 1, 9]);
        let expected = [3, 0, 256, 257, 1];
        for cut in 0..=bytes.len() {
            let (head, tail) = bytes.split_at(cut);
            assert_eq!(lens(&[head, tail]), expected, "cut at {cut}");
        }
        let single: Vec<&[u8]> = bytes.chunks(1).collect();
        assert_eq!(lens(&single), expected, "byte by byte");
    }

    #[test]
    fn a_template_is_the_same_frame_from_wherever_it_is_sent() {
        for payload_len in [20, 1_024, 70_000] {
            let template = Template::new(payload_len);
            let frame = masked(TEXT, &vec![b'x'; payload_len]);
            let (mut sent, mut left) = (Vec::new(), frame.len() * 3);
            while left > 0 {
                let at = sent.len() % template.frame_len;
                let piece = template.slice(at, left);
                let piece = &piece[..piece.len().min(1_000)];
                sent.extend_from_slice(piece);
                left -= piece.len();
            }
            assert!(sent == frame.repeat(3), "{payload_len}");
        }
    }
}
