//! How far is explored: combinations of faults, each of them to the end.

use std::fmt;

use crate::protocol::Faults;

/// A model that is explored to the end.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    pub(crate) messages: u64,
    pub(crate) faults: Faults,
    /// So many states there are. Fewer mean that something which could happen before cannot happen
    /// any more. docs/model.md has the same number.
    pub(crate) states: usize,
}

pub(crate) const NO_FAULTS: Faults = Faults {
    crashes: 0,
    shutdowns: 0,
    drains: 0,
    link_losses: 0,
    store_restarts: 0,
    moves: 0,
    closes: 0,
    full_disks: 0,
    refusals: 0,
    pushes: 0,
};

/// What this run explores: with `SUNDOWN_MODEL=wide` more than a debug build does in good time.
pub(crate) fn chosen() -> Vec<Bounds> {
    let is_wide = std::env::var("SUNDOWN_MODEL").is_ok_and(|choice| choice == "wide");
    let wide = WIDE.into_iter().filter(|_| is_wide);
    ALWAYS.into_iter().chain(PUSHES).chain(wide).collect()
}

/// In every run of the tests.
const ALWAYS: [Bounds; 10] = [
    // Takeovers and crashes.
    Bounds {
        messages: 3,
        faults: Faults {
            crashes: 1,
            moves: 1,
            ..NO_FAULTS
        },
        states: 171_639,
    },
    Bounds {
        messages: 3,
        faults: Faults {
            crashes: 2,
            ..NO_FAULTS
        },
        states: 48_819,
    },
    // One shutdown after the other, on one node or both.
    Bounds {
        messages: 2,
        faults: Faults {
            shutdowns: 2,
            full_disks: 1,
            ..NO_FAULTS
        },
        states: 165_671,
    },
    // A crash before, in or after a shutdown.
    Bounds {
        messages: 2,
        faults: Faults {
            crashes: 1,
            shutdowns: 1,
            ..NO_FAULTS
        },
        states: 61_714,
    },
    // A shutdown while the store comes and goes.
    Bounds {
        messages: 2,
        faults: Faults {
            shutdowns: 1,
            link_losses: 1,
            store_restarts: 1,
            ..NO_FAULTS
        },
        states: 104_557,
    },
    // A spill that meets a takeover.
    Bounds {
        messages: 1,
        faults: Faults {
            crashes: 1,
            shutdowns: 1,
            moves: 1,
            ..NO_FAULTS
        },
        states: 341_184,
    },
    // A client that leaves before the others, and is served elsewhere meanwhile.
    Bounds {
        messages: 2,
        faults: Faults {
            crashes: 1,
            shutdowns: 1,
            drains: 1,
            ..NO_FAULTS
        },
        states: 73_562,
    },
    // Clients that close by themselves.
    Bounds {
        messages: 2,
        faults: Faults {
            crashes: 1,
            link_losses: 1,
            closes: 1,
            ..NO_FAULTS
        },
        states: 82_958,
    },
    // A store that refuses single requests, before, in and after a shutdown.
    Bounds {
        messages: 2,
        faults: Faults {
            shutdowns: 1,
            refusals: 2,
            ..NO_FAULTS
        },
        states: 154_857,
    },
    // A session that is refused, and taken over.
    Bounds {
        messages: 2,
        faults: Faults {
            moves: 1,
            refusals: 1,
            ..NO_FAULTS
        },
        states: 11_089,
    },
];

