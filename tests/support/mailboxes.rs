//! What every store promises of mailboxes, for the stores of this process and for Redis, as
//! `steps.rs` does for incarnation, step and state.

use sundown::store::{Commit, Mail, Push, Pushed, SessionKey, Snapshot};
use sundown::{Body, Mailbox, PushRefused, SessionId};

use super::steps::Promising;

/// All of them, each with sessions of its own.
pub(crate) fn keeps_all(store: &mut impl Promising) {
    let promises = [
        numbers_pushes_and_keeps_them,
        drops_what_is_confirmed_and_nothing_else,
        refuses_pushes_to_a_full_mailbox,
        refuses_bytes_that_do_not_fit,
        refuses_pushes_to_unknown_sessions,
        takes_pushes_to_the_session_itself,
        takes_pushes_within_a_batch_in_their_order,
        repeats_no_push,
        pushes_all_under_a_higher_epoch_and_for_a_missing_record,
        does_nothing_when_fenced,
        keeps_it_over_claims_and_commits_without_mail,
    ];
    for (at, promise) in promises.into_iter().enumerate() {
        promise(store, &format!("mail-{at}"));
    }
}

/// A commit of this step, which confirms and pushes. Each push is an effect of the step that stands
/// with it.
pub(crate) fn commit(
    session: &str,
    epoch: u64,
    step: u64,
    confirmed: u64,
    pushes: &[(u64, &str, Body)],
) -> Commit {
    let push = |(step, to, body): &(u64, &str, Body)| Push {
        step: *step,
        to: SessionId::parse(to).expect("an id"),
        body: body.clone(),
    };
    let pushes = pushes.iter().map(push).collect();
    Commit {
        key: SessionKey {
            slot: 3,
            generation: 4,
        },
        session: SessionId::parse(session).expect("an id"),
        epoch,
        snapshot: Snapshot::counted(step),
        mail: Some(Box::new(Mail { confirmed, pushes })),
    }
}

/// A text, which says which one it is.
fn text(n: u64) -> Body {
    format!("push {n}").into()
}

/// The texts of these numbers, up to the latest.
fn texts(numbers: std::ops::RangeInclusive<u64>) -> Mailbox {
    Mailbox::new(*numbers.end(), numbers.map(text))
}

const FULL: Pushed = Pushed::Refused(PushRefused::Full);
const UNKNOWN: Pushed = Pushed::Refused(PushRefused::Unknown);
use Pushed::{Accepted, Before};

/// Carries out a commit that is not fenced.
#[track_caller]
fn pushed(store: &mut impl Promising, commit: Commit) -> Vec<Pushed> {
    let (fenced, pushed) = store.commit_batch(vec![commit]);
    assert!(fenced.is_empty());
    pushed
}

/// What the store reads, and what it grants.
#[track_caller]
fn holds(store: &mut impl Promising, session: &str, expected: &Mailbox) {
    assert_eq!(store.read(session), *expected);
    store.reopen();
    assert_eq!(store.read(session), *expected);
    assert_eq!(store.grant(session, 77).mailbox, *expected);
    assert_eq!(store.grant(session, 77).mailbox, *expected, "asked again");
}

fn numbers_pushes_and_keeps_them(store: &mut impl Promising, name: &str) {
    let (from, to) = (format!("{name}-from"), format!("{name}-to"));
    let epoch = store.grant(&from, 1).epoch;
    let grant = store.grant(&to, 1);
    assert_eq!(grant.mailbox, Mailbox::default());
    let bodies = [
        Body::from("text"),
        Body::from(&b"\0\r\n\xff $5\r\n"[..]),
        Body::from(""),
        Body::from(&b""[..]),
        Body::from("ünï"),
        Body::from(&b"text"[..]),
    ];
    let pushes = bodies.clone().map(|body| (1, to.as_str(), body));
    let outcomes = pushed(store, commit(&from, epoch, 1, 0, &pushes[..4]));
    assert_eq!(outcomes, [1, 2, 3, 4].map(Accepted));
    let pushes: Vec<_> = pushes.map(|(_, to, body)| (2, to, body)).into();
    let outcomes = pushed(store, commit(&from, epoch, 2, 0, &pushes[4..]));
    assert_eq!(outcomes, [5, 6].map(Accepted));
    holds(store, &to, &Mailbox::new(6, bodies));
    let held = store.grant(&to, 2);
    assert!(held.epoch > grant.epoch && held.found);
    assert_eq!(store.read(&from), Mailbox::default());
    assert_eq!(store.grant(&from, 2).snapshot.count, 2);
}

