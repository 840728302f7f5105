//! Sockets: mio, and the frames of RFC 6455. It reads, writes, frames and closes; it decides nothing above
//! that, and knows no session and no store.

mod authority;
mod body;
pub(crate) mod connection;
pub(crate) mod connections;
pub(crate) mod counters;
mod date;
mod deadlines;
pub(crate) mod event_source;
mod forwarded;
pub mod frame;
pub mod handshake;
pub mod http;
pub mod intake;
pub(crate) mod listener;
#[cfg(test)]
mod masked;
mod pool;
pub mod proxy_protocol;
pub(crate) mod read_queues;
pub mod reader;
mod silence;
mod socket;
mod unix;
