//! The bus of a build with Redis: a link that follows the one of the sessions.

use std::sync::Arc;
use std::time::Instant;

use super::BusEvent;
use super::subscription::Subscription;
use crate::backoff::Backoff;
use crate::config::StoreConfig;
use crate::error::Error;
use crate::redis::Peer;
use crate::redis::certificates::Tls;
use crate::redis::link::{Link, Parts};
use crate::redis::resolver::Resolver;
use crate::redis::target::Target;
use crate::store::StoreParts;

/// Opens the way to other nodes, if the store is one that they share. It connects later, when
/// [`follow`](Bus::follow) has said where to.
pub(crate) fn open(parts: &StoreParts<'_>) -> Result<Option<Bus>, Error> {
    let StoreConfig::Redis(url) = &parts.config.store else {
        return Ok(None);
    };
    let target = Target::parse(url).map_err(Error::Config)?;
    let tls = Tls::for_target(&target).map_err(Error::Store)?;
    let (registry, now) = (parts.registry.try_clone(), parts.now.instant);
    let channel = parts.config.broadcast_channel.clone();
    let mut link = Link::new(Parts {
        place: target.place,
        conversation: Subscription::new(target.login, channel, parts.seed),
        tls,
        registry: registry.map_err(Error::io("cannot share the queue"))?,
        token: parts.token,
        resolver: Resolver::new(Arc::clone(parts.waker)),
        backoff: Backoff::new(parts.seed),
        now,
    });
    link.lead(None, now);
    Ok(Some(Bus {
        link,
        followed: None,
        told_up: false,
    }))
}

/// The link, in whichever state it is.
pub(crate) struct Bus {
    link: Link<Subscription>,
    followed: Option<Peer>,
    /// The loop has been told that it is up, and not since that it is down.
    told_up: bool,
}

impl Bus {
    /// Once a turn: where the store's link leads.
    pub(crate) fn follow(&mut self, peer: Option<Peer>, now: Instant) {
        if self.followed != peer {
            let address = peer.as_ref().map(|peer| peer.address.clone());
            self.followed = peer;
            self.link.lead(address, now);
        }
    }

    /// Passes a message on to all other nodes that are in reach, once Redis has said that it is no
    /// replica; [`BusEvent::Published`] tells what came of it, in this order. `false`: no node is in
    /// reach, or too much waits already.
    #[must_use = "who is not in reach never hears of it"]
    pub(crate) fn publish(&mut self, message: Arc<str>, now: Instant) -> bool {
        self.is_up() && self.link.conversation_mut().publish(message, now)
    }

    /// Whether other nodes are in reach: the link is there, and Redis answers in good time.
    pub(crate) fn is_up(&self) -> bool {
        self.link.answers()
    }

    /// Step 3 of the turn: the descriptor may be ready, or the host's name has been looked up.
    pub(crate) fn handle_ready(&mut self, now: Instant) {
        self.link.handle_ready(now);
    }

    /// Step 4 of the turn: the time that `poll_timeout` gave has come.
    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        self.link.conversation_mut().expire(now);
        if self.link.poll_timeout().is_some_and(|at| at <= now) {
            self.link.handle_timeout(now);
        }
    }

    /// Step 6 of the turn: sends what was said in it.
    pub(crate) fn flush(&mut self, now: Instant) {
        self.link.flush(now);
    }

    /// What has been heard. A new link in place of one that the store has left is no news.
    pub(crate) fn poll_event(&mut self) -> Option<BusEvent> {
        loop {
            let settled = self.link.conversation_mut().poll_settled();
            let event = settled.or_else(|| self.link.poll_event())?;
            match event {
                BusEvent::Up if std::mem::replace(&mut self.told_up, true) => {}
                BusEvent::Down(_) => {
                    self.told_up = false;
                    return Some(event);
                }
                BusEvent::Up
                | BusEvent::Stalled
                | BusEvent::Resumed
                | BusEvent::Published(_)
                | BusEvent::Heard(_) => return Some(event),
            }
        }
    }

    /// When `handle_timeout` wants to be called next.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        let expires = self.link.conversation().expires_at();
        [expires, self.link.poll_timeout()]
            .into_iter()
            .flatten()
            .min()
    }
}
