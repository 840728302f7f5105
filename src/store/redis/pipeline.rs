//! The conversation with Redis: requests to bytes, bytes to answers. Pure: no socket, no clock.
//!
//! Owns the order: a queue of what is awaited, one entry for each reply that Redis owes, and the
//! bytes that are to be sent. Must never panic on anything that Redis says, and never lose or
//! reorder an answer while the link lives.

use std::collections::VecDeque;
use std::time::Duration;

use redis::{Cmd, PushKind, ServerError, Value};

use super::answers;
use super::scripts::{self, Hashes, Script};
use crate::engine::io::{Refused, StoreCommand, StoreEvent};
use crate::redis::conversation::{Conversation, Exchange, Health, Reply};
use crate::redis::request;
use crate::redis::target::Login;
use crate::store::answer_batch;

/// The requests and replies on one link.
pub(crate) struct Pipeline {
    ttl_ms: u64,
    exchange: Exchange<Asked>,
    /// This process, for those who push to sessions that it has.
    own_name: String,
    own_channel: String,
    hashes: Hashes,
    /// How often in a row Redis has not known the scripts.
    reloads: u32,
    /// Scripts may have flags, as far as is known.
    knows_flags: bool,
}

pub(crate) enum Asked {
    Select,
    Load(Script),
    /// Whether writes are taken.
    Write,
    Request(StoreCommand),
    /// Asked again since.
    Void,
}

impl Pipeline {
    /// `name` is random, and tells this process from all others.
    pub(crate) fn new(login: Login, ttl: Duration, name: u64) -> Self {
        let channel = scripts::channel(&login);
        let own_name = format!("{name:x}");
        Self {
            ttl_ms: scripts::ttl_ms(ttl),
            own_channel: scripts::own_channel(&channel, &own_name),
            own_name,
            exchange: Exchange::new(login, channel),
            hashes: Hashes::default(),
            reloads: 0,
            knows_flags: true,
        }
    }

    /// A sync has no command and no reply: it is a mark that all before it has been answered.
    pub(crate) fn ask(&mut self, request: StoreCommand, events: &mut VecDeque<StoreEvent>) {
        self.request(request);
        self.release(events);
    }

    fn request(&mut self, request: StoreCommand) {
        let (hashes, channel) = (&self.hashes, &self.exchange.channel);
        let command = match &request {
            StoreCommand::Claim(claim) => {
                scripts::claim(hashes, claim, self.ttl_ms, channel, &self.own_name)
            }
            StoreCommand::Commit(batch) if batch.iter().any(|commit| commit.mail.is_some()) => {
                scripts::commit(hashes, batch, self.ttl_ms, channel, &self.own_name)
            }
            StoreCommand::Commit(batch) => scripts::save(hashes, batch, self.ttl_ms),
            StoreCommand::Read(read) => scripts::read(hashes, &read.session),
            StoreCommand::Sync => {
                let sync = Reply::Own(Asked::Request(request));
                return self.exchange.await_reply(sync);
            }
        };
        self.exchange.ask(&command, Asked::Request(request));
    }

    fn handle_error(
        &mut self,
        asked: Asked,
        error: &ServerError,
        events: &mut VecDeque<StoreEvent>,
    ) -> Result<(), String> {
        let unknown_script = error.code() == "NOSCRIPT";
        match asked {
            Asked::Request(request) if unknown_script => self.ask_again(request),
            Asked::Request(request) if answers::is_about_one_key(error) => {
                self.reloads = 0;
                self.refuse(request, error, events);
                Ok(())
            }
            Asked::Void if unknown_script || answers::is_about_one_key(error) => Ok(()),
            Asked::Load(Script::SaveAtMaxmemory) if error.code() == "ERR" => {
                // Before version 7 its first line is an error of syntax.
                self.knows_flags = false;
                let plain = Script::Save;
                self.exchange.ask(&scripts::load(plain), Asked::Load(plain));
                Ok(())
            }
            Asked::Select | Asked::Write | Asked::Load(_) | Asked::Request(_) | Asked::Void => {
                Err(self.exchange.reason(error))
            }
        }
    }

    /// What the engine is told of an answer.
    fn answer(
        &self,
        request: StoreCommand,
        value: &Value,
        events: &mut VecDeque<StoreEvent>,
    ) -> Result<(), String> {
        match request {
            StoreCommand::Claim(claim) => {
                let key = claim.key;
                events.push_back(match answers::granted(value)? {
                    Ok(grant) => StoreEvent::Claimed { key, grant },
                    Err(reason) => StoreEvent::Refused {
                        request: Refused::Claim(key),
                        reason,
                    },
                });
            }
            StoreCommand::Commit(batch) => {
                let answers::Outcome {
                    fenced,
                    refused,
                    mail,
                    pushed,
                } = answers::saved(value, &batch, &self.exchange.login)?;
                events.extend(mail.into_iter().filter_map(|(position, sent)| {
                    let session = batch.get(position)?.session.clone();
                    Some(StoreEvent::Mail { session, sent })
                }));
                let last = answer_batch(batch, fenced, refused, pushed, events);
                events.push_back(last);
            }
            StoreCommand::Read(read) => {
                let key = read.key;
                events.push_back(match answers::mailbox(value)? {
                    Ok(mailbox) => StoreEvent::Mailbox { key, mailbox },
                    Err(reason) => StoreEvent::Refused {
                        request: Refused::Read(key),
                        reason,
                    },
                });
            }
            StoreCommand::Sync => events.push_back(StoreEvent::Synced),
        }
        Ok(())
    }

