//! The count of one session: how far it is processed, saved and spilled.
//!
//! It owns the rules by which a count moves from "processed" to "safe", and nothing else. A plain
//! value, so that the model checker (`tests/model.rs`) runs the same rules. What neither the store
//! nor the spill has confirmed is never safe.

/// The counts of one session, and the stage that it is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Ledger {
    stage: Stage,
    count: u64,
    saved: u64,
    spilled: u64,
    /// A save is on its way. There is never a second one: what is counted meanwhile goes with
    /// the next, so that a slow store cannot pile up requests.
    in_flight: bool,
}

/// How far a session has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Stage {
    /// Waits for its epoch; nothing is counted.
    Claiming,
    /// Counts, and saves with this epoch.
    Open { epoch: u64 },
    /// Another connection on this node has asked for it: it counts no more, and what it has is
    /// saved.
    Displaced { epoch: u64 },
}

impl Ledger {
    /// A session that waits for its epoch.
    pub fn claiming() -> Self {
        Self {
            stage: Stage::Claiming,
            count: 0,
            saved: 0,
            spilled: 0,
            in_flight: false,
        }
    }

    /// The store has granted the claim, and has this count.
    pub fn open(&mut self, epoch: u64, count: u64) {
        *self = Self {
            stage: Stage::Open { epoch },
            count,
            saved: count,
            ..Self::claiming()
        };
    }

    /// Another connection on this node asks for the session, which counts no more. Returns `false`
    /// if it had not been granted, so that there is nothing to save.
    pub fn displace(&mut self) -> bool {
        match self.stage {
            Stage::Open { epoch } | Stage::Displaced { epoch } => {
                self.stage = Stage::Displaced { epoch };
                true
            }
            Stage::Claiming => false,
        }
    }

    /// Counts a message. Returns the new count; `None` if the session may not count.
    pub fn count(&mut self) -> Option<u64> {
        match self.stage {
            Stage::Open { .. } => {
                self.count += 1;
                Some(self.count)
            }
            Stage::Claiming | Stage::Displaced { .. } => None,
        }
    }

    /// Epoch and count to save now, changed or not; `None` while a save is on its way, and before
    /// there is an epoch.
    pub fn next_save(&mut self) -> Option<(u64, u64)> {
        let epoch = self.granted_epoch()?;
        if self.in_flight {
            return None;
        }
        self.in_flight = true;
        Some((epoch, self.count))
    }

    /// The store has confirmed a save of this count.
    pub fn handle_saved(&mut self, count: u64) {
        self.in_flight = false;
        self.saved = self.saved.max(count);
    }

    /// The store has refused a save: it is not known to hold anything of the session.
    pub fn handle_refused(&mut self) {
        self.in_flight = false;
        self.saved = 0;
    }

    /// The store has forgotten what was on its way.
    pub fn handle_store_down(&mut self) {
        self.in_flight = false;
    }

    /// Epoch and count to put into the spill; `None` if the count is safe already.
    pub fn next_spill(&self) -> Option<(u64, u64)> {
        let epoch = self.granted_epoch()?;
        (!self.is_safe()).then_some((epoch, self.count))
    }

    /// The spill holds this count.
    pub fn handle_spilled(&mut self, count: u64) {
        self.spilled = self.spilled.max(count);
    }

    /// The spill does not hold what it was given, and nothing that it was given before.
    pub fn handle_spill_lost(&mut self) {
        self.spilled = 0;
    }

    /// Messages processed so far.
    pub fn processed(&self) -> u64 {
        self.count
    }

    /// The count that the store has confirmed. Only this may be told to a client: another node does
    /// not see what was spilled.
    pub fn saved(&self) -> u64 {
        self.saved
    }

    /// Whether a reply that acknowledges this count may leave.
    pub fn may_tell(&self, count: u64) -> bool {
        count <= self.saved
    }

    /// Whether the store has all of it.
    pub fn is_saved(&self) -> bool {
        self.saved >= self.count
    }

    /// Whether store or spill has all of it.
    pub fn is_safe(&self) -> bool {
        self.saved.max(self.spilled) >= self.count
    }

    /// The epoch that it counts under; `None` while it may not count.
    pub fn epoch(&self) -> Option<u64> {
        match self.stage {
            Stage::Open { epoch } => Some(epoch),
            Stage::Claiming | Stage::Displaced { .. } => None,
        }
    }

    /// The epoch that it saves under; `None` before its claim is granted.
    pub fn granted_epoch(&self) -> Option<u64> {
        match self.stage {
            Stage::Open { epoch } | Stage::Displaced { epoch } => Some(epoch),
            Stage::Claiming => None,
        }
    }
}
