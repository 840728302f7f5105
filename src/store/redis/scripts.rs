//! What is asked of Redis for sessions: the scripts, and the names of key and channel.
//!
//! It must never send.

use std::time::Duration;

use redis::Cmd;

use crate::engine::io::{Claim, Commit, SessionId};
use crate::redis::target::Login;

/// A script without the lines of its comments, and without what stands in front of each line: the
/// binary and Redis need neither.
macro_rules! code {
    ($path:literal) => {{
        const SOURCE: &[u8] = include_bytes!($path);
        const CODE: ([u8; SOURCE.len()], usize) = without_comments(SOURCE);
        static SHORT: [u8; CODE.1] = *CODE.0.first_chunk().unwrap();
        str::from_utf8(&SHORT).unwrap_or_default()
    }};
}

const fn without_comments<const LEN: usize>(source: &[u8]) -> ([u8; LEN], usize) {
    let (mut code, mut len, mut at) = ([0; LEN], 0, 0);
    while at < source.len() {
        if matches!(source[at], b' ' | b'\n') {
            at += 1;
            continue;
        }
        let is_comment = source[at] == b'-' && source[at + 1] == b'-';
        let mut is_over = false;
        while !is_over && at < source.len() {
            if !is_comment {
                code[len] = source[at];
                len += 1;
            }
            is_over = source[at] == b'\n';
            at += 1;
        }
    }
    (code, len)
}

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
            Self::Claim => ("", code!("claim.lua")),
            Self::Save => ("", code!("save.lua")),
            Self::SaveAtMaxmemory => ("#!lua flags=allow-oom\n", code!("save.lua")),
            Self::Commit => ("", code!("commit.lua")),
            Self::Read => ("", code!("read.lua")),
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

/// What stands in front of each script, behind its first line.
pub(super) fn shared() -> &'static str {
    code!("shared.lua")
}

pub(crate) fn load(script: Script) -> Cmd {
    let (first, rest) = script.source();
    let mut command = redis::cmd("SCRIPT");
    command.arg("LOAD").arg([first, shared(), rest].concat());
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
    command.arg(&hashes.save);
    add_number(&mut command, batch.len() as u64);
    for commit in batch {
        command.arg(key(&commit.session));
    }
    add_number(&mut command, ttl_ms);
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
    let pushes = batch.iter().flat_map(Commit::pushes);
    let targets = pushes.map(|push| &push.to);
    let sessions = batch.iter().map(|commit| &commit.session).chain(targets);
    let keys: Vec<String> = sessions.map(key).collect();
    let mut command = redis::cmd("EVALSHA");
    command.arg(&hashes.commit);
    add_number(&mut command, keys.len() as u64);
    command.arg(keys);
    add_number(&mut command, ttl_ms);
    command.arg(own_name).arg(channel);
    add_number(&mut command, batch.len() as u64);
    for commit in batch {
        add_snapshot(&mut command, commit);
        let confirmed = commit.mail.as_ref().map_or(0, |mail| mail.confirmed);
        add_number(&mut command, confirmed);
        add_number(&mut command, commit.pushes().len() as u64);
        for push in commit.pushes() {
            let kind: &[u8] = if push.body.is_binary() { b"b" } else { b"t" };
            add_number(&mut command, push.step);
            command.arg([kind, push.body.as_bytes()].concat());
        }
    }
    command
}

fn add_snapshot(command: &mut Cmd, commit: &Commit) {
    let snapshot = &commit.snapshot;
    for number in [
        commit.epoch,
        snapshot.incarnation,
        snapshot.step,
        snapshot.count,
    ] {
        add_number(command, number);
    }
    command.arg(snapshot.state.as_bytes());
}

/// In one place, since the binary would have all of it at each.
#[inline(never)]
fn add_number(command: &mut Cmd, number: u64) {
    command.arg(number);
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
