//! Goal: the SQLite store keeps its promises on real files: shared with another process, locked by
//! it, damaged, killed, and under steady writes; and it never waits for anybody. Method: real
//! files in a temporary directory, other connections as the other processes, a child process that
//! is killed, and a clock that the test moves wherever time only decides what is due.

#![expect(clippy::unwrap_used, reason = "a test may fail wherever it likes")]

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use rusqlite::Connection;
use sundown::clock;
use sundown::engine::io::{
    Claim, Commit, Mail, Now, Push, ReadMailbox, SessionId, SessionKey, Snapshot, StoreCommand,
    StoreEvent,
};
use sundown::store::SessionStore;
use sundown::store::sqlite::SqliteStore;

const TTL: Duration = Duration::from_secs(3_600);
const MIB: u64 = 1 << 20;

/// Tells the child of the crash test where to save.
const CHILD_PATH: &str = "SUNDOWN_TEST_SAVE_INTO";
const CHILD_SESSIONS: u32 = 20;

/// A store and the loop around it.
struct Node {
    store: SqliteStore,
    poll: mio::Poll,
    now: Now,
}

impl Node {
    /// In a new file epochs begin at 1, so that a test can write them down.
    fn open(path: &Path) -> Self {
        let is_new = !path.exists();
        let node = Self::open_as_it_is(path);
        if is_new {
            let conn = rusqlite::Connection::open(path).unwrap();
            conn.execute("UPDATE meta SET epoch_floor = 0", []).unwrap();
        }
        node
    }

    fn open_as_it_is(path: &Path) -> Self {
        let poll = mio::Poll::new().unwrap();
        let waker = Arc::new(mio::Waker::new(poll.registry(), mio::Token(0)).unwrap());
        let mut store = SqliteStore::open(path, TTL, waker).unwrap();
        assert!(matches!(store.poll_event(), Some(StoreEvent::Up)));
        let now = clock::now();
        Self { store, poll, now }
    }

    /// A turn without waiting, at the time that the test has set.
    fn turn(&mut self) -> Vec<String> {
        self.store.handle_ready(self.now);
        if self
            .store
            .poll_timeout()
            .is_some_and(|at| at <= self.now.instant)
        {
            self.store.handle_timeout(self.now);
        }
        self.store.flush(self.now);
        std::iter::from_fn(|| self.store.poll_event().map(|event| text(&event))).collect()
    }

    fn advance(&mut self, by: Duration) {
        self.now.instant += by;
        self.now.unix_ms += u64::try_from(by.as_millis()).unwrap();
    }

    /// Turns in test time, each when the store wants it, until one of them has something to say.
    fn turn_until_event(&mut self) -> Vec<String> {
        for _ in 0..10_000 {
            let events = self.turn();
            if !events.is_empty() {
                return events;
            }
            self.now.instant = self.store.poll_timeout().unwrap().max(self.now.instant);
        }
        panic!("nothing happens")
    }

    /// Turns in real time, as the loop does, until one of them has something to say other than
    /// that a slow disk has kept the lock.
    fn run_until_event(&mut self) -> Vec<String> {
        let mut events = mio::Events::with_capacity(4);
        let started = clock::now().instant;
        loop {
            self.now = clock::now();
            let mut seen = self.turn();
            seen.retain(|event| event != "stalled" && event != "resumed");
            if !seen.is_empty() {
                return seen;
            }
            let waited = self.now.instant - started;
            assert!(waited < Duration::from_secs(120), "nothing happens");
            let timeout = self.store.poll_timeout().unwrap() - self.now.instant;
            self.poll.poll(&mut events, Some(timeout)).unwrap();
        }
    }

    fn claim(&mut self, session: &str, token: u64) {
        self.store.ask(StoreCommand::Claim(Claim {
            key: key(0),
            session: SessionId::parse(session).unwrap(),
            token,
        }));
    }

    /// Pushes once with each of these steps, under epoch 1.
    fn push(&mut self, from: &str, to: &str, steps: std::ops::RangeInclusive<u64>) {
        let mut commit = commit(from, 1, *steps.end());
        let push = |step| Push {
            step,
            to: SessionId::parse(to).unwrap(),
            body: "push".into(),
        };
        commit.mail = Some(Box::new(Mail {
            confirmed: 0,
            pushes: steps.map(push).collect(),
        }));
        self.store.ask(StoreCommand::Commit(vec![commit]));
    }

