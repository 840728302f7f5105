//! Where a file of ours lies: who makes it, who may read it, and why it cannot be opened.
//!
//! It owns the lock under which a file is made, for as long as that takes. Session ids are secrets,
//! so the file is for its owner alone, whatever the umask. It must never open a database file that
//! may be in use: closing it again would drop the locks that SQLite holds for this process.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use rusqlite::ErrorCode;

/// Read and written by the owner alone.
const PRIVATE: u32 = 0o600;

/// The bits of everybody else.
const OTHERS: u32 = 0o077;

/// How often, and for how long, a lock that another process holds is tried again.
const LOCK_PAUSE: Duration = Duration::from_millis(5);
const LOCK_TRIES: usize = 1_000;

/// The lock under which files in a directory are made: on the directory itself, so that it leaves
/// no file behind. The kernel releases it when the process ends.
#[derive(Debug)]
pub(super) struct MakingLock(
    #[expect(dead_code, reason = "held for the lock, and dropped to release it")] Option<File>,
);

impl MakingLock {
    /// Waits for the lock, for some seconds at most; for use before the loop runs. A file system
    /// that cannot lock directories goes without.
    pub(super) fn wait(path: &Path) -> io::Result<Self> {
        let directory = File::open(directory_of(path))?;
        for _ in 0..LOCK_TRIES {
            match directory.try_lock() {
                Ok(()) => return Ok(Self(Some(directory))),
                Err(fs::TryLockError::WouldBlock) => pause(),
                Err(fs::TryLockError::Error(_)) => return Ok(Self(None)),
            }
        }
        let text = "another process keeps the lock on its directory";
        Err(io::Error::new(ErrorKind::TimedOut, text))
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "before the loop runs, and on helper threads"
)]
fn pause() {
    thread::sleep(LOCK_PAUSE);
}

/// Opens a file to append to it, or makes it; only its owner may read it.
pub(crate) fn open_private(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.append(true).create(true).mode(PRIVATE);
    let file = options.open(path)?;
    // The umask may have taken bits from the owner, and the file may be an old one.
    if file.metadata()?.permissions().mode() & (PRIVATE | OTHERS) != PRIVATE
        && let Err(error) = file.set_permissions(Permissions::from_mode(PRIVATE))
    {
        warn_of_readers(path, &error);
    }
    Ok(file)
}

/// Makes an empty database file, unless there is a file already. SQLite gives the files beside it
/// the same mode.
pub(super) fn create_private(path: &Path) -> io::Result<()> {
    // What SQLite keeps in memory is no file.
    if path.exists() || path.as_os_str() == ":memory:" {
        return Ok(());
    }
    open_private(path).map(|_| ())
}

/// Takes a database file, and those that SQLite keeps beside it, from everybody but their owner.
pub(super) fn make_private(path: &Path) {
    let files = ["", "-wal", "-shm", "-journal"].map(|suffix| beside(path, suffix));
    let tightened: Vec<_> = files.iter().filter(|file| tighten(file)).collect();
    if let Some(first) = tightened.first() {
        log::warn!(
            "{}: others could read it, and session ids are secrets: its mode is 0600 now ({} \
             files)",
            first.display(),
            tightened.len()
        );
    }
}

/// Whether others could read it until now.
fn tighten(path: &Path) -> bool {
    let Ok(metadata) = fs::metadata(path) else {
        return false;
    };
    if !metadata.is_file() || metadata.permissions().mode() & OTHERS == 0 {
        return false;
    }
    match fs::set_permissions(path, Permissions::from_mode(PRIVATE)) {
        Ok(()) => true,
        Err(error) => {
            warn_of_readers(path, &error);
            false
        }
    }
}

fn warn_of_readers(path: &Path, error: &io::Error) {
    log::warn!(
        "{}: others can read it, and session ids are secrets: {error}",
        path.display()
    );
}

/// Which files a database that is open consists of: to find out whether they are still those that
/// its name leads to.
#[derive(Debug)]
pub(crate) struct Identity {
    files: Vec<(PathBuf, Inode)>,
}

type Inode = (u64, u64);

impl Identity {
    /// Of a database that has just been opened, under this name, which may be a link.
    pub(crate) fn of(path: &Path) -> io::Result<Self> {
        let path = std::path::absolute(path)?;
        let real_path = path.canonicalize()?;
        let beside = ["-wal", "-shm"].map(|suffix| beside(&real_path, suffix));
        let files = [path].into_iter().chain(beside).map(|file| {
            let inode = inode_of(&file)?;
            Ok((file, inode))
        });
        let files = files.collect::<io::Result<_>>()?;
        Ok(Self { files })
    }

    /// What has become of them, if that is not what is open any more.
    pub(crate) fn changed(&self) -> Option<String> {
        self.files.iter().find_map(|(file, inode)| {
            let what = match inode_of(file) {
                Ok(found) if found == *inode => return None,
                Ok(_) => "replaced",
                Err(error) if error.kind() == ErrorKind::NotFound => "removed",
                Err(error) if error.kind() == ErrorKind::NotADirectory => "removed",
                // It may be there all the same.
                Err(_) => return None,
            };
            let file = file.display();
            Some(format!("{file} has been {what} while it was open"))
        })
    }
}

fn inode_of(path: &Path) -> io::Result<Inode> {
    fs::metadata(path).map(|metadata| (metadata.dev(), metadata.ino()))
}

/// The file that SQLite keeps beside a database file.
pub(super) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

/// What went wrong, for people. SQLite does not say why it cannot open a file.
pub(super) fn explain(path: &Path, error: &rusqlite::Error) -> String {
    match error.sqlite_error_code() {
        Some(ErrorCode::CannotOpen) => why(path, "unable to open database file"),
        _ => error.to_string(),
    }
}

/// The cause, if it can be seen, after what was said.
pub(super) fn why(path: &Path, said: &str) -> String {
    match why_not_open(path) {
        Some(cause) => format!("unable to open database file: {cause}"),
        None => said.to_owned(),
    }
}

/// The cause that SQLite does not name when it cannot open a file; `None` if there is none to see.
fn why_not_open(path: &Path) -> Option<String> {
    let directory = directory_of(path);
    match File::open(directory) {
        Ok(_) => {}
        Err(error) if error.kind() == ErrorKind::NotFound => {
            return Some(format!("there is no directory {}", directory.display()));
        }
        // Among them: too many open files.
        Err(error) => return Some(error.to_string()),
    }
    if path.is_dir() {
        return Some("it is a directory".to_owned());
    }
    let wanted = rustix::fs::Access::READ_OK | rustix::fs::Access::WRITE_OK;
    let tried = if path.exists() { path } else { directory };
    let denied = rustix::fs::access(tried, wanted).err()?;
    Some(format!("{}: {}", tried.display(), io::Error::from(denied)))
}

fn directory_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        Some(_) | None => Path::new("."),
    }
}
