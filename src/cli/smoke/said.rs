//! What a server says to the smoke test: whether it is what the contract demands at this step
//! (docs/protocol.md, to the letter), and if not, how it is shown: on one line, short, and without
//! a session id, which is a secret. Pure; it must never show anything of a peer's that has not
//! gone through [`shown`].

use std::fmt;

use sundown::engine::io::SessionId;
use tungstenite::Message;
use tungstenite::protocol::CloseFrame;
use tungstenite::protocol::frame::coding::CloseCode;

/// The one message that is sent.
pub(crate) const MESSAGE: &str = "smoke";

/// The most characters of a peer's that are shown.
const SHOWN_MAX: usize = 200;

/// The steps of the test, in their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    Connect,
    Handshake,
    Hello,
    Message,
    Close,
    End,
}

impl Step {
    /// What a server that is in order gives.
    fn expected(self) -> &'static str {
        match self {
            Self::Connect => "a connection",
            Self::Handshake => "101",
            Self::Hello => r#"{"session":"…","count":0,"resumed":false}"#,
            Self::Message => r#"{"count":1}"#,
            Self::Close => "Close 1000",
            Self::End => "the end of the connection",
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Connect => "connect",
            Self::Handshake => "handshake",
            Self::Hello => "hello",
            Self::Message => "message",
            Self::Close | Self::End => "close",
        })
    }
}

/// Where it went wrong, and what came instead.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Unexpected {
    pub(crate) step: Step,
    /// As it is shown.
    pub(crate) got: String,
}

impl fmt::Display for Unexpected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { step, got } = self;
        write!(f, "{step}: expected {}, got: {got}", step.expected())
    }
}

