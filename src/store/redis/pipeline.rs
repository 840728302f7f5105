//! The conversation with Redis: requests to bytes, bytes to answers. Pure: no socket, no clock.
//!
//! Owns the order: a queue of what is awaited, one entry for each reply that Redis owes, and the
//! bytes that are to be sent. Must never panic on anything that Redis says, and never lose or
//! reorder an answer while the link lives.

use std::collections::VecDeque;
use std::mem;
use std::time::{Duration, Instant};

use redis::{PushKind, ServerError, Value};

use super::answers;
use super::scripts::{self, Hashes, Script};
use crate::engine::io::{Claim, Refused, Save, StoreEvent};
use crate::redis::conversation::{Conversation, Health};
use crate::redis::exchange::{Awaited, Exchange};
use crate::redis::outbound::Outbound;
use crate::redis::reply;
use crate::redis::request;
use crate::redis::target::Login;

/// One link's requests and replies; [`greet`](Self::greet) begins the next link's.
pub(crate) struct Pipeline {
    login: Login,
    ttl_ms: u64,
    channel: String,
    phase: Phase,
    exchange: Exchange<Reply>,
    hashes: Hashes,
    /// How often in a row Redis has not known the scripts.
    reloads: u32,
    /// Scripts may have flags, as far as is known.
    knows_flags: bool,
    speaks_resp3: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    Closed,
    Greeting,
    Ready,
}

enum Reply {
    Greeting(Step),
    Load(Script),
    Ping,
    Role,
    Request(Request),
    /// To a request that has been asked again since.
    Void,
}

#[derive(Clone, Copy)]
enum Step {
    Hello,
    Auth,
    Name,
    Select,
    /// Whether writes are taken.
    Write,
    Subscribe,
}

/// What the engine asked for.
enum Request {
    Claim(Claim),
    Save(Vec<Save>),
    /// No command and no reply: a mark that all before it has been answered.
    Sync,
}

impl Pipeline {
    pub(crate) fn new(login: Login, ttl: Duration) -> Self {
        Self {
            ttl_ms: scripts::ttl_ms(ttl),
            channel: scripts::channel(&login),
            login,
            phase: Phase::Closed,
            exchange: Exchange::default(),
            hashes: Hashes::default(),
            reloads: 0,
            knows_flags: true,
            speaks_resp3: false,
        }
    }

    pub(crate) fn claim(&mut self, claim: Claim) {
        self.request(Request::Claim(claim));
    }

    pub(crate) fn save(&mut self, batch: Vec<Save>) {
        self.request(Request::Save(batch));
    }

    pub(crate) fn sync(&mut self, events: &mut VecDeque<StoreEvent>) {
        self.request(Request::Sync);
        self.release_syncs(events);
    }

    fn request(&mut self, request: Request) {
        let command = match &request {
            Request::Claim(claim) => {
                scripts::claim(&self.hashes, claim, self.ttl_ms, &self.channel)
            }
            Request::Save(batch) => scripts::save(&self.hashes, batch, self.ttl_ms),
            Request::Sync => return self.exchange.await_reply(Reply::Request(request)),
        };
        self.exchange.ask(&command, Reply::Request(request));
    }

    fn handle_value(
        &mut self,
        value: Value,
        events: &mut VecDeque<StoreEvent>,
    ) -> Result<(), String> {
        if let Value::Push { kind, data } = value {
            self.handle_push(&kind, &data, events);
        } else if let Some(awaited) = self.exchange.awaited.pop_front() {
            if let Value::ServerError(error) = value {
                self.handle_error(awaited.reply, &error, events)?;
            } else {
                self.handle_reply(awaited.reply, &value, events)?;
            }
        } else if let Value::ServerError(error) = value {
            return Err(reply::reason(&error, &self.login));
        } else {
            return Err("no Redis: a reply that nobody asked for".to_owned());
        }
        self.release_syncs(events);
        if self.phase == Phase::Greeting && self.exchange.awaited.is_empty() {
            self.phase = Phase::Ready;
            events.push_back(StoreEvent::Up);
        }
        Ok(())
    }

    fn handle_reply(
        &mut self,
        reply: Reply,
        value: &Value,
        events: &mut VecDeque<StoreEvent>,
    ) -> Result<(), String> {
        match reply {
            Reply::Greeting(Step::Hello) => {
                reply::check_hello(value)?;
                self.speaks_resp3 = true;
                self.prepare();
                // Before any claim of ours, so that no claim after ours goes unheard.
                let subscribe = request::subscribe(&self.channel);
                self.exchange
                    .ask(&subscribe, Reply::Greeting(Step::Subscribe));
            }
            Reply::Load(Script::Claim) => self.hashes.claim = answers::loaded(value)?,
            Reply::Load(Script::Save | Script::SaveAtMaxmemory) => {
                self.hashes.save = answers::loaded(value)?;
            }
            Reply::Request(request) => {
                self.reloads = 0;
                self.answer(request, value, events)?;
            }
            Reply::Role => reply::check_hello(value)?,
            Reply::Greeting(
                Step::Auth | Step::Name | Step::Select | Step::Write | Step::Subscribe,
            )
            | Reply::Ping
            | Reply::Void => {}
        }
        Ok(())
    }

