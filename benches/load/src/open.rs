//! The open loop: messages leave at a fixed rate, whatever the server does, and latency counts from
//! the moment in which a message was due. So a server that stops for a while is charged for all
//! who had to wait, and not for the one message that was under way.

use std::collections::VecDeque;
use std::io;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use crate::crowd::Crowd;

/// How fast, and how long.
#[derive(Clone, Copy)]
pub(crate) struct Plan {
    pub(crate) per_second: f64,
    /// Not recorded.
    pub(crate) warm_up: Duration,
    pub(crate) measured: Duration,
}

/// What came of it, in microseconds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Latency {
    pub(crate) p50: f64,
    pub(crate) p99: f64,
    pub(crate) p999: f64,
    pub(crate) max: f64,
    /// Which part of the messages was answered, in the time and for a while after it: below 1, the
    /// server could not keep up with the rate.
    pub(crate) answered: f64,
}

/// What takes longer counts as this.
const LATENCY_NS_MAX: u64 = 60_000_000_000;

/// How long the last answers may take.
const PATIENCE: Duration = Duration::from_secs(2);

/// Messages that one look at the clock may have due, before answers are looked for again.
const BURST: usize = 64;

pub(crate) fn run(crowd: &mut Crowd, plan: Plan) -> io::Result<Latency> {
    let len = crowd.connections.len();
    let mut due: Vec<VecDeque<u64>> = vec![VecDeque::new(); len];
    let histogram = Histogram::<u64>::new_with_bounds(1, LATENCY_NS_MAX, 3);
    let mut histogram = histogram.map_err(|error| io::Error::other(error.to_string()))?;
    let warm_up_ns = plan.warm_up.as_nanos() as u64;
    let whole = plan.warm_up + plan.measured;
    let messages = (whole.as_secs_f64() * plan.per_second) as u64;
    let interval_ns = 1e9 / plan.per_second;
    let begun = Instant::now();
    let (mut next, mut answered) = (0_u64, 0_u64);
    loop {
        let mut now = begun.elapsed().as_nanos() as u64;
        for _ in 0..BURST {
            let at = (next as f64 * interval_ns) as u64;
            if next == messages || at > now {
                break;
            }
            let index = (next % len as u64) as usize;
            due[index].push_back(at);
            crowd.send(index, 1)?;
            next += 1;
        }
        let timeout = Some(Duration::ZERO);
        let mut looked = false;
        crowd.turn(timeout, &mut |told, _| {
            if !looked {
                // After the wait: it may have taken this thread off its core.
                looked = true;
                now = begun.elapsed().as_nanos() as u64;
            }
            let Some(at) = due[told.index].pop_front() else {
                return Err(io::Error::other("an answer to nothing"));
            };
            answered += 1;
            if at >= warm_up_ns {
                histogram.saturating_record(now.saturating_sub(at).max(1));
            }
            Ok(())
        })?;
        if next == messages && (answered == messages || begun.elapsed() > whole + PATIENCE) {
            break;
        }
    }
    let us = |ns: u64| ns as f64 / 1e3;
    Ok(Latency {
        p50: us(histogram.value_at_quantile(0.5)),
        p99: us(histogram.value_at_quantile(0.99)),
        p999: us(histogram.value_at_quantile(0.999)),
        max: us(histogram.max()),
        answered: answered as f64 / messages as f64,
    })
}
