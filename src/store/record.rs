//! The three promises of a store, for one session, as a plain value.
//!
//! It owns what a claim and a save do to a record; where records live, and for how long, is the
//! store's own matter. The memory store runs it, and so does the model (`tests/model.rs`); SQLite
//! and Redis say the same in SQL and Lua, and `tests/store_promises.rs` and `tests/redis_store`
//! hold all of them to it. It must never let an epoch be granted twice.

/// What a store keeps of a session, but for its expiry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Record {
    epoch: u64,
    count: u64,
    /// The last claim and what it was answered; a save that re-creates a record knows of none.
    claim: Option<(u64, Grant)>,
}

/// What a claim is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Grant {
    /// The epoch to save with.
    pub epoch: u64,
    /// Messages processed before this claim.
    pub count: u64,
    /// Whether the store knew the session.
    pub found: bool,
}

impl Record {
    /// Claims a session: gives its next epoch, above all that it ever had, and the same one again
    /// to the same token. `known` is what the store has, expired or not; `is_alive` says whether
    /// its count is still good; `epoch_floor` is the highest epoch of all records that are gone.
    pub fn claim(
        known: Option<Self>,
        is_alive: bool,
        token: u64,
        epoch_floor: u64,
    ) -> (Self, Grant) {
        if let Some(record) = known
            && let Some((claimed_with, grant)) = record.claim
            && claimed_with == token
        {
            return (record, grant);
        }
        let epoch_before = known.map_or(0, |record| record.epoch).max(epoch_floor);
        let alive = known.filter(|_| is_alive);
        let grant = Grant {
            epoch: epoch_before.saturating_add(1),
            count: alive.map_or(0, |record| record.count),
            found: alive.is_some(),
        };
        let record = Self {
            epoch: grant.epoch,
            count: grant.count,
            claim: Some((token, grant)),
        };
        (record, grant)
    }

    /// Saves a count; `None` if it is refused, since a newer claim exists. Within an epoch the
    /// count never goes down. A higher epoch than the one held is the owner's word for a record
    /// that was lost.
    pub fn commit(known: Option<Self>, epoch: u64, count: u64) -> Option<Self> {
        match known {
            Some(record) if epoch < record.epoch => None,
            Some(record) if epoch == record.epoch => Some(Self {
                count: record.count.max(count),
                ..record
            }),
            Some(_) | None => Some(Self {
                epoch,
                count,
                claim: None,
            }),
        }
    }

    /// The epoch of the last claim.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Messages processed, as far as was saved.
    pub fn count(&self) -> u64 {
        self.count
    }
}
