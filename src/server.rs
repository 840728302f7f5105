//! The embedding API: bind, ask where, run; and a handle to shut it down from another thread.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{self, Receiver};
use std::time::Duration;

use mio::{Events, Poll, Waker};
use rand::rngs::{StdRng, SysRng};
use rand::{RngExt as _, SeedableRng as _};

use crate::broadcast::{self, BroadcastError};
use crate::bus;
use crate::clock;
use crate::config::{Config, Listen, StoreConfig};
use crate::core::Core;
use crate::engine::Engine;
use crate::engine::app::Application;
use crate::engine::shutdown::Outcome;
use crate::error::Error;
use crate::event_loop::{Announced, EventLoop, Names, Promises, Requests, StoreLog, Told};
use crate::metrics::Metrics;
use crate::net::connections::Connections;
use crate::net::event_source::Source;
use crate::net::handshake::Pages;
use crate::net::listener::Listener;
use crate::signals::Signals;
use crate::store::{self, SessionStore, StoreParts};
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

/// Events taken from the kernel in one go.
const EVENTS_MAX: usize = 1_024;

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
        Self::bind_any(Config { store, ..config }, Box::new(app), open)
    }

    fn bind_any(
        config: Config,
        app: Box<dyn Application>,
        open: impl FnOnce(&StoreParts<'_>) -> Result<Box<dyn SessionStore>, Error>,
    ) -> Result<Self, Error> {
        config.validate()?;
        let now = clock::now();
        let mut rng = StdRng::try_from_rng(&mut SysRng).map_err(|error| Error::Io {
            what: "no random seed",
            source: error.into(),
        })?;
        let poll = Poll::new().map_err(Error::io("cannot create the event queue"))?;
        let registry = poll.registry();
        let waker = Waker::new(registry, Source::Waker.token())
            .map(Arc::new)
            .map_err(Error::io("cannot create the waker"))?;
        let bind = |addr: &Listen, flag: &str, source: Source| {
            Listener::bind(addr, flag, registry, source.token())
        };
        let listener = bind(&config.listen, "--listen", Source::Listener)?;
        let bind_admin = |addr: SocketAddr| bind(&addr.into(), "--admin", Source::Admin);
        let admin = config.admin.map(bind_admin).transpose()?;
        let mut parts = |source: Source| StoreParts {
            config: &config,
            registry,
            token: source.token(),
            waker: &waker,
            seed: rng.random(),
            now,
        };
        let store = open(&parts(Source::Store))?;
        let bus = bus::open(&parts(Source::Bus))?;
        let (requests, broadcasts) = requests(Arc::clone(&waker), config.limits.broadcasts_max);
        let engine = Engine::new(&config, app, rng.random(), now);
        let core = Core::new(engine, now);
        let event_loop = EventLoop {
            events: Events::with_capacity(EVENTS_MAX),
            told: Told::default(),
            dispatched_at: now.instant,
            stored_at: now.instant,
            connections: Connections::new(config.limits),
            listener,
            admin,
            signals: None,
            requests,
            broadcasts,
            store,
            spill_rows_waiting: Some(0),
            bus,
            announced: Announced::default(),
            metrics: Metrics::default(),
            store_log: StoreLog::default(),
            limits: config.limits,
            allowed_origins: config.allowed_origins()?,
            admin_hosts: config.admin_hosts()?,
            page: pages(&config),
            paths: config.paths,
            names: Names::default(),
            buffer: vec![0; config.limits.read_bytes_max],
            scratch: String::new(),
            poll,
        };
        Ok(Self { core, event_loop })
    }

    /// Shuts down on these signals, too.
    pub fn with_signals(mut self, mut signals: Signals) -> Result<Self, Error> {
        signals.watch(&self.event_loop.requests.waker)?;
        self.event_loop.signals = Some(signals);
        Ok(self)
    }

    /// Where WebSocket clients connect: the port that was taken, if 0 was asked for.
    pub fn local_addr(&self) -> Listen {
        self.event_loop.listener.local_addr().clone()
    }

    /// Where operators connect.
    pub fn admin_addr(&self) -> Option<SocketAddr> {
        self.event_loop.admin.as_ref()?.local_addr().tcp()
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
        self.event_loop.store.describe()
    }

    /// For other threads.
    pub fn handle(&self) -> Handle {
        Handle {
            requests: Arc::clone(&self.event_loop.requests),
        }
    }

    /// One turn of the loop, for embedders with a loop of their own: waits at most `timeout`
    /// (`None`: until there is something to do). `false` once the shutdown is over.
    ///
    #[doc = include_str!("turn.md")]
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

/// What other threads ask, and where the loop hears what they say to everybody: at most so many.
fn requests(waker: Arc<Waker>, broadcasts_max: usize) -> (Arc<Requests>, Receiver<Arc<str>>) {
    let (broadcasts, said) = mpsc::sync_channel(broadcasts_max);
    let requests = Requests {
        waker,
        shutdowns: AtomicU32::new(0),
        broadcasts,
        promises: Promises::new(broadcasts_max),
    };
    (Arc::new(requests), said)
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
        self.requests.shutdowns.fetch_add(1, Ordering::Release);
        self.wake();
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
        let text = broadcast::message(json.as_bytes())?;
        let reaches_others = self.requests.promises.make()?;
        // There is room for all that are promised. Without a loop, it is over.
        let sent = self.requests.broadcasts.try_send(text);
        sent.map_err(|_| BroadcastError::ShuttingDown)?;
        self.wake();
        if reaches_others {
            Ok(())
        } else {
            Err(BroadcastError::OnlyHere)
        }
    }

    fn wake(&self) {
        if let Err(error) = self.requests.waker.wake() {
            log::error!("cannot wake the loop: {error}");
        }
    }
}