    /// Redis has refused a request by itself.
    fn refuse(
        &self,
        request: StoreCommand,
        error: &ServerError,
        events: &mut VecDeque<StoreEvent>,
    ) {
        let reason = self.exchange.reason(error);
        let refused = |request| StoreEvent::Refused {
            request,
            reason: reason.clone(),
        };
        match request {
            StoreCommand::Claim(claim) => events.push_back(refused(Refused::Claim(claim.key))),
            StoreCommand::Commit(batch) => {
                events.extend(batch.into_iter().map(Refused::Commit).map(refused));
                let (batch, fenced, pushed) = (Vec::new(), Vec::new(), Vec::new());
                events.push_back(StoreEvent::Committed {
                    batch,
                    fenced,
                    pushed,
                });
            }
            StoreCommand::Read(read) => events.push_back(refused(Refused::Read(read.key))),
            StoreCommand::Sync => events.push_back(StoreEvent::Synced),
        }
    }

    fn load_scripts(&mut self) {
        let save = if self.knows_flags {
            Script::SaveAtMaxmemory
        } else {
            Script::Save
        };
        for script in [Script::Claim, save, Script::Commit, Script::Read] {
            self.exchange
                .ask(&scripts::load(script), Asked::Load(script));
        }
    }

    /// Redis has lost the scripts (SCRIPT FLUSH): loads them again, and behind that asks once more
    /// for everything that is under way, the refused request first. Another node may have been
    /// quicker to load them, so that Redis has carried out a part by then; but every request can be
    /// repeated without harm, and so the order stays, whatever has happened.
    fn ask_again(&mut self, refused: StoreCommand) -> Result<(), String> {
        self.reloads += 1;
        if self.reloads > RELOADS_MAX {
            return Err("it forgets scripts as fast as they are loaded".to_owned());
        }
        let mut again = vec![refused];
        self.exchange.redirect_awaited(|reply| {
            let Reply::Own(Asked::Request(request)) = reply else {
                return Some(reply);
            };
            let has_reply = !matches!(request, StoreCommand::Sync);
            again.push(request);
            has_reply.then_some(Reply::Own(Asked::Void))
        });
        self.load_scripts();
        for request in again {
            self.request(request);
        }
        Ok(())
    }
}

impl Conversation for Pipeline {
    type Event = StoreEvent;
    type Reply = Asked;

    const ABOUT: &'static str = "";
    const UNHEARD: Option<&'static str> =
        Some("a session that another node takes over is only noticed at its next save");

    fn told(health: Health) -> StoreEvent {
        match health {
            Health::Up => StoreEvent::Up,
            Health::Down(reason) => StoreEvent::Down { reason },
            Health::Stalled => StoreEvent::Stalled,
            Health::Resumed => StoreEvent::Resumed,
        }
    }

    fn exchange(&self) -> &Exchange<Asked> {
        &self.exchange
    }

    fn exchange_mut(&mut self) -> &mut Exchange<Asked> {
        &mut self.exchange
    }

    fn forget(&mut self) {
        self.exchange.clear();
        self.knows_flags = true;
        self.reloads = 0;
    }

    fn subscription(&self) -> Cmd {
        let mut command = request::subscribe(&self.own_channel);
        command.arg(&self.exchange.channel);
        command
    }

    fn prepare(&mut self) {
        if let Some(select) = request::select(&self.exchange.login) {
            self.exchange.ask(&select, Asked::Select);
        }
        self.load_scripts();
        // Now, and not at the first request: the link would be up in between, and clients let in.
        self.exchange.ask(&scripts::try_to_write(), Asked::Write);
    }

    fn handle_reply(
        &mut self,
        asked: Asked,
        answer: Result<Value, ServerError>,
        events: &mut VecDeque<StoreEvent>,
    ) -> Result<(), String> {
        match (asked, answer) {
            (asked, Err(error)) => self.handle_error(asked, &error, events)?,
            (Asked::Load(script), Ok(value)) => {
                *self.hashes.of(script) = answers::loaded(&value)?;
            }
            (Asked::Request(request), Ok(value)) => {
                self.reloads = 0;
                self.answer(request, &value, events)?;
            }
            (Asked::Select | Asked::Write | Asked::Void, Ok(_)) => {}
        }
        Ok(())
    }

    fn handle_push(
        &mut self,
        kind: &PushKind,
        data: &[Value],
        events: &mut VecDeque<StoreEvent>,
    ) -> Result<(), String> {
        let channel = &self.exchange.channel;
        events.extend(answers::news(kind, data, channel, &self.own_channel));
        Ok(())
    }

    fn release(&mut self, events: &mut VecDeque<StoreEvent>) {
        let is_sync =
            |reply: &Reply<Asked>| matches!(reply, Reply::Own(Asked::Request(StoreCommand::Sync)));
        while self.exchange.settle_next(is_sync) {
            events.push_back(StoreEvent::Synced);
        }
    }
}

/// Loads in a row without one request carried out.
const RELOADS_MAX: u32 = 3;

#[cfg(test)]
mod tests;
