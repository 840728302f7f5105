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
};

/// What this run explores: with `SUNDOWN_MODEL=wide` more than a debug build does in good time.
pub(crate) fn chosen() -> Vec<Bounds> {
    let is_wide = std::env::var("SUNDOWN_MODEL").is_ok_and(|choice| choice == "wide");
    let wide = WIDE.into_iter().filter(|_| is_wide);
    ALWAYS.into_iter().chain(wide).collect()
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
        states: 155_778,
    },
    // A crash before, in or after a shutdown.
    Bounds {
        messages: 2,
        faults: Faults {
            crashes: 1,
            shutdowns: 1,
            ..NO_FAULTS
        },
        states: 58_241,
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
        states: 100_218,
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
        states: 69_601,
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
        states: 82_394,
    },
    // A store that refuses single requests, before, in and after a shutdown.
    Bounds {
        messages: 2,
        faults: Faults {
            shutdowns: 1,
            refusals: 2,
            ..NO_FAULTS
        },
        states: 149_658,
    },
    // A session that is refused, and taken over.
    Bounds {
        messages: 2,
        faults: Faults {
            moves: 1,
            refusals: 1,
            ..NO_FAULTS
        },
        states: 11_077,
    },
];

/// Wider ones.
const WIDE: [Bounds; 5] = [
    Bounds {
        messages: 3,
        faults: Faults {
            crashes: 1,
            shutdowns: 1,
            full_disks: 1,
            ..NO_FAULTS
        },
        states: 292_581,
    },
    Bounds {
        messages: 2,
        faults: Faults {
            crashes: 1,
            shutdowns: 1,
            moves: 1,
            ..NO_FAULTS
        },
        states: 1_826_090,
    },
    Bounds {
        messages: 2,
        faults: Faults {
            crashes: 1,
            shutdowns: 1,
            link_losses: 1,
            ..NO_FAULTS
        },
        states: 875_785,
    },
    Bounds {
        messages: 2,
        faults: Faults {
            shutdowns: 2,
            link_losses: 1,
            ..NO_FAULTS
        },
        states: 1_006_983,
    },
    Bounds {
        messages: 2,
        faults: Faults {
            crashes: 2,
            shutdowns: 1,
            store_restarts: 1,
            ..NO_FAULTS
        },
        states: 3_845_352,
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
        ];
        write!(f, "messages: {}", self.messages)?;
        for (times, kind) in kinds.iter().filter(|(times, _)| *times > 0) {
            write!(f, ", {kind}: {times}")?;
        }
        Ok(())
    }
}
