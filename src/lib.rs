//! A WebSocket server that says goodbye properly.

pub mod clock;
pub mod config;
pub mod engine;
pub mod error;
pub mod store;
