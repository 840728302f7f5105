//! Each call into the store is reported to the test, and returns when the test says how: so a call
//! hangs for as long as the test likes. The loop's clock is moved by the test.

use std::panic;
use std::sync::Mutex;

use super::*;
use crate::clock;
use crate::config::Config;
use crate::engine::io::{Mail, Push, Refused, SessionId, SessionKey, Snapshot};
use worker::CLAIMS_MAX;

const SECOND: Duration = Duration::from_secs(1);

/// How a call returns.
enum Verdict {
    Done,
    Fenced(usize),
    Refused,
    Away(&'static str),
    Panic,
    /// With a value that panics once more when it is dropped.
    PanicTwice,
    /// It has fewer answers than it was asked for.
    Short,
}
use Verdict::{Away, Done, Fenced, Panic, PanicTwice, Short};

/// The thread's end of the test.
#[derive(Clone)]
struct Script {
    calls: Sender<String>,
    verdicts: Arc<Mutex<Receiver<Verdict>>>,
    news: Option<u64>,
}

impl Script {
    fn call(&self, what: String) -> Result<Verdict, StoreError> {
        drop(self.calls.send(what));
        let verdict = self.verdicts.lock().unwrap().recv();
        match verdict.unwrap_or(Away("the test is over")) {
            Verdict::Refused => Err(StoreError::Refused("not that".to_owned())),
            Away(reason) => Err(StoreError::Away(reason.to_owned())),
            Panic => panic::resume_unwind(Box::new("as the test wants it")),
            PanicTwice => panic::resume_unwind(Box::new(Bomb)),
            verdict @ (Done | Fenced(_) | Short) => Ok(verdict),
        }
    }

    fn call_for(
        &self,
        what: &str,
        sessions: impl Iterator<Item = SessionId>,
    ) -> Result<Verdict, StoreError> {
        let names: Vec<_> = sessions.map(|session| session.to_string()).collect();
        self.call(format!("{what} {}", names.join(" ")))
    }
}

struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        panic::resume_unwind(Box::new("twice"));
    }
}

impl BlockingStore for Script {
    fn claim(&mut self, claims: &[Claim], _times: Times) -> Result<Vec<Grant>, StoreError> {
        let sessions = claims.iter().map(|claim| claim.session.clone());
        let verdict = self.call_for("claim", sessions)?;
        let grant = |claim: &Claim| Grant {
            epoch: claim.token,
            found: false,
            snapshot: Snapshot::default(),
            mailbox: Mailbox::default(),
        };
        let skipped = usize::from(matches!(verdict, Short));
        Ok(claims.iter().skip(skipped).map(grant).collect())
    }

    /// Each push gets the number of its step.
    fn commit(&mut self, batch: &[Commit], _times: Times) -> Result<Committed, StoreError> {
        let sessions = batch.iter().map(|commit| commit.session.clone());
        let verdict = self.call_for("commit", sessions)?;
        let skipped = usize::from(matches!(verdict, Short));
        let fenced = match verdict {
            Fenced(position) => vec![position],
            Done | Verdict::Refused | Away(_) | Panic | PanicTwice | Short => Vec::new(),
        };
        let commits = batch.iter().enumerate();
        let taken = commits.filter(|(position, _)| !fenced.contains(position));
        let steps = taken.flat_map(|(_, commit)| commit.pushes().iter().map(|push| push.step));
        let pushed = steps.map(Pushed::Accepted).skip(skipped).collect();
        Ok(Committed {
            fenced,
            pushed,
            mail: Vec::new(),
        })
    }

    fn read(&mut self, read: &ReadMailbox, _times: Times) -> Result<Mailbox, StoreError> {
        self.call(format!("read {}", read.session))?;
        Ok(Mailbox::new(7, []))
    }

    fn sync(&mut self) -> Result<(), StoreError> {
        self.call("sync".to_owned()).map(drop)
    }

    fn maintain(&mut self, _times: Times) -> Result<(), StoreError> {
        self.call("maintain".to_owned()).map(drop)
    }

