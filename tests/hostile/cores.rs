//! Which core runs whom: the server has one and the clients another, so that what a crowd costs
//! its senders is not taken for what it costs the server. With one core, all share it.

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use crate::support::server::Server;

/// The cores that this process may use, the last of them first.
fn cores() -> Vec<usize> {
    let allowed = sched_getaffinity(None).expect("a process knows its cores");
    (0..CpuSet::MAX_CPU)
        .rev()
        .filter(|core| allowed.is_set(*core))
        .collect()
}

/// This thread, and those that it starts from now on, leave the server its core.
pub(crate) fn for_clients() {
    let mut theirs = CpuSet::new();
    let all = cores();
    let (last, others) = all.split_first().expect("it runs on one");
    let others = if others.is_empty() { &[*last] } else { others };
    for core in others {
        theirs.set(*core);
    }
    SERVER_CORE.set(*last).expect("once for each test process");
    sched_setaffinity(None, &theirs).expect("cores of ours");
}

static SERVER_CORE: std::sync::OnceLock<usize> = std::sync::OnceLock::new();

/// The server gets the last core, and no client does.
pub(crate) fn for_server(server: &Server) {
    let mut own = CpuSet::new();
    own.set(*SERVER_CORE.get().expect("clients have been placed"));
    sched_setaffinity(Some(server.process.pid()), &own).expect("our child, and a core of ours");
}