    fn handle_error(
        &mut self,
        reply: Reply,
        error: &ServerError,
        events: &mut VecDeque<StoreEvent>,
    ) -> Result<(), String> {
        let unknown_script = error.code() == "NOSCRIPT";
        match reply {
            Reply::Request(request) if unknown_script => self.ask_again(request),
            Reply::Request(request) if answers::is_about_one_key(error) => {
                self.reloads = 0;
                self.refuse(request, error, events);
                Ok(())
            }
            Reply::Void if unknown_script || answers::is_about_one_key(error) => Ok(()),
            Reply::Load(Script::SaveAtMaxmemory) if error.code() == "ERR" => {
                // Before version 7 its first line is an error of syntax.
                self.knows_flags = false;
                let plain = Script::Save;
                self.exchange.ask(&scripts::load(plain), Reply::Load(plain));
                Ok(())
            }
            Reply::Greeting(Step::Hello) if reply::speaks_only_resp2(error) => {
                log::warn!("Redis speaks no RESP3: {UNHEARD}");
                if let Some(auth) = request::auth(&self.login) {
                    self.exchange.ask(&auth, Reply::Greeting(Step::Auth));
                }
                self.exchange
                    .ask(&request::set_name(), Reply::Greeting(Step::Name));
                self.prepare();
                Ok(())
            }
            Reply::Greeting(Step::Subscribe) => {
                let reason = reply::reason(error, &self.login);
                log::warn!("Redis lets us subscribe to nothing ({reason}): {UNHEARD}");
                Ok(())
            }
            // The name is for people who look at CLIENT LIST, and may be missing.
            Reply::Greeting(Step::Name) => Ok(()),
            Reply::Greeting(Step::Hello | Step::Auth | Step::Select | Step::Write)
            | Reply::Load(_)
            | Reply::Ping
            | Reply::Role
            | Reply::Request(_)
            | Reply::Void => Err(reply::reason(error, &self.login)),
        }
    }

    /// What the engine is told of an answer.
    fn answer(
        &self,
        request: Request,
        value: &Value,
        events: &mut VecDeque<StoreEvent>,
    ) -> Result<(), String> {
        match request {
            Request::Claim(claim) => {
                let (epoch, count, found) = answers::granted(value)?;
                events.push_back(StoreEvent::Claimed {
                    key: claim.key,
                    epoch,
                    count,
                    found,
                });
            }
            Request::Save(mut batch) => {
                let answers::Outcome {
                    mut fenced,
                    refused,
                } = answers::saved(value, batch.len(), &self.login)?;
                // From the end: the positions before it stay what they are.
                for (position, reason) in refused.into_iter().rev() {
                    let request = Refused::Save(batch.remove(position));
                    events.push_back(StoreEvent::Refused { request, reason });
                    for fenced in fenced.iter_mut().filter(|fenced| **fenced > position) {
                        *fenced -= 1;
                    }
                }
                events.push_back(StoreEvent::Saved { batch, fenced });
            }
            Request::Sync => events.push_back(StoreEvent::Synced),
        }
        Ok(())
    }

    /// Redis has refused a request by itself.
    fn refuse(&self, request: Request, error: &ServerError, events: &mut VecDeque<StoreEvent>) {
        let reason = reply::reason(error, &self.login);
        let refused = |request| StoreEvent::Refused {
            request,
            reason: reason.clone(),
        };
        match request {
            Request::Claim(claim) => events.push_back(refused(Refused::Claim(claim.key))),
            Request::Save(batch) => {
                events.extend(batch.into_iter().map(Refused::Save).map(refused));
                let (batch, fenced) = (Vec::new(), Vec::new());
                events.push_back(StoreEvent::Saved { batch, fenced });
            }
            Request::Sync => events.push_back(StoreEvent::Synced),
        }
    }

    fn handle_push(&mut self, kind: &PushKind, data: &[Value], events: &mut VecDeque<StoreEvent>) {
        // A subscription is confirmed by a push, where an error would be an ordinary reply.
        let confirms = *kind == PushKind::Subscribe;
        let awaited = self.exchange.awaited.front().map(|entry| &entry.reply);
        if confirms && matches!(awaited, Some(Reply::Greeting(Step::Subscribe))) {
            self.exchange.awaited.pop_front();
        }
        events.extend(answers::news(kind, data, &self.channel));
    }

