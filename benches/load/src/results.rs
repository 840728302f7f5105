//! What was measured: one row for each measurement, as JSON, and what is made of many: medians,
//! spreads, and ratios pair by pair.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::Path;

use serde_json::{Map, Value, json};

/// All rows of a run, and where it was.
#[derive(Clone, Debug, Default)]
pub(crate) struct Results {
    pub(crate) about: Map<String, Value>,
    pub(crate) rows: Vec<Value>,
}

/// A median, and the least and the most.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    pub(crate) least: f64,
    pub(crate) most: f64,
}

impl Spread {
    pub(crate) fn of(mut values: Vec<f64>) -> Option<Self> {
        values.sort_by(f64::total_cmp);
        let (least, most) = (*values.first()?, *values.last()?);
        let (low, high) = (values[(values.len() - 1) / 2], values[values.len() / 2]);
        Some(Self {
            median: f64::midpoint(low, high),
            least,
            most,
        })
    }

    /// Pair by pair: what was measured in the same round is divided by each other.
    pub(crate) fn of_ratios(own: &[f64], others: &[f64]) -> Option<Self> {
        let pairs = own.iter().zip(others);
        Self::of(pairs.map(|(own, other)| own / other).collect())
    }
}

impl Results {
    pub(crate) fn push(&mut self, section: &str, peer: &str, round: usize, mut row: Value) {
        if let Some(fields) = row.as_object_mut() {
            fields.insert("section".into(), json!(section));
            fields.insert("peer".into(), json!(peer));
            fields.insert("round".into(), json!(round));
        }
        self.rows.push(row);
    }

    pub(crate) fn save(&self, path: &Path) -> io::Result<()> {
        if let Some(directory) = path.parent() {
            fs::create_dir_all(directory)?;
        }
        let whole = json!({ "about": self.about, "rows": self.rows });
        fs::write(path, serde_json::to_vec_pretty(&whole)?)
    }

    pub(crate) fn load(path: &Path) -> io::Result<Self> {
        let whole: Value = serde_json::from_slice(&fs::read(path)?)?;
        let about = whole["about"].as_object().cloned().unwrap_or_default();
        let rows = whole["rows"].as_array().cloned().unwrap_or_default();
        Ok(Self { about, rows })
    }

    /// The rows of a section.
    pub(crate) fn section(&self, section: &str) -> Vec<&Value> {
        let own = |row: &&Value| row["section"] == section;
        self.rows.iter().filter(own).collect()
    }

    /// The points of a section, each with its name, in the order in which they were measured.
    pub(crate) fn points(&self, section: &str) -> Vec<String> {
        in_order(self.section(section).into_iter().map(point))
    }

    /// The peers at a point, in the order in which they were measured.
    pub(crate) fn peers(&self, section: &str, at: &str) -> Vec<String> {
        let rows = self.section(section).into_iter();
        in_order(rows.filter(|row| point(row) == at).map(text_of_peer))
    }

    /// What was measured of a peer at a point, by round.
    pub(crate) fn series(&self, section: &str, at: &str, peer: &str, metric: &str) -> Vec<f64> {
        let rows = self.section(section).into_iter();
        rows.filter(|row| point(row) == at && row["peer"] == peer)
            .filter_map(|row| row[metric].as_f64())
            .collect()
    }

    /// What a peer needs or does, as a multiple of another's in the same round.
    pub(crate) fn ratio(
        &self,
        section: &str,
        at: &str,
        (peer, baseline): (&str, &str),
        metric: &str,
    ) -> Option<Spread> {
        let own = self.series(section, at, peer, metric);
        let others = self.series(section, at, baseline, metric);
        Spread::of_ratios(&own, &others)
    }

    pub(crate) fn spread(
        &self,
        section: &str,
        at: &str,
        peer: &str,
        metric: &str,
    ) -> Option<Spread> {
        Spread::of(self.series(section, at, peer, metric))
    }
}

fn text_of_peer(row: &Value) -> String {
    row["peer"].as_str().unwrap_or_default().to_owned()
}

/// The name of the point that a row was measured at: what it has in common with its rivals.
pub(crate) fn point(row: &Value) -> String {
    let mut parts = Vec::new();
    if let Some(connections) = row["connections"].as_u64() {
        let plural = if connections == 1 { "" } else { "s" };
        parts.push(format!(
            "{} connection{plural}",
            grouped(connections as f64)
        ));
    }
    if let Some(payload) = row["payload"].as_u64() {
        parts.push(match payload {
            bytes @ ..1_024 => format!("{bytes} B"),
            bytes @ ..0x10_0000 => format!("{} KiB", bytes >> 10),
            bytes => format!("{} MiB", bytes >> 20),
        });
    }
    if let Some(depth) = row["depth"].as_u64() {
        parts.push(format!("depth {depth}"));
    }
    if let Some(kind) = row["kind"].as_str() {
        parts.push(kind.to_owned());
    }
    parts.join(", ")
}

/// With a comma between thousands.
pub(crate) fn grouped(number: f64) -> String {
    let digits = format!("{:.0}", number.abs());
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    if number < 0.0 {
        format!("-{text}")
    } else {
        text
    }
}

fn in_order(names: impl Iterator<Item = String>) -> Vec<String> {
    let mut seen = BTreeSet::new();
    names.filter(|name| seen.insert(name.clone())).collect()
}
