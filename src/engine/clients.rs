//! The WebSocket connections as the engine knows them, at the slots that the shell gave them.

use super::io::{CloseReason, ConnId, Protocol, SessionKey};

/// One client.
#[derive(Debug)]
pub(super) struct Client {
    /// What it understands.
    pub(super) protocol: Protocol,
    /// Its session; `None` for a plain client that named none, and after a takeover.
    pub(super) session: Option<SessionKey>,
    /// Messages processed, where there is no session to count them.
    pub(super) count: u64,
    /// How far it has come.
    pub(super) stage: Stage,
    /// Whether the shell has been told not to read from it.
    pub(super) paused: bool,
    /// A Close that waits until the replies before it have left.
    pub(super) close: Option<Box<CloseReason>>,
}

/// How far a client has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// Its session is asked for; nothing is read yet.
    Waiting,
    /// Messages are processed and answered.
    Open,
    /// Goodbye and Close are sent; what still comes is counted, and not answered.
    Bidden,
    /// A Close was sent for another reason; what still comes is dropped.
    Closing,
    /// The peer has closed; its session's save is awaited, then ours follows.
    PeerClosed,
}

/// What is reserved at first. The kernel gives memory for so much by itself, and page by page as it
/// is used; it grows and shrinks by a change of the mapping, and leaves no holes in the heap.
const SLOTS_FIRST: usize = 4 << 10;

/// Memory for so many slots is never given back.
const SLOTS_MIN: usize = 64;

/// All clients, by slot.
#[derive(Debug, Default)]
pub(super) struct Clients {
    slots: Vec<Option<(u32, Client)>>,
    len: usize,
}

impl Clients {
    /// Takes in a client at the slot of its connection.
    pub(super) fn insert(&mut self, conn: ConnId, client: Client) {
        let slot = conn.slot as usize;
        if self.slots.capacity() == 0 {
            self.slots.reserve_exact(SLOTS_FIRST);
        }
        if self.slots.len() <= slot {
            self.slots.resize_with(slot + 1, || None);
        }
        let earlier = self.slots[slot].replace((conn.generation, client));
        debug_assert!(
            earlier.is_none(),
            "the shell reuses a slot only after the engine let go"
        );
        self.len += usize::from(earlier.is_none());
    }

    /// The client, if it is still there.
    pub(super) fn get(&self, conn: ConnId) -> Option<&Client> {
        match self.slots.get(conn.slot as usize)? {
            Some((generation, client)) if *generation == conn.generation => Some(client),
            Some(_) | None => None,
        }
    }

    /// The client, to change it.
    pub(super) fn get_mut(&mut self, conn: ConnId) -> Option<&mut Client> {
        match self.slots.get_mut(conn.slot as usize)? {
            Some((generation, client)) if *generation == conn.generation => Some(client),
            Some(_) | None => None,
        }
    }

    /// Forgets a client.
    pub(super) fn remove(&mut self, conn: ConnId) -> Option<Client> {
        self.get(conn)?;
        let (_, client) = self.slots[conn.slot as usize].take()?;
        self.len -= 1;
        self.release();
        Some(client)
    }

    /// After a crowd: gives the memory back, down to the last slot that holds a client.
    fn release(&mut self) {
        while self.slots.pop_if(|slot| slot.is_none()).is_some() {}
        let len = self.slots.len();
        if self.slots.capacity() > SLOTS_MIN.max(len * 4) {
            self.slots.shrink_to(SLOTS_MIN.max(len * 2));
        }
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// The first slot from which on there is no client: the end of a walk by [`Clients::at`]. It
    /// may lie before the place that a walk has come to, which has seen all of them then.
    pub(super) fn slots_end(&self) -> usize {
        self.slots.len()
    }

    /// The client at a slot, for walks that go on over several turns.
    pub(super) fn at(&self, slot: usize) -> Option<(ConnId, &Client)> {
        let (generation, client) = self.slots.get(slot)?.as_ref()?;
        Some((
            ConnId {
                slot: slot as u32,
                generation: *generation,
            },
            client,
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn after_a_crowd_the_memory_is_given_back() {
        let conn = |slot| ConnId {
            slot,
            generation: slot + 7,
        };
        let mut clients = Clients::default();
        for slot in 0..10_000 {
            let client = Client {
                protocol: Protocol::Plain,
                session: None,
                count: u64::from(slot),
                stage: Stage::Open,
                paused: false,
                close: None,
            };
            clients.insert(conn(slot), client);
        }
        for slot in (0..10_000).filter(|slot| *slot != 100) {
            assert!(clients.remove(conn(slot)).is_some());
        }
        assert_eq!((clients.len(), clients.slots_end()), (1, 101));
        assert!(clients.slots.capacity() <= 4 * 101);
        assert_eq!(clients.get(conn(100)).map(|client| client.count), Some(100));
        assert!(clients.at(5_000).is_none(), "a walk may have come so far");
        assert!(clients.remove(conn(100)).is_some());
        assert_eq!(clients.slots_end(), 0);
        assert_eq!(clients.slots.capacity(), SLOTS_MIN);
    }
}
