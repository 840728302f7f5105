//! A store from outside of the crate, for tests: sessions in a file that only grows. A thread of its
//! own reads and writes it, and wakes the loop when it has answers. It panics when the disk fails,
//! where a real store must say `Down`, and a claim's token is forgotten with the process.

use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;
use std::time::Duration;

use sundown::mio::Waker;
use sundown::store::expiry::Expiry;
use sundown::store::record::{Record, Records, carry_out};
use sundown::store::{Now, Snapshot, StoreCommand, StoreEvent};
use sundown::{Body, Mailbox, SessionId, State};
use sundown::{Error, SessionStore};

pub(crate) struct Journal {
    path: PathBuf,
    expiry: Expiry,
    asked: Vec<StoreCommand>,
    work: Sender<Work>,
    answers: Receiver<StoreEvent>,
}

/// What a turn has asked, and the times for it.
struct Work {
    asked: Vec<StoreCommand>,
    judged_ms: u64,
    expires_ms: u64,
}

/// What the thread has.
struct Keeper {
    file: File,
    records: HashMap<SessionId, (Record, u64)>,
    judged_ms: u64,
    expires_ms: u64,
    answers: Sender<StoreEvent>,
}

impl Journal {
    pub(crate) fn open(path: &Path, ttl: Duration, waker: Arc<Waker>) -> Result<Self, Error> {
        let failed = |error: std::io::Error| Error::Store(format!("{}: {error}", path.display()));
        let options = OpenOptions::new().append(true).create(true).open(path);
        let (work, received) = mpsc::channel();
        let (answers, answered) = mpsc::channel();
        let mut keeper = Keeper {
            file: options.map_err(failed)?,
            records: read(&fs::read_to_string(path).map_err(failed)?),
            judged_ms: 0,
            expires_ms: 0,
            answers,
        };
        keeper.answer(StoreEvent::Up);
        thread::spawn(move || {
            for work in received {
                keeper.carry_out(work);
                waker.wake().expect("the loop lives as long as its store");
            }
        });
        Ok(Self {
            path: path.to_owned(),
            expiry: Expiry::new(ttl),
            asked: Vec::new(),
            work,
            answers: answered,
        })
    }
}

impl SessionStore for Journal {
    fn describe(&self) -> String {
        format!("journal:{}", self.path.display())
    }

    fn ask(&mut self, command: StoreCommand) {
        self.asked.push(command);
    }

    fn flush(&mut self, now: Now) {
        self.expiry.handle_now(now);
        if !self.asked.is_empty() {
            let work = Work {
                asked: std::mem::take(&mut self.asked),
                judged_ms: self.expiry.judged_ms(),
                expires_ms: self.expiry.expires_ms(),
            };
            self.work.send(work).expect("the thread does not panic");
        }
    }

    fn poll_event(&mut self) -> Option<StoreEvent> {
        self.answers.try_recv().ok()
    }
}

impl Keeper {
    fn carry_out(&mut self, work: Work) {
        (self.judged_ms, self.expires_ms) = (work.judged_ms, work.expires_ms);
        for command in work.asked {
            match command {
                StoreCommand::Claim(claim) => {
                    let known = self.find(&claim.session);
                    let is_alive = known.is_some_and(|(_, is_alive)| is_alive);
                    let known = known.map(|(record, _)| record);
                    let (record, grant) = Record::claim(known, is_alive, claim.token, 0);
                    self.keep(&claim.session, record);
                    let key = claim.key;
                    self.answer(StoreEvent::Claimed { key, grant });
                }
                StoreCommand::Commit(batch) => {
                    let (mut fenced, mut pushed) = (Vec::new(), Vec::new());
                    for (position, commit) in batch.iter().enumerate() {
                        if !carry_out(self, commit, &mut pushed) {
                            fenced.push(position);
                        }
                    }
                    self.answer(StoreEvent::Committed {
                        batch,
                        fenced,
                        pushed,
                    });
                }
                StoreCommand::Read(read) => {
                    let known = self.find(&read.session).filter(|(_, is_alive)| *is_alive);
                    let mailbox = known.map(|(record, _)| record.mailbox().clone());
                    self.answer(StoreEvent::Mailbox {
                        key: read.key,
                        mailbox: mailbox.unwrap_or_default(),
                    });
                }
                StoreCommand::Sync => {
                    self.file.sync_data().expect("a disk that works");
                    self.answer(StoreEvent::Synced);
                }
            }
        }
    }

