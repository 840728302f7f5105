//! The conversation with Redis: requests to bytes, bytes to answers. Pure: no socket, no clock.
//!
//! Owns the order: a queue of what is awaited, one entry for each reply that Redis owes, and the
//! bytes that are to be sent. Must never panic on anything that Redis says, nor put a password, or
//! an echo of one, into a reason.

use std::collections::VecDeque;
use std::io::{self, Read};
use std::mem;
use std::time::{Duration, Instant};

use redis::{Cmd, Parser, PushKind, ServerError, Value};

use super::outbound::Outbound;
use super::target::Login;
use crate::engine::io::{Claim, Save, SessionId, StoreEvent};

/// One link's requests and replies; [`greet`](Self::greet) begins the next link's.
pub(super) struct Pipeline {
    login: Login,
    ttl_ms: u64,
    channel: String,
    phase: Phase,
    parser: Parser,
    /// Bytes received since the last whole reply.
    partial_bytes: usize,
    outbound: Outbound,
    awaited: VecDeque<Awaited>,
    hashes: Hashes,
    /// How often in a row Redis has not known the scripts.
    reloads: u32,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    Closed,
    Greeting,
    Ready,
}

/// One reply that Redis owes.
struct Awaited {
    /// When its request was on its way at the latest; `None` until the next flush.
    asked_at: Option<Instant>,
    reply: Reply,
}

enum Reply {
    Hello,
    Auth,
    Name,
    Select,
    Load(Script),
    Subscribe,
    Ping,
    Claim(Claim),
    Save(Vec<Save>),
    /// No reply at all: a mark that all before it has been answered.
    Sync,
    /// To a request that has been asked again since.
    Void,
}

#[derive(Clone, Copy, Debug)]
enum Script {
    Claim,
    Save,
}

/// The names by which Redis knows the scripts: its own hashes of them.
#[derive(Default)]
struct Hashes {
    claim: String,
    save: String,
}