fn drops_what_is_confirmed_and_nothing_else(store: &mut impl Promising, name: &str) {
    let epoch = store.grant(name, 1).epoch;
    let pushes = [1, 2, 3, 4, 5].map(|n| (1, name, text(n)));
    pushed(store, commit(name, epoch, 1, 0, &pushes));
    for (step, confirmed, left) in [(2, 2, 3..=5), (3, 1, 3..=5), (4, 4, 5..=5), (4, 4, 5..=5)] {
        assert!(pushed(store, commit(name, epoch, step, confirmed, &[])).is_empty());
        assert_eq!(store.read(name), texts(left), "up to {confirmed}");
    }
    // Of a step that is held, and of pushes that there never were.
    pushed(store, commit(name, epoch, 4, 9, &[]));
    assert_eq!(store.read(name), Mailbox::new(5, []));
    let outcomes = pushed(store, commit(name, epoch, 5, 0, &[(5, name, text(6))]));
    assert_eq!(outcomes, [Accepted(6)]);
    // It confirms before it pushes.
    let outcomes = pushed(store, commit(name, epoch, 6, 7, &[(6, name, text(7))]));
    assert_eq!(outcomes, [Accepted(7)]);
    holds(store, name, &texts(7..=7));
}

fn refuses_pushes_to_a_full_mailbox(store: &mut impl Promising, name: &str) {
    let (from, to) = (format!("{name}-from"), format!("{name}-to"));
    let (epoch, owner) = (store.grant(&from, 1).epoch, store.grant(&to, 1).epoch);
    let most = Mailbox::LEN_MAX as u64;
    let pushes: Vec<_> = (1..=most + 2).map(|n| (1, &*to, text(n))).collect();
    let outcomes = pushed(store, commit(&from, epoch, 1, 0, &pushes));
    assert_eq!(
        outcomes[..Mailbox::LEN_MAX],
        (1..=most).map(Accepted).collect::<Vec<_>>()
    );
    assert_eq!(outcomes[Mailbox::LEN_MAX..], [FULL, FULL]);
    // What is refused changes nothing else: the step counts, and what fits is taken.
    let both = [(2, &*to, text(0)), (2, &*from, text(1))];
    let outcomes = pushed(store, commit(&from, epoch, 2, 0, &both));
    assert_eq!(outcomes, [FULL, Accepted(1)]);
    holds(store, &from, &texts(1..=1));
    assert_eq!(store.grant(&from, 77).snapshot.count, 2);
    pushed(store, commit(&to, owner, 1, 1, &[]));
    let epoch = store.grant(&from, 77).epoch;
    let both = [(1, &*to, text(most + 1)), (1, &*to, text(0))];
    let outcomes = pushed(store, commit(&from, epoch, 3, 0, &both));
    assert_eq!(outcomes, [Accepted(most + 1), FULL]);
    holds(store, &to, &texts(2..=most + 1));
    let owner = store.grant(&to, 77).epoch;
    pushed(store, commit(&to, owner, 1, 101, &[]));
    let more: Vec<_> = (most + 2..=most + 102)
        .map(|n| (4, &*to, text(n)))
        .collect();
    let outcomes = pushed(store, commit(&from, epoch, 4, 0, &more));
    assert_eq!(outcomes[99..], [Accepted(most + 101), FULL]);
    holds(store, &to, &texts(102..=most + 101));
}

