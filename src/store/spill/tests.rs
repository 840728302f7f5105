//! What goes into the spill, what comes out of it and when, against a store that answers what the
//! test says. Two of them with one file are two processes.

use std::sync::Mutex;

use super::replay::NOBODY;
use super::table::Reached;
use super::*;
use crate::clock;
use crate::engine::io::{Claim, Refused, SessionKey, Snapshot, State};
use crate::store::memory::MemoryStore;

mod rollback;

const TTL: Duration = Duration::from_secs(100);

/// A store that is asked and answers by hand.
#[derive(Clone, Default)]
struct Fake(Arc<Mutex<Played>>);

#[derive(Default)]
struct Played {
    saves: VecDeque<Vec<Commit>>,
    events: VecDeque<StoreEvent>,
}

impl SessionStore for Fake {
    fn describe(&self) -> String {
        "fake:".to_owned()
    }
    fn ask(&mut self, command: StoreCommand) {
        let StoreCommand::Commit(batch) = command else {
            panic!("{command:?}");
        };
        self.0.lock().unwrap().saves.push_back(batch);
    }
    fn flush(&mut self, _now: Now) {}
    fn poll_event(&mut self) -> Option<StoreEvent> {
        self.0.lock().unwrap().events.pop_front()
    }
}

/// One process.
struct Rig {
    spilling: SpillingStore,
    fake: Fake,
    now: Now,
    _poll: mio::Poll,
}

fn rig(path: &Path) -> Rig {
    rig_at(path, clock::now())
}

fn rig_at(path: &Path, now: Now) -> Rig {
    let (poll, waker) = waker();
    let fake = Fake::default();
    let store = OpenedStore::Alone(Box::new(fake.clone()));
    Rig {
        spilling: SpillingStore::open(path, store, TTL, waker, now).unwrap(),
        fake,
        now,
        _poll: poll,
    }
}

fn soon() -> Instant {
    clock::instant() + Duration::from_millis(100)
}

fn waker() -> (mio::Poll, Arc<Waker>) {
    let poll = mio::Poll::new().unwrap();
    let waker = Waker::new(poll.registry(), mio::Token(0)).unwrap();
    (poll, Arc::new(waker))
}

impl Rig {
    fn hear(&mut self, event: StoreEvent) -> Vec<String> {
        self.fake.0.lock().unwrap().events.push_back(event);
        self.turn()
    }

    /// One turn: what the engine is told.
    fn turn(&mut self) -> Vec<String> {
        let mut told = self.told();
        self.spilling.flush(self.now);
        told.extend(self.told());
        told
    }

    fn told(&mut self) -> Vec<String> {
        let events = std::iter::from_fn(|| self.spilling.poll_event());
        events.map(|event| in_words(&event)).collect()
    }

    fn pass(&mut self, time: Duration) -> Vec<String> {
        self.now.instant += time;
        self.turn()
    }

    /// What the store is asked to save, in words; it answers that, with these refused.
    fn answer(&mut self, fenced: Vec<usize>) -> (String, Vec<String>) {
        let batch = self.fake.0.lock().unwrap().saves.pop_front().unwrap();
        let words = commits_in_words(&batch);
        (words, self.hear(committed(batch, fenced)))
    }

    fn is_asked(&self) -> bool {
        !self.fake.0.lock().unwrap().saves.is_empty()
    }

    fn spill(&mut self, saves: &[(&str, u64, u64)]) -> Vec<String> {
        let batch = saves.iter().map(|&(id, e, n)| commit(id, e, n)).collect();
        self.spilling.put(batch);
        self.turn()
    }

    /// What is in the file.
    fn rows(&self) -> String {
        let Place::File(file) = &self.spilling.place else {
            panic!("there is a file");
        };
        let (mut rows, mut reached) = (Vec::new(), Reached::default());
        loop {
            let page = file.rows_after(&reached, usize::MAX >> 1, 0).unwrap();
            rows.extend(page.rows);
            match page.last {
                Some(last) => reached = last,
                None => return commits_in_words(&rows),
            }
        }
    }
}

fn commit(id: &str, epoch: u64, count: u64) -> Commit {
    Commit {
        key: SessionKey {
            slot: 3,
            generation: 4,
        },
        session: SessionId::parse(id).unwrap(),
        epoch,
        snapshot: Snapshot::counted(count),
        mail: None,
    }
}

