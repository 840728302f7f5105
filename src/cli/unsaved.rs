//! The names of sessions that are not safe, in a file beside the store, when the report has no room
//! for them; if that cannot be written, in one among the system's temporary files. It owns the
//! file's place and form. It must never hold up the exit: the disk may be the reason why they are
//! not safe.

use std::env;
use std::fs::OpenOptions;
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Instant;

use serde::Serialize;
use sundown::{Config, StoreConfig, clock};

/// A line of the file, as the report has it.
#[derive(Serialize)]
struct Unsaved<'a> {
    session: &'a str,
    count: u64,
}

/// What the file's name begins with: that of the store's file or, with Redis, of the spill.
pub(crate) fn beside(config: &Config) -> PathBuf {
    match &config.store {
        StoreConfig::Sqlite(path) => path.clone(),
        StoreConfig::Redis(_) | StoreConfig::Memory => config.spill.clone(),
    }
}

/// Writes all of them, one JSON object a line, and gives the path; not beyond `deadline`. Where that
/// fails, or takes half of the time, they go into the directory for temporary files.
pub(crate) fn write(
    beside: PathBuf,
    sessions: Vec<(String, u64)>,
    deadline: Instant,
) -> Option<String> {
    let now = clock::now();
    let mut path = beside.into_os_string();
    path.push(format!("-unsaved-{}.jsonl", now.unix_ms));
    let path = PathBuf::from(path);
    let elsewhere = path.file_name().map(|name| env::temp_dir().join(name));
    let sessions = Arc::new(sessions);
    let half = now.instant + deadline.saturating_duration_since(now.instant) / 2;
    let mut places = [(Some(path), half), (elsewhere, deadline)].into_iter();
    places.find_map(|(path, deadline)| write_until(path?, &sessions, deadline))
}

/// Writes the file from a thread of its own, which is left behind if it is not done by then.
fn write_until(
    path: PathBuf,
    sessions: &Arc<Vec<(String, u64)>>,
    deadline: Instant,
) -> Option<String> {
    let shown = path.display().to_string();
    let (sender, written) = mpsc::channel();
    let sessions = Arc::clone(sessions);
    let writing = thread::Builder::new()
        .name("sundown-unsaved".to_owned())
        .spawn(move || sender.send(write_file(&path, &sessions)));
    let left = deadline.saturating_duration_since(clock::now().instant);
    let failed = match writing.map(|_| written.recv_timeout(left)) {
        Ok(Ok(Ok(()))) => return Some(shown),
        Ok(Ok(Err(error))) | Err(error) => error.to_string(),
        Ok(Err(_)) => "the disk does not answer in time".to_owned(),
    };
    log::error!("the names of unsaved sessions are not in {shown}: {failed}");
    None
}

/// The file is made new, and so through no link that somebody has put there.
fn write_file(path: &Path, sessions: &[(String, u64)]) -> io::Result<()> {
    let mut lines = String::new();
    for (session, count) in sessions {
        let count = *count;
        lines += &serde_json::to_string(&Unsaved { session, count })?;
        lines.push('\n');
    }
    let mut options = OpenOptions::new();
    let mut file = options
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?;
    file.write_all(lines.as_bytes())
}