fn refuses_bytes_that_do_not_fit(store: &mut impl Promising, name: &str) {
    let epoch = store.grant(name, 1).epoch;
    let body = |len: usize| -> Body {
        let bytes = (0..len).map(|at| (at % 251) as u8);
        bytes.collect::<Vec<_>>().into()
    };
    let too_long = [(1, name, body(Mailbox::BYTES_MAX + 1))];
    let outcomes = pushed(store, commit(name, epoch, 1, 0, &too_long));
    assert_eq!(outcomes, [FULL]);
    let rest = body(1_001);
    let all_but = body(Mailbox::BYTES_MAX - 1_000);
    let pushes = [&all_but, &rest, &body(1_000), &body(1), &body(0)];
    let pushes = pushes.map(|body| (2, name, body.clone()));
    let outcomes = pushed(store, commit(name, epoch, 2, 0, &pushes));
    assert_eq!(
        outcomes,
        [Accepted(1), FULL, Accepted(2), FULL, Accepted(3)]
    );
    holds(
        store,
        name,
        &Mailbox::new(3, [all_but.clone(), body(1_000), body(0)]),
    );
    // The room of what is confirmed.
    let epoch = store.grant(name, 78).epoch;
    let pushes = [(1, name, all_but.clone()), (1, name, body(1))];
    let outcomes = pushed(store, commit(name, epoch, 1, 1, &pushes));
    assert_eq!(outcomes, [Accepted(4), FULL]);
    let longest = body(Mailbox::BYTES_MAX);
    let outcomes = pushed(
        store,
        commit(name, epoch, 2, 4, &[(2, name, longest.clone())]),
    );
    assert_eq!(outcomes, [Accepted(5)]);
    holds(store, name, &Mailbox::new(5, [longest]));
}

fn refuses_pushes_to_unknown_sessions(store: &mut impl Promising, name: &str) {
    let nobody = format!("{name}-nobody");
    let epoch = store.grant(name, 1).epoch;
    let pushes = [
        (1, &*nobody, text(1)),
        (1, name, text(1)),
        (1, &*nobody, text(2)),
    ];
    let outcomes = pushed(store, commit(name, epoch, 1, 0, &pushes));
    assert_eq!(outcomes, [UNKNOWN, Accepted(1), UNKNOWN]);
    assert_eq!(store.read(&nobody), Mailbox::default());
    let grant = store.grant(&nobody, 1);
    assert_eq!((grant.found, grant.mailbox), (false, Mailbox::default()));
    // Refused is refused: the same step is not tried again.
    let outcomes = pushed(store, commit(name, epoch, 1, 0, &pushes));
    assert_eq!(outcomes, [Before; 3]);
}

fn takes_pushes_to_the_session_itself(store: &mut impl Promising, name: &str) {
    // Nothing is known of it before.
    let pushes = [(3, name, text(1)), (4, name, text(2))];
    let outcomes = pushed(store, commit(name, 6, 4, 0, &pushes));
    assert_eq!(outcomes, [1, 2].map(Accepted));
    holds(store, name, &texts(1..=2));
}

fn takes_pushes_within_a_batch_in_their_order(store: &mut impl Promising, name: &str) {
    let [a, b, c] = ["a", "b", "c"].map(|part| format!("{name}-{part}"));
    let (epoch, old) = (store.grant(&a, 1).epoch, store.grant(&b, 1).epoch);
    let new = store.grant(&b, 2).epoch;
    let (fenced, outcomes) = store.commit_batch(vec![
        commit(&a, epoch, 1, 0, &[(1, &b, text(1)), (1, &c, text(0))]),
        commit(&b, old, 1, 9, &[(1, &a, text(0)), (1, &b, text(0))]),
        commit(&c, 5, 1, 0, &[]),
        commit(
            &b,
            new,
            1,
            1,
            &[(1, &a, text(1)), (1, &c, text(1)), (1, &b, text(2))],
        ),
        commit(&a, epoch, 2, 1, &[(1, &b, text(0)), (2, &b, text(3))]),
    ]);
    assert_eq!(fenced, [1]);
    let expected = [
        Accepted(1),
        UNKNOWN,
        Accepted(1),
        Accepted(1),
        Accepted(2),
        Before,
        Accepted(3),
    ];
    assert_eq!(outcomes, expected);
    holds(store, &a, &Mailbox::new(1, []));
    holds(store, &b, &texts(2..=3));
    holds(store, &c, &texts(1..=1));
}

