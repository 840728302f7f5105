//! The service of the simulation: what it does with a message, and what it tells of that.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::mpsc::Sender;
use std::time::Duration;

use sundown::engine::io::{CloseReason, ConnId, SessionId};
use sundown::engine::message::Message;
use sundown::{Application, Body, Closed, Deferred, PushRefused, Session};

use super::posted::{body_of, name_of, text_of};
use super::telling::Told;

/// What the application was called with.
#[derive(Debug)]
pub(crate) struct Call {
    pub(crate) conn: ConnId,
    pub(crate) session: Option<SessionId>,
    pub(crate) count: u64,
    /// The message's own number; 0 if it has none.
    pub(crate) index: u64,
    /// It has closed the connection.
    pub(crate) closes: bool,
}

/// The state that the service gives a session with its message of this number.
pub(crate) fn state_after(count: u64) -> Vec<u8> {
    match count {
        0 => Vec::new(),
        _ => count.to_string().into_bytes(),
    }
}

/// The service: counts, keeps in the session's state how far it has come, sends back what it is asked to, closes when it is asked to, and tells the
/// simulation what it was called with.
pub(crate) struct Counter {
    pub(crate) calls: Sender<Call>,
    pub(crate) deferrals: Sender<Deferral>,
    pub(crate) told: Sender<Told>,
    /// The connections that it was told of, and not of their end.
    pub(crate) known: HashSet<ConnId>,
    /// How many these are, for the end.
    pub(crate) known_len: Arc<AtomicUsize>,
}

/// How the service closes.
pub(crate) const CLOSED_BY_SERVICE: CloseReason = CloseReason::of(3000, "as you wish");

impl Counter {
    fn check_known(&self, session: &Session<'_>) {
        let conn = session.conn();
        assert!(self.known.contains(&conn), "{conn:?} is not known");
    }

    /// Count and state are of the same step, wherever the session has been.
    fn check_state(session: &Session<'_>, count: u64) {
        let (conn, state) = (session.conn(), session.state());
        assert_eq!(state, state_after(count), "{conn:?}: {count} counted");
    }
}

impl Application for Counter {
    fn on_open(&mut self, session: &mut Session<'_>) {
        let conn = session.conn();
        assert!(self.known.insert(conn), "{conn:?} has come twice");
        Self::check_state(session, session.count());
        self.known_len.store(self.known.len(), Relaxed);
    }

    fn on_close(&mut self, session: &mut Session<'_>, why: Closed) {
        self.check_known(session);
        assert!(!session.can_reply(), "{why:?}: it may not reply");
        Self::check_state(session, session.count());
        self.known.remove(&session.conn());
        self.known_len.store(self.known.len(), Relaxed);
    }

    fn on_push_refused(
        &mut self,
        _to: &SessionId,
        body: &Body,
        _why: PushRefused,
        session: &mut Session<'_>,
    ) {
        let is_late = !self.known.contains(&session.conn());
        assert!(!is_late || !session.can_reply(), "it may not reply");
        Self::check_state(session, session.count());
        let text = text_of(body);
        let told = self.told.send(Told { text, is_late });
        told.expect("the simulation lives as long as its engines");
    }

    fn on_message(&mut self, message: Message<'_>, session: &mut Session<'_>) {
        self.check_known(session);
        let Message::Text(text) = message else {
            panic!("{message:?}");
        };
        let mut words = text.split(' ').map(str::parse::<u64>);
        let mut next = || words.next().and_then(Result::ok).expect("five numbers");
        let (index, text, close, defer_ms) = (next(), next(), next(), next());
        let push_to = next();
        let job = Job {
            index,
            text,
            close,
            push_to,
        };
        if defer_ms > 0 {
            let deferral = Deferral {
                conn: session.conn(),
                after: Duration::from_millis(defer_ms),
                step: session.defer(),
                job,
            };
            let sent = self.deferrals.send(deferral);
            return sent.expect("the simulation lives as long as its engines");
        }
        job.run(session, &self.calls);
    }
}

/// What a message asks for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Job {
    pub(crate) index: u64,
    pub(crate) text: u64,
    pub(crate) close: u64,
    /// The client to whose session it pushes, counted from 1.
    pub(crate) push_to: u64,
}

/// A message that another thread has for a while.
#[derive(Debug)]
pub(crate) struct Deferral {
    pub(crate) conn: ConnId,
    pub(crate) after: Duration,
    pub(crate) step: Deferred,
    pub(crate) job: Job,
}

impl Job {
    pub(crate) fn run(self, session: &mut Session<'_>, calls: &Sender<Call>) {
        let Self {
            index,
            text,
            close,
            push_to,
        } = self;
        Counter::check_state(session, session.count() - 1);
        let kept = session.set_state(&state_after(session.count()));
        kept.expect("a number is short");
        if push_to > 0
            && let Some(id) = session.id().cloned()
        {
            let body = body_of(&id, session.count());
            let pushed = session.push_to(&name_of(push_to as usize - 1), body);
            pushed.expect("a short text");
        }
        if text > 0 {
            session.reply_text("x".repeat(text as usize));
        }
        if close == 1 {
            let closed = session.close(CLOSED_BY_SERVICE.code(), "as you wish");
            closed.expect("a code of the application's");
        }
        let call = Call {
            conn: session.conn(),
            session: session.id().cloned(),
            count: session.count(),
            index,
            closes: close == 1 && session.can_reply(),
        };
        calls
            .send(call)
            .expect("the simulation lives as long as its engines");
    }
}
