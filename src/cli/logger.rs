//! The log: one line for each record on standard error, `2026-11-22T13:19:00.000Z WARN text`. When
//! the reader does not keep up, lines are dropped and counted; it must never wait for it, since it
//! is called from the loop.

use std::backtrace::{Backtrace, BacktraceStatus};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::panic;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, UNIX_EPOCH};

use log::{Level, LevelFilter, Log, Metadata, Record};
use sundown::clock;

use super::output::{PATIENCE, PIECE, write_within};

/// Makes this the program's log, and panics one of its lines.
pub(crate) fn install() {
    let logger = Box::new(Logger::default());
    if log::set_boxed_logger(logger).is_ok() {
        log::set_max_level(LevelFilter::Info);
    }
    // The standard hook blocks on a full pipe: a crash must not turn into a hang.
    panic::set_hook(Box::new(|panic| {
        let mut text = format!("{panic}\n");
        let backtrace = Backtrace::capture();
        if backtrace.status() == BacktraceStatus::Captured {
            text = format!("{text}{backtrace}\n");
        }
        write_within(io::stderr().as_fd(), text.as_bytes(), PATIENCE);
    }));
}

#[derive(Default)]
struct Logger {
    /// Lines that were dropped since the last one that was written.
    dropped: Mutex<u64>,
}

impl Logger {
    fn write(&self, fd: BorrowedFd<'_>, unix_ms: u64, level: Level, text: &str) {
        // Another thread's panic leaves a number behind, which is as good as any.
        let mut dropped = self.dropped.lock().unwrap_or_else(PoisonError::into_inner);
        if *dropped > 0 {
            let notice = format!(
                "{} lines of this log were dropped: nobody read them",
                *dropped
            );
            let notice = line(unix_ms, Level::Warn, &notice);
            if write_within(fd, notice.as_bytes(), Duration::ZERO) {
                *dropped = 0;
            }
        }
        let line = line(unix_ms, level, text);
        if *dropped > 0 || !write_within(fd, line.as_bytes(), Duration::ZERO) {
            *dropped += 1;
        }
    }
}

impl Log for Logger {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.level() <= log::max_level()
    }

    fn log(&self, record: &Record<'_>) {
        if self.enabled(record.metadata()) {
            let text = record.args().to_string();
            let unix_ms = clock::now().unix_ms;
            self.write(io::stderr().as_fd(), unix_ms, record.level(), &text);
        }
    }

    fn flush(&self) {}
}

/// One line of at most [`PIECE`] bytes, so that it is written whole or not at all. Control
/// characters are escaped: nothing that a peer sends can begin a line of its own.
fn line(unix_ms: u64, level: Level, text: &str) -> String {
    let time = UNIX_EPOCH + Duration::from_millis(unix_ms);
    let time = humantime::format_rfc3339_millis(time);
    let mut line = format!("{time} {level} ");
    for c in text.chars() {
        if c.is_control() {
            line.extend(c.escape_default());
        } else {
            line.push(c);
        }
    }
    if line.len() >= PIECE {
        let fits = |&end: &usize| line.is_char_boundary(end);
        let end = (0..=PIECE - "…\n".len()).rev().find(fits);
        line.truncate(end.unwrap_or_default());
        line.push('…');
    }
    line.push('\n');
    line
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    const MS: u64 = 1_795_353_540_000;

    #[test]
    fn a_line_has_time_level_and_text_without_control_characters() {
        let check = |text: &str| line(MS, Level::Warn, text);
        assert_eq!(check("text"), "2026-11-22T13:19:00.000Z WARN text\n");
        assert_eq!(
            check("two\nlines\x1b[31m"),
            "2026-11-22T13:19:00.000Z WARN two\\nlines\\u{1b}[31m\n"
        );
    }

    #[test]
    fn a_long_line_is_cut() {
        let cut = line(MS, Level::Info, &"ä".repeat(PIECE));
        assert!(cut.len() <= PIECE, "{}", cut.len());
        assert!(cut.ends_with("ä…\n"));
    }

    #[test]
    fn lines_for_a_full_pipe_are_dropped_and_counted() {
        let (mut reader, writer) = io::pipe().unwrap();
        let logger = Logger::default();
        while *logger.dropped.lock().unwrap() < 3 {
            logger.write(writer.as_fd(), MS, Level::Info, "text");
        }
        // Room for two lines.
        let mut page = [0; PIECE];
        reader.read_exact(&mut page).unwrap();
        logger.write(writer.as_fd(), MS, Level::Info, "again");
        drop(writer);
        let mut rest = String::new();
        reader.read_to_string(&mut rest).unwrap();
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
