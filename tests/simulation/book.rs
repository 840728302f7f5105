//! A second account of what a process owes to whom, kept at the engine's boundary from what goes in
//! and what comes out. Every rule that the engine breaks there is a panic here, in the very turn.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use sundown::Durability;
use sundown::engine::io::{CloseReason, ConnId, Protocol, SessionId, SessionKey};
use sundown::engine::ledger::Mark;
use sundown::engine::message::ServerMessage::{self, Binary, Broadcast, Text, Timestamp};
use sundown::engine::shutdown::{Outcome, Timeline};

use super::common::{Common, marks};
use super::network;
use super::posted::text_of;
use super::service::Call;
use leaving::Leaving;

mod asked;
mod leaving;
mod refusals;

/// A WebSocket connection.
#[derive(Debug)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is one thing that has happened"
)]
struct Conn {
    /// Which one it was since the beginning.
    number: usize,
    protocol: Protocol,
    session: Option<SessionId>,
    key: Option<SessionKey>,
    hello: bool,
    notice: bool,
    bye: bool,
    closed: Option<CloseReason>,
    peer_closed: bool,
    /// The application may close; then what follows is dropped.
    app_closes: bool,
    paused: bool,
    /// Processed, as the application was told.
    counted: u64,
    /// The count of the last reply.
    replied: Option<u64>,
    /// The number of the last push that it was sent.
    pushed: Option<u64>,
    leaving: Leaving,
}

/// A session that was asked for.
#[derive(Debug)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is one thing that has happened"
)]
struct Session {
    id: SessionId,
    epoch: Option<u64>,
    /// What the store held at its claim.
    granted: Mark,
    incarnation: u64,
    counted: u64,
    confirmed: u64,
    spilled: u64,
    /// How often it was handed to the spill, and no answer has come.
    spills_asked: u32,
    save_asked: bool,
    claim_asked: bool,
    /// Someone else on this node wants it: it counts no more.
    displaced: bool,
    /// Someone else has it.
    lost: bool,
    /// Confirmations of pushes, each of which may have been a step.
    confirmations: u64,
    /// It is the process's own, and was never claimed.
    is_own: bool,
}

/// The account.
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is one thing that has happened"
)]
pub(crate) struct Book {
    name: String,
    durability: Durability,
    outbound_bytes_max: usize,
    conns: BTreeMap<(u32, u32), Conn>,
    /// The sessions whose step another thread has, by the connection that the message came from.
    deferred: BTreeMap<(u32, u32), SessionKey>,
    sessions: BTreeMap<(u32, u32), Session>,
    opened: usize,
    /// Who has said at the upgrade what it had received.
    received: BTreeSet<(u32, u32)>,
    /// How often the process has pushed from outside of a step.
    own_pushes: u64,
    /// Who was closed for reading too slowly: what the engine had said before is still said.
    too_slow: BTreeSet<(u32, u32)>,
    store_is_up: bool,
    /// Persisting has begun, and not everything is as durable as can be.
    sync_owed: bool,
    timeline: Timeline,
    /// Nobody waits for the store any more.
    gave_up: bool,
    /// Some went into the spill: it goes on so.
    spills: bool,
    /// The session that the store has just refused: nobody else's client hears of it.
    refused: Option<SessionId>,
    pub(crate) byes: usize,
    /// When a client was let go last before Closing.
    left_at: Option<Instant>,
    pub(crate) cuts: usize,
}

const fn by_conn(conn: ConnId) -> (u32, u32) {
    (conn.slot, conn.generation)
}

const fn by_key(key: SessionKey) -> (u32, u32) {
    (key.slot, key.generation)
}

/// What may wait for one peer beyond the limit: the message that went over it, and what room is
/// reserved for.
const OUTBOUND_SLACK_BYTES: usize = 4096;

/// One, and one more each time that the store is given up: at Persisting's end, at the cut, at the
/// sweep's end.
const SPILLS_ASKED_MAX: u32 = 4;

impl Book {
    pub(crate) fn new(name: String, common: &Common) -> Self {
        Self {
            name,
            durability: common.options.config.durability,
            outbound_bytes_max: common.options.config.limits.outbound_bytes_max,
            conns: BTreeMap::new(),
            deferred: BTreeMap::new(),
            sessions: BTreeMap::new(),
            opened: 0,
            received: BTreeSet::new(),
            own_pushes: 0,
            too_slow: BTreeSet::new(),
            store_is_up: false,
            sync_owed: false,
            timeline: Timeline::default(),
            gave_up: false,
            spills: false,
            refused: None,
            byes: 0,
            left_at: None,
            cuts: 0,
        }
    }

