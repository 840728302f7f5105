//! The pure engine: it decides, the shell performs.

pub mod io;
pub mod message;
pub mod shutdown;
