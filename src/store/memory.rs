//! Sessions in memory: for tests, for trying things out, and for servers whose sessions need not
//! outlive the process.
//!
//! It owns the records, each for as long as its time to live, and at most [`SESSIONS_MAX`] of
//! them, since clients choose their ids. It carries out what was asked at the flush, in order, and
//! answers in that order. It must never forget how high epochs have gone: a record that expired or
//! had to go leaves its epoch in the floor below which no claim is granted, so that whoever still
//! saves under it is fenced by the next claim, exactly as if the record were still there.
//!
//! It never emits `TakenOver`: all claims come from this process, whose engine sees them itself.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::time::Duration;

use super::SessionStore;
use super::expiry::Expiry;
use super::record::{Record, Records, carry_out};
use crate::engine::io::{
    Claim, Commit, Now, Pushed, ReadMailbox, Refused, SessionId, StoreCommand, StoreEvent,
};

/// Sessions kept at a time. For one more, the one that would expire soonest of those that hold
/// nothing goes; where all hold something, the newcomer is refused.
pub const SESSIONS_MAX: usize = 100_000;

/// Records looked at for expiry in one turn, and two more for each request: faster than they come.
const EXPIRED_PER_TURN_MAX: usize = 64;

/// Sessions by a time before which they do not expire.
type Entries = BTreeSet<(u64, SessionId)>;

/// Keeps sessions in this process.
#[derive(Debug)]
pub struct MemoryStore {
    expiry: Expiry,
    sessions_max: usize,
    records: HashMap<SessionId, Kept>,
    /// One entry for each record. A commit puts the expiry off in the record only; the entry
    /// follows when it comes up.
    holding: Entries,
    /// The same for those that are blank, which make room.
    blank: Entries,
    /// The highest epoch among the records that are gone.
    epoch_floor: u64,
    /// Whether the log has been told that the store is full.
    told_full: bool,
    asked: Vec<StoreCommand>,
    events: VecDeque<StoreEvent>,
}

#[derive(Debug)]
struct Kept {
    record: Record,
    expires_unix_ms: u64,
    /// The time in its entry.
    listed_unix_ms: u64,
}

impl MemoryStore {
    /// An empty store that keeps each session for `ttl` after its last change.
    pub fn new(ttl: Duration) -> Self {
        Self {
            expiry: Expiry::new(ttl),
            sessions_max: SESSIONS_MAX,
            records: HashMap::new(),
            holding: BTreeSet::new(),
            blank: BTreeSet::new(),
            epoch_floor: 0,
            told_full: false,
            asked: Vec::new(),
            events: VecDeque::from([StoreEvent::Up]),
        }
    }

    /// The same with epochs above this time, in milliseconds since the Unix epoch: above all that an
    /// earlier process has granted, so that incarnations are never the same.
    #[must_use]
    pub fn since(mut self, unix_ms: u64) -> Self {
        self.epoch_floor = unix_ms.saturating_mul(1_000);
        self
    }

    fn carry_out_claim(&mut self, claim: &Claim) -> StoreEvent {
        let is_full = self.records.len() >= self.sessions_max;
        if is_full && !self.records.contains_key(&claim.session) && !self.make_room() {
            return StoreEvent::Refused {
                request: Refused::Claim(claim.key),
                reason: format!(
                    "{} sessions hold something, and no more fit",
                    self.sessions_max
                ),
            };
        }
        let known = self.find(&claim.session);
        let is_alive = known.is_some_and(|(_, is_alive)| is_alive);
        let known = known.map(|(record, _)| record);
        let (record, grant) = Record::claim(known, is_alive, claim.token, self.epoch_floor);
        self.keep(&claim.session, record);
        StoreEvent::Claimed {
            key: claim.key,
            grant,
        }
    }

    fn carry_out_commits(&mut self, batch: Vec<Commit>) -> StoreEvent {
        let (mut fenced, mut pushed) = (Vec::new(), Vec::new());
        for (position, commit) in batch.iter().enumerate() {
            let is_taken = match commit.mail {
                Some(_) => self.carry_out_mail(commit, &mut pushed),
                None => self.carry_out_commit(commit),
            };
            if !is_taken {
                fenced.push(position);
            }
        }
        StoreEvent::Committed {
            batch,
            fenced,
            pushed,
        }
    }

