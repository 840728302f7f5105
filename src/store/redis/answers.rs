//! What Redis answers about sessions, understood. Pure: it must never panic on any value.

#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "of all the values that Redis may send, one makes sense and the rest do not"
)]

use redis::{PushKind, ServerError, Value};

use crate::engine::io::{
    Body, Commit, Grant, Mailbox, PushRefused, Pushed, SessionId, Snapshot, State, StoreEvent,
};
use crate::redis::reply::{line, text};
use crate::redis::target::Login;

/// The answer to SCRIPT LOAD: the script's hash.
pub(crate) fn loaded(value: &Value) -> Result<String, String> {
    match text(value) {
        Some(hash) => Ok(hash.to_owned()),
        None => Err("an answer to SCRIPT LOAD that makes no sense".to_owned()),
    }
}

/// The answer to a claim. What someone else has written, such as a state that is too big, concerns
/// this session alone.
pub(crate) fn granted(value: &Value) -> Result<Result<Grant, String>, String> {
    let grant = parse_grant(value);
    grant.ok_or_else(|| "an answer to a claim that makes no sense".to_owned())
}

fn parse_grant(value: &Value) -> Option<Result<Grant, String>> {
    let Value::Array(fields) = value else {
        return None;
    };
    let [
        numbers @ ..,
        Value::BulkString(state),
        sent,
        Value::Array(kept),
    ] = fields.as_slice()
    else {
        return None;
    };
    let numbers = numbers.iter().map(number).collect::<Option<Vec<u64>>>()?;
    let &[epoch, count, found, incarnation, step] = numbers.as_slice() else {
        return None;
    };
    let mailbox = parse_mailbox(number(sent)?, kept);
    let state = State::new(state).map_err(|too_big| too_big.to_string());
    Some(state.and_then(|state| {
        Ok(Grant {
            epoch,
            found: found == 1,
            snapshot: Snapshot {
                incarnation,
                step,
                count,
                state,
            },
            mailbox: mailbox?,
        })
    }))
}

/// The answer to a read.
pub(crate) fn mailbox(value: &Value) -> Result<Result<Mailbox, String>, String> {
    if let Value::Array(fields) = value
        && let [sent, Value::Array(kept)] = fields.as_slice()
        && let Some(sent) = number(sent)
    {
        return Ok(parse_mailbox(sent, kept));
    }
    Err("an answer to a read that makes no sense".to_owned())
}

fn parse_mailbox(sent: u64, kept: &[Value]) -> Result<Mailbox, String> {
    let body = |value: &Value| match value {
        Value::BulkString(bytes) => match bytes.split_first()? {
            (b't', text) => Body::of(text, false),
            (b'b', bytes) => Body::of(bytes, true),
            _ => None,
        },
        _ => None,
    };
    let kept: Option<Vec<Body>> = kept.iter().map(body).collect();
    let kept = kept.filter(|kept| kept.len() as u64 <= sent);
    let kept = kept.ok_or("its mailbox makes no sense")?;
    Ok(Mailbox::new(sent, kept))
}

/// What a batch has come to.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Outcome {
    /// Positions in the batch, ascending, of sessions that have a newer owner.
    pub(crate) fenced: Vec<usize>,
    /// The same of sessions that were not saved for a reason of their own, with that.
    pub(crate) refused: Vec<(usize, String)>,
    /// The same of sessions that somebody has pushed to, with the number of the latest push.
    pub(crate) mail: Vec<(usize, u64)>,
    /// What has become of the pushes of all that are in neither of the first two.
    pub(crate) pushed: Vec<Pushed>,
}

/// The answer to a save. An error in it that is not about one key is the error of the whole.
pub(crate) fn saved(value: &Value, batch: &[Commit], login: &Login) -> Result<Outcome, String> {
    let outcome = parse_saved(value).filter(|outcome| is_whole(outcome, batch));
    let outcome = outcome.ok_or_else(|| "an answer to a save that makes no sense".to_owned())?;
    let refused = outcome.refused.into_iter().map(|(position, error)| {
        let (code, details) = error.split_once(' ').unwrap_or((&error, ""));
        let reason = line(code, details, login);
        let has_mail = batch
            .get(position)
            .is_some_and(|commit| commit.mail.is_some());
        if concerns_one_key(code, details) || has_mail && is_about_rights(code, details) {
            Ok((position, reason))
        } else {
            Err(reason)
        }
    });
    let refused = refused.collect::<Result<_, _>>()?;
    Ok(Outcome { refused, ..outcome })
}

