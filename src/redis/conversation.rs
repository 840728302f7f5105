//! What is said on a link: the greeting, which reply answers which request, and the bytes to send.
//! There are two conversations: about sessions (`store::redis`), and between nodes (`bus`). Pure: no
//! socket, no clock.

use std::collections::VecDeque;
use std::time::Instant;

use redis::{Cmd, PushKind, ServerError, Value};

use super::framing::{Framing, Unusable};
use super::outbound::Outbound;
use super::target::Login;
use super::{reply, request};

/// What a conversation adds to the greeting, and what it makes of its replies.
pub(crate) trait Conversation {
    type Event;

    /// What a reply is for, besides the greeting's and a ping's.
    type Reply;

    /// The subject of the conversation, for the log.
    const ABOUT: &'static str;

    /// What the user loses, for the log, if nothing can be heard on the channel; `None`: the link is
    /// of no use then.
    const UNHEARD: Option<&'static str>;

    fn told(health: Health) -> Self::Event;

    fn exchange(&self) -> &Exchange<Self::Reply>;

    fn exchange_mut(&mut self) -> &mut Exchange<Self::Reply>;

    /// The link is gone: forgets everything that was asked, said and half heard.
    fn forget(&mut self);

    /// SUBSCRIBE. Redis confirms each channel by itself, and refuses all of them or none: the first
    /// confirmation counts.
    fn subscription(&self) -> Cmd {
        request::subscribe(&self.exchange().channel)
    }

    /// Asks for what is needed between HELLO and SUBSCRIBE.
    fn prepare(&mut self) {}

    /// The greeting is over.
    fn handle_up(&mut self) {}

    /// Takes the reply to a request. An error is the reason why the link must go.
    fn handle_reply(
        &mut self,
        reply: Self::Reply,
        answer: Result<Value, ServerError>,
        events: &mut VecDeque<Self::Event>,
    ) -> Result<(), String>;

    /// Takes what Redis says unasked. An error is the reason why the link must go.
    fn handle_push(
        &mut self,
        kind: &PushKind,
        data: &[Value],
        events: &mut VecDeque<Self::Event>,
    ) -> Result<(), String>;

    /// Takes what awaits no reply of its own from the front of the queue.
    fn release(&mut self, _events: &mut VecDeque<Self::Event>) {}

    /// Begins on a new link; [`Health::Up`] ends the greeting. It takes two round trips: what
    /// follows HELLO depends on its answer (SUBSCRIBE is the end of all requests in RESP2).
    fn greet(&mut self) {
        self.forget();
        let exchange = self.exchange_mut();
        exchange.phase = Phase::Greeting;
        let hello = request::hello(&exchange.login);
        exchange.push(&hello, Reply::Hello);
    }

    /// Takes what Redis has sent. An error is the reason why the link must go; what was answered
    /// before it is in `events` all the same.
    fn receive(&mut self, bytes: &[u8], events: &mut VecDeque<Self::Event>) -> Result<(), String> {
        self.exchange_mut().framing.push(bytes);
        while let Some(value) = self.exchange_mut().next()? {
            if let Value::Push { kind, data } = value {
                self.exchange_mut().confirm(&kind);
                self.handle_push(&kind, &data, events)?;
            } else if let Value::ServerError(error) = value {
                self.handle_answer(Err(error), events)?;
            } else {
                self.handle_answer(Ok(value), events)?;
            }
            self.release(events);
            let exchange = self.exchange_mut();
            if exchange.phase == Phase::Greeting && exchange.awaited.is_empty() {
                exchange.phase = Phase::Ready;
                events.push_back(Self::told(Health::Up));
                self.handle_up();
            }
        }
        Ok(())
    }

    fn handle_answer(
        &mut self,
        answer: Result<Value, ServerError>,
        events: &mut VecDeque<Self::Event>,
    ) -> Result<(), String> {
        let exchange = self.exchange_mut();
        let Some(Awaited { reply, .. }) = exchange.awaited.pop_front() else {
            return Err(match answer {
                Ok(_) => "no Redis: a reply that nobody asked for".to_owned(),
                Err(error) => exchange.reason(&error),
            });
        };
        match (reply, answer) {
            (Reply::Own(reply), answer) => self.handle_reply(reply, answer, events)?,
            (Reply::Hello, Ok(value)) => {
                reply::check_hello(&value)?;
                exchange.speaks_resp3 = true;
                self.prepare();
                // Behind what `prepare` asks and before any request, so that no news is missed.
                let subscribe = self.subscription();
                self.exchange_mut().push(&subscribe, Reply::Subscribe);
            }
            (Reply::Hello, Err(error)) if reply::speaks_only_resp2(&error) => {
                let unheard =
                    Self::UNHEARD.ok_or("Redis speaks no RESP3 (it is older than version 6)")?;
                log::warn!("Redis speaks no RESP3: {unheard}");
                if let Some(auth) = request::auth(&exchange.login) {
                    exchange.push(&auth, Reply::Auth);
                }
                exchange.push(&request::set_name(), Reply::Name);
                self.prepare();
            }
            (Reply::Subscribe, Err(error)) => {
                let reason = exchange.reason(&error);
                let unheard = Self::UNHEARD.ok_or_else(|| reason.clone())?;
                log::warn!("Redis lets us subscribe to nothing ({reason}): {unheard}");
            }
            (Reply::Alive, Ok(value)) if exchange.speaks_resp3 => reply::check_hello(&value)?,
            // The name is for people who look at CLIENT LIST, and may be missing.
            (Reply::Name, Err(_)) | (_, Ok(_)) => {}
            (_, Err(error)) => return Err(exchange.reason(&error)),
        }
        Ok(())
    }
}

