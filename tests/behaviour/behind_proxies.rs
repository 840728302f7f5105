//! Goal: behind trusted proxies the client's address is what they say, in a PROXY header of either
//! version or in X-Forwarded-For; nobody else is believed, and a header that is missing, bad, or not
//! expected gets a 400 that names the setting. Method: the built binary, which trusts 127.0.0.2; raw
//! bytes from there, and from 127.0.0.1; the log at debug.

use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::Command;

use tempfile::TempDir;

use crate::support::client::Client;
use crate::support::http::{self, Response};
use crate::support::server::{BINARY, Server, run};
use crate::support::stream::{End, Stream};
use crate::support::{PATIENCE, eventually};

const PROXY: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);
const STRANGER: Ipv4Addr = Ipv4Addr::LOCALHOST;

const ON: [&str; 4] = [
    "--proxy-protocol=on",
    "--trusted-proxies=127.0.0.2",
    "--log",
    "debug",
];

const LINE: &[u8] = b"PROXY TCP4 203.0.113.9 192.0.2.1 4711 443\r\n";
const LINE_6: &[u8] = b"PROXY TCP6 2001:db8::9 ::1 4711 443\r\n";
const UNKNOWN: &[u8] = b"PROXY UNKNOWN\r\n";
const LOCAL: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0";
/// With a field behind the addresses.
const BLOCK: &[u8] =
    b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x11\xcb\0\x71\x09\xc0\0\x02\x01\x12\x67\x01\xbb\
                       \x04\0\x02ab";

fn from(source: Ipv4Addr, to: SocketAddr) -> Stream {
    Stream::connect_from(source, to)
}

fn get(path: &str) -> Vec<u8> {
    http::head_of("GET", path).into_bytes()
}

/// The answer to these bytes, which must end cleanly.
#[track_caller]
fn exchange(mut stream: Stream, bytes: &[&[u8]]) -> Response {
    stream.queue(&bytes.concat());
    let answer = http::answer(&mut stream, PATIENCE).expect("an answer");
    if answer.status != 101 {
        assert_eq!(answer.end, Some(End::Eof), "{answer:?}");
    }
    answer
}

/// How often the log says that a client has this address, and by whom.
#[track_caller]
fn until_named(server: &Server, client: &str, by: &str, times: usize) {
    let line = format!("its client is {client}, by {by}");
    eventually(&line, || server.log().count(&line) == times);
}

#[test]
fn a_header_of_either_version_names_the_client() {
    let server = Server::start("memory:", &ON);
    let block_6 = {
        let client = "2001:db8::9"
            .parse::<std::net::Ipv6Addr>()
            .expect("an address");
        let ends = [client.octets(), client.octets()].concat();
        [&LOCAL[..12], b"\x21\x21\0\x24", &ends, b"\x12\x67\x01\xbb"].concat()
    };
    let upgrade = http::upgrade("/ws/chat/", &[]);
    for header in [LINE, BLOCK, LINE_6, &block_6] {
        let mut stream = from(PROXY, server.address);
        // With the first message in the same bytes.
        stream.queue(&[header, upgrade.as_bytes(), b"\x81\x80\0\0\0\0"].concat());
        let answer = http::head(&mut stream, PATIENCE).expect("an answer");
        assert_eq!(answer.status, 101);
        assert_eq!(Client::over(stream).count(), 1);
        // Operators' requests, too, with a body.
        let post = "POST /broadcast HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\n\r\n1";
        let answer = exchange(from(PROXY, server.admin), &[header, post.as_bytes()]);
        assert_eq!(answer.status, 200, "{answer:?}");
    }
    for client in ["203.0.113.9:4711", "[2001:db8::9]:4711"] {
        until_named(&server, client, "the PROXY header", 4);
    }
}

#[test]
fn a_header_that_comes_byte_by_byte_is_the_same() {
    let server = Server::start("memory:", &ON);
    for (done, header) in [LINE, BLOCK].into_iter().enumerate() {
        let mut stream = from(PROXY, server.address);
        for (at, byte) in header.iter().enumerate() {
            stream.queue(&[*byte]);
            stream.flush();
            let expected = (at + 1) % header.len();
            eventually("the byte is there, and no more", || {
                server.metric("held_bytes{kind=\"received\"}") == Some(expected as u64)
            });
        }
        let answer = exchange(stream, &[&get("/readyz")]);
        assert_eq!(answer.status, 200);
        until_named(&server, "203.0.113.9:4711", "the PROXY header", done + 1);
    }
}

