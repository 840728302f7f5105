//! What one read has brought, used up from its front.
//!
//! It lends whole messages: those that lie in the bytes of the read, and the one that `reader` has
//! put together of several. It judges nothing.

/// The bytes of a read that are not used yet.
#[derive(Debug, Default)]
pub struct Intake<'b> {
    rest: &'b mut [u8],
    /// Bytes that were read, and those of them that went into a message's own buffer are not in
    /// `rest`.
    read: usize,
    frames: usize,
    /// The message that was put together last.
    message: Vec<u8>,
}

impl<'b> Intake<'b> {
    /// What was read, all of it.
    pub fn new(bytes: &'b mut [u8]) -> Self {
        Self {
            read: bytes.len(),
            rest: bytes,
            ..Self::default()
        }
    }

    /// What is left.
    pub fn rest(&self) -> &[u8] {
        self.rest
    }

    /// How much has been used.
    pub(crate) fn used(&self) -> usize {
        self.read - self.rest.len()
    }

    /// How many frames have begun in it.
    pub(crate) fn frames(&self) -> usize {
        self.frames
    }

    /// Drops what is left.
    pub(super) fn clear(&mut self) {
        self.rest = &mut [];
    }

    /// Takes a header from the front, or the rest of one: a frame has begun.
    pub(super) fn take_header(&mut self, len: usize) {
        self.frames += 1;
        self.take(len);
    }

    /// Takes bytes from the front, as many as there are of `len`.
    pub(super) fn take(&mut self, len: usize) -> &'b mut [u8] {
        let len = len.min(self.rest.len());
        let (taken, rest) = std::mem::take(&mut self.rest).split_at_mut(len);
        self.rest = rest;
        taken
    }

    /// Keeps a message that was put together, to lend it until the next one.
    pub(super) fn lend(&mut self, message: Vec<u8>) -> &[u8] {
        self.message = message;
        &self.message
    }
}
