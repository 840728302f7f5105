//! The rows with nodes that are killed, stopped and frozen by turns.

use std::time::Duration;

use super::campaign::{Row, Tally};
use super::hops::Hops;
use crate::support::now;

pub(crate) fn at_once(row: &mut Row) -> Tally {
    hop(row, &[])
}

/// Other threads complete the steps.
pub(crate) fn deferred(row: &mut Row) -> Tally {
    hop(row, &["--workers", "64"])
}

#[track_caller]
fn hop(row: &mut Row, flags: &[&str]) -> Tally {
    let store = row.store();
    let mut hops = Hops::begin(&store, flags, 50 * row.scale);
    let faults = hops.strike_until(now() + LENGTH);
    row.note(format!("{faults} faults"));
    row.settle_with(hops.fleet, &store)
}

const LENGTH: Duration = Duration::from_secs(60);
