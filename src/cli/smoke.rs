//! `sundown smoke`: is served once as a client is, for deploys that switch traffic afterwards: a
//! new session, one message, its count, and the closing handshake, all within five seconds. What
//! the server says is judged in [`said`]; it must never print a session id, and never take a
//! session that is not its own.

mod said;

use std::fmt;
use std::io::Read as _;
use std::net::SocketAddr;
use std::time::Duration;

use sundown::clock;
use sundown::config::{Config, Listen};
use sundown::net::handshake::V1;
use tungstenite::client::client_with_config;
use tungstenite::error::ProtocolError;
use tungstenite::handshake::HandshakeError;
use tungstenite::handshake::client::Response;
use tungstenite::http::Uri;
use tungstenite::http::header::CONTENT_LENGTH;
use tungstenite::protocol::frame::coding::CloseCode;
use tungstenite::protocol::{CloseFrame, WebSocketConfig};
use tungstenite::{ClientRequestBuilder, Error, Message, WebSocket};

use self::said::{MESSAGE, Step, Unexpected, shown};
use super::stream::{self, Stream};

/// From the start to the verdict. A store counts as slow after a second: there is time for one that
/// is asked twice.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Far more than anything in the contract needs.
const MESSAGE_SIZE_MAX: usize = 16 << 10;

/// What is read of an answer that is no 101: ours are far shorter.
const BODY_SIZE_MAX: usize = 256;

/// All steps are done.
#[derive(Debug)]
pub(crate) struct Passed {
    url: String,
    took: Duration,
}

impl fmt::Display for Passed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (url, took_ms) = (&self.url, self.took.as_millis());
        write!(
            f,
            "{url}: 101, hello, {{\"count\":1}} and Close 1000 in {took_ms} ms"
        )
    }
}

/// Why a client is not served, as one line.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The listener has no port that one could know.
    NoPort,
    /// Not as the contract says.
    At(String, Unexpected),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoPort => f.write_str(stream::NO_PORT),
            Self::At(url, unexpected) => write!(f, "{url}: {unexpected}"),
        }
    }
}

/// Whether the server of this configuration serves a client. It is always the chat contract that
/// is checked: what else a server may run is no concern of who deploys this one.
pub(crate) fn check(config: &Config) -> Result<Passed, Failure> {
    let addr = stream::reachable(&config.listen).ok_or(Failure::NoPort)?;
    let begun = clock::now().instant;
    let path = config.paths.first().map_or("/", String::as_str);
    let url = url(&addr, path);
    let visited = visit(config, &addr, path);
    let took = clock::now().instant.saturating_duration_since(begun);
    match visited {
        Ok(()) => Ok(Passed { url, took }),
        Err(unexpected) => Err(Failure::At(url, unexpected)),
    }
}

/// Where the clients connect. A zone (RFC 6874) is for the socket, and has no place in it.
fn url(addr: &Listen, path: &str) -> String {
    let mut addr = addr.clone();
    if let Listen::Tcp(SocketAddr::V6(v6)) = &mut addr {
        v6.set_scope_id(0);
    }
    stream::url("ws", &addr, path)
}

/// The steps, one after the other.
fn visit(config: &Config, addr: &Listen, path: &str) -> Result<(), Unexpected> {
    let mut stream = Stream::connect(config, addr, TIMEOUT).map_err(|error| Unexpected {
        step: Step::Connect,
        got: error.to_string(),
    })?;
    let mut socket = match shake_hands(addr, path, &mut stream) {
        Ok(socket) => socket,
        Err(error) => return Err(refusal(error, &mut stream)),
    };
    expect(&mut socket, Step::Hello)?;
    let sent = socket.send(Message::text(MESSAGE));
    sent.map_err(|error| failure(Step::Message, &error))?;
    expect(&mut socket, Step::Message)?;
    let closed = socket.close(Some(CloseFrame {
        code: CloseCode::Normal,
        reason: "".into(),
    }));
    closed.map_err(|error| failure(Step::Close, &error))?;
    expect(&mut socket, Step::Close)?;
    expect_end(&mut stream)
}

