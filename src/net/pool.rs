//! The pool of buffers for output. A connection at rest has none.
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
    buffers: Vec<Vec<u8>>,
}

/// Buffers are under way from a message to the end of the turn, which serves many.
const BUFFERS_MAX: usize = 256;

/// An outbound buffer larger than this is freed when it is empty.
pub(super) const BUFFER_BYTES_MAX: usize = 4 << 10;

impl Pool {
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
