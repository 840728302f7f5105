//! What Redis says, understood: values to answers, errors to reasons. Pure.
//!
//! Must never panic on any value, nor let a password, or an echo of one, into a reason.

#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "of all the values that Redis may send, one makes sense and the rest do not"
)]

use redis::{PushKind, ServerError, Value};

use super::target::Login;
use crate::engine::io::{SessionId, StoreEvent};

/// The answer to HELLO: whether this is a Redis that can keep sessions. Asked now, and not found
/// out at the first save with clients waiting for it.
pub(super) fn check_hello(value: &Value) -> Result<(), String> {
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

/// The answer to SCRIPT LOAD: the script's hash.
pub(super) fn loaded(value: &Value) -> Result<String, String> {
    match text(value) {
        Some(hash) => Ok(hash.to_owned()),
        None => Err("an answer to SCRIPT LOAD that makes no sense".to_owned()),
    }
}

/// The answer to a claim: epoch, count, found.
pub(super) fn granted(value: &Value) -> Result<(u64, u64, bool), String> {
    let fields = match value {
        Value::Array(fields) => fields.iter().map(number).collect(),
        _ => None::<Vec<u64>>,
    };
    match fields.as_deref() {
        Some(&[epoch, count, found]) => Ok((epoch, count, found == 1)),
        Some(_) | None => Err("an answer to a claim that makes no sense".to_owned()),
    }
}

/// What a save has come to.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Outcome {
    /// Positions in the batch, ascending, of sessions that have a newer owner.
    pub(super) fenced: Vec<usize>,
    /// The same of sessions that were not saved for a reason of their own, with that.
    pub(super) refused: Vec<(usize, String)>,
}

/// The answer to a save. An error in it that is not about one key is the error of the whole.
pub(super) fn saved(value: &Value, batch_len: usize, login: &Login) -> Result<Outcome, String> {
    let outcome = parse_saved(value);
    let is_whole = outcome.as_ref().is_some_and(|Outcome { fenced, refused }| {
        let refused: Vec<_> = refused.iter().map(|(position, _)| *position).collect();
        [fenced, &refused].into_iter().all(|positions| {
            let ascends = positions.is_sorted_by(|a, b| a < b);
            ascends && positions.last().is_none_or(|last| *last < batch_len)
        }) && fenced.iter().all(|position| !refused.contains(position))
    });
    let outcome = outcome.filter(|_| is_whole);
    let outcome = outcome.ok_or_else(|| "an answer to a save that makes no sense".to_owned())?;
    let Outcome { fenced, refused } = outcome;
    let refused = refused.into_iter().map(|(position, error)| {
        let (code, details) = error.split_once(' ').unwrap_or((&error, ""));
        let reason = line(code, details, login);
        if concerns_one_key(code, details) {
            Ok((position, reason))
        } else {
            Err(reason)
        }
    });
    let refused = refused.collect::<Result<_, _>>()?;
    Ok(Outcome { fenced, refused })
}

fn parse_saved(value: &Value) -> Option<Outcome> {
    let Value::Array(lists) = value else {
        return None;
    };
    let [Value::Array(fenced), Value::Array(refused)] = lists.as_slice() else {
        return None;
    };
    let position = |value: &Value| number(value).and_then(|at| usize::try_from(at).ok());
    let (pairs, rest) = refused.as_chunks::<2>();
    let refusal = |[at, error]: &[Value; 2]| Some((position(at)?, text(error)?.to_owned()));
    rest.is_empty().then_some(())?;
    Some(Outcome {
        fenced: fenced.iter().map(position).collect::<Option<_>>()?,
        refused: pairs.iter().map(refusal).collect::<Option<_>>()?,
    })
}

/// A push on our channel: news of a claim. Anything else is somebody else's message.
pub(super) fn news(kind: &PushKind, data: &[Value], channel: &str) -> Option<StoreEvent> {
    let [heard_on, payload] = data else {
        return None;
    };
    if *kind != PushKind::Message || text(heard_on) != Some(channel) {
        return None;
    }
    let (session, epoch) = text(payload)?.rsplit_once(' ')?;
    Some(StoreEvent::TakenOver {
        session: SessionId::parse(session).ok()?,
        epoch: epoch.parse().ok()?,
    })
}

/// Redis before version 6 does not know HELLO; what stands in for Redis may know no 3 of it.
pub(super) fn speaks_only_resp2(error: &ServerError) -> bool {
    error.code() == "NOPROTO" || is_unknown_command(error)
}

/// Whether an error is about the key of one session, so that it is the answer to that request alone.
///
/// By its code: `WRONGTYPE` (something else is under the key) and `OOM` (no room for one more; see
/// `Script::SaveAtMaxmemory`). By its text: what a script says itself, of a line of its own
/// (`user_script`), unless its code says otherwise. Everything else is about the server or the link
/// (`NOAUTH`, `NOPERM`, `LOADING`, `READONLY`, `MASTERDOWN`, `NOREPLICAS`, `MISCONF`, `BUSY`, and
/// whatever is not known here): the next request would fare no better, and the link ends.
pub(super) fn is_about_one_key(error: &ServerError) -> bool {
    concerns_one_key(error.code(), error.details().unwrap_or_default())
}

fn concerns_one_key(code: &str, details: &str) -> bool {
    match code {
        "WRONGTYPE" | "OOM" => true,
        "ERR" => {
            let is_acl = details.contains("ACL") || details.contains("can't run this command");
            details.contains("user_script") && !is_acl
        }
        _ => false,
    }
}

/// A server error for the log: one line, and without the password that it may quote.
pub(super) fn reason(error: &ServerError, login: &Login) -> String {
    let details = if is_unknown_command(error) {
        // Redis quotes the arguments here, cut off somewhere.
        "unknown command"
    } else {
        error.details().unwrap_or_default()
    };
    line(error.code(), details, login)
}

fn line(code: &str, details: &str, login: &Login) -> String {
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

fn text(value: &Value) -> Option<&str> {
    match value {
        Value::SimpleString(text) => Some(text),
        Value::BulkString(bytes) => str::from_utf8(bytes).ok(),
        _ => None,
    }
}

fn number(value: &Value) -> Option<u64> {
    match value {
        Value::Int(number) => u64::try_from(*number).ok(),
        _ => None,
    }
}

/// Enough for every message of Redis itself.
const REASON_CHARS_MAX: usize = 200;
