//! The log: one line for each record on standard error, as text for people or JSON for machines.
//! When the reader does not keep up, lines are dropped and counted; it must never wait for it,
//! since it is called from the loop.

use std::backtrace::{Backtrace, BacktraceStatus};
use std::io::{self, IsTerminal};
use std::panic;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, UNIX_EPOCH};

use log::{Level, LevelFilter, Log, Metadata, Record};
use serde::Serialize;
use sundown::clock;

use super::journal;
use super::output::{Output, PATIENCE, PIECE, STDERR, printable};

/// How a line of the log looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    /// Text on a terminal and in the journal, JSON anywhere else.
    Auto,
    /// `2026-11-22T13:19:00.000Z WARN text`; in the journal `<4>text`.
    Text,
    /// `{"ts":"2026-11-22T13:19:00.000Z","level":"WARN","target":"sundown::…","message":"text"}`.
    Json,
}

/// Whether lines are JSON: for the whole process, since it has one standard error.
static IS_JSON: AtomicBool = AtomicBool::new(false);

/// Makes this the program's log, and panics one of its lines. Until the settings are known it has
/// their defaults.
pub(crate) fn install() {
    if log::set_boxed_logger(Box::new(Logger::default())).is_ok() {
        configure(LevelFilter::Info, Format::Auto);
    }
    // The standard hook blocks on a full pipe: a crash must not turn into a hang.
    panic::set_hook(Box::new(|panic| {
        let mut text = panic.to_string();
        let backtrace = Backtrace::capture();
        if backtrace.status() == BacktraceStatus::Captured {
            text = format!("{text}\n{backtrace}");
        }
        let text = if IS_JSON.load(Ordering::Relaxed) {
            let unix_ms = clock::now().unix_ms;
            json(unix_ms, Level::Error, "panic", &text)
        } else {
            let priority = journal::priority(Level::Error);
            let lines = text.lines().map(|line| format!("{priority}{line}\n"));
            lines.collect()
        };
        STDERR.offer(text);
        STDERR.drain(clock::now().instant + PATIENCE);
    }));
}

/// What is logged from here on, and how.
pub(crate) fn configure(level: LevelFilter, format: Format) {
    let is_json = match format {
        Format::Auto => !io::stderr().is_terminal() && !journal::is_journal(),
        Format::Text => false,
        Format::Json => true,
    };
    IS_JSON.store(is_json, Ordering::Relaxed);
    log::set_max_level(level);
}

/// A record, without its time.
#[derive(Clone, Copy)]
struct Said<'a> {
    level: Level,
    target: &'a str,
    text: &'a str,
}

#[derive(Default)]
struct Logger {
    /// Lines that were dropped since the last one that was written.
    dropped: Mutex<u64>,
}

impl Logger {
    /// Writes the line that `line` makes of a level, a target and a text.
    fn write(&self, output: &Output, line: &dyn Fn(Level, &str, &str) -> String, record: Said<'_>) {
        // Another thread's panic leaves a number behind, which is as good as any.
        let mut dropped = self.dropped.lock().unwrap_or_else(PoisonError::into_inner);
        if *dropped > 0 {
            let notice = format!(
                "{} lines of this log were dropped: nobody read them",
                *dropped
            );
            let notice = line(Level::Warn, module_path!(), &notice);
            if output.offer(notice) {
                *dropped = 0;
            }
        }
        let line = line(record.level, record.target, record.text);
        if *dropped > 0 || !output.offer(line) {
            *dropped += 1;
        }
    }
}

impl Log for Logger {
    /// Lines of our own only: at its lowest levels a codec tells what clients have sent.
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        let target = metadata.target().split("::").next();
        target == Some("sundown") && metadata.level() <= log::max_level()
    }

    fn log(&self, record: &Record<'_>) {
        if self.enabled(record.metadata()) {
            let unix_ms = clock::now().unix_ms;
            let is_json = IS_JSON.load(Ordering::Relaxed);
            let format = if is_json { json } else { text };
            let line = |level, target: &str, said: &str| format(unix_ms, level, target, said);
            let said = Said {
                level: record.level(),
                target: record.target(),
                text: &record.args().to_string(),
            };
            self.write(&STDERR, &line, said);
        }
    }

    fn flush(&self) {}
}

/// One line of at most [`PIECE`] bytes, so that it is written whole or not at all: nothing that a
/// peer sends can begin a line of its own.
fn text(unix_ms: u64, level: Level, _target: &str, said: &str) -> String {
    let mut line = match journal::priority(level) {
        "" => format!("{} {level} {}", timestamp(unix_ms), printable(said)),
        priority => format!("{priority}{}", printable(said)),
    };
    if line.len() >= PIECE {
        line.truncate(beginning(&line, PIECE - "…\n".len()).len());
        line.push('…');
    }
    line.push('\n');
    line
}

