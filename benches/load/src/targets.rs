//! What the server is held to, beside what was measured: one table, made from the same rows as all
//! others, so that a target that was missed cannot be overlooked.

use crate::results::{Results, Spread};
use crate::tables::{Table, Unit, with_spread};

/// A median that shall be at least, or at most, some value.
struct Target {
    name: &'static str,
    bound: Bound,
    unit: Unit,
    measured: Measured,
}

#[derive(Clone, Copy)]
enum Bound {
    AtLeast(f64),
    AtMost(f64),
}

use Bound::{AtLeast, AtMost};

/// Where in the results it stands.
#[derive(Clone, Copy)]
enum Measured {
    /// A metric of a peer.
    Value(Place, &'static str),
    /// That, as a multiple of another peer's at the same point.
    Beside(Place, &'static str, &'static str),
    /// That, as a multiple of the same peer's at another point.
    From(Place, &'static str, &'static str),
}

/// A section, a point of it and a peer there.
#[derive(Clone, Copy)]
struct Place(&'static str, &'static str, &'static str);

const HUNDRED: Place = echo("100 connections, 20 B, depth 1");
const THOUSAND: Place = echo("1,000 connections, 20 B, depth 1");
const TEN_THOUSAND: Place = echo("10,000 connections, 20 B, depth 1");
const BATCHES: Place = echo("100 connections, 20 B, depth 16");
const LATE_HUNDRED: Place = late("100 connections, 20 B, at half the floor's throughput");
const LATE_THOUSAND: Place = late("1,000 connections, 20 B, at half the floor's throughput");
const IDLE: Place = Place("memory", "10,000 connections", "sundown");
const IN_MEMORY: &str = "memory: acked";

const fn echo(point: &'static str) -> Place {
    Place("throughput", point, "sundown")
}

const fn late(point: &'static str) -> Place {
    Place("latency", point, "sundown")
}

const fn start(store: &'static str) -> Place {
    Place("start", "from the fork on", store)
}

const fn chat(store: &'static str) -> Place {
    Place("chat", "1,000 connections, 20 B, depth 1", store)
}

const fn ratio(name: &'static str, bound: Bound, measured: Measured) -> Target {
    Target {
        name,
        bound,
        unit: Unit::Hundredths,
        measured,
    }
}

const fn bytes(name: &'static str, most: f64, place: Place, metric: &'static str) -> Target {
    Target {
        name,
        bound: AtMost(most),
        unit: Unit::Whole,
        measured: Measured::Value(place, metric),
    }
}

const fn milliseconds(name: &'static str, most: f64, place: Place, metric: &'static str) -> Target {
    Target {
        name,
        bound: AtMost(most),
        unit: Unit::Hundredths,
        measured: Measured::Value(place, metric),
    }
}

const TARGETS: &[Target] = &[
    ratio(
        "throughput / floor, 100 connections",
        AtLeast(0.97),
        Measured::Beside(HUNDRED, "floor", "per_second"),
    ),
    ratio(
        "throughput / floor, 1,000 connections",
        AtLeast(0.97),
        Measured::Beside(THOUSAND, "floor", "per_second"),
    ),
    ratio(
        "throughput / floor, 100 connections, depth 16",
        AtLeast(0.6),
        Measured::Beside(BATCHES, "floor", "per_second"),
    ),
    ratio(
        "throughput / tungstenite-4k, 100 connections, depth 16",
        AtLeast(4.0),
        Measured::Beside(BATCHES, "tungstenite-4k", "per_second"),
    ),
    ratio(
        "CPU for a message / floor, 100 connections",
        AtMost(1.1),
        Measured::Beside(HUNDRED, "floor", "cpu_us"),
    ),
    ratio(
        "CPU for a message / floor, 1,000 connections",
        AtMost(1.1),
        Measured::Beside(THOUSAND, "floor", "cpu_us"),
    ),
    ratio(
        "CPU for a message, 10,000 connections / 100",
        AtMost(1.3),
        Measured::From(TEN_THOUSAND, HUNDRED.1, "cpu_us"),
    ),
    ratio(
        "p99 / floor, 100 connections",
        AtMost(1.15),
        Measured::Beside(LATE_HUNDRED, "floor", "p99_us"),
    ),
    ratio(
        "p99 / floor, 1,000 connections",
        AtMost(1.15),
        Measured::Beside(LATE_THOUSAND, "floor", "p99_us"),
    ),
    ratio(
        "p99.9 / floor, 100 connections",
        AtMost(1.15),
        Measured::Beside(LATE_HUNDRED, "floor", "p999_us"),
    ),
    ratio(
        "p99.9 / floor, 1,000 connections",
        AtMost(1.15),
        Measured::Beside(LATE_THOUSAND, "floor", "p999_us"),
    ),
    bytes(
        "memory of an idle connection, fresh, B",
        270.0,
        IDLE,
        "fresh_each",
    ),
    bytes(
        "memory of an idle connection that has spoken, B",
        270.0,
        IDLE,
        "spoken_each",
    ),
    bytes(
        "memory held for each after all have closed, B",
        30.0,
        IDLE,
        "held_each",
    ),
    bytes(
        "resident at start with memory:, B",
        4e6,
        start("memory:"),
        "resident",
    ),
    bytes(
        "resident at start with sqlite:, B",
        4e6,
        start("sqlite:"),
        "resident",
    ),
    milliseconds(
        "start to first 101 with memory:, ms",
        10.0,
        start("memory:"),
        "first_101_ms",
    ),
    milliseconds(
        "start to first 101 with sqlite:, ms",
        10.0,
        start("sqlite:"),
        "first_101_ms",
    ),
    ratio(
        "chat, sqlite: acked / memory: acked",
        AtLeast(0.5),
        Measured::Beside(chat("sqlite: acked"), IN_MEMORY, "per_second"),
    ),
    ratio(
        "chat, redis:// acked / memory: acked",
        AtLeast(0.4),
        Measured::Beside(chat("redis:// acked"), IN_MEMORY, "per_second"),
    ),
    bytes("the binary, B", 5e6, start("memory:"), "binary_bytes"),
];

impl Target {
    fn measured(&self, results: &Results) -> Option<Spread> {
        match self.measured {
            Measured::Value(Place(section, point, peer), metric) => {
                results.spread(section, point, peer, metric)
            }
            Measured::Beside(Place(section, point, peer), other, metric) => {
                results.ratio(section, point, (peer, other), metric)
            }
            Measured::From(Place(section, point, peer), other, metric) => {
                let own = results.series(section, point, peer, metric);
                let others = results.series(section, other, peer, metric);
                Spread::of_ratios(&own, &others)
            }
        }
    }
}

impl Bound {
    fn holds(self, value: f64) -> bool {
        match self {
            AtLeast(least) => value >= least,
            AtMost(most) => value <= most,
        }
    }

    fn text(self, unit: Unit) -> String {
        match self {
            AtLeast(least) => format!("≥ {}", unit.text(least)),
            AtMost(most) => format!("≤ {}", unit.text(most)),
        }
    }
}

/// What of it the run has measured, and none if that is nothing.
pub(crate) fn table(results: &Results) -> Option<Table> {
    let row = |target: &Target| {
        let spread = target.measured(results)?;
        let reached = target.bound.holds(spread.median);
        Some(vec![
            target.name.to_owned(),
            target.bound.text(target.unit),
            with_spread(Some(spread), |value| target.unit.text(value)),
            if reached { "yes" } else { "**no**" }.to_owned(),
        ])
    };
    let rows: Vec<_> = TARGETS.iter().filter_map(row).collect();
    let head = ["", "to reach", "measured", "reached"];
    (!rows.is_empty()).then(|| Table {
        head: head.map(str::to_owned).to_vec(),
        rows,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn rows(sundown: f64, floor: f64) -> Results {
        let mut results = Results::default();
        for (peer, per_second) in [("floor", floor), ("sundown", sundown)] {
            let row = json!({
                "connections": 100, "payload": 20, "depth": 1, "per_second": per_second,
            });
            results.push("throughput", peer, 0, row);
        }
        results
    }

    #[test]
    fn a_target_is_reached_or_said_to_be_missed() {
        let last = |results: &Results| {
            let table = table(results).expect("one target was measured");
            assert_eq!(table.rows.len(), 1);
            table.rows[0][2..].to_vec()
        };
        assert_eq!(last(&rows(98.0, 100.0)), ["0.98", "yes"]);
        assert_eq!(last(&rows(96.0, 100.0)), ["0.96", "**no**"]);
    }

    #[test]
    fn nothing_measured_is_no_table() {
        assert!(table(&Results::default()).is_none());
    }
}
