//! Where a reply ends: bytes as they come to whole values. Pure.
//!
//! redis-rs is given whole replies only. Its parser can be fed in pieces, but takes a mistake that
//! lies just before a cut for a reply that goes on, and goes on behind it: the next reply would
//! then answer the wrong request. Must give the same answer however the bytes were cut.

use redis::Value;

/// What was received and is not a whole reply yet.
#[derive(Default)]
pub(crate) struct Framing {
    bytes: Vec<u8>,
    /// Where the first reply begins: what was taken is dropped when there is no more of it.
    start: usize,
    /// How far into that reply all has been understood.
    at: usize,
    /// From `at` on, so many bytes hold no end of a line.
    searched: usize,
    /// Values that are missing to the first reply's end, nested ones included; 0 before it begins.
    missing: u64,
}

/// No reply begins like this, or it would have no end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unusable {
    Garbage,
    Endless,
}

impl Framing {
    /// Takes in what has come.
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// The next whole reply. After an error there is none.
    pub(crate) fn next(&mut self) -> Result<Option<Value>, Unusable> {
        let Some(len) = self.whole_len()? else {
            self.bytes.drain(..self.start);
            self.start = 0;
            if self.bytes.is_empty() {
                self.bytes.shrink_to(KEEP_BYTES);
            }
            if self.bytes.len() > REPLY_BYTES_MAX {
                return Err(Unusable::Endless);
            }
            return Ok(None);
        };
        let reply = &self.bytes[self.start..self.start + len];
        let value = redis::parse_redis_value(reply);
        self.start += len;
        self.at = 0;
        value.map(Some).map_err(|_| Unusable::Garbage)
    }

    /// Forgets everything.
    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }

    /// How long the first reply is, once all of it is there.
    fn whole_len(&mut self) -> Result<Option<usize>, Unusable> {
        if self.missing == 0 {
            self.missing = 1;
        }
        while self.missing > 0 {
            let Some((len, values)) = self.part()? else {
                return Ok(None);
            };
            self.at += len;
            self.searched = 0;
            self.missing = (self.missing - 1)
                .checked_add(values)
                .ok_or(Unusable::Garbage)?;
            if self.at > REPLY_BYTES_MAX {
                return Err(Unusable::Endless);
            }
        }
        Ok(Some(self.at))
    }

    /// The part at `at`, if all of it is there: its length, and how many values it announces.
    fn part(&mut self) -> Result<Option<(usize, u64)>, Unusable> {
        let rest = &self.bytes[self.start + self.at..];
        let Some((&kind, line)) = rest.split_first() else {
            return Ok(None);
        };
        if !b"+-:_#,($!=*~>%|".contains(&kind) {
            return Err(Unusable::Garbage);
        }
        let unsearched = &line[self.searched..];
        let Some(end) = unsearched.windows(2).position(|two| two == b"\r\n") else {
            self.searched = line.len().saturating_sub(1);
            return Ok(None);
        };
        let line = &line[..self.searched + end];
        let line_len = 1 + line.len() + 2;
        let values = |each: u64, more: u64| {
            let count = u64::try_from(announced(line)?).unwrap_or(0);
            let values = count.checked_mul(each).and_then(|n| n.checked_add(more));
            values.ok_or(Unusable::Garbage)
        };
        Ok(match kind {
            b'$' | b'!' | b'=' => match usize::try_from(announced(line)?) {
                // A null.
                Err(_) => Some((line_len, 0)),
                Ok(len) if len > REPLY_BYTES_MAX => return Err(Unusable::Endless),
                Ok(len) if rest.len() < line_len + len + 2 => None,
                Ok(len) if !rest[line_len + len..].starts_with(b"\r\n") => {
                    return Err(Unusable::Garbage);
                }
                Ok(len) => Some((line_len + len + 2, 0)),
            },
            b'*' | b'~' | b'>' => Some((line_len, values(1, 0)?)),
            b'%' => Some((line_len, values(2, 0)?)),
            // An attribute stands before what it is an attribute of.
            b'|' => Some((line_len, values(2, 1)?)),
            _ => Some((line_len, 0)),
        })
    }
}

