//! What a spilled commit does to mailboxes, as bytes in its row. Plain values.
//!
//! It must never make half of it out of bytes that are not whole.

use crate::engine::io::{Body, Mail, Push, SessionId};

/// The number that is confirmed, how many pushes follow, and each with its step, the session that it
/// is for, its kind and its body. Lengths and numbers are big-endian.
pub(super) fn encode(mail: &Mail) -> Vec<u8> {
    let mut bytes = mail.confirmed.to_be_bytes().to_vec();
    bytes.extend((mail.pushes.len() as u64).to_be_bytes());
    for push in &mail.pushes {
        bytes.extend(push.step.to_be_bytes());
        let kind: &[u8] = if push.body.is_binary() { b"b" } else { b"t" };
        for part in [push.to.as_str().as_bytes(), kind, push.body.as_bytes()] {
            bytes.extend((part.len() as u64).to_be_bytes());
            bytes.extend(part);
        }
    }
    bytes
}

/// `None`: someone else has written it.
pub(super) fn decode(mut bytes: &[u8]) -> Option<Mail> {
    let (confirmed, count) = (number(&mut bytes)?, number(&mut bytes)?);
    let pushes = (0..count).map(|_| {
        let step = number(&mut bytes)?;
        let to = str::from_utf8(part(&mut bytes)?).ok()?;
        let is_binary = match part(&mut bytes)? {
            b"b" => true,
            b"t" => false,
            _ => return None,
        };
        Some(Push {
            step,
            to: SessionId::parse(to).ok()?,
            body: Body::of(part(&mut bytes)?, is_binary)?,
        })
    });
    let pushes = pushes.collect::<Option<_>>()?;
    let mail = Mail { confirmed, pushes };
    bytes.is_empty().then_some(mail)
}

fn number(bytes: &mut &[u8]) -> Option<u64> {
    bytes
        .split_off(..8)?
        .try_into()
        .ok()
        .map(u64::from_be_bytes)
}

fn part<'a>(bytes: &mut &'a [u8]) -> Option<&'a [u8]> {
    let len = usize::try_from(number(bytes)?).ok()?;
    bytes.split_off(..len)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use super::super::file::SpillFile;
    use super::super::replay::NOBODY;
    use super::super::table::{Reached, Table};
    use super::super::{OpenedStore, SpillingStore};
    use super::*;
    use crate::clock;
    use crate::engine::io::{
        Claim, Commit, Mailbox, ReadMailbox, Snapshot, StoreCommand, StoreEvent,
    };
    use crate::store::memory::MemoryStore;
    use crate::store::{SessionStore as _, Spill as _};

    fn id(session: &str) -> SessionId {
        SessionId::parse(session).unwrap()
    }

    fn waker() -> (mio::Poll, Arc<mio::Waker>) {
        let poll = mio::Poll::new().unwrap();
        let waker = mio::Waker::new(poll.registry(), mio::Token(0)).unwrap();
        (poll, Arc::new(waker))
    }

    /// Pushes one body to "to" with each step up to this one.
    fn mail(steps: u64) -> Mail {
        let bodies = ["text".into(), vec![0, 255].into(), Body::from("")];
        let pushes = (1..=steps).zip(bodies.into_iter().cycle());
        let pushes = pushes.map(|(step, body)| Push {
            step,
            to: id("to"),
            body,
        });
        Mail {
            confirmed: steps,
            pushes: pushes.collect(),
        }
    }

    fn commit(session: &str, step: u64, mail: Option<Mail>) -> Commit {
        Commit {
            key: NOBODY,
            session: id(session),
            epoch: 1,
            snapshot: Snapshot::counted(step),
            mail: mail.map(Box::new),
        }
    }

    #[test]
    fn it_comes_back_whole_or_not_at_all() {
        for steps in [0, 1, 3] {
            let bytes = encode(&mail(steps));
            assert_eq!(decode(&bytes), Some(mail(steps)));
            for cut in 0..bytes.len() {
                assert_eq!(decode(&bytes[..cut]), None, "{steps} steps, cut at {cut}");
            }
            assert_eq!(decode(&[&bytes[..], b"x"].concat()), None);
        }
        // No such many pushes, and no kind.
        let mut bytes = encode(&mail(1));
        let kind = bytes.iter().position(|byte| *byte == b't').unwrap() + 10;
        assert_eq!(bytes[kind], b't');
        bytes[kind] = b'x';
        assert_eq!(decode(&bytes), None);
        assert_eq!(decode(&[255; 16]), None);
    }

    #[test]
    fn the_later_row_has_the_pushes_of_both() {
        let dir = tempfile::tempdir().unwrap();
        let (_poll, waker) = waker();
        let file = SpillFile::open(&dir.path().join("spill"), waker).unwrap();
        let plain = commit("b", 1, None);
        file.put(std::slice::from_ref(&plain), 9, Table::Whole)
            .unwrap();
        let rows = || file.rows_after(&Reached::default(), 100, 0).unwrap().rows;
        assert_eq!(rows(), [plain]);
        for steps in [2, 3, 1] {
            file.put(&[commit("a", steps, Some(mail(steps)))], 9, Table::Whole)
                .unwrap();
        }
        // A batch has mail in all of its commits or in none.
        let expected = [
            commit("a", 3, Some(mail(3))),
            commit("b", 1, Some(Mail::default())),
        ];
        assert_eq!(rows(), expected);
    }

    #[test]
    fn a_replay_pushes_what_the_store_has_not_and_nothing_twice() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("spill");
        let (_poll, waker) = waker();
        let now = clock::now();
        let open = |memory: MemoryStore| {
            let (ttl, waker) = (Duration::from_secs(60), Arc::clone(&waker));
            let store = OpenedStore::Alone(Box::new(memory));
            SpillingStore::open(&path, store, ttl, waker, now).unwrap()
        };
        let mut memory = MemoryStore::new(Duration::from_secs(60));
        for session in ["from", "to"] {
            memory.ask(StoreCommand::Claim(Claim {
                key: NOBODY,
                session: id(session),
                token: 1,
            }));
        }
        // Its answer was lost.
        memory.ask(StoreCommand::Commit(vec![commit("from", 1, Some(mail(1)))]));
        memory.flush(now);
        {
            let mut leaving = open(MemoryStore::new(Duration::from_secs(60)));
            leaving.put(vec![commit("from", 3, Some(mail(3)))]);
            leaving.flush(now);
        }
        let mut spilling = open(memory);
        for _ in 0..3 {
            while spilling.poll_event().is_some() {}
            spilling.flush(now);
        }
        spilling.ask(StoreCommand::Read(ReadMailbox {
            key: NOBODY,
            session: id("to"),
        }));
        spilling.flush(now);
        let answer = std::iter::from_fn(|| spilling.poll_event()).last();
        let Some(StoreEvent::Mailbox { mailbox, .. }) = answer else {
            panic!("{answer:?}");
        };
        let bodies = mail(3).pushes.into_iter().map(|push| push.body);
        assert_eq!(mailbox, Mailbox::new(3, bodies));
    }
}
