//! The wire: two bounded queues of frames for each connection, in order, with delays, and resets.
//!
//! It owns what is under way and what a kernel has received. Bytes are counted, not made: a frame
//! arrives whole, once the last byte of it has been taken.

use std::collections::{BTreeMap, VecDeque};
use std::time::Instant;

use sundown::engine::io::{Protocol, SessionId};
use sundown::engine::message::ServerMessage;

use super::common::{Common, Event};

pub(crate) type SockId = u32;

/// An end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    Client = 0,
    Server = 1,
}

impl Side {
    pub(crate) fn other(self) -> Self {
        match self {
            Self::Client => Self::Server,
            Self::Server => Self::Client,
        }
    }
}

/// From a client.
#[derive(Clone, Debug)]
pub(crate) enum ClientFrame {
    Upgrade {
        protocol: Protocol,
        session: Option<SessionId>,
        /// The number of the last push that it has received.
        received: u64,
    },
    Message(Ask),
    /// `sundown.v2`: pushes up to this number have been received.
    Received(u64),
    /// `sundown.v2`: no more messages on this connection.
    Leave,
    Ping,
    Close,
    End,
}

/// What a message asks of the application.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ask {
    /// Its number, as the client counts; 0 if the client cannot know it.
    pub(crate) index: u64,
    /// Bytes of a text that is to be sent back beside the count.
    pub(crate) text: usize,
    /// Whether the connection is to be closed.
    pub(crate) close: bool,
    /// For how long another thread has the message, in milliseconds; 0 if it is handled at once.
    pub(crate) defer_ms: u64,
    /// The client to whose session a push goes, counted from 1; 0 for none.
    pub(crate) push_to: usize,
}

/// Whether a count may come after another. In `sundown.v2` one covers all before it.
pub(crate) fn follows(protocol: Protocol, last: Option<u64>, count: u64) -> bool {
    last.is_none_or(|last| count == last + 1 || protocol == Protocol::V2 && count > last)
}

/// From a server.
#[derive(Clone, Debug)]
pub(crate) enum ServerFrame {
    Upgraded,
    Refused,
    Message(ServerMessage),
    Pong,
    Close { code: u16, text: String },
    End,
}

/// One direction.
#[derive(Debug)]
pub(crate) struct Pipe<T> {
    transit: VecDeque<(Instant, T, usize)>,
    arrived: VecDeque<(T, usize)>,
    /// Taken from the sender and not read by the receiver.
    bytes: usize,
    window: usize,
    last_at: Instant,
    /// The sender waits for room.
    starved: bool,
}

impl<T> Pipe<T> {
    fn new(window: usize, now: Instant) -> Self {
        Self {
            transit: VecDeque::new(),
            arrived: VecDeque::new(),
            bytes: 0,
            window,
            last_at: now,
            starved: false,
        }
    }

    fn room(&self) -> usize {
        self.window.saturating_sub(self.bytes)
    }

    fn put(&mut self, frame: T, size: usize, at: Instant) -> Instant {
        self.last_at = self.last_at.max(at);
        self.transit.push_back((self.last_at, frame, size));
        self.last_at
    }

    fn arrive(&mut self, now: Instant) {
        while self.transit.front().is_some_and(|(at, ..)| *at <= now) {
            let Some((_, frame, size)) = self.transit.pop_front() else {
                return;
            };
            self.arrived.push_back((frame, size));
        }
    }

    fn read(&mut self) -> Option<T> {
        let (frame, size) = self.arrived.pop_front()?;
        self.bytes = self.bytes.saturating_sub(size);
        Some(frame)
    }
}

/// A TCP connection.
#[derive(Debug)]
pub(crate) struct Sock {
    pub(crate) client: usize,
    pub(crate) node: usize,
    up: Pipe<ClientFrame>,
    down: Pipe<ServerFrame>,
    /// By side: whether it still has the socket.
    open: [bool; 2],
    /// By side: whether a reset has reached it.
    broken: [bool; 2],
}