    #[cold]
    fn carry_out_mail(&mut self, commit: &Commit, pushed: &mut Vec<Pushed>) -> bool {
        carry_out(self, commit, pushed)
    }

    #[cold]
    fn read(&self, read: &ReadMailbox) -> StoreEvent {
        let known = self.find(&read.session).filter(|(_, is_alive)| *is_alive);
        let mailbox = known.map(|(record, _)| record.mailbox().clone());
        StoreEvent::Mailbox {
            key: read.key,
            mailbox: mailbox.unwrap_or_default(),
        }
    }

    /// Whether the commit was taken, which does nothing to mailboxes; `false`: a newer claim exists.
    fn carry_out_commit(&mut self, commit: &Commit) -> bool {
        let Some(kept) = self.records.get_mut(&commit.session) else {
            // Its owner's word for a record that had to go: there is always room for what is open.
            let record = Record::new(commit.epoch, commit.snapshot.clone(), None);
            self.keep(&commit.session, record);
            return true;
        };
        let was_blank = kept.record.is_blank();
        if !kept.record.take(commit.epoch, &commit.snapshot) {
            return false;
        }
        kept.expires_unix_ms = self.expiry.expires_ms();
        if was_blank != kept.record.is_blank() {
            let expires_unix_ms = kept.expires_unix_ms;
            let listed_unix_ms = std::mem::replace(&mut kept.listed_unix_ms, expires_unix_ms);
            let session = commit.session.clone();
            self.list(was_blank).remove(&(listed_unix_ms, session));
            let entry = (expires_unix_ms, commit.session.clone());
            self.list(!was_blank).insert(entry);
        }
        true
    }

    /// Where records have their entries.
    fn list(&mut self, is_blank: bool) -> &mut Entries {
        if is_blank {
            &mut self.blank
        } else {
            &mut self.holding
        }
    }

    fn unlist(&mut self, session: &SessionId) {
        if let Some(kept) = self.records.get(session) {
            let entry = (kept.listed_unix_ms, session.clone());
            self.list(kept.record.is_blank()).remove(&entry);
        }
    }

    /// Removes a record that holds nothing; `false` if there is none.
    fn make_room(&mut self) -> bool {
        if !self.told_full {
            self.told_full = true;
            log::warn!(
                "{} sessions: for each new one, one that holds nothing is dropped early; \
                 without such, new ones are refused",
                self.sessions_max
            );
        }
        let Some((_, session)) = self.blank.first().cloned() else {
            return false;
        };
        self.remove(&session);
        true
    }

    /// Removes records that have expired, a few at a time.
    fn expire(&mut self) {
        let now_ms = self.expiry.judged_ms();
        let mut left = EXPIRED_PER_TURN_MAX + 2 * self.asked.len();
        let lists: [fn(&Self) -> &Entries; 2] = [|store| &store.holding, |store| &store.blank];
        for list in lists {
            while left > 0
                && let Some((listed_ms, session)) = list(self).first()
                && *listed_ms <= now_ms
            {
                left -= 1;
                let session = session.clone();
                self.refresh_or_remove(session, now_ms);
            }
        }
    }

    /// Moves an entry that has come up to where its record expires now, or removes both.
    fn refresh_or_remove(&mut self, session: SessionId, now_ms: u64) {
        let Some(kept) = self.records.get_mut(&session) else {
            return;
        };
        if kept.expires_unix_ms <= now_ms {
            return self.remove(&session);
        }
        let listed_ms = std::mem::replace(&mut kept.listed_unix_ms, kept.expires_unix_ms);
        let (is_blank, expires_ms) = (kept.record.is_blank(), kept.expires_unix_ms);
        let list = self.list(is_blank);
        list.remove(&(listed_ms, session.clone()));
        list.insert((expires_ms, session));
    }

    fn remove(&mut self, session: &SessionId) {
        self.unlist(session);
        if let Some(kept) = self.records.remove(session) {
            self.epoch_floor = self.epoch_floor.max(kept.record.epoch());
        }
    }
}