    fn is_acked(&self) -> bool {
        self.durability == Durability::Acked
    }

    /// What a client of this connection writes before the body of a message.
    pub(crate) fn kind(&self, conn: ConnId) -> &'static str {
        match self.conns.get(&by_conn(conn)).map(|conn| conn.protocol) {
            Some(Protocol::V2) => "m",
            Some(Protocol::Plain | Protocol::V1) | None => "",
        }
    }

    #[track_caller]
    fn conn(&mut self, conn: ConnId) -> &mut Conn {
        let name = &self.name;
        let found = self.conns.get_mut(&by_conn(conn));
        found.unwrap_or_else(|| panic!("{name}: {conn:?} is over, or never was"))
    }

    fn session_of(&self, conn: ConnId) -> Option<&Session> {
        let key = self.conns.get(&by_conn(conn))?.key?;
        self.sessions.get(&by_key(key))
    }

    pub(crate) fn opened(
        &mut self,
        conn: ConnId,
        protocol: Protocol,
        session: Option<SessionId>,
        received: u64,
    ) {
        // At its grant, that may be a confirmation.
        self.received
            .extend((received > 0).then_some(by_conn(conn)));
        for other in self.sessions.values_mut() {
            other.displaced |= Some(&other.id) == session.as_ref();
        }
        self.opened += 1;
        let book = Conn {
            number: self.opened,
            protocol,
            session,
            key: None,
            hello: false,
            notice: false,
            bye: false,
            closed: None,
            peer_closed: false,
            app_closes: false,
            paused: false,
            counted: 0,
            replied: None,
            pushed: None,
            leaving: Leaving::default(),
        };
        self.conns.insert(by_conn(conn), book);
    }

    pub(crate) fn gone(&mut self, conn: ConnId) {
        self.conns.remove(&by_conn(conn));
    }

    pub(crate) fn too_slow(&mut self, conn: ConnId) {
        self.too_slow.insert(by_conn(conn));
        self.gone(conn);
    }

    pub(crate) fn peer_closed(&mut self, conn: ConnId) {
        if let Some(conn) = self.conns.get_mut(&by_conn(conn)) {
            conn.peer_closed = true;
        }
    }

    /// A message was handed over, and these calls of the application came of it.
    pub(crate) fn message(
        &mut self,
        common: &mut Common,
        from: ConnId,
        index: u64,
        calls: &[Call],
        deferred: usize,
    ) {
        let name = self.name.clone();
        let session = self.session_of(from);
        let counts = session.is_some_and(|s| s.epoch.is_some() && !s.lost && !s.displaced);
        let lost = session.is_some_and(|s| s.lost || s.displaced);
        let Some(conn) = self.conns.get_mut(&by_conn(from)) else {
            return assert!(
                calls.is_empty(),
                "{name}: {calls:?} of a connection that is over"
            );
        };
        let has_session = conn.session.is_some() || conn.protocol.is_own();
        assert!(
            !has_session || counts || lost || conn.closed.is_some(),
            "{name}: read from {from:?}, whose session is not granted: {index}"
        );
        let is_open = conn.closed.is_none() && !conn.app_closes && !conn.peer_closed;
        let stopped = self.timeline.persisting.is_some();
        assert!(
            !is_open || !stopped,
            "{name}: {from:?} is read in Persisting"
        );
        let is_late = conn.bye && !conn.peer_closed && !conn.app_closes;
        let expected = (is_open || is_late) && (counts || !has_session);
        assert_eq!(
            calls.len() + deferred,
            usize::from(expected),
            "{name}: message {index} of {from:?} was processed so often: {calls:?}"
        );
        if is_late && expected {
            common.seen.note("late message");
        }
        if deferred > 0
            && let Some(key) = conn.key
        {
            self.deferred.insert(by_conn(from), key);
        }
        for call in calls {
            self.called(call, index);
        }
    }

    /// A message that was deferred has been processed, whether its client is still there or not.
    pub(crate) fn completed(&mut self, common: &mut Common, call: &Call) {
        common.seen.note("deferred step completed");
        self.deferred.remove(&by_conn(call.conn));
        if self.conns.contains_key(&by_conn(call.conn)) {
            if call.closes {
                self.app_closes(call.conn);
            }
            return self.called(call, call.index);
        }
        common
            .seen
            .note("deferred step completed without its client");
        let name = &self.name;
        let id = call.session.as_ref();
        let counts = |s: &&mut Session| s.epoch.is_some() && !s.lost && !s.displaced;
        let mut sessions = self.sessions.values_mut().filter(counts);
        let session = sessions.find(|session| Some(&session.id) == id);
        let session = session.unwrap_or_else(|| panic!("{name}: {call:?}, and no session"));
        assert_eq!(session.counted + 1, call.count, "{name}: {call:?}");
        session.counted = call.count;
    }

    fn called(&mut self, call: &Call, index: u64) {
        let name = self.name.clone();
        let conn = self.conn(call.conn);
        conn.counted = call.count;
        let key = conn.key;
        assert!(
            call.index == index && (index == 0 || index == call.count),
            "{name}: message {index} was counted as number {}: {call:?}",
            call.count
        );
        let session = key.and_then(|key| self.sessions.get_mut(&by_key(key)));
        if let Some(session) = session {
            assert_eq!(Some(&session.id), call.session.as_ref(), "{name}: {call:?}");
            assert_eq!(session.counted + 1, call.count, "{name}: {call:?}");
            session.counted = call.count;
        }
    }

    /// Its step was cancelled.
    pub(crate) fn step_ended(&mut self, conn: ConnId) {
        self.deferred.remove(&by_conn(conn));
    }

    /// Nothing that the client sends is processed any more.
    pub(crate) fn step_failed(&mut self, conn: Option<ConnId>) {
        if let Some(conn) = conn {
            self.step_ended(conn);
        }
        if let Some(conn) = conn.and_then(|conn| self.conns.get_mut(&by_conn(conn))) {
            conn.app_closes = true;
        }
    }

    pub(crate) fn app_closes(&mut self, conn: ConnId) {
        self.conn(conn).app_closes = true;
    }

    /// The engine sends this.
    pub(crate) fn sent(
        &mut self,
        common: &mut Common,
        to: ConnId,
        protocol: Protocol,
        message: &ServerMessage,
    ) {
        let name = self.name.clone();
        let is_acked = self.is_acked() || protocol == Protocol::V2;
        let gave_up = self.gave_up;
        let session = self.session_of(to);
        let at_goodbye = session.map(|session| (session.confirmed, session.counted));
        let conn = self.conn(to);
        assert!(
            conn.closed.is_none() && !conn.bye,
            "{name}: {message:?} to {to:?} after {:?}",
            conn.closed
        );
        assert_eq!(conn.protocol, protocol, "{name}: {message:?} to {to:?}");
        match message {
            ServerMessage::Hello(hello) => {
                assert!(protocol.is_own() && !conn.hello, "{name}: {message:?}");
                assert_eq!(conn.replied, None, "{name}: a hello after replies");
                conn.hello = true;
                conn.replied = Some(hello.count);
                conn.counted = hello.count;
                conn.session = Some(hello.session.clone());
                let of_it = |(_, known): &(_, &Session)| known.id == hello.session && !known.lost;
                let found = self.sessions.iter().find(of_it);
                let (&(slot, generation), known) = found.expect("a session that was granted");
                assert_eq!(known.incarnation, hello.incarnation, "{name}: {message:?}");
                self.conn(to).key = Some(SessionKey { slot, generation });
            }
            ServerMessage::Notice { reconnect_ms, .. } => {
                assert!(conn.hello && !conn.notice, "{name}: {message:?} to {to:?}");
                conn.notice = true;
                Self::told_slot(conn, *reconnect_ms);
            }
            ServerMessage::Count(count) => {
                let follows = network::follows(protocol, conn.replied, *count);
                assert!(follows, "{name}: {message:?} after {:?}", conn.replied);
                assert!(*count <= conn.counted, "{name}: {message:?}, not processed");
                conn.replied = Some(*count);
                if let Some(session) = &conn.session
                    && is_acked
                {
                    let kept = common.truth.count(session);
                    assert!(kept >= *count, "{name}: {message:?}, but {kept} is stored");
                }
            }
            ServerMessage::Goodbye { total, .. } => {
                conn.bye = true;
                let (confirmed, counted) = at_goodbye.unwrap_or((conn.counted, conn.counted));
                assert_eq!(*total, confirmed, "{name}: {to:?}: the goodbye's total");
                assert!(
                    gave_up || *total == counted,
                    "{name}: {to:?}: said before all is saved"
                );
                if let Some(session) = &conn.session {
                    let kept = common.truth.count(session);
                    assert!(kept >= *total, "{name}: {message:?}, but {kept} is stored");
                }
                self.byes += 1;
                self.check_goodbye(common, to);
            }
            ServerMessage::Push(push) => {
                let follows = conn.pushed.is_none_or(|last| push.number == last + 1);
                assert!(follows, "{name}: {message:?} after {:?}", conn.pushed);
                conn.pushed = Some(push.number);
                let session = conn.session.as_ref().expect("a session");
                if !common.truth.is_lost {
                    let text = text_of(&push.body);
                    common.truth.posted.check(session, push.number, &text);
                }
            }
            Timestamp(_) | Broadcast(_) | Text(_) | Binary(_) => {}
        }
    }

    pub(crate) fn closed(&mut self, common: &mut Common, to: ConnId, reason: &CloseReason) {
        let name = self.name.clone();
        let granted = self.session_of(to).is_some_and(|session| !session.lost);
        // A mailbox that is lost sends its client away.
        if *reason == CloseReason::Refused && !common.truth.is_lost {
            self.check_refused(common, to);
        }
        let conn = self.conn(to);
        let earlier = conn.closed.replace(reason.clone());
        assert_eq!(
            earlier, None,
            "{name}: a second Close for {to:?}: {reason:?}"
        );
        let is_goodbye = matches!(reason, CloseReason::Shutdown { .. });
        assert!(
            !conn.bye || is_goodbye,
            "{name}: {reason:?} after the goodbye"
        );
        if is_goodbye && !conn.bye {
            assert!(
                !granted && !conn.hello,
                "{name}: {to:?} is sent away without a goodbye"
            );
            common.seen.note("sent away without a goodbye");
        }
    }

    /// The peer has closed, and nothing more is owed to it. Answers whether all that it had sent
    /// before must be stored now.
    pub(crate) fn finished(&mut self, common: &mut Common, conn: ConnId) -> bool {
        if self.too_slow.contains(&by_conn(conn)) {
            return false;
        }
        let book = self.conn(conn);
        assert!(book.peer_closed, "{conn:?} is let go, and has not closed");
        let reads_all = (book.closed.is_none() || book.bye) && !book.app_closes;
        let mut promised = false;
        let waits = if self.is_acked() {
            !self.gave_up
        } else {
            self.store_is_up
        };
        if let Some(session) = self.session_of(conn)
            && (waits || self.spills && !common.options.may_refuse_spills())
            && !session.lost
        {
            let kept = common.truth.count(&session.id);
            let row = common.truth.spilled(&session.id, session.epoch);
            assert!(
                kept.max(if self.spills { row } else { 0 }) >= session.counted,
                "{}: {conn:?} is let go, {kept} is stored, {row} spilled: {session:?}",
                self.name
            );
            promised = reads_all && !session.displaced && kept >= session.counted;
        }
        self.gone(conn);
        promised
    }

    pub(crate) fn cut(&mut self, common: &mut Common, conn: ConnId, at_once: bool) {
        let name = self.name.clone();
        let book = self.conn(conn);
        assert!(
            at_once || book.closed.is_some() || book.peer_closed,
            "{name}: {conn:?} is cut without a Close"
        );
        common.seen.note("peer cut");
        self.cuts += 1;
        self.gone(conn);
    }

    pub(crate) fn paused(&mut self, conn: ConnId, paused: bool) {
        let book = self.conn(conn);
        assert_ne!(book.paused, paused, "{conn:?}: told twice");
        book.paused = paused;
    }

    /// At the end of a turn.
    pub(crate) fn turned(&mut self, common: &mut Common, outcome: &Outcome, unsaved: usize) {
        let new = outcome.timeline;
        let (was, is) = (marks(&self.timeline), marks(&new));
        for ((name, was), (_, is)) in was.iter().zip(&is) {
            assert!(
                was.is_none() || was == is,
                "{}: {name} began twice",
                self.name
            );
        }
        let begun: Vec<_> = is.iter().filter_map(|(_, at)| *at).collect();
        assert!(
            begun.is_sorted(),
            "{}: a phase goes back: {new:?}",
            self.name
        );
        self.sync_owed |= self.timeline.persisting.is_none() && new.persisting.is_some();
        if self.timeline.closing.is_none() && new.closing.is_some() {
            self.gave_up |= unsaved > 0 || self.sync_owed;
        }
        self.gave_up |= new.sweeping.is_some() || new.stopped.is_some();
        self.timeline = new;
        if let Some(began) = new.began {
            let end = began + common.options.config.shutdown.timeout;
            assert!(common.now.instant <= end, "{}: not gone in time", self.name);
        }
    }

    pub(crate) fn check_outbound(&self, bytes: usize, texts_max: usize) {
        let most = self.outbound_bytes_max + OUTBOUND_SLACK_BYTES + texts_max;
        assert!(
            bytes <= most,
            "{}: {bytes} bytes wait for one peer",
            self.name
        );
    }

    /// The engine has stopped.
    pub(crate) fn stopped(&self, common: &mut Common, outcome: &Outcome) {
        // The engine may have read that somebody else has confirmed pushes to it, and dropped it.
        let truth = &common.truth;
        let has_newer_owner = |session: &Session| {
            let newest = truth.epoch(&session.id);
            session.epoch.is_some_and(|epoch| epoch < newest)
        };
        let at_risk = |session: &&Session| {
            let is_ours = session.epoch.is_some() && !session.lost && !has_newer_owner(session);
            is_ours && session.counted > session.confirmed
        };
        let is_spilled = |session: &Session| session.spilled >= session.counted;
        let (spilled, lost): (Vec<_>, Vec<_>) = self
            .sessions
            .values()
            .filter(at_risk)
            .partition(|session| is_spilled(session));
        let mut expected: Vec<_> = lost
            .iter()
            .map(|session| (session.id.to_string(), session.counted))
            .collect();
        let mut named = outcome.unsaved.clone();
        expected.sort();
        named.sort();
        // Of a session whose count is saved, a confirmation may not be, or a push of the process.
        let may_be = |(id, count): &&(String, u64)| {
            let of_it = |session: &&Session| session.id.as_str() == id;
            let mut sessions = self.sessions.values().filter(of_it);
            let may_be = |session: &Session| session.may_owe_more() || has_newer_owner(session);
            sessions.any(|session| may_be(session) && session.counted == *count)
                || *count == 0 && self.own_pushes > 0
        };
        let beside = named.iter().filter(|one| !expected.contains(one));
        assert!(
            expected.iter().all(|one| named.contains(one))
                && beside.clone().all(|one| may_be(&one)),
            "{}: what the report calls unsaved: {named:?}, not {expected:?}",
            self.name
        );
        assert_eq!(outcome.exit_code() == 0, named.is_empty(), "{}", self.name);
        let more = self
            .sessions
            .values()
            .filter(|one| one.may_owe_more() || has_newer_owner(one))
            .count();
        let more = more + usize::from(self.own_pushes > 0);
        assert!(
            (spilled.len()..=spilled.len() + more).contains(&outcome.spilled),
            "{}: {} are spilled, and {spilled:?}",
            self.name,
            outcome.spilled
        );
        assert_eq!(outcome.byes, self.byes, "{}: goodbyes", self.name);
        assert_eq!(outcome.cut, self.cuts, "{}: cut peers", self.name);
        self.check_confirmed(common);
        for session in spilled {
            let row = common.truth.spilled(&session.id, session.epoch);
            let kept = common.truth.count(&session.id);
            assert!(
                row.max(kept) >= session.counted,
                "{}: {row} is in the spill, {kept} is stored: {session:?}",
                self.name
            );
            common.seen.note("exit with spilled sessions");
        }
        assert!(
            expected.is_empty() || common.options.may_fail_to_spill(),
            "{}: the spill takes everything, and {expected:?} is unsaved",
            self.name
        );
        if !expected.is_empty() {
            common.seen.note("exit with unsaved sessions");
        }
    }

    /// The store has what it has confirmed.
    fn check_confirmed(&self, common: &Common) {
        for session in self.sessions.values() {
            let kept = common.truth.count(&session.id);
            assert!(
                session.lost || kept >= session.confirmed,
                "{}: {kept} is stored: {session:?}",
                self.name
            );
        }
    }

    /// Whether what the engine says about a connection means anything; it must.
    pub(crate) fn is_open(&self, conn: ConnId) -> bool {
        let open = self.conns.contains_key(&by_conn(conn));
        let said_before = self.too_slow.contains(&by_conn(conn));
        assert!(open || said_before, "{}: {conn:?} is over", self.name);
        open
    }
}