fn committed(batch: Vec<Commit>, fenced: Vec<usize>) -> StoreEvent {
    let pushed = Vec::new();
    StoreEvent::Committed {
        batch,
        fenced,
        pushed,
    }
}

fn commits_in_words(saves: &[Commit]) -> String {
    let words = |s: &Commit| format!("{}:{}={}", s.session, s.epoch, s.snapshot.count);
    saves.iter().map(words).collect::<Vec<_>>().join(" ")
}

fn in_words(event: &StoreEvent) -> String {
    match event {
        StoreEvent::Up => "up".to_owned(),
        StoreEvent::Down { .. } => "down".to_owned(),
        StoreEvent::Stalled => "stalled".to_owned(),
        StoreEvent::Resumed => "resumed".to_owned(),
        StoreEvent::Committed { batch, .. } => format!("saved {}", commits_in_words(batch)),
        StoreEvent::Spilled { batch, kept: true } => format!("kept {}", commits_in_words(batch)),
        StoreEvent::Spilled { batch, kept: false } => {
            format!("refused {}", commits_in_words(batch))
        }
        StoreEvent::Claimed { .. }
        | StoreEvent::Refused { .. }
        | StoreEvent::Lost { .. }
        | StoreEvent::Mailbox { .. }
        | StoreEvent::Mail { .. }
        | StoreEvent::Synced
        | StoreEvent::TakenOver { .. } => {
            panic!("nobody asked for it")
        }
    }
}

fn spill_file() -> (tempfile::TempDir, std::path::PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("spill.db");
    (dir, path)
}

/// A file in which a process has left these.
fn left_behind(saves: &[(&str, u64, u64)]) -> (tempfile::TempDir, std::path::PathBuf) {
    let (dir, path) = spill_file();
    rig(&path).spill(saves);
    (dir, path)
}

#[test]
fn an_empty_spill_holds_nothing_up() {
    let (_dir, path) = spill_file();
    let mut rig = rig(&path);
    assert_eq!(rig.hear(StoreEvent::Up), ["up"]);
    assert!(!rig.is_asked());
}

#[test]
fn at_the_end_the_disk_is_waited_for() {
    let (_dir, path) = spill_file();
    let mut rig = rig(&path);
    rig.spill(&[("a", 1, 2)]);
    // A slow disk takes more than one wait.
    let mut waits = 0..200;
    while rig.spilling.disk() != Some(Disk::Synced) {
        assert!(waits.next().is_some(), "{:?}", rig.spilling.disk());
        rig.spilling.finish(soon());
    }
}

#[test]
fn what_was_spilled_is_in_the_store_before_it_is_up() {
    let (_dir, path) = left_behind(&[("a", 5, 7), ("b", 6, 8)]);
    let mut rig = rig(&path);
    assert_eq!(rig.hear(StoreEvent::Up), [""; 0]);
    assert_eq!(rig.rows(), "a:5=7 b:6=8", "nothing is taken out unanswered");
    let (asked, told) = rig.answer(vec![]);
    assert_eq!((asked.as_str(), told), ("a:5=7 b:6=8", vec!["up".into()]));
    assert_eq!(rig.rows(), "");
}

#[test]
fn what_has_been_claimed_anew_is_dropped() {
    let (_dir, path) = left_behind(&[("a", 5, 7), ("b", 6, 8)]);
    let mut rig = rig(&path);
    rig.hear(StoreEvent::Up);
    let (_, told) = rig.answer(vec![1]);
    assert_eq!(told, ["up"]);
    assert_eq!(rig.rows(), "");
}

