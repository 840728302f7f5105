//! The Pub/Sub channel of all nodes: each node publishes its broadcasts there and is subscribed to
//! it. Pure: no socket, no clock.
//!
//! In RESP3, where a subscribed link may still publish. Redis sends a message back to its
//! publisher, which must not take it for another node's.

use std::collections::VecDeque;
use std::mem;
use std::sync::Arc;
use std::time::{Duration, Instant};

use redis::{PushKind, ServerError, Value};

use super::BusEvent;
use crate::broadcast;
use crate::redis::conversation::{Awaited, Conversation, Exchange, Health, Reply};
use crate::redis::target::Login;
use crate::redis::{reply, request};

/// The requests and replies on one link.
pub(crate) struct Subscription {
    /// What this node's messages begin with.
    name: String,
    exchange: Exchange<Asked>,
    /// What is to be published, once Redis has said that it is no replica, and since when. It waits
    /// for the next link, too.
    waiting: VecDeque<(Instant, Arc<str>)>,
    /// What has come of what was published.
    settled: VecDeque<bool>,
    /// Redis has refused a message on this link.
    was_refused: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Asked {
    /// The role, before something is published.
    Check,
    Publish,
}

impl Subscription {
    /// `name` tells this node from all others.
    pub(crate) fn new(login: Login, channel: String, name: u64) -> Self {
        Self {
            name: format!("{name:016x}"),
            exchange: Exchange::new(login, channel),
            waiting: VecDeque::new(),
            settled: VecDeque::new(),
            was_refused: false,
        }
    }