impl Pipeline {
    pub(super) fn new(login: Login, ttl: Duration) -> Self {
        let ttl_ms = u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX);
        Self {
            channel: format!("sundown:claimed:{}", login.db),
            login,
            ttl_ms: ttl_ms.clamp(1, TTL_MS_MAX),
            phase: Phase::Closed,
            parser: Parser::new(),
            partial_bytes: 0,
            outbound: Outbound::default(),
            awaited: VecDeque::new(),
            hashes: Hashes::default(),
            reloads: 0,
        }
    }

    /// Begins on a new link; [`StoreEvent::Up`] ends the greeting.
    pub(super) fn greet(&mut self) {
        self.forget();
        self.phase = Phase::Greeting;
        let mut hello = redis::cmd("HELLO");
        hello.arg(3);
        if let Some((user, password)) = self.login.pair() {
            hello.arg("AUTH").arg(user).arg(password);
        }
        hello.arg("SETNAME").arg(CLIENT_NAME);
        self.ask(&hello, Reply::Hello);
    }

    /// The link is gone: forgets everything that was asked, said and half heard.
    pub(super) fn forget(&mut self) {
        self.phase = Phase::Closed;
        self.parser = Parser::new();
        self.partial_bytes = 0;
        self.outbound.clear();
        self.awaited.clear();
        self.reloads = 0;
    }

    /// Whether the greeting is over. Only then may anything be asked.
    pub(super) fn is_ready(&self) -> bool {
        self.phase == Phase::Ready
    }

    pub(super) fn claim(&mut self, claim: Claim) {
        let mut command = redis::cmd("EVALSHA");
        command
            .arg(&self.hashes.claim)
            .arg(1)
            .arg(key(&claim.session))
            .arg(claim.token)
            .arg(self.ttl_ms)
            .arg(&self.channel)
            .arg(claim.session.as_str());
        self.ask(&command, Reply::Claim(claim));
    }

    pub(super) fn save(&mut self, batch: Vec<Save>) {
        let mut command = redis::cmd("EVALSHA");
        command.arg(&self.hashes.save).arg(batch.len());
        for save in &batch {
            command.arg(key(&save.session));
        }
        command.arg(self.ttl_ms);
        for save in &batch {
            command.arg(save.epoch).arg(save.count);
        }
        self.ask(&command, Reply::Save(batch));
    }

    /// Redis is as durable as its own configuration makes it, so this only keeps its place.
    pub(super) fn sync(&mut self, events: &mut VecDeque<StoreEvent>) {
        self.expect(Reply::Sync);
        self.release_syncs(events);
    }

    pub(super) fn ping(&mut self) {
        self.ask(&redis::cmd("PING"), Reply::Ping);
    }

    /// What is to be sent.
    pub(super) fn outbound(&mut self) -> &mut Outbound {
        &mut self.outbound
    }

    /// What was asked since the last call is on its way.
    pub(super) fn mark_asked(&mut self, now: Instant) {
        let unmarked = |entry: &&mut Awaited| entry.asked_at.is_none();
        for entry in self.awaited.iter_mut().rev().take_while(unmarked) {
            entry.asked_at = Some(now);
        }
    }

    /// Since when the oldest reply is awaited.
    pub(super) fn waiting_since(&self) -> Option<Instant> {
        self.awaited.front()?.asked_at
    }

    /// Whether nothing is awaited.
    pub(super) fn is_idle(&self) -> bool {
        self.awaited.is_empty()
    }

    /// Takes what Redis has sent. An error is the reason why the link must go; what was answered
    /// before it is in `events` all the same.
    pub(super) fn receive(
        &mut self,
        bytes: &[u8],
        events: &mut VecDeque<StoreEvent>,
    ) -> Result<(), String> {
        let mut chunk = Chunk {
            bytes,
            starved: false,
        };
        self.partial_bytes += bytes.len();
        loop {
            match self.parser.parse_value(&mut chunk) {
                Ok(value) => {
                    self.partial_bytes = chunk.bytes.len();
                    self.handle_value(value, events)?;
                }
                Err(_) if chunk.starved && self.partial_bytes <= REPLY_BYTES_MAX => return Ok(()),
                Err(_) if chunk.starved => return Err("a reply of absurd size".to_owned()),
                Err(_) => return Err("what was received is not the Redis protocol".to_owned()),
            }
        }
    }

    fn ask(&mut self, command: &Cmd, reply: Reply) {
        self.outbound.push(command);
        self.expect(reply);
    }

    fn expect(&mut self, reply: Reply) {
        self.awaited.push_back(Awaited {
            asked_at: None,
            reply,
        });
    }

    fn handle_value(
        &mut self,
        value: Value,
        events: &mut VecDeque<StoreEvent>,
    ) -> Result<(), String> {
        if let Value::Push { kind, data } = value {
            self.handle_push(&kind, &data, events);
        } else {
            let Some(awaited) = self.awaited.pop_front() else {
                return Err(match value {
                    Value::ServerError(error) => self.reason(&error),
                    _ => "a reply that nobody asked for".to_owned(),
                });
            };
            self.handle_reply(awaited.reply, value, events)?;
        }
        self.release_syncs(events);
        if self.phase == Phase::Greeting && self.awaited.is_empty() {
            self.phase = Phase::Ready;
            events.push_back(StoreEvent::Up);
        }
        Ok(())
    }

    fn handle_reply(
        &mut self,
        reply: Reply,
        value: Value,
        events: &mut VecDeque<StoreEvent>,
    ) -> Result<(), String> {
        let value = match value {
            Value::ServerError(error) => return self.handle_error(reply, &error),
            value => value,
        };
        match reply {
            Reply::Hello => self.handle_hello(&value)?,
            Reply::Load(script) => self.handle_load(script, value)?,
            Reply::Claim(claim) => {
                self.reloads = 0;
                let (epoch, count, found) = granted(&value).ok_or(UNEXPECTED_CLAIM)?;
                events.push_back(StoreEvent::Claimed {
                    key: claim.key,
                    epoch,
                    count,
                    found,
                });
            }
            Reply::Save(batch) => {
                self.reloads = 0;
                let fenced = refused(&value, batch.len()).ok_or(UNEXPECTED_SAVE)?;
                events.push_back(StoreEvent::Saved { batch, fenced });
            }
            Reply::Sync => debug_assert!(false, "a mark is released as soon as it is in front"),
            // Confirmed by a push; but a proxy that answers in place does no harm.
            Reply::Subscribe => {}
            Reply::Auth | Reply::Name | Reply::Select | Reply::Ping | Reply::Void => {}
        }
        Ok(())
    }

    fn handle_error(&mut self, reply: Reply, error: &ServerError) -> Result<(), String> {
        let unknown_script = error.code() == "NOSCRIPT";
        match reply {
            Reply::Claim(_) | Reply::Save(_) if unknown_script => self.ask_again(reply),
            Reply::Void if unknown_script => Ok(()),
            Reply::Hello if speaks_only_resp2(error) => {
                if let Some((user, password)) = self.login.pair() {
                    let mut auth = redis::cmd("AUTH");
                    // Redis before 6 knows no users, and AUTH with one argument.
                    if self.login.user.is_some() {
                        auth.arg(user);
                    }
                    auth.arg(password);
                    self.ask(&auth, Reply::Auth);
                }
                let mut name = redis::cmd("CLIENT");
                name.arg("SETNAME").arg(CLIENT_NAME);
                self.ask(&name, Reply::Name);
                log::warn!(
                    "Redis speaks no RESP3: sessions that another node takes over are only \
                     noticed at the next save"
                );
                self.prepare();
                Ok(())
            }
            Reply::Name => Ok(()),
            Reply::Subscribe => {
                log::warn!(
                    "no news of sessions that another node takes over, until their next save: {}",
                    self.reason(error)
                );
                Ok(())
            }
            Reply::Hello
            | Reply::Auth
            | Reply::Select
            | Reply::Load(_)
            | Reply::Ping
            | Reply::Claim(_)
            | Reply::Save(_)
            | Reply::Sync
            | Reply::Void => Err(self.reason(error)),
        }
    }

    fn handle_hello(&mut self, value: &Value) -> Result<(), String> {
        let Value::Map(fields) = value else {
            return Err("an answer to HELLO that makes no sense".to_owned());
        };
        for (name, value) in fields {
            match (text(name), text(value)) {
                // Not found out at the first save, with clients already waiting for it.
                (Some("role"), Some("replica" | "slave")) => {
                    return Err("a replica, which cannot be written to".to_owned());
                }
                (Some("mode"), Some(mode @ ("cluster" | "sentinel"))) => {
                    return Err(format!("a Redis in {mode} mode, which is not supported"));
                }
                _ => {}
            }
        }
        self.prepare();
        // Before any claim of ours, so that no claim after ours goes unheard.
        let mut subscribe = redis::cmd("SUBSCRIBE");
        subscribe.arg(&self.channel);
        self.ask(&subscribe, Reply::Subscribe);
        Ok(())
    }

    fn handle_load(&mut self, script: Script, value: Value) -> Result<(), String> {
        let hash = match value {
            Value::BulkString(bytes) => String::from_utf8(bytes).ok(),
            Value::SimpleString(hash) => Some(hash),
            _ => None,
        };
        let Some(hash) = hash else {
            return Err("an answer to SCRIPT LOAD that makes no sense".to_owned());
        };
        match script {
            Script::Claim => self.hashes.claim = hash,
            Script::Save => self.hashes.save = hash,
        }
        Ok(())
    }

    /// News from other nodes. What is not understood is somebody else's message.
    fn handle_push(&mut self, kind: &PushKind, data: &[Value], events: &mut VecDeque<StoreEvent>) {
        let front_is_subscribe = |entry: &Awaited| matches!(entry.reply, Reply::Subscribe);
        if *kind == PushKind::Subscribe && self.awaited.front().is_some_and(front_is_subscribe) {
            self.awaited.pop_front();
        }
        if *kind == PushKind::Message
            && let [channel, payload] = data
            && text(channel) == Some(&self.channel)
            && let Some((session, epoch)) = text(payload).and_then(|text| text.rsplit_once(' '))
            && let (Ok(session), Ok(epoch)) = (SessionId::parse(session), epoch.parse())
        {
            events.push_back(StoreEvent::TakenOver { session, epoch });
        }
    }

    /// The second half of the greeting, which does not depend on the protocol's version.
    fn prepare(&mut self) {
        if self.login.db != 0 {
            let mut select = redis::cmd("SELECT");
            select.arg(self.login.db);
            self.ask(&select, Reply::Select);
        }
        self.load_scripts();
    }

    fn load_scripts(&mut self) {
        for script in [Script::Claim, Script::Save] {
            let source = match script {
                Script::Claim => include_str!("claim.lua"),
                Script::Save => include_str!("save.lua"),
            };
            let mut load = redis::cmd("SCRIPT");
            load.arg("LOAD").arg(source);
            self.ask(&load, Reply::Load(script));
        }
    }

    /// Redis has lost the scripts (SCRIPT FLUSH): loads them again, and behind that asks once more
    /// for everything that is under way, the refused request first. What Redis may have carried
    /// out in the meantime, because another node was quicker to load them, can be repeated
    /// without harm; so the order stays, whatever has happened.
    fn ask_again(&mut self, refused: Reply) -> Result<(), String> {
        self.reloads += 1;
        if self.reloads > RELOADS_MAX {
            return Err("it forgets scripts as fast as they are loaded".to_owned());
        }
        let mut again = vec![refused];
        for Awaited { asked_at, reply } in mem::take(&mut self.awaited) {
            let stays = match reply {
                Reply::Claim(_) | Reply::Save(_) => {
                    again.push(reply);
                    Reply::Void
                }
                Reply::Sync => {
                    again.push(reply);
                    continue;
                }
                Reply::Hello
                | Reply::Auth
                | Reply::Name
                | Reply::Select
                | Reply::Load(_)
                | Reply::Subscribe
                | Reply::Ping
                | Reply::Void => reply,
            };
            self.awaited.push_back(Awaited {
                asked_at,
                reply: stays,
            });
        }
        self.load_scripts();
        for reply in again {
            match reply {
                Reply::Claim(claim) => self.claim(claim),
                Reply::Save(batch) => self.save(batch),
                other => self.expect(other),
            }
        }
        Ok(())
    }

    fn release_syncs(&mut self, events: &mut VecDeque<StoreEvent>) {
        while let Some(Awaited {
            reply: Reply::Sync, ..
        }) = self.awaited.front()
        {
            self.awaited.pop_front();
            events.push_back(StoreEvent::Synced);
        }
    }

    /// A server error for the log: one line, and without the password that it may quote.
    fn reason(&self, error: &ServerError) -> String {
        let details = error.details().unwrap_or_default();
        if is_unknown_command(error) {
            // Redis quotes the arguments, cut off somewhere.
            return format!("{}: unknown command", error.code());
        }
        let mut reason = format!("{} {details}", error.code());
        if let Some(password) = &self.login.password {
            reason = reason.replace(password.as_str(), "…");
        }
        let clean = |c: char| if c.is_control() { ' ' } else { c };
        let reason: String = reason.chars().map(clean).take(REASON_CHARS_MAX).collect();
        reason.trim_end().to_owned()
    }
}