    /// One push to "a", and nothing after it.
    fn news(&mut self) -> Result<Vec<(SessionId, u64)>, StoreError> {
        let session = SessionId::parse("a").unwrap();
        Ok(self
            .news
            .take()
            .map(|sent| (session, sent))
            .into_iter()
            .collect())
    }
}

/// The loop's end.
struct Rig {
    store: Threaded<Script>,
    now: Now,
    poll: mio::Poll,
    calls: Receiver<String>,
    verdicts: Sender<Verdict>,
}

impl Rig {
    fn new() -> Self {
        let poll = mio::Poll::new().unwrap();
        let waker = mio::Waker::new(poll.registry(), mio::Token(0)).unwrap();
        let (calls, called) = mpsc::channel();
        let (verdicts, decided) = mpsc::channel();
        let script = Script {
            calls,
            verdicts: Arc::new(Mutex::new(decided)),
            news: Some(5),
        };
        let connect = move || script.call("connect".to_owned()).map(|_| script.clone());
        let now = clock::now();
        let parts = StoreParts {
            config: &Config::default(),
            registry: poll.registry(),
            token: mio::Token(1),
            waker: &Arc::new(waker),
            seed: 7,
            now,
        };
        Self {
            store: Threaded::new(&parts, "a script", connect).unwrap(),
            now,
            poll,
            calls: called,
            verdicts,
        }
    }

    /// After the first connection.
    fn up() -> Self {
        let mut rig = Self::new();
        rig.expect_up();
        rig
    }

    #[track_caller]
    fn expect_up(&mut self) {
        self.expect_call("connect", Done);
        self.expect("Up");
    }

    /// This call is made, and returns so.
    #[track_caller]
    fn expect_call(&self, what: &str, verdict: Verdict) {
        self.expect_hanging(what);
        self.verdicts.send(verdict).unwrap();
    }

    #[track_caller]
    fn expect_hanging(&self, what: &str) {
        assert_eq!(self.calls.recv_timeout(60 * SECOND).unwrap(), what);
    }

    /// The next event, as [`said`] writes it.
    #[track_caller]
    fn expect(&mut self, what: &str) {
        let mut events = mio::Events::with_capacity(4);
        loop {
            if let Some(event) = self.store.poll_event() {
                return assert_eq!(said(event), what);
            }
            self.poll.poll(&mut events, Some(60 * SECOND)).unwrap();
            assert!(!events.is_empty(), "nothing instead of {what}");
            self.store.handle_ready(self.now);
        }
    }

    /// A turn in which this is asked.
    fn ask(&mut self, commands: impl IntoIterator<Item = StoreCommand>) {
        self.store.handle_timeout(self.now);
        for command in commands {
            self.store.ask(command);
        }
        self.store.flush(self.now);
    }

    /// What a turn tells, some time later.
    fn after(&mut self, time: Duration) -> Option<String> {
        self.now.instant += time;
        self.ask([]);
        self.store.poll_event().map(said)
    }

    fn wants_turn_in(&self) -> Option<Duration> {
        let at = self.store.poll_timeout()?;
        Some(at - self.now.instant)
    }
}

fn said(event: StoreEvent) -> String {
    let list = |batch: &[Commit]| {
        let names: Vec<_> = batch.iter().map(|commit| commit.session.as_str()).collect();
        names.join(" ")
    };
    match event {
        StoreEvent::Claimed { key, grant } => format!("claimed {} {}", key.slot, grant.epoch),
        StoreEvent::Committed {
            batch,
            fenced,
            pushed,
        } => {
            let number = |outcome: &Pushed| format!(" {outcome:?}");
            let numbers: String = pushed.iter().map(number).collect();
            format!("committed {} {fenced:?}{numbers}", list(&batch))
        }
        StoreEvent::Mailbox { key, mailbox } => format!("mailbox {} {}", key.slot, mailbox.sent()),
        StoreEvent::Refused { request, reason } => match request {
            Refused::Claim(key) => format!("refused claim {}: {reason}", key.slot),
            Refused::Commit(commit) => format!("refused {}: {reason}", commit.session),
            Refused::Read(key) => format!("refused read {}: {reason}", key.slot),
        },
        StoreEvent::Down { reason } => format!("down: {reason}"),
        other @ (StoreEvent::Up
        | StoreEvent::Lost { .. }
        | StoreEvent::Stalled
        | StoreEvent::Resumed
        | StoreEvent::Mail { .. }
        | StoreEvent::Synced
        | StoreEvent::Spilled { .. }
        | StoreEvent::TakenOver { .. }) => format!("{other:?}"),
    }
}

