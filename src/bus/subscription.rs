//! The conversation between nodes: each says what is for everybody on one channel, and hears the
//! others on it. Pure: no socket, no clock.
//!
//! In RESP3, in which one may speak and listen on the same link. Must never take for another node's
//! what this one has said itself: Redis sends it back.

use std::collections::VecDeque;
use std::mem;
use std::time::{Duration, Instant};

use redis::{PushKind, ServerError, Value};

use super::BusEvent;
use crate::redis::conversation::{Conversation, Health};
use crate::redis::exchange::{Awaited, Exchange};
use crate::redis::outbound::Outbound;
use crate::redis::reply;
use crate::redis::request;
use crate::redis::target::Login;

/// One link's requests and replies.
pub(crate) struct Subscription {
    login: Login,
    channel: String,
    /// What this node's messages begin with.
    name: String,
    phase: Phase,
    exchange: Exchange<Reply>,
    /// What is to be published, once Redis has said that it is no replica, and since when. It waits
    /// for the next link, too.
    waiting: VecDeque<(Instant, String)>,
    /// What has come of what was published.
    settled: VecDeque<bool>,
    /// Redis has refused a message on this link.
    was_refused: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    Closed,
    Greeting,
    Ready,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Reply {
    Hello,
    Subscribe,
    /// The role, before something is published.
    Check,
    Publish,
    /// The role, as a sign of life.
    Ping,
}

impl Subscription {
    /// `name` tells this node from all others.
    pub(crate) fn new(login: Login, channel: String, name: u64) -> Self {
        Self {
            login,
            channel,
            name: format!("{name:016x}"),
            phase: Phase::Closed,
            exchange: Exchange::default(),
            waiting: VecDeque::new(),
            settled: VecDeque::new(),
            was_refused: false,
        }
    }

    /// Says something to all other nodes. `false`: it is dropped, since so much waits already; then
    /// Redis does not answer, and what it takes late is of no use.
    pub(crate) fn publish(&mut self, json: &str, now: Instant) -> bool {
        let has_room = self.waiting.len() + self.exchange.awaited.len() < AWAITED_MAX;
        if has_room {
            self.waiting
                .push_back((now, format!("{} {json}", self.name)));
            self.exchange.ask(&request::role(), Reply::Check);
        }
        has_room
    }

    /// Drops what has waited for too long.
    pub(crate) fn expire(&mut self, now: Instant) {
        while self.expires_at().is_some_and(|at| at <= now) {
            self.waiting.pop_front();
            self.settled.push_back(false);
        }
    }

    /// When the oldest has waited for too long.
    pub(crate) fn expires_at(&self) -> Option<Instant> {
        self.waiting.front().map(|(since, _)| *since + WAIT_MAX)
    }

    /// What has come of the next message.
    pub(crate) fn poll_settled(&mut self) -> Option<BusEvent> {
        self.settled.pop_front().map(BusEvent::Published)
    }

    fn publish_next(&mut self) {
        if let Some((_, message)) = self.waiting.pop_front() {
            let mut command = redis::cmd("PUBLISH");
            command.arg(&self.channel).arg(message);
            self.exchange.ask(&command, Reply::Publish);
        }
    }

    fn handle_value(
        &mut self,
        value: Value,
        events: &mut VecDeque<BusEvent>,
    ) -> Result<(), String> {
        if let Value::Push { kind, data } = value {
            return self.handle_push(&kind, &data, events);
        }
        let Some(Awaited { reply, .. }) = self.exchange.awaited.pop_front() else {
            return Err("no Redis: a reply that nobody asked for".to_owned());
        };
        match (reply, value) {
            (_, Value::ServerError(error)) => self.handle_error(reply, &error),
            (Reply::Hello, value) => {
                reply::check_hello(&value)?;
                let subscribe = request::subscribe(&self.channel);
                self.exchange.ask(&subscribe, Reply::Subscribe);
                Ok(())
            }
            (Reply::Ping, value) => reply::check_hello(&value),
            (Reply::Check, value) => {
                reply::check_hello(&value)?;
                self.publish_next();
                Ok(())
            }
            (Reply::Publish, _) => {
                self.settled.push_back(true);
                Ok(())
            }
            (Reply::Subscribe, _) => Ok(()),
        }
    }

    fn handle_error(&mut self, reply: Reply, error: &ServerError) -> Result<(), String> {
        let reason = reply::reason(error, &self.login);
        match reply {
            Reply::Hello if reply::speaks_only_resp2(error) => {
                Err("Redis speaks no RESP3 (it is older than version 6)".to_owned())
            }
            Reply::Publish => {
                self.settled.push_back(false);
                // Once for each link.
                if !mem::replace(&mut self.was_refused, true) {
                    log::warn!("Redis does not pass a broadcast on: {reason}");
                }
                Ok(())
            }
            Reply::Hello | Reply::Subscribe | Reply::Check | Reply::Ping => Err(reason),
        }
    }

