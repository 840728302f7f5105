//! UTF-8 that comes in pieces, cut anywhere: refused at the first byte that no text can go on with.
//!
//! Pure. It holds an unfinished character and never the text. Its cases are those of
//! `tests/conformance`.

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
