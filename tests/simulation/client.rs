//! A client as docs/protocol.md wants it, and with the habits that clients have. It keeps what it
//! has sent until the count reaches it, sends the rest again after a hello, and believes nothing:
//! what it is told on one connection must fit what it was told before.

use std::time::{Duration, Instant};

use sundown::Durability;
use sundown::engine::io::{Protocol, SessionId};
use sundown::engine::message::{Hello, ServerMessage};

use super::common::{Common, Event};
use super::network::{self, Ask, ClientFrame, ServerFrame, Side, SockId};
use super::options::Habits;

mod mail;
mod parting;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Upgrading,
    Greeting,
    Live,
}

#[derive(Debug)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is one thing that has happened"
)]
struct Conn {
    sock: SockId,
    stage: Stage,
    heard_at: Instant,
    /// What the client had been told when it connected: the store's count, and any.
    known: (u64, u64),
    /// The number of the last push that it had received then.
    received: u64,
    /// Messages may go before the hello: nobody has ever used this session.
    eager: bool,
    reads: bool,
    read_planned: bool,
    /// The number of the last message sent; without a hello, how many were.
    sent: u64,
    /// How many counts have come.
    answered: u64,
    /// The last of them.
    replied: Option<u64>,
    bye: Option<u64>,
    /// The server's Close.
    close: Option<u16>,
    answer_at: Option<Instant>,
    closed: bool,
    /// It has said that it sends no more messages.
    leaving: bool,
    by_frame: bool,
    retry_ms: Option<u64>,
}

/// One client.
#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) number: usize,
    pub(crate) habits: Habits,
    session: Option<SessionId>,
    is_fresh: bool,
    renamed: u32,
    /// Messages that it has made up its mind to send.
    wanted: u64,
    /// Without numbers: how many have gone.
    sent: u64,
    sent_max: u64,
    /// The highest count that it was shown.
    acked: u64,
    /// The highest count that the store had, by a hello or a goodbye.
    stored: u64,
    /// The number of the last push that it has received, and of the last that it has said so of.
    received: u64,
    confirmed: u64,
    conns: Vec<Conn>,
    current: Option<SockId>,
    connect_at: Instant,
}

/// A client that hears nothing looks that often what there is to do.
const LOOK_EVERY: Duration = Duration::from_millis(300);
const CONNS_MAX: usize = 3;

impl Client {
    pub(crate) fn new(common: &Common, number: usize, connect_at: Instant) -> Self {
        let habits = common.options.clients[number].clone();
        let name = SessionId::parse(&format!("s{number}")).expect("a name");
        Self {
            number,
            session: habits.names_session.then_some(name),
            habits,
            is_fresh: true,
            renamed: 0,
            wanted: 0,
            sent: 0,
            sent_max: 0,
            acked: 0,
            stored: 0,
            received: 0,
            confirmed: 0,
            conns: Vec::new(),
            current: None,
            connect_at,
        }
    }

    fn is_numbered(&self) -> bool {
        self.habits.protocol.is_own()
    }

    /// What it was told is stored.
    fn is_acked(&self, common: &Common) -> bool {
        let is_acked = common.options.config.durability == Durability::Acked;
        is_acked || self.habits.protocol == Protocol::V2
    }

    /// Nothing is left to wish for.
    pub(crate) fn is_at_rest(&self, common: &Common) -> bool {
        // An earlier one may live on, unaware: an idle node learns of a takeover by news alone.
        let current = |conn: &&Conn| Some(conn.sock) == self.current;
        let Some(conn) = self.conns.iter().find(current) else {
            return false;
        };
        let answered = if self.is_numbered() {
            let kept = self.session.as_ref().map(|id| common.truth.count(id));
            self.acked == self.habits.messages && kept == Some(self.habits.messages)
        } else {
            self.sent == self.habits.messages && (conn.sent == 0 || conn.answered == conn.sent)
        };
        conn.close.is_none() && !conn.closed && answered && self.has_all_mail(common)
    }

