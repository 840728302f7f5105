//! Section 4: who is let in, and with which answer; and section 9: extensions, of which this server
//! has none, so that every offer is declined.

use super::case::Case;
use super::wire::{BINARY, FIN, TEXT, answer, close, close_answer, frame, masked};
use crate::support::http::{KEY, upgrade};

/// Fields of a good request.
const UPGRADE: &str = "Upgrade: websocket";
const CONNECTION: &str = "Connection: Upgrade";
const HOST: &str = "Host: localhost";
const VERSION: &str = "Version: 13";

/// Replacements in a good request, and what comes of it.
const ACCEPTED: &[(&str, &str, &str)] = &[
    ("the request of section 1.3", "", ""),
    ("field names in capitals", UPGRADE, "UPGRADE: websocket"),
    ("Upgrade in another case", UPGRADE, "Upgrade: WebSocket"),
    (
        "Upgrade that lists another first",
        UPGRADE,
        "Upgrade: h2c, websocket",
    ),
    (
        "Upgrade that lists another behind",
        UPGRADE,
        "Upgrade: websocket,h2c",
    ),
    (
        "Upgrade in two lines",
        UPGRADE,
        "Upgrade: h2c\r\nUpgrade: websocket",
    ),
    (
        "Connection in another case",
        CONNECTION,
        "connection: UPGRADE",
    ),
    (
        "Connection with keep-alive first",
        CONNECTION,
        "Connection: keep-alive, Upgrade",
    ),
    (
        "Connection with keep-alive behind",
        CONNECTION,
        "Connection: upgrade,keep-alive",
    ),
    (
        "Connection with a tab",
        CONNECTION,
        "Connection: keep-alive,\tUpgrade",
    ),
    (
        "Connection in two lines",
        CONNECTION,
        "Connection: keep-alive\r\nConnection: Upgrade",
    ),
    ("no blanks behind the colons", ": ", ":"),
    ("more blanks behind the colons", ": ", ":  \t"),
    ("a query", "GET / ", "GET /?a=b&c "),
    ("a long path", "GET / ", "GET /a/b/c/d/e/f/g/h/i/j "),
    ("an absolute target", "GET / ", "GET http://localhost/ "),
    ("a Host with a port", HOST, "Host: localhost:8000"),
    (
        "a foreign Origin",
        "Host:",
        "Origin: https://elsewhere.example\r\nHost:",
    ),
    (
        "fields that mean nothing here",
        "Host:",
        "X-More: a\r\nCookie: a=b; c=d\r\nHost:",
    ),
    (
        "a subprotocol that nobody knows",
        "Host:",
        "Sec-WebSocket-Protocol: soap, wamp\r\nHost:",
    ),
];