#[test]
fn a_proxy_that_speaks_for_itself_is_the_client() {
    let server = Server::start("memory:", &ON);
    for header in [LOCAL, UNKNOWN] {
        for address in [server.address, server.admin] {
            let answer = exchange(from(PROXY, address), &[header, &get("/readyz")]);
            assert_eq!(answer.status, 200, "{answer:?}");
        }
    }
    // The last request has its line, and so have all before it.
    assert_eq!(http::get(server.address, "/last").status, 404);
    server.log().until("404 for GET /last");
    assert_eq!(server.log().count("from 127.0.0.2:"), 4);
    assert_eq!(server.log().count("its client is"), 0);
}

#[test]
fn a_header_that_is_not_expected_is_refused_and_the_setting_named() {
    let off = Server::start("memory:", &["--trusted-proxies=127.0.0.2"]);
    let on = Server::start("memory:", &ON);
    let long = [&LOCAL[..12], b"\x21\0\xff\xff"].concat();
    let bad = b"PROXY TCP4 203.0.113.9 192.0.2.1 4711\r\n";
    let (none, not_trusted, second) = (
        "no PROXY header: --proxy-protocol is on, and this peer is in --trusted-proxies",
        "a PROXY header, and this peer is not in --trusted-proxies",
        "a second PROXY header",
    );
    let is_off = "a PROXY header, and --proxy-protocol is off";
    for (server, source, header, text) in [
        (&off, PROXY, LINE, is_off),
        (&off, STRANGER, BLOCK, is_off),
        (&off, STRANGER, LOCAL, is_off),
        (&off, STRANGER, UNKNOWN, is_off),
        (&on, STRANGER, LINE, not_trusted),
        (&on, STRANGER, BLOCK, not_trusted),
        (&on, PROXY, b"", none),
        (&on, PROXY, b"\x16\x03\x01", none),
        (&on, PROXY, bad, "a bad PROXY header"),
        (&on, PROXY, &long, "a PROXY header that is too long"),
        (&on, PROXY, &[LINE, BLOCK].concat(), second),
        (&on, PROXY, &[LOCAL, LINE].concat(), second),
    ] {
        for address in [server.address, server.admin] {
            let answer = exchange(from(source, address), &[header, &get("/readyz")]);
            assert_eq!(answer.status, 400, "{text}: {answer:?}");
            assert_eq!(answer.body, format!("{{\"error\":\"{text}\"}}\n"));
        }
    }
    for server in [&off, &on] {
        server.assert_healthy();
        // What a proxy does wrong is told once, and what a stranger does, never.
        let told = "connections of the trusted proxy 127.0.0.2 are refused: ";
        eventually("it is told", || server.log().count(told) == 1);
        assert_eq!(server.log().count("127.0.0.1 are refused"), 0);
    }
    eventually("each has a line", || {
        on.log().count(&format!(": 400, {second}")) == 4
    });
}

#[test]
fn what_a_proxy_has_forwarded_names_the_client_and_what_a_client_writes_does_not() {
    let forwarded = "X-Forwarded-For: 198.51.100.1, 203.0.113.9, 127.0.0.2";
    let upgrade = http::upgrade("/ws/chat/", &[forwarded]).into_bytes();
    let by = "X-Forwarded-For";
    let off = Server::start("memory:", &["--trusted-proxies=127.0.0.2", "--log=debug"]);
    let status = |stream, bytes: &[&[u8]]| exchange(stream, bytes).status;
    assert_eq!(status(from(PROXY, off.address), &[&upgrade]), 101);
    until_named(&off, "203.0.113.9:0", by, 1);
    assert_eq!(status(from(STRANGER, off.address), &[&upgrade]), 101);
    assert_eq!(http::get(off.address, "/last").status, 404);
    off.log().until("404 for GET /last");
    assert_eq!(
        off.log().count("its client is"),
        1,
        "it could write anything"
    );

    let on = Server::start("memory:", &ON);
    let by_proxy = b"PROXY TCP4 127.0.0.2 192.0.2.1 4711 443\r\n";
    assert_eq!(status(from(STRANGER, on.address), &[&upgrade]), 101);
    assert_eq!(status(from(PROXY, on.address), &[LOCAL, &upgrade]), 101);
    until_named(&on, "203.0.113.9:0", by, 1);
    assert_eq!(status(from(PROXY, on.address), &[by_proxy, &upgrade]), 101);
    until_named(&on, "203.0.113.9:0", by, 2);
    let client = b"PROXY TCP4 192.0.2.7 192.0.2.1 4711 443\r\n";
    assert_eq!(status(from(PROXY, on.address), &[client, &upgrade]), 101);
    until_named(&on, "192.0.2.7:4711", "the PROXY header", 1);
    assert_eq!(on.log().count("its client is"), 3);

    let nobody = Server::start("memory:", &["--log=debug"]);
    assert_eq!(status(from(PROXY, nobody.address), &[&upgrade]), 101);
    assert_eq!(http::get(nobody.address, "/last").status, 404);
    nobody.log().until("404 for GET /last");
    assert_eq!(nobody.log().count("its client is"), 0);
}

