//! The services in `examples/`, as they are built and started by whoever reads them: real sockets,
//! real signals. One of them in each module, named for it.

#![expect(
    clippy::expect_used,
    reason = "a test stops at the first thing that is not as it should be"
)]

#[path = "../support/mod.rs"]
#[expect(
    dead_code,
    reason = "it is shared with the other tests, which use more of it"
)]
mod support;

mod ocpp;
mod room;
mod slow_backend;

use std::path::Path;
use std::process::Command;

use support::server::BINARY;

/// A built example: `cargo test` builds them beside the binary, `cargo test --test examples` alone
/// does not.
#[track_caller]
fn example(name: &str) -> Command {
    let built = Path::new(BINARY).with_file_name("examples").join(name);
    assert!(built.exists(), "first: cargo build --examples");
    Command::new(built)
}
