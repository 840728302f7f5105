//! Where clients connect: an address, or a socket in the file system. Values only; nothing here
//! opens anything.

use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// Where clients connect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Listen {
    /// `127.0.0.1:8000`, `[::]:8000`.
    Tcp(SocketAddr),
    /// `unix:/run/sundown/ws.sock`: for a proxy on the same host.
    Unix(PathBuf),
}

impl Listen {
    /// The address, if it is one.
    pub fn tcp(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp(address) => Some(*address),
            Self::Unix(_) => None,
        }
    }

    /// The path of the socket, if it is in the file system.
    pub fn unix(&self) -> Option<&Path> {
        match self {
            Self::Tcp(_) => None,
            Self::Unix(path) => Some(path),
        }
    }
}

impl<T: Into<SocketAddr>> From<T> for Listen {
    fn from(address: T) -> Self {
        Self::Tcp(address.into())
    }
}

/// As `--listen` takes it.
impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

impl FromStr for Listen {
    type Err = InvalidListen;

    fn from_str(text: &str) -> Result<Self, InvalidListen> {
        let Some(path) = text.strip_prefix("unix:") else {
            return text.parse().map(Self::Tcp).map_err(|_| InvalidListen);
        };
        // A URL's two slashes are none of a path's. No terminal and no supervisor is to be told a
        // path that acts on it.
        let named = !path.is_empty() && !path.starts_with("//") && !path.contains(char::is_control);
        if named {
            Ok(Self::Unix(PathBuf::from(path)))
        } else {
            Err(InvalidListen)
        }
    }
}

/// The text is neither `IP:PORT` nor `unix:PATH`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InvalidListen;

impl fmt::Display for InvalidListen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("IP:PORT or unix:PATH")
    }
}

impl std::error::Error for InvalidListen {}
