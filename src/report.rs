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
    spill_rows_waiting: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    synced: Option<bool>,
    store_lost: bool,
    phases_ms: Phases,
    total_ms: u64,
    unsaved: &'a [Unsaved<'a>],
    #[serde(skip_serializing_if = "Option::is_none")]
    unsaved_more: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    unsaved_file: Option<&'a str>,
}

/// The longest report, with its line break. A pipe takes so much whole or not at all (`PIPE_BUF` on
/// Linux), however slowly it is read, and no supervisor's log cuts it.
const LINE_BYTES_MAX: usize = 4_096;

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
    /// 0: every session is safe. 1: some are not, and the report names them; or the disk has
    /// refused what was saved.
    pub fn exit_code(&self) -> u8 {
        u8::from(!self.is_safe())
    }

    /// One JSON object of less than 4,096 bytes, without a line break. docs/shutdown.md explains
    /// each field. Of the sessions that are not safe it names as many as there is room for.
    pub fn report_json(&self) -> String {
        let unsaved = self.unsaved();
        self.json(&unsaved[..self.unsaved_shown(&unsaved)])
    }

    /// How many sessions that are not safe the report does not name, for lack of room.
    pub fn unsaved_beyond_report(&self) -> usize {
        let unsaved = self.unsaved();
        unsaved.len() - self.unsaved_shown(&unsaved)
    }

    fn unsaved(&self) -> Vec<Unsaved<'_>> {
        let unsaved = self.unsaved.iter();
        unsaved
            .map(|(session, count)| Unsaved {
                session,
                count: *count,
            })
            .collect()
    }

    /// How many of them there is room for.
    fn unsaved_shown(&self, unsaved: &[Unsaved<'_>]) -> usize {
        let mut left = (LINE_BYTES_MAX - 1).saturating_sub(self.json(&[]).len());
        let mut shown = 0;
        for entry in unsaved {
            let len = serde_json::to_string(entry).map_or(0, |json| json.len() + ",".len());
            if len > left {
                break;
            }
            left -= len;
            shown += 1;
        }
        shown
    }

    fn json(&self, unsaved: &[Unsaved<'_>]) -> String {
        let more = self.unsaved.len() - unsaved.len();
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
            spill_rows_waiting: self.spill_rows_waiting,
            synced: self.synced,
            store_lost: self.store_lost,
            phases_ms: Phases::of(&self.timeline),
            total_ms: between(self.timeline.began, self.timeline.stopped),
            unsaved,
            unsaved_more: (more > 0).then_some(more),
            unsaved_file: self.unsaved_file.as_deref(),
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
            store_lost: true,
            connections: 2,
            notified: 3,
            drained: 4,
            saved: 5,
            spilled: 6,
            byes: 8,
            late: 9,
            closed_1001: 10,
            cut: 11,
            spill_rows_waiting: Some(13),
            synced: Some(true),
            sync_failed: false,
            unsaved: vec![("a".into(), 7)],
            unsaved_file: None,
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
            "spill_rows_waiting",
        ];
        let numbers = fields.map(|field| report[field].as_u64().unwrap_or_default());
        assert_eq!(numbers, [2, 3, 4, 5, 6, 8, 9, 10, 11, 12, 13]);
        assert_eq!(
            report["unsaved"],
            serde_json::json!([{"session": "a", "count": 7}])
        );
        assert_eq!(report["synced"], true);
        assert_eq!(report["store_lost"], true);
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

    #[test]
    fn a_report_has_room_in_a_pipe_whatever_it_has_to_name() {
        for (sessions, name) in [
            (1, "a"),
            (2_000, "s"),
            (2_000, "\u{1}"),
            (1, &"x".repeat(9_000)),
        ] {
            let name = name.repeat(if sessions > 1 { 128 } else { 1 });
            let outcome = Outcome {
                unsaved: vec![(name, u64::MAX); sessions],
                unsaved_file: Some("/var/lib/sundown/sundown.db-unsaved-1.jsonl".into()),
                ..Outcome::default()
            };
            let line = outcome.report_json();
            assert!(line.len() < LINE_BYTES_MAX, "{}", line.len());
            let report: serde_json::Value = serde_json::from_str(&line).unwrap();
            let named = report["unsaved"].as_array().unwrap().len();
            let more = report["unsaved_more"].as_u64().unwrap_or_default() as usize;
            assert_eq!(
                (named + more, more),
                (sessions, outcome.unsaved_beyond_report())
            );
            assert!(named > 0 || line.len() + outcome.unsaved[0].0.len() >= LINE_BYTES_MAX);
        }
    }
}
