//! Pushes: messages that a store keeps for a session until its client has received them. Plain
//! values.
//!
//! [`Mailbox`] owns the numbers: the first push to a session has 1, and none is given twice. It must
//! never drop a push that was accepted and not confirmed.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;

use super::ids::SessionId;

/// The last push that a client has received, as it says when it comes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Received {
    /// Its number; 0 if there was none, or the client does not say.
    pub number: u64,
    /// The incarnation of the session in which that was its number, if the client says so: the same
    /// number means another push in another one.
    pub incarnation: Option<u64>,
}

impl Received {
    /// Up to which number the pushes of an incarnation are received.
    pub(super) fn number_in(self, incarnation: u64) -> u64 {
        let is_same = self.incarnation.is_none_or(|ours| ours == incarnation);
        if is_same { self.number } else { 0 }
    }
}

/// What a push says. A copy shares it.
#[derive(Clone, PartialEq, Eq, Hash)]
pub enum Body {
    /// Goes out as a text message.
    Text(Arc<str>),
    /// Goes out as a binary message.
    Binary(Arc<[u8]>),
}

impl Body {
    /// Its bytes.
    pub fn as_bytes(&self) -> &[u8] {
        match self {
            Self::Text(text) => text.as_bytes(),
            Self::Binary(bytes) => bytes,
        }
    }

    /// How many bytes it has.
    pub fn len(&self) -> usize {
        self.as_bytes().len()
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether it goes out as a binary message.
    pub fn is_binary(&self) -> bool {
        matches!(self, Self::Binary(_))
    }

    /// A body of these bytes; `None` for a text that is not UTF-8.
    pub fn of(bytes: &[u8], is_binary: bool) -> Option<Self> {
        Some(if is_binary {
            Self::Binary(bytes.into())
        } else {
            Self::Text(std::str::from_utf8(bytes).ok()?.into())
        })
    }
}

/// Its kind and length only: what is in it is the application's secret.
impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = if self.is_binary() { "Binary" } else { "Text" };
        write!(f, "{kind}({} bytes)", self.len())
    }
}

impl From<&str> for Body {
    fn from(text: &str) -> Self {
        Self::Text(text.into())
    }
}

impl From<String> for Body {
    fn from(text: String) -> Self {
        Self::Text(text.into())
    }
}

impl From<&[u8]> for Body {
    fn from(bytes: &[u8]) -> Self {
        Self::Binary(bytes.into())
    }
}

impl From<Vec<u8>> for Body {
    fn from(bytes: Vec<u8>) -> Self {
        Self::Binary(bytes.into())
    }
}

/// A push on its way to the store.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Push {
    /// The step that it is an effect of.
    pub step: u64,
    /// The session that it is for.
    pub to: SessionId,
    /// The message.
    pub body: Body,
}

/// What a commit does to mailboxes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mail {
    /// The client of the session has received all pushes up to this number.
    pub confirmed: u64,
    /// What the session's steps push, in their order: those of later steps than the store holds are
    /// carried out.
    pub pushes: Vec<Push>,
}

/// Why a push was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum PushRefused {
    /// Too many pushes wait for this session, or too many bytes of them.
    Full,
    /// There is no such session.
    Unknown,
}

impl fmt::Display for PushRefused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Full => "the mailbox of the session is full",
            Self::Unknown => "there is no such session",
        })
    }
}

impl std::error::Error for PushRefused {}

/// What has become of a push.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pushed {
    /// It is in the mailbox, with this number.
    Accepted(u64),
    /// It is not, and the commit is carried out all the same.
    Refused(PushRefused),
    /// An earlier commit has carried it out, whose answer was lost.
    Before,
}

/// The pushes to one session that its client has not confirmed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Mailbox {
    sent: u64,
    bytes: usize,
    /// The oldest first; the last one has the number `sent`.
    kept: VecDeque<Body>,
}

