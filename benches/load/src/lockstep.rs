//! Rounds in lockstep: the server is stopped, every connection sends one message, the server goes
//! on, and nothing more is sent until all have their answer. So each round is one turn of the
//! server's loop, however loaded the machine is, and the work for a message is the same every time.

use std::fs;
use std::io;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::crowd::Crowd;
use crate::process::Server;

const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) fn run(crowd: &mut Crowd, server: &Server, rounds: usize) -> io::Result<()> {
    for _ in 0..rounds {
        // It sleeps when it has nothing left of the round before.
        wait_for_state(server.pid(), 'S')?;
        server.signal(Signal::STOP)?;
        wait_for_state(server.pid(), 'T')?;
        for index in 0..crowd.connections.len() {
            crowd.send(index, 1)?;
        }
        server.signal(Signal::CONT)?;
        if !crowd.settle(PATIENCE)? {
            break;
        }
    }
    crowd.check_exact()
}

/// Waits until the process's first thread is in a state, as proc(5) has it.
fn wait_for_state(pid: u32, wanted: char) -> io::Result<()> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let text = fs::read_to_string(format!("/proc/{pid}/stat"))?;
        // The name, in parentheses, may hold anything.
        let state = text
            .rsplit(')')
            .next()
            .and_then(|rest| rest.trim().chars().next());
        if state == Some(wanted) {
            return Ok(());
        }
        if Instant::now() > deadline {
            let message = format!("the server is {state:?}, and not {wanted}");
            return Err(io::Error::other(message));
        }
        std::thread::sleep(Duration::from_micros(100));
    }
}
