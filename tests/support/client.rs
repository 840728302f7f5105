//! A WebSocket client by hand, with a standard client's manners: it answers pings, and it answers
//! a Close with its own after all that it has queued. Both can be switched off.

use std::net::SocketAddr;
use std::time::Duration;

use super::frame::{self, BINARY, CLOSE, PING, PONG, TEXT};
use super::http::{self, Response};
use super::said::{Hello, Said};
use super::server::Server;
use super::stream::{End, Stream};
use super::{PATIENCE, now};

/// What a client meets, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    Text(String),
    Binary(Vec<u8>),
    Ping(Vec<u8>),
    Pong(Vec<u8>),
    /// The server's Close: its code (1005 if there is none, section 7.1.5) and its reason.
    Close(u16, String),
    /// Nothing follows.
    End(End),
}

pub(crate) struct Client {
    pub(crate) stream: Stream,
    /// Data messages that went out before our own Close.
    pub(crate) sent: u64,
    pub(crate) answers_ping: bool,
    pub(crate) answers_close: bool,
    /// Our own Close is on its way: nothing goes out after it.
    closed: bool,
}

impl Client {
    /// Shakes hands, or returns the refusal.
    pub(crate) fn dial(address: SocketAddr, head: &str) -> Result<Self, Response> {
        Self::dial_over(Stream::connect(address), head)
    }

    #[track_caller]
    pub(crate) fn dial_over(mut stream: Stream, head: &str) -> Result<Self, Response> {
        stream.queue(head.as_bytes());
        let response = http::answer(&mut stream, PATIENCE).expect("an answer to the handshake");
        if response.status != 101 {
            return Err(response);
        }
        assert_eq!(response.header("Sec-WebSocket-Accept"), Some(http::ACCEPT));
        Ok(Self::over(stream))
    }

    /// A connection whose handshake is done.
    pub(crate) fn over(stream: Stream) -> Self {
        Self {
            stream,
            sent: 0,
            answers_ping: true,
            answers_close: true,
            closed: false,
        }
    }

    /// A plain client.
    #[track_caller]
    pub(crate) fn plain(server: &Server, path: &str) -> Self {
        Self::dial(server.address, &http::upgrade(path, &[])).expect("101")
    }

    /// A `sundown.v1` client with this session, and the hello that it got.
    #[track_caller]
    pub(crate) fn v1(server: &Server, session: &str) -> (Self, Hello) {
        Self::v1_to(server.address, session)
    }

    #[track_caller]
    pub(crate) fn v1_to(address: SocketAddr, session: &str) -> (Self, Hello) {
        let path = format!("/ws/chat/?session={session}");
        Self::v1_over(Stream::connect(address), &path)
    }

    #[track_caller]
    pub(crate) fn v1_over(stream: Stream, path: &str) -> (Self, Hello) {
        let mut client = Self::dial_over(stream, &http::upgrade_v1(path)).expect("101");
        let hello = match client.hear() {
            Said::Hello(hello) => hello,
            other @ (Said::Count(_) | Said::Time(_) | Said::Bye(_) | Said::Notice(_)) => {
                panic!("no hello first, but {other:?}")
            }
        };
        (client, hello)
    }

    pub(crate) fn text(&mut self, text: &str) {
        self.data(TEXT, text.as_bytes());
    }

    pub(crate) fn binary(&mut self, bytes: &[u8]) {
        self.data(BINARY, bytes);
    }

    /// A message that the kernel has taken when this returns, with all that was queued before it.
    #[track_caller]
    pub(crate) fn send(&mut self, text: &str) {
        self.text(text);
        self.stream.flush();
    }

    fn data(&mut self, first: u8, payload: &[u8]) {
        assert!(!self.closed, "no message follows a Close");
        self.frame(first, payload);
        self.sent += 1;
    }

    /// Any frame; data sent this way is not counted.
    pub(crate) fn frame(&mut self, first: u8, payload: &[u8]) {
        self.stream.queue(&frame::masked(first, payload));
    }

    /// Our own Close.
    pub(crate) fn close(&mut self, code: u16) {
        self.frame(CLOSE, &frame::close_payload(code, ""));
        self.closed = true;
    }

    pub(crate) fn has_closed(&self) -> bool {
        self.closed
    }

