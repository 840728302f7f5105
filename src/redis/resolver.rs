//! Host names to addresses, off the loop thread: `getaddrinfo` blocks for as long as it likes.
//!
//! Owns the one helper thread that may be under way. Must never join it: the process ends without
//! it, and a name server that never answers costs one thread and no more.

use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, TryRecvError};
use std::{io, thread};

use mio::Waker;

/// What a resolution came to.
type Resolved = io::Result<Vec<SocketAddr>>;

pub(crate) struct Resolver {
    waker: Arc<Waker>,
    under_way: Option<Receiver<Resolved>>,
}

impl Resolver {
    pub(crate) fn new(waker: Arc<Waker>) -> Self {
        Self {
            waker,
            under_way: None,
        }
    }

    /// Begins, unless an earlier resolution is still under way: then its result will do.
    pub(crate) fn start(&mut self, host: &str, port: u16) -> io::Result<()> {
        if self.under_way.is_some() {
            return Ok(());
        }
        let (sender, receiver) = mpsc::channel();
        let (host, waker) = (host.to_owned(), Arc::clone(&self.waker));
        thread::Builder::new()
            .name("resolver".to_owned())
            .spawn(move || {
                // Whoever asked may be gone by now; then there is nobody to tell.
                let told = sender.send(resolve(&host, port)).is_ok();
                if told && let Err(error) = waker.wake() {
                    log::error!("the resolver cannot wake the loop: {error}");
                }
            })?;
        self.under_way = Some(receiver);
        Ok(())
    }

    /// The result, once it is there.
    pub(crate) fn poll(&mut self) -> Option<Resolved> {
        let result = match self.under_way.as_ref()?.try_recv() {
            Ok(result) => result,
            Err(TryRecvError::Empty) => return None,
            Err(TryRecvError::Disconnected) => Err(io::Error::other("the resolver has died")),
        };
        self.under_way = None;
        Some(result)
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "this runs on the helper thread, which is there to be blocked"
)]
fn resolve(host: &str, port: u16) -> Resolved {
    let addresses: Vec<_> = (host, port)
        .to_socket_addrs()?
        .take(ADDRESSES_MAX)
        .collect();
    if addresses.is_empty() {
        return Err(io::Error::other("the name has no address"));
    }
    Ok(addresses)
}

/// Addresses that are tried of one name: each may cost a connect timeout.
const ADDRESSES_MAX: usize = 8;
