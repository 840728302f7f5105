//! SIGTERM and SIGINT, as a set that the loop reads: signals that arrive together coalesce.
//!
//! It owns the process's handlers for the two, and belongs to the binary (or to an embedder that
//! wants the same): the library never installs a handler on its own account. Register before
//! anything else: configuration, bind and store take time, and a SIGTERM in that time must count.

use mio::Registry;
use signal_hook::consts::{SIGINT, SIGTERM};

use crate::engine::shutdown::Trigger;
use crate::error::Error;
use crate::net::token::Source;

/// The signal handlers, and the pipe that they write to.
pub struct Signals {
    inner: signal_hook_mio::v1_0::Signals,
}

impl Signals {
    /// Installs the handlers. From here on neither signal ends the process by itself.
    pub fn register() -> Result<Self, Error> {
        let inner = signal_hook_mio::v1_0::Signals::new([SIGTERM, SIGINT])
            .map_err(Error::io("cannot install the signal handlers"))?;
        Ok(Self { inner })
    }

    /// Has the loop woken by a signal.
    pub(crate) fn watch(&mut self, registry: &Registry) -> Result<(), Error> {
        let token = Source::Signals.token();
        registry
            .register(&mut self.inner, token, mio::Interest::READABLE)
            .map_err(Error::io("cannot watch for signals"))
    }

    /// The signals that have arrived since the last call, each at most once. Never blocks.
    pub(crate) fn pending(&mut self) -> impl Iterator<Item = Trigger> + use<> {
        let mut arrived: Vec<Trigger> = self
            .inner
            .pending()
            .filter_map(|signal| match signal {
                SIGTERM => Some(Trigger::Sigterm),
                SIGINT => Some(Trigger::Sigint),
                _ => None,
            })
            .collect();
        // Their order in the set says nothing about when they came.
        arrived.sort_by_key(|trigger| *trigger != Trigger::Sigterm);
        arrived.into_iter()
    }
}
