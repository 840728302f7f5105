//! Goal: a request head gets the same verdict however its bytes were cut, and what is decided on
//! it is an answer that HTTP knows.
//! Method: the first byte says how the rest is cut. The head is received in one piece and in those
//! pieces, with a limit that small inputs reach, and every decision is written out.

#![no_main]

use libfuzzer_sys::fuzz_target;
use sundown::config::{AdminHosts, AllowedOrigins};
use sundown::engine::io::Gate;
use sundown::net::handshake::{self, Decision, Rules};
use sundown::net::http::{Answer, BadHead, Head, Incoming};
use sundown::{Application as _, Chat};
use sundown_fuzz::{choice, cut};

const LEN_MAX: usize = 512;
const DATE: &str = "Thu, 01 Jan 1970 00:00:00 GMT";

type Verdict = Result<Option<(Head, Vec<u8>)>, BadHead>;

fuzz_target!(|data: &[u8]| {
    let (pattern, bytes) = choice(data);
    let whole = receive([bytes].into_iter());
    let pieces = receive(cut(bytes, pattern));
    match (&whole, &pieces) {
        (Ok(Some((whole, behind))), Ok(Some((head, more)))) => {
            assert_eq!(in_words(whole), in_words(head));
            assert_eq!(behind, more, "bytes behind the head are lost or made up");
            // Whatever the head is, it is shorter than its limit.
            assert!(bytes.len() - behind.len() <= LEN_MAX);
        }
        (Ok(None), Ok(None)) => assert!(bytes.len() < LEN_MAX, "endless, and no verdict"),
        (Err(whole), Err(pieces)) => assert_eq!(whole, pieces),
        // A mistake in a later piece is found at the end of the head, or at the limit.
        (Err(BadHead::Malformed | BadHead::Target | BadHead::TooLarge), Ok(None)) => {
            let ended = [bytes, b"\r\n\r\n"].concat();
            assert_eq!(
                receive(cut(&ended, pattern)).err().as_ref(),
                whole.as_ref().err()
            );
        }
        (whole, pieces) => panic!("whole: {whole:?}, in pieces: {pieces:?}"),
    }
    if let Ok(Some((head, _))) = whole {
        decide(&head);
    }
});

/// As a connection does: until there is a verdict; what comes later is input of its own.
fn receive<'a>(mut pieces: impl Iterator<Item = &'a [u8]>) -> Verdict {
    let mut head = Incoming::default();
    while let Some(piece) = pieces.next() {
        if let Some((head, mut behind)) = head.receive(piece, LEN_MAX)? {
            pieces.for_each(|piece| behind.extend_from_slice(piece));
            return Ok(Some((head, behind)));
        }
    }
    Ok(None)
}

fn in_words(head: &Head) -> String {
    format!("{head:?}")
}

fn decide(head: &Head) {
    let origins = AllowedOrigins::parse(&["https://example.org".to_owned()]);
    let (origins, all) = (origins.expect("an origin"), AllowedOrigins::default());
    let hosts = AdminHosts::default();
    for bits in 0..16 {
        let is_set = |bit: u8| bits & 1 << bit != 0;
        let rules = Rules {
            gate: Gate {
                ready: is_set(0),
                upgrades: is_set(1),
                sessions: is_set(2),
            },
            allowed_origins: if is_set(3) { &origins } else { &all },
            paths: &["/ws/chat/".to_owned()],
            subprotocols: &[],
            peer: None,
            page: &|path| (path == "/").then(|| Answer::json(200, "a page")),
        };
        let decision = handshake::decide(head, &rules, |request| Chat.on_upgrade(request));
        check(decision, &rules);
    }
    for ready in [false, true] {
        match handshake::decide_admin(head, ready, &hosts) {
            Decision::Upgrade(_) => panic!("operators get no WebSocket"),
            Decision::Answer(answer) => written(&answer.to_bytes(!handshake::is_head(head), DATE)),
            Decision::Metrics => assert_eq!(head.uri().path(), "/metrics"),
            Decision::Broadcast => assert_eq!(head.uri().path(), "/broadcast"),
        }
    }
}

fn check(decision: Decision, rules: &Rules<'_>) {
    match decision {
        Decision::Upgrade(upgrade) => {
            assert!(rules.gate.upgrades, "let in though upgrades are refused");
            assert!(
                rules.gate.sessions || upgrade.session.is_none(),
                "let in without a store"
            );
            assert!(upgrade.response.starts_with(b"HTTP/1.1 101 "));
            written(&upgrade.response);
        }
        Decision::Answer(answer) => {
            assert!([200, 400, 403, 404, 405, 426, 503].contains(&answer.status));
            written(&answer.to_bytes(true, DATE));
        }
        Decision::Metrics | Decision::Broadcast => panic!("these are for operators"),
    }
}

/// One head and no second one: nothing of the request got into it.
fn written(answer: &[u8]) {
    let text = str::from_utf8(answer).expect("answers are ASCII");
    let (head, body) = text.split_once("\r\n\r\n").expect("a head that ends");
    assert!(head.len() < 512 && !body.contains("\r\n"), "{text}");
    for line in head.split("\r\n").skip(1) {
        assert!(line.split_once(": ").is_some(), "{line}");
    }
}