impl Login {
    /// User and password for AUTH, if there is anything to say. A user alone is one that needs no
    /// password (`nopass`).
    fn pair(&self) -> Option<(&str, &str)> {
        if self.user.is_none() && self.password.is_none() {
            return None;
        }
        Some((
            self.user.as_deref().unwrap_or("default"),
            self.password.as_deref().unwrap_or_default(),
        ))
    }
}

/// Bytes for the parser, which must hear `WouldBlock` at their end: `Ok(0)` would be the end of the
/// stream, for good.
struct Chunk<'a> {
    bytes: &'a [u8],
    starved: bool,
}

impl Read for Chunk<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.bytes.is_empty() {
            self.starved = true;
            return Err(io::ErrorKind::WouldBlock.into());
        }
        self.bytes.read(buffer)
    }
}

/// Where a session is kept.
fn key(session: &SessionId) -> String {
    format!("sundown:session:{session}")
}

fn text(value: &Value) -> Option<&str> {
    if let Value::SimpleString(text) = value {
        return Some(text);
    }
    let Value::BulkString(bytes) = value else {
        return None;
    };
    str::from_utf8(bytes).ok()
}

fn number(value: &Value) -> Option<u64> {
    let Value::Int(number) = value else {
        return None;
    };
    u64::try_from(*number).ok()
}

