//! The good client: it asks, waits for the reply, and keeps the time.

use std::fmt;

use crate::support::client::Client;
use crate::support::now;
use crate::support::server::Server;
use crate::support::stream::Stream;

pub(crate) struct Good {
    client: Client,
    count: u64,
}

/// Of a number of round trips, in milliseconds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Latency {
    pub(crate) p50: f64,
    pub(crate) p99: f64,
}

impl Good {
    #[track_caller]
    pub(crate) fn arrive(server: &Server) -> Self {
        let (client, hello) = Client::v1_over(Stream::connect(server.address), "/ws/chat/");
        assert_eq!((hello.count, hello.resumed), (0, false));
        Self { client, count: 0 }
    }

    /// Each message is answered by its own count: none is lost, and none counted twice.
    #[track_caller]
    pub(crate) fn measure(&mut self, round_trips: usize) -> Latency {
        let mut times: Vec<f64> = (0..round_trips.max(1))
            .map(|_| {
                let asked_at = now();
                let count = self.client.say("hello");
                self.count += 1;
                assert_eq!(count, self.count);
                asked_at.elapsed().as_secs_f64() * 1e3
            })
            .collect();
        times.sort_unstable_by(f64::total_cmp);
        let at = |percent: usize| times[times.len() * percent / 100];
        Latency {
            p50: at(50),
            p99: at(99),
        }
    }

    #[track_caller]
    pub(crate) fn leave(self) {
        self.client.leave();
    }
}

impl Latency {
    pub(crate) fn median(all: &[Self]) -> Self {
        Self {
            p50: median(all.iter().map(|one| one.p50).collect()),
            p99: median(all.iter().map(|one| one.p99).collect()),
        }
    }
}

impl fmt::Display for Latency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.3}/{:.3} ms", self.p50, self.p99)
    }
}

pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    values[values.len() / 2]
}
