//! A pseudo-terminal: its master, and the path of the side that a program has.

use std::os::fd::OwnedFd;

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

pub(crate) fn terminal() -> (OwnedFd, String) {
    let master = openpt(OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).expect("a terminal");
    grantpt(&master).expect("ours");
    unlockpt(&master).expect("ours");
    let path = ptsname(&master, Vec::new()).expect("a name");
    (master, path.into_string().expect("UTF-8"))
}
