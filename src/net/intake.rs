//! What one read has brought, used up from its front.
//!
//! It lends whole messages: those that lie in the bytes of the read, and the one that `reader` has
//! put together of several. It judges nothing.

use super::body::Body;
use crate::engine::message::Message;

/// What came of a read and is not used yet.
#[derive(Debug, Default)]
pub struct Intake<'b> {
    rest: &'b mut [u8],
    /// How many bytes there were.
    len: usize,
    /// How many frames have begun in what was used.
    frames: usize,
    /// The message that was put together last.
    message: Option<Box<Body>>,
}

impl<'b> Intake<'b> {
    /// What was read, all of it.
    pub fn new(bytes: &'b mut [u8]) -> Self {
        Self {
            len: bytes.len(),
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
        self.len - self.rest.len()
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
    pub(super) fn lend(&mut self, message: Body) -> Message<'_> {
        self.message.insert(Box::new(message)).as_message()
    }

    /// The buffer of the message that was put together last, empty.
    pub(super) fn take_buffer(&mut self) -> Option<Vec<u8>> {
        self.message.take().map(|message| message.into_buffer())
    }
}
