//! A WebSocket server that says goodbye properly.
//!
//! On shutdown it tells every client, answers what has reached it, saves every session, closes
//! every connection with code 1001, and is done within ten seconds, whatever clients, network or
//! store do. Clients come back, here or to another instance, and go on at the very message where
//! they were.
//!
//! It runs on the thread that calls [`Server::run`]: one poll loop, no runtime, no locks. A service
//! is an [`Application`]; sessions are kept in memory, in SQLite or in Redis ([`StoreConfig`]). The
//! command `sundown` is a thin shell around this library.
//!
//! # A minimal server
//!
//! ```
//! use sundown::{Application, Config, Message, Server, Session, StoreConfig};
//!
//! /// Sends each text back, with its number in the session.
//! struct Numbered;
//!
//! impl Application for Numbered {
//!     fn on_message(&mut self, message: Message<'_>, session: &mut Session<'_>) {
//!         if let Message::Text(text) = message {
//!             session.reply_text(format!("{}: {text}", session.count()));
//!         }
//!     }
//! }
//!
//! fn main() -> Result<(), sundown::Error> {
//!     let config = Config {
//!         listen: ([127, 0, 0, 1], 0).into(), // any free port
//!         admin: None,
//!         store: StoreConfig::Memory,
//!         ..Config::default()
//!     };
//!     let server = Server::bind(config, Numbered)?;
//!     println!("listening on ws://{}/ws/chat/", server.local_addr());
//!     server.handle().shutdown(); // from any thread, at any time
//!     let outcome = server.run()?;
//!     println!("{}", outcome.report_json());
//!     assert_eq!(outcome.exit_code(), 0);
//!     Ok(())
//! }
//! ```
//!
//! `run` serves until someone asks for the shutdown: a [`Handle`], from another thread, or a
//! signal, if [`Server::with_signals`] was given the handlers of [`signals::Signals`].
//! [`Server::turn`] is one turn, for a program with a loop of its own.
//!
//! # One turn
//!
#![doc = include_str!("turn.md")]
//!
//! # Modules
//!
//! - [`server`]: bind, ask where, run; and the handle for other threads.
//! - [`config`]: every setting, with its unit, its default, and what breaks if it is wrong.
//! - `engine`: decides. Clients, sessions, and the shutdown machine (`engine::shutdown`); its
//!   vocabulary is `engine::io`.
//! - `core`: the engine, and the order of the turn; `event_loop`: what it has around it.
//! - `net`: sockets, frames, HTTP. It decides nothing above that.
//! - [`store`]: where sessions are kept. One interface, three stores, and room for others.
//! - `memory`: an account of the bytes that peers make the process hold.
//! - [`signals`], [`clock`], [`error`], `metrics`, `report`, `broadcast`, `web`: the rest of the
//!   outside world.
//!
//! # Invariants
//!
//! - The engine does no I/O and reads no clock; `net` and `store` do not know each other.
//! - Nothing blocks the loop's thread but the wait for events, once [`Server::bind`] has returned.
//!   An application must not either.
//! - No reply leaves before what it acknowledges is saved ([`Durability::Acked`]).
//! - A phase of the shutdown never goes back, and never outlasts its deadline.
//! - No socket is closed before it has been read to its end or its time is up, so that no reset
//!   destroys a goodbye.
//! - Everything that a peer can make grow has a limit ([`Limits`]).
//! - There is no global state: no signal handler of the library's own, no `process::exit`, and any
//!   number of servers in one process.

// They block on a pipe that nobody reads, and panic when its reader has gone: use `log`, or
// `Stdout` of src/cli/output.rs.
#![warn(clippy::print_stderr, clippy::print_stdout)]

mod backoff;
mod broadcast;
mod bus;
pub mod clock;
pub mod config;
// Not for embedders: what the event loop and the simulation share.
#[doc(hidden)]
pub mod core;
// Not for embedders: what they need of it is below, and in `store`.
#[doc(hidden)]
pub mod engine;
pub mod error;
mod event_loop;
mod memory;
mod metrics;
// The same: a fuzz target and a bench need it.
#[doc(hidden)]
pub mod net;
mod outage;
#[cfg(feature = "redis")]
mod redis;
mod report;
pub mod server;
pub mod signals;
mod slots;
pub mod store;
#[cfg(feature = "web")]
mod web;

pub use broadcast::BroadcastError;
pub use config::{
    Config, Durability, InvalidListen, InvalidStore, Limits, Listen, ShutdownBudget, StoreConfig,
};
pub use engine::app::{
    Admission, Application, Chat, Closed, Deferred, Echo, Hub, InvalidCloseCode, PushTooBig,
    Session, Upgrade,
};
pub use engine::io::{Body, ConnId, InvalidSessionId, Mailbox, PushRefused, SessionId};
pub use engine::message::Message;
pub use engine::receipt::{PushError, Receipt};
pub use engine::shutdown::{Outcome, Timeline, Trigger};
pub use engine::step::{State, StateTooBig};
pub use error::Error;
/// Its types are in [`StoreParts`].
pub use mio;
pub use server::{Handle, Server};
pub use store::threaded::{BlockingStore, Committed, StoreError, Threaded};
pub use store::{SessionStore, StoreParts};
