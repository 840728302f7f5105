//! Whether standard error goes to the systemd journal by itself, and what a line is given there:
//! a priority, by which `journalctl -p warning` finds it, and no time, since the journal has one.

use std::env;
use std::fs::File;
use std::io;
use std::os::fd::AsFd as _;
use std::os::unix::fs::MetadataExt as _;
use std::sync::LazyLock;

use log::Level;

/// Of its socket, `DEVICE:INODE` (systemd.exec(5)). It is inherited, so that it alone says nothing.
const VARIABLE: &str = "JOURNAL_STREAM";

static IS_JOURNAL: LazyLock<bool> = LazyLock::new(|| {
    let stream = env::var(VARIABLE).ok();
    let of_stderr = || {
        let stderr = io::stderr().as_fd().try_clone_to_owned()?;
        let file = File::from(stderr).metadata()?;
        io::Result::Ok(format!("{}:{}", file.dev(), file.ino()))
    };
    stream.is_some_and(|stream| of_stderr().is_ok_and(|stderr| stderr == stream))
});

/// Whether the journal reads standard error.
pub(crate) fn is_journal() -> bool {
    *IS_JOURNAL
}

/// What the journal takes off a line again (sd-daemon(3)); nothing for another reader.
pub(crate) fn priority(level: Level) -> &'static str {
    if !is_journal() {
        return "";
    }
    match level {
        Level::Error => "<3>",
        Level::Warn => "<4>",
        Level::Info => "<6>",
        Level::Debug | Level::Trace => "<7>",
    }
}