    /// The session of a numbered client, and the node that serves it.
    pub(crate) fn served_by(&self, common: &Common) -> Option<(&SessionId, usize)> {
        let session = self.session.as_ref().filter(|_| self.is_numbered())?;
        let sock = common.network.get(self.current?)?;
        Some((session, sock.node))
    }

    pub(crate) fn has_one_connection(&self) -> bool {
        self.conns.len() == 1
    }

    pub(crate) fn is_connected(&self) -> bool {
        !self.conns.is_empty()
    }

    pub(crate) fn describe(&self) -> String {
        format!("{self:?}")
    }

    /// What is in the store in the end.
    pub(crate) fn check_end(&self, common: &Common) {
        if self.is_numbered() {
            let session = self.session.as_ref().expect("a session");
            let kept = common.truth.count(session);
            assert_eq!(
                kept, self.habits.messages,
                "client {}: {session}",
                self.number
            );
        }
        assert!(
            self.conns.is_empty(),
            "client {}: {:?}",
            self.number,
            self.conns
        );
    }

    /// The faults have ended.
    pub(crate) fn reform(&mut self, common: &mut Common) {
        self.habits.reform();
        self.connect_at = self.connect_at.min(common.now.instant);
        for conn in &mut self.conns {
            conn.reads = true;
            conn.read_planned = true;
            let (client, sock) = (self.number, conn.sock);
            common.plan_after(Duration::ZERO, Event::Read { client, sock });
            if conn.close.is_some() {
                conn.answer_at = Some(common.now.instant);
            }
        }
    }

    /// Looks what there is to do, and when to look again.
    pub(crate) fn act(&mut self, common: &mut Common) {
        let now = common.now.instant;
        self.lose_patience(common);
        if self.conns.is_empty() && now >= self.connect_at && !common.is_ending {
            self.connect(common);
        }
        self.want_more(common);
        self.indulge(common);
        self.pump_all(common);
        self.confirm(common);
        self.say_that_it_leaves(common);
        self.answer_closes(common);
        let think = common.dice.time(Duration::ZERO, self.habits.think_max);
        let think = think.max(Duration::from_millis(1));
        let due = self.conns.iter().filter_map(|conn| conn.answer_at);
        let at = due.chain([now + think.min(LOOK_EVERY)]).min();
        let at = at.unwrap_or(now).max(now + Duration::from_millis(1));
        common.plan(
            at,
            Event::Act {
                client: self.number,
            },
        );
    }

    fn connect(&mut self, common: &mut Common) {
        let node = common.dice.among(0, common.options.nodes - 1);
        let sock = common.connect(self.number, node);
        common.say(|| format!("client {}: connects to node {node} by {sock}", self.number));
        let upgrade = ClientFrame::Upgrade {
            protocol: self.habits.protocol,
            session: self.session.clone(),
            received: self.received,
        };
        common.send_up(sock, upgrade, 200);
        self.conns.push(Conn {
            sock,
            stage: Stage::Upgrading,
            heard_at: common.now.instant,
            known: (self.stored, self.acked),
            received: self.received,
            eager: false,
            reads: common.is_calm || !common.dice.chance(self.habits.never_reads),
            read_planned: false,
            sent: 0,
            answered: 0,
            replied: None,
            bye: None,
            close: None,
            answer_at: None,
            closed: false,
            leaving: false,
            by_frame: false,
            retry_ms: None,
        });
    }

    fn want_more(&mut self, common: &mut Common) {
        let left = self.habits.messages - self.wanted;
        if left > 0 {
            let burst = common.dice.among(0, self.habits.burst_max) as u64;
            self.wanted += burst.min(left);
        }
    }

