//! A session's state that shows whether each message took effect once, and in which order: how many
//! messages the service has seen, and a hash over the last one and the hash before it. Whatever happens
//! to clients, nodes and stores, it must be what clients have sent (`tests/exactly_once.rs`, and the
//! campaign of faults).
//!
//! ```text
//! chain [--workers N [--work 1ms]] [--listen ADDR] [--admin ADDR|off] [--store STORE]
//! ```
//!
//! A message `NAME TEXT` pushes the text to that session. With workers, other threads complete the steps, each in the time that is given. The campaign sets some more, as the command
//! `sundown` has them: see [`settings`].

use std::process::ExitCode;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use shared::{Arguments, Failure};
use sundown::{
    Application, Body, Config, Deferred, Durability, Message, PushRefused, Server, Session,
    SessionId,
};

#[path = "shared/mod.rs"]
mod shared;

const WORK: Duration = Duration::from_millis(1);

fn main() -> ExitCode {
    shared::serve(|arguments| {
        let workers = arguments.take("--workers")?.unwrap_or(0);
        let work = arguments.take::<humantime::Duration>("--work")?;
        let work = work.map_or(WORK, Into::into);
        let mut config = settings(arguments)?;
        config.limits.deferred_max = config.limits.deferred_max.max(2 * workers);
        Ok(Server::bind(config, Chain::with(workers, work))?)
    })
}

fn settings(arguments: &mut Arguments) -> Result<Config, Failure> {
    let mut config = Config::default();
    let shutdown = &mut config.shutdown;
    for (flag, setting) in [
        ("--session-ttl", &mut config.session_ttl),
        ("--notify-timeout", &mut shutdown.notify),
        ("--drain-timeout", &mut shutdown.drain),
        ("--drain-quiet", &mut shutdown.drain_quiet),
        ("--persist-timeout", &mut shutdown.persist),
        ("--close-spread", &mut shutdown.close_spread),
    ] {
        if let Some(length) = arguments.take::<humantime::Duration>(flag)? {
            *setting = length.into();
        }
    }
    if let Some(spill) = arguments.take::<String>("--spill")? {
        config.spill = spill.trim_start_matches("sqlite:").into();
    }
    if let Some("relaxed") = arguments.take::<String>("--durability")?.as_deref() {
        config.durability = Durability::Relaxed;
    }
    let shared = arguments.config()?;
    Ok(Config {
        listen: shared.listen,
        admin: shared.admin,
        store: shared.store,
        ..config
    })
}

/// Adds each message to its session's chain.
struct Chain {
    /// Where steps are completed, if not at once.
    workers: Option<Sender<Job>>,
}

struct Job {
    message: Vec<u8>,
    deferred: Deferred,
}

impl Chain {
    fn with(workers: usize, length: Duration) -> Self {
        if workers == 0 {
            return Self { workers: None };
        }
        let (jobs, queue) = channel();
        let queue = Arc::new(Mutex::new(queue));
        for _ in 0..workers {
            let queue = Arc::clone(&queue);
            thread::spawn(move || work(&queue, length));
        }
        Self {
            workers: Some(jobs),
        }
    }
}

impl Application for Chain {
    fn on_message(&mut self, message: Message<'_>, session: &mut Session<'_>) {
        let message = match message {
            Message::Text(text) => text.as_bytes(),
            Message::Binary(bytes) => bytes,
        };
        let Some(workers) = &self.workers else {
            return extend(session, message);
        };
        let (message, deferred) = (message.to_vec(), session.defer());
        drop(workers.send(Job { message, deferred }));
    }

    fn on_push_refused(
        &mut self,
        to: &SessionId,
        _body: &Body,
        why: PushRefused,
        session: &mut Session<'_>,
    ) {
        session.reply_text(format!("{to}: {why}"));
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "it stands for a call that blocks, and the loop is not on this thread"
)]
fn work(queue: &Mutex<Receiver<Job>>, length: Duration) {
    loop {
        let job = queue.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(Job { message, deferred }) = job else {
            return; // the server has ended
        };
        thread::sleep(length);
        deferred.complete(move |session| extend(session, &message));
    }
}

/// The state is two numbers, little end first: messages, and hash. The chain of each session begins
/// with a hash of its name, so that no two are alike.
fn extend(session: &mut Session<'_>, message: &[u8]) {
    let (seen, before) = match session.state().as_chunks() {
        ([seen, before], []) => (u64::from_le_bytes(*seen), *before),
        _ => (
            0,
            hash(&[session.id().map_or("", |id| id.as_str()).as_bytes()]),
        ),
    };
    let state = [(seen + 1).to_le_bytes(), hash(&[&before, message])];
    if let Err(error) = session.set_state(state.as_flattened()) {
        log::error!("{error}");
    }
    // `NAME TEXT` is pushed.
    let parts = str::from_utf8(message)
        .ok()
        .and_then(|text| text.split_once(' '));
    if let Some((name, text)) = parts
        && let Ok(to) = SessionId::parse(name)
        && let Err(error) = session.push_to(&to, text)
    {
        log::error!("{error}");
    }
}

/// FNV-1a.
fn hash(parts: &[&[u8]]) -> [u8; 8] {
    let bytes = parts.iter().copied().flatten();
    let hash = bytes.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    });
    hash.to_le_bytes()
}
