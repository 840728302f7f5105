//! What the server says in text, held to the letter of the contract: these keys and no others, in
//! the contract's own spelling where it gives one.

use serde::Deserialize;

/// A message of the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Said {
    Count(u64),
    Time(String),
    Bye(u64),
    Hello(Hello),
    Notice(Notice),
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Hello {
    pub(crate) session: String,
    pub(crate) count: u64,
    pub(crate) resumed: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Notice {
    pub(crate) shutdown: bool,
    pub(crate) drain_ms: u64,
    pub(crate) reconnect_ms: u64,
}

impl Said {
    #[track_caller]
    pub(crate) fn parse(text: &str) -> Self {
        if let Some(count) = number(text, r#"{"count":"#) {
            Self::Count(count)
        } else if let Some(total) = number(text, r#"{"bye":true,"total":"#) {
            Self::Bye(total)
        } else if let Some(time) = text.strip_prefix(r#"{"ts":""#) {
            Self::Time(
                time.strip_suffix(r#""}"#)
                    .expect("a time and nothing more")
                    .to_owned(),
            )
        } else {
            let hello = serde_json::from_str(text).map(Self::Hello);
            let said = hello.or_else(|_| serde_json::from_str(text).map(Self::Notice));
            said.unwrap_or_else(|_| panic!("no message of the contract: {text}"))
        }
    }
}

fn number(text: &str, before: &str) -> Option<u64> {
    text.strip_prefix(before)?.strip_suffix('}')?.parse().ok()
}
