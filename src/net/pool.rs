//! The pool of buffers: for output, and one for a large message. A connection at rest has neither.
//!
//! Most connections are silent most of the time. One whose output is on its way gives its buffer
//! back, and takes the next best when something is to be sent; so ten thousand silent ones hold
//! nothing of the kind, and those that speak share what is still warm in the cache. It is bounded:
//! what is too many or too large is freed.
//!
//! It knows no connection.

/// Buffers that no connection has; the last that came is the next that goes.
#[derive(Debug, Default)]
pub(super) struct Pool {
    /// For output.
    buffers: Vec<Vec<u8>>,
    /// What they take together.
    bytes: usize,
    /// For the next large message, if it has memory.
    spare: Vec<u8>,
}

/// Buffers for output are under way from a message to the end of the turn, which serves many.
const BUFFERS_MAX: usize = 256;

/// So much is kept of them: the kernel has to clear each page that an allocator gives back and asks
/// for again.
const BYTES_MAX: usize = 1 << 20;

/// An outbound buffer larger than this is freed when it is empty: it would be most of them.
const BUFFER_BYTES_MAX: usize = 64 << 10;

/// One buffer of a message is kept, the largest of up to this size.
const SPARE_BYTES_MAX: usize = 1 << 20;

impl Pool {
    /// Gives `buffer` memory from the pool, if it has none.
    pub(super) fn lend_buffer(&mut self, buffer: &mut Vec<u8>) {
        if buffer.capacity() == 0
            && let Some(kept) = self.buffers.pop()
        {
            self.bytes -= kept.capacity();
            *buffer = kept;
        }
    }

    /// Takes back a buffer, which is empty.
    pub(super) fn keep_buffer(&mut self, buffer: &mut Vec<u8>) {
        debug_assert!(buffer.is_empty(), "{buffer:?}");
        let buffer = std::mem::take(buffer);
        let is_useful = (1..=BUFFER_BYTES_MAX).contains(&buffer.capacity());
        let has_room = self.buffers.len() < BUFFERS_MAX;
        if is_useful && has_room && self.bytes + buffer.capacity() <= BYTES_MAX {
            self.bytes += buffer.capacity();
            self.buffers.push(buffer);
        }
    }

    /// Where there is a buffer for the next large message, if there is one.
    pub(super) fn spare(&mut self) -> &mut Vec<u8> {
        &mut self.spare
    }

    /// Takes back the buffer of a message, which is empty.
    #[cold]
    pub(super) fn keep_spare(&mut self, buffer: Vec<u8>) {
        if (self.spare.capacity() + 1..=SPARE_BYTES_MAX).contains(&buffer.capacity()) {
            self.spare = buffer;
        }
    }

    /// Frees all, when no connection is left.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_is_bounded() {
        let mut pool = Pool::default();
        for bytes in [0, BUFFER_BYTES_MAX + 1] {
            pool.keep_buffer(&mut Vec::with_capacity(bytes));
            assert_eq!(pool.buffers.len(), 0, "{bytes} bytes");
        }
        for (bytes, kept) in [(BUFFER_BYTES_MAX, 15), (4 << 10, 15 + 16), (1, 15 + 16)] {
            for _ in 0..if kept == 15 { 15 } else { 20 } {
                pool.keep_buffer(&mut Vec::with_capacity(bytes));
            }
            assert_eq!(pool.buffers.len(), kept, "of {bytes} bytes");
        }
        assert_eq!(pool.bytes, BYTES_MAX);
        let mut buffer = Vec::new();
        for _ in 0..2 {
            // The second time, it has one.
            pool.lend_buffer(&mut buffer);
            assert_eq!((buffer.capacity(), pool.buffers.len()), (4 << 10, 30));
        }
        pool.keep_buffer(&mut buffer);
        assert_eq!(pool.buffers.len(), 31, "there is room for it again");

        pool.clear();
        for _ in 0..BUFFERS_MAX + 5 {
            pool.keep_buffer(&mut Vec::with_capacity(1));
        }
        assert_eq!(pool.buffers.len(), BUFFERS_MAX);
    }

    #[test]
    fn one_buffer_of_a_message_is_kept_the_largest_within_its_limit() {
        let mut pool = Pool::default();
        for (bytes, kept) in [
            (0, 0),
            (20, 20),
            (10, 20),
            (SPARE_BYTES_MAX + 1, 20),
            (SPARE_BYTES_MAX, SPARE_BYTES_MAX),
        ] {
            pool.keep_spare(Vec::with_capacity(bytes));
            assert_eq!(pool.spare().capacity(), kept, "of {bytes} bytes");
        }
        pool.clear();
        assert_eq!(pool.spare().capacity(), 0);
    }
}
