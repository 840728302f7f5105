//! How the loop begins: it binds the listeners, and opens the store and the bus. And what `Server`
//! asks of it before the first turn.

use std::sync::Arc;

use mio::{Events, Poll, Waker};

use super::requests::Asked;
use super::{Broadcasting, EventLoop, Names, ReadBuffer, Requests, StoreLog, Told};
use crate::bus;
use crate::config::{Config, Listen};
use crate::engine::io::Now;
use crate::error::Error;
use crate::metrics::Metrics;
use crate::net::connections::{Connections, Proxies};
use crate::net::event_source::Source;
use crate::net::handshake::Pages;
use crate::net::listener::Listener;
use crate::signals::Signals;
use crate::store::{OpenedStore, StoreParts};

/// Events taken from the kernel in one go.
const EVENTS_MAX: usize = 1_024;

impl EventLoop {
    /// A loop before its first turn. `open` makes the store, and `seed` random numbers.
    pub(crate) fn bind(
        config: Config,
        open: impl FnOnce(&StoreParts<'_>) -> Result<OpenedStore, Error>,
        page: Box<Pages>,
        mut seed: impl FnMut() -> u64,
        now: Now,
    ) -> Result<Self, Error> {
        let poll = Poll::new().map_err(Error::io("cannot create the event queue"))?;
        let registry = poll.registry();
        let waker = Waker::new(registry, Source::Waker.token())
            .map(Arc::new)
            .map_err(Error::io("cannot create the waker"))?;
        let bind = |addr: &Listen, flag: &str, source: Source| {
            Listener::bind(addr, flag, registry, source.token())
        };
        let listener = bind(&config.listen, "--listen", Source::Listener)?;
        let admin = config.admin.map(Listen::from);
        let admin = admin.map(|addr| bind(&addr, "--admin", Source::Admin));
        let admin = admin.transpose()?;
        let mut parts = |source: Source| StoreParts {
            config: &config,
            registry,
            token: source.token(),
            waker: &waker,
            seed: seed(),
            now,
        };
        let store = open(&parts(Source::Store))?;
        let bus = bus::open(&parts(Source::Bus))?;
        let proxies = Proxies::new(config.proxy_protocol, config.trusted_proxies()?);
        let (requests, Asked { said, pushes }) = Requests::new(waker, config.limits.broadcasts_max);
        Ok(Self {
            events: Events::with_capacity(EVENTS_MAX),
            told: Told::default(),
            dispatched_at: now.instant,
            stored_at: now.instant,
            connections: Connections::new(config.limits, proxies),
            listener,
            admin,
            signals: None,
            requests,
            broadcasting: Broadcasting::new(said, bus),
            pushes,
            store,
            spill_rows_waiting: Some(0),
            metrics: Metrics::default(),
            store_log: StoreLog::default(),
            limits: config.limits,
            allowed_origins: config.allowed_origins()?,
            admin_hosts: config.admin_hosts()?,
            page,
            paths: config.paths,
            subprotocols: config.subprotocols,
            names: Names::default(),
            read_buffer: ReadBuffer::new(config.limits.read_bytes_max),
            scratch: Vec::new(),
            poll,
        })
    }

    /// Shuts down on these signals, too.
    pub(crate) fn watch(&mut self, mut signals: Signals) -> Result<(), Error> {
        signals.watch(self.requests.waker())?;
        self.signals = Some(signals);
        Ok(())
    }

    pub(crate) fn local_addr(&self) -> &Listen {
        self.listener.local_addr()
    }

    pub(crate) fn admin_addr(&self) -> Option<&Listen> {
        self.admin.as_ref().map(Listener::local_addr)
    }

    pub(crate) fn store_description(&self) -> String {
        self.store.describe()
    }

    pub(crate) fn requests(&self) -> Arc<Requests> {
        Arc::clone(&self.requests)
    }
}