#[test]
fn a_header_is_in_time_with_the_request_behind_it() {
    let flags = [&ON[..], &["--handshake-timeout=300ms"]].concat();
    let server = Server::start("memory:", &flags);
    for address in [server.address, server.admin] {
        let answer = exchange(from(PROXY, address), &[&BLOCK[..20]]);
        assert_eq!(answer.status, 408);
        let answer = exchange(from(PROXY, address), &[LINE, b"GET /"]);
        assert_eq!(answer.status, 408);
        // A client that has said nothing gets no answer, as without a proxy.
        let mut silent = from(PROXY, address);
        silent.queue(LINE);
        assert_eq!(silent.hear_out(), "");
        assert_eq!(silent.end(), Some(End::Eof));
    }
}

#[test]
fn whoever_may_connect_to_a_socket_in_the_file_system_is_a_proxy_if_the_list_says_so() {
    for (list, status) in [("unix", 200), ("127.0.0.0/8", 400)] {
        let dir = TempDir::new().expect("a temporary directory");
        let path = dir.path().join("ws.sock");
        let listen = format!("unix:{}", path.display());
        let flags = ["--listen", &listen, "--trusted-proxies", list];
        let flags = [&flags[..], &["--proxy-protocol=on", "--log=debug"]].concat();
        let (process, _dir) = Server::spawn(Command::new(BINARY), "memory:", &flags);
        process.stdout.until("ready");
        let stream =
            || Stream::over(TcpStream::from(OwnedFd::from(dial(&path)))).expect("a socket");
        assert_eq!(exchange(stream(), &[LINE, &get("/readyz")]).status, status);
        eventually("the client is named, or not", || {
            let refused = "400, a PROXY header, and this peer is not in --trusted-proxies";
            let said = if status == 200 {
                "its client is 203.0.113.9:4711"
            } else {
                refused
            };
            process.stderr.count(said) == 1
        });
        // The health check of a container sends what the server waits for.
        let check = ["healthcheck", "--admin=off"];
        let check = run(&[&check[..], &flags].concat());
        assert_eq!(check.status.code(), Some(0), "{check:?}");
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "the ban is for the server's loop; this is a client's thread"
)]
fn dial(path: &std::path::Path) -> UnixStream {
    UnixStream::connect(path).expect("the socket takes the connection")
}

#[test]
fn commands_with_the_settings_of_the_server_are_served() {
    let behind = ["--proxy-protocol=on", "--trusted-proxies=127.0.0.1"];
    let server = Server::listening(Command::new(BINARY), "memory:", &behind);
    server.process.stdout.until("ready");
    let places = [
        format!("--listen={}", server.address),
        format!("--admin={}", server.admin),
    ];
    for command in [&["healthcheck"][..], &["smoke"], &["broadcast", "1"]] {
        let places = places.iter().map(String::as_str);
        let args: Vec<&str> = command.iter().copied().chain(places).collect();
        let refused = run(&args);
        assert_eq!(refused.status.code(), Some(1), "{refused:?}");
        assert!(
            String::from_utf8_lossy(&refused.stderr).contains("400"),
            "{refused:?}"
        );
        let passed = run(&[&args[..], &behind].concat());
        assert_eq!(passed.status.code(), Some(0), "{passed:?}");
        // Whom the server does not take for a proxy sends no header.
        let elsewhere = ["--proxy-protocol=on", "--trusted-proxies=127.0.0.2"];
        let refused = run(&[&args[..], &elsewhere].concat());
        assert!(
            String::from_utf8_lossy(&refused.stderr).contains("400"),
            "{refused:?}"
        );
    }
}
