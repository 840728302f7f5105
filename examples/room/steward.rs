//! The client of the room's session: a thread that sends back each push that it gets, and confirms a
//! push once the message that it has become is committed. It never looks into one.

use std::collections::VecDeque;
use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::Duration;

use tungstenite::client::IntoClientRequest as _;
use tungstenite::{Error, Message};

/// Closes a connection whose session another one has claimed: the steward of a newer node.
const TAKEN_OVER: u16 = 4001;

/// Attends to the room as long as this node has it.
pub(crate) fn attend(address: SocketAddr, room: &str, key: &str) {
    loop {
        match attend_once(address, room, key) {
            Ok(Some(TAKEN_OVER)) => return log::info!("another node has the room"),
            Ok(code) => log::info!("the room was closed with {code:?}"),
            Err(error) => log::info!("the room was closed: {error}"),
        }
        pause();
    }
}

/// Until the connection ends: with this code, if there was a Close.
#[expect(
    clippy::disallowed_methods,
    reason = "the steward is a thread of its own, which may block"
)]
fn attend_once(address: SocketAddr, room: &str, key: &str) -> Result<Option<u16>, Error> {
    let mut request = format!("ws://{address}/room?session={room}").into_client_request()?;
    let headers = request.headers_mut();
    headers.insert("sec-websocket-protocol", "sundown.v2".parse()?);
    headers.insert("x-room-key", key.parse()?);
    let stream = TcpStream::connect(address)?;
    let Ok((mut socket, _)) = tungstenite::client(request, stream) else {
        return Ok(None);
    };
    // Pushes that are not confirmed: each is a message, and messages are numbered from here on.
    let mut waiting = VecDeque::new();
    let mut counted = 0;
    loop {
        let message = socket.read()?;
        let text = match &message {
            Message::Close(close) => return Ok(close.as_ref().map(|it| it.code.into())),
            Message::Text(text) => text.as_str(),
            Message::Binary(_) | Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => {
                continue;
            }
        };
        if let Some(hello) = text.strip_prefix('h') {
            let hello: serde_json::Value = serde_json::from_str(hello).unwrap_or_default();
            counted = hello["count"].as_u64().unwrap_or(0);
            log::info!("this node has the room");
        } else if let Some(push) = text.strip_prefix('m') {
            waiting.push_back(push.split(' ').next().unwrap_or(push).to_owned());
            // `m` is the kind of a push, and of a message.
            socket.send(message)?;
        } else if let Some(count) = text.strip_prefix('c') {
            let count = count.parse().unwrap_or(counted);
            let mut committed = (counted..count).map_while(|_| waiting.pop_front());
            if let Some(number) = committed.by_ref().last() {
                socket.send(Message::text(format!("a{number}")))?;
            }
            counted = count;
        }
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "it paces the steward's own thread"
)]
fn pause() {
    thread::sleep(Duration::from_millis(100));
}
