//! What Redis says, understood: values to answers, errors to reasons. Pure.
//!
//! Must never panic on any value, nor let a password, or an echo of one, into a reason.

#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "of all the values that Redis may send, one makes sense and the rest do not"
)]

use redis::{ServerError, Value};

use super::target::Login;

/// The answer to HELLO: whether this is a Redis that can keep sessions. Asked now, and not found
/// out at the first save with clients waiting for it.
pub(crate) fn check_hello(value: &Value) -> Result<(), String> {
    let Value::Map(fields) = value else {
        return Err("an answer to HELLO that makes no sense".to_owned());
    };
    for (name, value) in fields {
        match (text(name), text(value)) {
            (Some("role"), Some("replica" | "slave")) => {
                return Err("a replica, which cannot be written to".to_owned());
            }
            (Some("mode"), Some(mode @ ("cluster" | "sentinel"))) => {
                return Err(format!("a Redis in {mode} mode, which is not supported"));
            }
            (_, _) => {}
        }
    }
    Ok(())
}

/// Redis before version 6 does not know HELLO; what stands in for Redis may know no 3 of it.
pub(crate) fn speaks_only_resp2(error: &ServerError) -> bool {
    error.code() == "NOPROTO" || is_unknown_command(error)
}

/// A server error for the log: one line, and without the password that it may quote.
pub(crate) fn reason(error: &ServerError, login: &Login) -> String {
    let details = if is_unknown_command(error) {
        // Redis quotes the arguments here, cut off somewhere.
        "unknown command"
    } else {
        error.details().unwrap_or_default()
    };
    line(error.code(), details, login)
}

pub(crate) fn line(code: &str, details: &str, login: &Login) -> String {
    let mut reason = format!("{code} {details}");
    if let Some(password) = &login.password {
        reason = reason.replace(password.as_str(), "…");
    }
    let clean = |c: char| if c.is_control() { ' ' } else { c };
    let reason: String = reason.chars().map(clean).take(REASON_CHARS_MAX).collect();
    match reason.trim() {
        "" => "an error without a word".to_owned(),
        reason => reason.to_owned(),
    }
}

fn is_unknown_command(error: &ServerError) -> bool {
    let details = error.details().unwrap_or_default();
    details.to_ascii_lowercase().starts_with("unknown command")
}

/// A string of either kind.
pub(crate) fn text(value: &Value) -> Option<&str> {
    match value {
        Value::SimpleString(text) => Some(text),
        Value::BulkString(bytes) => str::from_utf8(bytes).ok(),
        _ => None,
    }
}

/// Enough for every message of Redis itself.
const REASON_CHARS_MAX: usize = 200;