/// The same, with the status.
const REFUSED: &[(&str, &str, &str, u16)] = &[
    ("HTTP/1.0", "HTTP/1.1", "HTTP/1.0", 400),
    ("HTTP/2 on HTTP/1's line", "HTTP/1.1", "HTTP/2.0", 400),
    ("no version of HTTP", " HTTP/1.1", "", 400),
    ("POST", "GET", "POST", 405),
    ("HEAD", "GET", "HEAD", 405),
    ("PUT", "GET", "PUT", 405),
    ("OPTIONS", "GET", "OPTIONS", 405),
    ("a method in small letters", "GET", "get", 405),
    ("no Host", "Host: localhost\r\n", "", 400),
    ("two Hosts", HOST, "Host: localhost\r\nHost: elsewhere", 400),
    ("no Upgrade", "Upgrade: websocket\r\n", "", 426),
    ("an empty Upgrade", UPGRADE, "Upgrade:", 426),
    ("Upgrade to something else", UPGRADE, "Upgrade: h2c", 426),
    (
        "Upgrade to something longer",
        UPGRADE,
        "Upgrade: websockets",
        426,
    ),
    ("no Connection", "Connection: Upgrade\r\n", "", 426),
    ("an empty Connection", CONNECTION, "Connection:", 426),
    (
        "Connection without upgrade",
        CONNECTION,
        "Connection: keep-alive",
        426,
    ),
    (
        "Connection with a longer word",
        CONNECTION,
        "Connection: upgrades",
        426,
    ),
    (
        "Connection with two words in one",
        CONNECTION,
        "Connection: no upgrade",
        426,
    ),
    ("no version", "Sec-WebSocket-Version: 13\r\n", "", 426),
    ("an empty version", VERSION, "Version:", 426),
    ("version 0", VERSION, "Version: 0", 426),
    ("version 7", VERSION, "Version: 7", 426),
    ("version 8", VERSION, "Version: 8", 426),
    ("version 12", VERSION, "Version: 12", 426),
    ("version 14", VERSION, "Version: 14", 426),
    ("version 255", VERSION, "Version: 255", 426),
    ("version 013", VERSION, "Version: 013", 426),
    ("version x", VERSION, "Version: x", 426),
    ("versions in a list", VERSION, "Version: 13, 8", 426),
    (
        "versions in two lines",
        VERSION,
        "Version: 13\r\nSec-WebSocket-Version: 8",
        426,
    ),
    (
        "no key",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n",
        "",
        400,
    ),
    ("an empty key", KEY, "", 400),
    ("a key of 15 bytes", KEY, "MTIzNDU2Nzg5MDEyMzQ1", 400),
    ("a key of 17 bytes", KEY, "MTIzNDU2Nzg5MDEyMzQ1Njc=", 400),
    ("a key without padding", KEY, "dGhlIHNhbXBsZSBub25jZQ", 400),
    (
        "a key with half of its padding",
        KEY,
        "dGhlIHNhbXBsZSBub25jZQ=",
        400,
    ),
    (
        "a key that is not base64",
        KEY,
        "dGhl*HNhbXBsZSBub25jZQ==",
        400,
    ),
    (
        "a key in the alphabet of URLs",
        KEY,
        "____________________-w==",
        400,
    ),
    (
        "a key with stray bits",
        KEY,
        "dGhlIHNhbXBsZSBub25jZR==",
        400,
    ),
    (
        "a key with a blank in it",
        KEY,
        "dGhlIHNhb XBsZSBub25jZQ==",
        400,
    ),
    (
        "two keys",
        "Sec-WebSocket-Key:",
        "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Key:",
        400,
    ),
    ("a field without a colon", HOST, "Host localhost", 400),
    ("a blank before the colon", HOST, "Host : localhost", 400),
    ("a NUL in a field", HOST, "Host: local\0host", 400),
];

/// Keys and the answers that section 4.2.2 demands, computed with `openssl sha1`.
const KEYS: &[(&str, &str)] = &[
    ("x3JJHMbDL1EzLkh9GBhXDw==", "HSmrc0sMlYUkAGmm5OPpG2HaGWk="),
    ("AAAAAAAAAAAAAAAAAAAAAA==", "ICX+Yqv66kxgM0FcWaLWlFLwTAI="),
    ("/////////////////////w==", "XXpj4jYzLM2yUE0C7TIgMwTQh2g="),
    ("AQIDBAUGBwgJCgsMDQ4PEA==", "C/0nmHhBztSRGR1CwL6Tf4ZjwpY="),
];

