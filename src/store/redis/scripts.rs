//! What is asked of Redis for sessions: the scripts, and the names of key and channel.
//!
//! It must never send.

use std::time::Duration;

use redis::Cmd;

use crate::engine::io::{Claim, Commit, SessionId};
use crate::redis::target::Login;

/// The scripts that keep the store's promises in Redis itself, where all nodes meet.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Script {
    Claim,
    Save,
    /// The same as `Save`, for a Redis that knows flags (7 and later, and Valkey): it runs at
    /// `maxmemory`, too, since sessions that are open must be able to save. `Claim` must not: it
    /// makes new ones.
    SaveAtMaxmemory,
    /// A save that does something to mailboxes, too.
    Commit,
    /// What a mailbox holds.
    Read,
}

impl Script {
    /// Its first line, if that matters, and the rest.
    fn source(self) -> (&'static str, &'static str) {
        match self {
            Self::Claim => ("", include_str!("claim.lua")),
            Self::Save => ("", include_str!("save.lua")),
            Self::SaveAtMaxmemory => ("#!lua flags=allow-oom\n", include_str!("save.lua")),
            Self::Commit => ("", include_str!("commit.lua")),
            Self::Read => ("", include_str!("read.lua")),
        }
    }
}

/// The names by which Redis knows the scripts: its own hashes of them.
#[derive(Default)]
pub(crate) struct Hashes {
    claim: String,
    save: String,
    commit: String,
    read: String,
}

impl Hashes {
    pub(crate) fn of(&mut self, script: Script) -> &mut String {
        match script {
            Script::Claim => &mut self.claim,
            Script::Save | Script::SaveAtMaxmemory => &mut self.save,
            Script::Commit => &mut self.commit,
            Script::Read => &mut self.read,
        }
    }
}

pub(crate) fn load(script: Script) -> Cmd {
    let (first, rest) = script.source();
    let mut command = redis::cmd("SCRIPT");
    command
        .arg("LOAD")
        .arg([first, include_str!("names.lua"), rest].concat());
    command
}

/// A write of nothing: a session's id has no `%`. Redis refuses it as it would refuse a save: as a
/// replica, or when it has too few of those or cannot write its own files.
pub(crate) fn try_to_write() -> Cmd {
    let mut command = redis::cmd("PEXPIRE");
    command.arg(format!("{KEY_PREFIX}%")).arg(1);
    command
}

pub(crate) fn claim(
    hashes: &Hashes,
    claim: &Claim,
    ttl_ms: u64,
    channel: &str,
    own_name: &str,
) -> Cmd {
    let mut command = redis::cmd("EVALSHA");
    command
        .arg(&hashes.claim)
        .arg(1)
        .arg(key(&claim.session))
        .arg(claim.token)
        .arg(ttl_ms)
        .arg(channel)
        .arg(claim.session.as_str())
        .arg(own_name);
    command
}

pub(crate) fn save(hashes: &Hashes, batch: &[Commit], ttl_ms: u64) -> Cmd {
    let mut command = redis::cmd("EVALSHA");
    command.arg(&hashes.save).arg(batch.len());
    for commit in batch {
        command.arg(key(&commit.session));
    }
    command.arg(ttl_ms);
    for commit in batch {
        add_snapshot(&mut command, commit);
    }
    command
}

/// The same for commits that do something to mailboxes.
pub(crate) fn commit(
    hashes: &Hashes,
    batch: &[Commit],
    ttl_ms: u64,
    channel: &str,
    own_name: &str,
) -> Cmd {
    let targets = batch.iter().flat_map(Commit::pushes).map(|push| &push.to);
    let mut command = redis::cmd("EVALSHA");
    command
        .arg(&hashes.commit)
        .arg(batch.len() + targets.clone().count());
    for session in batch.iter().map(|commit| &commit.session).chain(targets) {
        command.arg(key(session));
    }
    command
        .arg(ttl_ms)
        .arg(own_name)
        .arg(channel)
        .arg(batch.len());
    for commit in batch {
        add_snapshot(&mut command, commit);
        command.arg(commit.mail.as_ref().map_or(0, |mail| mail.confirmed));
        command.arg(commit.pushes().len());
        for push in commit.pushes() {
            let kind: &[u8] = if push.body.is_binary() { b"b" } else { b"t" };
            command.arg(push.step);
            command.arg([kind, push.body.as_bytes()].concat());
        }
    }
    command
}

fn add_snapshot(command: &mut Cmd, commit: &Commit) {
    let snapshot = &commit.snapshot;
    command.arg(commit.epoch).arg(snapshot.incarnation);
    command.arg(snapshot.step).arg(snapshot.count);
    command.arg(snapshot.state.as_bytes());
}

pub(crate) fn read(hashes: &Hashes, session: &SessionId) -> Cmd {
    let mut command = redis::cmd("EVALSHA");
    command.arg(&hashes.read).arg(1).arg(key(session));
    command
}

/// Where the nodes tell each other of claims. Redis has the same channels in all databases, so the
/// number is part of the name.
pub(crate) fn channel(login: &Login) -> String {
    format!("sundown:claimed:{}", login.db)
}

/// Where a node is told of pushes to its sessions.
pub(crate) fn own_channel(channel: &str, own_name: &str) -> String {
    format!("{channel}:{own_name}")
}

/// A time to live that Redis takes.
pub(crate) fn ttl_ms(ttl: Duration) -> u64 {
    let ttl_ms = u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX);
    ttl_ms.clamp(1, TTL_MS_MAX)
}

fn key(session: &SessionId) -> String {
    format!("{KEY_PREFIX}{session}")
}

const KEY_PREFIX: &str = "sundown:session:";
/// A hundred years: Redis refuses what does not fit its own clock.
const TTL_MS_MAX: u64 = 100 * 365 * 24 * 60 * 60 * 1_000;