#[test]
fn the_real_fence_decides() {
    let (_dir, path) = left_behind(&[("a", 1, 7), ("b", 1, 8)]);
    let (_poll, waker) = waker();
    let now = clock::now();
    let mut memory = MemoryStore::new(Duration::from_secs(60));
    let claim = |session: &str, token| Claim {
        key: NOBODY,
        session: SessionId::parse(session).unwrap(),
        token,
    };
    memory.ask(StoreCommand::Claim(claim("a", 1)));
    memory.ask(StoreCommand::Claim(claim("b", 1)));
    memory.ask(StoreCommand::Claim(claim("b", 2)));
    memory.flush(now);
    let memory = OpenedStore::Alone(Box::new(memory));
    let mut spilling = SpillingStore::open(&path, memory, TTL, waker, now).unwrap();
    while spilling.poll_event().is_some() {}
    for _ in 0..3 {
        spilling.flush(now);
        while spilling.poll_event().is_some() {}
    }
    spilling.ask(StoreCommand::Claim(claim("a", 3)));
    spilling.ask(StoreCommand::Claim(claim("b", 3)));
    spilling.flush(now);
    let mut counts = Vec::new();
    while let Some(event) = spilling.poll_event() {
        if let StoreEvent::Claimed { grant, .. } = event {
            counts.push((grant.epoch, grant.snapshot.count));
        }
    }
    assert_eq!(counts, [(2, 7), (3, 0)]);
}

#[test]
fn a_replay_that_was_cut_off_is_repeated() {
    let (_dir, path) = left_behind(&[("a", 5, 7)]);
    let mut first = rig(&path);
    first.hear(StoreEvent::Up);
    assert!(first.is_asked());
    drop(first);
    let mut second = rig(&path);
    second.hear(StoreEvent::Up);
    // Its link goes, too, before the answer.
    let reason = String::new();
    assert_eq!(second.hear(StoreEvent::Down { reason }), ["down"]);
    second.fake.0.lock().unwrap().saves.clear();
    assert_eq!(second.hear(StoreEvent::Up), [""; 0]);
    let (asked, told) = second.answer(vec![]);
    assert_eq!((asked.as_str(), told), ("a:5=7", vec!["up".into()]));
}

#[test]
fn of_two_processes_one_replays_and_the_other_waits() {
    let (_dir, path) = left_behind(&[("a", 5, 7)]);
    let (mut first, mut second) = (rig(&path), rig(&path));
    first.hear(StoreEvent::Up);
    assert_eq!(second.hear(StoreEvent::Up), [""; 0]);
    assert!(first.is_asked() && !second.is_asked());
    assert_eq!(second.pass(LEASE_PAUSE), [""; 0]);
    assert!(!second.is_asked());
    first.answer(vec![]);
    assert_eq!(second.pass(LEASE_PAUSE), ["up"]);
    assert!(!second.is_asked());
}

#[test]
fn a_process_that_dies_in_its_replay_leaves_it_to_the_next() {
    let (_dir, path) = left_behind(&[("a", 5, 7)]);
    let (mut first, mut second) = (rig(&path), rig(&path));
    first.hear(StoreEvent::Up);
    second.hear(StoreEvent::Up);
    drop(first);
    assert_eq!(second.pass(LEASE_PAUSE), [""; 0]);
    let (asked, _) = second.answer(vec![]);
    assert_eq!(asked, "a:5=7");
}

#[test]
fn whoever_has_the_file_by_a_link_waits_too() {
    let (dir, path) = left_behind(&[("a", 5, 7)]);
    let link = dir.path().join("link.db");
    std::os::unix::fs::symlink(&path, &link).unwrap();
    let (mut first, mut second) = (rig(&path), rig(&link));
    first.hear(StoreEvent::Up);
    assert_eq!(second.hear(StoreEvent::Up), [""; 0]);
    assert!(!second.is_asked());
}

#[test]
fn whoever_serves_does_not_wait_for_the_replay_of_others() {
    let (_dir, path) = spill_file();
    let mut serving = rig(&path);
    assert_eq!(serving.hear(StoreEvent::Up), ["up"]);
    let reason = String::new();
    serving.hear(StoreEvent::Down { reason });
    rig(&path).spill(&[("a", 5, 7)]);
    let mut starting = rig(&path);
    starting.hear(StoreEvent::Up);
    assert!(starting.is_asked());
    assert_eq!(serving.hear(StoreEvent::Up), ["up"]);
}

#[test]
fn without_a_link_the_replay_is_left_to_others() {
    let (_dir, path) = left_behind(&[("a", 5, 7)]);
    let (mut first, mut second) = (rig(&path), rig(&path));
    first.hear(StoreEvent::Up);
    second.hear(StoreEvent::Up);
    let reason = String::new();
    first.hear(StoreEvent::Down { reason });
    second.pass(LEASE_PAUSE);
    assert!(second.is_asked());
}