pub(crate) fn cases() -> Vec<Case> {
    let good = upgrade("/", &[]);
    let mut cases = Vec::new();
    for (name, from, to) in ACCEPTED {
        assert!(good.contains(from), "{from}");
        let request = good.replace(from, to);
        let case = Case::new(*name).request(&[request.as_bytes()]);
        let case = case
            .field("Upgrade", Some("websocket"))
            .field("Connection", Some("Upgrade"))
            .field("Sec-WebSocket-Protocol", None)
            .field("Sec-WebSocket-Extensions", None);
        cases.push(case.send(frame(TEXT, "hello")).hear(answer(TEXT, "hello")));
    }
    for (name, from, to, status) in REFUSED {
        assert!(good.contains(from), "{from}");
        let request = good.replacen(from, to, 1);
        let mut case = Case::new(*name)
            .request(&[request.as_bytes()])
            .refused(*status);
        if *status == 426 {
            // RFC 9110, section 15.5.22.
            case = case.field("Upgrade", Some("websocket"));
        }
        if name.starts_with("version") {
            // Section 4.4.
            case = case.field("Sec-WebSocket-Version", Some("13"));
        }
        cases.push(case);
    }
    for (key, accept) in KEYS {
        let request = good.replace(KEY, key);
        let case = Case::new(format!("the key {key}")).request(&[request.as_bytes()]);
        cases.push(case.field("Sec-WebSocket-Accept", Some(*accept)));
    }
    let offer = upgrade("/", &["Sec-WebSocket-Protocol: soap, sundown.v1"]);
    let case = Case::new("a subprotocol among others").request(&[offer.as_bytes()]);
    let offers = ["soap", "sundown.v1"].map(|name| format!("Sec-WebSocket-Protocol: {name}"));
    let offers = upgrade("/", &offers.each_ref().map(String::as_str));
    let lines = Case::new("a subprotocol on a second line").request(&[offers.as_bytes()]);
    // A hello follows, which is this server's own: `behaviour` looks at it.
    for case in [case, lines] {
        let case = case.field("Sec-WebSocket-Protocol", Some("sundown.v1"));
        cases.push(case.ignored());
    }
    cases.extend(cut(&good));
    cases
}

/// A request that is cut, and frames that come with it.
fn cut(good: &str) -> Vec<Case> {
    let hello = [frame(TEXT, "hello"), frame(BINARY, b"\xff")].concat();
    let heard = [answer(TEXT, "hello"), answer(BINARY, b"\xff")].concat();
    let all = [good.as_bytes(), &hello].concat();
    let with_close = [all.clone(), close(1000, "")].concat();
    let with_error = [all.clone(), masked(FIN | 0x3, b"")].concat();
    let mut cases = vec![
        Case::new("frames right behind the request")
            .request(&[&all])
            .hear(&heard),
        Case::new("frames and a Close right behind the request")
            .request(&[&with_close])
            .hear(&heard)
            .says(close_answer(1000, "")),
        Case::new("frames and a violation right behind the request")
            .request(&[&with_error])
            .hear(&heard)
            .fails(1002),
    ];
    let bytes: Vec<&[u8]> = all.chunks(1).collect();
    let case = Case::new("the request and frames, byte by byte");
    cases.push(case.request(&bytes).hear(&heard));
    for at in 1..all.len() {
        let (head, tail) = all.split_at(at);
        let name = format!("the request and frames, cut at {at}");
        // Behind a whole request, the rest is sent when the answer has come.
        cases.push(if at < good.len() {
            Case::new(name).request(&[head, tail]).hear(&heard)
        } else {
            Case::new(name).request(&[head]).send(tail).hear(&heard)
        });
    }
    cases
}

/// Offers of extensions, and what the server does not understand when it has declined them.
pub(crate) fn extensions() -> Vec<Case> {
    let offers = [
        "permessage-deflate",
        "permessage-deflate; client_max_window_bits",
        "permessage-deflate; client_max_window_bits=8; server_max_window_bits=8",
        "permessage-deflate; server_no_context_takeover; client_no_context_takeover",
        "permessage-deflate; client_max_window_bits, permessage-deflate",
        "permessage-bzip2",
        "x-webkit-deflate-frame",
        "permessage-deflate; unknown=\"quoted value\"",
        "mux; max-channels=4; flow-control, permessage-deflate",
    ];
    let mut cases = Vec::new();
    for offer in offers {
        let request = upgrade("/", &[&format!("Sec-WebSocket-Extensions: {offer}")]);
        let case = |what: &str| {
            let case = Case::new(format!("{offer}: {what}")).request(&[request.as_bytes()]);
            case.field("Sec-WebSocket-Extensions", None)
        };
        cases.push(
            case("declined")
                .send(frame(TEXT, "a"))
                .hear(answer(TEXT, "a")),
        );
        // "Hello", deflated, as in RFC 7692, section 7.2.3.1.
        let deflated = masked(FIN | 0x40 | TEXT, b"\xf2\x48\xcd\xc9\xc9\x07\x00");
        cases.push(case("compressed all the same").send(deflated).fails(1002));
    }
    cases
}
