//! What Redis answers about sessions, understood. Pure: it must never panic on any value.

#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "of all the values that Redis may send, one makes sense and the rest do not"
)]

use redis::{PushKind, ServerError, Value};

use crate::engine::io::{Grant, Mailbox, SessionId, Snapshot, State, StateTooBig, StoreEvent};
use crate::redis::reply::{line, text};
use crate::redis::target::Login;

/// The answer to SCRIPT LOAD: the script's hash.
pub(crate) fn loaded(value: &Value) -> Result<String, String> {
    match text(value) {
        Some(hash) => Ok(hash.to_owned()),
        None => Err("an answer to SCRIPT LOAD that makes no sense".to_owned()),
    }
}

/// The answer to a claim. A state that is too big has been written by someone else: that concerns
/// this session alone.
pub(crate) fn granted(value: &Value) -> Result<Result<Grant, StateTooBig>, String> {
    let grant = parse_grant(value);
    grant.ok_or_else(|| "an answer to a claim that makes no sense".to_owned())
}

fn parse_grant(value: &Value) -> Option<Result<Grant, StateTooBig>> {
    let Value::Array(fields) = value else {
        return None;
    };
    let [numbers @ .., Value::BulkString(state)] = fields.as_slice() else {
        return None;
    };
    let numbers = numbers.iter().map(number).collect::<Option<Vec<u64>>>()?;
    let &[epoch, count, found, incarnation, step] = numbers.as_slice() else {
        return None;
    };
    let grant = |state| Grant {
        epoch,
        found: found == 1,
        snapshot: Snapshot {
            incarnation,
            step,
            count,
            state,
        },
        mailbox: Mailbox::default(),
    };
    Some(State::new(state).map(grant))
}

/// What a save has come to.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Outcome {
    /// Positions in the batch, ascending, of sessions that have a newer owner.
    pub(crate) fenced: Vec<usize>,
    /// The same of sessions that were not saved for a reason of their own, with that.
    pub(crate) refused: Vec<(usize, String)>,
}

/// The answer to a save. An error in it that is not about one key is the error of the whole.
pub(crate) fn saved(value: &Value, batch_len: usize, login: &Login) -> Result<Outcome, String> {
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
pub(crate) fn news(kind: &PushKind, data: &[Value], channel: &str) -> Option<StoreEvent> {
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

/// Whether an error is about the key of one session, so that it is the answer to that request alone.
///
/// By its code: `WRONGTYPE` (something else is under the key) and `OOM` (no room for one more; see
/// `Script::SaveAtMaxmemory`). By its text: what a script says itself, of a line of its own
/// (`user_script`), unless its code says otherwise. Everything else is about the server or the link
/// (`NOAUTH`, `NOPERM`, `LOADING`, `READONLY`, `MASTERDOWN`, `NOREPLICAS`, `MISCONF`, `BUSY`, and
/// whatever is not known here): the next request would fare no better, and the link ends.
pub(crate) fn is_about_one_key(error: &ServerError) -> bool {
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

fn number(value: &Value) -> Option<u64> {
    match value {
        Value::Int(number) => u64::try_from(*number).ok(),
        _ => None,
    }
}