/// How a link is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Health {
    /// Redis has been greeted, and can be asked.
    Up,
    /// The link is gone, for this reason.
    Down(String),
    /// Redis does not answer in good time.
    Stalled,
    /// Redis answers again.
    Resumed,
}

/// The requests on one link, and the replies that Redis owes, in order.
pub(crate) struct Exchange<R> {
    pub(crate) login: Login,
    /// What is subscribed to.
    pub(crate) channel: String,
    pub(crate) outbound: Outbound,
    awaited: VecDeque<Awaited<R>>,
    framing: Framing,
    phase: Phase,
    speaks_resp3: bool,
}

/// One reply that Redis owes.
pub(crate) struct Awaited<R> {
    /// When its request was on its way at the latest; `None` until then.
    pub(crate) asked_at: Option<Instant>,
    pub(crate) reply: Reply<R>,
}

/// What a reply is for.
#[derive(PartialEq, Eq)]
pub(crate) enum Reply<R> {
    Hello,
    Auth,
    Name,
    Subscribe,
    /// A sign of life.
    Alive,
    /// A request of the conversation's own.
    Own(R),
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    Closed,
    Greeting,
    Ready,
}

impl<R> Exchange<R> {
    pub(crate) fn new(login: Login, channel: String) -> Self {
        Self {
            login,
            channel,
            outbound: Outbound::default(),
            awaited: VecDeque::new(),
            framing: Framing::default(),
            phase: Phase::Closed,
            speaks_resp3: false,
        }
    }

    /// Whether the greeting is over. Only then may anything be asked.
    pub(crate) fn is_ready(&self) -> bool {
        self.phase == Phase::Ready
    }

    /// Asks; the reply comes when all before it have come.
    pub(crate) fn ask(&mut self, command: &Cmd, reply: R) {
        self.push(command, Reply::Own(reply));
    }

    /// What is awaited without a command of its own.
    pub(crate) fn await_reply(&mut self, reply: Reply<R>) {
        self.awaited.push_back(Awaited {
            asked_at: None,
            reply,
        });
    }

    /// What is awaited, oldest first.
    pub(crate) fn awaited(&self) -> &VecDeque<Awaited<R>> {
        &self.awaited
    }

    /// Each awaited reply means something else from here on, or is awaited no more (`None`).
    pub(crate) fn redirect_awaited(
        &mut self,
        mut redirect: impl FnMut(Reply<R>) -> Option<Reply<R>>,
    ) {
        for Awaited { asked_at, reply } in std::mem::take(&mut self.awaited) {
            let reply = redirect(reply);
            let entry = reply.map(|reply| Awaited { asked_at, reply });
            self.awaited.extend(entry);
        }
    }

    /// The oldest awaited reply needs none, if it `is_settled` by what came before. Returns whether
    /// it was.
    pub(crate) fn settle_next(&mut self, is_settled: impl FnOnce(&Reply<R>) -> bool) -> bool {
        let is_settled = self
            .awaited
            .front()
            .is_some_and(|entry| is_settled(&entry.reply));
        if is_settled {
            self.awaited.pop_front();
        }
        is_settled
    }

    /// Asks for a sign of life: in RESP3 by HELLO, in which Redis says whether it is a replica by
    /// now, too.
    pub(crate) fn ping(&mut self) {
        let command = if self.speaks_resp3 {
            request::role()
        } else {
            request::ping()
        };
        self.push(&command, Reply::Alive);
    }

    /// What was asked since the last call is on its way.
    pub(crate) fn mark_asked(&mut self, now: Instant) {
        let unmarked = |entry: &&mut Awaited<R>| entry.asked_at.is_none();
        for entry in self.awaited.iter_mut().rev().take_while(unmarked) {
            entry.asked_at = Some(now);
        }
    }

    /// Since when the oldest reply is awaited.
    pub(crate) fn waiting_since(&self) -> Option<Instant> {
        self.awaited.front()?.asked_at
    }

    /// A server error for the log, without the password.
    pub(crate) fn reason(&self, error: &ServerError) -> String {
        reply::reason(error, &self.login)
    }

    /// The link is gone: forgets everything that was asked, said and half heard.
    pub(crate) fn clear(&mut self) {
        self.phase = Phase::Closed;
        self.speaks_resp3 = false;
        self.framing.clear();
        self.outbound.clear();
        self.awaited.clear();
    }

    fn push(&mut self, command: &Cmd, reply: Reply<R>) {
        self.outbound.push(command);
        self.await_reply(reply);
    }

    /// The next whole reply. After an error, which is why the link must go, there is none.
    fn next(&mut self) -> Result<Option<Value>, String> {
        self.framing.next().map_err(|unusable| match unusable {
            Unusable::Garbage => "no Redis: garbage received".to_owned(),
            Unusable::Endless => "no Redis: an endless reply".to_owned(),
        })
    }

    /// A subscription is confirmed by a push, where an error would be an ordinary reply.
    fn confirm(&mut self, kind: &PushKind) {
        let awaited = self.awaited.front().map(|entry| &entry.reply);
        if *kind == PushKind::Subscribe && matches!(awaited, Some(Reply::Subscribe)) {
            self.awaited.pop_front();
        }
    }
}
