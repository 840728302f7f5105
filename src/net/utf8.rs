//! UTF-8 that comes in pieces, cut anywhere: refused at the first byte that no text can go on with.
//!
//! Pure. It holds an unfinished character and never the text.

/// What is known of a text so far.
#[derive(Debug, Default)]
pub(super) struct Utf8 {
    /// The beginning of a character.
    begun: [u8; 4],
    begun_len: usize,
}

impl Utf8 {
    /// Whether the text with this piece is the beginning of some text.
    #[must_use]
    pub(super) fn push(&mut self, mut piece: &[u8]) -> bool {
        while self.begun_len > 0
            && let Some((byte, rest)) = piece.split_first()
        {
            // A character has four bytes at most, and one of four is whole or refused.
            self.begun[self.begun_len] = *byte;
            self.begun_len += 1;
            match str::from_utf8(&self.begun[..self.begun_len]) {
                Ok(_) => self.begun_len = 0,
                Err(error) if error.error_len().is_some() => return false,
                Err(_) => {}
            }
            piece = rest;
        }
        let Err(error) = str::from_utf8(piece) else {
            return true;
        };
        let begun = &piece[error.valid_up_to()..];
        if error.error_len().is_some() {
            return false;
        }
        self.begun[..begun.len()].copy_from_slice(begun);
        self.begun_len = begun.len();
        true
    }

    /// Whether the text may end here.
    pub(super) fn is_whole(&self) -> bool {
        self.begun_len == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many bytes are taken before one is refused, however the text is cut.
    #[track_caller]
    fn check(bytes: &[u8], taken: usize, whole: bool) {
        for cut in 0..=taken {
            let mut text = Utf8::default();
            assert!(text.push(&bytes[..cut]) && text.push(&bytes[cut..taken]));
            assert_eq!(text.is_whole(), whole, "cut at {cut}");
            for end in taken + 1..=bytes.len() {
                let mut text = Utf8::default();
                assert!(text.push(&bytes[..cut]));
                assert!(!text.push(&bytes[cut..end]), "cut at {cut} and {end}");
            }
        }
        let mut text = Utf8::default();
        let one_by_one = bytes.iter().take_while(|byte| text.push(&[**byte]));
        assert_eq!(one_by_one.count(), taken);
    }

    #[test]
    fn texts_cut_anywhere() {
        check(b"", 0, true);
        check(
            "aé€😀\u{7f}\u{80}\u{7ff}\u{800}\u{ffff}\u{10000}\u{10ffff}".as_bytes(),
            29,
            true,
        );
        check("é€".as_bytes().split_last().unwrap().1, 4, false);
    }

    #[test]
    fn the_first_byte_that_cannot_be_is_refused() {
        check(b"ab\x80c", 2, true);
        check(b"\xc3(", 1, false);
        check(b"\xc0\xaf", 0, true);
        check(b"\xe0\x9f\xbf", 1, false);
        check(b"\xed\xa0\x80", 1, false);
        check(b"\xf0\x9f\x98z", 3, false);
        check(b"\xf4\x90\x80\x80", 1, false);
        check(b"\xf5\x80", 0, true);
        check(b"\xff", 0, true);
    }
}
