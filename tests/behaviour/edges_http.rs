//! Goal: every request gets the status that it deserves and a clean end, and none that is cut,
//! long, or garbage harms the next.
//! Method: raw request bytes; cases are data.

use std::time::UNIX_EPOCH;

use crate::support::client::Client;
use crate::support::http::{Response, exchange, get, request, upgrade};
use crate::support::server::Server;
use crate::support::stream::{End, Stream};

/// The answer to these bytes has this status and ends cleanly.
#[track_caller]
fn check(server: &Server, bytes: &[u8], status: &[u16]) -> Response {
    let response = exchange(server.address, bytes);
    let what = String::from_utf8_lossy(&bytes[..bytes.len().min(200)]).into_owned();
    assert!(status.contains(&response.status), "{what}: {response:?}");
    assert_eq!(response.end, Some(End::Eof), "{what}");
    response
}

#[test]
fn health_and_readiness() {
    let server = Server::start("memory:", &[]);
    for address in [server.address, server.admin] {
        for path in ["/healthz", "/readyz", "/healthz?from=balancer"] {
            let response = get(address, path);
            assert_eq!(
                (response.status, response.end),
                (200, Some(End::Eof)),
                "{path}"
            );
            let body: serde_json::Value = serde_json::from_str(&response.body).expect("JSON");
            assert!(body.is_object(), "{body}");
        }
        for path in ["/healthz/", "/ws", "/ws/chat/more", "/favicon.ico"] {
            assert_eq!(get(address, path).status, 404, "{path}");
        }
        for (method, path) in [("POST", "/healthz"), ("DELETE", "/readyz")] {
            let response = request(address, method, path);
            assert_eq!(response.status, 405, "{method} {path}");
            // RFC 9110, section 15.5.6.
            let allowed = response.header("Allow").unwrap_or_default();
            assert!(allowed.contains("GET"), "{method} {path}: Allow: {allowed}");
        }
    }
    // As HAProxy's `option httpchk` asks, which sends no Host by default.
    for probe in [
        "OPTIONS /readyz HTTP/1.0\r\n\r\n",
        "HEAD /readyz HTTP/1.0\r\n\r\n",
    ] {
        for address in [server.address, server.admin] {
            let response = exchange(address, probe.as_bytes());
            assert_eq!(response.header("Access-Control-Allow-Origin"), None);
            assert_eq!((response.status, response.end), (200, Some(End::Eof)));
        }
    }
    let metrics = get(server.admin, "/metrics");
    assert_eq!(metrics.status, 200);
    let kind = metrics.header("Content-Type").unwrap_or_default();
    assert!(kind.starts_with("text/plain"), "{kind}");
    assert!(metrics.body.contains("# TYPE sundown_"), "{}", metrics.body);
    assert_eq!(
        get(server.address, "/metrics").status,
        404,
        "not for the public"
    );
}

