//! One connection of a client, over a socket that never blocks: the handshake, then frames. It
//! answers pings, and a Close after all that it has queued. It never decides when to connect.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use mio::net::TcpStream;
use mio::{Interest, Registry, Token};

use super::ledger::Seat;
use crate::support::frame::{self, CLOSE, PING, PONG, TEXT};
use crate::support::http;
use crate::support::kinds::Told;
use crate::support::said::{Hello, Notice, Said};

#[expect(
    clippy::struct_excessive_bools,
    reason = "each is one thing that it is or has done"
)]
pub(crate) struct Link {
    socket: TcpStream,
    pub(crate) stage: Stage,
    pub(crate) seat: Seat,
    pub(crate) since: Instant,
    /// What the server has asked to wait, after this connection.
    pub(crate) retry_after: Option<Duration>,
    /// The total of the goodbye.
    pub(crate) bye: Option<u64>,
    /// Of the server's Close.
    pub(crate) close_code: Option<u16>,
    /// How the socket failed, if it has not come to its end.
    pub(crate) error: Option<ErrorKind>,
    /// The notice of a shutdown has come.
    pub(crate) is_told: bool,
    /// It has said that it sends no more messages.
    pub(crate) is_leaving: bool,
    /// Each message begins with its kind.
    pub(crate) is_v2: bool,
    /// Answers a Close, as it should.
    pub(crate) answers_close: bool,
    inbound: Vec<u8>,
    outbound: Vec<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// Connects and shakes hands.
    Shaking,
    /// Waits for the hello.
    Greeting,
    Open,
    /// A Close has been sent, or should have been: reads to the end.
    Parting,
}

/// What came.
#[derive(Debug)]
pub(crate) enum Heard {
    Upgraded,
    Said(Said),
    Pushed {
        number: u64,
        body: String,
    },
    /// Refused, cut or ended: nothing follows.
    End,
}

impl Link {
    pub(crate) fn dial(
        address: SocketAddr,
        head: &str,
        (registry, token): (&Registry, Token),
        now: Instant,
    ) -> std::io::Result<Self> {
        let mut socket = TcpStream::connect(address)?;
        registry.register(&mut socket, token, Interest::READABLE | Interest::WRITABLE)?;
        socket.set_nodelay(true)?;
        Ok(Self {
            socket,
            stage: Stage::Shaking,
            seat: Seat::default(),
            since: now,
            retry_after: None,
            bye: None,
            close_code: None,
            error: None,
            is_told: false,
            is_leaving: false,
            is_v2: false,
            answers_close: true,
            inbound: Vec::new(),
            outbound: head.as_bytes().to_vec(),
        })
    }

    /// A receive buffer of a few kilobytes: what is not read waits at the server.
    pub(crate) fn shrink_window(&self) {
        rustix::net::sockopt::set_socket_recv_buffer_size(&self.socket, 4 << 10)
            .expect("a socket takes a buffer size");
    }

    pub(crate) fn unwritten(&self) -> usize {
        self.outbound.len()
    }

    /// A message for the application.
    pub(crate) fn message(&mut self, body: &str) {
        let kind = if self.is_v2 { "m" } else { "" };
        self.text(&format!("{kind}{body}"));
    }

    /// No more messages: the answer to a notice.
    pub(crate) fn leave(&mut self) {
        self.text("q");
        self.is_leaving = true;
    }

    /// The pushes up to this number have come.
    pub(crate) fn confirm(&mut self, number: u64) {
        if self.stage == Stage::Open {
            self.text(&format!("a{number}"));
        }
    }

    fn text(&mut self, text: &str) {
        let masked = frame::masked(TEXT, text.as_bytes());
        self.outbound.extend_from_slice(&masked);
    }

    /// Our own Close; nothing goes out after it.
    pub(crate) fn close(&mut self, code: u16) {
        let payload = frame::close_payload(code, "");
        let masked = frame::masked(CLOSE, &payload);
        self.outbound.extend_from_slice(&masked);
        self.stage = Stage::Parting;
    }

    /// Writes what the kernel takes. `false` if the connection is broken; what came before that
    /// can still be read.
    pub(crate) fn write(&mut self) -> bool {
        while !self.outbound.is_empty() {
            match self.socket.write(&self.outbound) {
                Ok(len) => drop(self.outbound.drain(..len)),
                Err(error) if is_later(error.kind()) => return true,
                Err(_) => return false,
            }
        }
        true
    }