impl Records for MemoryStore {
    fn find(&self, session: &SessionId) -> Option<(&Record, bool)> {
        let kept = self.records.get(session)?;
        Some((&kept.record, kept.expires_unix_ms > self.expiry.judged_ms()))
    }

    fn keep(&mut self, session: &SessionId, record: Record) {
        let expires_unix_ms = self.expiry.expires_ms();
        self.unlist(session);
        self.list(record.is_blank())
            .insert((expires_unix_ms, session.clone()));
        let kept = Kept {
            record,
            expires_unix_ms,
            listed_unix_ms: expires_unix_ms,
        };
        self.records.insert(session.clone(), kept);
    }
}

impl SessionStore for MemoryStore {
    fn describe(&self) -> String {
        "memory:".to_owned()
    }

    fn ask(&mut self, command: StoreCommand) {
        self.asked.push(command);
    }

    fn flush(&mut self, now: Now) {
        self.expiry.handle_now(now);
        self.expire();
        let mut asked = std::mem::take(&mut self.asked);
        for command in asked.drain(..) {
            let answer = match command {
                StoreCommand::Commit(batch) => self.carry_out_commits(batch),
                StoreCommand::Claim(claim) => self.carry_out_claim(&claim),
                StoreCommand::Read(read) => self.read(&read),
                StoreCommand::Sync => StoreEvent::Synced,
            };
            self.events.push_back(answer);
        }
        // Keeps what the list has grown to for the next turn.
        self.asked = asked;
    }

