//! The last line on stdout: how a shutdown went, as one JSON object, and the exit code.

use std::time::Instant;

use serde::Serialize;

use crate::engine::shutdown::{Outcome, Timeline};

#[derive(Serialize)]
struct Report<'a> {
    signal: Option<String>,
    connections: usize,
    notified: usize,
    drained: usize,
    saved: usize,
    spilled: usize,
    byes: usize,
    late: u64,
    closed_1001: usize,
    cut: usize,
    repeats: u32,
    phases_ms: Phases,
    total_ms: u64,
    unsaved: Vec<Unsaved<'a>>,
}

/// Milliseconds in each phase; 0 for one that was skipped.
#[derive(Serialize)]
struct Phases {
    delaying: u64,
    notifying: u64,
    draining: u64,
    persisting: u64,
    closing: u64,
    sweeping: u64,
}

#[derive(Serialize)]
struct Unsaved<'a> {
    session: &'a str,
    count: u64,
}

impl Outcome {
    /// 0: every session is safe. 1: some are not, and the report names them.
    pub fn exit_code(&self) -> u8 {
        u8::from(!self.is_safe())
    }

    /// One JSON object, without a line break. docs/shutdown.md explains each field.
    pub fn report_json(&self) -> String {
        let unsaved = self.unsaved.iter().map(|(session, count)| Unsaved {
            session,
            count: *count,
        });
        let report = Report {
            signal: self.trigger.map(|trigger| trigger.to_string()),
            connections: self.connections,
            notified: self.notified,
            drained: self.drained,
            saved: self.saved,
            spilled: self.spilled,
            byes: self.byes,
            late: self.late,
            closed_1001: self.closed_1001,
            cut: self.cut,
            repeats: self.repeats,
            phases_ms: Phases::of(&self.timeline),
            total_ms: between(self.timeline.began, self.timeline.stopped),
            unsaved: unsaved.collect(),
        };
        // Numbers, and strings that need no more than an escape: there is nothing that can fail.
        serde_json::to_string(&report).unwrap_or_default()
    }
}

impl Phases {
    fn of(timeline: &Timeline) -> Self {
        let end = timeline.stopped.or(timeline.began);
        let lasted = end.map(|end| {
            timeline
                .lasted(end)
                .map(|(_, lasted)| lasted.as_millis() as u64)
        });
        let [delaying, notifying, draining, persisting, closing, sweeping] =
            lasted.unwrap_or_default();
        Self {
            delaying,
            notifying,
            draining,
            persisting,
            closing,
            sweeping,
        }
    }
}

fn between(from: Option<Instant>, to: Option<Instant>) -> u64 {
    match (from, to) {
        (Some(from), Some(to)) => to.saturating_duration_since(from).as_millis() as u64,
        (None, _) | (_, None) => 0,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::clock;
    use crate::engine::shutdown::Trigger;

    #[test]
    fn a_report_is_one_line_with_every_field() {
        let began = clock::now().instant;
        let at = |ms| Some(began + Duration::from_millis(ms));
        let outcome = Outcome {
            trigger: Some(Trigger::Sigterm),
            repeats: 12,
            connections: 2,
            notified: 3,
            drained: 4,
            saved: 5,
            spilled: 6,
            byes: 8,
            late: 9,
            closed_1001: 10,
            cut: 11,
            unsaved: vec![("a".into(), 7)],
            timeline: Timeline {
                began: at(0),
                notifying: at(5),
                draining: None,
                persisting: at(20),
                closing: at(30),
                sweeping: at(60),
                stopped: at(100),
            },
        };
        let line = outcome.report_json();
        assert!(!line.contains('\n'));
        let report: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(report["signal"], "SIGTERM");
        let fields = [
            "connections",
            "notified",
            "drained",
            "saved",
            "spilled",
            "byes",
            "late",
            "closed_1001",
            "cut",
            "repeats",
        ];
        let numbers = fields.map(|field| report[field].as_u64().unwrap_or_default());
        assert_eq!(numbers, [2, 3, 4, 5, 6, 8, 9, 10, 11, 12]);
        assert_eq!(
            report["unsaved"],
            serde_json::json!([{"session": "a", "count": 7}])
        );
        assert_eq!(report["total_ms"], 100);
        assert_eq!(
            report["phases_ms"],
            serde_json::json!({
                "delaying": 5, "notifying": 15, "draining": 0,
                "persisting": 10, "closing": 30, "sweeping": 40,
            })
        );
        assert_eq!(outcome.exit_code(), 1);
    }
}
