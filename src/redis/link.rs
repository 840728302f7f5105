//! The link to Redis: made, greeted, used, lost, made again. Time comes in as an argument.
//!
//! Owns the connection, the conversation on it, and what may go wrong with both. Must never block,
//! and never tell the engine the same thing twice: one `Down` for each `Up`, however many attempts
//! fail after it.

use std::collections::VecDeque;
use std::mem;
use std::time::{Duration, Instant};

use mio::{Registry, Token};

use super::certificates::Tls;
use super::conversation::{Conversation, Health};
use super::resolver::Resolver;
use super::stream::{Address, Stream};
use super::target::Place;
use super::transfer::exchange;
use crate::backoff::Backoff;
use crate::outage::Outage;

pub(crate) struct Link<C: Conversation> {
    place: Place,
    tls: Option<Tls>,
    registry: Registry,
    token: Token,
    resolver: Resolver,
    backoff: Backoff,
    conversation: C,
    state: State,
    outage: Outage,
    /// How often it has been open.
    opened: u64,
    events: VecDeque<C::Event>,
    buffer: Box<[u8]>,
    /// The turn's time, as last heard.
    now: Instant,
}

/// What a link is made of.
pub(crate) struct Parts<C> {
    pub(crate) place: Place,
    pub(crate) conversation: C,
    pub(crate) tls: Option<Tls>,
    pub(crate) registry: Registry,
    pub(crate) token: Token,
    pub(crate) resolver: Resolver,
    pub(crate) backoff: Backoff,
    pub(crate) now: Instant,
}

/// Where a link leads: another one can follow it there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Peer {
    pub(crate) address: Address,
    /// Tells this connection from the ones before it.
    opened: u64,
}

enum State {
    /// No connection until [`Link::lead`] says where to.
    Held,
    /// No connection until then.
    Down { retry_at: Instant },
    /// The host's name is being looked up.
    Resolving { deadline: Instant },
    /// A connection is being made, secured and greeted.
    Opening(Opening),
    /// Redis can be asked.
    Open(Open),
}

struct Opening {
    stream: Stream,
    address: Address,
    connected: bool,
    deadline: Instant,
    /// Addresses that are left to try.
    rest: VecDeque<Address>,
    /// Why the addresses before this one were no good.
    failures: Vec<String>,
}

struct Open {
    stream: Stream,
    address: Address,
    since: Instant,
    heard_at: Instant,
    stalled: bool,
    /// The read budget ended before the input did: no edge will tell of the rest.
    more_to_read: bool,
}

impl<C: Conversation> Link<C> {
    pub(crate) fn new(parts: Parts<C>) -> Self {
        Self {
            place: parts.place,
            tls: parts.tls,
            registry: parts.registry,
            token: parts.token,
            resolver: parts.resolver,
            backoff: parts.backoff,
            conversation: parts.conversation,
            state: State::Down {
                retry_at: parts.now,
            },
            outage: Outage::new("Redis"),
            opened: 0,
            events: VecDeque::new(),
            buffer: vec![0; BUFFER_BYTES].into_boxed_slice(),
            now: parts.now,
        }
    }

    /// The conversation and its answers, when Redis can be asked.
    pub(crate) fn ready(&mut self) -> Option<(&mut C, &mut VecDeque<C::Event>)> {
        match self.state {
            State::Open(_) => Some((&mut self.conversation, &mut self.events)),
            State::Held | State::Down { .. } | State::Resolving { .. } | State::Opening(_) => None,
        }
    }

    /// Whether Redis can be asked, and has answered in good time.
    pub(crate) fn answers(&self) -> bool {
        matches!(&self.state, State::Open(open) if !open.stalled)
    }

    /// What is said, whether the link is there or not.
    pub(crate) fn conversation(&self) -> &C {
        &self.conversation
    }

    /// The same, to say more.
    pub(crate) fn conversation_mut(&mut self) -> &mut C {
        &mut self.conversation
    }

    /// Where it leads at this moment.
    pub(crate) fn peer(&self) -> Option<Peer> {
        match &self.state {
            State::Open(open) => Some(Peer {
                address: open.address.clone(),
                opened: self.opened,
            }),
            State::Held | State::Down { .. } | State::Resolving { .. } | State::Opening(_) => None,
        }
    }

    /// Leads there from now on, or nowhere, and forgets what was on its way. The engine is told
    /// nothing: whoever leads a link knows why.
    pub(crate) fn lead(&mut self, address: Option<Address>, now: Instant) {
        self.now = now;
        let retry_at = now;
        let next = match address {
            Some(address) => {
                self.place = match address {
                    Address::Tcp(address) => Place::Address(address),
                    Address::Unix(path) => Place::Unix(path),
                };
                State::Down { retry_at }
            }
            None => State::Held,
        };
        match mem::replace(&mut self.state, next) {
            State::Open(open) => open.stream.close(&self.registry),
            State::Opening(opening) => opening.stream.close(&self.registry),
            State::Held | State::Down { .. } | State::Resolving { .. } => {}
        }
        self.backoff.reset();
        self.conversation.forget();
    }

