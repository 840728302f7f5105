//! The closed loop: each connection keeps so many messages under way, and sends the next when an
//! answer has come. It finds out how many messages a second there can be.

use std::io;
use std::time::{Duration, Instant};

use crate::crowd::Crowd;
use crate::process::cpu_ns;

/// How long, and how.
#[derive(Clone, Copy)]
pub(crate) struct Plan {
    pub(crate) depth: usize,
    pub(crate) warm_up: Duration,
    pub(crate) measured: Duration,
    /// Whether each message must come back as long as it was sent.
    pub(crate) echo: bool,
}

/// What came of it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Throughput {
    pub(crate) per_second: f64,
    /// Of the server, for each message.
    pub(crate) cpu_us: f64,
    /// Which part of a core the server used, and the client.
    pub(crate) server_busy: f64,
    pub(crate) client_busy: f64,
}

/// Drives the load against the process, and checks that everything was answered once.
pub(crate) fn run(crowd: &mut Crowd, pid: u32, plan: Plan) -> io::Result<Throughput> {
    let expected = crowd.template.payload_len;
    let mut received = 0_u64;
    let begun = Instant::now();
    for index in 0..crowd.connections.len() {
        crowd.send(index, plan.depth)?;
    }
    let mut until = |crowd: &mut Crowd, end: Instant| {
        while Instant::now() < end {
            crowd.turn(Some(Duration::from_millis(50)), &mut |told, more| {
                if plan.echo && told.frame.len != expected {
                    let len = told.frame.len;
                    return Err(io::Error::other(format!("{len} bytes came back")));
                }
                received += 1;
                *more += 1;
                Ok(())
            })?;
        }
        Ok::<_, io::Error>((received, Instant::now(), cpu_ns(pid)?, own_cpu_ns()?))
    };
    let warm = begun + plan.warm_up;
    let before = until(crowd, warm)?;
    let after = until(crowd, Instant::now() + plan.measured)?;
    // Whether all have come, or not, is for the check to say.
    crowd.settle(PATIENCE)?;
    crowd.check_exact()?;
    let messages = (after.0 - before.0) as f64;
    let elapsed = (after.1 - before.1).as_secs_f64();
    let server_ns = (after.2 - before.2) as f64;
    Ok(Throughput {
        per_second: messages / elapsed,
        cpu_us: server_ns / 1e3 / messages,
        server_busy: server_ns / 1e9 / elapsed,
        client_busy: (after.3 - before.3) as f64 / 1e9 / elapsed,
    })
}

/// For what is under way when the time is up.
const PATIENCE: Duration = Duration::from_secs(20);

fn own_cpu_ns() -> io::Result<u64> {
    cpu_ns(std::process::id())
}
