//! The helper thread that moves what the WAL holds into the database file, since that fsyncs.
//!
//! It owns the thread's end of two channels, the size of the WAL, and the syncs that wait. The
//! thread has a connection of its own and does one job at a time; it ends when this is dropped.
//! Nobody waits for it, since the disk may hang, but for the moment that the end of the loop allows.
//!
//! It must never hold the write lock for longer than it takes to copy what was written during the
//! last of its passes, and never call a sync done before what was saved is on the disk and, where
//! there is a check, was found there through a new connection.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender, TryRecvError};
use std::thread;
use std::time::{Duration, Instant};

use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, OpenFlags};

use super::location;
use super::reserve::{Reserve, Room};
use crate::clock;
use crate::engine::io::Disk;
use crate::error::Error;

/// Pages that may be written before the size of the WAL is looked at again.
const PAGES_PER_LOOK_MAX: usize = 1_000;

/// A page of the database, at least.
const PAGE_BYTES: u64 = 1 << 10;

/// When a trim leaves the WAL large, because somebody reads, the next is not before this.
const TRIM_PAUSE: Duration = Duration::from_secs(1);

/// Passes next to the writers, each over what was written during the one before. The last pass
/// keeps writers out and should be short: under so many pages left, it is.
const PASSES_MAX: usize = 4;
const LAST_PASS_PAGES: i64 = 256;

/// How long the last pass waits for the write lock, and then for readers, with writers kept out.
const LOCK_TIMEOUT: Duration = Duration::from_millis(50);

/// Whether a file that was opened afresh holds what it must, and at least this number; otherwise
/// what is wrong with it.
pub(crate) type Check = fn(&Connection, i64) -> rusqlite::Result<Result<(), String>>;

/// The loop's side.
#[derive(Debug)]
pub(crate) struct Checkpointer {
    jobs: Sender<Job>,
    done: Receiver<Done>,
    wal: PathBuf,
    reserve: Reserve,
    /// What the last job has found.
    room: Room,
    running: Option<Job>,
    /// Syncs that the running job answers.
    syncs_running: usize,
    /// Syncs that were asked for after it began.
    syncs_waiting: usize,
    pages_unseen: usize,
    /// Writes that have to be synced, so far; of those, the ones that the running job covers, and
    /// the ones that are on the disk.
    writes: u64,
    writes_running: u64,
    writes_synced: u64,
    /// The number that the next sync gives to its check.
    at_least: i64,
    /// The last sync has failed.
    failed: bool,
    /// What its check has found wrong with the file.
    damage: Option<String>,
    /// What the last trim left.
    wal_bytes_left: u64,
    trim_again_at: Option<Instant>,
    /// How long a drop waits for the thread, if the loop is over.
    close_until: Option<Instant>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Job {
    /// Make the WAL small.
    Trim,
    /// Put on the disk all that has been committed, and check the file.
    Sync { at_least: i64 },
    /// Close the connection.
    End,
}

/// What came of a job.
struct Done {
    result: Result<(), Failure>,
    room: Room,
}

enum Failure {
    /// For people.
    Job(String),
    /// The sync is done, and the check could not be made.
    Unchecked(String),
    /// The sync is done, and the file is not what was written.
    Damage(String),
}

impl Checkpointer {
    /// Opens a second connection to the file and starts the thread. It wakes the loop when a job
    /// is done. The reserve is taken, and taken again after each job. A sync ends with the check.
    pub(crate) fn start(
        path: &Path,
        check: Option<Check>,
        waker: Arc<mio::Waker>,
    ) -> Result<Self, Error> {
        let conn = connect(path).map_err(|error| {
            let error = location::explain(path, &error);
            Error::Store(format!("sqlite:{}: {error}", path.display()))
        })?;
        let reserve = Reserve::of(path);
        let wal = location::beside(path, "-wal");
        let room = reserve.take();
        let (jobs, jobs_received) = mpsc::channel();
        let (report, done) = mpsc::channel();
        let files = Files {
            path: path.to_owned(),
            wal: wal.clone(),
            reserve: reserve.clone(),
            check,
        };
        thread::Builder::new()
            .name("sundown-checkpoint".to_owned())
            .spawn(move || {
                work(&conn, &files, &jobs_received, |done| {
                    // Nobody is left to be told otherwise.
                    let is_told = report.send(done).is_ok();
                    if is_told && let Err(error) = waker.wake() {
                        log::warn!("sqlite: cannot wake the loop: {error}");
                    }
                    is_told
                });
                drop(conn);
                // Who waits for that sees the end of this.
                drop(report);
            })
            .map_err(Error::io("cannot start the checkpoint thread"))?;
        Ok(Self {
            jobs,
            done,
            wal,
            reserve,
            room,
            running: None,
            syncs_running: 0,
            syncs_waiting: 0,
            pages_unseen: 0,
            writes: 0,
            writes_running: 0,
            writes_synced: 0,
            at_least: 0,
            failed: false,
            damage: None,
            wal_bytes_left: 0,
            trim_again_at: None,
            close_until: None,
        })
    }