    fn handle_push(
        &mut self,
        kind: &PushKind,
        data: &[Value],
        events: &mut VecDeque<BusEvent>,
    ) -> Result<(), String> {
        // A subscription is confirmed by a push, where an error would be an ordinary reply.
        let confirms = *kind == PushKind::Subscribe;
        let awaited = self.exchange.awaited.front().map(|entry| entry.reply);
        if confirms && awaited == Some(Reply::Subscribe) {
            self.exchange.awaited.pop_front();
            self.phase = Phase::Ready;
            events.push_back(BusEvent::Up);
            // Its role is known as of now.
            (0..self.waiting.len()).for_each(|_| self.publish_next());
        } else if *kind == PushKind::Message
            && let [_, Value::BulkString(message)] = data
            && let Some(json) = self.of_another(message)
        {
            events.push_back(BusEvent::Heard(json.to_vec()));
        } else if *kind == PushKind::Unsubscribe {
            return Err("Redis has ended the subscription".to_owned());
        }
        Ok(())
    }

    /// What another node has said; `None` for what this one has. Whatever has no name in front is
    /// no node's, and nothing.
    fn of_another<'a>(&self, message: &'a [u8]) -> Option<&'a [u8]> {
        let parts = message.split_at_checked(self.name.len());
        match parts.map(|(name, rest)| (name, rest.strip_prefix(b" "))) {
            Some((name, Some(_))) if name == self.name.as_bytes() => None,
            Some((name, Some(json))) if name.iter().all(u8::is_ascii_hexdigit) => Some(json),
            Some(_) | None => Some(&[]),
        }
    }
}

impl Conversation for Subscription {
    type Event = BusEvent;

    const ABOUT: &'static str = "for broadcasts, ";

    fn told(health: Health) -> BusEvent {
        match health {
            Health::Down(reason) => BusEvent::Down(reason),
            Health::Stalled => BusEvent::Stalled,
            Health::Resumed => BusEvent::Resumed,
        }
    }

    fn greet(&mut self) {
        self.forget();
        self.phase = Phase::Greeting;
        let hello = request::hello(&self.login);
        self.exchange.ask(&hello, Reply::Hello);
    }

    fn forget(&mut self) {
        self.phase = Phase::Closed;
        // Nobody knows what has come of these, and nobody may hear them twice.
        let published = |entry: &&Awaited<Reply>| entry.reply == Reply::Publish;
        let unknown = self.exchange.awaited.iter().filter(published).count();
        self.settled.extend(std::iter::repeat_n(false, unknown));
        self.exchange.clear();
        self.was_refused = false;
    }

    fn is_ready(&self) -> bool {
        self.phase == Phase::Ready
    }

    fn receive(&mut self, bytes: &[u8], events: &mut VecDeque<BusEvent>) -> Result<(), String> {
        self.exchange.push(bytes);
        while let Some(value) = self.exchange.next()? {
            self.handle_value(value, events)?;
        }
        Ok(())
    }

    fn outbound(&mut self) -> &mut Outbound {
        &mut self.exchange.outbound
    }

    fn mark_asked(&mut self, now: Instant) {
        self.exchange.mark_asked(now);
    }

    fn waiting_since(&self) -> Option<Instant> {
        self.exchange.waiting_since()
    }

    fn is_idle(&self) -> bool {
        self.exchange.awaited.is_empty()
    }

    fn ping(&mut self) {
        self.exchange.ask(&request::role(), Reply::Ping);
    }
}

