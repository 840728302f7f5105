//! What users see: the built binary, real sockets, real signals, Debian's redis-server. One
//! behaviour in each module, named for it.

#![expect(
    clippy::expect_used,
    reason = "a test stops at the first thing that is not as it should be"
)]

#[path = "../support/mod.rs"]
mod support;

mod barrier;
mod behind_proxies;
mod broadcast;
mod cli;
mod closed_files;
mod crowded;
mod debug_log;
mod deployed;
mod edges_frames;
mod edges_http;
mod edges_limits;
mod escapes;
mod failing_disk;
mod failover;
mod fair_turns;
mod frozen_redis;
mod hangup;
mod held_bytes;
mod inner_limits;
mod journal;
mod kill9;
mod kinds;
mod leaving;
mod long_report;
mod lost_by_redis;
mod never_a_reset;
mod paths;
mod private_files;
mod process_one;
mod redis_restart;
mod redis_url;
mod refused_session;
mod removed_files;
mod resume;
mod shutdown_on_every_store;
mod signals;
mod smoke;
mod spill;
mod started_together;
mod supervisor;
mod takeover;
mod terminal;
mod unix_socket;
mod web_page;
mod why_not_open;
mod wire;