/// Of pushes, in every run: there are few messages, each of which pushes to its own session, too.
const PUSHES: [Bounds; 9] = [
    // A crash between the commit and the delivery.
    Bounds {
        messages: 0,
        faults: Faults {
            crashes: 1,
            pushes: 2,
            ..NO_FAULTS
        },
        states: 27_749,
    },
    Bounds {
        messages: 1,
        faults: Faults {
            crashes: 1,
            pushes: 1,
            ..NO_FAULTS
        },
        states: 21_649,
    },
    // Confirmations that are lost, and claims between.
    Bounds {
        messages: 0,
        faults: Faults {
            moves: 1,
            pushes: 2,
            ..NO_FAULTS
        },
        states: 21_111,
    },
    Bounds {
        messages: 1,
        faults: Faults {
            moves: 1,
            pushes: 1,
            ..NO_FAULTS
        },
        states: 38_239,
    },
    // Commits that are repeated, alone or with newer steps.
    Bounds {
        messages: 0,
        faults: Faults {
            link_losses: 1,
            pushes: 2,
            ..NO_FAULTS
        },
        states: 7_727,
    },
    Bounds {
        messages: 1,
        faults: Faults {
            link_losses: 1,
            pushes: 1,
            ..NO_FAULTS
        },
        states: 4_855,
    },
    Bounds {
        messages: 0,
        faults: Faults {
            link_losses: 1,
            moves: 1,
            pushes: 1,
            ..NO_FAULTS
        },
        states: 19_752,
    },
    // Pushes that meet a shutdown, and what they leave in the spill.
    Bounds {
        messages: 1,
        faults: Faults {
            shutdowns: 1,
            pushes: 1,
            ..NO_FAULTS
        },
        states: 59_481,
    },
    Bounds {
        messages: 1,
        faults: Faults {
            refusals: 1,
            pushes: 1,
            ..NO_FAULTS
        },
        states: 9_820,
    },
];

/// Wider ones.
const WIDE: [Bounds; 9] = [
    Bounds {
        messages: 3,
        faults: Faults {
            crashes: 1,
            shutdowns: 1,
            full_disks: 1,
            ..NO_FAULTS
        },
        states: 314_527,
    },
    Bounds {
        messages: 2,
        faults: Faults {
            crashes: 1,
            shutdowns: 1,
            moves: 1,
            ..NO_FAULTS
        },
        states: 1_915_562,
    },
    Bounds {
        messages: 2,
        faults: Faults {
            crashes: 1,
            shutdowns: 1,
            link_losses: 1,
            ..NO_FAULTS
        },
        states: 933_681,
    },
    Bounds {
        messages: 2,
        faults: Faults {
            shutdowns: 2,
            link_losses: 1,
            ..NO_FAULTS
        },
        states: 1_086_061,
    },
    Bounds {
        messages: 2,
        faults: Faults {
            crashes: 2,
            shutdowns: 1,
            store_restarts: 1,
            ..NO_FAULTS
        },
        states: 4_154_532,
    },
    // Of pushes.
    Bounds {
        messages: 2,
        faults: Faults {
            crashes: 1,
            pushes: 1,
            ..NO_FAULTS
        },
        states: 236_426,
    },
    Bounds {
        messages: 1,
        faults: Faults {
            link_losses: 1,
            pushes: 2,
            ..NO_FAULTS
        },
        states: 116_977,
    },
    Bounds {
        messages: 0,
        faults: Faults {
            link_losses: 1,
            moves: 1,
            pushes: 2,
            ..NO_FAULTS
        },
        states: 414_463,
    },
    Bounds {
        messages: 1,
        faults: Faults {
            crashes: 1,
            link_losses: 1,
            pushes: 1,
            ..NO_FAULTS
        },
        states: 307_304,
    },
];

impl fmt::Display for Bounds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let faults = &self.faults;
        let kinds = [
            (faults.crashes, "crash"),
            (faults.shutdowns, "shutdown"),
            (faults.drains, "drain"),
            (faults.link_losses, "link loss"),
            (faults.store_restarts, "store restart"),
            (faults.moves, "move"),
            (faults.closes, "close"),
            (faults.full_disks, "full disk"),
            (faults.refusals, "refusal"),
            (faults.pushes, "push"),
        ];
        write!(f, "messages: {}", self.messages)?;
        for (times, kind) in kinds.iter().filter(|(times, _)| *times > 0) {
            write!(f, ", {kind}: {times}")?;
        }
        Ok(())
    }
}