    /// What clients do that need not be.
    fn indulge(&mut self, common: &mut Common) {
        let Some(sock) = self.current else { return };
        let habits = &self.habits;
        let may_take_over = self.session.is_some() && self.conns.len() < CONNS_MAX;
        if may_take_over && common.dice.chance(habits.takes_over) {
            common.seen.note("own session taken over");
            return self.connect(common);
        }
        if common.dice.chance(habits.drops) {
            common.seen.note("client drops TCP");
            return self.drop_conn(common, sock, "drops TCP");
        }
        let (closes, half_closes) = (habits.closes, habits.half_closes);
        if common.dice.chance(habits.pings) {
            common.send_up(sock, ClientFrame::Ping, 6);
        }
        let by_frame = common.dice.chance(closes);
        if by_frame || common.dice.chance(half_closes) {
            common.seen.note(if by_frame {
                "client closes"
            } else {
                "client half-closes"
            });
            self.close(common, sock, by_frame);
        }
    }

    /// This connection takes no more messages; an earlier one may.
    fn fall_back(&mut self, from: SockId) {
        if self.current == Some(from) {
            let live = |conn: &&Conn| conn.stage == Stage::Live && !conn.closed;
            let earlier = self.conns.iter().rfind(live);
            self.current = earlier.map(|conn| conn.sock);
            let replied = earlier.and_then(|conn| conn.replied).unwrap_or(0);
            self.acked = self.acked.max(replied);
        }
    }

    fn lose_patience(&mut self, common: &mut Common) {
        let now = common.now.instant;
        let patience = self.habits.patience;
        let numbered = self.is_numbered();
        let of_it = |conn: &Conn| {
            let waits = conn.stage != Stage::Live
                || conn.closed
                || conn.close.is_some()
                || if numbered {
                    conn.replied.unwrap_or(0)
                } else {
                    conn.answered
                } < conn.sent;
            (waits && now > conn.heard_at + patience).then_some(conn.sock)
        };
        let lost: Vec<SockId> = self.conns.iter().filter_map(of_it).collect();
        for sock in lost {
            common.seen.note("client loses patience");
            self.drop_conn(common, sock, "loses patience");
        }
    }

    fn drop_conn(&mut self, common: &mut Common, sock: SockId, why: &str) {
        common.say(|| format!("client {}: {why}: {sock}", self.number));
        common.close_sock(sock, Side::Client, false);
        self.forget(common, sock);
    }

    /// A connection is over: maybe there is to be another.
    fn forget(&mut self, common: &mut Common, sock: SockId) {
        let Some(at) = self.conns.iter().position(|conn| conn.sock == sock) else {
            return;
        };
        let conn = self.conns.remove(at);
        if conn.eager {
            self.begin_anew(common);
        }
        self.fall_back(sock);
        let asked = conn.retry_ms.filter(|_| self.habits.obeys_reconnect_ms);
        let wait = match asked {
            Some(ms) => Duration::from_millis(ms),
            None => common
                .dice
                .within_ms(if common.is_calm { 300 } else { 1500 }),
        };
        self.connect_at = common.now.instant + wait;
    }

    /// What was sent before a hello that never came may be counted yet, by a node that was frozen:
    /// this session is not to be used any more.
    fn begin_anew(&mut self, common: &mut Common) {
        common.seen.note("sent before a hello that never came");
        self.renamed += 1;
        let name = format!("s{}.{}", self.number, self.renamed);
        self.session = SessionId::parse(&name)
            .ok()
            .filter(|_| self.habits.names_session);
        self.is_fresh = true;
        self.sent_max = 0;
        self.received = 0;
        self.confirmed = 0;
    }

    /// Sends what may go.
    fn pump_all(&mut self, common: &mut Common) {
        let socks: Vec<SockId> = self.conns.iter().map(|conn| conn.sock).collect();
        for sock in socks {
            self.pump(common, sock);
        }
    }

