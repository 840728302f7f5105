//! The way to one Redis: a link without a single blocking call, and what is said on it, as bytes.
//! Sessions (`store::redis`) and what nodes tell each other (`bus`) each have a link of their own.
//!
//! `target` reads the URL, `link` makes the connection and makes it again, `stream` moves bytes,
//! `conversation` greets and knows which reply answers which request. It must never show a password, and never
//! wait.

pub(crate) mod certificates;
pub(crate) mod conversation;
pub(crate) mod framing;
pub(crate) mod link;
pub(crate) mod outbound;
pub(crate) mod reply;
pub(crate) mod request;
pub(crate) mod resolver;
mod stream;
pub(crate) mod target;
mod transfer;

pub(crate) use link::Peer;