#[test]
fn what_another_process_spills_meanwhile_is_not_deleted() {
    let (_dir, path) = left_behind(&[("a", 5, 7), ("b", 5, 7)]);
    let (mut first, mut second) = (rig(&path), rig(&path));
    first.hear(StoreEvent::Up);
    second.spill(&[("a", 5, 8), ("b", 6, 1)]);
    let (_, told) = first.answer(vec![]);
    assert_eq!(told, ["up"]);
    assert_eq!(first.rows(), "a:5=8 b:6=1");
}

#[test]
fn a_long_replay_goes_in_portions() {
    let ids: Vec<String> = (0..ROWS_MAX + 3).map(|i| format!("{i:05}")).collect();
    let saves: Vec<_> = ids.iter().map(|id| (id.as_str(), 5, 1)).collect();
    let (_dir, path) = left_behind(&saves);
    let mut rig = rig(&path);
    rig.hear(StoreEvent::Up);
    let (first, told) = rig.answer(vec![]);
    assert_eq!((first.split(' ').count(), told.len()), (ROWS_MAX, 0));
    let (rest, told) = rig.answer(vec![]);
    assert_eq!((rest.split(' ').count(), told), (3, vec!["up".into()]));
    assert_eq!(rig.rows(), "");
}

#[test]
fn a_row_that_is_no_session_holds_nothing_up() {
    let (_dir, path) = left_behind(&[("a", 5, 7)]);
    let other = rusqlite::Connection::open(&path).unwrap();
    let sql = "INSERT INTO spilled (id, epoch, count) VALUES ('not an id', -1, -1), ('', 1, 1)";
    other.execute(sql, []).unwrap();
    let mut rig = rig(&path);
    rig.hear(StoreEvent::Up);
    let (asked, told) = rig.answer(vec![]);
    assert_eq!(asked, "a:5=7");
    let later = [told, rig.turn()].concat();
    assert_eq!(later, ["up"]);
}

#[test]
fn how_the_store_is_matters_only_once_it_is_up() {
    let (_dir, path) = left_behind(&[("a", 5, 7)]);
    let mut rig = rig(&path);
    rig.hear(StoreEvent::Up);
    assert_eq!(rig.hear(StoreEvent::Stalled), [""; 0]);
    assert_eq!(rig.hear(StoreEvent::Resumed), [""; 0]);
    assert_eq!(rig.hear(StoreEvent::Stalled), [""; 0]);
    let (_, told) = rig.answer(vec![]);
    assert_eq!(told, ["up", "stalled"]);
    assert_eq!(rig.hear(StoreEvent::Resumed), ["resumed"]);
}

#[test]
fn of_two_rows_for_a_session_the_newer_is_kept() {
    let (_dir, path) = spill_file();
    let mut rig = rig(&path);
    assert_eq!(rig.spill(&[("a", 5, 7)]), ["kept a:5=7"]);
    rig.spill(&[("a", 5, 6)]);
    assert_eq!(rig.rows(), "a:5=7");
    rig.spill(&[("a", 6, 2)]);
    rig.spill(&[("a", 5, 9)]);
    assert_eq!(rig.rows(), "a:6=2");
}

#[test]
fn what_the_store_takes_after_all_leaves_the_spill() {
    let (_dir, path) = spill_file();
    let mut rig = rig(&path);
    rig.hear(StoreEvent::Up);
    rig.spill(&[("a", 5, 7), ("b", 5, 7), ("c", 5, 7)]);
    let batch = vec![commit("a", 5, 7), commit("b", 5, 6), commit("c", 5, 9)];
    let fenced = vec![2];
    let told = rig.hear(committed(batch, fenced));
    assert_eq!(told, ["saved a:5=7 b:5=6 c:5=9"]);
    assert_eq!(rig.rows(), "b:5=7");
    let batch = vec![commit("b", 5, 7)];
    let fenced = vec![];
    rig.hear(committed(batch, fenced));
    assert_eq!(rig.rows(), "");
}