fn repeats_no_push(store: &mut impl Promising, name: &str) {
    let to = format!("{name}-to");
    let epoch = store.grant(name, 1).epoch;
    store.grant(&to, 1);
    let pushes = [(1, &*to, text(1)), (3, &*to, text(2)), (4, &*to, text(3))];
    let first = commit(name, epoch, 3, 0, &pushes[..2]);
    assert_eq!(pushed(store, first.clone()), [1, 2].map(Accepted));
    for _ in 0..2 {
        assert_eq!(pushed(store, first.clone()), [Before; 2]);
        store.reopen();
    }
    // Its answer was lost: with a newer step.
    let newer = commit(name, epoch, 4, 0, &pushes);
    assert_eq!(pushed(store, newer.clone()), [Before, Before, Accepted(3)]);
    assert_eq!(pushed(store, newer), [Before; 3]);
    assert_eq!(pushed(store, first), [Before; 2]);
    holds(store, &to, &texts(1..=3));
    // The steps of the next epoch begin again.
    let epoch = store.grant(name, 2).epoch;
    let next = commit(name, epoch, 1, 0, &[(1, &*to, text(4))]);
    assert_eq!(pushed(store, next), [Accepted(4)]);
    holds(store, &to, &texts(1..=4));
}

fn pushes_all_under_a_higher_epoch_and_for_a_missing_record(
    store: &mut impl Promising,
    name: &str,
) {
    let (to, lost) = (format!("{name}-to"), format!("{name}-lost"));
    let epoch = store.grant(name, 1).epoch;
    store.grant(&to, 1);
    let pushes = [(2, &*to, text(1)), (9, name, text(1))];
    pushed(store, commit(name, epoch, 9, 0, &pushes));
    // The store has lost the claim of that epoch; the mailbox is still the session's.
    let pushes = [(1, &*to, text(2)), (2, name, text(2))];
    let higher = commit(name, epoch + 4, 2, 1, &pushes);
    assert_eq!(pushed(store, higher), [2, 2].map(Accepted));
    holds(store, name, &texts(2..=2));
    let missing = commit(&lost, 6, 2, 7, &[(1, &*to, text(3))]);
    assert_eq!(pushed(store, missing), [Accepted(3)]);
    holds(store, &to, &texts(1..=3));
}

fn does_nothing_when_fenced(store: &mut impl Promising, name: &str) {
    let to = format!("{name}-to");
    let old = store.grant(name, 1).epoch;
    store.grant(&to, 1);
    pushed(store, commit(name, old, 1, 0, &[(1, name, text(1))]));
    store.grant(name, 2);
    let fenced = commit(name, old, 2, 1, &[(2, &*to, text(1)), (2, name, text(2))]);
    assert_eq!(store.commit_batch(vec![fenced]), (vec![0], Vec::new()));
    holds(store, &to, &Mailbox::default());
    holds(store, name, &texts(1..=1));
}

fn keeps_it_over_claims_and_commits_without_mail(store: &mut impl Promising, name: &str) {
    let epoch = store.grant(name, 1).epoch;
    pushed(store, commit(name, epoch, 1, 0, &[(1, name, text(1))]));
    for step in [2, 2, 3] {
        assert!(store.commit(name, epoch, &Snapshot::counted(step)));
    }
    let next = store.grant(name, 2);
    assert_eq!((next.snapshot.count, &next.mailbox), (3, &texts(1..=1)));
    assert!(store.commit(name, next.epoch, &Snapshot::counted(4)));
    holds(store, name, &texts(1..=1));
}
