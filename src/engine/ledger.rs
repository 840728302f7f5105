//! The steps of one session: which is the latest, and how far they are saved and spilled.
//!
//! It owns the rules by which a step moves from "done" to "safe", and nothing else. A plain value,
//! so that the model checker (`tests/model.rs`) runs the same rules. What neither the store nor the
//! spill has confirmed is never safe.

use super::step::Snapshot;

/// How far a session has come within its epoch. Of two, the one with the higher step is later.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Mark {
    /// The number of the step.
    pub step: u64,
    /// Messages processed by then.
    pub count: u64,
}

impl Mark {
    /// Where a session stands that holds this.
    pub fn of(snapshot: &Snapshot) -> Self {
        Self {
            step: snapshot.step,
            count: snapshot.count,
        }
    }
}

/// The steps of one session, and the stage that it is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Ledger {
    stage: Stage,
    /// The latest step.
    latest: Mark,
    /// What store and spill have confirmed; `None`: they are not known to hold anything.
    saved: Option<Mark>,
    spilled: Option<Mark>,
    /// The claim has found nothing, so that a store which holds nothing lacks nothing before the
    /// first step.
    began_blank: bool,
    /// A commit is on its way. There is never a second one: what is done meanwhile goes with the
    /// next, so that a slow store cannot pile up requests.
    in_flight: bool,
}

/// How far a session has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Stage {
    /// Waits for its epoch; no step is taken.
    Claiming,
    /// Takes steps, and saves with this epoch.
    Open { epoch: u64 },
    /// Another connection on this node has asked for it: it takes no more steps, and what it has is
    /// saved.
    Displaced { epoch: u64 },
}

impl Ledger {
    /// A session that waits for its epoch.
    pub fn claiming() -> Self {
        Self {
            stage: Stage::Claiming,
            latest: Mark::default(),
            saved: Some(Mark::default()),
            spilled: None,
            began_blank: true,
            in_flight: false,
        }
    }

    /// A session that was never claimed, and of which no store holds anything. It is to take a step at
    /// once.
    pub fn begun(epoch: u64, count: u64) -> Self {
        Self {
            stage: Stage::Open { epoch },
            latest: Mark { step: 0, count },
            saved: (count == 0).then(Mark::default),
            began_blank: count == 0,
            ..Self::claiming()
        }
    }

    /// The store has granted the claim, and holds this. `is_blank` says that it holds nothing that a
    /// new session would not have.
    pub fn open(&mut self, epoch: u64, held: Mark, is_blank: bool) {
        *self = Self {
            stage: Stage::Open { epoch },
            latest: held,
            saved: Some(held),
            began_blank: is_blank,
            ..Self::claiming()
        };
    }

    /// Another connection on this node asks for the session, which takes no more steps. Returns
    /// `false` if it had not been granted, so that there is nothing to save.
    pub fn displace(&mut self) -> bool {
        match self.stage {
            Stage::Open { epoch } | Stage::Displaced { epoch } => {
                self.stage = Stage::Displaced { epoch };
                true
            }
            Stage::Claiming => false,
        }
    }

    /// Takes a step, which may count a message. Returns the new count; `None` if the session may
    /// not take any.
    pub fn step(&mut self, counts: bool) -> Option<u64> {
        match self.stage {
            Stage::Open { .. } => {
                self.latest.step += 1;
                self.latest.count += u64::from(counts);
                Some(self.latest.count)
            }
            Stage::Claiming | Stage::Displaced { .. } => None,
        }
    }

    /// Epoch and step to save now, changed or not; `None` while a commit is on its way, and before
    /// there is an epoch.
    pub fn next_save(&mut self) -> Option<(u64, Mark)> {
        let epoch = self.granted_epoch()?;
        if self.in_flight {
            return None;
        }
        self.in_flight = true;
        Some((epoch, self.latest))
    }

    /// The store has confirmed a commit of this step.
    pub fn handle_saved(&mut self, mark: Mark) {
        self.in_flight = false;
        if !self.may_tell(mark.step) {
            self.saved = Some(mark);
        }
    }

