//! Clients that come through proxies: whose word counts about where they come from, and what it is.
//!
//! It owns the list of trusted proxies. It must never believe a peer that is not on it.

use std::net::SocketAddr;

use super::{Connections, live};
use crate::config::TrustedProxies;
use crate::engine::io::ConnId;
use crate::net::forwarded;
use crate::net::http::{BadHead, Head};
use crate::net::proxy_protocol::Preface;
use crate::net::socket::Socket;

/// Whose word counts about where a client comes from.
#[derive(Debug, Default)]
pub(crate) struct Proxies {
    /// They send a PROXY header first.
    send_header: bool,
    trusted: TrustedProxies,
    /// The log has been told of one whose connections are refused.
    warned: bool,
}

impl Proxies {
    pub(crate) fn new(send_header: bool, trusted: TrustedProxies) -> Self {
        Self {
            send_header,
            trusted,
            warned: false,
        }
    }

    /// What is to come first on a connection.
    pub(super) fn preface(&self, socket: &Socket) -> Preface {
        if !self.send_header {
            Preface::Off
        } else if self.has(socket) {
            Preface::Expected
        } else {
            Preface::Untrusted
        }
    }

    /// Whether the peer is one of them. One whose address is not known is none.
    fn has(&self, socket: &Socket) -> bool {
        match socket.peer() {
            Some(peer) => self.trusted.trust(peer.ip()),
            None => self.trusted.trust_unix() && socket.is_unix(),
        }
    }
}

impl Connections {
    /// Where the client of a request comes from: by the PROXY header of a trusted proxy and, if
    /// that names another trusted one, or if there is none, by what they have forwarded; otherwise
    /// the peer. `None`: from a socket in the file system, and nobody has said more.
    pub(crate) fn client(&self, conn: ConnId, head: &Head) -> Option<SocketAddr> {
        let connection = self.table.get(conn.slot)?;
        let peer = connection.peer();
        let told = connection.client();
        let is_proxy = !self.proxies.trusted.is_empty()
            && told.map_or_else(
                || self.proxies.has(&connection.socket),
                |client| self.proxies.trusted.trust(client.ip()),
            );
        let forwarded = is_proxy.then(|| forwarded::client(head, &self.proxies.trusted));
        let number = conn.generation;
        let (said, by) = match (forwarded.flatten(), told) {
            (Some(client), _) => (client, "X-Forwarded-For"),
            (None, Some(client)) => (client, "the PROXY header"),
            (None, None) => return peer,
        };
        log::debug!("connection {number}: its client is {said}, by {by}");
        Some(said)
    }

    /// What the log says of a request that could not be read. What a trusted proxy does wrong, it
    /// does to all of its clients: the operator is told of the first one.
    pub(super) fn why_bad(&mut self, conn: ConnId, bad: BadHead) -> String {
        let BadHead::Preface(bad) = bad else {
            return ", its request is bad".to_owned();
        };
        if !self.proxies.warned
            && let Some(connection) = live(&mut self.table, conn)
            && self.proxies.has(&connection.socket)
        {
            self.proxies.warned = true;
            let peer = connection.peer().map(|peer| peer.ip().to_string());
            let peer = peer.as_deref().unwrap_or("the Unix socket");
            log::warn!(
                "connections of the trusted proxy {peer} are refused: {} (said once)",
                bad.text()
            );
        }
        format!(", {}", bad.text())
    }
}
