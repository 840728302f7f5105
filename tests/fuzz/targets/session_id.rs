//! Goal: a session id is what docs/protocol.md says that it is, no more and no less, and comes out
//! of a request as it went in.
//! Method: the input is a text for `SessionId::parse` and a query for the handshake; a grammar that
//! is written here a second time says what each must answer.

#![no_main]

use libfuzzer_sys::fuzz_target;
use sundown::config::AllowedOrigins;
use sundown::engine::io::{Gate, SessionId};
use sundown::engine::message::{Hello, Protocol, ServerMessage};
use sundown::net::handshake::{self, Decision, Rules};
use sundown::net::http::Incoming;
use sundown::{Application as _, Chat};

const ALPHABET: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._~-";

/// What a request gets.
#[derive(Debug, PartialEq)]
enum Got {
    Session(String),
    NoSession,
    Refused,
    /// The head itself is none: the query has bytes that no request target has.
    NoRequest,
}

fuzz_target!(|data: &[u8]| {
    let Ok(text) = str::from_utf8(data) else {
        query(data);
        return;
    };
    let parsed = SessionId::parse(text);
    assert_eq!(parsed.is_ok(), is_id(text), "{text:?}");
    if let Ok(id) = &parsed {
        assert_eq!(id.as_str(), text);
        assert_eq!(id.to_string(), text);
        let asked = ask(format!("session={text}").as_bytes());
        assert_eq!(asked, Got::Session(text.to_owned()), "lost on its way");
        let hello = ServerMessage::Hello(Box::new(Hello {
            session: id.clone(),
            incarnation: 3,
            count: 7,
            resumed: true,
            sent: 2,
        }));
        // Written without an escape, since it needs none.
        let expected = format!("{{\"session\":\"{text}\",\"count\":7,\"resumed\":true}}");
        let payload = |protocol| hello.payload(protocol, &mut Vec::new()).to_owned();
        assert_eq!(payload(Protocol::V1), expected.as_bytes());
        let expected = format!(
            "h{{\"session\":\"{text}\",\"incarnation\":3,\"count\":7,\"resumed\":true,\"sent\":2}}"
        );
        assert_eq!(payload(Protocol::V2), expected.as_bytes());
    }
    query(data);
    query(&[b"session=", data].concat());
});

fn is_id(text: &str) -> bool {
    let chars = text.chars().count();
    (1..=128).contains(&chars) && text.chars().all(|c| ALPHABET.contains(c))
}

/// The query as bytes of a request, against the grammar.
fn query(bytes: &[u8]) {
    let got = ask(bytes);
    // Here the query ends, and the rest is no part of it. Only a fragment may follow a query, and
    // nobody sends it: RFC 9112, section 3.2.
    if got == Got::NoRequest || bytes.iter().any(|byte| b"# \r\n".contains(byte)) {
        return;
    }
    let Ok(text) = str::from_utf8(bytes) else {
        assert!(!matches!(got, Got::Session(_)), "{bytes:?}: {got:?}");
        return;
    };
    let ids: Vec<&str> = text
        .split('&')
        .filter_map(|pair| match pair.strip_prefix("session") {
            Some("") => Some(""),
            Some(rest) => rest.strip_prefix('='),
            None => None,
        })
        .collect();
    let expected = match ids[..] {
        [] => Got::NoSession,
        [id] if is_id(id) => Got::Session(id.to_owned()),
        [..] => Got::Refused,
    };
    assert_eq!(got, expected, "{text:?}");
}

fn ask(query: &[u8]) -> Got {
    let head = [
        b"GET /ws/chat/?",
        query,
        b" HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
          Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n",
    ]
    .concat();
    let Ok(Some((head, _))) = Incoming::default().receive(&head, 16 << 10) else {
        return Got::NoRequest;
    };
    let rules = Rules {
        gate: Gate {
            ready: true,
            upgrades: true,
            sessions: true,
        },
        allowed_origins: &AllowedOrigins::default(),
        page: &|_| None,
        paths: &["/ws/chat/".to_owned()],
        subprotocols: &[],
        peer: None,
    };
    match handshake::decide(&head, &rules, |request| Chat.on_upgrade(request)) {
        Decision::Upgrade(upgrade) => match upgrade.session {
            Some(id) => Got::Session(id.as_str().to_owned()),
            None => Got::NoSession,
        },
        Decision::Answer(answer) if answer.status == 400 => Got::Refused,
        // The query has ended the request's first line early, and the rest is another request.
        Decision::Answer(_) | Decision::Metrics | Decision::Broadcast => Got::NoRequest,
    }
}