/// The length in a header line; negative for a null.
fn announced(line: &[u8]) -> Result<i64, Unusable> {
    let number = str::from_utf8(line).ok().and_then(|text| text.parse().ok());
    number.ok_or(Unusable::Garbage)
}

/// A reply is some bytes for each session of a batch, and a push one session: far below this.
pub(crate) const REPLY_BYTES_MAX: usize = 1 << 20;
/// Room that is kept when all was understood.
const KEEP_BYTES: usize = 16 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    /// What comes of these bytes, in one piece, cut at every byte, and byte by byte.
    #[track_caller]
    fn check(bytes: &[u8], values: usize, end: Result<(), Unusable>) {
        let whole = replies(&[bytes]);
        assert_eq!((whole.0.len(), whole.1), (values, end), "{whole:?}");
        for cut in 0..=bytes.len() {
            let (head, tail) = bytes.split_at(cut);
            assert_eq!(replies(&[head, tail]), whole, "cut at {cut}");
        }
        let single: Vec<&[u8]> = bytes.chunks(1).collect();
        assert_eq!(replies(&single), whole, "byte by byte");
    }

    fn replies(pieces: &[&[u8]]) -> (Vec<Value>, Result<(), Unusable>) {
        let (mut framing, mut values) = (Framing::default(), Vec::new());
        for piece in pieces {
            framing.push(piece);
            loop {
                match framing.next() {
                    Ok(Some(value)) => values.push(value),
                    Ok(None) => break,
                    Err(unusable) => return (values, Err(unusable)),
                }
            }
        }
        (values, Ok(()))
    }

    #[test]
    fn every_kind_of_reply_is_taken_whole() {
        check(
            b"+OK\r\n-ERR no\r\n:7\r\n_\r\n#t\r\n,1.5\r\n(99\r\n",
            7,
            Ok(()),
        );
        check(
            b"$3\r\na\r\n\r\n$-1\r\n!5\r\nERR x\r\n=7\r\ntxt:abc\r\n$0\r\n\r\n",
            5,
            Ok(()),
        );
        check(
            b"*2\r\n*1\r\n:1\r\n%1\r\n+a\r\n*-1\r\n~1\r\n:1\r\n*0\r\n",
            3,
            Ok(()),
        );
        check(
            b">2\r\n+message\r\n$1\r\nx\r\n|1\r\n+a\r\n:1\r\n:2\r\n",
            2,
            Ok(()),
        );
    }

    #[test]
    fn what_has_not_come_is_waited_for() {
        check(b"*2\r\n:1\r\n", 0, Ok(()));
        check(b"+OK\r\n$5\r\nabc", 1, Ok(()));
        check(b"+OK\r", 0, Ok(()));
        check(b"*1000000000\r\n:1\r\n", 0, Ok(()));
    }

    /// Wherever it was cut: what follows must not be taken for the reply.
    #[test]
    fn garbage_is_never_skipped() {
        let garbage = Err(Unusable::Garbage);
        check(b"?what\r\n+OK\r\n", 0, garbage);
        check(b"+OK\r\n:seven\r\n:8\r\n", 1, garbage);
        check(b"*1\r\n?\r\n+OK\r\n", 0, garbage);
        check(b"*x\r\n+OK\r\n", 0, garbage);
        check(b"$1\r\nab\r\n+OK\r\n", 0, garbage);
        check(b"#x\r\n+OK\r\n", 0, garbage);
        check(
            b"%9223372036854775807\r\n%9223372036854775807\r\n",
            0,
            garbage,
        );
        check(&b"*1\r\n".repeat(200), 0, Ok(()));
        check(
            &[b"*1\r\n".repeat(200).as_slice(), b":1\r\n"].concat(),
            0,
            garbage,
        );
    }

    #[test]
    fn an_endless_reply_is_not_kept() {
        let endless = (Vec::new(), Err(Unusable::Endless));
        assert_eq!(replies(&[b"$1048577\r\n"]), endless);
        let line = vec![b'+'; REPLY_BYTES_MAX];
        assert_eq!(replies(&[&line]), (Vec::new(), Ok(())));
        assert_eq!(replies(&[&line, b"+"]), endless);
        let values = b":1\r\n".repeat(REPLY_BYTES_MAX / 4);
        assert_eq!(replies(&[b"*1000000000\r\n", &values]), endless);
    }
}
