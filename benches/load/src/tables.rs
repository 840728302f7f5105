//! Results as tables, for a terminal and for a document: the same rows, so that no figure is ever
//! copied by hand.

use crate::results::{Results, Spread, grouped};

/// A table of text.
pub(crate) struct Table {
    pub(crate) head: Vec<String>,
    pub(crate) rows: Vec<Vec<String>>,
}

/// One thing that was measured.
struct Column {
    title: &'static str,
    metric: &'static str,
    unit: Unit,
    /// Whether its ratio to the baseline stands beside it.
    compared: bool,
}

#[derive(Clone, Copy)]
pub(crate) enum Unit {
    Whole,
    Tenths,
    Hundredths,
    Percent,
    Kilobytes,
}

/// How a section is shown.
struct Layout {
    section: &'static str,
    /// Whom the others are compared with.
    baseline: &'static str,
    columns: &'static [Column],
}

const fn column(title: &'static str, metric: &'static str, unit: Unit) -> Column {
    Column {
        title,
        metric,
        unit,
        compared: false,
    }
}

const fn compared(title: &'static str, metric: &'static str, unit: Unit) -> Column {
    Column {
        compared: true,
        ..column(title, metric, unit)
    }
}

const LAYOUTS: &[Layout] = &[
    Layout {
        section: "start",
        baseline: "",
        columns: &[
            column("listening, ms", "listening_ms", Unit::Hundredths),
            column("first 101, ms", "first_101_ms", Unit::Hundredths),
            column("ready, ms", "ready_ms", Unit::Hundredths),
            column("resident, kB", "resident", Unit::Kilobytes),
            column("not of a file, kB", "anonymous", Unit::Kilobytes),
            column("binary, kB", "binary_bytes", Unit::Kilobytes),
        ],
    },
    Layout {
        section: "throughput",
        baseline: "floor",
        columns: &[
            compared("messages/s", "per_second", Unit::Whole),
            compared("CPU, µs/message", "cpu_us", Unit::Hundredths),
            column("server busy", "server_busy", Unit::Percent),
            column("client busy", "client_busy", Unit::Percent),
        ],
    },
    Layout {
        section: "latency",
        baseline: "floor",
        columns: &[
            column("rate, 1/s", "rate", Unit::Whole),
            column("p50, µs", "p50_us", Unit::Tenths),
            compared("p99, µs", "p99_us", Unit::Tenths),
            compared("p99.9, µs", "p999_us", Unit::Tenths),
            column("max, µs", "max_us", Unit::Whole),
            column("answered", "answered", Unit::Percent),
        ],
    },
    Layout {
        section: "chat",
        baseline: "memory: acked",
        columns: &[
            compared("messages/s", "per_second", Unit::Whole),
            compared("CPU, µs/message", "cpu_us", Unit::Hundredths),
            column("server busy", "server_busy", Unit::Percent),
            column("client busy", "client_busy", Unit::Percent),
        ],
    },
    Layout {
        section: "memory",
        baseline: "",
        columns: &[
            column("at start, kB", "start", Unit::Kilobytes),
            column("fresh, B each", "fresh_each", Unit::Whole),
            column("after speaking, B each", "spoken_each", Unit::Whole),
            column("after closing, B each", "held_each", Unit::Whole),
        ],
    },
    Layout {
        section: "broadcast",
        baseline: "",
        columns: &[
            column("first to last, ms", "wall_ms", Unit::Tenths),
            column("CPU, ms", "cpu_ms", Unit::Tenths),
            column("CPU, µs each", "cpu_us_each", Unit::Hundredths),
        ],
    },
    Layout {
        section: "shutdown",
        baseline: "",
        columns: &[
            column("signal to exit, ms", "wall_ms", Unit::Whole),
            column("CPU, ms", "cpu_ms", Unit::Tenths),
            column("CPU, µs each", "cpu_us_each", Unit::Hundredths),
        ],
    },
];

impl Unit {
    pub(crate) fn text(self, value: f64) -> String {
        match self {
            Self::Whole => grouped(value),
            Self::Tenths => format!("{value:.1}"),
            Self::Hundredths => format!("{value:.2}"),
            Self::Percent => format!("{:.0} %", value * 100.0),
            Self::Kilobytes => grouped(value / 1e3),
        }
    }
}

impl Results {
    /// Prints the point of a section that was measured last.
    pub(crate) fn print_latest(&self, section: &str) {
        if let Some(point) = self.points(section).last() {
            println!("\n{section}: {point}");
            println!("{}", self.table(section, point).text());
        }
    }

    /// All peers at a point.
    pub(crate) fn table(&self, section: &str, point: &str) -> Table {
        let layout = LAYOUTS.iter().find(|layout| layout.section == section);
        let mut table = Table {
            head: vec![String::new()],
            rows: Vec::new(),
        };
        let Some(Layout {
            baseline, columns, ..
        }) = layout
        else {
            return table;
        };
        for column in *columns {
            table.head.push(column.title.to_owned());
            if column.compared {
                table.head.push(format!("/ {baseline}"));
            }
        }
        for peer in self.peers(section, point) {
            let mut row = vec![peer.clone()];
            for column in *columns {
                let measured = self.spread(section, point, &peer, column.metric);
                row.push(with_spread(measured, |value| column.unit.text(value)));
                if column.compared {
                    let ratio = self.ratio(section, point, (&peer, baseline), column.metric);
                    row.push(with_spread(ratio, |ratio| format!("{ratio:.2}")));
                }
            }
            table.rows.push(row);
        }
        table
    }
}

/// The median, and behind it the least and the most, if there is a difference to be seen.
pub(crate) fn with_spread(spread: Option<Spread>, text: impl Fn(f64) -> String) -> String {
    let Some(spread) = spread else {
        return "–".to_owned();
    };
    let (median, least, most) = (text(spread.median), text(spread.least), text(spread.most));
    if least == most {
        median
    } else {
        format!("{median} ({least} – {most})")
    }
}

impl Table {
    /// For a terminal: each column as wide as its widest.
    pub(crate) fn text(&self) -> String {
        let all = || std::iter::once(&self.head).chain(&self.rows);
        let len = |row: &Vec<String>, column: usize| row[column].chars().count();
        let widths: Vec<usize> = (0..self.head.len())
            .map(|column| all().map(|row| len(row, column)).max().unwrap_or_default())
            .collect();
        let mut text = String::new();
        for row in all() {
            for (cell, width) in row.iter().zip(&widths) {
                let blanks = width - cell.chars().count() + 2;
                text.push_str("  ");
                text.push_str(cell);
                text.push_str(&" ".repeat(blanks - 2));
            }
            text.truncate(text.trim_end().len());
            text.push('\n');
        }
        text
    }

    /// For a document.
    pub(crate) fn markdown(&self) -> String {
        let line = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
        let mut text = line(&self.head);
        text.push('|');
        for column in 0..self.head.len() {
            text.push_str(if column == 0 { "---|" } else { "---:|" });
        }
        text.push('\n');
        for row in &self.rows {
            text.push_str(&line(row));
        }
        text
    }
}
