//! The embedding API: bind, ask where, run; and a handle to shut it down from another thread.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rand::rngs::{StdRng, SysRng};
use rand::{RngExt as _, SeedableRng as _};

use crate::broadcast::BroadcastError;
use crate::clock;
use crate::config::{Config, Listen, StoreConfig};
use crate::core::Core;
use crate::engine::Engine;
use crate::engine::app::Application;
use crate::engine::io::{Body, SessionId};
use crate::engine::receipt::Receipt;
use crate::engine::shutdown::Outcome;
use crate::error::Error;
use crate::event_loop::{EventLoop, Requests};
use crate::net::handshake::Pages;
use crate::signals::Signals;
use crate::store::{self, OpenedStore, SessionStore, StoreParts};
#[cfg(feature = "web")]
use crate::web;

/// A server: bound, and served by whichever thread calls [`run`](Self::run) or
/// [`turn`](Self::turn).
pub struct Server {
    core: Core,
    event_loop: EventLoop,
}

/// Asks a server for something from another thread. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Handle {
    requests: Arc<Requests>,
}

impl Server {
    /// Binds the listeners and opens the store. An SQLite file is opened here, which may take its
    /// time; Redis is connected to by the loop.
    pub fn bind(config: Config, app: impl Application + 'static) -> Result<Self, Error> {
        Self::bind_any(config, Box::new(app), store::open)
    }

    /// The same with a store of the program's own, which `open` makes: [`store`] says what it must
    /// promise, and has an example. `Config::store` and `Config::spill` are not used then, and
    /// broadcasts reach this node alone.
    pub fn bind_with(
        config: Config,
        app: impl Application + 'static,
        open: impl FnOnce(&StoreParts<'_>) -> Result<Box<dyn SessionStore>, Error>,
    ) -> Result<Self, Error> {
        let store = StoreConfig::Memory;
        Self::bind_any(Config { store, ..config }, Box::new(app), |parts| {
            open(parts).map(OpenedStore::Alone)
        })
    }

    fn bind_any(
        config: Config,
        app: Box<dyn Application>,
        open: impl FnOnce(&StoreParts<'_>) -> Result<OpenedStore, Error>,
    ) -> Result<Self, Error> {
        config.validate()?;
        let now = clock::now();
        let mut rng = StdRng::try_from_rng(&mut SysRng).map_err(|error| Error::Io {
            what: "no random seed",
            source: error.into(),
        })?;
        let mut core = Core::new(Engine::new(&config, app, rng.random(), now), now);
        let page = pages(&config);
        let event_loop = EventLoop::bind(config, open, page, || rng.random(), now)?;
        let requests = event_loop.requests();
        core.wake_by(move || requests.wake());
        Ok(Self { core, event_loop })
    }

    /// Shuts down on these signals, too.
    pub fn with_signals(mut self, signals: Signals) -> Result<Self, Error> {
        self.event_loop.watch(signals)?;
        Ok(self)
    }

    /// Where WebSocket clients connect: the port that was taken, if 0 was asked for.
    pub fn local_addr(&self) -> Listen {
        self.event_loop.local_addr().clone()
    }

    /// Where operators connect.
    pub fn admin_addr(&self) -> Option<SocketAddr> {
        self.event_loop.admin_addr()?.tcp()
    }

    /// Whether `GET /readyz` is answered 200: the store answers, there is room for a client, and no
    /// shutdown has begun.
    pub fn is_ready(&self) -> bool {
        self.event_loop.is_ready(&self.core)
    }

    /// Whether a shutdown has been asked for, by a signal or by [`Handle::shutdown`], and the loop
    /// has seen it.
    pub fn is_shutting_down(&self) -> bool {
        self.core.engine().is_shutting_down()
    }

    /// Where sessions are kept, for people, without secrets.
    pub fn store_description(&self) -> String {
        self.event_loop.store_description()
    }

    /// For other threads.
    pub fn handle(&self) -> Handle {
        Handle {
            requests: self.event_loop.requests(),
        }
    }

    /// One turn of the loop, for embedders with a loop of their own: waits at most `timeout`
    /// (`None`: until there is something to do). `false` once the shutdown is over. What a turn does,
    /// and in which order, is in the documentation of the [crate](crate#one-turn).
    pub fn turn(&mut self, timeout: Option<Duration>) -> Result<bool, Error> {
        self.event_loop.turn(&mut self.core, timeout)
    }

    /// Serves until a shutdown is over, and tells how it went. Every socket is closed by then.
    pub fn run(mut self) -> Result<Outcome, Error> {
        while self.turn(None)? {}
        Ok(self.outcome())
    }

    /// How it went, once `turn` has answered `false`.
    pub fn outcome(&self) -> Outcome {
        self.event_loop.outcome(&self.core)
    }
}

/// What answers `GET` for a page: nothing, unless pages are served.
fn pages(config: &Config) -> Box<Pages> {
    match config.paths.first() {
        #[cfg(feature = "web")]
        Some(service) if config.web => Box::new(web::answering(service)),
        Some(_) | None => Box::new(|_| None),
    }
}

impl Handle {
    /// Begins the shutdown; a second call skips the drain, a third ends it at once.
    pub fn shutdown(&self) {
        self.requests.shut_down();
    }

    /// Pushes a message to a session, on whichever node it is open, if it is. Returns at once;
    /// [`Receipt`] tells the push's number, once it is committed and so sure to arrive.
    /// [`Session::push`](crate::Session::push) says how.
    pub fn push(&self, to: &SessionId, body: impl Into<Body>) -> Receipt {
        self.requests.push(to.clone(), body.into())
    }

    /// Says something to every client of every node: each gets the text message
    /// `{"broadcast":<json>}`. Returns at once.
    ///
    /// `Ok` is a promise: every client of this node that is connected, and is still there when its
    /// turn comes, is told, also in a shutdown that begins meanwhile. A client that has
    /// no room for it (`--max-outbound-bytes`) is closed, as by any other message. With an error no
    /// client gets it, except for [`BroadcastError::OnlyHere`]: other nodes are out of reach, and
    /// the clients of this one get it.
    ///
    /// Across nodes it goes through Redis, if that keeps the sessions: once to each node that is in
    /// reach at this moment, and to the others never. It waits for 3 seconds for a link that is
    /// lost in this moment; `sundown_broadcasts_unpublished_total` counts what went nowhere.
    pub fn broadcast(&self, json: &str) -> Result<(), BroadcastError> {
        self.requests.broadcast(json)
    }
}