    /// The second half of the greeting, the same in all versions.
    fn prepare(&mut self) {
        if let Some(select) = request::select(&self.login) {
            self.exchange.ask(&select, Reply::Greeting(Step::Select));
        }
        self.load_scripts();
        // Now, and not at the first request: the link would be up in between, and clients let in.
        let write = scripts::try_to_write();
        self.exchange.ask(&write, Reply::Greeting(Step::Write));
    }

    fn load_scripts(&mut self) {
        let save = if self.knows_flags {
            Script::SaveAtMaxmemory
        } else {
            Script::Save
        };
        for script in [Script::Claim, save] {
            self.exchange
                .ask(&scripts::load(script), Reply::Load(script));
        }
    }

    /// Redis has lost the scripts (SCRIPT FLUSH): loads them again, and behind that asks once more
    /// for everything that is under way, the refused request first. Another node may have been
    /// quicker to load them, so that Redis has carried out a part by then; but every request can be
    /// repeated without harm, and so the order stays, whatever has happened.
    fn ask_again(&mut self, refused: Request) -> Result<(), String> {
        self.reloads += 1;
        if self.reloads > RELOADS_MAX {
            return Err("it forgets scripts as fast as they are loaded".to_owned());
        }
        let mut again = vec![refused];
        for Awaited { asked_at, reply } in mem::take(&mut self.exchange.awaited) {
            let reply = match reply {
                Reply::Request(Request::Sync) => {
                    again.push(Request::Sync);
                    continue;
                }
                Reply::Request(request) => {
                    again.push(request);
                    Reply::Void
                }
                other @ (Reply::Greeting(_)
                | Reply::Load(_)
                | Reply::Ping
                | Reply::Role
                | Reply::Void) => other,
            };
            self.exchange.awaited.push_back(Awaited { asked_at, reply });
        }
        self.load_scripts();
        for request in again {
            self.request(request);
        }
        Ok(())
    }

    fn release_syncs(&mut self, events: &mut VecDeque<StoreEvent>) {
        let sync = |entry: &Awaited<Reply>| matches!(entry.reply, Reply::Request(Request::Sync));
        while self.exchange.awaited.front().is_some_and(sync) {
            self.exchange.awaited.pop_front();
            events.push_back(StoreEvent::Synced);
        }
    }
}

impl Conversation for Pipeline {
    type Event = StoreEvent;

    const ABOUT: &'static str = "";

    fn told(health: Health) -> StoreEvent {
        match health {
            Health::Down(reason) => StoreEvent::Down { reason },
            Health::Stalled => StoreEvent::Stalled,
            Health::Resumed => StoreEvent::Resumed,
        }
    }

    /// Begins on a new link; [`StoreEvent::Up`] ends the greeting. It takes two round trips: what
    /// follows HELLO depends on its answer (SUBSCRIBE is the end of all requests in RESP2).
    fn greet(&mut self) {
        self.forget();
        self.phase = Phase::Greeting;
        self.knows_flags = true;
        self.speaks_resp3 = false;
        let hello = request::hello(&self.login);
        self.exchange.ask(&hello, Reply::Greeting(Step::Hello));
    }

    /// The link is gone: forgets everything that was asked, said and half heard.
    fn forget(&mut self) {
        self.phase = Phase::Closed;
        self.exchange.clear();
        self.reloads = 0;
    }

    /// Whether the greeting is over. Only then may anything be asked.
    fn is_ready(&self) -> bool {
        self.phase == Phase::Ready
    }

    /// Takes what Redis has sent. An error is the reason why the link must go; what was answered
    /// before it is in `events` all the same.
    fn receive(&mut self, bytes: &[u8], events: &mut VecDeque<StoreEvent>) -> Result<(), String> {
        self.exchange.push(bytes);
        while let Some(value) = self.exchange.next()? {
            self.handle_value(value, events)?;
        }
        Ok(())
    }

    /// What is to be sent.
    fn outbound(&mut self) -> &mut Outbound {
        &mut self.exchange.outbound
    }

    /// What was asked since the last call is on its way.
    fn mark_asked(&mut self, now: Instant) {
        self.exchange.mark_asked(now);
    }

    /// Since when the oldest reply is awaited.
    fn waiting_since(&self) -> Option<Instant> {
        self.exchange.waiting_since()
    }

    /// Whether nothing is awaited.
    fn is_idle(&self) -> bool {
        self.exchange.awaited.is_empty()
    }

    fn ping(&mut self) {
        if self.speaks_resp3 {
            self.exchange.ask(&request::role(), Reply::Role);
        } else {
            self.exchange.ask(&request::ping(), Reply::Ping);
        }
    }
}

const UNHEARD: &str = "a session that another node takes over is only noticed at its next save";
/// Loads in a row without one request carried out.
const RELOADS_MAX: u32 = 3;

#[cfg(test)]
mod tests;
