//! A node: its sessions with the server's own [`Ledger`], its link to the store, its spill, and
//! how far its shutdown has come. What it does is in `turn.rs`.

use std::sync::Arc;

use sundown::engine::ledger::{Ledger, Mark};

use crate::mail::{Mailing, Own};
use crate::store::{Answer, CLIENT, Commit, Posts, Request};

/// One of the two.
pub(crate) type NodeId = usize;

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Node {
    pub(crate) phase: Phase,
    /// The shutdown has given up on the store: what that lacks is in the spill.
    pub(crate) gave_up: bool,
    /// The spill takes nothing, until the process ends.
    pub(crate) spill_is_full: bool,
    pub(crate) link: Link,
    /// Asked and not carried out yet, oldest first.
    pub(crate) requests: Vec<Request>,
    /// Carried out and not heard of yet, oldest first.
    pub(crate) answers: Vec<Answer>,
    /// Requests of a link that is gone which the store may still find in its buffers.
    pub(crate) late: Vec<Request>,
    /// The newest claim that was announced and not heard of yet.
    pub(crate) news: Option<u64>,
    /// The number of the newest push that was announced and not heard of yet.
    pub(crate) mail_news: Option<u64>,
    /// The session as its last opener here has it.
    pub(crate) current: Option<Session>,
    /// The session that the current one takes over on this node.
    pub(crate) earlier: Option<Session>,
    /// The process's own session, if anyone has pushed.
    pub(crate) own: Option<Box<Own>>,
    /// What is in the spill file, which outlives the process: a row for each session.
    pub(crate) spill: Vec<Commit>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Phase {
    /// The process is not there: it has crashed, or its shutdown is over.
    Off,
    Serving,
    /// Accepts nobody, reads and answers as before, and lets go who leaves.
    Draining,
    /// Reads nothing, saves everything.
    Persisting,
    /// Has said goodbye, and counts what is late.
    Closing,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Link {
    Down,
    /// Up, but the engine is not told before the spill has been handed over.
    Replaying,
    Up,
}

/// A session on a node, with its connection.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Session {
    /// Its name in requests and answers, and the token of its claim.
    pub(crate) key: u64,
    pub(crate) ledger: Ledger,
    /// To be handed to the store at the next flush: its claim, then its count.
    pub(crate) due: bool,
    /// What the application has set with the last message.
    pub(crate) state: u8,
    /// The count that its epoch began with.
    pub(crate) base: u64,
    /// The highest count that was released; what was counted beyond it waits for its save.
    pub(crate) told: u64,
    pub(crate) talk: Talk,
    pub(crate) wire: Wire,
    /// What its steps push, as far as the store has not confirmed it.
    pub(crate) posts: Posts,
    pub(crate) mail: Arc<Mailing>,
    /// Until it is granted: the number of the last push that the client had received when it came.
    pub(crate) received: u64,
}

/// How it stands with a session's client, as the node sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Talk {
    Waiting,
    Open,
    /// Was told goodbye; what it sends now is late.
    GoodbyeSent,
    /// Has answered the Close: everything that it sent has been read.
    Closed,
    /// The connection is over.
    Gone,
}

/// What is on the way from a client.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Wire {
    /// The client is still at the other end.
    pub(crate) is_attached: bool,
    /// Messages read so far, as the client numbers them, and messages sent.
    pub(crate) read: u64,
    pub(crate) sent: u64,
    /// The number up to which the client has received pushes; 0 when nothing is on the way.
    pub(crate) confirmed: u64,
    /// The client's Close comes after all of that.
    pub(crate) close: bool,
}

impl Node {
    /// As after a start with an empty spill, its link up.
    pub(crate) fn started() -> Self {
        Self {
            phase: Phase::Serving,
            gave_up: false,
            spill_is_full: false,
            link: Link::Up,
            requests: Vec::new(),
            answers: Vec::new(),
            late: Vec::new(),
            news: None,
            mail_news: None,
            current: None,
            earlier: None,
            own: None,
            spill: Vec::new(),
        }
    }

    /// Whether it grants upgrades that need the store.
    pub(crate) fn accepts(&self) -> bool {
        self.phase == Phase::Serving && self.link == Link::Up
    }

    /// Its sessions; saves go out in this order.
    pub(crate) fn sessions(&self) -> impl Iterator<Item = &Session> {
        self.earlier.iter().chain(&self.current)
    }

    pub(crate) fn sessions_mut(&mut self) -> impl Iterator<Item = &mut Session> {
        self.earlier.iter_mut().chain(&mut self.current)
    }

    pub(crate) fn session_mut(&mut self, key: u64) -> Option<&mut Session> {
        self.sessions_mut().find(|session| session.key == key)
    }

    /// Whether the store has confirmed everything, claims included.
    pub(crate) fn is_saved(&self) -> bool {
        let is_saved = |own: &Own| own.ledger.is_saved();
        self.sessions().all(Session::is_saved) && self.own.as_deref().is_none_or(is_saved)
    }

    /// Forgets a session.
    pub(crate) fn remove(&mut self, key: u64) -> Option<Session> {
        let is_it = |session: &Option<Session>| session.as_ref().is_some_and(|s| s.key == key);
        if is_it(&self.earlier) {
            self.earlier.take()
        } else if is_it(&self.current) {
            self.current.take()
        } else {
            None
        }
    }