/// Messages under way, of up to 64 KiB each.
const AWAITED_MAX: usize = 64;
/// For so long a message waits for a link: later it is of no use.
const WAIT_MAX: Duration = Duration::from_secs(3);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::redis::target::Target;

    const HELLO: &[u8] = b"%1\r\n$4\r\nmode\r\n$10\r\nstandalone\r\n";
    const SUBSCRIBED: &[u8] = b">3\r\n$9\r\nsubscribe\r\n$1\r\nc\r\n:1\r\n";

    fn begin() -> (Subscription, VecDeque<BusEvent>) {
        let login = Target::parse("redis://127.0.0.1").unwrap().login;
        let mut talk = Subscription::new(login, "c".to_owned(), 7);
        talk.greet();
        (talk, VecDeque::new())
    }

    fn now() -> Instant {
        crate::clock::now().instant
    }

    fn message(payload: &str) -> Vec<u8> {
        let len = payload.len();
        format!(">3\r\n$7\r\nmessage\r\n$1\r\nc\r\n${len}\r\n{payload}\r\n").into_bytes()
    }

    #[test]
    fn what_others_say_is_heard_however_it_is_cut() {
        let others = message("0000000000000008 {\"a\":1}");
        let own = message("0000000000000007 {\"a\":2}");
        let strangers = message("hello");
        let all = [HELLO, SUBSCRIBED, &own, &others, &strangers].concat();
        for cut in 0..all.len() {
            let (mut talk, mut events) = begin();
            for piece in [&all[..cut], &all[cut..]] {
                talk.receive(piece, &mut events).unwrap();
            }
            assert!(talk.is_ready() && talk.is_idle(), "{cut}");
            let heard = BusEvent::Heard(b"{\"a\":1}".to_vec());
            let nothing = BusEvent::Heard(Vec::new());
            assert_eq!(events, [BusEvent::Up, heard, nothing], "{cut}");
        }
    }

    #[test]
    fn what_is_said_has_this_nodes_name() {
        let (mut talk, mut events) = begin();
        talk.receive(&[HELLO, SUBSCRIBED].concat(), &mut events)
            .unwrap();
        let hello = talk.outbound().pending().len();
        assert!(talk.publish("[]", now()));
        let role = b"*2\r\n$5\r\nHELLO\r\n$1\r\n3\r\n";
        assert_eq!(talk.outbound().pending()[hello..].to_vec(), role);
        talk.receive(HELLO, &mut events).unwrap();
        let sent = talk.outbound().pending()[hello + role.len()..].to_vec();
        let expected = b"*3\r\n$7\r\nPUBLISH\r\n$1\r\nc\r\n$19\r\n0000000000000007 []\r\n";
        assert_eq!(sent, expected);
        assert_eq!(talk.poll_settled(), None);
        talk.receive(b":1\r\n", &mut events).unwrap();
        assert!(talk.is_idle());
        assert_eq!(talk.poll_settled(), Some(BusEvent::Published(true)));
    }

    #[test]
    fn a_redis_that_does_not_answer_is_not_told_without_end() {
        let (mut talk, mut events) = begin();
        talk.receive(&[HELLO, SUBSCRIBED].concat(), &mut events)
            .unwrap();
        let taken = (0..2 * AWAITED_MAX).filter(|_| talk.publish("[]", now()));
        assert_eq!(taken.count(), AWAITED_MAX / 2);
    }

    #[test]
    fn what_redis_refuses_ends_the_link_but_for_a_message() {
        let (mut talk, mut events) = begin();
        let old = talk.receive(b"-ERR unknown command 'HELLO'\r\n", &mut events);
        assert!(old.unwrap_err().contains("RESP3"));
        let (mut talk, mut events) = begin();
        talk.receive(HELLO, &mut events).unwrap();
        let refused = talk.receive(b"-NOPERM no channel\r\n", &mut events);
        assert!(refused.unwrap_err().contains("NOPERM"));
        let (mut talk, mut events) = begin();
        talk.receive(&[HELLO, SUBSCRIBED].concat(), &mut events)
            .unwrap();
        assert!(talk.publish("[]", now()));
        let refusal = [HELLO, b"-NOPERM no channel\r\n"].concat();
        talk.receive(&refusal, &mut events).unwrap();
        assert!(talk.is_ready());
        assert_eq!(talk.poll_settled(), Some(BusEvent::Published(false)));
    }

    #[test]
    fn a_replica_is_told_nothing_and_the_next_primary_all_of_it_in_time() {
        let (mut talk, mut events) = begin();
        let greeting = [HELLO, SUBSCRIBED].concat();
        talk.receive(&greeting, &mut events).unwrap();
        let began = now();
        assert!(talk.publish("1", began) && talk.publish("2", began + WAIT_MAX));
        let replica = b"%1\r\n$4\r\nrole\r\n$7\r\nreplica\r\n";
        assert!(talk.receive(replica, &mut events).is_err());
        talk.greet();
        talk.expire(began + WAIT_MAX);
        assert_eq!(talk.poll_settled(), Some(BusEvent::Published(false)));
        talk.receive(&greeting, &mut events).unwrap();
        let sent = String::from_utf8(talk.outbound().pending().to_vec()).unwrap();
        assert_eq!(sent.matches("PUBLISH").count(), 1);
        assert!(sent.ends_with("0000000000000007 2\r\n"), "{sent}");
        // Its answer is lost with the link: it is not said twice.
        talk.greet();
        assert_eq!(talk.poll_settled(), Some(BusEvent::Published(false)));
        talk.receive(&greeting, &mut events).unwrap();
        assert!(talk.is_idle());
    }
}
