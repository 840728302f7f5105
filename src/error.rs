//! What stops the server. What ends one connection is data ([`CloseReason`]), never an error here.
//!
//! [`CloseReason`]: crate::engine::io::CloseReason

use std::{fmt, io};

/// Why a server could not start, or could not go on.
#[derive(Debug)]
#[non_exhaustive]
pub enum Error {
    /// A setting makes no sense; the text says which and why.
    Config(String),
    /// A listener could not be bound.
    Bind {
        /// The address, and what it was for.
        what: String,
        /// What the kernel said.
        source: io::Error,
    },
    /// The store could not be opened.
    Store(String),
    /// The kernel refused something that the loop cannot do without.
    Io {
        /// What was tried.
        what: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
}

impl Error {
    /// For `map_err`: an I/O error with what was tried.
    pub(crate) fn io(what: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { what, source }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Config(text) | Self::Store(text) => f.write_str(text),
            Self::Bind { what, source } => write!(f, "cannot listen on {what}: {source}"),
            Self::Io { what, source } => write!(f, "{what}: {source}"),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Config(_) | Self::Store(_) => None,
            Self::Bind { source, .. } | Self::Io { source, .. } => Some(source),
        }
    }
}
