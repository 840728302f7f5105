//! The frames of OCPP-J 1.6 (section 4.2): calls, and the answers to them. Values only.

use serde_json::{Value, json};

/// What a charge point sends.
pub(crate) enum Frame {
    Call(Call),
    /// A CALLRESULT or a CALLERROR: its id, and the rest.
    Answer(String, Value),
}

/// A CALL.
pub(crate) struct Call {
    pub(crate) id: String,
    pub(crate) action: String,
    pub(crate) payload: Value,
}

/// What is no frame.
pub(crate) enum Malformed {
    /// A CALL that has an id at least, which a CALLERROR can name.
    Call(String),
    /// Without an id there is nothing to answer, and a type that is not known is to be ignored.
    Unanswerable,
}

/// Why a call is refused.
#[derive(Clone, Copy)]
pub(crate) enum CallError {
    FormationViolation,
    InternalError,
    NotImplemented,
}

/// The longest id of a call.
const ID_CHARS_MAX: usize = 36;

impl Frame {
    pub(crate) fn parse(text: &str) -> Result<Self, Malformed> {
        let parts: Vec<Value> = serde_json::from_str(text).map_err(|_| Malformed::Unanswerable)?;
        let id = parts.get(1).and_then(Value::as_str).map(str::to_owned);
        let id = id.ok_or(Malformed::Unanswerable)?;
        let kind = parts.first().and_then(Value::as_u64);
        match (kind, &parts[2..]) {
            (Some(2), [Value::String(action), payload @ Value::Object(_)])
                if (1..=ID_CHARS_MAX).contains(&id.chars().count()) =>
            {
                let (action, payload) = (action.clone(), payload.clone());
                Ok(Self::Call(Call {
                    id,
                    action,
                    payload,
                }))
            }
            (Some(2), _) => Err(Malformed::Call(id)),
            (Some(3 | 4), rest) => Ok(Self::Answer(id, json!(rest))),
            _ => Err(Malformed::Unanswerable),
        }
    }
}

impl CallError {
    fn code(self) -> &'static str {
        match self {
            Self::FormationViolation => "FormationViolation",
            Self::InternalError => "InternalError",
            Self::NotImplemented => "NotImplemented",
        }
    }
}

/// A CALL of the central system's.
pub(crate) fn call(id: &str, action: &str, payload: &Value) -> String {
    json!([2, id, action, payload]).to_string()
}

/// The answer to a call.
pub(crate) fn answer(id: &str, outcome: Result<Value, CallError>) -> String {
    match outcome {
        Ok(payload) => json!([3, id, payload]).to_string(),
        Err(error) => json!([4, id, error.code(), "", {}]).to_string(),
    }
}
