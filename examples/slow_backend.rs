//! A service whose backend takes 50 ms for each message: a pool of threads makes the calls, and the
//! loop goes on meanwhile.
//!
//! ```text
//! slow_backend [--workers N] [--listen ADDR] [--admin ADDR|off] [--store STORE]
//! ```
//!
//! A client sends a text to `/ws/chat/?session=NAME`, and gets `N TEXT`: the message's number in the
//! session, and what the backend has made of it. In a shutdown every message that was received is
//! answered before the goodbye. If there is no time for that, a message is either not counted, and the
//! client sends it again, or counted, and answered when the client comes back.

use std::process::ExitCode;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use sundown::{Application, Deferred, Message, Server, Session};

#[path = "shared/mod.rs"]
mod shared;

/// Threads that wait for the backend. A session takes one step at a time: more than one worker for
/// each session that is busy would have nothing to do.
const WORKERS: usize = 512;

/// A shutdown waits so long for what clients have under way: 20 messages take a session one second,
/// if there are workers enough.
const DRAIN: Duration = Duration::from_secs(4);

fn main() -> ExitCode {
    shared::serve(|arguments| {
        let workers = arguments.take("--workers")?.unwrap_or(WORKERS);
        let mut config = arguments.config()?;
        config.shutdown.drain = DRAIN;
        // Fewer would leave workers without work: no client is read from while so many steps are open.
        config.limits.deferred_max = config.limits.deferred_max.max(2 * workers);
        Ok(Server::bind(config, SlowBackend::with(workers))?)
    })
}

/// Hands each message to a worker.
struct SlowBackend {
    jobs: Sender<Job>,
}

/// A message, and the rest of its step.
struct Job {
    text: String,
    deferred: Deferred,
}

impl SlowBackend {
    fn with(workers: usize) -> Self {
        let (jobs, queue) = channel();
        let queue = Arc::new(Mutex::new(queue));
        for _ in 0..workers {
            let queue = Arc::clone(&queue);
            // Never joined: a call to a backend that hangs must not delay the exit.
            thread::spawn(move || work(&queue));
        }
        Self { jobs }
    }
}

impl Application for SlowBackend {
    fn on_message(&mut self, message: Message<'_>, session: &mut Session<'_>) {
        if let Message::Text(text) = message {
            let (text, deferred) = (text.to_owned(), session.defer());
            // Without workers the job is dropped, and its step fails: the client sends it again.
            drop(self.jobs.send(Job { text, deferred }));
        }
    }
}

fn work(queue: &Mutex<Receiver<Job>>) {
    loop {
        // One worker waits with the lock held, and the others for the lock.
        let job = queue.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(Job { text, deferred }) = job else {
            return; // the server has ended
        };
        // The session has moved to another connection or node, where the message comes again.
        if deferred.is_cancelled() {
            continue;
        }
        let made = backend(&text);
        deferred.complete(move |session| answer(session, &made));
    }
}

/// The call that takes 50 ms. It can be made twice for one message: one with effects needs a key
/// ([`Session::incarnation`]).
#[expect(
    clippy::disallowed_methods,
    reason = "it stands for a call that blocks, and the loop is not on this thread"
)]
fn backend(text: &str) -> String {
    thread::sleep(Duration::from_millis(50));
    text.to_uppercase()
}

/// The end of a step, on the loop's thread. If the client has gone, or has had its goodbye, the message
/// counts all the same, and the answer waits in the session's mailbox until the client comes back.
fn answer(session: &mut Session<'_>, made: &str) {
    let answer = format!("{} {made}", session.count());
    if session.can_reply() {
        session.reply_text(answer);
    } else if let Err(error) = session.push(answer) {
        log::warn!("there is no answer to message {}: {error}", session.count());
    }
}
