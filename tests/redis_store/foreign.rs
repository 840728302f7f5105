//! What somebody else has written into a session's hash or list concerns that session alone: whoever
//! claims, commits, reads or pushes to it is refused, and the link stays up for all others.

use sundown::engine::io::{Body, PushRefused, Pushed, Refused, StoreCommand, StoreEvent};
use sundown::store::SessionStore as _;

use crate::driver::{self, Driver};
use crate::mailboxes::commit;
use crate::steps::Promising as _;
use crate::support::redis::Redis;

/// None of them is a number that a session has.
const NUMBERS: [&str; 14] = [
    "-5",
    "-1e9",
    "1.5",
    "1e30",
    "1e300",
    "nan",
    "inf",
    "-inf",
    "9007199254740993",
    "18446744073709551616",
    "99999999999999999999",
    "0x10",
    "x",
    "",
];

/// Somebody asks something of a session.
#[derive(Clone, Copy, Debug)]
enum Ask {
    Claim,
    Count,
    Step,
    Push,
    Read,
}

impl Ask {
    const ALL: [Self; 5] = [Self::Claim, Self::Count, Self::Step, Self::Push, Self::Read];

    /// The numbers that it needs.
    fn needs(self) -> &'static str {
        match self {
            Self::Claim => "enfipmb",
            Self::Count => "enpm",
            Self::Step | Self::Push => "enpmbf",
            Self::Read => "mbf",
        }
    }

    /// Whether it is refused, for a reason that begins with this. `epoch` is the session's, "from"
    /// has 1.
    #[track_caller]
    fn is_refused(self, store: &mut Driver, session: &str, epoch: u64, code: &str) -> bool {
        let push = (1, session, Body::from("push"));
        store.store.ask(match self {
            Self::Claim => StoreCommand::Claim(driver::claim(session, 99)),
            Self::Count => StoreCommand::Commit(vec![driver::commit(session, epoch, 1)]),
            Self::Step => StoreCommand::Commit(vec![commit(
                session,
                epoch,
                1,
                1,
                std::slice::from_ref(&push),
            )]),
            Self::Push => StoreCommand::Commit(vec![commit("from", 1, 1, 0, &[push])]),
            Self::Read => StoreCommand::Read(driver::read(session)),
        });
        let reason = match store.answer() {
            StoreEvent::Refused {
                request: Refused::Commit(_),
                reason,
            } => {
                let rest = store.answer();
                assert!(matches!(rest, StoreEvent::Committed { .. }), "{rest:?}");
                reason
            }
            StoreEvent::Refused { reason, .. } => reason,
            StoreEvent::Committed { pushed, .. } => {
                return pushed == [Pushed::Refused(PushRefused::Unknown)];
            }
            StoreEvent::Claimed { .. } | StoreEvent::Mailbox { .. } => return false,
            other => panic!("{other:?}"),
        };
        assert!(reason.starts_with(code), "{reason}");
        true
    }
}

/// Each of them on a session of its own, which has one push and has been spoilt by a command.
#[track_caller]
fn check(
    redis: &Redis,
    store: &mut Driver,
    code: &str,
    spoil: impl Fn(&str) -> Vec<String>,
    expected: impl Fn(Ask) -> bool,
) {
    for ask in Ask::ALL {
        redis.command(&[
            "DEL",
            "sundown:session:from",
            "sundown:session:s",
            "sundown:mailbox:s",
        ]);
        let epoch = store.grant("s", 1).epoch;
        let push = (1, "s", Body::from("push"));
        store.commit_batch(vec![commit("from", 1, 0, 0, &[push])]);
        let words = spoil("s");
        redis.command(&words.iter().map(String::as_str).collect::<Vec<_>>());
        let is_refused = ask.is_refused(store, "s", epoch, code);
        assert_eq!(is_refused, expected(ask), "{ask:?} after {words:.60?}");
        // And so it is for all who are in the same batch.
        store.grant("other", 1);
    }
}

#[test]
fn a_number_that_makes_no_sense_refuses_its_session_alone() {
    let redis = Redis::start();
    let mut store = Driver::up(&redis.url());
    for field in ["e", "n", "f", "i", "p", "m", "b"] {
        for number in NUMBERS {
            let spoil = |session: &str| {
                let key = format!("sundown:session:{session}");
                ["HSET", &key, field, number].map(str::to_owned).to_vec()
            };
            check(&redis, &mut store, "BADRECORD", spoil, |ask| {
                ask.needs().contains(field)
            });
        }
    }
    assert!(store.heard().is_none(), "the link was up all the time");
}

/// The link takes no reply of more than 1 MiB.
#[test]
fn a_state_or_a_mailbox_that_is_far_too_long_refuses_its_session_alone() {
    let redis = Redis::start();
    let mut store = Driver::up(&redis.url());
    let long = "t".repeat(2 << 20);
    let spoil = |session: &str| {
        let key = format!("sundown:session:{session}");
        ["HSET", &key, "s", &long].map(str::to_owned).to_vec()
    };
    let needs_state = |ask| matches!(ask, Ask::Claim);
    check(&redis, &mut store, "BADRECORD", spoil, needs_state);
    for bodies in [vec!["t"; 300_000], vec![&long]] {
        let spoil = |session: &str| {
            let key = format!("sundown:mailbox:{session}");
            let words = ["RPUSH", &key].into_iter().chain(bodies.iter().copied());
            words.map(str::to_owned).collect()
        };
        let needs_mailbox = |ask| matches!(ask, Ask::Claim | Ask::Read);
        check(&redis, &mut store, "BADRECORD", spoil, needs_mailbox);
    }
    assert!(store.heard().is_none(), "the link was up all the time");
}
