//! Goal: whatever peers, network, store and signals do, in whatever order, no acknowledged message
//! is lost, none is counted twice, and every shutdown is in order and in time.
//! Method: the core of the event loop (`src/core.rs`), over a network, a store and a clock that are
//! made up, from a seed. Every run first draws what it is
//! like, then plays; the faults end at some time, and then all must come to rest. A run that fails
//! prints its seed: `SUNDOWN_SEED=7 make test` plays it again, with every step on standard error.
//! `SUNDOWN_SOAK=10m make soak` plays new seeds for that time.

#[cfg(test)]
#[path = "simulation/book.rs"]
mod book;
#[cfg(test)]
#[path = "simulation/client.rs"]
mod client;
#[cfg(test)]
#[path = "simulation/common.rs"]
mod common;
#[cfg(test)]
#[path = "simulation/dice.rs"]
mod dice;
#[cfg(test)]
#[path = "simulation/network.rs"]
mod network;
#[cfg(test)]
#[path = "simulation/node.rs"]
mod node;
#[cfg(test)]
#[path = "simulation/options.rs"]
mod options;
#[cfg(test)]
#[path = "simulation/posted.rs"]
mod posted;
#[cfg(test)]
#[path = "simulation/runs.rs"]
mod runs;
#[cfg(test)]
#[path = "simulation/service.rs"]
mod service;
#[cfg(test)]
#[path = "simulation/sockets.rs"]
mod sockets;
#[cfg(test)]
#[path = "simulation/spill.rs"]
mod spill;
#[cfg(test)]
#[path = "simulation/store.rs"]
mod store;
#[cfg(test)]
#[path = "simulation/telling.rs"]
mod telling;
#[cfg(test)]
#[path = "simulation/trace.rs"]
mod trace;
#[cfg(test)]
#[path = "simulation/world.rs"]
mod world;
