//! The programs of `examples/` as cargo builds them, for tests that start one of them as a server.

use std::path::Path;
use std::process::Command;

use crate::support::server::BINARY;

/// A built example: `cargo test` builds them beside the binary, `cargo test --test NAME` alone does
/// not.
#[track_caller]
pub(crate) fn example(name: &str) -> Command {
    let built = Path::new(BINARY).with_file_name("examples").join(name);
    assert!(built.exists(), "first: cargo build --examples");
    Command::new(built)
}