    fn pump(&mut self, common: &mut Common, sock: SockId) {
        let (numbered, is_current) = (self.is_numbered(), self.current == Some(sock));
        let habits = self.habits.clone();
        let Some(conn) = self.conns.iter_mut().find(|conn| conn.sock == sock) else {
            return;
        };
        let may = !conn.closed
            && !conn.leaving
            && (is_current && conn.stage == Stage::Live || conn.eager)
            && (conn.close.is_none() || habits.sends_while_closing);
        if !may {
            return;
        }
        loop {
            let (next, index) = if numbered {
                (conn.sent + 1, conn.sent + 1)
            } else {
                (self.sent + 1, 0)
            };
            if next > self.wanted {
                return;
            }
            let asks_text = common.dice.chance(habits.asks_text);
            let ask = Ask {
                index,
                text: if asks_text {
                    common.dice.among(1, habits.text_max)
                } else {
                    0
                },
                close: common.dice.chance(habits.asks_close),
                defer_ms: habits.defer_ms(&mut common.dice),
                push_to: habits
                    .pushes_to(self.number, index, common.options.clients.len())
                    .map_or(0, |to| to + 1),
            };
            let size = 6 + common.dice.among(1, habits.message_bytes_max);
            if !common.send_up(sock, ClientFrame::Message(ask), size) {
                return;
            }
            if index > 0 && index <= self.sent_max {
                common.seen.note("message sent again");
            }
            self.sent = next.max(self.sent);
            conn.sent += 1;
            self.sent_max = self.sent_max.max(conn.sent);
        }
    }

    /// A frame has come, or a reset, or room.
    pub(crate) fn handle_ready(&mut self, common: &mut Common, sock: SockId) {
        let habits_delay = self.habits.read_delay_max;
        let Some(conn) = self.conns.iter_mut().find(|conn| conn.sock == sock) else {
            return;
        };
        if !conn.reads {
            if common.network.is_broken(sock, Side::Client) {
                self.drop_conn(common, sock, "is cut off");
            }
            return;
        }
        if habits_delay == Duration::ZERO {
            while self.read(common, sock) {}
        } else if !std::mem::replace(&mut conn.read_planned, true) {
            let delay = common.dice.time(Duration::ZERO, habits_delay);
            common.plan_after(
                delay,
                Event::Read {
                    client: self.number,
                    sock,
                },
            );
        }
        self.pump(common, sock);
    }

    /// It is time to read.
    pub(crate) fn handle_read(&mut self, common: &mut Common, sock: SockId) {
        if let Some(conn) = self.conns.iter_mut().find(|conn| conn.sock == sock) {
            conn.read_planned = false;
            self.read(common, sock);
            if common.network.is_readable(sock, Side::Client) {
                self.handle_ready(common, sock);
            }
        }
    }

    /// Reads one frame; whether there was one.
    fn read(&mut self, common: &mut Common, sock: SockId) -> bool {
        let now = common.now.instant;
        let Some(conn) = self.conns.iter_mut().find(|conn| conn.sock == sock) else {
            return false;
        };
        let Some(frame) = common.read_down(sock) else {
            if common.network.is_broken(sock, Side::Client) {
                self.drop_conn(common, sock, "is cut off");
            }
            return false;
        };
        conn.heard_at = now;
        common.say(|| format!("client {}: {sock} reads {frame:?}", self.number));
        match frame {
            ServerFrame::Upgraded => self.upgraded(sock),
            ServerFrame::Refused | ServerFrame::Pong => {}
            ServerFrame::Message(message) => self.told(common, sock, &message),
            ServerFrame::Close { code, text } => self.closed(common, sock, code, &text),
            ServerFrame::End => self.ended(common, sock),
        }
        true
    }

    fn conn(&mut self, sock: SockId) -> &mut Conn {
        let found = self.conns.iter_mut().find(|conn| conn.sock == sock);
        found.expect("a connection that is read from")
    }

    fn upgraded(&mut self, sock: SockId) {
        let fresh = std::mem::take(&mut self.is_fresh);
        let eager = fresh && self.is_numbered() && self.habits.sends_before_hello;
        let stage = if self.is_numbered() {
            Stage::Greeting
        } else {
            Stage::Live
        };
        if stage == Stage::Live {
            self.current = Some(sock);
        }
        let conn = self.conn(sock);
        conn.stage = stage;
        conn.eager = eager;
    }

