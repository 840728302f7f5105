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
use crate::engine::io::{Gate, Protocol, SessionId};
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
    /// Where the request comes from.
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
    if let Some((_, Protocol::V2)) = own {
        check_received(head)?;
    }
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

/// Which push a `sundown.v2` client has received last. No push has been sent, and what is above
/// the last one means nothing.
fn check_received(head: &Head) -> Result<(), Answer> {
    let mut numbers = parameters(head, "received");
    let is_number = |text: &str| v2::parse_number(text.as_bytes()).is_some();
    if numbers.next().is_none_or(is_number) && numbers.next().is_none() {
        Ok(())
    } else {
        Err(Answer::json(400, "received: the number of a push"))
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
mod tests {
    use super::*;
    use crate::engine::app::{Application as _, Chat};

    const UPGRADE: &str = "Host: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
        Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";

    fn ask(request: &str, origins: &[&str], upgrades: bool, sessions: bool) -> (u16, String) {
        let (head, _) = http::parse(request.as_bytes(), 16_384).unwrap().unwrap();
        let allowed: Vec<String> = origins.iter().map(ToString::to_string).collect();
        let allowed = AllowedOrigins::parse(&allowed).unwrap();
        let rules = Rules {
            gate: Gate {
                ready: upgrades && sessions,
                upgrades,
                sessions,
            },
            allowed_origins: &allowed,
            paths: &["/ws/chat/".to_owned(), "/both".to_owned()],
            subprotocols: &["ocpp1.6".to_owned()],
            peer: None,
            page: &|path| matches!(path, "/page" | "/both").then(|| Answer::json(200, "a page")),
        };
        match decide(&head, &rules, |request| Chat.on_upgrade(request)) {
            Decision::Upgrade(upgrade) => (
                101,
                String::from_utf8(upgrade.response).unwrap().to_lowercase(),
            ),
            Decision::Answer(answer) => (answer.status, answer.fields.into_owned()),
            Decision::Metrics | Decision::Broadcast => (0, String::new()),
        }
    }

    #[track_caller]
    fn check(target: &str, fields: &str, expected: u16) {
        let request = format!("GET {target} HTTP/1.1\r\n{fields}\r\n");
        assert_eq!(
            ask(&request, &["https://a.example"], true, true).0,
            expected,
            "{request}"
        );
    }

    #[test]
    fn each_target_and_status() {
        check("/ws/chat/", UPGRADE, 101);
        check("/ws/chat", UPGRADE, 101);
        check("/ws/chat/?session=a.B_~-9&x=y", UPGRADE, 101);
        check("http://x/ws/chat/", UPGRADE, 101);
        check("/ws/chat/?session=", UPGRADE, 400);
        check("/ws/chat/?session", UPGRADE, 400);
        check("/ws/chat/?session=a%20b", UPGRADE, 400);
        check("/ws/chat/?session=a&session=b", UPGRADE, 400);
        check(
            &format!("/ws/chat/?session={}", "a".repeat(128)),
            UPGRADE,
            101,
        );
        check(
            &format!("/ws/chat/?session={}", "a".repeat(129)),
            UPGRADE,
            400,
        );
        check("/elsewhere", UPGRADE, 404);
        check("/ws/chat/", "Host: x\r\n", 426);
        check("/ws/chat/", &UPGRADE.replace("13", "8"), 426);
        check(
            "/ws/chat/",
            &format!("{UPGRADE}Origin: https://a.example\r\n"),
            101,
        );
        check(
            "/ws/chat/",
            &format!("{UPGRADE}Origin: https://b.example\r\n"),
            403,
        );
        for (target, status) in [
            ("/healthz", 200),
            ("/readyz", 200),
            ("/metrics", 404),
            ("/page", 200),
            ("/page?with=query", 200),
            ("/both", 200),
        ] {
            check(target, "Host: x\r\n", status);
        }
        check("/page", UPGRADE, 404);
        check("/both", UPGRADE, 101);
        check(
            "/readyz",
            "Host: x\r\nUpgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings\r\n",
            200,
        );
    }

    #[test]
    fn each_demand_of_the_opening_handshake() {
        let check = |from: &str, to: &str, expected| {
            assert!(UPGRADE.contains(from), "{from}");
            check("/ws/chat/", &UPGRADE.replace(from, to), expected);
        };
        check("Host: x\r\n", "", 400);
        check("Host: x\r\n", "Host: x\r\nHost: y\r\n", 400);
        check("Upgrade: websocket", "Upgrade: h2c, WEBSOCKET", 101);
        check(
            "Upgrade: websocket",
            "Upgrade: h2c\r\nUpgrade: websocket",
            101,
        );
        check("Upgrade: websocket", "Upgrade: websockets", 426);
        check(
            "Connection: Upgrade",
            "Connection: keep-alive,\tupgrade",
            101,
        );
        let lines = "Connection: keep-alive\r\nConnection: Upgrade";
        check("Connection: Upgrade", lines, 101);
        check("Connection: Upgrade", "Connection: keep-alive", 426);
        check("Connection: Upgrade", "Connection: not upgrade", 426);
        check(
            "Version: 13",
            "Version: 13\r\nSec-WebSocket-Version: 8",
            426,
        );
        let twice = "Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Key:";
        check("Key:", twice, 400);
        for key in ["", "dGhlIHNhbXBsZSBub25jZQ=", "dGhlIHNhbXBsZSBub25jZR=="] {
            check("dGhlIHNhbXBsZSBub25jZQ==", key, 400);
        }
        check("dGhl", "????", 400);
        check("dGhl", "AAAAAAAAdGhl", 400);
    }

    #[test]
    fn what_is_refused_while_it_shuts_down_or_the_store_is_away() {
        let plain = format!("GET /ws/chat/ HTTP/1.1\r\n{UPGRADE}\r\n");
        let session = format!("GET /ws/chat/?session=a HTTP/1.1\r\n{UPGRADE}\r\n");
        let (status, fields) = ask(&plain, &[], false, true);
        assert_eq!((status, fields.as_str()), (503, "Retry-After: 1\r\n"));
        assert_eq!(ask(&plain, &[], true, false).0, 101);
        assert_eq!(ask(&session, &[], true, false).0, 503);
        assert_eq!(
            ask("GET /readyz HTTP/1.1\r\nHost: x\r\n\r\n", &[], true, false).0,
            503
        );
        assert_eq!(
            ask(
                "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n",
                &[],
                false,
                false
            )
            .0,
            200
        );
        assert_eq!(
            ask("POST /readyz HTTP/1.1\r\nHost: x\r\n\r\n", &[], true, true).0,
            405
        );
        assert_eq!(
            ask("HEAD /readyz HTTP/1.1\r\nHost: x\r\n\r\n", &[], true, true).0,
            200
        );
        assert_eq!(
            ask("GET /page HTTP/1.1\r\nHost: x\r\n\r\n", &[], false, false).0,
            200
        );
        assert_eq!(
            ask("HEAD /page HTTP/1.1\r\nHost: x\r\n\r\n", &[], true, true).0,
            200
        );
        assert_eq!(
            ask("POST /page HTTP/1.1\r\nHost: x\r\n\r\n", &[], true, true).0,
            405
        );
    }

    #[test]
    fn an_upgrade_has_no_body() {
        for (fields, expected) in [
            ("Content-Length: 0\r\n", 101),
            ("Content-Length: 7\r\n", 400),
            ("Content-Length: +0\r\n", 400),
            ("Content-Length: 0\r\nContent-Length: 0\r\n", 400),
            ("Transfer-Encoding: chunked\r\n", 400),
            ("Transfer-Encoding: identity\r\nContent-Length: 0\r\n", 400),
            // Nobody waits to send a body that is not there (RFC 9110, section 10.1.1).
            ("Expect: 100-continue\r\n", 101),
            ("Expect: 100-continue\r\nContent-Length: 7\r\n", 400),
        ] {
            check("/ws/chat/", &format!("{UPGRADE}{fields}"), expected);
        }
        // What asks for something else may have one, but must say where it ends.
        check("/healthz", "Host: x\r\nContent-Length: 7\r\n", 200);
        check("/healthz", "Host: x\r\nContent-Length: x\r\n", 400);
    }

    #[test]
    fn each_host() {
        for (fields, expected) in [
            ("", 400),
            ("Host: x\r\nHost: x\r\n", 400),
            ("Host: a b\r\n", 400),
            ("Host: a/b\r\n", 400),
            ("Host: user@x\r\n", 400),
            ("Host: x:y\r\n", 400),
            ("Host: ::1\r\n", 400),
            ("Host: [x]\r\n", 400),
            ("Host: [::1\r\n", 400),
            ("Host: \u{fc}\r\n", 400),
            ("Host: \r\n", 200),
            ("Host: x:\r\n", 200),
            ("Host: app_blue:8001\r\n", 200),
            ("Host: [::1]:8001\r\n", 200),
            ("Host: 127.0.0.1\r\n", 200),
        ] {
            for target in ["/healthz", "http://elsewhere/readyz"] {
                check(target, fields, expected);
            }
        }
        let old = |fields: &str| format!("GET /healthz HTTP/1.0\r\n{fields}\r\n");
        for (fields, expected) in [("", 200), ("Host: x\r\nHost: x\r\n", 400)] {
            assert_eq!(ask(&old(fields), &[], true, true).0, expected, "{fields}");
        }
    }

    #[test]
    fn the_subprotocol_is_chosen_among_others() {
        let offer = "Sec-WebSocket-Protocol: chat, sundown.v1\r\n";
        let request = format!("GET /ws/chat/ HTTP/1.1\r\n{UPGRADE}{offer}\r\n");
        let (status, response) = ask(&request, &[], true, true);
        assert_eq!(status, 101);
        assert!(
            response.contains("sec-websocket-protocol: sundown.v1\r\n"),
            "{response}"
        );
        // The key and its answer are the example of RFC 6455, section 1.3.
        assert!(
            response.contains("s3pplmbitxaq9kygzzhzrbk+xoo="),
            "{response}"
        );
        for others in [
            "\u{fc}, sundown.v1",
            "sundown.v1,\u{fc}",
            "\u{fc}\r\nSec-WebSocket-Protocol: sundown.v1",
        ] {
            let request = request.replace("chat, sundown.v1", others);
            let response = ask(&request, &[], true, true).1;
            assert!(response.contains("sec-websocket-protocol: sundown.v1\r\n"));
        }
        let foreign = request.replace("sundown.v1", "sundown.v3");
        assert!(
            !ask(&foreign, &[], true, true)
                .1
                .contains("sec-websocket-protocol")
        );
    }

    #[test]
    fn of_several_subprotocols_the_first_decides_and_v2_stands_for_all_of_ours() {
        for (offers, expected) in [
            ("sundown.v2", "sundown.v2"),
            ("sundown.v1, sundown.v2", "sundown.v2"),
            ("soap, sundown.v1, ocpp1.6", "sundown.v1"),
            ("sundown.v1, ocpp1.6, sundown.v2", "sundown.v2"),
            ("ocpp1.6, sundown.v2", "ocpp1.6"),
        ] {
            let offer = format!("Sec-WebSocket-Protocol: {offers}\r\n");
            let request = format!("GET /ws/chat/ HTTP/1.1\r\n{UPGRADE}{offer}\r\n");
            let response = ask(&request, &[], true, true).1;
            let chosen = format!("sec-websocket-protocol: {expected}\r\n");
            assert!(response.contains(&chosen), "{offers}: {response}");
            // It needs a session, and so the store.
            let is_ours = expected != "ocpp1.6";
            let without_store = ask(&request, &[], true, false).0;
            assert_eq!(without_store, if is_ours { 503 } else { 101 }, "{offers}");
        }
    }

    #[test]
    fn what_has_been_received_is_a_number() {
        let v1 = format!("{UPGRADE}Sec-WebSocket-Protocol: sundown.v1\r\n");
        let v2 = v1.replace("v1", "v2");
        for (query, expected) in [
            ("received=0", 101),
            ("session=a&received=18446744073709551615", 101),
            ("received=18446744073709551616", 400),
            ("received=", 400),
            ("received", 400),
            ("received=-1", 400),
            ("received=1&received=1", 400),
        ] {
            let target = format!("/ws/chat/?{query}");
            check(&target, &v2, expected);
            // To the others it means nothing.
            check(&target, &v1, 101);
            check(&target, UPGRADE, 101);
        }
    }

    #[test]
    fn operators_ask_under_known_names() {
        let hosts = AdminHosts::parse(&["app_blue:8001".to_owned()]).unwrap();
        let check = |target: &str, version: &str, host: &str, expected: u16| {
            let request = format!("GET {target} {version}\r\n{host}\r\n");
            let (head, _) = http::parse(request.as_bytes(), 16_384).unwrap().unwrap();
            let status = match decide_admin(&head, true, &hosts) {
                Decision::Answer(answer) => answer.status,
                Decision::Metrics => 200,
                Decision::Upgrade(_) | Decision::Broadcast => 0,
            };
            assert_eq!(status, expected, "{request}");
        };
        for host in [
            "127.0.0.1",
            "127.0.0.1:8001",
            "10.1.2.3:8001",
            "[::1]:8001",
            "localhost",
            "LocalHost:8001",
            "localhost.:8001",
            "app_blue:8001",
        ] {
            check("/metrics", "HTTP/1.1", &format!("Host: {host}\r\n"), 200);
        }
        for host in [
            "",
            "evil.example:8001",
            "app_blue",
            "127.0.0.1.evil.example",
            "127.1",
        ] {
            for target in ["/metrics", "/healthz", "/x", "http://127.0.0.1/metrics"] {
                check(target, "HTTP/1.1", &format!("Host: {host}\r\n"), 421);
            }
        }
        check(
            "http://evil.example/metrics",
            "HTTP/1.1",
            "Host: localhost\r\n",
            421,
        );
        // A probe that knows no Host is by no browser.
        check("/readyz", "HTTP/1.0", "", 200);
    }
}