    /// A session whose connection is over is forgotten as soon as it is saved; and if it waits to
    /// be claimed, and nobody was displaced for it, at once.
    pub(crate) fn forget_what_is_over(&mut self) {
        self.earlier = self.earlier.take().filter(|session| !session.is_over());
        if self.earlier.is_none() {
            let is_over = |session: &Session| session.is_over() || session.is_unwanted();
            self.current = self.current.take().filter(|session| !is_over(session));
        }
    }

    /// Whether there is nothing that a fault could destroy. That it cannot be reached for a while
    /// shows in the client's choice of the other node.
    pub(crate) fn is_idle(&self) -> bool {
        let asks_nothing = self.requests.is_empty() && self.answers.is_empty();
        let is_saved = |own: &Own| own.ledger.is_saved() && !own.due;
        let has_nothing = self.sessions().next().is_none()
            && self.own.as_deref().is_none_or(is_saved)
            && asks_nothing;
        self.phase == Phase::Off || self.phase == Phase::Serving && has_nothing
    }

    /// The epoch that the current session has, or is going to hear of.
    pub(crate) fn epoch(&self) -> Option<u64> {
        let session = self.current.as_ref()?;
        let to_hear = self.answers.iter().find_map(|answer| match *answer {
            Answer::Claimed { key, epoch, .. } if key == session.key => Some(epoch),
            Answer::Claimed { .. }
            | Answer::Committed { .. }
            | Answer::Mailbox { .. }
            | Answer::Refused(_) => None,
        });
        session.ledger.granted_epoch().or(to_hear)
    }

    /// Whether anything here, or on its way, goes by this key.
    pub(crate) fn uses_key(&self, key: u64) -> bool {
        let asks = |request: &Request| request.key() == Some(key);
        let answers = |answer: &Answer| match answer {
            Answer::Claimed { key: other, .. } | Answer::Mailbox { key: other, .. } => {
                *other == key
            }
            Answer::Committed { commit, .. } => commit.key == Some(key),
            Answer::Refused(request) => asks(request),
        };
        self.sessions().any(|session| session.key == key)
            || self.requests.iter().any(asks)
            || self.late.iter().any(asks)
            || self.answers.iter().any(answers)
    }
}

impl Node {
    /// Whether anything here, or on its way, goes by the name of this process's session.
    pub(crate) fn uses_name(&self, name: u8) -> bool {
        let is_own = |own: &Own| own.name == name;
        self.own.as_deref().is_some_and(is_own) || self.commits().any(|commit| commit.of == name)
    }

    /// Whether this session is of the process that runs now. One whose request comes late may be of an
    /// earlier one.
    pub(crate) fn is_of(&self, session: u8) -> bool {
        session == CLIENT || self.own.as_ref().is_some_and(|own| own.name == session)
    }

    /// Commits that may still be carried out.
    pub(crate) fn commits(&self) -> impl Iterator<Item = &Commit> {
        let asked = self.requests.iter().chain(&self.late);
        let asked = asked.filter_map(|request| match request {
            Request::Commit(commit) => Some(commit),
            Request::Claim { .. } | Request::Read { .. } => None,
        });
        asked.chain(&self.spill)
    }

    /// The row of a session in the spill.
    pub(crate) fn row_of(&self, session: u8) -> Option<&Commit> {
        self.spill.iter().find(|row| row.of == session)
    }

    /// Whether a row is being handed over.
    pub(crate) fn is_replaying(&self) -> bool {
        let is_row = |request: &Request| request.key().is_none();
        let of_row = |answer: &Answer| match answer {
            Answer::Committed { commit, .. } => commit.key.is_none(),
            Answer::Refused(request) => is_row(request),
            Answer::Claimed { .. } | Answer::Mailbox { .. } => false,
        };
        self.requests.iter().any(is_row) || self.answers.iter().any(of_row)
    }
}

impl Session {
    pub(crate) fn opened(key: u64, received: u64) -> Self {
        Self {
            key,
            ledger: Ledger::claiming(),
            due: true,
            state: 0,
            base: 0,
            told: 0,
            talk: Talk::Waiting,
            wire: Wire {
                is_attached: true,
                read: 0,
                sent: 0,
                confirmed: 0,
                close: false,
            },
            posts: Posts::default(),
            mail: Arc::default(),
            received,
        }
    }

    pub(crate) fn mail_mut(&mut self) -> &mut Mailing {
        Arc::make_mut(&mut self.mail)
    }

    pub(crate) fn is_claiming(&self) -> bool {
        self.ledger.granted_epoch().is_none()
    }

    pub(crate) fn is_saved(&self) -> bool {
        !self.is_claiming() && self.ledger.is_saved()
    }

    fn is_over(&self) -> bool {
        self.talk == Talk::Gone && self.is_saved()
    }

    /// Nobody waits for its claim, and the store has not been asked, or has forgotten it.
    fn is_unwanted(&self) -> bool {
        self.talk == Talk::Gone && self.is_claiming() && self.due
    }

    /// What to hand to the store now.
    pub(crate) fn poll_commit(&mut self) -> Option<Commit> {
        let (epoch, mark) = self.ledger.next_save()?;
        Some(self.commit_of(epoch, mark))
    }

    /// What to put into the spill now.
    pub(crate) fn poll_spill(&self) -> Option<Commit> {
        let (epoch, mark) = self.ledger.next_spill()?;
        Some(self.commit_of(epoch, mark))
    }

    fn commit_of(&self, epoch: u64, mark: Mark) -> Commit {
        Commit {
            key: Some(self.key),
            of: CLIENT,
            epoch,
            mark,
            state: self.state,
            base: self.base,
            confirmed: self.mail.mailbox.confirmed(),
            posts: self.posts,
        }
    }
}