    /// So many pages, roughly, were written. Whether it is time for a look at the WAL and the disk.
    pub(crate) fn note_written(&mut self, pages: usize) -> bool {
        self.pages_unseen = self.pages_unseen.saturating_add(pages);
        let pages_max = usize::try_from(self.reserve.wal_bytes() / 2 / PAGE_BYTES);
        self.pages_unseen >= pages_max.map_or(PAGES_PER_LOOK_MAX, |max| max.min(PAGES_PER_LOOK_MAX))
    }

    /// Looks at the disk.
    pub(crate) fn look_for_room(&mut self) -> Room {
        if self.room == Room::Plenty && self.running.is_none() {
            self.room = self.reserve.look();
        }
        self.room
    }

    /// Looks at the WAL; where there is little room, its file does not show how much is in it.
    pub(crate) fn look_at_wal(&mut self, now: Instant) {
        self.pages_unseen = 0;
        let (wal_bytes, max) = (self.wal_bytes(), self.reserve.wal_bytes());
        let grown = wal_bytes >= self.wal_bytes_left.saturating_add(max);
        let waited = self.trim_again_at.is_none_or(|at| at <= now);
        if wal_bytes >= max && (grown || waited) || self.room != Room::Plenty {
            self.trim();
        }
    }

    /// How much room there was when the last job was done.
    pub(crate) fn room(&self) -> Room {
        self.room
    }

    /// Something was committed that has to be on the disk when the process ends.
    pub(crate) fn note_unsynced(&mut self) {
        self.writes += 1;
    }

    /// Whether that is there.
    pub(crate) fn disk(&self) -> Disk {
        if self.writes_synced >= self.writes {
            Disk::Synced
        } else if self.failed {
            Disk::Failed
        } else {
            Disk::Unfinished
        }
    }

    /// Makes the WAL small, which may free space on a full disk.
    pub(crate) fn trim(&mut self) {
        if self.running.is_none() {
            self.start_job(Job::Trim);
        }
    }

    /// The same if something was written since the last time; whether it was.
    pub(crate) fn trim_written(&mut self) -> bool {
        let is_written = std::mem::take(&mut self.pages_unseen) > 0;
        if is_written {
            self.trim();
        }
        is_written
    }

    /// Whether the thread works.
    pub(crate) fn is_busy(&self) -> bool {
        self.running.is_some()
    }

    /// What a check has found wrong with the file.
    pub(crate) fn damage(&self) -> Option<&str> {
        self.damage.as_deref()
    }

    /// Puts on the disk all that has been committed; `collect` tells when. The check is made with
    /// this number, which never goes down.
    pub(crate) fn sync(&mut self, at_least: i64) {
        self.at_least = at_least;
        self.syncs_waiting += 1;
        self.start_sync();
    }

    /// Nobody waits for the syncs any more.
    pub(crate) fn forget_syncs(&mut self) {
        self.syncs_running = 0;
        self.syncs_waiting = 0;
    }

    /// Whether a job is done, and how many syncs it answers.
    pub(crate) fn collect(&mut self, now: Instant) -> Option<usize> {
        let job = self.running?;
        match self.done.try_recv() {
            Ok(done) => Some(self.settle(job, Some(done), now.checked_add(TRIM_PAUSE))),
            Err(TryRecvError::Empty) => None,
            Err(TryRecvError::Disconnected) => Some(self.settle(job, None, None)),
        }
    }

