//! Sockets: mio and tungstenite. It reads, writes, frames and closes; it decides nothing above
//! that, and knows no session and no store.

pub(crate) mod connection;
pub(crate) mod connections;
pub mod handshake;
pub mod http;
pub(crate) mod listener;
pub(crate) mod token;
pub mod websocket;
