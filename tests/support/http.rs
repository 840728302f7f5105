//! The HTTP that a client needs: one request, and the whole answer until the server's FIN.

use std::net::SocketAddr;
use std::time::Duration;

use super::stream::{End, Stream};
use super::{PATIENCE, now};

/// The sample key of RFC 6455, section 1.3, and the answer that it demands.
pub(crate) const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
pub(crate) const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

/// An answer, read to the end of the connection (or, for a 101, to the end of the head).
#[derive(Debug)]
pub(crate) struct Response {
    pub(crate) status: u16,
    pub(crate) body: String,
    pub(crate) end: Option<End>,
    head: String,
}

impl Response {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().skip(1).find_map(|line| {
            let (found, value) = line.split_once(':')?;
            found.eq_ignore_ascii_case(name).then_some(value.trim())
        })
    }
}

/// The head of an upgrade request, with more header lines if there are any.
pub(crate) fn upgrade(path: &str, more: &[&str]) -> String {
    let mut head = format!(
        "GET {path} HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Key: {KEY}\r\nSec-WebSocket-Version: 13\r\n"
    );
    for line in more {
        head.push_str(line);
        head.push_str("\r\n");
    }
    head + "\r\n"
}

/// The same of a client of `sundown.v1`.
pub(crate) fn upgrade_v1(path: &str) -> String {
    upgrade(path, &["Sec-WebSocket-Protocol: sundown.v1"])
}

/// The value of this sample at an admin listener, if it is there; without `sundown_`.
#[track_caller]
pub(crate) fn metric(admin: SocketAddr, sample: &str) -> Option<u64> {
    let page = get(admin, "/metrics").body;
    let samples = page
        .lines()
        .filter_map(|line| line.strip_prefix("sundown_")?.rsplit_once(' '));
    let mut values = samples.filter(|(name, _)| *name == sample);
    values.next()?.1.parse().ok()
}

#[track_caller]
pub(crate) fn get(address: SocketAddr, path: &str) -> Response {
    request(address, "GET", path)
}

#[track_caller]
pub(crate) fn request(address: SocketAddr, method: &str, path: &str) -> Response {
    exchange(address, head_of(method, path).as_bytes())
}

/// The head of a request that is no upgrade.
pub(crate) fn head_of(method: &str, path: &str) -> String {
    format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
}

/// Sends these bytes on a new connection and reads the answer.
#[track_caller]
pub(crate) fn exchange(address: SocketAddr, bytes: &[u8]) -> Response {
    let mut stream = Stream::connect(address);
    stream.queue(bytes);
    answer(&mut stream, PATIENCE).expect("an answer")
}

/// Reads an answer; `None` if the connection ended, or the time passed, without one.
pub(crate) fn answer(stream: &mut Stream, within: Duration) -> Option<Response> {
    let deadline = now() + within;
    let mut response = head(stream, within)?;
    if response.status != 101 {
        while stream.end().is_none() && now() < deadline {
            stream.pump(deadline);
        }
        response.body = String::from_utf8_lossy(stream.unread()).into_owned();
        response.end = stream.end();
    }
    Some(response)
}

/// Reads the head of an answer alone: for peers that keep the connection open after it.
pub(crate) fn head(stream: &mut Stream, within: Duration) -> Option<Response> {
    let deadline = now() + within;
    let head = loop {
        if let Some(len) = head_len(stream.unread()) {
            let head = String::from_utf8_lossy(&stream.unread()[..len]).into_owned();
            stream.take(len);
            break head;
        }
        if stream.end().is_some() || now() >= deadline {
            return None;
        }
        stream.pump(deadline);
    };
    let status = head
        .get(9..12)
        .and_then(|code| code.parse().ok())
        .expect("an HTTP status line");
    Some(Response {
        status,
        body: String::new(),
        end: stream.end(),
        head,
    })
}

fn head_len(bytes: &[u8]) -> Option<usize> {
    bytes
        .windows(4)
        .position(|four| four == b"\r\n\r\n")
        .map(|at| at + 4)
}