    fn save(&mut self, session: &str, epoch: u64, count: u64) {
        self.store
            .ask(StoreCommand::Commit(vec![commit(session, epoch, count)]));
    }
}

fn key(slot: u32) -> SessionKey {
    SessionKey {
        slot,
        generation: 0,
    }
}

fn commit(session: &str, epoch: u64, count: u64) -> Commit {
    Commit {
        key: key(0),
        session: SessionId::parse(session).unwrap(),
        epoch,
        snapshot: Snapshot::counted(count),
        mail: None,
    }
}

fn text(event: &StoreEvent) -> String {
    match event {
        StoreEvent::Up => "up".to_owned(),
        StoreEvent::Down { .. } => "down".to_owned(),
        StoreEvent::Stalled => "stalled".to_owned(),
        StoreEvent::Resumed => "resumed".to_owned(),
        StoreEvent::Claimed { grant, .. } => {
            let (epoch, count) = (grant.epoch, grant.snapshot.count);
            format!("claimed {epoch} {count} {}", grant.found)
        }
        StoreEvent::Lost { reason } => format!("lost: {reason}"),
        StoreEvent::Refused { reason, .. } => format!("refused: {reason}"),
        StoreEvent::Committed { batch, fenced, .. } => match batch.first() {
            Some(commit) if fenced.is_empty() => {
                format!("saved {} {}", commit.session, commit.snapshot.count)
            }
            Some(commit) => format!("fenced {} {}", commit.session, commit.snapshot.count),
            None => "saved".to_owned(),
        },
        StoreEvent::Spilled { .. } => "spilled".to_owned(),
        StoreEvent::Mailbox { mailbox, .. } => format!("mailbox {}", mailbox.sent()),
        StoreEvent::Mail { session, sent } => format!("mail {session} {sent}"),
        StoreEvent::Synced => "synced".to_owned(),
        StoreEvent::TakenOver { session, epoch } => format!("taken {session} {epoch}"),
    }
}

fn temporary() -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("sessions.db");
    (dir, path)
}

fn wal_of(path: &Path) -> PathBuf {
    let mut wal = path.as_os_str().to_owned();
    wal.push("-wal");
    wal.into()
}

fn wal_bytes(path: &Path) -> u64 {
    fs::metadata(wal_of(path)).map_or(0, |metadata| metadata.len())
}

#[test]
fn of_two_processes_the_one_that_claimed_last_saves_and_the_other_learns_of_it() {
    let (_dir, path) = temporary();
    let (mut blue, mut green) = (Node::open(&path), Node::open(&path));
    blue.claim("a", 1);
    assert_eq!(blue.turn(), ["claimed 1 0 false"]);
    blue.save("a", 1, 10);
    assert_eq!(blue.turn(), ["saved a 10"]);
    green.claim("a", 2);
    assert_eq!(green.turn(), ["claimed 2 10 true"]);
    blue.save("a", 1, 11);
    assert_eq!(blue.turn(), ["fenced a 11"]);
    green.save("a", 2, 12);
    assert_eq!(green.turn(), ["saved a 12"]);
    assert_eq!(blue.turn_until_event(), ["taken a 2"]);
    // Once, and only to the other.
    blue.claim("b", 3);
    assert_eq!(blue.turn(), ["claimed 1 0 false"]);
    for node in [&mut blue, &mut green] {
        node.advance(Duration::from_secs(5));
    }
    assert_eq!(green.turn(), ["taken a 1", "taken b 1"][1..]);
    assert_eq!(blue.turn(), [""; 0]);
}

#[test]
fn pushes_by_others_are_told_once_and_ones_own_are_not() {
    let (_dir, path) = temporary();
    let (mut blue, mut green) = (Node::open(&path), Node::open(&path));
    blue.claim("a", 1);
    blue.turn();
    for step in [1, 2] {
        green.push("green", "a", step..=step);
        green.turn();
        assert_eq!(blue.turn_until_event(), [format!("mail a {step}")]);
    }
    // Among one's own, and more than are looked at in one turn.
    let mut told = Vec::new();
    for steps in [3..=200, 201..=256] {
        blue.push("blue", "blue", steps.clone());
        green.push("green", "a", steps.clone());
        green.push("other", "other", steps);
        told.extend(blue.turn());
        green.turn();
    }
    while told.last().is_none_or(|last| last != "mail other 254") {
        told.extend(blue.turn_until_event());
    }
    told.retain(|event| event.starts_with("mail"));
    assert!(told.contains(&"mail a 256".to_owned()), "{told:?}");
    assert!(told.iter().all(|event| !event.contains("blue")), "{told:?}");
    blue.advance(Duration::from_secs(5));
    assert_eq!(blue.turn(), [""; 0]);
    // Whoever starts finds the rest in the mailbox.
    let mut late = Node::open(&path);
    assert_eq!(late.turn(), [""; 0]);
    late.store.ask(StoreCommand::Read(ReadMailbox {
        key: key(0),
        session: SessionId::parse("a").unwrap(),
    }));
    assert_eq!(late.turn(), ["mailbox 256"]);
}