fn key(slot: u32) -> SessionKey {
    let generation = 7;
    SessionKey { slot, generation }
}

fn claim(slot: u32, session: &str) -> StoreCommand {
    StoreCommand::Claim(Claim {
        key: key(slot),
        session: SessionId::parse(session).unwrap(),
        token: u64::from(slot),
    })
}

fn commit(sessions: &[&str]) -> StoreCommand {
    let commit = |session: &&str| Commit {
        key: key(0),
        session: SessionId::parse(session).unwrap(),
        epoch: 1,
        snapshot: Snapshot::counted(1),
        mail: None,
    };
    StoreCommand::Commit(sessions.iter().map(commit).collect())
}

/// Each session pushes with these steps.
fn pushing(sessions: &[(&str, &[u64])]) -> StoreCommand {
    let push = |step: &u64| Push {
        step: *step,
        to: SessionId::parse("to").unwrap(),
        body: "body".into(),
    };
    let commit = |(session, steps): &(&str, &[u64])| Commit {
        key: key(0),
        session: SessionId::parse(session).unwrap(),
        epoch: 1,
        snapshot: Snapshot::counted(1),
        mail: Some(Box::new(Mail {
            confirmed: 0,
            pushes: steps.iter().map(push).collect(),
        })),
    };
    StoreCommand::Commit(sessions.iter().map(commit).collect())
}

#[test]
fn what_became_of_pushes_is_told_of_all_but_the_fenced_and_the_refused() {
    let mut rig = Rig::up();
    rig.ask([pushing(&[
        ("a", &[1, 2]),
        ("b", &[]),
        ("bad", &[3]),
        ("c", &[4, 5]),
    ])]);
    rig.expect_call("commit a b bad c", Verdict::Refused);
    rig.expect_call("commit a b", Fenced(1));
    rig.expect_call("commit bad c", Verdict::Refused);
    rig.expect_call("commit bad", Verdict::Refused);
    rig.expect_call("commit c", Done);
    rig.expect("refused bad: not that");
    rig.expect("committed a b c [1] Accepted(1) Accepted(2) Accepted(4) Accepted(5)");
    rig.ask([pushing(&[("a", &[1]), ("b", &[2])])]);
    rig.expect_call("commit a b", Fenced(0));
    rig.expect("committed a b [0] Accepted(2)");
    rig.ask([pushing(&[("a", &[1]), ("b", &[2])])]);
    rig.expect_call("commit a b", Short);
    rig.expect("down: it has not told of every push what has become of it");
}

#[test]
fn a_mailbox_is_read_in_its_turn() {
    let mut rig = Rig::up();
    let read = |slot| {
        StoreCommand::Read(ReadMailbox {
            key: key(slot),
            session: SessionId::parse("a").unwrap(),
        })
    };
    rig.ask([read(1), commit(&["a"]), read(2)]);
    rig.expect_call("read a", Done);
    rig.expect("mailbox 1 7");
    rig.expect_call("commit a", Done);
    rig.expect("committed a []");
    rig.expect_call("read a", Verdict::Refused);
    rig.expect("refused read 2: not that");
    rig.ask([read(3)]);
    rig.expect_call("read a", Away("gone"));
    rig.expect("down: gone");
}

