//! The client as docs/protocol.md asks for it: an outbox that keeps what was sent until the count
//! reaches it, and one connection at a time.

use crate::node::NodeId;

/// A client's messages, numbered from 1 in the order in which they are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Outbox {
    last: u64,
    dropped: u64,
    sent: u64,
}

impl Outbox {
    pub(crate) fn of(messages: u64) -> Self {
        Self {
            last: messages,
            dropped: 0,
            sent: 0,
        }
    }

    /// Sends the next message on this connection and answers its number.
    pub(crate) fn send(&mut self) -> Option<u64> {
        if self.sent == self.last {
            return None;
        }
        self.sent += 1;
        Some(self.sent)
    }

    /// The count has come so far: what it covers need not be kept.
    pub(crate) fn drop_up_to(&mut self, count: u64) {
        self.dropped = self.dropped.max(count);
    }

    /// A new connection: what the hello covers has arrived, the rest goes out again.
    pub(crate) fn resume(&mut self, count: u64) {
        self.drop_up_to(count);
        self.sent = count;
    }

    /// The connection is over, and with it what was sent there.
    pub(crate) fn forget_sent(&mut self) {
        self.sent = self.dropped;
    }

    /// The highest count that the client was told, and acts upon: it could not send that again.
    pub(crate) fn acknowledged(&self) -> u64 {
        self.dropped
    }

    pub(crate) fn sent(&self) -> u64 {
        self.sent
    }

    pub(crate) fn len(&self) -> u64 {
        self.last
    }

    pub(crate) fn unsent(&self) -> u64 {
        self.last - self.sent
    }

    pub(crate) fn is_done(&self) -> bool {
        self.dropped == self.last
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Client {
    pub(crate) outbox: Outbox,
    /// The number of the last push that it has received, which it remembers.
    pub(crate) received: u64,
    pub(crate) line: Option<Line>,
}

/// The client's end of its connection.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Line {
    pub(crate) node: NodeId,
    pub(crate) stage: Stage,
    /// What the node has said and the client has not read.
    pub(crate) inbox: Vec<Said>,
    /// The number up to which it has said here that it has received pushes.
    pub(crate) confirmed: u64,
    /// The node's end is gone: what is in the inbox may still be read, or be lost with it.
    pub(crate) ended: bool,
}

impl Line {
    /// Whether it may say which pushes it has received.
    pub(crate) fn may_confirm(&self) -> bool {
        matches!(self.stage, Stage::Open | Stage::Leaving) && !self.ended
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Stage {
    /// Waits for its hello, and sends nothing before.
    Waiting,
    Open,
    /// Has said that it sends no more messages on this connection.
    Leaving,
    /// Has read the node's Close and answered it; waits for the end of the connection.
    Closing,
}

/// What a node says to a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Said {
    Hello(u64),
    Count(u64),
    Goodbye(u64),
    Close,
    Push { number: u64, body: u8 },
}

impl Said {
    /// The count that it acknowledges.
    pub(crate) fn count(self) -> Option<u64> {
        match self {
            Self::Hello(count) | Self::Count(count) | Self::Goodbye(count) => Some(count),
            Self::Close | Self::Push { .. } => None,
        }
    }
}
