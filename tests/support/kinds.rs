//! What the server says to a `sundown.v2` client, held to the letter of the contract: its kinds and
//! no others, with these keys in this order.

use std::net::SocketAddr;

use serde::Deserialize;

use super::client::{Client, Event};
use super::http;
use super::server::Server;

/// A message of the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Told {
    Hello(Hello),
    Count(u64),
    Reply(String),
    Push { number: u64, body: String },
    Binary(Vec<u8>),
    Notice { drain_ms: u64, reconnect_ms: u64 },
    Bye { total: u64, sent: u64 },
    Time(String),
    Broadcast(String),
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Hello {
    pub(crate) session: String,
    pub(crate) incarnation: u64,
    pub(crate) count: u64,
    pub(crate) resumed: bool,
    pub(crate) sent: u64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Notice {
    drain_ms: u64,
    reconnect_ms: u64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Bye {
    total: u64,
    sent: u64,
}

impl Told {
    #[track_caller]
    pub(crate) fn parse(text: &str) -> Self {
        let (kind, rest) = text.split_at_checked(1).expect("a kind");
        let (told, written) = match kind {
            "h" => {
                let hello: Hello = serde_json::from_str(rest).expect("a hello");
                let written = format!(
                    r#"{{"session":"{}","incarnation":{},"count":{},"resumed":{},"sent":{}}}"#,
                    hello.session, hello.incarnation, hello.count, hello.resumed, hello.sent
                );
                (Self::Hello(hello), written)
            }
            "n" => {
                let Notice {
                    drain_ms,
                    reconnect_ms,
                } = serde_json::from_str(rest).expect("a notice");
                let written = format!(r#"{{"drain_ms":{drain_ms},"reconnect_ms":{reconnect_ms}}}"#);
                let told = Self::Notice {
                    drain_ms,
                    reconnect_ms,
                };
                (told, written)
            }
            "b" => {
                let Bye { total, sent } = serde_json::from_str(rest).expect("a goodbye");
                let written = format!(r#"{{"total":{total},"sent":{sent}}}"#);
                (Self::Bye { total, sent }, written)
            }
            "c" => {
                let count: u64 = rest.parse().expect("a number");
                (Self::Count(count), count.to_string())
            }
            "m" => {
                let (number, body) = rest.split_once(' ').expect("a number and a body");
                let number: u64 = number.parse().expect("a number");
                let written = format!("{number} {body}");
                let body = body.to_owned();
                (Self::Push { number, body }, written)
            }
            "r" => (Self::Reply(rest.to_owned()), rest.to_owned()),
            "k" => (Self::Time(rest.to_owned()), rest.to_owned()),
            "o" => (Self::Broadcast(rest.to_owned()), rest.to_owned()),
            _ => panic!("no kind of the contract: {text}"),
        };
        assert_eq!(rest, written, "not to the letter");
        told
    }
}

impl Client {
    /// A `sundown.v2` client with this session, and the hello that it got.
    #[track_caller]
    pub(crate) fn v2(server: &Server, session: &str) -> (Self, Hello) {
        Self::v2_to(server.address, &format!("/ws/chat/?session={session}"))
    }

    #[track_caller]
    pub(crate) fn v2_to(address: SocketAddr, path: &str) -> (Self, Hello) {
        let head = http::upgrade(path, &["Sec-WebSocket-Protocol: sundown.v2"]);
        let mut client = Self::dial(address, &head).expect("101");
        let told = client.told();
        let Told::Hello(hello) = told else {
            panic!("no hello first, but {told:?}")
        };
        (client, hello)
    }

    /// The next event, which must be a message of the contract.
    #[track_caller]
    pub(crate) fn told(&mut self) -> Told {
        match self.meet() {
            Event::Text(text) => Told::parse(&text),
            Event::Binary(bytes) => match bytes.split_first() {
                Some((b'r', body)) => Told::Binary(body.to_owned()),
                _ => panic!("a binary message that is no reply: {bytes:?}"),
            },
            other @ (Event::Ping(_) | Event::Pong(_) | Event::Close(..) | Event::End(_)) => {
                panic!("no message, but {other:?}")
            }
        }
    }

    /// Reads on until messages up to this number are committed.
    #[track_caller]
    pub(crate) fn until_count(&mut self, count: u64) {
        let mut last = 0;
        while last < count {
            let told = self.told();
            if let Told::Count(next) = told {
                assert!(next > last && next <= count, "{next} after {last}");
                last = next;
            } else {
                let is_between = matches!(told, Told::Reply(_) | Told::Binary(_) | Told::Time(_));
                assert!(is_between, "no count, but {told:?}");
            }
        }
    }
}