#[test]
fn calls_are_made_in_order_and_claims_that_wait_in_one() {
    let mut rig = Rig::up();
    rig.ask([StoreCommand::Sync]);
    rig.expect_hanging("sync");
    rig.ask([claim(1, "a"), claim(2, "b"), commit(&["a", "b"])]);
    rig.ask([claim(3, "c"), StoreCommand::Sync, claim(4, "d")]);
    for _ in 0..6 {
        rig.verdicts.send(Done).unwrap();
    }
    for call in ["claim a b", "commit a b", "claim c", "sync", "claim d"] {
        rig.expect_hanging(call);
    }
    rig.expect("Synced");
    rig.expect("claimed 1 1");
    rig.expect("claimed 2 2");
    rig.expect("committed a b []");
    rig.expect("claimed 3 3");
    rig.expect("Synced");
    rig.expect("claimed 4 4");
}

#[test]
fn one_call_claims_so_many_sessions_at_most() {
    let mut rig = Rig::up();
    rig.ask([StoreCommand::Sync]);
    rig.expect_hanging("sync");
    let slots = 0..=u32::try_from(CLAIMS_MAX).unwrap();
    rig.ask(slots.map(|slot| claim(slot, &format!("s{slot}"))));
    for _ in 0..3 {
        rig.verdicts.send(Done).unwrap();
    }
    let claims_of_next_call = || {
        rig.calls
            .recv_timeout(60 * SECOND)
            .unwrap()
            .matches('s')
            .count()
    };
    assert_eq!(claims_of_next_call(), CLAIMS_MAX);
    assert_eq!(claims_of_next_call(), 1);
}

#[test]
fn what_is_refused_is_found_by_halves() {
    let mut rig = Rig::up();
    rig.ask([commit(&["a", "b", "bad", "c"])]);
    rig.expect_call("commit a b bad c", Verdict::Refused);
    rig.expect_call("commit a b", Done);
    rig.expect_call("commit bad c", Verdict::Refused);
    rig.expect_call("commit bad", Verdict::Refused);
    rig.expect_call("commit c", Fenced(0));
    rig.expect("refused bad: not that");
    rig.expect("committed a b c [2]");

    rig.ask([claim(1, "bad")]);
    rig.expect_call("claim bad", Verdict::Refused);
    rig.expect("refused claim 1: not that");
    // Without a call.
    rig.ask([commit(&[])]);
    rig.expect("committed  []");
}

#[test]
fn a_store_that_is_away_is_connected_to_again_and_what_was_asked_is_forgotten() {
    let mut rig = Rig::up();
    rig.ask([commit(&["a"]), claim(1, "b")]);
    rig.expect_call("commit a", Away("reset by peer"));
    rig.expect_hanging("connect");
    // The loop has not heard of it.
    rig.ask([claim(2, "c")]);
    rig.verdicts.send(Done).unwrap();
    rig.expect("down: reset by peer");
    rig.expect("Up");
    rig.ask([claim(3, "d")]);
    rig.expect_call("claim d", Away("reset again"));
    rig.expect("down: reset again");
    rig.ask([claim(4, "e")]);
    assert_eq!(rig.wants_turn_in(), None);
    // Told once.
    rig.expect_call("connect", Away("no route"));
    rig.expect_call("connect", Panic);
    rig.expect_up();
    rig.ask([claim(5, "f")]);
    rig.expect_call("claim f", Done);
    rig.expect("claimed 5 5");
}

#[test]
fn a_store_that_is_never_reached_is_down_and_not_only_not_up() {
    let mut rig = Rig::new();
    rig.expect_call("connect", Away("no route"));
    rig.expect("down: no route");
    rig.expect_call("connect", Verdict::Refused);
    rig.expect_up();
}

#[test]
fn a_call_that_panics_takes_the_connection_along_and_nothing_else() {
    let mut rig = Rig::up();
    rig.ask([claim(1, "a")]);
    rig.expect_call("claim a", Panic);
    rig.expect("down: the store has panicked: as the test wants it");
    rig.expect_up();
    rig.ask([claim(2, "b")]);
    rig.expect_call("claim b", PanicTwice);
    // That ends the thread, and the next turn finds it.
    assert!(rig.calls.recv().is_err());
    let told = std::iter::from_fn(|| Some(rig.after(Duration::ZERO)));
    let told = told.take(1_000_000).flatten().next();
    assert_eq!(told.as_deref(), Some("down: its thread is gone"));
    assert_eq!(rig.after(SECOND), None);
}