    fn told(&mut self, common: &mut Common, sock: SockId, message: &ServerMessage) {
        let (acked, protocol) = (self.is_acked(common), self.habits.protocol);
        let number = self.number;
        let (numbered, has_session) = (self.is_numbered(), self.session.is_some());
        let conn = self.conn(sock);
        assert!(
            conn.close.is_none() && conn.bye.is_none() && conn.stage != Stage::Upgrading,
            "client {number}: {message:?} is out of place: {conn:?}"
        );
        assert!(
            !numbered || conn.stage == Stage::Live || matches!(message, ServerMessage::Hello(_)),
            "client {number}: {message:?} before the hello"
        );
        match message {
            ServerMessage::Hello(hello) => self.greeted(common, sock, hello),
            ServerMessage::Count(count) => {
                let first = conn.replied.is_none();
                let follows = network::follows(protocol, conn.replied, *count);
                assert!(follows, "client {number}: {count} after {:?}", conn.replied);
                assert!(
                    !numbered || *count <= conn.sent,
                    "client {number}: {count}: {conn:?}"
                );
                conn.replied = Some(*count);
                conn.answered += 1;
                if has_session && first && !numbered && acked {
                    assert!(*count > conn.known.1, "client {number}: {count}: {conn:?}");
                }
                if has_session {
                    self.acked = self.acked.max(*count);
                }
            }
            ServerMessage::Notice { reconnect_ms, .. } => {
                assert!(numbered, "client {number}: a notice for a plain client");
                conn.retry_ms = Some(*reconnect_ms);
            }
            ServerMessage::Goodbye { total, .. } => {
                common.seen.note("goodbye");
                conn.bye = Some(*total);
                let replied = conn.replied.unwrap_or(0);
                assert!(
                    !acked || *total >= replied,
                    "client {number}: {total} after {replied}"
                );
                if self.session.is_some() {
                    self.stored = self.stored.max(*total);
                }
            }
            ServerMessage::Push(push) => self.pushed(common, push),
            ServerMessage::Timestamp(_)
            | ServerMessage::Broadcast(_)
            | ServerMessage::Text(_)
            | ServerMessage::Binary(_) => {}
        }
    }

    fn greeted(&mut self, common: &mut Common, sock: SockId, hello: &Hello) {
        let number = self.number;
        let (session, count, resumed) = (&hello.session, hello.count, hello.resumed);
        let is_acked = self.is_acked(common);
        // What was told on other connections since may be younger than this hello.
        let (stored, acked) = self.conn(sock).known;
        let least = if is_acked { stored.max(acked) } else { stored };
        assert!(
            count >= least && count <= self.sent_max,
            "client {number}: hello {count}; stored {stored}, acknowledged {acked}, sent {}",
            self.sent_max
        );
        assert!(
            resumed || least == 0,
            "client {number}: {session} is new to the store"
        );
        assert!(self.session.as_ref().is_none_or(|known| known == session));
        // Another connection may have brought more since.
        if hello.sent < self.conn(sock).received {
            assert!(common.truth.is_lost, "client {number}: {hello:?}");
            (self.received, self.confirmed) = (0, 0);
        }
        if count < acked {
            common.seen.note("relaxed: acknowledged and lost");
        }
        self.session = Some(session.clone());
        self.stored = self.stored.max(count);
        self.acked = if is_acked {
            self.acked.max(count)
        } else {
            count
        };
        self.current = Some(sock);
        let conn = self.conn(sock);
        assert!(
            !conn.eager || count == 0,
            "client {number}: a fresh session"
        );
        if !conn.eager {
            conn.sent = count;
        }
        conn.eager = false;
        conn.stage = Stage::Live;
        conn.replied = Some(count);
        self.wanted = self.wanted.max(count);
        self.pump(common, sock);
    }
}