    /// Reads up to so many bytes; `false` at the end of the connection.
    pub(crate) fn read(&mut self, bytes_max: usize) -> bool {
        let mut left = bytes_max;
        let mut chunk = [0; 16 << 10];
        while left > 0 {
            let room = left.min(chunk.len());
            match self.socket.read(&mut chunk[..room]) {
                Ok(0) => return false,
                Ok(len) => {
                    self.inbound.extend_from_slice(&chunk[..len]);
                    left -= len;
                }
                Err(error) if is_later(error.kind()) => return true,
                Err(error) => {
                    self.error = Some(error.kind());
                    return false;
                }
            }
        }
        true
    }

    /// The next of what has been read.
    pub(crate) fn take(&mut self) -> Option<Heard> {
        if self.stage == Stage::Shaking {
            let end = self
                .inbound
                .windows(4)
                .position(|four| four == b"\r\n\r\n")?
                + 4;
            let upgraded = self.inbound.starts_with(b"HTTP/1.1 101");
            self.inbound.drain(..end);
            if !upgraded {
                return Some(Heard::End);
            }
            self.stage = Stage::Greeting;
            return Some(Heard::Upgraded);
        }
        loop {
            let (first, range) = frame::parse(&self.inbound)?;
            let (payload, end) = (self.inbound[range.clone()].to_vec(), range.end);
            self.inbound.drain(..end);
            match first {
                TEXT => {
                    let text = String::from_utf8(payload).expect("text is UTF-8");
                    return Some(if self.is_v2 {
                        heard(Told::parse(&text))
                    } else {
                        Heard::Said(Said::parse(&text))
                    });
                }
                PING if self.stage != Stage::Parting => {
                    let pong = frame::masked(PONG, &payload);
                    self.outbound.extend_from_slice(&pong);
                }
                PING | PONG => {}
                CLOSE => self.closed_by_peer(&payload),
                other => panic!("a frame that the server never sends: {other:#x}"),
            }
        }
    }

    fn closed_by_peer(&mut self, payload: &[u8]) {
        let code = payload.first_chunk().copied().map(u16::from_be_bytes);
        self.close_code = code;
        let reason = String::from_utf8_lossy(payload.get(2..).unwrap_or_default()).into_owned();
        let wait = reason.strip_prefix("server shutdown; retry-after-ms=");
        let wait = wait.and_then(|wait| wait.parse().ok());
        self.retry_after = wait.map(Duration::from_millis);
        if self.stage != Stage::Parting && self.answers_close {
            let masked = frame::masked(CLOSE, payload.get(..2).unwrap_or_default());
            self.outbound.extend_from_slice(&masked);
        }
        self.stage = Stage::Parting;
    }
}

fn is_later(kind: ErrorKind) -> bool {
    matches!(
        kind,
        ErrorKind::WouldBlock | ErrorKind::Interrupted | ErrorKind::NotConnected
    )
}

/// The same, as a `sundown.v1` client hears it, but for pushes.
fn heard(told: Told) -> Heard {
    Heard::Said(match told {
        Told::Hello(hello) => Said::Hello(Hello {
            session: hello.session,
            count: hello.count,
            resumed: hello.resumed,
        }),
        Told::Count(count) => Said::Count(count),
        Told::Notice {
            drain_ms,
            reconnect_ms,
        } => Said::Notice(Notice {
            shutdown: true,
            drain_ms,
            reconnect_ms,
        }),
        Told::Bye { total, .. } => Said::Bye(total),
        Told::Time(time) => Said::Time(time),
        Told::Push { number, body } => return Heard::Pushed { number, body },
        Told::Reply(_) | Told::Binary(_) | Told::Broadcast(_) => {
            panic!("nobody asked for {told:?}")
        }
    })
}

/// The request for a session's connection, with this subprotocol. Pushes up to this number have come.
pub(crate) fn upgrade(session: &str, protocol: Option<&str>, received: u64) -> String {
    let protocol = protocol.map(|name| format!("Sec-WebSocket-Protocol: {name}"));
    let fields: Vec<&str> = protocol.as_deref().into_iter().collect();
    let received = match received {
        0 => String::new(),
        number => format!("&received={number}"),
    };
    http::upgrade(&format!("/ws/chat/?session={session}{received}"), &fields)
}
