//! What clients say, and what is pushed to them, for `examples/chain.rs`: which pushes each sender has
//! made, and what each reader has received. It never sees a socket.

use std::collections::{BTreeMap, BTreeSet};

use super::Account;

/// What a client says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Says {
    /// The number of the message.
    Numbers,
    /// Pushes to so many sessions, `reader-0` and so on, while there is a storm.
    Letters { readers: u64 },
    /// Nothing: it hears what is pushed to it.
    Nothing,
}

impl Says {
    /// The message of this number.
    pub(crate) fn body(self, session: &str, number: u64) -> String {
        match self {
            Self::Letters { readers } => {
                let sender = session.bytes().fold(number, |sum, byte| {
                    (sum + u64::from(byte)).wrapping_mul(0x9e37_79b9_7f4a_7c15)
                });
                let reader = (sender >> 32) % readers;
                format!("reader-{reader} {session} {number}")
            }
            Self::Numbers | Self::Nothing => number.to_string(),
        }
    }
}

/// What was pushed to a client.
#[derive(Clone, Debug, Default)]
pub(crate) struct Received {
    /// Number 1 first.
    bodies: Vec<String>,
    /// Pushes whose number was not the next one, or which had another body when they came again.
    wrong: u64,
}

impl Received {
    /// The number of the last one.
    pub(crate) fn last(&self) -> u64 {
        self.bodies.len() as u64
    }

    /// One has come. Returns whether it is to be confirmed, with all before it.
    pub(crate) fn take(&mut self, number: u64, body: String) -> bool {
        if number == self.last() + 1 {
            self.bodies.push(body);
            return number.is_multiple_of(CONFIRM_EVERY);
        }
        let known = self.bodies.get(number.saturating_sub(1) as usize);
        self.wrong += u64::from(known != Some(&body));
        false
    }
}

/// Each reader has what was pushed to it, once, with the numbers 1 to m. Returns how many pushes
/// there were.
#[track_caller]
pub(crate) fn check(accounts: &[Account]) -> usize {
    let mut sent: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    let said: Vec<_> = accounts.iter().flat_map(letters).collect();
    for letter in &said {
        let (reader, body) = letter.split_once(' ').expect("a name and a body");
        assert!(sent.entry(reader).or_default().insert(body));
    }
    for account in accounts {
        let Received { bodies, wrong } = &account.received;
        let session = account.ledger.session.as_str();
        assert_eq!(*wrong, 0, "{session}: {bodies:?}");
        let received: BTreeSet<&str> = bodies.iter().map(String::as_str).collect();
        assert_eq!(
            received.len(),
            bodies.len(),
            "{session}: twice in {bodies:?}"
        );
        assert_eq!(
            received,
            sent.remove(session).unwrap_or_default(),
            "{session}"
        );
    }
    assert_eq!(sent, BTreeMap::new(), "to nobody");
    said.len()
}

fn letters(account: &Account) -> impl Iterator<Item = String> {
    let (says, ledger) = (account.says, &account.ledger);
    let wanted = match says {
        Says::Letters { .. } => ledger.wanted,
        Says::Numbers | Says::Nothing => 0,
    };
    (1..=wanted).map(move |number| says.body(&ledger.session, number))
}

/// docs/protocol.md: every 16 pushes.
const CONFIRM_EVERY: u64 = 16;