/// The same as an object, which is whole however long the text is.
fn json(unix_ms: u64, level: Level, target: &str, said: &str) -> String {
    #[derive(Serialize)]
    struct Line<'a> {
        ts: String,
        level: &'static str,
        target: &'a str,
        message: &'a str,
    }
    let object = |message: &str| {
        let line = Line {
            ts: timestamp(unix_ms),
            level: level.as_str(),
            target,
            message,
        };
        // Strings: there is nothing that can fail.
        let line = serde_json::to_string(&line).unwrap_or_default();
        // JSON escapes fewer characters than a terminal acts on.
        format!("{}{}\n", journal::priority(level), printable(&line))
    };
    let mut line = object(said);
    let mut said = beginning(said, PIECE);
    while line.len() > PIECE && !said.is_empty() {
        // Escapes make a text up to six times as long; how much longer this one is, is seen.
        said = beginning(said, said.len() / 2);
        line = object(&format!("{said}…"));
    }
    line
}

/// At most so many bytes of a text, cut between two characters.
fn beginning(text: &str, bytes_max: usize) -> &str {
    let mut ends = (0..=bytes_max.min(text.len())).rev();
    let end = ends.find(|end| text.is_char_boundary(*end));
    &text[..end.unwrap_or_default()]
}

fn timestamp(unix_ms: u64) -> String {
    let time = UNIX_EPOCH + Duration::from_millis(unix_ms);
    humantime::format_rfc3339_millis(time).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;
    use std::thread;

    const MS: u64 = 1_795_353_540_000;

    const TARGET: &str = "sundown::store";

    #[test]
    fn a_line_has_time_level_and_text_without_control_characters() {
        let check = |said: &str| text(MS, Level::Warn, TARGET, said);
        assert_eq!(check("text"), "2026-11-22T13:19:00.000Z WARN text\n");
        assert_eq!(
            check("two\nlines\x1b[31m"),
            "2026-11-22T13:19:00.000Z WARN two\\nlines\\u001b[31m\n"
        );
    }

    #[test]
    fn as_json_a_line_is_one_object() {
        assert_eq!(
            json(MS, Level::Warn, TARGET, "two\n\"lines\"\x1b\u{9b}"),
            "{\"ts\":\"2026-11-22T13:19:00.000Z\",\"level\":\"WARN\",\"target\":\"sundown::store\",\
             \"message\":\"two\\n\\\"lines\\\"\\u001b\\u009b\"}\n"
        );
    }

    #[test]
    fn a_long_line_is_cut() {
        let cut = text(MS, Level::Info, TARGET, &"ä".repeat(PIECE));
        assert!(cut.len() <= PIECE, "{}", cut.len());
        assert!(cut.ends_with("ä…\n"));
    }

    #[test]
    fn a_long_line_of_json_is_cut_and_still_an_object() {
        for long in ["ä", "a", "\u{1}", "\""] {
            let cut = json(MS, Level::Info, TARGET, &long.repeat(2 * PIECE));
            assert!(cut.len() <= PIECE, "{}", cut.len());
            let object: serde_json::Value = serde_json::from_str(&cut).unwrap();
            assert!(object["message"].as_str().unwrap().ends_with('…'), "{cut}");
        }
    }

    #[test]
    fn what_other_crates_say_is_not_logged() {
        log::set_max_level(LevelFilter::Trace);
        let of = |target| {
            Metadata::builder()
                .level(Level::Trace)
                .target(target)
                .build()
        };
        let logger = Logger::default();
        for target in ["sundown", "sundown::net::listener"] {
            assert!(logger.enabled(&of(target)), "{target}");
        }
        for target in ["tungstenite::protocol", "mio::poll", "sundowner"] {
            assert!(!logger.enabled(&of(target)), "{target}");
        }
    }

    #[test]
    fn lines_for_a_full_pipe_are_dropped_and_counted() {
        let (mut reader, writer) = io::pipe().unwrap();
        let output = Output::start("test", writer);
        let logger = Logger::default();
        let line = |level, target: &str, said: &str| text(MS, level, target, said);
        let write = |said| {
            let (level, target) = (Level::Info, TARGET);
            let said = Said {
                level,
                target,
                text: said,
            };
            logger.write(&output, &line, said);
        };
        while *logger.dropped.lock().unwrap() < 3 {
            write("text");
        }
        let slow = thread::spawn(move || {
            let mut rest = String::new();
            reader.read_to_string(&mut rest).unwrap();
            rest
        });
        output.drain(clock::now().instant + Duration::from_secs(20));
        write("again");
        drop(output);
        let rest = slow.join().unwrap();
        assert!(
            rest.ends_with(
                "Z INFO text\n\
                 2026-11-22T13:19:00.000Z WARN 3 lines of this log were dropped: nobody read \
                 them\n\
                 2026-11-22T13:19:00.000Z INFO again\n"
            ),
            "{}",
            &rest[rest.len() - 300..]
        );
    }
}