#[test]
fn claims_by_others_all_arrive_even_if_they_are_many_and_among_our_own() {
    let (_dir, path) = temporary();
    let (mut blue, mut green) = (Node::open(&path), Node::open(&path));
    let mut seen = Vec::new();
    for i in 0..700 {
        green.claim(&format!("green{i}"), 1);
        blue.claim(&format!("blue{i}"), 1);
        if i % 70 == 69 {
            green.turn();
            seen.extend(blue.turn());
        }
    }
    let taken = |seen: &[String]| {
        let taken = seen.iter().filter(|event| event.starts_with("taken"));
        taken.cloned().collect::<Vec<_>>()
    };
    while taken(&seen).len() < 700 {
        seen.extend(blue.turn_until_event());
    }
    let expected: Vec<_> = (0..700).map(|i| format!("taken green{i} 1")).collect();
    assert!(taken(&seen) == expected);
}

/// What is known elsewhere of a session that was in the file before means nothing any more.
#[test]
fn a_new_file_in_the_place_of_another_grants_no_epoch_again() {
    let mut last = 0;
    for _ in 0..2 {
        let (_dir, path) = temporary();
        let mut node = Node::open_as_it_is(&path);
        node.claim("a", 1);
        node.store.flush(node.now);
        let Some(StoreEvent::Claimed { grant, .. }) = node.store.poll_event() else {
            panic!("no grant");
        };
        assert!(grant.epoch > last && grant.snapshot.incarnation == grant.epoch);
        last = grant.epoch;
    }
}

#[test]
fn a_process_that_starts_is_not_told_of_old_claims() {
    let (_dir, path) = temporary();
    let mut blue = Node::open(&path);
    blue.claim("old", 1);
    blue.turn();
    let mut green = Node::open(&path);
    green.turn();
    blue.claim("new", 1);
    blue.turn();
    assert_eq!(green.turn_until_event(), ["taken new 1"]);
}

#[test]
fn a_locked_file_stalls_and_resumes_with_nothing_forgotten() {
    let (_dir, path) = temporary();
    let mut node = Node::open(&path);
    node.claim("a", 1);
    node.turn();
    let other = Connection::open(&path).unwrap();
    other.execute_batch("BEGIN EXCLUSIVE").unwrap();
    node.save("a", 1, 1);
    let locked_at = node.now.instant;
    assert_eq!(node.turn(), [""; 0]);
    // The clock stands still but for the test: had a turn waited, it would have waited for ever.
    let mut pauses = Vec::new();
    while pauses.len() < 6 {
        pauses.push(node.store.poll_timeout().unwrap() - node.now.instant);
        node.advance(*pauses.last().unwrap());
        assert_eq!(node.turn(), [""; 0]);
    }
    assert_eq!(pauses, [2, 4, 8, 16, 20, 20].map(Duration::from_millis));
    node.claim("a", 2);
    node.save("a", 1, 2);
    node.store.ask(StoreCommand::Sync);
    assert_eq!(node.turn_until_event(), ["stalled"]);
    let stalled_after = node.now.instant - locked_at;
    assert!(
        (1_000..1_050).contains(&stalled_after.as_millis()),
        "{stalled_after:?}"
    );
    node.advance(Duration::from_secs(30));
    assert_eq!(node.turn(), [""; 0]);
    other.execute_batch("COMMIT").unwrap();
    let expected = ["resumed", "saved a 1", "claimed 2 1 true", "fenced a 2"];
    assert_eq!(node.turn_until_event(), expected);
    assert_eq!(node.run_until_event(), ["synced"]);
}