    /// Says something to all other nodes. `false`: it is dropped, since so much waits already; then
    /// Redis does not answer, and what it takes late is of no use.
    pub(crate) fn publish(&mut self, message: Arc<str>, now: Instant) -> bool {
        let has_room = self.waiting.len() + self.exchange.awaited().len() < AWAITED_MAX;
        if has_room {
            self.waiting.push_back((now, message));
            self.exchange.ask(&request::role(), Asked::Check);
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
            let json = broadcast::json_of(&message);
            let mut command = redis::cmd("PUBLISH");
            command
                .arg(&self.exchange.channel)
                .arg(format!("{} {json}", self.name));
            self.exchange.ask(&command, Asked::Publish);
        }
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
    type Reply = Asked;

    const ABOUT: &'static str = "for broadcasts, ";
    const UNHEARD: Option<&'static str> = None;

    fn told(health: Health) -> BusEvent {
        match health {
            Health::Up => BusEvent::Up,
            Health::Down(reason) => BusEvent::Down(reason),
            Health::Stalled => BusEvent::Stalled,
            Health::Resumed => BusEvent::Resumed,
        }
    }

    fn exchange(&self) -> &Exchange<Asked> {
        &self.exchange
    }

    fn exchange_mut(&mut self) -> &mut Exchange<Asked> {
        &mut self.exchange
    }

    fn forget(&mut self) {
        // Nobody knows what has come of these, and nobody may hear them twice.
        let published = |entry: &&Awaited<Asked>| entry.reply == Reply::Own(Asked::Publish);
        let unknown = self.exchange.awaited().iter().filter(published).count();
        self.settled.extend(std::iter::repeat_n(false, unknown));
        self.exchange.clear();
        self.was_refused = false;
    }

    /// Publishes what has waited for the link: its role is known as of now.
    fn handle_up(&mut self) {
        (0..self.waiting.len()).for_each(|_| self.publish_next());
    }

    fn handle_reply(
        &mut self,
        asked: Asked,
        answer: Result<Value, ServerError>,
        _events: &mut VecDeque<BusEvent>,
    ) -> Result<(), String> {
        let answer = answer.map_err(|error| self.exchange.reason(&error));
        match (asked, answer) {
            (Asked::Check, answer) => {
                reply::check_hello(&answer?)?;
                self.publish_next();
            }
            (Asked::Publish, Ok(_)) => self.settled.push_back(true),
            (Asked::Publish, Err(reason)) => {
                self.settled.push_back(false);
                // Once for each link.
                if !mem::replace(&mut self.was_refused, true) {
                    log::warn!("Redis does not pass a broadcast on: {reason}");
                }
            }
        }
        Ok(())
    }

    fn handle_push(
        &mut self,
        kind: &PushKind,
        data: &[Value],
        events: &mut VecDeque<BusEvent>,
    ) -> Result<(), String> {
        if *kind == PushKind::Message
            && let [_, Value::BulkString(message)] = data
            && let Some(json) = self.of_another(message)
        {
            events.push_back(BusEvent::Heard(broadcast::message(json)));
        } else if *kind == PushKind::Unsubscribe {
            return Err("Redis has ended the subscription".to_owned());
        }
        Ok(())
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

    fn said(json: &str) -> Arc<str> {
        broadcast::message(json.as_bytes()).unwrap()
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
            assert!(
                talk.exchange.is_ready() && talk.exchange.awaited().is_empty(),
                "{cut}"
            );
            let heard = BusEvent::Heard(broadcast::message(b"{\"a\":1}"));
            let nothing = BusEvent::Heard(broadcast::message(b""));
            assert_eq!(events, [BusEvent::Up, heard, nothing], "{cut}");
        }
    }

    #[test]
    fn what_is_said_has_this_nodes_name() {
        let (mut talk, mut events) = begin();
        talk.receive(&[HELLO, SUBSCRIBED].concat(), &mut events)
            .unwrap();
        let hello = talk.exchange.outbound.pending().len();
        assert!(talk.publish(said("[]"), now()));
        let role = b"*2\r\n$5\r\nHELLO\r\n$1\r\n3\r\n";
        assert_eq!(talk.exchange.outbound.pending()[hello..].to_vec(), role);
        talk.receive(HELLO, &mut events).unwrap();
        let sent = talk.exchange.outbound.pending()[hello + role.len()..].to_vec();
        let expected = b"*3\r\n$7\r\nPUBLISH\r\n$1\r\nc\r\n$19\r\n0000000000000007 []\r\n";
        assert_eq!(sent, expected);
        assert_eq!(talk.poll_settled(), None);
        talk.receive(b":1\r\n", &mut events).unwrap();
        assert!(talk.exchange.awaited().is_empty());
        assert_eq!(talk.poll_settled(), Some(BusEvent::Published(true)));
    }

    #[test]
    fn a_redis_that_does_not_answer_is_not_told_without_end() {
        let (mut talk, mut events) = begin();
        talk.receive(&[HELLO, SUBSCRIBED].concat(), &mut events)
            .unwrap();
        let taken = (0..2 * AWAITED_MAX).filter(|_| talk.publish(said("[]"), now()));
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
        assert!(talk.publish(said("[]"), now()));
        let refusal = [HELLO, b"-NOPERM no channel\r\n"].concat();
        talk.receive(&refusal, &mut events).unwrap();
        assert!(talk.exchange.is_ready());
        assert_eq!(talk.poll_settled(), Some(BusEvent::Published(false)));
    }

    #[test]
    fn a_replica_is_told_nothing_and_the_next_primary_all_of_it_in_time() {
        let (mut talk, mut events) = begin();
        let greeting = [HELLO, SUBSCRIBED].concat();
        talk.receive(&greeting, &mut events).unwrap();
        let began = now();
        assert!(talk.publish(said("1"), began) && talk.publish(said("2"), began + WAIT_MAX));
        let replica = b"%1\r\n$4\r\nrole\r\n$7\r\nreplica\r\n";
        assert!(talk.receive(replica, &mut events).is_err());
        talk.greet();
        talk.expire(began + WAIT_MAX);
        assert_eq!(talk.poll_settled(), Some(BusEvent::Published(false)));
        talk.receive(&greeting, &mut events).unwrap();
        let sent = String::from_utf8(talk.exchange.outbound.pending().to_vec()).unwrap();
        assert_eq!(sent.matches("PUBLISH").count(), 1);
        assert!(sent.ends_with("0000000000000007 2\r\n"), "{sent}");
        // Its answer is lost with the link: it is not said twice.
        talk.greet();
        assert_eq!(talk.poll_settled(), Some(BusEvent::Published(false)));
        talk.receive(&greeting, &mut events).unwrap();
        assert!(talk.exchange.awaited().is_empty());
    }
}