    fn poll_event(&mut self) -> Option<StoreEvent> {
        self.events.pop_front()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::LazyLock;

    use super::*;
    use crate::clock;
    use crate::engine::io::{SessionKey, Snapshot};

    const KEY: SessionKey = SessionKey {
        slot: 0,
        generation: 0,
    };

    fn at(unix_ms: u64) -> Now {
        static BEGAN: LazyLock<Now> = LazyLock::new(clock::now);
        Now {
            instant: BEGAN.instant + Duration::from_millis(unix_ms),
            unix_ms,
        }
    }

    /// Both clocks go on to this time, in turns.
    fn flush(store: &mut MemoryStore, unix_ms: u64) {
        for turn_ms in (store.expiry.judged_ms()..unix_ms).step_by(10) {
            store.expiry.handle_now(at(turn_ms));
        }
        store.flush(at(unix_ms));
    }

    fn id(name: &str) -> SessionId {
        SessionId::parse(name).unwrap()
    }

    fn claim(store: &mut MemoryStore, name: &str, token: u64, unix_ms: u64) -> (u64, u64, bool) {
        store.ask(StoreCommand::Claim(Claim {
            key: KEY,
            session: id(name),
            token,
        }));
        flush(store, unix_ms);
        match store.events.pop_back() {
            Some(StoreEvent::Claimed { grant, .. }) => {
                (grant.epoch, grant.snapshot.count, grant.found)
            }
            other => panic!("{other:?}"),
        }
    }

    fn save(store: &mut MemoryStore, name: &str, epoch: u64, count: u64, unix_ms: u64) -> bool {
        store.ask(StoreCommand::Commit(vec![Commit {
            key: KEY,
            session: id(name),
            epoch,
            snapshot: Snapshot::counted(count),
            mail: None,
        }]));
        flush(store, unix_ms);
        match store.events.pop_back() {
            Some(StoreEvent::Committed { fenced, .. }) => fenced.is_empty(),
            other => panic!("{other:?}"),
        }
    }

    fn store(ttl_ms: u64, sessions_max: usize) -> MemoryStore {
        MemoryStore {
            sessions_max,
            ..MemoryStore::new(Duration::from_millis(ttl_ms))
        }
    }

    #[test]
    fn a_save_puts_the_expiry_off() {
        let mut store = store(100, 10);
        assert_eq!(claim(&mut store, "a", 1, 0), (1, 0, false));
        assert!(save(&mut store, "a", 1, 7, 90));
        flush(&mut store, 150);
        assert_eq!(store.records.len(), 1);
        assert_eq!(claim(&mut store, "a", 2, 189), (2, 7, true));
        flush(&mut store, 289);
        assert_eq!((store.records.len(), store.holding.len()), (0, 0));
    }

    #[test]
    fn whoever_still_saves_under_an_expired_record_is_fenced_by_the_next_claim() {
        let mut store = store(100, 10);
        for token in 0..5 {
            claim(&mut store, "a", token, 0);
        }
        flush(&mut store, 100);
        assert!(store.records.is_empty());
        assert_eq!(claim(&mut store, "a", 9, 100), (6, 0, false));
        assert!(!save(&mut store, "a", 5, 40, 100));
    }

    #[test]
    fn a_process_grants_no_epoch_that_one_before_has_granted() {
        let mut first = store(100, 10).since(1_000);
        let mut second = store(100, 10).since(1_001);
        let (before, ..) = claim(&mut first, "a", 1, 0);
        assert_eq!(before, 1_000_001);
        assert!(claim(&mut second, "a", 2, 0).0 > before);
    }

    #[test]
    fn an_open_session_saves_its_expired_record_back() {
        let mut store = store(100, 10);
        claim(&mut store, "a", 1, 0);
        flush(&mut store, 100);
        assert!(store.records.is_empty());
        assert!(save(&mut store, "a", 1, 3, 100));
        assert_eq!(claim(&mut store, "a", 2, 150), (2, 3, true));
    }

    #[test]
    fn one_turn_expires_a_few_only() {
        let mut store = store(100, 1_000);
        for i in 0..=EXPIRED_PER_TURN_MAX * 2 {
            claim(&mut store, &format!("s{i}"), 1, 0);
        }
        let mut left = Vec::new();
        for _ in 0..3 {
            flush(&mut store, 100);
            left.push(store.records.len());
        }
        assert_eq!(left, [EXPIRED_PER_TURN_MAX + 1, 1, 0]);
    }

    #[test]
    fn a_full_store_drops_what_has_counted_nothing_and_then_refuses() {
        let mut store = store(100, 3);
        for (i, name) in ["a", "b", "c"].into_iter().enumerate() {
            claim(&mut store, name, 1, i as u64);
        }
        assert!(save(&mut store, "a", 1, 5, 10));
        // "b" would expire sooner than "c", and "a" has counted.
        assert_eq!(claim(&mut store, "d", 1, 11), (2, 0, false));
        assert!(!store.records.contains_key(&id("b")));
        // Its owner may go on until someone else claims it, and has its place: "c" does not go.
        assert!(save(&mut store, "b", 1, 8, 12));
        assert!(save(&mut store, "c", 1, 1, 13));
        assert!(save(&mut store, "d", 2, 1, 14));
        assert_eq!(store.records.len(), 4);
        let key = KEY;
        let session = id("e");
        let token = 1;
        store.ask(StoreCommand::Claim(Claim {
            key,
            session,
            token,
        }));
        flush(&mut store, 15);
        let refused = store.events.pop_back();
        let request = Refused::Claim(KEY);
        assert!(
            matches!(&refused, Some(StoreEvent::Refused { request: r, .. }) if *r == request),
            "{refused:?}"
        );
        for (name, count) in [("a", 5), ("b", 8), ("c", 1), ("d", 1)] {
            let (_, found, resumed) = claim(&mut store, name, 2, 16);
            assert_eq!((found, resumed), (count, true), "{name}");
        }
        // Whoever rests makes room in time.
        let (_, count, resumed) = claim(&mut store, "e", 1, 200);
        assert_eq!((count, resumed, store.records.len()), (0, false, 1));
        assert_eq!(store.holding.len() + store.blank.len(), 1);
    }

    #[test]
    fn newcomers_that_count_nothing_leave_nothing_behind() {
        let mut store = store(1_000, 10);
        for i in 0..1_000 {
            claim(&mut store, &format!("s{i}"), 1, i);
        }
        assert_eq!((store.records.len(), store.blank.len()), (10, 10));
    }

    #[test]
    fn a_clock_that_is_set_back_keeps_records_longer_and_does_no_harm() {
        let mut store = store(100, 10);
        claim(&mut store, "a", 1, 1_000);
        assert!(save(&mut store, "a", 1, 2, 500));
        flush(&mut store, 599);
        assert_eq!(store.records.len(), 1);
        assert_eq!(claim(&mut store, "a", 2, 600), (2, 0, false));
        flush(&mut store, 1_100);
        assert_eq!(store.records.len(), 0);
    }
}
