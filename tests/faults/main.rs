//! The fault campaign: `make test-faults`.
//!
//! Goal: whatever happens to the server, its store or its disk, no client that keeps an outbox as
//! docs/protocol.md says loses an acknowledged message or has one counted twice.
//! Method: a service that keeps its own account of what it has seen (`examples/chain.rs`), real
//! signals, Debian's redis-server, real full disks; a fleet of clients in one thread keeps an account
//! of everything that it sent and was told, and after each fault everyone comes back and finishes,
//! and is compared with the store's own files. The rows run one after the other; the table is printed
//! whole, and then each row that broke a promise fails.
//!
//! `SUNDOWN_FAULTS_SCALE` multiplies clients and rounds. `SUNDOWN_FAULTS_ROWS` runs only the rows
//! whose names have it in them, and the table says so.

#![expect(
    clippy::expect_used,
    clippy::wildcard_enum_match_arm,
    reason = "a test stops at the first thing that is not as it should be"
)]

#[path = "../support/example.rs"]
mod example;
#[path = "../support/files.rs"]
mod files;
#[path = "../fleet/mod.rs"]
#[expect(dead_code, reason = "deploys through a proxy ask more of it")]
mod fleet;
#[path = "../support/mod.rs"]
#[expect(
    dead_code,
    reason = "it is shared with the other tests, which use more of it"
)]
mod support;

mod campaign;
mod chaos;
mod deploys;
mod disk;
mod disks;
mod full_disk;
mod holdings;
mod hopping;
mod hops;
mod node;
mod outages;
mod proxy;
mod resp;
mod rows;
mod spills;
