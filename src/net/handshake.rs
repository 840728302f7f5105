//! What a request head asks for and what it gets: 101, an answer, or a page of the server's own.
//!
//! Pure: it decides from the head and from the rules that hold at this moment, and touches no
//! socket.

use std::net::SocketAddr;

use tungstenite::handshake::derive_accept_key;
use tungstenite::http::{HeaderMap, Method, Version};

use super::authority::{host_of, is_for_operators};
use super::http::{self, Answer, BadHead, Head};
use crate::config::{self, AdminHosts, AllowedOrigins};
use crate::engine::app::{Admission, Tells, Upgrade};
use crate::engine::io::{Gate, Protocol, Received, SessionId};
use crate::engine::message::v2;

/// The subprotocol of clients that understand hello and notice (docs/protocol.md).
pub const V1: &str = "sundown.v1";

/// The one whose messages have kinds (docs/protocol.md).
pub const V2: &str = "sundown.v2";

/// sundown's own. Of several that a client offers, it gets the first of these.
const OWN: [(&str, Protocol); 2] = [(V2, Protocol::V2), (V1, Protocol::V1)];

/// What a path has for people, if it has anything.
pub type Pages = dyn Fn(&str) -> Option<Answer> + Send;

/// What holds at this moment.
pub struct Rules<'a> {
    /// What the engine lets in.
    pub gate: Gate,
    /// The origins whose pages may connect.
    pub allowed_origins: &'a AllowedOrigins,
    /// The service's paths, with or without the last slash.
    pub paths: &'a [String],
    /// Subprotocols of the application's.
    pub subprotocols: &'a [String],
    /// Where the request comes from, by its proxy's word if that is trusted.
    pub peer: Option<SocketAddr>,
    /// The server's own pages.
    pub page: &'a Pages,
}

/// What a request gets.
#[derive(Debug)]
pub enum Decision {
    /// 101: a WebSocket connection begins.
    Upgrade(Granted),
    /// An HTTP answer, after which the connection is closed.
    Answer(Answer),
    /// The metrics page, which the loop writes.
    Metrics,
    /// The body is for every client.
    Broadcast,
}

/// An upgrade that is granted.
#[derive(Debug)]
pub struct Granted {
    /// The 101, ready to send.
    pub response: Vec<u8>,
    /// What the client understands.
    pub protocol: Protocol,
    /// What it is told beside.
    pub tells: Tells,
    /// The session that it asks for.
    pub session: Option<SessionId>,
    /// Which push it has received last.
    pub received: Received,
}