/// The rights that each session needs are tried when the link comes up. A push needs more, and who
/// does without is not to lose the link by it.
fn is_about_rights(code: &str, details: &str) -> bool {
    code == "NOPERM" || code == "ERR" && details.contains("The user executing the script can't")
}

/// Whether it is the answer to this batch.
fn is_whole(outcome: &Outcome, batch: &[Commit]) -> bool {
    let refused: Vec<_> = outcome.refused.iter().map(|(at, _)| *at).collect();
    let mail: Vec<_> = outcome.mail.iter().map(|(at, _)| *at).collect();
    let are_of_batch = [&outcome.fenced, &refused, &mail].into_iter().all(|list| {
        let ascends = list.is_sorted_by(|a, b| a < b);
        ascends && list.last().is_none_or(|last| *last < batch.len())
    });
    let is_done = |at: &usize| !outcome.fenced.contains(at) && !refused.contains(at);
    let done = batch.iter().enumerate().filter(|(at, _)| is_done(at));
    let pushes = done.map(|(_, commit)| commit.pushes().len());
    are_of_batch
        && outcome.fenced.iter().all(|at| !refused.contains(at))
        && pushes.sum::<usize>() == outcome.pushed.len()
}

fn parse_saved(value: &Value) -> Option<Outcome> {
    let Value::Array(lists) = value else {
        return None;
    };
    let [
        Value::Array(fenced),
        Value::Array(refused),
        Value::Array(mail),
        pushed @ ..,
    ] = lists.as_slice()
    else {
        return None;
    };
    let pushed = match pushed {
        [] => &[],
        [Value::Array(pushed)] => pushed.as_slice(),
        _ => return None,
    };
    let position = |value: &Value| number(value).and_then(|at| usize::try_from(at).ok());
    Some(Outcome {
        fenced: fenced.iter().map(position).collect::<Option<_>>()?,
        refused: pairs(refused, |error| text(error).map(str::to_owned))?,
        mail: pairs(mail, number)?,
        pushed: pushed.iter().map(parse_pushed).collect::<Option<_>>()?,
    })
}

/// Positions, each followed by something.
fn pairs<T>(list: &[Value], of: impl Fn(&Value) -> Option<T>) -> Option<Vec<(usize, T)>> {
    let (pairs, rest) = list.as_chunks::<2>();
    rest.is_empty().then_some(())?;
    let pair = |[at, value]: &[Value; 2]| Some((usize::try_from(number(at)?).ok()?, of(value)?));
    pairs.iter().map(pair).collect()
}

fn parse_pushed(value: &Value) -> Option<Pushed> {
    match value {
        Value::Int(0) => Some(Pushed::Before),
        Value::Int(-1) => Some(Pushed::Refused(PushRefused::Full)),
        Value::Int(-2) => Some(Pushed::Refused(PushRefused::Unknown)),
        number => self::number(number).map(Pushed::Accepted),
    }
}

/// A message on the channel of all nodes, which is news of a claim, or on our own, which is news of a
/// push to a session. Anything else is somebody else's.
pub(crate) fn news(
    kind: &PushKind,
    data: &[Value],
    channel: &str,
    own_channel: &str,
) -> Option<StoreEvent> {
    let [heard_on, payload] = data else {
        return None;
    };
    let heard_on = text(heard_on).filter(|_| *kind == PushKind::Message)?;
    let (session, number) = text(payload)?.rsplit_once(' ')?;
    let session = SessionId::parse(session).ok()?;
    let number = number.parse().ok()?;
    if heard_on == channel {
        let epoch = number;
        Some(StoreEvent::TakenOver { session, epoch })
    } else if heard_on == own_channel {
        let sent = number;
        Some(StoreEvent::Mail { session, sent })
    } else {
        None
    }
}

/// Whether an error is about the key of one session, so that it is the answer to that request alone.
///
/// By its code: `WRONGTYPE` (something else is under the key), `OOM` (no room for one more; see
/// `Script::SaveAtMaxmemory`), `LOST` and `BADRECORD` (which our scripts say). By its text: what a
/// script says itself, of a line of its own (`user_script`), unless its code says otherwise.
/// Everything else is about the server or the link (`NOAUTH`, `NOPERM`, `LOADING`, `READONLY`,
/// `MASTERDOWN`, `NOREPLICAS`, `MISCONF`, `BUSY`, and whatever is not known here): the next request
/// would fare no better, and the link ends.
pub(crate) fn is_about_one_key(error: &ServerError) -> bool {
    concerns_one_key(error.code(), error.details().unwrap_or_default())
}

fn concerns_one_key(code: &str, details: &str) -> bool {
    match code {
        "WRONGTYPE" | "OOM" | "LOST" | "BADRECORD" => true,
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