    /// The next event, or `None` when the time has passed.
    pub(crate) fn next(&mut self, within: Duration) -> Option<Event> {
        let deadline = now() + within;
        loop {
            if let Some(event) = self.take() {
                return Some(event);
            }
            if now() >= deadline {
                return None;
            }
            self.stream.pump(deadline);
        }
    }

    /// The next event of those that have arrived.
    pub(crate) fn take(&mut self) -> Option<Event> {
        let unread = self.stream.unread();
        let Some((first, range)) = frame::parse(unread) else {
            return self.stream.end().map(Event::End);
        };
        let (payload, end) = (unread[range.clone()].to_vec(), range.end);
        self.stream.take(end);
        Some(match first {
            TEXT => Event::Text(String::from_utf8(payload).expect("text is UTF-8")),
            BINARY => Event::Binary(payload),
            PING => {
                if self.answers_ping && !self.closed {
                    self.frame(PONG, &payload);
                }
                Event::Ping(payload)
            }
            PONG => Event::Pong(payload),
            CLOSE => self.closed_by_peer(&payload),
            other => panic!("a frame that the server never sends: {other:#x}"),
        })
    }

    fn closed_by_peer(&mut self, payload: &[u8]) -> Event {
        let (code, reason) = match payload.split_first_chunk() {
            Some((code, reason)) => (u16::from_be_bytes(*code), reason),
            None => (1005, &[][..]),
        };
        if self.answers_close && !self.closed {
            self.frame(CLOSE, payload.get(..2).unwrap_or_default());
            self.closed = true;
            // Often the last thing that is asked of a client: it must not wait for the next.
            self.stream.write();
        }
        Event::Close(
            code,
            String::from_utf8(reason.to_vec()).expect("a reason is UTF-8"),
        )
    }

    /// The next event, which must come.
    #[track_caller]
    pub(crate) fn meet(&mut self) -> Event {
        self.next(PATIENCE).expect("something from the server")
    }

    /// The next event, which must be a message of the contract.
    #[track_caller]
    pub(crate) fn hear(&mut self) -> Said {
        match self.meet() {
            Event::Text(text) => Said::parse(&text),
            other @ (Event::Binary(_)
            | Event::Ping(_)
            | Event::Pong(_)
            | Event::Close(..)
            | Event::End(_)) => panic!("no message, but {other:?}"),
        }
    }

    /// Sends a message and waits for its count.
    #[track_caller]
    pub(crate) fn say(&mut self, text: &str) -> u64 {
        self.text(text);
        self.count()
    }

    #[track_caller]
    pub(crate) fn count(&mut self) -> u64 {
        match self.hear() {
            Said::Count(count) => count,
            other @ (Said::Time(_) | Said::Bye(_) | Said::Hello(_) | Said::Notice(_)) => {
                panic!("no count, but {other:?}")
            }
        }
    }

    /// Proves that the server has nothing more to say: the next event answers our ping.
    #[track_caller]
    pub(crate) fn hears_nothing_more(&mut self) {
        self.frame(PING, b"anything else?");
        assert_eq!(self.meet(), Event::Pong(b"anything else?".to_vec()));
    }

    /// Skips to the server's Close.
    #[track_caller]
    pub(crate) fn until_close(&mut self) -> (u16, String) {
        loop {
            match self.meet() {
                Event::Close(code, reason) => return (code, reason),
                Event::End(end) => panic!("ended without a Close: {end:?}"),
                Event::Text(_) | Event::Binary(_) | Event::Ping(_) | Event::Pong(_) => {}
            }
        }
    }

    /// Skips to the server's Close, which has this code, and to its FIN.
    #[track_caller]
    pub(crate) fn until_closed(&mut self, code: u16) {
        assert_eq!(self.until_close().0, code);
        assert_eq!(self.until_end(), End::Eof);
    }

    /// Skips to the end of the connection.
    #[track_caller]
    pub(crate) fn until_end(&mut self) -> End {
        loop {
            if let Event::End(end) = self.meet() {
                return end;
            }
        }
    }

    /// Leaves as a standard client does: Close 1000, its answer, and the server's FIN.
    #[track_caller]
    pub(crate) fn leave(mut self) {
        self.close(1000);
        self.until_closed(1000);
    }
}