impl Mailbox {
    /// How many pushes it holds.
    pub const LEN_MAX: usize = 256;
    /// How many bytes they have together, and so how long one push may be.
    pub const BYTES_MAX: usize = 256 * 1024;

    /// A mailbox as it was written down: the number of the latest push, and those that are kept.
    pub fn new(sent: u64, kept: impl IntoIterator<Item = Body>) -> Self {
        let kept: VecDeque<_> = kept.into_iter().collect();
        let bytes = kept.iter().map(Body::len).sum();
        Self { sent, bytes, kept }
    }

    /// The number of the latest push; 0 before the first.
    pub fn sent(&self) -> u64 {
        self.sent
    }

    /// How many pushes are kept.
    pub fn len(&self) -> usize {
        self.kept.len()
    }

    /// Whether none is kept.
    pub fn is_empty(&self) -> bool {
        self.kept.is_empty()
    }

    /// The pushes that are kept, each with its number.
    pub fn iter(&self) -> impl Iterator<Item = (u64, &Body)> {
        (self.confirmed() + 1..).zip(&self.kept)
    }

    /// The number up to which pushes are confirmed, and kept no more.
    pub fn confirmed(&self) -> u64 {
        self.sent - self.kept.len() as u64
    }

    /// The push of this number, if it is kept.
    pub fn get(&self, number: u64) -> Option<(u64, &Body)> {
        let at = number.checked_sub(self.confirmed() + 1)?;
        Some((number, self.kept.get(usize::try_from(at).ok()?)?))
    }

    /// How many bytes are kept.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Takes a push, and gives it the next number.
    pub fn push(&mut self, body: Body) -> Result<u64, PushRefused> {
        let bytes = self.bytes + body.len();
        if self.kept.len() >= Self::LEN_MAX || bytes > Self::BYTES_MAX {
            return Err(PushRefused::Full);
        }
        self.bytes = bytes;
        self.sent += 1;
        self.kept.push_back(body);
        Ok(self.sent)
    }

    /// The client has received all up to this number.
    pub fn confirm(&mut self, number: u64) {
        while self.confirmed() < number
            && let Some(body) = self.kept.pop_front()
        {
            self.bytes -= body.len();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(mailbox: &Mailbox) -> Vec<u64> {
        mailbox.iter().map(|(number, _)| number).collect()
    }

    #[test]
    fn what_is_confirmed_goes_and_numbers_go_on() {
        let mut mailbox = Mailbox::default();
        for number in 1..=3 {
            assert_eq!(mailbox.push("text".into()), Ok(number));
        }
        mailbox.confirm(2);
        assert_eq!((numbers(&mailbox), mailbox.sent()), (vec![3], 3));
        // An old confirmation, and one of a push that there never was.
        mailbox.confirm(1);
        mailbox.confirm(9);
        assert_eq!((numbers(&mailbox), mailbox.sent()), (vec![], 3));
        assert_eq!(mailbox.push("text".into()), Ok(4));
        assert_eq!(numbers(&mailbox), [4]);
        assert!(mailbox.get(4).is_some() && mailbox.get(3).is_none() && mailbox.get(5).is_none());
        let read = Mailbox::new(4, mailbox.iter().map(|(_, body)| body.clone()));
        assert_eq!(read, mailbox);
    }

    #[test]
    fn a_full_mailbox_refuses_and_drops_nothing() {
        let mut mailbox = Mailbox::default();
        for _ in 0..Mailbox::LEN_MAX {
            mailbox.push("".into()).unwrap();
        }
        assert_eq!(mailbox.push("".into()), Err(PushRefused::Full));
        assert_eq!(mailbox.len(), Mailbox::LEN_MAX);
        mailbox.confirm(1);
        let longest = vec![7; Mailbox::BYTES_MAX];
        assert_eq!(mailbox.push(longest.clone().into()), Ok(257));
        mailbox.confirm(256);
        assert_eq!(mailbox.push("1".into()), Err(PushRefused::Full));
        mailbox.confirm(257);
        assert_eq!(mailbox.push(longest.into()), Ok(258));
    }
}