/// Whether the step is done, or what came instead; `None` for what may come at any time.
pub(crate) fn judge(step: Step, message: &Message) -> Option<Result<(), Unexpected>> {
    let got = match message {
        Message::Ping(_) | Message::Pong(_) => return None,
        Message::Text(text) if text.starts_with(r#"{"ts":""#) => return None,
        Message::Text(text) if answers(step, text) => return Some(Ok(())),
        Message::Close(Some(frame)) if step == Step::Close && frame.code == CloseCode::Normal => {
            return Some(Ok(()));
        }
        Message::Text(text) => show_text(step, text),
        Message::Binary(bytes) => format!("a binary message of {} bytes", bytes.len()),
        Message::Close(frame) => show_close(frame.as_ref()),
        // tungstenite hands out none of these.
        Message::Frame(frame) => format!("a frame of {} bytes", frame.len()),
    };
    Some(Err(Unexpected { step, got }))
}

/// What a peer said: on one line, not too long, and without its session id.
pub(crate) fn shown(text: &str) -> String {
    let visible = without_session(text.trim_end());
    let mut out = String::new();
    for (at, c) in visible.chars().enumerate() {
        if at == SHOWN_MAX {
            out.push('…');
            break;
        }
        match c {
            // JSON is read more easily as it came.
            '"' | '\'' => out.push(c),
            _ => out.extend(c.escape_debug()),
        }
    }
    if out.is_empty() {
        "nothing".clone_into(&mut out);
    }
    out
}

fn answers(step: Step, text: &str) -> bool {
    match step {
        Step::Hello => text
            .strip_prefix(BEFORE_SESSION)
            .and_then(|rest| rest.strip_suffix(r#"","count":0,"resumed":false}"#))
            .is_some_and(|session| SessionId::parse(session).is_ok()),
        Step::Message => text == Step::Message.expected(),
        Step::Connect | Step::Handshake | Step::Close | Step::End => false,
    }
}

fn show_text(step: Step, text: &str) -> String {
    let leaving = [r#"{"shutdown":true,"#, r#"{"bye":true,"#];
    let why = if leaving.iter().any(|begin| text.starts_with(begin)) {
        SHUTTING_DOWN
    } else if step == Step::Message && text == MESSAGE {
        " (the message itself: is it another application than chat?)"
    } else {
        ""
    };
    shown(text) + why
}

fn show_close(frame: Option<&CloseFrame>) -> String {
    let Some(CloseFrame { code, reason }) = frame else {
        return "a Close without a code".to_owned();
    };
    let why = if *code == CloseCode::Away && reason.starts_with("server shutdown") {
        SHUTTING_DOWN
    } else {
        ""
    };
    let code = u16::from(*code);
    if reason.is_empty() {
        format!("Close {code}{why}")
    } else {
        format!("Close {code} {}{why}", shown(reason))
    }
}

const SHUTTING_DOWN: &str = " (the server is shutting down)";

/// The key that a session id stands behind.
const SESSION: &str = r#""session""#;
const BEFORE_SESSION: &str = r#"{"session":""#;

/// A hello loses its session id. Of anything else that speaks of a session, only what comes before
/// is left: who cannot read it cannot tell where the secret ends.
fn without_session(text: &str) -> String {
    if let Some(rest) = text.strip_prefix(BEFORE_SESSION)
        && let Some((session, rest)) = rest.split_once('"')
        && SessionId::parse(session).is_ok()
        && !rest.contains(SESSION)
    {
        return format!("{BEFORE_SESSION}…\"{rest}");
    }
    match text.split_once(SESSION) {
        Some((before, _)) => format!("{before}{SESSION}…"),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> Message {
        Message::text(text)
    }

    fn close(code: u16, reason: &str) -> Message {
        let (code, reason) = (CloseCode::from(code), reason.into());
        Message::Close(Some(CloseFrame { code, reason }))
    }

    const HELLO: &str = r#"{"session":"9f0c-A.~_","count":0,"resumed":false}"#;

    #[test]
    fn the_contract_is_taken_to_the_letter() {
        let done = Some(Ok(()));
        assert_eq!(judge(Step::Hello, &text(HELLO)), done);
        assert_eq!(judge(Step::Message, &text(r#"{"count":1}"#)), done);
        assert_eq!(judge(Step::Close, &close(1000, "")), done);
        assert_eq!(judge(Step::Close, &close(1000, "bye")), done);
        for (step, message) in [
            (Step::Hello, text(&HELLO.replace("9f0c-A.~_", ""))),
            (Step::Hello, text(&HELLO.replace("9f0c-A.~_", "a/b"))),
            (Step::Hello, text(&HELLO.replace(":0", ":00"))),
            (Step::Hello, text(&HELLO.replace("false", "true"))),
            (Step::Hello, text(r#"{"count":1}"#)),
            (Step::Hello, close(1000, "")),
            (Step::Message, text(r#"{"count":2}"#)),
            (Step::Message, text(r#"{"count": 1}"#)),
            (Step::Message, text(HELLO)),
            (Step::Message, close(1000, "")),
            (Step::Close, text(r#"{"count":1}"#)),
            (Step::Close, close(1001, "")),
            (Step::Close, Message::Close(None)),
            (Step::Message, Message::binary(r#"{"count":1}"#)),
        ] {
            let verdict = judge(step, &message);
            assert!(matches!(verdict, Some(Err(_))), "{step}: {message:?}");
        }
    }

    #[test]
    fn pings_and_the_heartbeat_may_come_at_any_time() {
        for step in [Step::Hello, Step::Message, Step::Close] {
            for message in [
                text(r#"{"ts":"2026-11-22T13:19:00.000Z"}"#),
                Message::Ping(vec![1].into()),
                Message::Pong(vec![].into()),
            ] {
                assert_eq!(judge(step, &message), None);
            }
        }
    }

    #[test]
    fn a_shutdown_is_called_one() {
        let notice = text(r#"{"shutdown":true,"drain_ms":2500,"reconnect_ms":131}"#);
        let goodbye = text(r#"{"bye":true,"total":1}"#);
        let close = close(1001, "server shutdown; retry-after-ms=131");
        for step in [Step::Hello, Step::Message, Step::Close] {
            for message in [&notice, &goodbye, &close] {
                let Some(Err(unexpected)) = judge(step, message) else {
                    panic!("it is taken for good");
                };
                let line = unexpected.to_string();
                assert!(line.ends_with("(the server is shutting down)"), "{line}");
            }
        }
    }

    #[test]
    fn what_is_shown_is_one_short_line_without_a_session() {
        assert_eq!(shown("a\nb\u{1b}[0m\u{202e}\n"), r"a\nb\u{1b}[0m\u{202e}");
        assert_eq!(shown("\"it's\""), "\"it's\"");
        assert_eq!(shown(""), "nothing");
        let long = shown(&"x".repeat(SHOWN_MAX + 1));
        assert_eq!(long, "x".repeat(SHOWN_MAX) + "…");
        assert_eq!(shown(&"x".repeat(SHOWN_MAX)), "x".repeat(SHOWN_MAX));
        for text in [
            HELLO.replace("9f0c-A.~_", "secret"),
            r#"{"session":"secret","count":0,"session":"secret"}"#.to_owned(),
            r#"{"session":"a\"secret","count":0}"#.to_owned(),
            r#"{ "session" : "secret" }"#.to_owned(),
            r#"{"session":"secret"#.to_owned(),
            r#"{"count":0,"session":"secret"}"#.to_owned(),
        ] {
            let line = shown(&text);
            assert!(!line.contains("secret"), "{line}");
            assert!(line.contains("session"), "{line}");
        }
    }
}