#[test]
fn a_short_lock_is_not_worth_a_word() {
    let (_dir, path) = temporary();
    let mut node = Node::open(&path);
    let other = Connection::open(&path).unwrap();
    for count in 1..=100 {
        other.execute_batch("BEGIN IMMEDIATE").unwrap();
        node.save("a", 1, count);
        assert_eq!(node.turn(), [""; 0]);
        other.execute_batch("ROLLBACK").unwrap();
        assert_eq!(node.turn_until_event(), [format!("saved a {count}")]);
    }
}

#[test]
fn a_damaged_file_takes_the_store_down_and_its_repair_brings_it_up() {
    let (_dir, path) = temporary();
    let mut node = Node::open(&path);
    node.save("a", 1, 1);
    assert_eq!(node.turn(), ["saved a 1"]);
    let other = Connection::open(&path).unwrap();
    other
        .execute_batch("ALTER TABLE session RENAME TO broken")
        .unwrap();
    node.save("a", 1, 2);
    node.store.ask(StoreCommand::Sync);
    assert_eq!(node.turn(), ["down"]);
    // Down is said once, and what is asked meanwhile is not answered, not even later.
    let mut longest = Duration::ZERO;
    while longest < Duration::from_secs(2) {
        node.save("a", 1, 3);
        let probe_at = node.store.poll_timeout().unwrap();
        longest = longest.max(probe_at - node.now.instant);
        node.now.instant = probe_at;
        assert_eq!(node.turn(), [""; 0]);
    }
    assert_eq!(longest, Duration::from_secs(2));
    other
        .execute_batch("ALTER TABLE broken RENAME TO session")
        .unwrap();
    assert_eq!(node.turn_until_event(), ["up"]);
    node.claim("a", 1);
    assert_eq!(node.turn(), ["claimed 2 1 true"]);
}

#[test]
fn files_that_are_not_ours_are_refused_and_left_as_they_are() {
    let (dir, path) = temporary();
    let make = |name: &str, sql: &str| {
        let path = dir.path().join(name);
        Connection::open(&path).unwrap().execute_batch(sql).unwrap();
        path
    };
    drop(Node::open(&path));
    let garbage = dir.path().join("garbage");
    fs::write(&garbage, [b'x'; 5_000]).unwrap();
    let newer = "PRAGMA application_id = 0x5344574e; PRAGMA user_version = 2";
    let cases = [
        (garbage, "file is not a database"),
        (
            make("foreign", "CREATE TABLE t (x)"),
            "not one of sundown's",
        ),
        (
            make("other", "PRAGMA application_id = 7"),
            "not one of sundown's",
        ),
        (make("newer", newer), "written by a newer sundown (schema 2"),
        (
            dir.path().to_owned(),
            "unable to open database file: it is a directory",
        ),
        (
            dir.path().join("no/such/dir"),
            "unable to open database file: there is no directory /",
        ),
        (PathBuf::from(":memory:"), "cannot keep a WAL"),
    ];
    for (path, expected) in cases {
        let before = fs::read(&path).ok();
        let poll = mio::Poll::new().unwrap();
        let waker = Arc::new(mio::Waker::new(poll.registry(), mio::Token(0)).unwrap());
        let refused = SqliteStore::open(&path, TTL, waker)
            .unwrap_err()
            .to_string();
        assert!(refused.contains(expected), "{refused}");
        assert!(refused.contains(&*path.to_string_lossy()), "{refused}");
        assert_eq!(fs::read(&path).ok(), before, "{}", path.display());
        assert!(!wal_of(&path).exists());
    }
}

#[test]
fn a_sync_is_done_even_while_somebody_reads_an_old_state() {
    let (_dir, path) = temporary();
    let mut node = Node::open(&path);
    node.save("a", 1, 1);
    node.turn();
    let reader = Connection::open(&path).unwrap();
    reader
        .execute_batch("BEGIN; SELECT * FROM session")
        .unwrap();
    node.save("a", 1, 2);
    node.store.ask(StoreCommand::Sync);
    assert_eq!(node.turn(), ["saved a 2"]);
    // Later saves do not wait for the disk.
    node.save("a", 1, 3);
    assert!(node.turn().contains(&"saved a 3".to_owned()));
    node.store.ask(StoreCommand::Sync);
    node.store.ask(StoreCommand::Sync);
    let mut synced = 0;
    while synced < 2 {
        synced += node.run_until_event().len();
    }
    drop(reader);
}

