//! Ids of connections, of open sessions, and of sessions as clients know them. Plain values.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// A connection. The slot is reused; the generation is not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnId {
    /// Index into the slab of connections.
    pub slot: u32,
    /// Distinguishes the connections that have held this slot.
    pub generation: u32,
}

/// A session that is open on this node: the handle that the store gives back with its answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SessionKey {
    /// Index into the table of open sessions.
    pub slot: u32,
    /// Distinguishes the sessions that have held this slot.
    pub generation: u32,
}

/// A session's id, chosen by the client (or a UUIDv4 that the server made).
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SessionId(Arc<str>);

/// The text is no session id: it must be 1–128 characters of `A-Z a-z 0-9 . _ ~ -`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InvalidSessionId;

impl fmt::Display for InvalidSessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a session id is 1 to 128 of A-Z a-z 0-9 . _ ~ -")
    }
}

impl std::error::Error for InvalidSessionId {}

impl SessionId {
    /// The longest id, in characters.
    pub const LEN_MAX: usize = 128;

    /// Parses a client's id.
    pub fn parse(text: &str) -> Result<Self, InvalidSessionId> {
        let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'~' | b'-');
        if text.is_empty() || text.len() > Self::LEN_MAX || !text.bytes().all(allowed) {
            return Err(InvalidSessionId);
        }
        Ok(Self(Arc::from(text)))
    }

    /// A UUIDv4 (RFC 9562, section 5.4) from 128 random bits.
    pub fn from_random(random: u128) -> Self {
        let bits = random & !(0xf << 76) & !(0b11 << 62) | 0x4 << 76 | 0b10 << 62;
        let hex = format!("{bits:032x}");
        let groups = [
            &hex[..8],
            &hex[8..12],
            &hex[12..16],
            &hex[16..20],
            &hex[20..],
        ];
        Self(Arc::from(groups.join("-")))
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The same as [`SessionId::parse`], for whoever reads ids with other values:
///
/// ```
/// use sundown::SessionId;
///
/// let id: SessionId = "cp-7".parse()?;
/// assert_eq!(id.as_str(), "cp-7");
/// assert!("not an id".parse::<SessionId>().is_err());
/// # Ok::<(), sundown::InvalidSessionId>(())
/// ```
impl FromStr for SessionId {
    type Err = InvalidSessionId;

    fn from_str(text: &str) -> Result<Self, InvalidSessionId> {
        Self::parse(text)
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
