//! Imports that the table of `arrows` must refuse, and some that it must allow, so that no row is
//! green because it allows everything.

use super::arrows::forbidden_arrows;
use super::tree::{File, refuses};

#[track_caller]
fn check(path: &str, text: &str, times: usize, because: &str) {
    let known = ["mio", "rand", "redis", "sundown", "tungstenite"].map(str::to_owned);
    let file = File::new(path, text);
    refuses(&forbidden_arrows(&[file], &known), times, because);
}

#[test]
fn the_engine_is_kept_pure() {
    for text in [
        "use crate::net::token;",
        "use crate::{store, slots};",
        "use super::super::clock;",
        "fn f() { crate::metrics::x() }",
        "use mio::Token;",
        "fn f(x: tungstenite::Message) {}",
        "use std::{io, fmt};",
        "use std::net::SocketAddr;",
        "fn f() { std::fs::remove_file(x); }",
        "use std as s;",
        "use std::*;",
        "use core::net::IpAddr;",
        "use ::std::thread;",
        "macro_rules! m { () => { $crate::server::x() } }",
    ] {
        check("src/engine/new.rs", text, 1, "the engine decides");
    }
    let inside = "use super::io; use crate::config::Config; use std::time::Instant; use rand::Rng;";
    check("src/engine/new.rs", inside, 0, "");
    let test = "#[cfg(test)] mod tests { use crate::store::memory::MemoryStore; use std::fs; }";
    check("src/engine/new.rs", test, 0, "");
    check("src/engine/tests.rs", "use crate::clock;", 0, "");
}

#[test]
fn the_machine_sees_its_budget_alone() {
    let path = "src/engine/shutdown.rs";
    check(path, "use super::io::ConnId;", 1, "levels");
    check(path, "use crate::config::Config;", 1, "levels");
    check(path, "use std::collections::VecDeque;", 1, "levels");
    check(
        path,
        "use crate::config::ShutdownBudget; use std::{fmt, time::Instant};",
        0,
        "",
    );
}

#[test]
fn net_and_store_never_see_each_other() {
    check(
        "src/net/new.rs",
        "use crate::store::SessionStore;",
        1,
        "knows no store",
    );
    check(
        "src/net/new.rs",
        "use crate::engine::Engine;",
        1,
        "only their words",
    );
    check(
        "src/net/new.rs",
        "use crate::engine::*;",
        1,
        "only their words",
    );
    check(
        "src/net/http.rs",
        "use super::connection::Phase;",
        1,
        "bytes in",
    );
    check(
        "src/store/new.rs",
        "use crate::net::token::Source;",
        1,
        "knows no connection",
    );
    check(
        "src/store/new.rs",
        "fn f() { crate::event_loop::x() }",
        1,
        "knows no connection",
    );
    check(
        "src/store/memory.rs",
        "use super::sqlite::SqliteStore;",
        1,
        "lean on another",
    );
    check("src/store/redis/new.rs", "use std::thread;", 1, "resolver");
    check(
        "src/store/redis/pipeline.rs",
        "use super::link::Link;",
        1,
        "the link has those",
    );
}

#[test]
fn what_is_below_does_not_look_up() {
    check(
        "src/config.rs",
        "use crate::engine::io::SessionId;",
        1,
        "below everything",
    );
    check(
        "src/error.rs",
        "use crate::config::Config;",
        1,
        "below everything",
    );
    check(
        "src/event_loop.rs",
        "use crate::server::Server;",
        1,
        "never the API",
    );
    check(
        "src/event_loop.rs",
        "use crate::store::redis::RedisStore;",
        1,
        "by its interface",
    );
    check("src/cli/new.rs", "use mio::Poll;", 1, "public API");
    check("src/main.rs", "use crate::engine::Engine;", 1, "public API");
    check("src/new.rs", "use std::fmt;", 1, "no row");
}