/// Decides on a request to the listener for clients. `admit` is what the application says to a
/// handshake that has nothing wrong with it.
pub fn decide(
    head: &Head,
    rules: &Rules<'_>,
    admit: impl FnOnce(&Upgrade<'_>) -> Admission,
) -> Decision {
    if let Err(bad) = check(head) {
        return Decision::Answer(answer_bad_head(bad));
    }
    let path = head.uri().path();
    // Any other protocol that is offered (h2c, say) may be ignored: RFC 9110, section 7.8.
    if !is_handshake(head)
        && let Some(decision) = health(head, rules.gate.ready).or_else(|| page(head, rules))
    {
        return decision;
    }
    if !is_handshake(head) && !config::lists(rules.paths, path) {
        return Decision::Answer(Answer::json(404, "not found"));
    }
    match grant(head, rules, admit) {
        Ok(granted) => Decision::Upgrade(granted),
        Err(answer) => Decision::Answer(answer),
    }
}

/// Decides on a request to the admin listener.
pub fn decide_admin(head: &Head, ready: bool, hosts: &AdminHosts) -> Decision {
    if let Err(bad) = check(head) {
        return Decision::Answer(answer_bad_head(bad));
    }
    if !is_for_operators(head, hosts) {
        return Decision::Answer(Answer::json(421, "the host is not in --admin-hosts"));
    }
    if let Some(decision) = health(head, ready) {
        return decision;
    }
    match head.uri().path() {
        "/metrics" if is_get(head) => Decision::Metrics,
        "/metrics" => Decision::Answer(wrong_method()),
        // Browsers let any page post to any address; only they send these fields.
        "/broadcast" if is_by_a_page(head) => {
            Decision::Answer(Answer::json(403, "not for web pages"))
        }
        "/broadcast" if head.method() == Method::POST => Decision::Broadcast,
        "/broadcast" => {
            let wrong = Answer::json(405, "method not allowed").with("Allow: POST\r\n");
            Decision::Answer(wrong)
        }
        _ => Decision::Answer(Answer::json(404, "not found")),
    }
}

/// The answer to a head that could not be read.
pub fn answer_bad_head(bad: BadHead) -> Answer {
    match bad {
        BadHead::Malformed => Answer::json(400, "not an HTTP/1.1 request"),
        BadHead::Target => Answer::json(400, "bad request target"),
        BadHead::Host => Answer::json(400, "one Host is needed"),
        BadHead::TooLarge => Answer::json(431, "request head too large"),
        BadHead::BodyTooLarge => Answer::json(413, "request body too large"),
        BadHead::NoLength => Answer::json(411, "a Content-Length is needed"),
        BadHead::Preface(bad) => Answer::json(400, bad.text()),
    }
}

/// What must hold for every request.
fn check(head: &Head) -> Result<(), BadHead> {
    host_of(head)?;
    match http::body_len(head, usize::MAX) {
        Err(BadHead::Malformed) => Err(BadHead::Malformed),
        // Whoever is asked for something does not need the body.
        Ok(_) | Err(_) => Ok(()),
    }
}

/// Whether a request means to become a WebSocket, whatever else is wrong with it.
pub fn is_handshake(head: &Head) -> bool {
    names(head.headers(), "upgrade", "websocket")
}

/// Whether the answer's body is left out.
pub fn is_head(head: &Head) -> bool {
    head.method() == Method::HEAD
}

fn health(head: &Head, ready: bool) -> Option<Decision> {
    // Some balancers ask by OPTIONS.
    let is_asked = is_get(head) || head.method() == Method::OPTIONS;
    let answer = match (head.uri().path(), is_asked, ready) {
        ("/healthz" | "/readyz", false, _) => {
            Answer::json(405, "method not allowed").with("Allow: GET, HEAD, OPTIONS\r\n")
        }
        ("/healthz", true, _) => Answer::json(200, "ok"),
        ("/readyz", true, true) => Answer::json(200, "ready"),
        ("/readyz", true, false) => Answer::unavailable("not ready"),
        _ => return None,
    };
    Some(Decision::Answer(answer))
}

fn page(head: &Head, rules: &Rules<'_>) -> Option<Decision> {
    let answer = (rules.page)(head.uri().path())?;
    let answer = if is_get(head) { answer } else { wrong_method() };
    Some(Decision::Answer(answer))
}

fn is_by_a_page(head: &Head) -> bool {
    let fields = ["origin", "sec-fetch-site"];
    fields
        .iter()
        .any(|field| head.headers().contains_key(*field))
}

fn is_get(head: &Head) -> bool {
    head.method() == Method::GET || is_head(head)
}

fn wrong_method() -> Answer {
    Answer::json(405, "method not allowed").with("Allow: GET, HEAD\r\n")
}

fn grant(
    head: &Head,
    rules: &Rules<'_>,
    admit: impl FnOnce(&Upgrade<'_>) -> Admission,
) -> Result<Granted, Answer> {
    let key = key_of(head)?;
    let headers = head.headers();
    if !origin_allowed(headers, rules.allowed_origins) {
        return Err(Answer::json(403, "origin not allowed"));
    }
    let session = session_of(head)?;
    let has_room = rules.gate.admit(Protocol::Plain, false);
    has_room.map_err(Answer::unavailable)?;
    let fields: Vec<_> = headers
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_bytes()))
        .collect();
    let own = own_of(headers);
    let received = match own {
        Some((_, Protocol::V2)) => received(head)?,
        Some((_, Protocol::Plain | Protocol::V1)) | None => Received::default(),
    };
    let path = head.uri().path();
    let Admission(admission) = admit(&Upgrade {
        path,
        query: head.uri().query().unwrap_or(""),
        headers: &fields,
        peer: rules.peer,
        session: session.as_ref(),
        subprotocol: first_known(headers, rules.subprotocols),
        is_listed: config::lists(rules.paths, path),
    });
    let accepted = admission
        .map_err(|refusal| Answer::error(refusal.status, &refusal.text).with(refusal.fields))?;
    let foreign = accepted.subprotocol.filter(|name| {
        let is_own = OWN.iter().any(|(own, _)| own == name);
        !is_own && offers(headers).any(|offer| offer == name.as_bytes())
    });
    let (protocol, tells, subprotocol) = match (foreign, own) {
        (Some(foreign), _) => (Protocol::Plain, Tells::NOTHING, Some(foreign)),
        (None, Some((own, protocol))) => {
            let tells = accepted.tells.of(protocol);
            (protocol, tells, Some(own.to_owned()))
        }
        (None, None) => (Protocol::Plain, accepted.tells, None),
    };
    let admitted = rules.gate.admit(protocol, accepted.session.is_some());
    admitted.map_err(Answer::unavailable)?;
    let mut response = format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {}\r\n",
        derive_accept_key(key.as_bytes())
    );
    if let Some(subprotocol) = subprotocol {
        response.push_str("Sec-WebSocket-Protocol: ");
        response.push_str(&subprotocol);
        response.push_str("\r\n");
    }
    response.push_str("\r\n");
    Ok(Granted {
        response: response.into_bytes(),
        protocol,
        tells,
        session: accepted.session,
        received,
    })
}

/// The subprotocols that a client offers.
fn offers(headers: &HeaderMap) -> impl Iterator<Item = &[u8]> {
    lists(headers, "sec-websocket-protocol")
}

/// The one of sundown's own that a client gets, unless it gets one of the application's.
fn own_of(headers: &HeaderMap) -> Option<(&'static str, Protocol)> {
    OWN.into_iter()
        .find(|(own, _)| offers(headers).any(|offer| offer == own.as_bytes()))
}