/// RFC 9110, section 6.6.1.
#[test]
fn every_answer_has_the_date() {
    let server = Server::start("memory:", &[]);
    let second_of_day = || UNIX_EPOCH.elapsed().expect("1970 is over").as_secs() % 86_400;
    let upgrade = upgrade("/ws/chat/?session=", &[]);
    let paths = ["/healthz", "/", "/sundown.js", "/x", "/ws/chat/"];
    let mut requests: Vec<_> = paths
        .map(|path| format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n"))
        .into();
    requests.extend([upgrade, "nonsense\r\n\r\n".to_owned()]);
    for address in [server.address, server.admin] {
        for request in &requests {
            let before = second_of_day();
            let response = exchange(address, request.as_bytes());
            let after = second_of_day();
            let date = response.header("Date").unwrap_or_default();
            // Sat, 28 Nov 2026 19:41:02 GMT
            assert!(date.len() == 29 && date.ends_with(" GMT"), "{date:?}");
            let unit = |at: usize| date[at..at + 2].parse::<u64>().expect("two digits");
            let said = unit(17) * 3_600 + unit(20) * 60 + unit(23);
            let is_now = before <= said && said <= after || after < before;
            assert!(is_now, "{before} to {after}: {date}");
        }
    }
}

/// A page whose name was made to mean this machine asks under that name.
#[test]
fn operators_ask_under_known_names() {
    let server = Server::start("memory:", &["--admin-hosts", "app_blue:8001,ops"]);
    let ask = |path: &str, host: &str| {
        let request = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n");
        let response = exchange(server.admin, request.as_bytes());
        assert_eq!(response.end, Some(End::Eof));
        response.status
    };
    for path in ["/metrics", "/healthz", "/readyz"] {
        for host in ["127.0.0.1", "localhost:8001", "app_blue:8001", "ops:7"] {
            assert_eq!(ask(path, host), 200, "{path} {host}");
        }
        for host in ["rebound.example:8001", "app_blue:1", "app_green:8001", ""] {
            assert_eq!(ask(path, host), 421, "{path} {host}");
        }
    }
    let post = "POST /broadcast HTTP/1.1\r\nHost: rebound.example\r\nContent-Length: 1\r\n\r\n1";
    assert_eq!(exchange(server.admin, post.as_bytes()).status, 421);
    let refused = "http_responses_total{code=\"421\",listener=\"admin\"}";
    assert_eq!(server.metric(refused), Some(13));
}

#[test]
fn a_target_that_is_none_is_named() {
    let server = Server::start("memory:", &[]);
    for target in ["/ws/chat/?a=\"b\"", "/ws/chat/?session=a#b"] {
        let response = check(&server, upgrade(target, &[]).as_bytes(), &[400]);
        assert!(response.body.contains("target"), "{}", response.body);
    }
    let bytes = b"GET /ws/caf\xe9 HTTP/1.1\r\nHost: x\r\n\r\n";
    let response = check(&server, bytes, &[400]);
    assert!(response.body.contains("target"), "{}", response.body);
}

#[test]
fn session_ids() {
    let server = Server::start("memory:", &[]);
    let longest = "x".repeat(128);
    for id in ["a", "A.z_~-9", "-", &longest] {
        let head = upgrade(&format!("/ws/chat/?session={id}"), &[]);
        assert!(Client::dial(server.address, &head).is_ok(), "{id}");
    }
    let too_long = "x".repeat(129);
    for id in ["", "a/b", "a%20b", "a+b", "%41", "a'b", "ü", &too_long] {
        check(
            &server,
            upgrade(&format!("/ws/chat/?session={id}"), &[]).as_bytes(),
            &[400],
        );
    }
    let head = upgrade("/ws/chat/?color=blue&session=a&x", &[]);
    assert!(Client::dial(server.address, &head).is_ok());
}

#[test]
fn origins() {
    let flags = [
        "--allowed-origins=https://example.org:443,https://www.example.org:8443,https://*.apps.example,file://",
    ];
    let server = Server::start("memory:", &flags);
    let head = |origin: &str| upgrade("/ws/chat/", &[&format!("Origin: {origin}")]);
    for foreign in ["https://evil.example", "https://apps.example", "null"] {
        check(&server, head(foreign).as_bytes(), &[403]);
    }
    for own in ["https://example.org", "https://one.apps.example", "file://"] {
        assert!(Client::dial(server.address, &head(own)).is_ok(), "{own}");
    }
    // Not a browser: the check protects visitors of other pages.
    assert!(Client::dial(server.address, &upgrade("/ws/chat/", &[])).is_ok());
    let open = Server::start("memory:", &[]);
    assert!(Client::dial(open.address, &head("https://evil.example")).is_ok());
}

#[test]
fn heads_over_16_kib_are_431() {
    let server = Server::start("memory:", &[]);
    let filler = format!("X-Filler: {}", "x".repeat(16 << 10));
    check(&server, upgrade("/ws/chat/", &[&filler]).as_bytes(), &[431]);
    let path = format!("GET /{} HTTP/1.1\r\n", "x".repeat(20_000));
    check(&server, path.as_bytes(), &[414, 431]);
    let lines = vec!["X-Line: 1"; 2_000];
    check(&server, upgrade("/ws/chat/", &lines).as_bytes(), &[431]);
    // A flood that goes on is not cut off from its answer by a reset.
    let flood = format!("GET / HTTP/1.1\r\nX: {}", "x".repeat(4 << 20));
    for _ in 0..10 {
        check(&server, flood.as_bytes(), &[431]);
    }
    // Just below it is fine, in however many lines a browser might send.
    let filler = format!("X-Filler: {}", "x".repeat(15_000));
    assert!(Client::dial(server.address, &upgrade("/ws/chat/", &[&filler])).is_ok());
    let lines = vec!["X-Line: 1"; 60];
    assert!(Client::dial(server.address, &upgrade("/ws/chat/", &lines)).is_ok());
}

#[test]
fn garbage_is_400() {
    let server = Server::start("memory:", &[]);
    for bytes in [
        &b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"[..],
        b"hello\r\n\r\n",
        b"GET /\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET / HTTP/1.1\r\nno colon\r\n\r\n",
        b"GET / HTTP/1.1\r\n: no name\r\n\r\n",
        b"\0\0\0\0\0\0\0\0",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ] {
        check(&server, bytes, &[400, 505]);
    }
    let noise: Vec<u8> = (0..1 << 20)
        .map(|at: u32| (at.wrapping_mul(2_654_435_761) >> 24) as u8)
        .collect();
    check(&server, &noise, &[400]);
    assert_eq!(get(server.address, "/healthz").status, 200);
}

/// The client hangs up at every byte: a clean end, an error perhaps, and the server lives.
#[test]
fn a_handshake_that_ends_at_every_byte() {
    let server = Server::start("memory:", &[]);
    let head = upgrade("/ws/chat/", &[]);
    for cut in 0..head.len() {
        let mut stream = Stream::connect(server.address);
        stream.queue(&head.as_bytes()[..cut]);
        stream.finish();
        let answer = stream.hear_out();
        assert!(
            answer.is_empty() || answer.starts_with("HTTP/1.1 4"),
            "cut at {cut}: {answer}"
        );
    }
    assert_eq!(get(server.address, "/healthz").status, 200);
}
