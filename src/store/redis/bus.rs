//! The way from one node to all others: a link of its own to Redis, on which what is for everybody
//! is said and heard. At most once: who is not in reach at that moment never hears of it.

use std::sync::Arc;
use std::time::Instant;

use mio::{Registry, Token, Waker};

use super::backoff::Backoff;
use super::link::{Link, Parts};
use super::resolver::Resolver;
use super::subscription::{BusEvent, Subscription};
use super::target::Target;
use super::tls::Tls;
use crate::error::Error;

/// The link, in whichever state it is.
pub struct Bus {
    link: Link<Subscription>,
}

impl Bus {
    /// Reads the URL; connects later, beginning at the first `handle_timeout`. The rest is as in
    /// [`RedisStore::open`](super::RedisStore::open).
    pub fn open(
        url: &str,
        channel: String,
        registry: Registry,
        token: Token,
        waker: Arc<Waker>,
        seed: u64,
        now: Instant,
    ) -> Result<Self, Error> {
        let target = Target::parse(url).map_err(Error::Config)?;
        let tls = Tls::for_target(&target).map_err(Error::Store)?;
        Ok(Self {
            link: Link::new(Parts {
                place: target.place,
                conversation: Subscription::new(target.login, channel, seed),
                tls,
                registry,
                token,
                resolver: Resolver::new(waker),
                backoff: Backoff::new(seed),
                now,
            }),
        })
    }

    /// Says something to all other nodes that are in reach. `false`: none is, or Redis is slow.
    #[must_use = "who is not in reach never hears of it"]
    pub fn publish(&mut self, json: &str) -> bool {
        let ready = self.link.ready();
        ready.is_some_and(|(subscription, _)| subscription.publish(json))
    }

    /// Whether other nodes are in reach: the link is there, and Redis answers in good time.
    pub fn is_up(&self) -> bool {
        self.link.answers()
    }

    /// Step 3 of the turn: the descriptor may be ready, or the host's name has been looked up.
    pub fn handle_ready(&mut self, now: Instant) {
        self.link.handle_ready(now);
    }

    /// Step 4 of the turn: the time that `poll_timeout` gave has come.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.link.handle_timeout(now);
    }

    /// Step 6 of the turn: sends what was said in it.
    pub fn flush(&mut self, now: Instant) {
        self.link.flush(now);
    }

    /// What has been heard.
    pub fn poll_event(&mut self) -> Option<BusEvent> {
        self.link.poll_event()
    }

    /// When `handle_timeout` wants to be called next.
    pub fn poll_timeout(&self) -> Instant {
        self.link.poll_timeout()
    }
}
