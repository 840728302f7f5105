//! Each demand of the opening handshake, each target, and what a request gets for it.

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
        ("received=1&incarnation=1", 101),
        ("incarnation=1&incarnation=1", 400),
        ("incarnation=x", 400),
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