/// What the claim script returns: epoch, count, found.
fn granted(value: &Value) -> Option<(u64, u64, bool)> {
    let Value::Array(fields) = value else {
        return None;
    };
    let [epoch, count, found] = fields.as_slice() else {
        return None;
    };
    Some((number(epoch)?, number(count)?, number(found)? == 1))
}

/// What the save script returns: positions in the batch, ascending.
fn refused(value: &Value, batch_len: usize) -> Option<Vec<usize>> {
    let Value::Array(positions) = value else {
        return None;
    };
    let mut fenced = Vec::with_capacity(positions.len().min(batch_len));
    for position in positions {
        let position = usize::try_from(number(position)?).ok()?;
        if position >= batch_len || fenced.last().is_some_and(|last| *last >= position) {
            return None;
        }
        fenced.push(position);
    }
    Some(fenced)
}

/// Redis before 6 does not know HELLO; what stands in for Redis may know no version 3 of it.
fn speaks_only_resp2(error: &ServerError) -> bool {
    error.code() == "NOPROTO" || is_unknown_command(error)
}

fn is_unknown_command(error: &ServerError) -> bool {
    let details = error.details().unwrap_or_default();
    details.to_ascii_lowercase().starts_with("unknown command")
}

const CLIENT_NAME: &str = "sundown";
const UNEXPECTED_CLAIM: &str = "an answer to a claim that makes no sense";
const UNEXPECTED_SAVE: &str = "an answer to a save that makes no sense";
/// A hundred years: Redis refuses what does not fit its own clock.
const TTL_MS_MAX: u64 = 100 * 365 * 24 * 60 * 60 * 1_000;
/// A reply is some bytes for each session of a batch, and a push one session: far below this.
const REPLY_BYTES_MAX: usize = 1 << 20;
/// Loads in a row without one request carried out.
const RELOADS_MAX: u32 = 3;
/// Enough for every message of Redis itself.
const REASON_CHARS_MAX: usize = 200;

#[cfg(test)]
mod tests;
