//! What the exploration has come across, so that no property holds for lack of occasion.

use std::sync::atomic::{AtomicU64, Ordering};

/// Something that must have happened on the way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    CrashWithUnsaved,
    ClaimRepeated,
    ClaimAfterGone,
    LateClaimCarriedOut,
    SaveFenced,
    SaveRepeated,
    LateSaveCarriedOut,
    TakenOverHere,
    TakenOverElsewhere,
    AttachedClientFenced,
    ReplyLost,
    HelloShowsMore,
    GoodbyeOfAll,
    GoodbyeOfLess,
    SentAwayWithoutHello,
    LeftBeforeOthers,
    GreetedWhileOthersDrain,
    LateCounted,
    LateSpilled,
    BarrierKept,
    Spilled,
    SpillReplayed,
    SpillFenced,
    SpillOutdatedByStore,
    SpillGrewDuringReplay,
    ClaimRefused,
    SaveRefused,
    RefusedSpilled,
    RowRefused,
    ExitSafe,
    ExitUnsafe,
    PushAccepted,
    PushRepeated,
    PushRefused,
    PushHeardOf,
    PushLostOnTheWay,
    PushDelivered,
    ReceivedSaidAtUpgrade,
    MailboxOfNewerOwner,
    MailboxReadAgain,
    OwnSessionSpilled,
}

impl Event {
    pub(crate) const ALL: [Self; 41] = [
        Self::CrashWithUnsaved,
        Self::ClaimRepeated,
        Self::ClaimAfterGone,
        Self::LateClaimCarriedOut,
        Self::SaveFenced,
        Self::SaveRepeated,
        Self::LateSaveCarriedOut,
        Self::TakenOverHere,
        Self::TakenOverElsewhere,
        Self::AttachedClientFenced,
        Self::ReplyLost,
        Self::HelloShowsMore,
        Self::GoodbyeOfAll,
        Self::GoodbyeOfLess,
        Self::SentAwayWithoutHello,
        Self::LeftBeforeOthers,
        Self::GreetedWhileOthersDrain,
        Self::LateCounted,
        Self::LateSpilled,
        Self::BarrierKept,
        Self::Spilled,
        Self::SpillReplayed,
        Self::SpillFenced,
        Self::SpillOutdatedByStore,
        Self::SpillGrewDuringReplay,
        Self::ClaimRefused,
        Self::SaveRefused,
        Self::RefusedSpilled,
        Self::RowRefused,
        Self::ExitSafe,
        Self::ExitUnsafe,
        Self::PushAccepted,
        Self::PushRepeated,
        Self::PushRefused,
        Self::PushHeardOf,
        Self::PushLostOnTheWay,
        Self::PushDelivered,
        Self::ReceivedSaidAtUpgrade,
        Self::MailboxOfNewerOwner,
        Self::MailboxReadAgain,
        Self::OwnSessionSpilled,
    ];
}

/// How many steps have brought each event.
#[derive(Debug)]
pub(crate) struct Seen([AtomicU64; Event::ALL.len()]);

impl Default for Seen {
    fn default() -> Self {
        Self([const { AtomicU64::new(0) }; Event::ALL.len()])
    }
}

impl Seen {
    pub(crate) fn note(&self, event: Event) {
        self.0[event as usize].fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn add(&self, other: &Self) {
        for event in Event::ALL {
            self.0[event as usize].fetch_add(other.count(event), Ordering::Relaxed);
        }
    }

    pub(crate) fn count(&self, event: Event) -> u64 {
        self.0[event as usize].load(Ordering::Relaxed)
    }
}
