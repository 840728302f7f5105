//! What every store promises, checked through its interface alone, with a clock that the test moves.
//! It uses nothing but the public API of the crate, so that a store from outside is held to it in
//! the same words.

#![expect(
    clippy::unwrap_used,
    clippy::wildcard_enum_match_arm,
    reason = "a test may fail wherever it likes"
)]

use std::sync::Arc;
use std::time::Duration;

use sundown::clock;
use sundown::mio::{Events, Poll, Token, Waker};
use sundown::store::{
    Claim, Commit, Grant, Now, Pushed, ReadMailbox, SessionKey, Snapshot, StoreCommand, StoreEvent,
};
use sundown::{Body, Mailbox, PushRefused, SessionId, State};
use sundown::{Config, SessionStore, StoreParts};

#[path = "mailboxes.rs"]
mod mailboxes;
#[path = "steps.rs"]
mod steps;

use steps::Promising;

/// The time to live of a session.
pub(crate) const TTL: Duration = Duration::from_secs(3_600);

/// Calls a macro with the names of all promises: each is a function that takes a [`Fixture`].
macro_rules! all_promises {
    ($then:ident) => {
        $then! {
            what_is_promised_of_incarnation_step_and_state_holds_and_outlives_a_process
            what_is_promised_of_mailboxes_holds_and_outlives_a_process
            a_mailbox_goes_with_its_session
            a_push_puts_the_expiry_off
            a_read_is_answered_in_its_turn
            an_expired_session_begins_anew
            every_claim_gives_the_next_epoch_and_the_saved_count
            the_same_token_gets_the_same_answer_again
            a_save_under_an_older_epoch_is_refused
            within_an_epoch_the_count_never_goes_down
            a_save_under_a_newer_epoch_starts_it_with_its_count
            a_save_makes_a_missing_record_again
            an_expired_session_is_new_but_its_epoch_goes_on
            an_expired_session_is_claimed_above_every_epoch_that_it_had
            a_save_puts_the_expiry_off
            answers_come_in_the_order_of_the_requests
            a_sync_is_answered_after_the_saves_before_it
            ids_of_every_shape_are_kept_apart
            a_wall_clock_that_steps_takes_no_session_that_is_renewed
            a_wall_clock_that_steps_shortly_before_a_claim_takes_no_session
            a_process_that_stood_still_takes_no_session_that_is_open
        }
    };
}

