//! What the parts cost that a message or a client passes, each by itself and without a socket:
//! frames in and out, a handshake, the engine's turn, the shutdown machine.
//!
//! For whoever changes one of them. What clients see of it is measured by `make bench-peers`.

mod engine;
mod frames;
mod handshake;
mod shutdown;

use criterion::{criterion_group, criterion_main};

criterion_group!(
    micro,
    frames::bench,
    handshake::bench,
    engine::bench,
    shutdown::bench
);
criterion_main!(micro);
