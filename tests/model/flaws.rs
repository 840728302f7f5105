//! The protocol, and ways to break it: each is one rule left out, and the checker must notice.

/// The protocol as the model runs it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Protocol {
    flaw: Option<Flaw>,
}

/// A rule that is left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Flaw {
    /// The store takes saves under an old epoch.
    NoFence,
    /// A reply leaves when its message is counted, not when the count is saved.
    AcknowledgeBeforeSave,
    /// The goodbye does not wait for the save, and tells what was processed.
    GoodbyeBeforeSave,
    /// Who leaves does not wait for the save, and is told what was processed.
    LeavesBeforeSave,
    /// The goodbye tells what is in the spill.
    GoodbyeTellsSpilled,
    /// What is in the spill is saved under whatever epoch the store has by then.
    ReplayWithoutFence,
    /// A save whose answer was lost is not asked for again.
    ForgetLostSaves,
    /// The next claim gets the epoch of the last one.
    SameEpochAgain,
    /// A commit whose step is not later than the one held sets the state all the same.
    EarlierStateCounts,
    /// A commit carries out all of its pushes, whether the store holds their steps or not.
    PushesRepeated,
    /// After a replay the row goes, whatever was put into it meanwhile.
    DeleteNewerRow,
    /// A connection ends at the peer's Close, saved or not.
    NoBarrier,
    /// What the spill has refused counts as kept.
    RefusedSpillCounts,
    /// A save that the store has refused counts as saved.
    RefusedSaveCounts,
    /// The client sends everything again, whatever the hello says.
    ClientIgnoresHello,
    /// The client drops what it has sent when it is bidden goodbye.
    ClientTrustsGoodbye,
    /// A session's push to itself is delivered when its message is counted, not when the store has
    /// accepted it.
    DeliverBeforeCommit,
    /// What the connection was handed counts as received.
    HandedIsConfirmed,
    /// What the client says at the upgrade that it has received is delivered again.
    ReceivedIgnored,
    /// When the answer to a push was lost, the node does not ask what the mailbox holds.
    BeforeIsNotAsked,
    /// The answer to a commit does not say how many pushes the session has.
    CommitsSayNothing,
    /// What a node hears of pushes while it reads the mailbox is forgotten when that has been read.
    HeardIsForgotten,
}

impl Protocol {
    /// As it is.
    pub(crate) fn sound() -> Self {
        Self::default()
    }

    /// Without one rule.
    pub(crate) fn with(flaw: Flaw) -> Self {
        Self { flaw: Some(flaw) }
    }

    pub(crate) fn has(self, flaw: Flaw) -> bool {
        self.flaw == Some(flaw)
    }
}
