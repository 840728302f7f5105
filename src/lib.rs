//! A WebSocket server that says goodbye properly.

pub mod clock;
pub mod config;
pub mod engine;
pub mod error;
mod event_loop;
mod metrics;
pub mod net;
mod report;
pub mod server;
pub mod signals;
mod slots;
pub mod store;

pub use config::{Config, Durability, Limits, ShutdownBudget, StoreConfig};
pub use engine::app::{Application, Chat, Context, Echo};
pub use engine::message::Message;
pub use engine::shutdown::Outcome;
pub use error::Error;
pub use server::{Handle, Server};