    /// Waits for what is under way or waits, but not beyond `until`: the loop is over, and what is
    /// not known by now is not told.
    #[cfg(feature = "redis")]
    pub(crate) fn finish(&mut self, until: Instant) {
        while let Some(job) = self.running {
            match self.done.recv_timeout(clock::left_until(until)) {
                Ok(done) => self.settle(job, Some(done), None),
                Err(_) => return,
            };
        }
    }

    /// The loop is over. A drop waits until then for the thread to close its connection, which is the
    /// last one: so the WAL goes, and is not left beside a process that has ended.
    pub(crate) fn handle_end(&mut self, until: Instant) {
        self.close_until = Some(until);
    }

    /// A job is over, in whichever way. Returns how many syncs it answers.
    fn settle(&mut self, job: Job, done: Option<Done>, trim_again_at: Option<Instant>) -> usize {
        let result = if let Some(Done { result, room }) = done {
            self.room = room;
            result
        } else {
            // Not with the code below; if it does, what is committed is safe from a crash of the
            // process all the same, and nobody must wait for ever.
            let text = "the checkpoint thread is gone".to_owned();
            log::error!("sqlite: {text}");
            Err(Failure::Job(text))
        };
        self.running = None;
        if job == Job::Trim {
            self.wal_bytes_left = self.wal_bytes();
            self.trim_again_at = trim_again_at;
        } else {
            self.failed = matches!(result, Err(Failure::Job(_)));
            match result {
                Ok(()) => self.writes_synced = self.writes_running,
                Err(Failure::Damage(what)) => self.damage = Some(what),
                Err(Failure::Job(_) | Failure::Unchecked(_)) => {}
            }
        }
        let synced = std::mem::take(&mut self.syncs_running);
        self.start_sync();
        synced
    }

    fn start_sync(&mut self) {
        if self.running.is_none() && self.syncs_waiting > 0 {
            self.syncs_running = std::mem::take(&mut self.syncs_waiting);
            self.writes_running = self.writes;
            let at_least = self.at_least;
            self.start_job(Job::Sync { at_least });
        }
    }

    fn start_job(&mut self, job: Job) {
        self.running = Some(job);
        // Without the thread, `collect` finds the other channel closed.
        if self.jobs.send(job).is_err() {
            log::debug!("sqlite: no thread for {job:?}");
        }
    }

    fn wal_bytes(&self) -> u64 {
        fs::metadata(&self.wal).map_or(0, |metadata| metadata.len())
    }
}

impl Drop for Checkpointer {
    fn drop(&mut self) {
        // A job that was not done in time may be one that the disk does not let go.
        let until = self.close_until.filter(|_| self.running.is_none());
        if let Some(until) = until
            && self.jobs.send(Job::End).is_ok()
        {
            // Nothing comes but the end of the channel, or of the time.
            drop(self.done.recv_timeout(clock::left_until(until)));
        }
    }
}

pub(super) fn connect(path: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let conn = Connection::open_with_flags(path, flags)?;
    conn.busy_timeout(LOCK_TIMEOUT)?;
    conn.pragma_update(None, "synchronous", "NORMAL")?;
    Ok(conn)
}

/// What the thread works on.
struct Files {
    path: PathBuf,
    wal: PathBuf,
    reserve: Reserve,
    check: Option<Check>,
}

/// The thread.
fn work(conn: &Connection, files: &Files, jobs: &Receiver<Job>, report: impl Fn(Done) -> bool) {
    let mut wal_failed = false;
    while let Ok(job) = jobs.recv() {
        let result = match job {
            Job::Trim => trim(conn, files.reserve.look()).map_err(|error| {
                wal_failed |= is_io(&error);
                Failure::Job(error.to_string())
            }),
            Job::Sync { at_least } => sync(conn, &files.wal, &mut wal_failed)
                .map_err(Failure::Job)
                .and_then(|()| files.check(at_least)),
            Job::End => return,
        };
        match &result {
            Err(Failure::Job(error)) => log::warn!("sqlite: checkpoint ({job:?}): {error}"),
            Err(Failure::Unchecked(error)) => {
                log::warn!("{}: cannot be checked: {error}", files.path.display());
            }
            // The loop tells.
            Ok(()) | Err(Failure::Damage(_)) => {}
        }
        let room = files.reserve.take();
        // The next start may find no room for a WAL.
        let stays = room != Room::Plenty;
        if let Err(error) = conn.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, stays) {
            log::debug!("sqlite: the WAL may go at the end: {error}");
        }
        if !report(Done { result, room }) {
            return;
        }
    }
}

