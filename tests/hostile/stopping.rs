//! Goal: a shutdown is in time and every client has its goodbye, when no client answers and other
//! programs have the processor.
//! Method: SIGTERM to the built binary with silent clients, while threads of this process do
//! nothing but compute. The only time that is judged is the protocol's own deadline.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::peer::Peer;
use crate::plans::Script;
use crate::support::http::upgrade;
use crate::support::server::Server;
use crate::support::{PATIENCE, ms, now, pause};

/// `--shutdown-timeout`, by default.
const TIMEOUT: Duration = Duration::from_secs(10);

#[track_caller]
pub(crate) fn a_stop_is_in_time(clients: usize, busy_threads: usize) {
    let max = (clients + 10).to_string();
    let mut server = Server::start("memory:", &["--max-connections", &max, "--heartbeat", "0s"]);
    let script = Arc::new(Script {
        once: upgrade("/ws/chat/", &[]).into_bytes(),
        for_ever: Vec::new(),
    });
    let mut peers = Vec::with_capacity(clients);
    for _ in 0..clients {
        let mut peer = Peer::connect(server.address, &script);
        peer.write_once();
        let deadline = now() + PATIENCE;
        while !peer.is_upgraded() {
            assert!(peer.read().is_none() && now() < deadline, "no 101");
            pause(ms(0));
        }
        peers.push(peer);
    }
    let is_over = Arc::new(AtomicBool::new(false));
    let busy: Vec<_> = (0..busy_threads)
        .map(|_| {
            let is_over = Arc::clone(&is_over);
            std::thread::spawn(move || while !is_over.load(Ordering::Relaxed) {})
        })
        .collect();
    let began = now();
    server.terminate();
    let exit = server.exit_within(TIMEOUT * 3);
    is_over.store(true, Ordering::Relaxed);
    for thread in busy {
        thread.join().expect("it only computes");
    }
    let report = exit.report();
    println!(
        "\nstopped with {clients} silent clients and {busy_threads} busy threads: exit after \
         {} ms, {} goodbyes",
        (exit.at - began).as_millis(),
        report.byes,
    );
    assert_eq!(exit.code, Some(0), "{report:?}");
    assert!(exit.at - began <= TIMEOUT, "{report:?}");
    assert_eq!(report.byes as usize, clients, "{report:?}");
}
