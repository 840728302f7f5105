//! `sundown shutdown-report`: finds the last report in what a server has printed, and has it drawn.
//!
//! It owns the reading of the file and of the report's fields (docs/shutdown.md). It must never
//! trust a file: what it holds may come from anywhere, and ends on a terminal.

mod svg;
mod text;

use std::ffi::OsString;
use std::fmt::{self, Display};
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::PathBuf;

use serde::Deserialize;
use serde_json::Value;

/// What is drawn, and how.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Request {
    pub(crate) source: Source,
    pub(crate) svg: bool,
}

/// Where the lines of a server are.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Source {
    Stdin,
    File(PathBuf),
}

/// Why nothing can be drawn.
#[derive(Debug)]
pub(crate) enum Failure {
    Unreadable(Source, io::Error),
    /// No line looks like a report.
    None(Source),
    /// No line looks like a report, and journalctl has left out the last one.
    Omitted(Source),
    /// The last one that does is not whole: a log that was cut, or something else altogether.
    Broken(Source, serde_json::Error),
}

/// The line, as far as it is drawn. Fields that a later version adds are let pass.
#[derive(Debug, Deserialize)]
struct Report {
    signal: Option<String>,
    connections: u64,
    notified: u64,
    drained: u64,
    saved: u64,
    spilled: u64,
    byes: u64,
    late: u64,
    closed_1001: u64,
    cut: u64,
    #[serde(default)]
    spill_rows_waiting: Option<u64>,
    #[serde(default)]
    synced: Option<bool>,
    #[serde(default)]
    store_lost: bool,
    phases_ms: Phases,
    total_ms: u64,
    unsaved: Vec<Unsaved>,
    #[serde(default)]
    unsaved_more: u64,
    unsaved_file: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Phases {
    delaying: u64,
    notifying: u64,
    draining: u64,
    persisting: u64,
    closing: u64,
    sweeping: u64,
}

#[derive(Debug, Deserialize)]
struct Unsaved {
    session: String,
    count: u64,
}

/// A phase on the time line, in milliseconds since the signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Bar {
    name: &'static str,
    from: u64,
    lasted: u64,
}

/// The longest line that is looked at. A report has less than 4 KiB, and six times as many where a
/// supervisor's log has escaped it.
const LINE_BYTES_MAX: u64 = 64 << 20;

/// What every line of a report has, and hardly another line.
const MARK: &str = "\"phases_ms\"";

/// Reads, and draws the last report that is there.
pub(crate) fn draw(request: Request) -> Result<String, Failure> {
    let Request { source, svg } = request;
    let last = match &source {
        Source::Stdin => last_report(io::stdin().lock()),
        Source::File(path) => File::open(path).and_then(|file| last_report(BufReader::new(file))),
    };
    let line = match last {
        Ok(Last::Report(line)) => line,
        Ok(Last::None) => return Err(Failure::None(source)),
        Ok(Last::Omitted) => return Err(Failure::Omitted(source)),
        Err(error) => return Err(Failure::Unreadable(source, error)),
    };
    match parse(&line) {
        Ok(report) if svg => Ok(svg::drawn(&report)),
        Ok(report) => Ok(text::drawn(&report)),
        Err(error) => Err(Failure::Broken(source, error)),
    }
}

/// What comes last.
#[derive(Debug, PartialEq, Eq)]
enum Last {
    Report(String),
    None,
    /// A text that is too long for journalctl, as a report can be.
    Omitted,
}

/// The last line with the mark. Only that one is kept, so that a long log costs no memory.
fn last_report(mut raw: impl BufRead) -> io::Result<Last> {
    let (mut line, mut last) = (Vec::new(), Last::None);
    while raw
        .by_ref()
        .take(LINE_BYTES_MAX)
        .read_until(b'\n', &mut line)?
        > 0
    {
        if line.len() as u64 == LINE_BYTES_MAX {
            let text = "a line of 64 MiB: that is no output of a server";
            return Err(io::Error::new(io::ErrorKind::InvalidData, text));
        }
        match text_of(&String::from_utf8_lossy(&line)) {
            Some(text) if text.contains(MARK) => last = Last::Report(text),
            Some(_) => {}
            None => last = Last::Omitted,
        }
        line.clear();
    }
    Ok(last)
}