    pub(crate) fn poll_event(&mut self) -> Option<C::Event> {
        self.events.pop_front()
    }

    pub(crate) fn handle_ready(&mut self, now: Instant) {
        self.now = now;
        match &mut self.state {
            State::Held | State::Down { .. } => {}
            State::Resolving { .. } => self.poll_resolver(),
            State::Opening(opening) => {
                opening.stream.handle_ready();
                self.go_on_opening();
            }
            State::Open(open) => {
                open.stream.handle_ready();
                self.exchange_open();
            }
        }
    }

    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        self.now = now;
        match &self.state {
            State::Down { retry_at } if *retry_at <= now => self.begin(),
            State::Resolving { deadline } if *deadline <= now => {
                self.poll_resolver();
                if matches!(self.state, State::Resolving { .. }) {
                    self.fail("the name server does not answer".to_owned());
                }
            }
            State::Opening(opening) if opening.deadline <= now => {
                let phase = if opening.connected {
                    "greeting"
                } else {
                    "connecting"
                };
                self.try_next_address(format!("timed out while {phase}"));
            }
            State::Open(_) => self.watch(),
            State::Held | State::Down { .. } | State::Resolving { .. } | State::Opening(_) => {}
        }
    }

    pub(crate) fn flush(&mut self, now: Instant) {
        self.now = now;
        let State::Open(open) = &mut self.state else {
            return;
        };
        let exchange = self.conversation.exchange_mut();
        exchange.mark_asked(now);
        let written = open.stream.write(&mut exchange.outbound);
        if let Err(error) = written {
            self.fail(error.to_string());
        }
    }

    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        Some(match &self.state {
            State::Held => return None,
            State::Down { retry_at } => *retry_at,
            State::Resolving { deadline } => *deadline,
            State::Opening(opening) => opening.deadline,
            State::Open(open) if open.more_to_read => self.now,
            State::Open(open) => match self.conversation.exchange().waiting_since() {
                Some(since) if open.stalled => since.max(open.heard_at) + SILENCE_MAX,
                Some(since) => since + STALL_AFTER,
                None => open.heard_at + PING_AFTER,
            },
        })
    }

    fn begin(&mut self) {
        match &self.place {
            Place::Address(address) => {
                let address = Address::Tcp(*address);
                self.try_addresses(VecDeque::from([address]), Vec::new());
            }
            Place::Unix(path) => {
                let address = Address::Unix(path.clone());
                self.try_addresses(VecDeque::from([address]), Vec::new());
            }
            Place::Name { host, port } => {
                if let Err(error) = self.resolver.start(host, *port) {
                    return self.fail(format!("no thread to look up the name: {error}"));
                }
                self.state = State::Resolving {
                    deadline: self.now + RESOLVE_TIMEOUT,
                };
                // An earlier resolution, given up at its deadline, may have ended by now.
                self.poll_resolver();
            }
        }
    }

    fn poll_resolver(&mut self) {
        match self.resolver.poll() {
            Some(Ok(addresses)) => {
                let addresses = addresses.into_iter().map(Address::Tcp).collect();
                self.try_addresses(addresses, Vec::new());
            }
            Some(Err(error)) => self.fail(error.to_string()),
            None => {}
        }
    }

    /// Begins to connect to the first address that takes it; the rest wait for their turn.
    fn try_addresses(&mut self, mut rest: VecDeque<Address>, mut failures: Vec<String>) {
        while let Some(address) = rest.pop_front() {
            match Stream::connect(&address, self.tls.as_ref(), &self.registry, self.token) {
                Ok(stream) => {
                    self.state = State::Opening(Opening {
                        stream,
                        address,
                        connected: false,
                        deadline: self.now + CONNECT_TIMEOUT,
                        rest,
                        failures,
                    });
                    return;
                }
                Err(error) => failures.push(format!("{address}: {error}")),
            }
        }
        self.fail(failures.join("; "));
    }

    fn try_next_address(&mut self, reason: String) {
        let Some(mut opening) = self.take_opening() else {
            return self.fail(reason);
        };
        opening.stream.close(&self.registry);
        self.conversation.forget();
        let failure = format!("{}: {reason}", opening.address);
        opening.failures.push(failure);
        self.try_addresses(opening.rest, opening.failures);
    }

    /// Takes the link out of its state of being opened, to be put into the next one.
    fn take_opening(&mut self) -> Option<Opening> {
        let down = State::Down { retry_at: self.now };
        match mem::replace(&mut self.state, down) {
            State::Opening(opening) => Some(opening),
            other @ (State::Held
            | State::Down { .. }
            | State::Resolving { .. }
            | State::Open(_)) => {
                self.state = other;
                None
            }
        }
    }

    fn go_on_opening(&mut self) {
        let State::Opening(opening) = &mut self.state else {
            return;
        };
        if !opening.connected {
            match opening.stream.is_connected() {
                Ok(true) => {}
                Ok(false) => return,
                Err(error) => return self.try_next_address(error.to_string()),
            }
            opening.connected = true;
            opening.deadline = self.now + GREETING_TIMEOUT;
            self.conversation.greet();
        }
        let exchanged = exchange(
            &mut opening.stream,
            &mut self.conversation,
            &mut self.buffer,
            &mut self.events,
        );
        let ready = self.conversation.exchange().is_ready();
        match exchanged {
            Err(reason) if !ready => self.try_next_address(reason),
            Err(reason) => {
                // Greeted and lost in one breath: the engine has been told `Up`, so `Down` is due.
                self.open(false);
                self.fail(reason);
            }
            Ok(_) if !ready => {}
            Ok(exchanged) => self.open(exchanged.more_to_read),
        }
    }

    /// The greeting is over, and the engine has been told so.
    fn open(&mut self, more_to_read: bool) {
        if let Some(opening) = self.take_opening() {
            self.outage.handle_open(C::ABOUT);
            self.opened += 1;
            self.state = State::Open(Open {
                stream: opening.stream,
                address: opening.address,
                since: self.now,
                heard_at: self.now,
                stalled: false,
                more_to_read,
            });
        }
    }

    fn exchange_open(&mut self) {
        let State::Open(open) = &mut self.state else {
            return;
        };
        let exchanged = exchange(
            &mut open.stream,
            &mut self.conversation,
            &mut self.buffer,
            &mut self.events,
        );
        let exchanged = match exchanged {
            Ok(exchanged) => exchanged,
            Err(reason) => return self.fail(reason),
        };
        open.more_to_read = exchanged.more_to_read;
        self.conversation.exchange_mut().mark_asked(self.now);
        if exchanged.heard {
            open.heard_at = self.now;
            let waiting_since = self.conversation.exchange().waiting_since();
            let in_time = waiting_since.is_none_or(|since| since + STALL_AFTER > self.now);
            if open.stalled && in_time {
                open.stalled = false;
                self.events.push_back(C::told(Health::Resumed));
            }
        }
    }

    /// An open link's time: what is left to read, who has been silent for too long.
    fn watch(&mut self) {
        if matches!(&self.state, State::Open(open) if open.more_to_read) {
            self.exchange_open();
        }
        let State::Open(open) = &mut self.state else {
            return;
        };
        if open.more_to_read {
            return; // A peer with unread input is not idle.
        }
        let exchange = self.conversation.exchange_mut();
        let Some(since) = exchange.waiting_since() else {
            if exchange.awaited().is_empty() && open.heard_at + PING_AFTER <= self.now {
                exchange.ping();
                self.flush(self.now);
            }
            return;
        };
        if since.max(open.heard_at) + SILENCE_MAX <= self.now {
            self.fail(format!("no answer in {} s", SILENCE_MAX.as_secs()));
        } else if !open.stalled && since + STALL_AFTER <= self.now {
            open.stalled = true;
            self.events.push_back(C::told(Health::Stalled));
        }
    }

    /// The link is gone, or was never made: forgets what was asked, and tries again later.
    fn fail(&mut self, reason: String) {
        let down = State::Down { retry_at: self.now };
        match mem::replace(&mut self.state, down) {
            State::Open(open) => {
                // Only a link that has held shows that the way is free: one that Redis ends at the
                // first request would otherwise be made again at full speed.
                if open.since + HELD_AFTER <= self.now {
                    self.backoff.reset();
                }
                open.stream.close(&self.registry);
            }
            State::Opening(opening) => opening.stream.close(&self.registry),
            State::Held | State::Down { .. } | State::Resolving { .. } => {}
        }
        self.conversation.forget();
        self.state = State::Down {
            retry_at: self.now + self.backoff.next_delay(),
        };
        if let Some(reason) = self.outage.handle_failure(reason, C::ABOUT) {
            self.events.push_back(C::told(Health::Down(reason)));
        }
    }
}

/// Looking up a name.
const RESOLVE_TIMEOUT: Duration = Duration::from_secs(5);
/// From SYN to the connection, for each address.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// TLS handshake and greeting together.
const GREETING_TIMEOUT: Duration = Duration::from_secs(5);
/// Silence on a link without requests after which Redis is asked whether it lives.
const PING_AFTER: Duration = Duration::from_secs(1);
/// The age of a request at which Redis counts as stalled.
const STALL_AFTER: Duration = Duration::from_secs(1);
/// Silence after which a link with requests is given up. Long: a frozen Redis that comes back
/// answers everything, and a new link to it would do no better.
const SILENCE_MAX: Duration = Duration::from_secs(15);
/// How long a link must last for its loss to be a first failure again.
const HELD_AFTER: Duration = Duration::from_secs(5);
/// Bytes that one `read` takes.
const BUFFER_BYTES: usize = 16 << 10;

const _: () = assert!(STALL_AFTER.as_millis() < SILENCE_MAX.as_millis());

#[cfg(test)]
mod tests;
