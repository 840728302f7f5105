//! What is said to Redis: every command, and where sessions are kept.
//!
//! Owns the scripts and the names of key and channel. Must never send, and never log what it makes:
//! HELLO holds the password.

use std::time::Duration;

use redis::Cmd;

use super::target::Login;
use crate::engine::io::{Claim, Save, SessionId};

/// The scripts that keep the store's promises in Redis itself, where all nodes meet.
#[derive(Clone, Copy, Debug)]
pub(super) enum Script {
    Claim,
    Save,
    /// The same as `Save`, for a Redis that knows flags (7 and later, and Valkey): it runs at
    /// `maxmemory`, too, since sessions that are open must be able to save. `Claim` must not: it
    /// makes new ones.
    SaveAtMaxmemory,
}

impl Script {
    fn source(self) -> &'static str {
        match self {
            Self::Claim => include_str!("claim.lua"),
            Self::Save => include_str!("save.lua"),
            Self::SaveAtMaxmemory => {
                concat!("#!lua flags=allow-oom\n", include_str!("save.lua"))
            }
        }
    }
}

/// The names by which Redis knows the scripts: its own hashes of them.
#[derive(Default)]
pub(super) struct Hashes {
    pub(super) claim: String,
    pub(super) save: String,
}

pub(super) fn hello(login: &Login) -> Cmd {
    let mut command = redis::cmd("HELLO");
    command.arg(3);
    if let Some((user, password)) = credentials(login) {
        command.arg("AUTH").arg(user).arg(password);
    }
    command.arg("SETNAME").arg(CLIENT_NAME);
    command
}

/// For a Redis that does not know HELLO; `None` without user and password.
pub(super) fn auth(login: &Login) -> Option<Cmd> {
    let (user, password) = credentials(login)?;
    let mut command = redis::cmd("AUTH");
    if login.user.is_some() {
        command.arg(user); // Before version 6 there were no users, and AUTH took a password only.
    }
    command.arg(password);
    Some(command)
}

pub(super) fn set_name() -> Cmd {
    let mut command = redis::cmd("CLIENT");
    command.arg("SETNAME").arg(CLIENT_NAME);
    command
}

/// `None` for the database that a connection begins with.
pub(super) fn select(login: &Login) -> Option<Cmd> {
    if login.db == 0 {
        return None;
    }
    let mut command = redis::cmd("SELECT");
    command.arg(login.db);
    Some(command)
}

pub(super) fn load(script: Script) -> Cmd {
    let mut command = redis::cmd("SCRIPT");
    command.arg("LOAD").arg(script.source());
    command
}

pub(super) fn subscribe(channel: &str) -> Cmd {
    let mut command = redis::cmd("SUBSCRIBE");
    command.arg(channel);
    command
}

/// A write of nothing: a session's id has no `%`. Redis refuses it as it would refuse a save: as a
/// replica, or when it has too few of those or cannot write its own files.
pub(super) fn try_to_write() -> Cmd {
    let mut command = redis::cmd("PEXPIRE");
    command.arg(format!("{KEY_PREFIX}%")).arg(1);
    command
}

/// Asks for a sign of life.
pub(super) fn ping() -> Cmd {
    redis::cmd("PING")
}

/// The same in RESP3, in which Redis says whether it is a replica by now, too.
pub(super) fn role() -> Cmd {
    let mut command = redis::cmd("HELLO");
    command.arg(3);
    command
}

pub(super) fn claim(hashes: &Hashes, claim: &Claim, ttl_ms: u64, channel: &str) -> Cmd {
    let mut command = redis::cmd("EVALSHA");
    command
        .arg(&hashes.claim)
        .arg(1)
        .arg(key(&claim.session))
        .arg(claim.token)
        .arg(ttl_ms)
        .arg(channel)
        .arg(claim.session.as_str());
    command
}

pub(super) fn save(hashes: &Hashes, batch: &[Save], ttl_ms: u64) -> Cmd {
    let mut command = redis::cmd("EVALSHA");
    command.arg(&hashes.save).arg(batch.len());
    for save in batch {
        command.arg(key(&save.session));
    }
    command.arg(ttl_ms);
    for save in batch {
        command.arg(save.epoch).arg(save.count);
    }
    command
}

/// Where the nodes tell each other of claims. Redis has the same channels in all databases, so the
/// number is part of the name.
pub(super) fn channel(login: &Login) -> String {
    format!("sundown:claimed:{}", login.db)
}

/// A time to live that Redis takes.
pub(super) fn ttl_ms(ttl: Duration) -> u64 {
    let ttl_ms = u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX);
    ttl_ms.clamp(1, TTL_MS_MAX)
}

fn key(session: &SessionId) -> String {
    format!("{KEY_PREFIX}{session}")
}

/// User and password, if there is anything to say. A user alone is one without a password
/// (`nopass`).
fn credentials(login: &Login) -> Option<(&str, &str)> {
    if login.user.is_none() && login.password.is_none() {
        return None;
    }
    let user = login.user.as_deref().unwrap_or("default");
    Some((user, login.password.as_deref().unwrap_or_default()))
}

const KEY_PREFIX: &str = "sundown:session:";
const CLIENT_NAME: &str = "sundown";
/// A hundred years: Redis refuses what does not fit its own clock.
const TTL_MS_MAX: u64 = 100 * 365 * 24 * 60 * 60 * 1_000;
