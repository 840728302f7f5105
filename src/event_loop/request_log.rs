//! `--log debug`: a line for each request. A connection is called by its number on this server;
//! its beginning and its end are logged by `net`, which sees them.
//!
//! It must never log a session's id, which is a secret, nor a query, which has it; nor what looks
//! like a query that went astray into the path.

use std::fmt;
use std::hash::{BuildHasher as _, RandomState};

use super::EventLoop;
use crate::engine::io::{ConnId, Panicked, Protocol, SessionId};
use crate::net::http::Head;

/// What a session is called in the log: a hash with a key that every start makes anew. It tells two
/// sessions apart within one log, and nobody who knows it finds the id.
#[derive(Debug, Default)]
pub(super) struct Names(RandomState);

/// As much of a path that is none of the service's as is logged.
const PATH_BYTES_MAX: usize = 128;

struct Name(u64);

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "#{:08x}", self.0 as u32)
    }
}

impl Names {
    fn of(&self, session: &SessionId) -> Name {
        Name(self.0.hash_one(session.as_str()))
    }
}

impl EventLoop {
    /// A client is let in.
    pub(super) fn note_upgrade(
        &self,
        conn: ConnId,
        head: &Head,
        protocol: Protocol,
        session: Option<&SessionId>,
    ) {
        if !log::log_enabled!(log::Level::Debug) {
            return;
        }
        let protocol = match protocol {
            Protocol::Plain => "no subprotocol",
            Protocol::V1 => "sundown.v1",
            Protocol::V2 => "sundown.v2",
        };
        let session = session.map(|session| self.names.of(session).to_string());
        let session = session.as_deref().unwrap_or("of no name");
        let (number, path) = (conn.generation, shown(head.uri().path(), &self.paths));
        log::debug!("connection {number}: 101 for {path}, {protocol}, session {session}");
    }

    /// A callback of the application has panicked.
    pub(super) fn note_panic(&self, panicked: &Panicked) {
        let Panicked {
            conn,
            session,
            what,
        } = panicked;
        let conn = conn.map(|conn| format!("connection {}: ", conn.generation));
        let session = session.as_ref();
        let session = session.map(|session| format!(" for session {}", self.names.of(session)));
        let (conn, session) = (conn.unwrap_or_default(), session.unwrap_or_default());
        log::error!("{conn}the application has failed{session} in {what}");
    }

    /// A request is answered otherwise.
    pub(super) fn note_answer(&self, conn: ConnId, head: &Head, status: u16) {
        if log::log_enabled!(log::Level::Debug) {
            let (number, method) = (conn.generation, head.method());
            let path = shown(head.uri().path(), &self.paths);
            log::debug!("connection {number}: {status} for {method} {path}");
        }
    }
}

/// The path as far as it is one of the service's or, if it is none, has only bytes that separate
/// nothing (RFC 3986, section 2.3), slashes, and the `*` of OPTIONS; of the rest, its length.
fn shown(path: &str, service: &[String]) -> String {
    let in_service = service.iter().filter(|known| known.len() > 1);
    let below = in_service.filter_map(|known| {
        let rest = path.strip_prefix(known.trim_end_matches('/'))?;
        rest.strip_prefix('/')
    });
    let is_plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"/._~-*".contains(byte);
    let plain = path.bytes().take_while(is_plain).take(PATH_BYTES_MAX);
    let rest = below.min_by_key(|rest| rest.len());
    let rest = rest.unwrap_or(&path[plain.count()..]);
    let (begin, more) = (&path[..path.len() - rest.len()], rest.len());
    if more == 0 {
        begin.to_owned()
    } else {
        format!("{begin} and {more} bytes more")
    }
}