    /// The store may be gone by now.
    fn answer(&self, event: StoreEvent) {
        drop(self.answers.send(event));
    }
}

impl Records for Keeper {
    fn find(&self, session: &SessionId) -> Option<(&Record, bool)> {
        let (record, at_ms) = self.records.get(session)?;
        Some((record, *at_ms > self.judged_ms))
    }

    fn keep(&mut self, session: &SessionId, record: Record) {
        let expires_ms = self.expires_ms;
        let Snapshot {
            incarnation,
            step,
            count,
            state,
        } = record.snapshot();
        let (epoch, state) = (record.epoch(), hex(state.as_bytes()));
        let mailbox = record.mailbox();
        let kind = |body: &Body| if body.is_binary() { 'b' } else { 't' };
        let bodies = mailbox.iter().map(|(_, body)| (kind(body), body));
        let bodies = bodies.map(|(kind, body)| format!(" {kind}{}", hex(body.as_bytes())));
        let (sent, bodies) = (mailbox.sent(), bodies.collect::<String>());
        // One write: a process that is killed leaves no half of a line.
        let line = format!(
            "{session} {epoch} {incarnation} {step} {count} {expires_ms} {state} {sent}{bodies}\n"
        );
        let written = self.file.write_all(line.as_bytes());
        written.expect("a disk with room");
        self.records.insert(session.clone(), (record, expires_ms));
    }
}

/// The last line of a session counts.
fn read(lines: &str) -> HashMap<SessionId, (Record, u64)> {
    let record = |line: &str| {
        let mut words = line.split(' ');
        let session = SessionId::parse(words.next()?).ok()?;
        let mut number = || words.next()?.parse::<u64>().ok();
        let (epoch, incarnation, step) = (number()?, number()?, number()?);
        let (count, expires_ms) = (number()?, number()?);
        let snapshot = Snapshot {
            incarnation,
            step,
            count,
            state: State::new(&unhex(words.next()?)?).ok()?,
        };
        let sent = words.next()?.parse().ok()?;
        let body = |word: &str| Body::of(&unhex(&word[1..])?, word.starts_with('b'));
        let mailbox = Mailbox::new(sent, words.map(body).collect::<Option<Vec<_>>>()?);
        let record = Record::new(epoch, snapshot, None).with_mailbox(mailbox);
        Some((session, (record, expires_ms)))
    };
    let mut records = HashMap::new();
    for line in lines.lines().rev() {
        let session = line
            .split(' ')
            .next()
            .and_then(|word| SessionId::parse(word).ok());
        if session.is_some_and(|session| !records.contains_key(&session)) {
            records.extend(record(line));
        }
    }
    records
}

fn hex(bytes: &[u8]) -> String {
    let digit = |nibble: u8| char::from(b"0123456789abcdef"[usize::from(nibble)]);
    let digits = |byte: &u8| [digit(byte >> 4), digit(byte & 15)];
    bytes.iter().flat_map(digits).collect()
}

fn unhex(digits: &str) -> Option<Vec<u8>> {
    let (pairs, rest) = digits.as_bytes().as_chunks::<2>();
    rest.is_empty().then_some(())?;
    let byte = |pair: &[u8; 2]| u8::from_str_radix(str::from_utf8(pair).ok()?, 16).ok();
    pairs.iter().map(byte).collect()
}
