//! The last line on stdout: how a shutdown went, as one JSON object, and the exit code.

use std::time::Instant;

use serde_json::Value;

use crate::engine::shutdown::Outcome;

/// The longest report, with its line break. A pipe takes so much whole or not at all (`PIPE_BUF` on
/// Linux), however slowly it is read, and no supervisor's log cuts it.
const LINE_BYTES_MAX: usize = 4_096;

impl Outcome {
    /// 0: every session is safe. 1: some are not, and the report names them; or the disk has
    /// refused what was saved.
    pub fn exit_code(&self) -> u8 {
        u8::from(!self.is_safe())
    }

    /// One JSON object of less than 4,096 bytes, without a line break. docs/shutdown.md explains
    /// each field. Of the sessions that are not safe it names as many as there is room for.
    pub fn report_json(&self) -> String {
        self.json(&self.unsaved_shown())
    }

    /// How many sessions that are not safe the report does not name, for lack of room.
    pub fn unsaved_beyond_report(&self) -> usize {
        self.unsaved.len() - self.unsaved_shown().len()
    }

    /// The sessions that there is room for, as JSON.
    fn unsaved_shown(&self) -> Vec<String> {
        let mut left = (LINE_BYTES_MAX - 1).saturating_sub(self.json(&[]).len());
        let mut shown = Vec::new();
        for (session, count) in &self.unsaved {
            let entry = object(&[("session", json(session.as_str())), ("count", json(*count))]);
            let Some(rest) = left.checked_sub(entry.len() + ",".len()) else {
                break;
            };
            left = rest;
            shown.push(entry);
        }
        shown
    }

    fn json(&self, unsaved: &[String]) -> String {
        let phases = self
            .timeline
            .lasted(self.timeline.began)
            .map(|(phase, lasted)| (phase.name(), json(lasted.as_millis() as u64)));
        let more = self.unsaved.len() - unsaved.len();
        let mut fields = vec![
            ("signal", json(self.trigger.map(|by| by.to_string()))),
            ("connections", json(self.connections)),
            ("notified", json(self.notified)),
            ("drained", json(self.drained)),
            ("saved", json(self.saved)),
            ("spilled", json(self.spilled)),
            ("byes", json(self.byes)),
            ("late", json(self.late)),
            ("abandoned", json(self.abandoned)),
            ("unconfirmed_pushes", json(self.unconfirmed_pushes)),
            ("closed_1001", json(self.closed_1001)),
            ("cut", json(self.cut)),
            ("repeats", json(self.repeats)),
            ("spill_rows_waiting", json(self.spill_rows_waiting)),
        ];
        fields.extend(self.synced.map(|synced| ("synced", json(synced))));
        fields.extend([
            ("store_lost", json(self.store_lost)),
            ("phases_ms", object(&phases)),
            (
                "total_ms",
                json(between(self.timeline.began, self.timeline.stopped)),
            ),
            ("unsaved", format!("[{}]", unsaved.join(","))),
        ]);
        fields.extend((more > 0).then(|| ("unsaved_more", json(more))));
        let file = self.unsaved_file.as_deref();
        fields.extend(file.map(|file| ("unsaved_file", json(file))));
        object(&fields)
    }
}

fn json(value: impl Into<Value>) -> String {
    value.into().to_string()
}

/// An object of values that are JSON, in this order.
fn object(fields: &[(&str, String)]) -> String {
    let fields = fields
        .iter()
        .map(|(name, json)| format!("\"{name}\":{json}"));
    format!("{{{}}}", fields.collect::<Vec<_>>().join(","))
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
    use crate::engine::shutdown::{Timeline, Trigger};

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
            abandoned: 14,
            unconfirmed_pushes: 15,
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
            "abandoned",
            "unconfirmed_pushes",
            "closed_1001",
            "cut",
            "repeats",
            "spill_rows_waiting",
        ];
        let numbers = fields.map(|field| report[field].as_u64().unwrap_or_default());
        assert_eq!(numbers, [2, 3, 4, 5, 6, 8, 9, 14, 15, 10, 11, 12, 13]);
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
