//! A central system for charge points: OCPP 1.6 over WebSocket (OCPP-J).
//!
//! ```text
//! ocpp --charge-points FILE [--listen ADDR] [--admin ADDR|off] [--store STORE]
//! ```
//!
//! FILE has a line `ID PASSWORD` for each charge point, which connects to `/ocpp/ID` with HTTP Basic
//! authentication and the subprotocol `ocpp1.6`. Its session is its id: whatever ends the connection
//! or the server, a call that comes again gets the answer that it had, and has taken effect once.
//!
//! A line `ID ACTION PAYLOAD` on standard input is a call to a charge point, such as
//! `CP-1 Reset {"type":"Soft"}`.

use std::collections::HashMap;
use std::error::Error;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, UNIX_EPOCH};
use std::{io, thread};

use serde_json::{Map, Value};
use shared::Failure;
use sundown::{
    Admission, Application, Config, Handle, Message, Server, Session, SessionId, Upgrade, clock,
};

#[path = "ocpp/book.rs"]
mod book;
#[path = "ocpp/frame.rs"]
mod frame;
#[path = "shared/mod.rs"]
mod shared;

use book::{Book, Moment};
use frame::{Call, CallError, Frame, Malformed};

const SUBPROTOCOL: &str = "ocpp1.6";

/// The longest message of a charge point, in bytes.
const MESSAGE_BYTES_MAX: usize = 64 << 10;

fn main() -> ExitCode {
    shared::serve(|arguments| {
        let file: Option<PathBuf> = arguments.take("--charge-points")?;
        let mut config = arguments.config()?;
        config.limits.message_bytes_max = MESSAGE_BYTES_MAX;
        // A charge point that is away for a winter finds its transactions.
        config.session_ttl = Config::DURATION_MAX;
        let central_system = CentralSystem {
            charge_points: charge_points(file)?,
        };
        let server = Server::bind(config, central_system)?;
        let handle = server.handle();
        thread::spawn(move || take_commands(&handle));
        Ok(server)
    })
}

struct CentralSystem {
    /// By their ids.
    charge_points: HashMap<String, ChargePoint>,
}

struct ChargePoint {
    session: SessionId,
    /// What follows `Basic` in its Authorization (RFC 7617).
    credentials: String,
}

impl Application for CentralSystem {
    fn on_upgrade(&mut self, request: &Upgrade<'_>) -> Admission {
        let id = request.path().strip_prefix("/ocpp/");
        let Some(charge_point) = id.and_then(|id| self.charge_points.get(id)) else {
            return Admission::refuse(404, "no such charge point");
        };
        let authorization = request.header("authorization").unwrap_or_default();
        if !charge_point.is_authorized_by(authorization) {
            return Admission::refuse(401, "not the password of this charge point")
                .with_header("WWW-Authenticate", "Basic realm=\"charge points\"");
        }
        let admission = Admission::accept(request).with_subprotocol(SUBPROTOCOL);
        if request.subprotocols().any(|offer| offer == SUBPROTOCOL) {
            admission.with_session(charge_point.session.clone())
        } else {
            admission.without_session()
        }
    }

    /// Who offers none of our subprotocols gets the handshake, and then a Close (OCPP-J 1.6, section
    /// 3.1.2).
    fn on_open(&mut self, session: &mut Session<'_>) {
        if session.id().is_none() {
            close(session, 1008, "offer the subprotocol ocpp1.6");
        }
    }

    fn on_message(&mut self, message: Message<'_>, session: &mut Session<'_>) {
        let Message::Text(text) = message else {
            return close(session, 1003, "OCPP-J is text");
        };
        match Frame::parse(text) {
            Ok(Frame::Call(call)) => answer(&call, text, session),
            Ok(Frame::Answer(call, answer)) => {
                log::info!("{} answers {call:?}: {answer}", name(session));
            }
            Err(Malformed::Call(id)) => {
                session.reply_text(frame::answer(&id, Err(CallError::FormationViolation)));
            }
            Err(Malformed::Unanswerable) => {
                log::warn!("{} sends what is no frame of OCPP-J 1.6", name(session));
            }
        }
    }
}

