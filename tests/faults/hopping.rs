//! The rows with nodes that are killed, stopped and frozen by turns.

use std::time::Duration;

use super::campaign::{Row, Tally};
use super::hops::{self, Hops};
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
    let mut hops = Hops::begin(&store, flags, 2, hops::numbers(50 * row.scale));
    let faults = hops.strike_until(now() + LENGTH);
    row.note(format!("{faults} faults"));
    row.settle_with(hops.fleet, &store)
}

/// Five nodes push to sessions that go from one to the other: each client has its pushes 1 to m,
/// without a gap or a repeat.
pub(crate) fn pushes(row: &mut Row) -> Tally {
    let store = row.store();
    let crowd = hops::letters(50 * row.scale, 1_000 * row.scale);
    let mut hops = Hops::begin(&store, &[], 5, crowd);
    let faults = hops.strike_until(now() + LENGTH);
    hops.fleet.until_all_received();
    row.note(format!("{faults} faults"));
    row.settle_with(hops.fleet, &store)
}

/// CI runs them in the build that all other tests have made, and in a smaller form.
const LENGTH: Duration = Duration::from_secs(if cfg!(debug_assertions) { 15 } else { 60 });
