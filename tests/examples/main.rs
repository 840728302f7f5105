//! The services in `examples/`, as they are built and started by whoever reads them: real sockets,
//! real signals. One of them in each module, named for it.

#![expect(
    clippy::expect_used,
    reason = "a test stops at the first thing that is not as it should be"
)]

#[path = "../support/example.rs"]
mod example;
#[path = "../support/mod.rs"]
#[expect(
    dead_code,
    reason = "it is shared with the other tests, which use more of it"
)]
mod support;

mod ocpp;
mod room;
mod slow_backend;

use example::example;
