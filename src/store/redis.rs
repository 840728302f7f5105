//! Sessions in Redis: a hash for each, two scripts that keep the store's promises in Redis itself,
//! and one link without a single blocking call.
//!
//! Owns the conversation on that link: `pipeline` turns requests into bytes and bytes into answers.
//! The link is `redis::link`. It must never show a password, and never wait.

mod answers;
#[cfg(fuzzing)]
pub mod fuzzing;
pub(crate) mod pipeline;
mod scripts;

use std::sync::Arc;
use std::time::Instant;

use super::{SessionStore, SharedStore, StoreParts};
use crate::backoff::Backoff;
use crate::engine::io::{Now, StoreCommand, StoreEvent};
use crate::error::Error;
use crate::redis::Peer;
use crate::redis::certificates::Tls;
use crate::redis::link::{Link, Parts};
use crate::redis::resolver::Resolver;
use crate::redis::target::{Security, Target};
use pipeline::Pipeline;

/// Sessions in one Redis (not a cluster), version 5 or newer; news of sessions that another node
/// takes over need version 6.
///
/// It begins disconnected: [`StoreEvent::Up`] says when it can be asked. What is asked while it is
/// down is dropped, since the engine asks again after each `Up`. It is told of its own claims too:
/// a [`StoreEvent::TakenOver`] may carry the epoch of a claim that this very node has made.
pub struct RedisStore {
    described: String,
    link: Link<Pipeline>,
}

impl RedisStore {
    /// Reads the URL, and for `rediss://` the system's certificates; connects later, beginning at
    /// the first `handle_timeout`.
    ///
    /// The waker wakes the loop when a host name has been looked up.
    pub fn open(url: &str, parts: &StoreParts<'_>) -> Result<Self, Error> {
        let target = Target::parse(url).map_err(Error::Config)?;
        let tls = Tls::for_target(&target).map_err(Error::Store)?;
        let registry = parts.registry.try_clone();
        Ok(Self {
            described: target.to_string(),
            link: Link::new(Parts {
                place: target.place,
                conversation: Pipeline::new(target.login, parts.config.session_ttl, parts.seed),
                tls,
                registry: registry.map_err(Error::io("cannot share the queue"))?,
                token: parts.token,
                resolver: Resolver::new(Arc::clone(parts.waker)),
                backoff: Backoff::new(parts.seed),
                now: parts.now.instant,
            }),
        })
    }

    /// Whether the URL can be used, for a command line that wants to say so early: one line, which
    /// never contains the URL or its password. Opens nothing.
    pub(crate) fn check_url(url: &str) -> Result<(), String> {
        let target = Target::parse(url)?;
        match target.security {
            Security::Plain => Ok(()),
            Security::Tls | Security::TlsUnverified => {
                crate::redis::certificates::server_name(&target).map(drop)
            }
        }
    }
}

impl SessionStore for RedisStore {
    fn describe(&self) -> String {
        self.described.clone()
    }

    /// Redis is as durable as it has been configured to be: `Synced` only follows the answers to
    /// what was asked before.
    fn ask(&mut self, command: StoreCommand) {
        if let Some((pipeline, events)) = self.link.ready() {
            pipeline.ask(command, events);
        }
    }

    fn handle_ready(&mut self, now: Now) {
        self.link.handle_ready(now.instant);
    }

    fn handle_timeout(&mut self, now: Now) {
        self.link.handle_timeout(now.instant);
    }

    fn flush(&mut self, now: Now) {
        self.link.flush(now.instant);
    }

    fn poll_event(&mut self) -> Option<StoreEvent> {
        self.link.poll_event()
    }

    fn poll_timeout(&self) -> Option<Instant> {
        self.link.poll_timeout()
    }
}

impl SharedStore for RedisStore {
    fn peer(&self) -> Option<Peer> {
        self.link.peer()
    }
}