#[test]
fn answers_that_make_no_sense_acknowledge_nothing() {
    let mut rig = Rig::up();
    rig.ask([claim(1, "a")]);
    rig.expect_call("claim a", Short);
    rig.expect("down: it has given 0 answers to 1 requests");
    rig.expect_up();
    rig.ask([commit(&["a", "b"])]);
    rig.expect_call("commit a b", Fenced(2));
    rig.expect("down: it has fenced commit 2 of 2");
}

#[test]
fn a_call_that_hangs_is_told_and_then_given_up() {
    let mut rig = Rig::up();
    rig.ask([StoreCommand::Sync]);
    rig.expect_hanging("sync");
    assert_eq!(rig.after(SECOND / 2), None);
    rig.ask([commit(&["a"])]);
    assert_eq!(rig.wants_turn_in(), Some(SECOND / 2));
    assert_eq!(rig.after(SECOND / 2).as_deref(), Some("Stalled"));
    rig.verdicts.send(Done).unwrap();
    rig.expect("Synced");
    rig.expect("Resumed");

    rig.expect_hanging("commit a");
    assert_eq!(rig.after(SECOND).as_deref(), Some("Stalled"));
    rig.ask([claim(1, "b")]);
    assert_eq!(rig.wants_turn_in(), Some(SILENCE_MAX));
    assert_eq!(rig.after(SILENCE_MAX / 2), None);
    let down = rig.after(SILENCE_MAX / 2);
    assert_eq!(down.as_deref(), Some("down: no answer in 15 s"));
    rig.ask([claim(2, "c")]);
    assert_eq!(rig.wants_turn_in(), None);
    // What it answers now counts for nothing, and nothing that waited behind it is called.
    rig.verdicts.send(Done).unwrap();
    rig.expect_up();
    rig.ask([claim(3, "d")]);
    rig.expect_call("claim d", Done);
    rig.expect("claimed 3 3");
}

#[test]
fn the_answer_that_comes_as_the_call_is_given_up_counts_for_nothing() {
    let mut rig = Rig::up();
    rig.ask([StoreCommand::Sync]);
    assert_eq!(rig.after(SECOND).as_deref(), Some("Stalled"));
    rig.expect_call("sync", Done);
    // The thread has told, and waits for more.
    rig.expect_call("maintain", Done);
    rig.now.instant += SILENCE_MAX;
    rig.store.handle_timeout(rig.now);
    rig.expect("down: no answer in 15 s");
    rig.expect_up();
}

#[test]
fn a_store_is_maintained_every_second_and_watched_by_that() {
    let mut rig = Rig::up();
    assert_eq!(rig.wants_turn_in(), Some(SECOND));
    assert_eq!(rig.after(SECOND), None);
    rig.expect_hanging("maintain");
    assert_eq!(rig.after(SECOND).as_deref(), Some("Stalled"));
    rig.verdicts.send(Done).unwrap();
    rig.expect("Mail { session: SessionId(\"a\"), sent: 5 }");
    rig.expect("Resumed");
    assert_eq!(rig.after(SECOND / 2), None);
    rig.expect_call("maintain", Away("read only"));
    rig.expect("down: read only");
}

#[test]
fn a_store_that_is_dropped_while_a_call_hangs_waits_for_nothing() {
    let mut rig = Rig::up();
    rig.ask([commit(&["a"]), commit(&["b"])]);
    rig.expect_hanging("commit a");
    drop(rig.store);
    // What was asked is carried out, and the thread ends.
    rig.verdicts.send(Done).unwrap();
    rig.verdicts.send(Done).unwrap();
    assert_eq!(rig.calls.recv().unwrap(), "commit b");
    assert!(rig.calls.recv().is_err());
}
