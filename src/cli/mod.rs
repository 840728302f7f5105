//! The command line's parts: settings, arguments, help, output, and what the binary does besides
//! serving. Everything here belongs to the binary; the library must never need any of it.

pub(crate) mod args;
pub(crate) mod broadcast;
pub(crate) mod descriptors;
pub(crate) mod healthcheck;
pub(crate) mod help;
mod journal;
pub(crate) mod logger;
pub(crate) mod notify;
pub(crate) mod output;
pub(crate) mod reaper;
pub(crate) mod settings;
pub(crate) mod shutdown_report;
pub(crate) mod smoke;
pub(crate) mod stream;
pub(crate) mod unsaved;
