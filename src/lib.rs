//! A WebSocket server that says goodbye properly.

pub mod clock;
pub mod config;
pub mod engine;
pub mod error;
mod net;
mod slots;
pub mod store;

pub use config::{Config, Durability, Limits, ShutdownBudget, StoreConfig};
pub use engine::app::{Application, Chat, Context, Echo};
pub use engine::message::Message;
pub use error::Error;