/// All of them.
#[derive(Debug, Default)]
pub(crate) struct Network {
    socks: BTreeMap<SockId, Sock>,
    next: SockId,
}

impl Network {
    pub(crate) fn get(&self, sock: SockId) -> Option<&Sock> {
        self.socks.get(&sock)
    }

    /// What has not been told to a side is told to nobody, once both are gone.
    fn forget_if_over(&mut self, id: SockId) {
        if self
            .socks
            .get(&id)
            .is_some_and(|sock| sock.open == [false; 2])
        {
            self.socks.remove(&id);
        }
    }

    pub(crate) fn is_broken(&self, id: SockId, side: Side) -> bool {
        self.socks
            .get(&id)
            .is_none_or(|sock| sock.broken[side as usize])
    }

    pub(crate) fn is_readable(&self, id: SockId, side: Side) -> bool {
        self.socks.get(&id).is_some_and(|sock| match side {
            Side::Client => !sock.down.arrived.is_empty() || sock.broken[0],
            Side::Server => !sock.up.arrived.is_empty() || sock.broken[1],
        })
    }

    /// How many frames of a client lie before its end, if that has arrived.
    pub(crate) fn before_end(&self, id: SockId) -> Option<usize> {
        let arrived = &self.socks.get(&id)?.up.arrived;
        let is_end = |(frame, _): &(ClientFrame, usize)| matches!(frame, ClientFrame::End);
        arrived.iter().position(is_end)
    }

    /// The sockets of a node that its end still has.
    pub(crate) fn of_node(&self, node: usize) -> Vec<SockId> {
        let of_node = |(_, sock): &(&SockId, &Sock)| sock.node == node && sock.open[1];
        self.socks
            .iter()
            .filter(of_node)
            .map(|(id, _)| *id)
            .collect()
    }
}

impl Common {
    /// A client connects.
    pub(crate) fn connect(&mut self, client: usize, node: usize) -> SockId {
        let id = self.network.next;
        self.network.next += 1;
        let (least, most) = self.options.window;
        let (up, down) = (self.dice.among(least, most), self.dice.among(least, most));
        let now = self.now.instant;
        let sock = Sock {
            client,
            node,
            up: Pipe::new(up, now),
            down: Pipe::new(down, now),
            open: [true; 2],
            broken: [false; 2],
        };
        self.network.socks.insert(id, sock);
        let at = now + self.net_delay();
        self.plan(at, Event::Connect { sock: id });
        // Nothing that the client sends overtakes this.
        if let Some(sock) = self.network.socks.get_mut(&id) {
            sock.up.last_at = at;
        }
        id
    }

    pub(crate) fn net_delay(&mut self) -> std::time::Duration {
        let most = self.options.net_delay_max;
        self.dice.time(most / 10, most)
    }

    /// Sends a frame, if there is room for it: a large one goes into an empty pipe.
    pub(crate) fn send_up(&mut self, id: SockId, frame: ClientFrame, size: usize) -> bool {
        let at = self.now.instant + self.net_delay();
        let Some(sock) = self.network.socks.get_mut(&id) else {
            return true;
        };
        if sock.up.room() < size && sock.up.bytes > 0 {
            sock.up.starved = true;
            return false;
        }
        sock.up.bytes += size;
        let at = sock.up.put(frame, size, at);
        self.plan(
            at,
            Event::Arrived {
                sock: id,
                side: Side::Server,
            },
        );
        true
    }

    /// How many of so many bytes the kernel takes now.
    pub(crate) fn take_down(&mut self, id: SockId, wanted: usize) -> usize {
        let Some(sock) = self.network.socks.get_mut(&id) else {
            return wanted;
        };
        let room = sock.down.room().min(wanted);
        let taken = if room > 1 && self.dice.chance(self.options.short_write) {
            self.seen.note("partial write");
            self.dice.among(1, room - 1)
        } else {
            room
        };
        sock.down.bytes += taken;
        if taken < room {
            // It has room: the edge comes soon.
            let at = self.now.instant + self.dice.within_ms(3);
            self.plan(
                at,
                Event::Room {
                    sock: id,
                    side: Side::Server,
                },
            );
        } else if taken < wanted {
            sock.down.starved = true;
        }
        taken
    }

