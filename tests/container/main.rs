//! Containers: `make test-container`.
//!
//! Goal: what docker/ ships does what it says. The image is small and needs nothing; a stop says
//! goodbye to everyone; a deploy loses nobody, and one that fails changes nothing.
//! Method: the shipped image, compose file and script, on a real Docker engine; clients come in by
//! the port that the proxy publishes, and nowhere else. Where `redis` and `haproxy` are no images
//! of this machine, stand-ins are built from its own binaries (stand-ins.sh) under those names.
//!
//! Without an engine that answers it fails; `SUNDOWN_SKIP_DOCKER=1` skips all of it, and says so.
//! One test at a time has the engine, however many threads there are.

#![expect(
    clippy::expect_used,
    reason = "a test stops at the first thing that is not as it should be"
)]

#[path = "../support/files.rs"]
mod files;
#[path = "../fleet/mod.rs"]
#[expect(dead_code, reason = "it is shared with the campaign, which uses more")]
mod fleet;
#[path = "../support/mod.rs"]
#[expect(
    dead_code,
    reason = "it is shared with the other tests, which use more of it"
)]
mod support;

mod crashing;
mod directly;
mod engine;
mod image;
mod images;
mod noticed;
mod promoting;
mod stack;
mod stopping;
