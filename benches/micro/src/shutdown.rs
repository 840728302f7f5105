//! The shutdown machine, from the request to its end: it is asked once in every turn of a server's
//! life, and again in each turn of its shutdown.

use std::hint::black_box;

use criterion::Criterion;
use sundown::ShutdownBudget;
use sundown::clock;
use sundown::engine::shutdown::{Census, Request, Shutdown, State, Trigger};

pub(crate) fn bench(criterion: &mut Criterion) {
    let now = clock::now().instant;
    let busy = Census {
        connections: 100,
        heard_at: Some(now),
        ..Census::default()
    };
    let request = Request {
        trigger: Trigger::Handle,
        at: now,
    };
    let mut serving = Shutdown::new(ShutdownBudget::default());
    criterion.bench_function("shutdown/a turn of serving", |bencher| {
        bencher.iter(|| serving.handle_census(black_box(&busy), now).len());
    });
    criterion.bench_function("shutdown/from the request to the end", |bencher| {
        bencher.iter(|| {
            let mut shutdown = Shutdown::new(ShutdownBudget::default());
            shutdown.handle_request(request, now);
            let (mut at, mut steps) = (now, 0);
            while shutdown.state() != State::Stopped {
                // Each phase has nothing to wait for but its quiet.
                at = shutdown
                    .poll_timeout(&Census::default())
                    .unwrap_or(at)
                    .max(at);
                shutdown.handle_census(&Census::default(), at);
                steps += 1;
                assert!(steps < 100, "it does not end");
            }
            steps
        });
    });
}