/// Opens a store, a second time as another process would.
type Open = Box<dyn Fn(&StoreParts<'_>) -> Box<dyn SessionStore>>;

/// A store that is held to its promises.
pub(crate) struct Fixture {
    name: &'static str,
    open: Open,
    /// Sessions outlive the process.
    outlives: bool,
    store: Box<dyn SessionStore>,
    now: Now,
    poll: Poll,
    waker: Arc<Waker>,
}

/// Runs one of the promises on a new store.
pub(crate) fn hold(
    promise: impl Fn(&mut Fixture),
    name: &'static str,
    outlives: bool,
    open: impl Fn(&StoreParts<'_>) -> Box<dyn SessionStore> + 'static,
) {
    let poll = Poll::new().unwrap();
    let waker = Arc::new(Waker::new(poll.registry(), Token(0)).unwrap());
    let (now, open) = (clock::now(), Box::new(open));
    let mut fixture = Fixture {
        name,
        store: opened(&open, &poll, &waker, now),
        open,
        outlives,
        now,
        poll,
        waker,
    };
    fixture.wait_up();
    promise(&mut fixture);
    assert!(fixture.store.poll_event().is_none(), "{name}: too many");
}

fn opened(
    open: &dyn Fn(&StoreParts<'_>) -> Box<dyn SessionStore>,
    poll: &Poll,
    waker: &Arc<Waker>,
    now: Now,
) -> Box<dyn SessionStore> {
    let session_ttl = TTL;
    open(&StoreParts {
        config: &Config {
            session_ttl,
            ..Config::default()
        },
        registry: poll.registry(),
        token: Token(1),
        waker,
        seed: 7,
        now,
    })
}

impl Promising for Fixture {
    fn grant(&mut self, session: &str, token: u64) -> Grant {
        self.store
            .ask(StoreCommand::Claim(claim(0, session, token)));
        self.store.flush(self.now);
        match self.event() {
            StoreEvent::Claimed { grant, .. } => grant,
            other => panic!("{}: {other:?}", self.name),
        }
    }

    fn commit_batch(&mut self, asked: Vec<Commit>) -> (Vec<usize>, Vec<Pushed>) {
        self.store.ask(StoreCommand::Commit(asked.clone()));
        self.store.flush(self.now);
        match self.event() {
            StoreEvent::Committed {
                batch,
                fenced,
                pushed,
            } => {
                assert_eq!(batch, asked);
                (fenced, pushed)
            }
            other => panic!("{}: {other:?}", self.name),
        }
    }

    fn read(&mut self, session: &str) -> Mailbox {
        self.store.ask(StoreCommand::Read(read(0, session)));
        self.store.flush(self.now);
        match self.event() {
            StoreEvent::Mailbox { mailbox, .. } => mailbox,
            other => panic!("{}: {other:?}", self.name),
        }
    }

    fn reopen(&mut self) {
        if self.outlives {
            self.store = opened(&self.open, &self.poll, &self.waker, self.now);
            self.wait_up();
        }
    }
}

impl Fixture {
    #[track_caller]
    fn wait_up(&mut self) {
        let first = self.event();
        assert!(matches!(first, StoreEvent::Up), "{}: {first:?}", self.name);
    }

    /// Lets time pass, with turns in which nothing is asked.
    fn advance(&mut self, by: Duration) {
        let mut left = by;
        while !left.is_zero() {
            let step = left.min(TTL / 4);
            left -= step;
            self.now.instant += step;
            self.now.unix_ms += u64::try_from(step.as_millis()).unwrap();
            self.store.flush(self.now);
        }
    }

    /// The same with all that a turn does, the sweep among it.
    fn turns(&mut self, by: Duration) {
        self.turn();
        self.advance(by);
        self.turn();
    }

    /// A turn, and what a thread does for it.
    fn turn(&mut self) {
        self.store.handle_timeout(self.now);
        self.store.ask(StoreCommand::Sync);
        self.store.flush(self.now);
        let event = self.event();
        assert!(
            matches!(event, StoreEvent::Synced),
            "{}: {event:?}",
            self.name
        );
    }

    /// Epoch, count, found.
    fn claim(&mut self, session: &str, token: u64) -> (u64, u64, bool) {
        let grant = self.grant(session, token);
        (grant.epoch, grant.snapshot.count, grant.found)
    }

    /// Whether it was taken.
    fn save(&mut self, session: &str, epoch: u64, count: u64) -> bool {
        self.commit(session, epoch, &Snapshot::counted(count))
    }

    /// The next event but for news, even if a thread has to bring it.
    fn event(&mut self) -> StoreEvent {
        let mut events = Events::with_capacity(4);
        loop {
            match self.store.poll_event() {
                Some(StoreEvent::Mail { .. }) => continue,
                Some(event) => return event,
                None => {}
            }
            let patience = Some(Duration::from_secs(60));
            self.poll.poll(&mut events, patience).unwrap();
            assert!(!events.is_empty(), "{}: no answer", self.name);
            self.store.handle_ready(self.now);
        }
    }
}

fn key(slot: u32) -> SessionKey {
    SessionKey {
        slot,
        generation: 7,
    }
}

fn claim(slot: u32, session: &str, token: u64) -> Claim {
    Claim {
        key: key(slot),
        session: SessionId::parse(session).unwrap(),
        token,
    }
}

fn read(slot: u32, session: &str) -> ReadMailbox {
    ReadMailbox {
        key: key(slot),
        session: SessionId::parse(session).unwrap(),
    }
}

fn commit(slot: u32, session: &str, epoch: u64, count: u64) -> Commit {
    Commit {
        key: key(slot),
        session: SessionId::parse(session).unwrap(),
        epoch,
        snapshot: Snapshot::counted(count),
        mail: None,
    }
}

pub(crate) fn what_is_promised_of_incarnation_step_and_state_holds_and_outlives_a_process(
    f: &mut Fixture,
) {
    steps::keeps_all(f);
}

pub(crate) fn what_is_promised_of_mailboxes_holds_and_outlives_a_process(f: &mut Fixture) {
    mailboxes::keeps_all(f);
}

/// Of "from", under epoch 1.
fn push(f: &mut Fixture, step: u64, to: &str) -> Pushed {
    let push = (step, to, Body::from("push"));
    let (fenced, pushed) = f.commit_batch(vec![mailboxes::commit("from", 1, step, 0, &[push])]);
    assert!(fenced.is_empty(), "{}", f.name);
    pushed[0]
}

pub(crate) fn a_mailbox_goes_with_its_session(f: &mut Fixture) {
    f.claim("from", 1);
    for (round, is_deleted) in (0..).step_by(10).zip([false, true]) {
        f.claim("a", round);
        let first = push(f, round + 1, "a");
        assert_eq!(first, Pushed::Accepted(1), "{}", f.name);
        f.advance(TTL);
        if is_deleted {
            f.turn();
        }
        assert_eq!(f.read("a"), Mailbox::default(), "{}", f.name);
        let refused = push(f, round + 2, "a");
        let expected = Pushed::Refused(PushRefused::Unknown);
        assert_eq!(refused, expected, "{}", f.name);
        let grant = f.grant("a", round + 1);
        assert_eq!((grant.found, grant.mailbox), (false, Mailbox::default()));
        assert_eq!(push(f, round + 3, "a"), Pushed::Accepted(1), "{}", f.name);
        let expected = Mailbox::new(1, [Body::from("push")]);
        assert_eq!(f.read("a"), expected, "{}", f.name);
        f.advance(TTL);
    }
}

pub(crate) fn a_push_puts_the_expiry_off(f: &mut Fixture) {
    f.claim("a", 1);
    for step in 1..=3 {
        f.advance(TTL / 2);
        let number = push(f, step, "a");
        assert_eq!(number, Pushed::Accepted(step), "{}", f.name);
    }
    f.advance(TTL / 2);
    let grant = f.grant("a", 2);
    assert_eq!((grant.found, grant.mailbox.len()), (true, 3), "{}", f.name);
}

pub(crate) fn a_read_is_answered_in_its_turn(f: &mut Fixture) {
    f.claim("a", 1);
    for step in 1..=2 {
        f.store.ask(StoreCommand::Read(read(7, "a")));
        let push = (step, "a", Body::from("push"));
        let commit = mailboxes::commit("a", 1, step, 0, &[push]);
        f.store.ask(StoreCommand::Commit(vec![commit]));
    }
    f.store.ask(StoreCommand::Read(read(8, "a")));
    f.store.ask(StoreCommand::Read(read(9, "nobody")));
    f.store.flush(f.now);
    let mut seen = Vec::new();
    for _ in 0..6 {
        seen.push(match f.event() {
            StoreEvent::Mailbox { key, mailbox } => format!("{} {}", key.slot, mailbox.sent()),
            StoreEvent::Committed { pushed, .. } => format!("{pushed:?}"),
            other => format!("{other:?}"),
        });
    }
    let expected = ["7 0", "[Accepted(1)]", "7 1", "[Accepted(2)]", "8 2", "9 0"];
    assert_eq!(seen, expected, "{}", f.name);
}

pub(crate) fn an_expired_session_begins_anew(f: &mut Fixture) {
    let first = f.grant("a", 1);
    let state = State::new(b"state").unwrap();
    let held = Snapshot {
        step: 1,
        count: 3,
        state,
        ..first.snapshot
    };
    assert!(f.commit("a", first.epoch, &held));
    f.advance(TTL);
    let grant = f.grant("a", 2);
    let begun = Snapshot {
        incarnation: grant.epoch,
        ..Snapshot::default()
    };
    assert_eq!((grant.found, grant.snapshot), (false, begun), "{}", f.name);
    assert_ne!(grant.epoch, first.epoch);
}

pub(crate) fn every_claim_gives_the_next_epoch_and_the_saved_count(f: &mut Fixture) {
    assert_eq!(f.claim("a", 1), (1, 0, false));
    assert!(f.save("a", 1, 17));
    assert_eq!(f.claim("a", 2), (2, 17, true));
    assert_eq!(f.claim("a", 3), (3, 17, true));
    assert_eq!(f.claim("b", 4), (1, 0, false));
}

pub(crate) fn the_same_token_gets_the_same_answer_again(f: &mut Fixture) {
    assert_eq!(f.claim("a", u64::MAX), (1, 0, false));
    assert_eq!(f.claim("a", u64::MAX), (1, 0, false));
    assert!(f.save("a", 1, 5));
    assert_eq!(f.claim("a", 0), (2, 5, true));
    assert_eq!(f.claim("a", 0), (2, 5, true));
    assert!(f.save("a", 2, 9));
    // With what is held by then.
    assert_eq!(f.claim("a", 0), (2, 9, true));
    assert!(f.save("a", 2, 9));
    assert_eq!(f.claim("a", 1), (3, 9, true));
}

pub(crate) fn a_save_under_an_older_epoch_is_refused(f: &mut Fixture) {
    f.claim("a", 1);
    assert!(f.save("a", 1, 5));
    f.claim("a", 2);
    assert!(!f.save("a", 1, 6));
    assert!(f.save("a", 2, 6));
    assert!(!f.save("a", 1, 100));
    assert_eq!(f.claim("a", 3), (3, 6, true));
}

pub(crate) fn within_an_epoch_the_count_never_goes_down(f: &mut Fixture) {
    f.claim("a", 1);
    for count in [5, 9, 7, 0] {
        assert!(f.save("a", 1, count));
    }
    assert_eq!(f.claim("a", 2), (2, 9, true));
}

pub(crate) fn a_save_under_a_newer_epoch_starts_it_with_its_count(f: &mut Fixture) {
    f.claim("a", 1);
    assert!(f.save("a", 1, 9));
    assert!(f.save("a", 4, 3));
    assert!(!f.save("a", 1, 10));
    // The claim of the epoch before is not repeated any more.
    assert_eq!(f.claim("a", 1), (5, 3, true));
}

pub(crate) fn a_save_makes_a_missing_record_again(f: &mut Fixture) {
    assert!(f.save("a", 6, 12));
    assert!(!f.save("a", 5, 13));
    assert_eq!(f.claim("a", 1), (7, 12, true));
}

pub(crate) fn an_expired_session_is_new_but_its_epoch_goes_on(f: &mut Fixture) {
    f.claim("a", 1);
    assert!(f.save("a", 1, 9));
    f.advance(TTL);
    assert_eq!(f.claim("a", 2), (2, 0, false));
    assert!(!f.save("a", 1, 10));
}

pub(crate) fn an_expired_session_is_claimed_above_every_epoch_that_it_had(f: &mut Fixture) {
    for deleted in [false, true] {
        let former = (1..=5).map(|token| f.claim("a", token).0).max().unwrap();
        assert!(f.save("a", former, 9));
        f.advance(TTL);
        if deleted {
            f.store.handle_timeout(f.now);
            f.store.flush(f.now);
        }
        let (epoch, count, found) = f.claim("a", 6);
        assert!(epoch > former, "{}: {epoch} after {former}", f.name);
        assert_eq!((count, found), (0, false), "{}", f.name);
        // Whoever slept over it is refused, and the newcomer is not.
        assert!(!f.save("a", former, 10));
        assert!(f.save("a", epoch, 1));
    }
}

pub(crate) fn a_save_puts_the_expiry_off(f: &mut Fixture) {
    f.claim("a", 1);
    f.advance(TTL / 2);
    assert!(f.save("a", 1, 9));
    f.advance(TTL / 2);
    assert_eq!(f.claim("a", 2), (2, 9, true));
}

pub(crate) fn answers_come_in_the_order_of_the_requests(f: &mut Fixture) {
    f.store.ask(StoreCommand::Claim(claim(1, "a", 1)));
    f.store.ask(StoreCommand::Commit(vec![
        commit(1, "a", 1, 4),
        commit(2, "b", 3, 5),
    ]));
    f.store.ask(StoreCommand::Claim(claim(3, "a", 2)));
    // In one batch, the first of "a" is refused, the second is not.
    f.store.ask(StoreCommand::Commit(vec![
        commit(1, "a", 1, 6),
        commit(3, "a", 2, 7),
        commit(2, "b", 2, 9),
    ]));
    f.store.ask(StoreCommand::Commit(Vec::new()));
    f.store.ask(StoreCommand::Claim(claim(4, "b", 3)));
    f.store.flush(f.now);
    let mut seen = Vec::new();
    for _ in 0..6 {
        let event = f.event();
        if let StoreEvent::Claimed { key, grant } = event {
            let (epoch, count) = (grant.epoch, grant.snapshot.count);
            seen.push(format!(
                "claim {} {epoch} {count} {}",
                key.slot, grant.found
            ));
        } else if let StoreEvent::Committed { batch, fenced, .. } = event {
            let slots: Vec<_> = batch.iter().map(|commit| commit.key.slot).collect();
            seen.push(format!("save {slots:?} {fenced:?}"));
        } else {
            seen.push(format!("{event:?}"));
        }
    }
    let expected = [
        "claim 1 1 0 false",
        "save [1, 2] []",
        "claim 3 2 4 true",
        "save [1, 3, 2] [0, 2]",
        "save [] []",
        "claim 4 4 5 true",
    ];
    assert_eq!(seen, expected, "{}", f.name);
}

pub(crate) fn a_sync_is_answered_after_the_saves_before_it(f: &mut Fixture) {
    f.claim("a", 1);
    f.store
        .ask(StoreCommand::Commit(vec![commit(0, "a", 1, 4)]));
    f.store.ask(StoreCommand::Sync);
    f.store.ask(StoreCommand::Sync);
    f.store.flush(f.now);
    assert!(matches!(f.event(), StoreEvent::Committed { .. }));
    assert!(matches!(f.event(), StoreEvent::Synced));
    assert!(matches!(f.event(), StoreEvent::Synced));
}

pub(crate) fn ids_of_every_shape_are_kept_apart(f: &mut Fixture) {
    let longest = "x".repeat(SessionId::LEN_MAX);
    let ids = ["a", "A", "a.", "~", "-", "0", "00", &longest, &longest[1..]];
    for (i, id) in (1..).zip(ids) {
        assert!(f.save(id, i, i * 10));
    }
    for (i, id) in (1..).zip(ids) {
        assert_eq!(f.claim(id, 1), (i + 1, i * 10, true));
    }
}

/// What is open is renewed every quarter of the time to live, by the monotonic clock.
pub(crate) fn a_wall_clock_that_steps_takes_no_session_that_is_renewed(f: &mut Fixture) {
    let (epoch, _, _) = f.claim("open", 1);
    assert!(f.save("open", epoch, 7));
    // A board gets its time: from 1970, so to speak.
    f.now.unix_ms += u64::try_from(100 * TTL.as_millis()).unwrap();
    for _ in 0..4 {
        f.turns(TTL / 4);
        assert!(f.save("open", epoch, 7), "{}", f.name);
    }
    assert_eq!(f.claim("open", 2), (epoch + 1, 7, true), "{}", f.name);
}

pub(crate) fn a_wall_clock_that_steps_shortly_before_a_claim_takes_no_session(f: &mut Fixture) {
    let (epoch, _, _) = f.claim("open", 1);
    assert!(f.save("open", epoch, 7));
    f.turns(TTL / 8);
    f.now.unix_ms += u64::try_from(100 * TTL.as_millis()).unwrap();
    f.turns(TTL / 8);
    assert_eq!(f.claim("open", 2), (epoch + 1, 7, true), "{}", f.name);
}

/// Stopped by a signal, or by the hypervisor: nothing was renewed meanwhile.
pub(crate) fn a_process_that_stood_still_takes_no_session_that_is_open(f: &mut Fixture) {
    let (epoch, _, _) = f.claim("open", 1);
    assert!(f.save("open", epoch, 7));
    f.now.instant += 3 * TTL;
    f.now.unix_ms += u64::try_from(3 * TTL.as_millis()).unwrap();
    f.turns(Duration::ZERO);
    assert_eq!(f.claim("open", 2), (epoch + 1, 7, true), "{}", f.name);
}
