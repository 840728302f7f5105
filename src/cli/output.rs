//! Standard output and standard error, written so that a pipe which nobody reads cannot hold up
//! the server or its exit. It owns the two descriptors' use; it must never make a write that can
//! block, and never panic because a reader has gone (`println!` does both).

use std::borrow::Cow;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use sundown::clock;

/// A pipe that polls as writable takes so much at once without blocking: `PIPE_BUF` on Linux. On
/// other systems the poll promises less, and a pipe in between may block for its reader.
pub(crate) const PIECE: usize = 4096;

/// For lines at the start and at the exit. The loop cuts what is left half a second before the
/// shutdown's deadline; the report must fit into that.
pub(crate) const PATIENCE: Duration = Duration::from_millis(400);

/// For `--help` into a pager: nothing else waits then.
const PATIENCE_FOR_TEXT: Duration = Duration::from_secs(10);

/// Standard output, line by line, within one patience for the whole of the lines written with it.
pub(crate) struct Stdout {
    patience: Duration,
}

impl Stdout {
    /// For lines that must not hold anything up.
    pub(crate) fn new() -> Self {
        Self { patience: PATIENCE }
    }

    /// Writes a line, or as much of it as a slow reader takes.
    pub(crate) fn line(&mut self, text: &str) {
        let begun = clock::now().instant;
        write_within(
            io::stdout().as_fd(),
            format!("{}\n", printable(text)).as_bytes(),
            self.patience,
        );
        let spent = clock::now().instant.saturating_duration_since(begun);
        self.patience = self.patience.saturating_sub(spent);
    }
}

/// Writes `--help` or `--version`.
pub(crate) fn print_text(text: &str) {
    write_within(io::stdout().as_fd(), text.as_bytes(), PATIENCE_FOR_TEXT);
}

/// Writes the one line on standard error that goes before an exit.
pub(crate) fn print_error(text: &str) {
    let line = format!("sundown: {}\n", printable(text));
    write_within(io::stderr().as_fd(), line.as_bytes(), PATIENCE);
}

/// A text on one line that a terminal shows as it is. What would move its cursor, change colours
/// or turn the order of characters around is escaped as in JSON, which stays the same JSON by that.
/// For all that goes to a terminal or into a log: it may come from a peer or from a file.
pub(crate) fn printable(text: &str) -> Cow<'_, str> {
    // Controls, and of the formats those for directions and of no width (Unicode, chapter 23).
    let acts = |c: char| {
        c.is_control()
            || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{feff}')
            || ('\u{2060}'..='\u{206f}').contains(&c)
    };
    if !text.contains(acts) {
        return Cow::Borrowed(text);
    }
    let escape = |c: char| match c {
        '\n' => "\\n".to_owned(),
        '\r' => "\\r".to_owned(),
        '\t' => "\\t".to_owned(),
        c if acts(c) => format!("\\u{:04x}", u32::from(c)),
        c => c.to_string(),
    };
    Cow::Owned(text.chars().map(escape).collect())
}

/// Writes all of `bytes` in pieces, each once poll(2) says that it will not block, until
/// `patience` is over. Whether all of it was written.
///
/// The descriptor itself stays in blocking mode: it may be shared with the shell that started us.
pub(crate) fn write_within(fd: BorrowedFd<'_>, bytes: &[u8], patience: Duration) -> bool {
    let deadline = clock::now().instant + patience;
    let mut rest = bytes;
    while !rest.is_empty() {
        if !wait_until_writable(fd, deadline) {
            return false;
        }
        match rustix::io::write(fd, &rest[..rest.len().min(PIECE)]) {
            Ok(written) => rest = &rest[written..],
            Err(Errno::INTR) => {}
            // Someone has made the descriptor non-blocking, and it changed its mind.
            Err(Errno::AGAIN) if clock::now().instant < deadline => {}
            Err(_) => return false,
        }
    }
    true
}

/// Also true for a descriptor in error, such as a pipe without a reader: the write then says so
/// at once.
fn wait_until_writable(fd: BorrowedFd<'_>, deadline: Instant) -> bool {
    loop {
        let left = deadline.saturating_duration_since(clock::now().instant);
        let Ok(timeout) = Timespec::try_from(left) else {
            return false;
        };
        let mut fds = [PollFd::from_borrowed_fd(fd, PollFlags::OUT)];
        match poll(&mut fds, Some(&timeout)) {
            Ok(ready) => return ready > 0,
            Err(Errno::INTR) => {}
            Err(_) => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;
    use std::thread;

    /// Fills a pipe and gives what has gone into it.
    fn fill(writer: &io::PipeWriter) -> usize {
        let mut filled = 0;
        while write_within(writer.as_fd(), &[b'x'; 512], Duration::ZERO) {
            filled += 512;
        }
        filled
    }

    #[test]
    fn nothing_that_acts_on_a_terminal_is_printed() {
        let check = |text, expected: &str| assert_eq!(printable(text), expected);
        check(
            "{\"queued\":3} ä e\u{301} 日本",
            "{\"queued\":3} ä e\u{301} 日本",
        );
        check(
            "a\x1b[2J\x1b]0;title\x07\nb",
            r"a\u001b[2J\u001b]0;title\u0007\nb",
        );
        check(
            "\u{9b}31m\x7f\u{202e}\u{2066}\u{feff}",
            r"\u009b31m\u007f\u202e\u2066\ufeff",
        );
    }

    #[test]
    fn a_full_pipe_does_not_block() {
        let (_reader, writer) = io::pipe().unwrap();
        assert!(fill(&writer) > 0);
        let begun = clock::now().instant;
        let patience = Duration::from_millis(30);
        assert!(!write_within(writer.as_fd(), b"more", patience));
        let took = clock::now().instant - begun;
        assert!(took >= patience, "{took:?}");
        assert!(took < Duration::from_secs(5), "{took:?}");
    }

    #[test]
    fn a_long_text_arrives_whole_at_a_slow_reader() {
        let (mut reader, writer) = io::pipe().unwrap();
        let filled = fill(&writer);
        let slow = thread::spawn(move || {
            let mut all = Vec::new();
            reader.read_to_end(&mut all).unwrap();
            all.len()
        });
        let text = vec![b'y'; 1 << 20];
        assert!(write_within(writer.as_fd(), &text, Duration::from_secs(20)));
        drop(writer);
        assert_eq!(slow.join().unwrap(), filled + text.len());
    }

    #[test]
    fn a_reader_that_has_gone_is_no_panic() {
        let (reader, writer) = io::pipe().unwrap();
        drop(reader);
        assert!(!write_within(
            writer.as_fd(),
            b"text",
            Duration::from_secs(20)
        ));
    }

    #[test]
    fn a_file_is_always_writable() {
        let mut file = tempfile::tempfile().unwrap();
        assert!(write_within(
            file.as_fd(),
            &[b'z'; 3 * PIECE],
            Duration::ZERO
        ));
        io::Seek::rewind(&mut file).unwrap();
        let mut text = Vec::new();
        file.read_to_end(&mut text).unwrap();
        assert_eq!(text.len(), 3 * PIECE);
    }
}
