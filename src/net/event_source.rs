//! What an event from the kernel is about: mio's tokens, one for each source.
//!
//! A connection's token is its slot alone: nothing is freed before the turn's last step, so that an
//! event can never mean a later tenant of the slot.

use mio::Token;

/// The sources of events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// Clients connect here.
    Listener,
    /// Operators connect here.
    Admin,
    /// Another thread has something for the loop.
    Waker,
    /// The store's descriptor.
    Store,
    /// The link on which nodes talk.
    Bus,
    /// The connection at this slot.
    Connection(u32),
}

/// Tokens below this are the fixed sources.
const CONNECTIONS_FROM: usize = 5;

impl Source {
    /// The token to register this source with.
    pub(crate) fn token(self) -> Token {
        match self {
            Self::Listener => Token(0),
            Self::Admin => Token(1),
            Self::Waker => Token(2),
            Self::Store => Token(3),
            Self::Bus => Token(4),
            Self::Connection(slot) => Token(CONNECTIONS_FROM + slot as usize),
        }
    }

    /// The source that was registered with this token.
    pub(crate) fn of(token: Token) -> Self {
        match token.0 {
            0 => Self::Listener,
            1 => Self::Admin,
            2 => Self::Waker,
            3 => Self::Store,
            4 => Self::Bus,
            connection => Self::Connection((connection - CONNECTIONS_FROM) as u32),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_and_back() {
        let fixed = [
            Source::Listener,
            Source::Admin,
            Source::Waker,
            Source::Store,
        ];
        let slots = [
            Source::Connection(0),
            Source::Connection(1),
            Source::Connection(u32::MAX),
        ];
        for source in fixed.into_iter().chain(slots) {
            assert_eq!(Source::of(source.token()), source);
        }
    }
}
