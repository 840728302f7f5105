//! What is said to every client of every node: any JSON in, the message out.
//!
//! Pure. It must never pass on what is not JSON, whoever says it: a client that cannot read a
//! message has no way to tell where the next begins to make sense.

use std::fmt;
use std::sync::Arc;

use crate::config::Limits;

/// Why something is not sent to everybody.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum BroadcastError {
    /// More than [`Limits::BROADCAST_BYTES_MAX`].
    TooLarge,
    /// Not JSON in UTF-8, or nested too deep for most that read it: what is wrong, and where.
    NotJson(String),
    /// So many wait to be sent already that this one was not taken.
    TooMany,
    /// A shutdown has begun: nobody is told.
    ShuttingDown,
    /// Every client of this node is told. Other nodes are out of reach: their clients are not.
    OnlyHere,
}

impl fmt::Display for BroadcastError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLarge => write!(f, "more than {} bytes", Limits::BROADCAST_BYTES_MAX),
            Self::NotJson(error) => write!(f, "not JSON: {error}"),
            Self::ShuttingDown => f.write_str("shutting down"),
            Self::OnlyHere => {
                f.write_str("only this node's clients are told: other nodes are out of reach")
            }
            Self::TooMany => f.write_str("too many broadcasts wait already"),
        }
    }
}

impl std::error::Error for BroadcastError {}

/// The message to clients, `{"broadcast":<json>}`, made once for all of them. White space around
/// the JSON is left out.
pub(crate) fn message(json: &[u8]) -> Result<Arc<str>, BroadcastError> {
    if json.len() > Limits::BROADCAST_BYTES_MAX {
        return Err(BroadcastError::TooLarge);
    }
    let not_json = |error: &dyn fmt::Display| BroadcastError::NotJson(error.to_string());
    let json = std::str::from_utf8(json).map_err(|error| not_json(&error))?;
    let parsed: Result<serde_json::Value, _> = serde_json::from_str(json);
    parsed.map_err(|error| not_json(&error))?;
    Ok([HEAD, json.trim(), TAIL].concat().into())
}

/// The JSON of a message, for other nodes.
#[cfg(feature = "redis")]
pub(crate) fn json_of(message: &str) -> &str {
    let json = message
        .strip_prefix(HEAD)
        .and_then(|rest| rest.strip_suffix(TAIL));
    debug_assert!(json.is_some(), "made by `message`");
    json.unwrap_or_default()
}

const HEAD: &str = "{\"broadcast\":";
const TAIL: &str = "}";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_json_is_passed_on_as_it_was_written() {
        let check = |json: &str, expected: &str| {
            assert_eq!(message(json.as_bytes()).as_deref(), Ok(expected));
        };
        check("\"hello\"", "{\"broadcast\":\"hello\"}");
        check(
            " {\"b\": 1.0,\n\"a\":[] } \n",
            "{\"broadcast\":{\"b\": 1.0,\n\"a\":[] }}",
        );
        check("null", "{\"broadcast\":null}");
    }

    #[test]
    fn what_is_not_json_is_refused() {
        let deep = "[".repeat(1_000) + &"]".repeat(1_000);
        let texts: [&[u8]; 6] = [
            b"",
            b"hello",
            b"{} {}",
            b"\"\xff\"",
            b"\"\n\"",
            deep.as_bytes(),
        ];
        for json in texts {
            let refused = message(json);
            assert!(
                matches!(refused, Err(BroadcastError::NotJson(_))),
                "{refused:?}"
            );
        }
    }

    #[test]
    fn up_to_64_kib() {
        let json = |len: usize| format!("\"{}\"", "a".repeat(len - 2)).into_bytes();
        assert!(message(&json(Limits::BROADCAST_BYTES_MAX)).is_ok());
        let refused = message(&json(Limits::BROADCAST_BYTES_MAX + 1));
        assert_eq!(refused, Err(BroadcastError::TooLarge));
    }
}