/// What a server has printed of a line that a supervisor keeps: bare, behind a name and a time, or
/// as a text in an object (Docker's json-file log, `journalctl -o json`). `None`: journalctl has
/// left out the text.
fn text_of(line: &str) -> Option<String> {
    let entry = line.starts_with('{').then(|| serde_json::from_str(line));
    if let Some(Ok(Value::Object(entry))) = entry {
        match entry.get("log").or_else(|| entry.get("MESSAGE")) {
            Some(Value::String(text)) => return Some(text.clone()),
            Some(Value::Null) => return None,
            // Bytes: the text has control characters, such as colours.
            Some(Value::Array(bytes)) => {
                let bytes = bytes.iter().filter_map(Value::as_u64);
                let bytes: Vec<u8> = bytes.filter_map(|byte| byte.try_into().ok()).collect();
                return Some(String::from_utf8_lossy(&bytes).into_owned());
            }
            Some(_) | None => {}
        }
    }
    Some(line.to_owned())
}

/// From the first brace on: a supervisor's log may have put a name or a time in front, and colours
/// behind.
fn parse(line: &str) -> Result<Report, serde_json::Error> {
    let begin = line.find('{').unwrap_or(0);
    let mut values = serde_json::Deserializer::from_str(&line[begin..]).into_iter();
    values.next().unwrap_or_else(|| serde_json::from_str(""))
}

impl Report {
    fn bars(&self) -> [Bar; 6] {
        let phases = &self.phases_ms;
        let mut from = 0_u64;
        [
            ("delaying", phases.delaying),
            ("notifying", phases.notifying),
            ("draining", phases.draining),
            ("persisting", phases.persisting),
            ("closing", phases.closing),
            ("sweeping", phases.sweeping),
        ]
        .map(|(name, lasted)| {
            let bar = Bar { name, from, lasted };
            from = from.saturating_add(lasted);
            bar
        })
    }

    /// The whole time, at least 1 ms. Each phase is cut to milliseconds by itself, so their sum can
    /// be less than the total; it is not more, unless the line is made up.
    fn span_ms(&self) -> u64 {
        let end = self.bars()[5];
        self.total_ms
            .max(end.from.saturating_add(end.lasted))
            .max(1)
    }

    /// In one sentence: who asked, how long it took, and whether all is safe.
    fn headline(&self) -> String {
        let trigger = self
            .signal
            .as_deref()
            .map_or_else(|| "a call".into(), shown);
        let connections = counted(self.connections, "connection");
        let mut safe = match (self.unsaved_len(), self.spilled) {
            (0, 0) => "every session is safe".to_owned(),
            (0, spilled) => format!("every session is safe, {spilled} of them in the spill"),
            (unsaved, _) => format!("{} not saved", counted(unsaved, "session")),
        };
        if self.synced == Some(false) {
            safe += ", and the disk has not confirmed what is";
        }
        if self.store_lost {
            safe += ", and the store's file was gone or damaged";
        }
        let took = self.total_ms;
        format!("{trigger}, {connections}: gone after {took} ms, {safe}")
    }

    fn unsaved_len(&self) -> u64 {
        let named = self.unsaved.len() as u64;
        named.saturating_add(self.unsaved_more)
    }

    /// The counts that the time line does not show, each with what it counts.
    fn facts(&self) -> [(u64, &'static str); 8] {
        [
            (self.notified, "had the notice"),
            (self.drained, "were drained in time"),
            (self.saved, "sessions saved in the store"),
            (self.spilled, "sessions saved in the spill"),
            (self.byes, "had their goodbye"),
            (self.late, "messages counted after a goodbye"),
            (self.closed_1001, "answered Close 1001"),
            (self.cut, "were cut"),
        ]
    }
}

fn counted(count: u64, noun: &str) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} {noun}{plural}")
}

/// Names that come from the file: nothing that moves a terminal's cursor, and not too long.
fn shown(text: &str) -> String {
    const CHARACTERS_MAX: usize = 128;
    text.escape_debug().take(CHARACTERS_MAX).collect()
}

impl Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stdin => f.write_str("standard input"),
            Self::File(path) => write!(f, "{}", path.display()),
        }
    }
}

impl From<OsString> for Source {
    fn from(text: OsString) -> Self {
        if text == "-" {
            Self::Stdin
        } else {
            Self::File(PathBuf::from(text))
        }
    }
}