/// The opening handshake, without a session: the server makes a new one.
fn shake_hands<'a>(
    addr: &Listen,
    path: &str,
    stream: &'a mut Stream,
) -> Result<WebSocket<&'a mut Stream>, Error> {
    let uri: Uri = match addr {
        Listen::Tcp(_) => url(addr, path).parse()?,
        // The socket is there already: what is left of it is the field Host.
        Listen::Unix(_) => format!("ws://localhost{path}").parse()?,
    };
    let request = ClientRequestBuilder::new(uri).with_sub_protocol(V1);
    let config = WebSocketConfig::default()
        .read_buffer_size(MESSAGE_SIZE_MAX)
        .max_frame_size(Some(MESSAGE_SIZE_MAX))
        .max_message_size(Some(MESSAGE_SIZE_MAX));
    match client_with_config(request, stream, Some(config)) {
        Ok((socket, _)) => Ok(socket),
        Err(HandshakeError::Failure(error)) => Err(error),
        // A read that would block is one that took too long, and an error of its own.
        Err(HandshakeError::Interrupted(_)) => Err(Error::ConnectionClosed),
    }
}

/// Reads until the step is done.
fn expect(socket: &mut WebSocket<&mut Stream>, step: Step) -> Result<(), Unexpected> {
    loop {
        let message = socket.read().map_err(|error| failure(step, &error))?;
        if let Some(verdict) = said::judge(step, &message) {
            return verdict;
        }
    }
}

/// After the closing handshake the server ends the connection (RFC 6455, section 7.1.1), and not
/// by a reset. tungstenite would call both the end.
fn expect_end(stream: &mut Stream) -> Result<(), Unexpected> {
    let got = match stream.read(&mut [0]) {
        Ok(0) => return Ok(()),
        Ok(_) => "more after its Close".to_owned(),
        Err(error) => error.to_string(),
    };
    let step = Step::End;
    Err(Unexpected { step, got })
}

/// Why there is no 101.
fn refusal(error: Error, stream: &mut Stream) -> Unexpected {
    let Error::Http(response) = error else {
        return failure(Step::Handshake, &error);
    };
    let status = response.status().as_u16();
    let body = read_body(*response, stream);
    let got = if body.is_empty() {
        status.to_string()
    } else {
        format!("{status} {}", shown(&String::from_utf8_lossy(&body)))
    };
    let step = Step::Handshake;
    Unexpected { step, got }
}

/// The beginning of an answer's body, part of which may have come with its head.
fn read_body(mut response: Response, stream: &mut Stream) -> Vec<u8> {
    let mut body = response.body_mut().take().unwrap_or_default();
    let announced = response.headers().get(CONTENT_LENGTH);
    let announced = announced.and_then(|len| len.to_str().ok()?.parse().ok());
    let wanted = announced.unwrap_or(body.len()).min(BODY_SIZE_MAX);
    let missing = wanted.saturating_sub(body.len());
    // A body that does not come whole is shown as far as it came.
    drop(stream.take(missing as u64).read_to_end(&mut body));
    body.truncate(wanted);
    body
}

fn failure(step: Step, error: &Error) -> Unexpected {
    let ended = matches!(
        error,
        Error::ConnectionClosed
            | Error::Protocol(
                ProtocolError::HandshakeIncomplete | ProtocolError::ResetWithoutClosingHandshake
            )
    );
    let got = if ended {
        "the end of the connection".to_owned()
    } else if let Error::Io(error) = error {
        error.to_string()
    } else {
        shown(&error.to_string())
    };
    Unexpected { step, got }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_fits_into_a_url() {
        for (addr, expected) in [
            ("127.0.0.1:8000", "ws://127.0.0.1:8000/ws/chat/"),
            ("[::1]:8000", "ws://[::1]:8000/ws/chat/"),
            ("[fe80::1%2]:8000", "ws://[fe80::1]:8000/ws/chat/"),
        ] {
            let url = url(&addr.parse().unwrap(), "/ws/chat/");
            assert_eq!(url, expected);
            url.parse::<Uri>().unwrap();
        }
    }
}