#[test]
fn a_spill_that_another_process_writes_is_tried_again() {
    let (_dir, path) = spill_file();
    let mut rig = rig(&path);
    let other = rusqlite::Connection::open(&path).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    assert_eq!(rig.spill(&[("a", 5, 7)]), [""; 0]);
    assert_eq!(
        rig.spilling.poll_timeout(),
        Some(rig.now.instant + LOCKED_PAUSE)
    );
    other.execute_batch("ROLLBACK").unwrap();
    assert_eq!(rig.pass(LOCKED_PAUSE), ["kept a:5=7"]);
    assert_eq!(rig.spilling.poll_timeout(), None);
}

#[test]
fn the_last_attempt_does_not_wait_for_its_time() {
    let (_dir, path) = spill_file();
    let mut rig = rig(&path);
    let other = rusqlite::Connection::open(&path).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    assert_eq!(rig.spill(&[("a", 5, 7)]), [""; 0]);
    rig.spilling.finish(soon());
    assert_eq!(rig.told(), [""; 0]);
    other.execute_batch("ROLLBACK").unwrap();
    rig.spilling.finish(soon());
    assert_eq!(rig.told(), ["kept a:5=7"]);
}

#[test]
fn a_full_disk_keeps_what_fits() {
    let (_dir, path) = spill_file();
    let mut rig = rig(&path);
    let Place::File(file) = &rig.spilling.place else {
        panic!("there is a file");
    };
    file.limit_pages(64);
    let ids: Vec<String> = (0..4 * ROWS_MAX).map(|i| format!("{i:0>64}")).collect();
    let saves: Vec<_> = ids.iter().map(|id| (id.as_str(), 5, 1)).collect();
    let told = rig.spill(&saves);
    let kinds: Vec<_> = told.iter().map(|t| t.split(' ').next().unwrap()).collect();
    assert_eq!(kinds, ["kept", "refused", "refused", "refused"]);
    assert_eq!(rig.rows().split(' ').count(), ROWS_MAX);
}

#[test]
fn without_a_place_everything_is_refused() {
    let (dir, _) = spill_file();
    let mut rig = rig(&dir.path().join("missing").join("spill.db"));
    assert_eq!(rig.hear(StoreEvent::Up), ["up"]);
    assert_eq!(rig.spill(&[("a", 5, 7)]), ["refused a:5=7"]);
}

#[test]
fn a_file_that_is_none_of_ours_stops_the_start() {
    #[track_caller]
    fn check(path: &Path, expected: &str) {
        let (_poll, waker) = waker();
        let store = OpenedStore::Alone(Box::new(Fake::default()));
        let now = clock::now();
        let error = SpillingStore::open(path, store, TTL, waker, now).map(|_| ());
        let text = error.unwrap_err().to_string();
        assert!(text.starts_with("--spill sqlite:"), "{text}");
        assert!(text.ends_with(expected), "{text}");
    }
    let (_dir, path) = spill_file();
    std::fs::write(&path, "no database at all, and longer than its header").unwrap();
    check(&path, "file is not a database");
    let (_dir, path) = spill_file();
    let ttl = Duration::from_secs(60);
    let (_poll, waker) = waker();
    drop(crate::store::sqlite::SqliteStore::open(&path, ttl, waker).unwrap());
    check(&path, "an SQLite database, but not one of sundown's");
}

#[test]
fn a_row_that_the_store_refuses_stays_and_the_others_go_on() {
    let (_dir, path) = left_behind(&[("a", 5, 7), ("evil", 5, 8), ("z", 5, 9)]);
    let mut rig = rig(&path);
    assert_eq!(rig.hear(StoreEvent::Up), [""; 0]);
    let mut batch = rig.fake.0.lock().unwrap().saves.pop_front().unwrap();
    let request = Refused::Commit(batch.remove(1));
    let reason = "WRONGTYPE".to_owned();
    assert_eq!(rig.hear(StoreEvent::Refused { request, reason }), [""; 0]);
    let fenced = Vec::new();
    assert_eq!(rig.hear(committed(batch, fenced)), ["up"]);
    assert_eq!(rig.rows(), "evil:5=8");
}

