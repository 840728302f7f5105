//! Standard output and standard error, written so that whoever reads them, or does not, cannot hold
//! up the server or its exit: a pipe, a terminal that is stopped (`^S`), a serial line, a disk.
//!
//! poll(2) is no help: it calls a terminal writable that takes less than a line, and a pipe that
//! somebody else fills meanwhile, and the descriptors' mode is shared with the shell that started
//! us. So each of the two has a thread that writes, and a queue of bounded size before it. It
//! must never panic because a reader has gone (`println!` does).

use std::borrow::Cow;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Condvar, LazyLock, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use log::Level;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use sundown::clock;

use super::journal;

/// The longest line of the log: a pipe takes so much whole, or not at all (`PIPE_BUF` on Linux).
pub(crate) const PIECE: usize = 4096;

/// Bytes that may wait to be written: some thousand lines.
const WAITING_BYTES_MAX: usize = 256 << 10;

/// How long an exit waits for what was printed to be written.
pub(crate) const PATIENCE: Duration = Duration::from_millis(400);

/// For `--help` into a pager: nothing else waits then.
const PATIENCE_FOR_TEXT: Duration = Duration::from_secs(10);

static STDOUT: LazyLock<Output> = LazyLock::new(|| Output::start("sundown-stdout", io::stdout()));

/// Standard error.
pub(crate) static STDERR: LazyLock<Output> =
    LazyLock::new(|| Output::start("sundown-stderr", io::stderr()));

/// Prints a line.
pub(crate) fn print_line(text: &str) {
    STDOUT.offer(format!("{}\n", printable(text)));
}

/// Prints a text of several lines, `--help` or a drawing, and waits until it is written.
pub(crate) fn print_text(text: &str) {
    STDOUT.offer(text.to_owned());
    STDOUT.drain(clock::now().instant + PATIENCE_FOR_TEXT);
}

/// Prints the one line on standard error that goes before an exit.
pub(crate) fn print_error(text: &str) {
    let priority = journal::priority(Level::Error);
    STDERR.offer(format!("{priority}sundown: {}\n", printable(text)));
}

/// Waits until all that was printed and logged is written, but not beyond `deadline`.
pub(crate) fn drain(deadline: Instant) {
    STDOUT.drain(deadline);
    STDERR.drain(deadline);
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

/// A descriptor with a thread that writes to it.
pub(crate) struct Output {
    lines: Sender<String>,
    progress: Arc<Progress>,
}

/// How many bytes wait, and news of that.
#[derive(Default)]
struct Progress {
    waiting: Mutex<usize>,
    written: Condvar,
}

impl Output {
    /// Starts the thread.
    pub(crate) fn start(name: &str, fd: impl AsFd + Send + 'static) -> Self {
        let (lines, queue) = mpsc::channel();
        let progress = Arc::new(Progress::default());
        let of_thread = Arc::clone(&progress);
        // Without it what is offered is refused: there is nobody left to tell.
        drop(
            thread::Builder::new()
                .name(name.to_owned())
                .spawn(move || write_all(fd.as_fd(), &queue, &of_thread)),
        );
        Self { lines, progress }
    }

    /// Has a line written; `false` if too much waits already. Never waits. Where nothing waits,
    /// there is room for a text of any length.
    pub(crate) fn offer(&self, line: String) -> bool {
        let mut waiting = self.progress.waiting();
        let len = line.len();
        let has_room = *waiting == 0 || *waiting + len <= WAITING_BYTES_MAX;
        let taken = has_room && self.lines.send(line).is_ok();
        *waiting += if taken { len } else { 0 };
        taken
    }

    /// Waits until nothing waits any more, but not beyond `deadline`.
    pub(crate) fn drain(&self, deadline: Instant) {
        let left = deadline.saturating_duration_since(clock::now().instant);
        let waiting = self.progress.waiting();
        let written = &self.progress.written;
        drop(written.wait_timeout_while(waiting, left, |waiting| *waiting > 0));
    }
}

impl Progress {
    fn waiting(&self) -> MutexGuard<'_, usize> {
        // Another thread's panic leaves a number behind, which is as good as any.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The thread. The lock is never held while it writes.
fn write_all(fd: BorrowedFd<'_>, queue: &Receiver<String>, progress: &Progress) {
    for line in queue {
        let mut rest = line.as_bytes();
        while !rest.is_empty() {
            match rustix::io::write(fd, rest) {
                Ok(written) => rest = &rest[written..],
                Err(Errno::INTR) => {}
                // Someone has made the descriptor non-blocking.
                Err(Errno::AGAIN) => {
                    let mut fds = [PollFd::from_borrowed_fd(fd, PollFlags::OUT)];
                    if poll(&mut fds, None).is_err_and(|error| error != Errno::INTR) {
                        break;
                    }
                }
                // Nobody reads it any more.
                Err(_) => break,
            }
        }
        *progress.waiting() -= line.len();
        progress.written.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    fn soon() -> Instant {
        clock::now().instant + Duration::from_secs(20)
    }

    #[test]
    fn a_pipe_that_nobody_reads_holds_nothing_up() {
        let (_reader, writer) = io::pipe().unwrap();
        let output = Output::start("test", writer);
        while output.offer("x".repeat(PIECE)) {}
        let begun = clock::now().instant;
        output.drain(begun + Duration::from_millis(30));
        assert!(*output.progress.waiting() > 0);
    }

    #[test]
    fn a_long_text_arrives_whole_at_a_slow_reader() {
        let (mut reader, writer) = io::pipe().unwrap();
        let output = Output::start("test", writer);
        let text = "y".repeat(1 << 20);
        assert!(output.offer(text.clone()));
        let slow = thread::spawn(move || {
            let mut all = String::new();
            reader.read_to_string(&mut all).unwrap();
            all
        });
        output.drain(soon());
        drop(output);
        assert!(slow.join().unwrap() == text);
    }

    #[test]
    fn a_reader_that_has_gone_is_no_panic() {
        let (reader, writer) = io::pipe().unwrap();
        drop(reader);
        let output = Output::start("test", writer);
        assert!((0..3).all(|_| output.offer("text".to_owned())));
        output.drain(soon());
        assert_eq!(*output.progress.waiting(), 0);
    }
}