impl Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable(source, error) => write!(f, "{source}: {error}"),
            Self::None(source) => write!(
                f,
                "{source}: no report; it is the last line on the standard output of a server \
                 that has shut down"
            ),
            Self::Omitted(source) => write!(
                f,
                "{source}: journalctl has left out a text of more than 4096 bytes, which may be \
                 the report: call it with --all"
            ),
            Self::Broken(source, error) => {
                write!(f, "{source}: the last report is not whole: {error}")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A report, with a spill and a name that nobody may be trusted with.
    pub(super) const LINE: &str = concat!(
        r#"{"signal":"SIGTERM","connections":200,"notified":150,"drained":198,"saved":190,"#,
        r#""spilled":10,"byes":200,"late":790,"closed_1001":199,"cut":1,"phases_ms":{"#,
        r#""delaying":0,"notifying":2,"draining":256,"persisting":4,"closing":490,"#,
        r#""sweeping":10},"total_ms":763,"unsaved":[{"session":"a\u001b[2J<b>","count":7}]}"#,
    );

    pub(super) fn report() -> Report {
        parse(LINE).expect("a report")
    }

    #[test]
    fn the_last_report_among_other_lines_is_found() {
        let first = LINE.replace("763", "1");
        let mut log = format!("ready\n{first}\nlistening\n{LINE}\n").into_bytes();
        log.extend(b"not UTF-8: \xff\n");
        assert_eq!(
            last_report(&log[..]).unwrap(),
            Last::Report(format!("{LINE}\n"))
        );
        assert_eq!(last_report(&b"ready\n"[..]).unwrap(), Last::None);
    }

    #[test]
    fn it_is_found_in_what_docker_and_the_journal_keep() {
        let json = |text: &str| serde_json::to_string(text).unwrap();
        let docker = |text: &str| {
            let text = json(text);
            format!("{{\"log\":{text},\"stream\":\"stdout\",\"time\":\"2026-11-28T11:00:00Z\"}}\n")
        };
        let journal = |text: &str| format!("{{\"PRIORITY\":\"6\",\"MESSAGE\":{text}}}\n");
        for log in [
            docker("ready\n") + &docker(&format!("{LINE}\n")),
            journal("null") + &journal(&json(LINE)) + &journal(&json("stopped")),
            journal(&format!("{:?}", format!("\u{1b}[32m{LINE}").as_bytes())),
        ] {
            let Last::Report(line) = last_report(log.as_bytes()).unwrap() else {
                panic!("{log}");
            };
            assert_eq!(parse(&line).unwrap().total_ms, 763, "{log}");
        }
        let log = journal(&json(LINE)) + &journal("null");
        assert_eq!(last_report(log.as_bytes()).unwrap(), Last::Omitted);
    }

    #[test]
    fn a_supervisor_may_have_written_around_it() {
        for line in [
            format!("app_blue_1  | {LINE}"),
            format!("Nov 28 11:00:00 host sundown[7]: {LINE}\u{1b}[0m"),
        ] {
            assert_eq!(parse(&line).expect("a report").connections, 200);
        }
    }

    #[test]
    fn a_report_that_is_cut_anywhere_is_refused() {
        for end in 0..LINE.len() {
            assert!(parse(&LINE[..end]).is_err(), "at {end}");
        }
    }

    #[test]
    fn phases_follow_each_other() {
        let bars = report().bars().map(|bar| (bar.from, bar.lasted));
        let expected = [(0, 0), (0, 2), (2, 256), (258, 4), (262, 490), (752, 10)];
        assert_eq!(bars, expected);
        assert_eq!(report().span_ms(), 763);
    }

    #[test]
    fn numbers_that_no_shutdown_has_do_not_overflow() {
        let huge = LINE.replace("256", "18446744073709551615");
        let report = parse(&huge).expect("a report");
        assert_eq!(report.span_ms(), u64::MAX);
        assert!(!text::drawn(&report).is_empty());
        assert!(!svg::drawn(&report).is_empty());
    }

    #[test]
    fn the_headline_says_that_the_store_is_lost() {
        let lost = LINE.replace(r#""cut":1"#, r#""cut":1,"store_lost":true"#);
        let headline = parse(&lost).unwrap().headline();
        let end = "1 session not saved, and the store's file was gone or damaged";
        assert!(headline.ends_with(end), "{headline}");
    }

    #[test]
    fn the_headline_says_what_matters() {
        let headline = |line: &str| parse(line).unwrap().headline();
        let unsaved = r#"{"session":"a\u001b[2J<b>","count":7}"#;
        assert_eq!(
            headline(LINE),
            "SIGTERM, 200 connections: gone after 763 ms, 1 session not saved"
        );
        assert_eq!(
            headline(&LINE.replace(unsaved, "")),
            "SIGTERM, 200 connections: gone after 763 ms, every session is safe, \
             10 of them in the spill"
        );
    }
}