#[test]
fn a_row_expires_as_a_record_does() {
    let (_dir, path) = left_behind(&[("a", 5, 7), ("b", 5, 7)]);
    let mut later = clock::now();
    later.unix_ms += u64::try_from(TTL.as_millis()).unwrap() / 2;
    let mut rig = rig_at(&path, later);
    rig.spill(&[("b", 5, 8)]);
    later.unix_ms += u64::try_from(TTL.as_millis()).unwrap() / 2;
    let mut rig = rig_at(&path, later);
    assert_eq!(rig.hear(StoreEvent::Up), [""; 0]);
    let (asked, told) = rig.answer(vec![]);
    assert_eq!((asked.as_str(), told), ("b:5=8", vec!["up".into()]));
    assert_eq!(rig.rows(), "");
    later.unix_ms += u64::try_from(TTL.as_millis()).unwrap();
    rig.spill(&[("a", 5, 7)]);
    let mut rig = rig_at(&path, later);
    let told = [rig.hear(StoreEvent::Up), rig.turn()].concat();
    assert_eq!(told, ["up"]);
    assert!(!rig.is_asked());
    rig.turn();
    assert_eq!(rig.rows(), "");
}

#[test]
fn a_file_of_version_0_1_0_is_replayed_and_its_rows_do_not_expire() {
    let (_dir, path) = spill_file();
    let old = rusqlite::Connection::open(&path).unwrap();
    old.execute_batch(
        "CREATE TABLE spilled (
             id TEXT PRIMARY KEY, epoch INTEGER NOT NULL, count INTEGER NOT NULL
         ) STRICT, WITHOUT ROWID;
         PRAGMA application_id = 0x53445753; PRAGMA user_version = 1;
         INSERT INTO spilled (id, epoch, count) VALUES ('a', 5, 7)",
    )
    .unwrap();
    let mut rig = rig(&path);
    // It may still be running beside the new one.
    let sql = "INSERT INTO spilled (id, epoch, count) VALUES ('b', 5, 7)";
    old.execute(sql, []).unwrap();
    rig.hear(StoreEvent::Up);
    let (asked, told) = rig.answer(vec![]);
    assert_eq!((asked.as_str(), told), ("a:5=7 b:5=7", vec!["up".into()]));
}

/// A spill that version 0.1.0 has written (tests/fixtures/0.1.0).
#[test]
fn a_file_of_version_0_1_0_goes_on_with_steps_and_states() {
    let (_dir, path) = spill_file();
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/0.1.0");
    std::fs::copy(fixtures.join("spill.sqlite"), &path).unwrap();
    let mut first = rig(&path);
    first.hear(StoreEvent::Up);
    let (asked, told) = first.answer(vec![0]);
    assert_eq!(asked, "lost:1=3 made-again:6=13 seven:2=8");
    assert_eq!(told, ["up"]);
    let held = Commit {
        snapshot: Snapshot {
            incarnation: 4,
            step: 2,
            count: 9,
            state: State::new(b"\0nine\xff").unwrap(),
        },
        key: NOBODY,
        ..commit("nine", 5, 0)
    };
    first.spilling.put(vec![held.clone()]);
    assert_eq!(first.turn(), ["kept nine:5=9"]);
    drop(first);
    let mut second = rig(&path);
    second.hear(StoreEvent::Up);
    let asked = second.fake.0.lock().unwrap().saves.pop_front();
    assert_eq!(asked.unwrap(), [held]);
}

#[test]
fn of_two_rows_of_one_epoch_the_later_step_is_kept() {
    let (_dir, path) = spill_file();
    let mut rig = rig(&path);
    let row = |step, state: &[u8]| {
        let state = State::new(state).unwrap();
        let snapshot = Snapshot {
            step,
            state,
            ..Snapshot::counted(7)
        };
        Commit {
            snapshot,
            ..commit("a", 5, 0)
        }
    };
    for (step, state) in [(2, b"two"), (3, b"new"), (1, b"old")] {
        rig.spilling.put(vec![row(step, state)]);
        rig.turn();
    }
    rig.hear(StoreEvent::Up);
    let batch = rig.fake.0.lock().unwrap().saves.pop_front().unwrap();
    assert_eq!(batch[0].snapshot, row(3, b"new").snapshot);
    // A row that has grown during its replay stays.
    rig.spilling.put(vec![row(4, b"grown")]);
    rig.turn();
    let fenced = Vec::new();
    rig.hear(committed(batch, fenced));
    rig.turn();
    assert_eq!(rig.rows(), "a:5=7");
}