    /// The store has refused a commit: it is not known to hold anything of the session.
    pub fn handle_refused(&mut self) {
        self.in_flight = false;
        self.handle_lost();
    }

    /// The store has lost what it had confirmed.
    pub fn handle_lost(&mut self) {
        self.saved = self.began_blank.then(Mark::default);
    }

    /// The store has forgotten what was on its way.
    pub fn handle_store_down(&mut self) {
        self.in_flight = false;
    }

    /// Epoch and step to put into the spill; `None` if all is safe already.
    pub fn next_spill(&self) -> Option<(u64, Mark)> {
        let epoch = self.granted_epoch()?;
        (!self.is_safe()).then_some((epoch, self.latest))
    }

    /// The spill holds this step.
    pub fn handle_spilled(&mut self, mark: Mark) {
        self.spilled = self.spilled.max(Some(mark));
    }

    /// The spill does not hold what it was given, and nothing that it was given before.
    pub fn handle_spill_lost(&mut self) {
        self.spilled = None;
    }

    /// The latest step.
    pub fn latest(&self) -> Mark {
        self.latest
    }

    /// Messages processed so far.
    pub fn processed(&self) -> u64 {
        self.latest.count
    }

    /// The count that the store has confirmed. Only this may be told to a client: another node does
    /// not see what was spilled.
    pub fn saved(&self) -> u64 {
        self.saved.map_or(0, |mark| mark.count)
    }

    /// Whether a reply of this step may leave.
    pub fn may_tell(&self, step: u64) -> bool {
        self.saved.is_some_and(|saved| step <= saved.step)
    }

    /// Whether a new session would be the same: there is nothing to lose.
    pub fn is_blank(&self) -> bool {
        self.began_blank && self.latest.step == 0
    }

    /// Whether the store has all of it.
    pub fn is_saved(&self) -> bool {
        self.saved
            .is_some_and(|saved| saved.step >= self.latest.step)
    }

    /// Whether store or spill has all of it.
    pub fn is_safe(&self) -> bool {
        let is_latest = |mark: Mark| mark.step >= self.latest.step;
        self.saved.is_some_and(is_latest) || self.spilled.is_some_and(is_latest)
    }

    /// The epoch that it takes steps under; `None` while it may not.
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

#[cfg(test)]
mod tests {
    use super::*;

    fn opened(step: u64, count: u64, is_blank: bool) -> Ledger {
        let mut ledger = Ledger::claiming();
        ledger.open(7, Mark { step, count }, is_blank);
        ledger
    }

    #[test]
    fn a_step_that_does_not_count_is_to_be_saved_as_well() {
        let mut ledger = opened(0, 17, false);
        assert!(ledger.is_saved());
        assert_eq!(ledger.step(false), Some(17));
        assert!(!ledger.is_safe() && ledger.may_tell(0) && !ledger.may_tell(1));
        let next = Mark { step: 1, count: 17 };
        assert_eq!(ledger.next_save(), Some((7, next)));
        // Meanwhile, one that counts.
        assert_eq!(ledger.step(true), Some(18));
        ledger.handle_saved(next);
        assert!(ledger.may_tell(1) && !ledger.may_tell(2) && !ledger.is_saved());
        assert_eq!((ledger.saved(), ledger.processed()), (17, 18));
    }

    #[test]
    fn a_store_that_has_refused_holds_nothing_but_what_a_new_session_has() {
        // What the claim has found, and whether a store that holds nothing lacks anything.
        for (count, is_blank) in [(0, true), (0, false), (3, false)] {
            let mut ledger = opened(0, count, is_blank);
            ledger.handle_refused();
            assert_eq!(ledger.is_saved(), is_blank, "{ledger:?}");
            assert_eq!((ledger.saved(), ledger.is_blank()), (0, is_blank));
            ledger.step(false);
            assert!(!ledger.is_saved() && !ledger.is_blank());
        }
    }
}
