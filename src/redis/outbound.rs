//! Bytes that the kernel has not taken yet. Must never copy more than it has to: what is taken is
//! skipped, and the room behind it used again once all is gone.

/// A queue of bytes: appended at the back, taken from the front.
#[derive(Default)]
pub(crate) struct Outbound {
    bytes: Vec<u8>,
    taken: usize,
}

impl Outbound {
    /// Appends a command.
    pub(crate) fn push(&mut self, command: &redis::Cmd) {
        command.write_packed_command(&mut self.bytes);
    }

    /// What is to be sent next.
    pub(crate) fn pending(&self) -> &[u8] {
        self.bytes.get(self.taken..).unwrap_or_default()
    }

    /// The kernel has taken the first `count` bytes of what was pending.
    pub(crate) fn consume(&mut self, count: usize) {
        self.taken += count;
        assert!(
            self.taken <= self.bytes.len(),
            "more was taken than there was"
        );
        if self.taken == self.bytes.len() {
            self.clear();
        } else if self.taken >= COMPACT_BYTES && self.taken >= self.bytes.len() / 2 {
            self.bytes.drain(..self.taken);
            self.taken = 0;
        }
    }

    /// Forgets everything.
    pub(crate) fn clear(&mut self) {
        self.bytes.clear();
        self.bytes.shrink_to(KEEP_BYTES);
        self.taken = 0;
    }
}

/// Below this, what was taken may stay in front of what was not.
const COMPACT_BYTES: usize = 16 << 10;
/// Room that an empty queue keeps.
const KEEP_BYTES: usize = 64 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gives_back_every_byte_once_in_whatever_pieces() {
        for piece in [1, 3, 1_000, 30_000, 70_000] {
            let (mut queue, mut sent, mut got) = (Outbound::default(), Vec::new(), Vec::new());
            for size in [10, 40_000, 0, 70_000, 5] {
                let mut command = redis::cmd("SET");
                command.arg(vec![b'x'; size]);
                command.write_packed_command(&mut sent);
                queue.push(&command);
                let count = queue.pending().len().min(piece);
                got.extend_from_slice(&queue.pending()[..count]);
                queue.consume(count);
            }
            while !queue.pending().is_empty() {
                let count = queue.pending().len().min(piece);
                got.extend_from_slice(&queue.pending()[..count]);
                queue.consume(count);
            }
            assert_eq!(got, sent);
        }
    }
}