#[test]
fn the_wal_stays_small_under_steady_writes() {
    const COMMITS_MIN: u64 = 20_000;
    let (_dir, path) = temporary();
    let mut node = Node::open(&path);
    let started = clock::now().instant;
    let (mut largest, mut written, mut emptied, mut before, mut count) = (0, 0, 0, 0, 0);
    // How often it is emptied is the disk's business; that it is, without a pause, is ours.
    while count < COMMITS_MIN || emptied < 5 || largest >= written / 2 {
        count += 1;
        let sessions = (0..5).map(|i| (count + i * 200) % 1_000);
        let batch: Vec<_> = sessions
            .map(|i| commit(&format!("s{i}"), 1, count))
            .collect();
        let expected = format!("saved {} {count}", batch[0].session);
        node.store.ask(StoreCommand::Commit(batch));
        assert_eq!(node.run_until_event(), [expected]);
        let bytes = wal_bytes(&path);
        largest = bytes.max(largest);
        written += if bytes < before {
            bytes
        } else {
            bytes - before
        };
        emptied += u32::from(bytes < before);
        before = bytes;
        let elapsed = node.now.instant - started;
        assert!(
            elapsed < Duration::from_secs(120),
            "emptied {emptied} times"
        );
    }
    println!("{written} bytes, at most {largest} at a time, emptied {emptied} times");
}

#[test]
fn a_reader_keeps_the_wal_large_only_as_long_as_it_reads() {
    let (_dir, path) = temporary();
    let mut node = Node::open(&path);
    let reader = Connection::open(&path).unwrap();
    reader
        .execute_batch("BEGIN; SELECT * FROM session")
        .unwrap();
    let batch: Vec<_> = (0..500)
        .map(|i| commit(&format!("{i:0>100}"), 1, 1))
        .collect();
    let write = |node: &mut Node| {
        node.store.ask(StoreCommand::Commit(batch.clone()));
        node.run_until_event();
    };
    while wal_bytes(&path) < 12 * MIB {
        write(&mut node);
    }
    reader.execute_batch("COMMIT").unwrap();
    let started = clock::now().instant;
    while wal_bytes(&path) > 8 * MIB {
        write(&mut node);
        assert!(clock::now().instant - started < Duration::from_secs(120));
    }
}

#[test]
fn what_was_answered_survives_kill_9() {
    let (_dir, path) = temporary();
    for round in 1..=5 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "child_that_saves_until_it_is_killed",
                "--nocapture",
            ])
            .env(CHILD_PATH, &path)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap());
        let (mut line, mut answered, mut killed) = (String::new(), 0, false);
        loop {
            line.clear();
            if lines.read_line(&mut line).unwrap() == 0 || !line.ends_with('\n') {
                break;
            }
            if let Some(count) = line.trim_end().strip_prefix("SAVED ") {
                answered = count.parse().unwrap();
            }
            if answered >= round * 300 && !killed {
                child.kill().unwrap();
                killed = true;
            }
        }
        child.wait().unwrap();
        assert!(killed, "the child ended by itself at {answered}");
        let mut node = Node::open(&path);
        let mut counts = Vec::new();
        for i in 0..CHILD_SESSIONS {
            node.claim(&format!("s{i}"), 1_000_000 + round);
            let claimed = node.turn().concat();
            let count: u64 = claimed.split(' ').nth(2).unwrap().parse().unwrap();
            counts.push(count);
        }
        assert!(counts[0] >= answered, "{counts:?} after {answered}");
        // The child saves all of them in one batch: all or none.
        assert!(counts.iter().all(|count| *count == counts[0]), "{counts:?}");
    }
}

/// Not a test, but the process that the one above kills.
#[test]
fn child_that_saves_until_it_is_killed() {
    let Some(path) = std::env::var_os(CHILD_PATH) else {
        return;
    };
    let mut node = Node::open(Path::new(&path));
    for i in 0..CHILD_SESSIONS {
        node.claim(&format!("s{i}"), u64::from(std::process::id()));
    }
    let claimed = node.run_until_event();
    let number = |at| claimed[0].split(' ').nth(at).unwrap().parse().unwrap();
    let (epoch, mut count): (u64, u64) = (number(1), number(2));
    loop {
        count += 1;
        let sessions = 0..CHILD_SESSIONS;
        let batch = sessions.map(|i| commit(&format!("s{i}"), epoch, count));
        node.store.ask(StoreCommand::Commit(batch.collect()));
        assert_eq!(node.run_until_event(), [format!("saved s0 {count}")]);
        println!("SAVED {count}");
    }
}
