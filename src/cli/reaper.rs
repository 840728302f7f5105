//! What process 1 owes to the others of its namespace: whoever loses its parent becomes its child,
//! and stays a zombie until it is waited for. It must never run in a process with another number,
//! where children are somebody's, nor in the library.

use std::thread;

use rustix::process::{WaitOptions, getpid, wait};
use signal_hook::consts::SIGCHLD;
use signal_hook::iterator::Signals;

/// Waits for orphans from here on, if this is process 1 (`docker run` without `--init`).
pub(crate) fn start() {
    if !getpid().is_init() {
        return;
    }
    let reaping = Signals::new([SIGCHLD]).and_then(|signals| {
        thread::Builder::new()
            .name("sundown-reaper".to_owned())
            .spawn(move || reap(signals))
    });
    if let Err(error) = reaping {
        log::warn!("orphans in this container stay zombies: {error}");
    }
}

fn reap(mut signals: Signals) {
    loop {
        // Signals of one kind coalesce: each may stand for many, and for some before the first.
        while let Ok(Some(_)) = wait(WaitOptions::NOHANG) {}
        signals.wait().for_each(drop);
    }
}