impl Files {
    /// Checks the file through a new connection: those that are open may see pages in memory that
    /// the file has lost.
    fn check(&self, at_least: i64) -> Result<(), Failure> {
        let Some(check) = self.check else {
            return Ok(());
        };
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let checked = Connection::open_with_flags(&self.path, flags).and_then(|conn| {
            conn.busy_timeout(LOCK_TIMEOUT)?;
            check(&conn, at_least)
        });
        let damage = match checked {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(what)) => what,
            Err(error) if is_damage(&error) => error.to_string(),
            Err(error) if is_io(&error) => return Err(Failure::Job(error.to_string())),
            Err(error) => return Err(Failure::Unchecked(error.to_string())),
        };
        Err(Failure::Damage(damage))
    }
}

/// Copies next to the writers until little is left, then keeps them out for the rest and empties
/// the WAL. Under steady writes the first alone would never come to an end, and the WAL never to
/// its start. Where there is little room, the file keeps its size: somebody else might take the room
/// that it gives up.
fn trim(conn: &Connection, room: Room) -> rusqlite::Result<()> {
    let (mut pages_before, mut new_before) = (0, i64::MAX);
    for _ in 0..PASSES_MAX {
        let pass = checkpoint(conn, "PASSIVE")?;
        if pass.blocked || pass.copied < pass.pages {
            // Somebody reads an old state: the WAL cannot be emptied, and nobody should wait.
            return Ok(());
        }
        let new = pass.pages - pages_before;
        if new <= LAST_PASS_PAGES || new > new_before / 2 {
            // Little is left, or the writers are as fast as we are and it will not become less.
            break;
        }
        (pages_before, new_before) = (pass.pages, new);
    }
    let mode = match room {
        Room::Plenty => "TRUNCATE",
        Room::Little | Room::None => "RESTART",
    };
    let last = checkpoint(conn, mode)?;
    if last.blocked {
        log::debug!("sqlite: the WAL is in use and stays for now");
    }
    Ok(())
}

/// A checkpoint fsyncs the WAL before it copies. What it could not copy is fsynced here.
///
/// The kernel tells of a failed write once: the next fsync answers that all is well, although what
/// could not be written is lost. Only a checkpoint of the whole mends that, since it writes all of
/// it once more, to another file.
fn sync(conn: &Connection, wal: &Path, wal_failed: &mut bool) -> Result<(), String> {
    match checkpoint(conn, "PASSIVE") {
        Ok(pass) if !pass.blocked && pass.copied >= pass.pages => {
            *wal_failed = false;
            return Ok(());
        }
        Ok(_) => {}
        Err(error) => {
            *wal_failed |= is_io(&error);
            log::debug!("sqlite: checkpoint: {error}");
        }
    }
    if *wal_failed {
        return Err("the disk has failed to take what was written".to_owned());
    }
    let synced = File::open(wal).and_then(|file| file.sync_all());
    *wal_failed = synced.is_err();
    synced.map_err(|error| error.to_string())
}

fn is_io(error: &rusqlite::Error) -> bool {
    error.sqlite_error_code() == Some(ErrorCode::SystemIoFailure)
}

/// Whether somebody else has written over the file.
pub(crate) fn is_damage(error: &rusqlite::Error) -> bool {
    matches!(
        error.sqlite_error_code(),
        Some(ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt)
    )
}

/// What a checkpoint did.
pub(super) struct Pass {
    /// It did not get a lock in time.
    blocked: bool,
    /// Pages in the WAL, and how many of them are in the database now.
    pages: i64,
    copied: i64,
}

pub(super) fn checkpoint(conn: &Connection, mode: &str) -> rusqlite::Result<Pass> {
    conn.prepare_cached(&format!("PRAGMA wal_checkpoint({mode})"))?
        .query_row([], |row| {
            Ok(Pass {
                blocked: row.get(0)?,
                pages: row.get(1)?,
                copied: row.get(2)?,
            })
        })
}