/// The first that a client offers of those that are known, if it is one of the application's.
fn first_known<'a>(headers: &HeaderMap, foreign: &'a [String]) -> Option<&'a str> {
    let foreign = foreign.iter().map(|name| (name.as_str(), true));
    let own = OWN.iter().map(|(name, _)| (*name, false));
    let known = || foreign.clone().chain(own.clone());
    let first =
        offers(headers).find_map(|offer| known().find(|(name, _)| name.as_bytes() == offer));
    first.and_then(|(name, is_foreign)| is_foreign.then_some(name))
}

/// The client's key, if all is there that RFC 6455, section 4.2.1, demands. What is not right is
/// answered in HTTP (section 4.2.2).
fn key_of(head: &Head) -> Result<&str, Answer> {
    let headers = head.headers();
    if head.method() != Method::GET {
        return Err(Answer::json(405, "method not allowed").with("Allow: GET\r\n"));
    }
    if head.version() < Version::HTTP_11 {
        return Err(Answer::json(400, "HTTP/1.1 is needed"));
    }
    if !names(headers, "connection", "upgrade") || !names(headers, "upgrade", "websocket") {
        return Err(Answer::json(426, "a WebSocket endpoint").with("Upgrade: websocket\r\n"));
    }
    if single(headers, "sec-websocket-version") != Some("13") {
        // RFC 9110, section 15.5.22: a 426 names the protocol, whatever else was wrong.
        return Err(Answer::json(426, "WebSocket version 13 only")
            .with("Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"));
    }
    // Nobody would read it, and behind the head come frames.
    if http::body_len(head, 0) != Ok(0) {
        return Err(Answer::json(400, "an upgrade has no body"));
    }
    single(headers, "sec-websocket-key")
        .filter(|key| is_key(key))
        .ok_or_else(|| Answer::json(400, "bad Sec-WebSocket-Key"))
}

/// Whether this is 16 bytes in base64: 22 characters, of which the last carries two bits, and the
/// padding (RFC 4648, section 4).
fn is_key(key: &str) -> bool {
    let in_alphabet = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/');
    match key.strip_suffix("==").map(str::as_bytes) {
        Some(digits @ [.., b'A' | b'Q' | b'g' | b'w']) => {
            digits.len() == 22 && digits.iter().copied().all(in_alphabet)
        }
        Some(_) | None => false,
    }
}

/// RFC 6455, section 10.2: only browsers send an origin, and only they can be made to connect by
/// a foreign page; a client without one is let in.
fn origin_allowed(headers: &HeaderMap, allowed: &AllowedOrigins) -> bool {
    let mut origins = headers.get_all("origin").iter();
    origins.all(|origin| allowed.allow(origin.as_bytes()))
}

/// The values of a query parameter.
fn parameters<'a>(head: &'a Head, name: &'a str) -> impl Iterator<Item = &'a str> {
    let pairs = head.uri().query().unwrap_or("").split('&');
    pairs.filter_map(move |pair| match pair.split_once('=') {
        Some((named, value)) => (named == name).then_some(value),
        None => (pair == name).then_some(""),
    })
}

/// Which push a `sundown.v2` client has received last.
fn received(head: &Head) -> Result<Received, Answer> {
    Ok(Received {
        number: number(head, "received")?.unwrap_or(0),
        incarnation: number(head, "incarnation")?,
    })
}

/// A query parameter that is a number and stands once, if at all.
fn number(head: &Head, name: &str) -> Result<Option<u64>, Answer> {
    let mut numbers = parameters(head, name);
    let Some(number) = numbers.next() else {
        return Ok(None);
    };
    match v2::parse_number(number.as_bytes()) {
        Some(number) if numbers.next().is_none() => Ok(Some(number)),
        Some(_) | None => Err(Answer::json(400, &format!("{name}: a number"))),
    }
}

fn session_of(head: &Head) -> Result<Option<SessionId>, Answer> {
    let mut ids = parameters(head, "session");
    let Some(id) = ids.next() else {
        return Ok(None);
    };
    match SessionId::parse(id) {
        Ok(session) if ids.next().is_none() => Ok(Some(session)),
        Ok(_) | Err(_) => Err(Answer::json(
            400,
            "session: 1 to 128 of A-Z a-z 0-9 . _ ~ -",
        )),
    }
}

/// The value of a header field that may stand only once, if it does.
fn single<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let mut values = headers.get_all(name).into_iter();
    let value = values.next()?;
    let is_single = values.next().is_none();
    value.to_str().ok().filter(|_| is_single)
}

/// Whether a list names this, in whatever case.
fn names(headers: &HeaderMap, list: &str, name: &str) -> bool {
    lists(headers, list).any(|member| member.eq_ignore_ascii_case(name.as_bytes()))
}

/// The members of a header field that holds a list, or of several such fields. They are bytes: one
/// that is not ASCII hides no other.
fn lists<'a>(headers: &'a HeaderMap, name: &str) -> impl Iterator<Item = &'a [u8]> {
    let values = headers.get_all(name).into_iter();
    let members = values.flat_map(|value| value.as_bytes().split(|byte| *byte == b','));
    members.map(<[u8]>::trim_ascii)
}

#[cfg(test)]
mod tests;