/// Answers a call. The book is committed with the message, and before the answer leaves: if the answer
/// is lost, the charge point sends the call again, and it is in the book.
fn answer(call: &Call, text: &str, session: &mut Session<'_>) {
    let mut book = match session.state() {
        b"" => Book::default(),
        state => match serde_json::from_slice(state) {
            Ok(book) => book,
            Err(error) => {
                log::error!("the book of {} cannot be read: {error}", name(session));
                let refusal = frame::answer(&call.id, Err(CallError::InternalError));
                return session.reply_text(refusal);
            }
        },
    };
    let now = now(session.incarnation());
    if let Some(answer) = book.answered(&call.id, text, now.unix_ms) {
        return session.reply_text(answer);
    }
    let answer = frame::answer(&call.id, book.process(call, &now));
    book.remember(call, text, now.unix_ms, &answer);
    let is_kept = serde_json::to_vec(&book).is_ok_and(|book| session.set_state(&book).is_ok());
    if is_kept {
        session.reply_text(answer);
    } else {
        log::error!("the book of {} is full", name(session));
        session.reply_text(frame::answer(&call.id, Err(CallError::InternalError)));
    }
}

/// Calls charge points, on whichever node they are: a line on standard input is a call, and is
/// answered by a line on standard output. What the charge point answers is in the log.
fn take_commands(handle: &Handle) {
    let began_ms = clock::now().unix_ms;
    for (number, line) in (1..).zip(io::stdin().lines().map_while(Result::ok)) {
        let id = format!("{began_ms}-{number}");
        match command(handle, &id, &line) {
            Ok(()) => println!("call {id} is on its way"),
            Err(why) => println!("call {id} is refused: {why}"),
        }
    }
}

/// Returns when the call is in the charge point's mailbox. From there it leaves once, now or when the
/// charge point connects: a client that is not of `sundown.v2` confirms nothing, so that a call may be
/// lost with a connection. The operator sees no answer then, and calls again.
fn command(handle: &Handle, id: &str, line: &str) -> Result<(), Box<dyn Error>> {
    let words: Vec<&str> = line.splitn(3, ' ').collect();
    let [to, action, payload] = words[..] else {
        return Err("expected ID ACTION PAYLOAD".into());
    };
    let to: SessionId = to.parse()?;
    let payload: Map<String, Value> = serde_json::from_str(payload)?;
    let call = frame::call(id, action, &payload.into());
    handle.push(&to, call).wait()?;
    Ok(())
}

fn now(incarnation: u64) -> Moment {
    let unix_ms = clock::now().unix_ms;
    let time = UNIX_EPOCH + Duration::from_millis(unix_ms);
    Moment {
        unix_ms,
        time: humantime::format_rfc3339_millis(time).to_string(),
        incarnation,
    }
}

fn name<'a>(session: &'a Session<'_>) -> &'a str {
    session.id().map_or("a client", SessionId::as_str)
}

fn close(session: &mut Session<'_>, code: u16, text: &'static str) {
    if let Err(error) = session.close(code, text) {
        log::error!("{error}");
    }
}

impl ChargePoint {
    /// Takes the same time wherever the two differ.
    fn is_authorized_by(&self, authorization: &str) -> bool {
        let Some((scheme, given)) = authorization.split_once(' ') else {
            return false;
        };
        let pairs = given.bytes().zip(self.credentials.bytes());
        let difference = pairs.fold(0, |difference, (one, other)| difference | (one ^ other));
        scheme.eq_ignore_ascii_case("basic")
            && given.len() == self.credentials.len()
            && difference == 0
    }
}

/// Reads the file with ids and passwords. No error repeats a password.
fn charge_points(file: Option<PathBuf>) -> Result<HashMap<String, ChargePoint>, Failure> {
    let Some(file) = file else {
        let what = "--charge-points FILE is missing: a line `ID PASSWORD` for each charge point";
        return Err(Failure::Usage(what.to_owned()));
    };
    let wrong = |what: &str| Failure::Usage(format!("{}: {what}", file.display()));
    let text = std::fs::read_to_string(&file).map_err(|error| wrong(&error.to_string()))?;
    let mut charge_points = HashMap::new();
    for (number, line) in (1..).zip(text.lines()) {
        if line.trim().is_empty() || line.starts_with('#') {
            continue;
        }
        let pair = line.trim().split_once(char::is_whitespace);
        let (id, password) = pair.ok_or_else(|| wrong(&format!("line {number}: no password")))?;
        let session = SessionId::parse(id);
        let session = session.map_err(|_| wrong(&format!("line {number}: not an id")))?;
        let credentials = base64(format!("{id}:{}", password.trim()).as_bytes());
        let charge_point = ChargePoint {
            session,
            credentials,
        };
        charge_points.insert(id.to_owned(), charge_point);
    }
    Ok(charge_points)
}

/// RFC 4648, section 4.
fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let byte = |at: usize| usize::from(chunk.get(at).copied().unwrap_or(0));
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for at in 0..4 {
            let digit = char::from(DIGITS[bits >> (18 - 6 * at) & 63]);
            text.push(if at <= chunk.len() { digit } else { '=' });
        }
    }
    text
}