    /// The last byte of a frame was taken.
    pub(crate) fn put_down(&mut self, id: SockId, frame: ServerFrame, size: usize) {
        let at = self.now.instant + self.net_delay();
        if let Some(sock) = self.network.socks.get_mut(&id) {
            let at = sock.down.put(frame, size, at);
            self.plan(
                at,
                Event::Arrived {
                    sock: id,
                    side: Side::Client,
                },
            );
        }
    }

    pub(crate) fn read_up(&mut self, id: SockId) -> Option<ClientFrame> {
        let sock = self.network.socks.get_mut(&id)?;
        let frame = sock.up.read()?;
        if std::mem::take(&mut sock.up.starved) {
            let at = self.now.instant + self.net_delay();
            self.plan(
                at,
                Event::Room {
                    sock: id,
                    side: Side::Client,
                },
            );
        }
        Some(frame)
    }

    pub(crate) fn read_down(&mut self, id: SockId) -> Option<ServerFrame> {
        let sock = self.network.socks.get_mut(&id)?;
        let frame = sock.down.read()?;
        if std::mem::take(&mut sock.down.starved) {
            let at = self.now.instant + self.net_delay();
            self.plan(
                at,
                Event::Room {
                    sock: id,
                    side: Side::Server,
                },
            );
        }
        Some(frame)
    }

    /// Takes what has arrived by now; whether that side still wants to hear of it.
    pub(crate) fn arrive(&mut self, id: SockId, side: Side) -> bool {
        let now = self.now.instant;
        let Some(sock) = self.network.socks.get_mut(&id) else {
            return false;
        };
        match side {
            Side::Client => sock.down.arrive(now),
            Side::Server => sock.up.arrive(now),
        }
        let wanted = sock.open[side as usize];
        if !wanted {
            self.break_other(id, side);
        }
        wanted
    }

    /// A reset has come: that side learns of it, and may lose what it has not read.
    pub(crate) fn handle_reset(&mut self, id: SockId, side: Side) {
        let drops = self.dice.chance(0.5);
        if let Some(sock) = self.network.socks.get_mut(&id) {
            sock.broken[side as usize] = true;
            if drops {
                match side {
                    Side::Client => sock.down.arrived.clear(),
                    Side::Server => sock.up.arrived.clear(),
                }
            }
        }
    }

    /// One side closes: in order, if it has read everything; else the other gets a reset, which
    /// destroys what is under way.
    pub(crate) fn close_sock(&mut self, id: SockId, side: Side, in_order: bool) {
        let Some(sock) = self.network.socks.get_mut(&id) else {
            return;
        };
        sock.open[side as usize] = false;
        if !in_order {
            let (len, pipe_is_up) = match side {
                Side::Client => (sock.up.transit.len(), true),
                Side::Server => (sock.down.transit.len(), false),
            };
            let left = self.dice.among(0, len);
            if pipe_is_up {
                sock.up.transit.truncate(left);
            } else {
                sock.down.transit.truncate(left);
            }
            self.break_other(id, side);
        }
        self.network.forget_if_over(id);
    }

    fn break_other(&mut self, id: SockId, side: Side) {
        let delay = self.net_delay();
        let Some(sock) = self.network.socks.get(&id) else {
            return;
        };
        let last_at = match side {
            Side::Client => sock.up.transit.back().map(|(at, ..)| *at),
            Side::Server => sock.down.transit.back().map(|(at, ..)| *at),
        };
        let at = (self.now.instant + delay).max(last_at.unwrap_or(self.now.instant));
        self.plan(
            at,
            Event::Reset {
                sock: id,
                side: side.other(),
            },
        );
    }
}
