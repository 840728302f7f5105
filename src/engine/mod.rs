//! The pure engine: it decides, the shell performs.
//!
//! It owns the clients, their sessions, the shutdown and every deadline above the socket. It never
//! sees a socket, a file descriptor or a clock: what happens comes in through `handle_input` and
//! `handle_timeout`, with the time; what to do goes out through `poll_output` and `poll_store`; and
//! `poll_timeout` says when it wants to be called again. After each `handle_*`, drain
//! `poll_output`; once a turn, hand `poll_store` to the store.

mod answers;
pub mod app;
mod clients;
mod fanout;
mod gauges;
mod ids;
pub mod io;
pub mod ledger;
pub mod message;
mod parting;
mod session;
pub mod shutdown;
mod spilling;
mod timers;

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

use crate::config::{Config, Durability};
use app::{Application, Context};
use clients::{Client, Clients, Stage};
use fanout::Walk;
use io::{
    Broadcast, CloseReason, ConnId, Input, Levels, Now, Output, Protocol, SessionId, SessionKey,
    StoreCommand,
};
use message::{Message, ServerMessage};
use parting::Parting;
use session::{Displaced, Sessions};
use shutdown::{Outcome, Shutdown};
use timers::{Timer, Timers};

/// The whole of sundown's behaviour, as a value.
pub struct Engine {
    app: Box<dyn Application>,
    durability: Durability,
    heartbeat: Duration,
    refresh_every: Duration,
    held_replies_max: usize,
    held_bytes_max: usize,
    fanout_max: usize,
    spill_max: usize,
    rng: StdRng,
    clients: Clients,
    sessions: Sessions,
    store: StoreState,
    shutdown: Shutdown,
    parting: Parting,
    timers: Timers,
    /// A message to all that is under way.
    walk: Option<Walk>,
    /// A broadcast that the notice of a shutdown has interrupted.
    interrupted: Option<Walk>,
    /// A heartbeat waits for its turn.
    heartbeat_due: bool,
    /// Broadcasts that do.
    broadcasts: VecDeque<Broadcast>,
    broadcasts_max: usize,
    /// A renewal of all sessions that is under way: at which slot it goes on.
    refresh: Option<usize>,
    /// The time of the last turn.
    clock: Now,
    /// `relaxed`: the timer has fired, what is dirty goes out at the next flush.
    save_due: bool,
    levels: Levels,
    outputs: VecDeque<Output>,
    /// Scratch for one message's replies, kept for its capacity.
    replies: Vec<ServerMessage>,
}

/// What the shell may let in at this moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gate {
    /// Readiness is 200.
    pub ready: bool,
    /// Upgrades are answered 101.
    pub upgrades: bool,
    /// Upgrades that need the store are answered 101.
    pub sessions: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum StoreState {
    Up,
    Stalled,
    Down,
}

/// `relaxed`: how long a count may wait for its save.
const SAVE_EVERY: Duration = Duration::from_millis(100);

/// How often open sessions are renewed in the store, if their time to live asks for no more.
const REFRESH_EVERY_MAX: Duration = Duration::from_secs(600);

impl Engine {
    /// An engine without clients; `seed` decides session ids, tokens and the spread of reconnects.
    pub fn new(config: &Config, app: Box<dyn Application>, seed: [u8; 32], now: Now) -> Self {
        let heartbeat = if app.wants_heartbeat() {
            config.heartbeat
        } else {
            Duration::ZERO
        };
        let refresh_every = (config.session_ttl / 4).min(REFRESH_EVERY_MAX);
        let mut timers = Timers::default();
        timers.set(Timer::Refresh, now.instant + refresh_every);
        if heartbeat > Duration::ZERO {
            timers.set(Timer::Heartbeat, now.instant + heartbeat);
        }
        Self {
            app,
            durability: config.durability,
            heartbeat,
            refresh_every,
            held_replies_max: config.limits.held_replies_max,
            held_bytes_max: (config.limits.outbound_bytes_max / 2).max(1),
            fanout_max: config.limits.fanout_max,
            spill_max: config.limits.spill_max.max(config.limits.connections_max),
            rng: StdRng::from_seed(seed),
            clients: Clients::default(),
            sessions: Sessions::new(config.limits.batch_max),
            store: StoreState::Down,
            shutdown: Shutdown::new(config.shutdown),
            parting: Parting::default(),
            timers,
            walk: None,
            interrupted: None,
            heartbeat_due: false,
            broadcasts: VecDeque::new(),
            broadcasts_max: config.limits.broadcasts_max,
            refresh: None,
            clock: now,
            save_due: false,
            levels: Levels::default(),
            outputs: VecDeque::new(),
            replies: Vec::new(),
        }
    }

    /// Takes in what has happened.
    pub fn handle_input(&mut self, input: Input<'_>, now: Now) {
        match input {
            Input::Opened {
                conn,
                protocol,
                session,
            } => self.opened(conn, protocol, session),
            Input::Message { conn, message } => self.message(conn, message, now),
            Input::PeerClosed { conn, by_frame } => self.peer_closed(conn, by_frame, now),
            Input::Gone { conn } => self.gone(conn),
            Input::Store(event) => self.store_event(event, now),
            Input::Broadcast(broadcast) => self.broadcast(broadcast, now),
            Input::Shutdown(request) => self.shutdown_requested(request, now),
            Input::Levels(levels) => {
                self.levels = levels;
                self.drive_shutdown(now);
            }
        }
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, now: Now) {
        self.renew_after_step(now);
        for timer in Timer::ALL {
            if !self.timers.take_due(timer, now.instant) {
                continue;
            }
            match timer {
                Timer::Heartbeat => {
                    self.heartbeat_due = true;
                    self.begin_walk(now);
                    self.timers
                        .set(Timer::Heartbeat, now.instant + self.heartbeat);
                }
                Timer::Save => self.save_due = true,
                Timer::Refresh => {
                    self.refresh.get_or_insert(0);
                    self.timers
                        .set(Timer::Refresh, now.instant + self.refresh_every);
                }
                Timer::Retry => self.retry_refused(now),
                Timer::Goodbye => self.say_goodbyes(now),
                Timer::Continue => {}
            }
        }
        self.go_on(now);
    }

    /// What to do next; `None` when all is done.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// What to ask of the store next, once a turn, until `None`.
    pub fn poll_store(&mut self) -> Option<StoreCommand> {
        if let Some(batch) = self.poll_spill() {
            return Some(StoreCommand::Spill(batch));
        }
        if self.store == StoreState::Down {
            return None;
        }
        let urgent = match self.durability {
            Durability::Acked => true,
            Durability::Relaxed => {
                self.save_due || self.sessions.has_claims() || self.parting.reading_stopped
            }
        };
        if urgent && let Some(command) = self.sessions.poll_store() {
            return Some(command);
        }
        self.save_due = false;
        // The sync is behind all that is saved.
        if self.is_confirming() {
            return None;
        }
        self.parting.take_sync().then_some(StoreCommand::Sync)
    }

    /// When `handle_timeout` and the next `Input::Levels` are due, if these are the levels.
    pub fn poll_timeout(&self, levels: &Levels) -> Option<Instant> {
        let shutdown = self.shutdown.poll_timeout(&self.census(levels));
        // What did not fit into the last turn's share is due at once.
        let spill = self.sessions.has_spill();
        let spill = self.shutdown.timeline().began.filter(|_| spill);
        let times = [self.timers.next(), shutdown, spill];
        times.into_iter().flatten().min()
    }

    /// What may be let in.
    pub fn gate(&self) -> Gate {
        Gate {
            ready: self.store == StoreState::Up && !self.parting.unready,
            upgrades: !self.parting.upgrades_refused,
            sessions: self.store == StoreState::Up,
        }
    }

    /// Whether a shutdown has been asked for.
    pub fn is_shutting_down(&self) -> bool {
        self.shutdown.timeline().began.is_some()
    }

    /// Whether a request path is one of the application's; `listed`: it is one of `Config::paths`.
    pub fn accepts(&self, path: &str, listed: bool) -> bool {
        self.app.accepts(path, listed)
    }

    /// How it ended, once `Output::Stop` has come out.
    pub fn outcome(&self) -> Outcome {
        self.final_outcome()
    }

    fn opened(&mut self, conn: ConnId, protocol: Protocol, session: Option<SessionId>) {
        let session = session.or_else(|| match protocol {
            Protocol::Plain => None,
            Protocol::V1 => Some(SessionId::from_random(self.rng.random())),
        });
        let stage = if session.is_some() {
            Stage::Waiting
        } else {
            Stage::Open
        };
        let client = Client {
            protocol,
            session: None,
            count: 0,
            stage,
            paused: false,
            close: None,
        };
        self.clients.insert(conn, client);
        let Some(id) = session else { return };
        let (key, displaced) = self.sessions.open(id, conn, self.rng.random());
        if let Some(client) = self.clients.get_mut(conn) {
            client.session = Some(key);
        }
        self.update_pause(conn);
        match displaced {
            Some(Displaced::Pending(old)) => self.update_pause(old),
            Some(Displaced::Ended(old)) => self.taken_over(old),
            None => {}
        }
    }

    fn message(&mut self, conn: ConnId, message: Message<'_>, now: Now) {
        let Some(client) = self.clients.get_mut(conn) else {
            return;
        };
        match client.stage {
            Stage::Open => {}
            Stage::Bidden => {
                let counted = match client.session {
                    Some(key) => self.sessions.count(key).is_some(),
                    None => true,
                };
                self.parting.tally.late += u64::from(counted);
                if let Some(key) = client.session {
                    self.plan_save(key, now);
                }
                return;
            }
            Stage::Waiting | Stage::Closing | Stage::PeerClosed => return,
        }
        let session = client.session;
        let count = if let Some(key) = session {
            // A session that was displaced a moment ago counts no more.
            let Some(count) = self.sessions.count(key) else {
                return;
            };
            count
        } else {
            client.count += 1;
            client.count
        };
        let mut context = Context {
            conn,
            session: session
                .and_then(|key| self.sessions.get(key))
                .map(session::Session::id),
            count,
            replies: &mut self.replies,
            close: None,
        };
        self.app.on_message(message, &mut context);
        let close = context.close.take();
        self.reply(conn, session);
        if let Some(reason) = close {
            self.close_after_replies(conn, reason);
        }
        if let Some(key) = session {
            self.plan_save(key, now);
        }
    }

    /// `relaxed`: what is not saved goes out with the next save.
    fn plan_save(&mut self, key: SessionKey, now: Now) {
        if self.durability == Durability::Relaxed && !self.sessions.is_saved(key) {
            self.timers
                .set_if_unset(Timer::Save, now.instant + SAVE_EVERY);
        }
    }

    /// Sends what the application has answered, or holds it until the count is saved.
    fn reply(&mut self, conn: ConnId, session: Option<SessionKey>) {
        match (session, self.durability) {
            (Some(key), Durability::Acked) => {
                for message in self.replies.drain(..) {
                    self.sessions.hold(key, message);
                }
                self.update_pause(conn);
            }
            (None, Durability::Acked) | (_, Durability::Relaxed) => {
                let sends = self
                    .replies
                    .drain(..)
                    .map(|message| Output::Send { conn, message });
                self.outputs.extend(sends);
            }
        }
    }

    fn close_after_replies(&mut self, conn: ConnId, reason: CloseReason) {
        let Some(client) = self.clients.get_mut(conn) else {
            return;
        };
        client.stage = Stage::Closing;
        let held = client.session.and_then(|key| self.sessions.get(key));
        if held.is_some_and(|session| session.held_len() > 0) {
            client.close = Some(Box::new(reason));
        } else {
            self.push_close(conn, reason);
        }
    }

    fn peer_closed(&mut self, conn: ConnId, by_frame: bool, now: Now) {
        let Some(client) = self.clients.get_mut(conn) else {
            return;
        };
        if client.stage == Stage::Bidden && by_frame {
            self.parting.tally.closed_1001 += 1;
        }
        client.stage = Stage::PeerClosed;
        if self.durability == Durability::Relaxed {
            // Whoever comes back at once, and elsewhere, must find what was acknowledged.
            self.timers.set(Timer::Save, now.instant);
        }
        self.update_pause(conn);
        self.finish_if_safe(conn);
    }

    /// Lets a peer go that has closed, once nothing of its session can get lost by that.
    fn finish_if_safe(&mut self, conn: ConnId) {
        let Some(client) = self.clients.get(conn) else {
            return;
        };
        let session = client.session;
        let spills = session.is_some_and(|key| self.sessions.awaits_spill(key));
        let waits = spills || self.durability == Durability::Acked && !self.parting.gave_up;
        let hopeless = self.store != StoreState::Up && !waits;
        let safe = session.is_none_or(|key| self.sessions.is_safe(key));
        if client.stage == Stage::PeerClosed && (safe || hopeless) {
            self.outputs.push_back(Output::Finish { conn });
            self.gone(conn);
        }
    }

    fn gone(&mut self, conn: ConnId) {
        if let Some(Client {
            session: Some(key), ..
        }) = self.clients.remove(conn)
        {
            self.sessions.close(key);
        }
    }

    fn push_close(&mut self, conn: ConnId, reason: CloseReason) {
        self.outputs.push_back(Output::Close {
            conn,
            reason,
            bounded: true,
        });
    }

    /// Tells the shell whether to read from a client, if that has changed.
    fn update_pause(&mut self, conn: ConnId) {
        let Some(client) = self.clients.get_mut(conn) else {
            return;
        };
        let pause = match client.stage {
            Stage::Waiting => true,
            Stage::Open => {
                let session = client.session.and_then(|key| self.sessions.get(key));
                // On release they leave in one go, which must not make the peer a slow reader.
                let (max, bytes_max) = (self.held_replies_max, self.held_bytes_max);
                self.parting.reading_stopped
                    || session.is_some_and(|session| {
                        let (held, bytes) = (session.held_len(), session.held_bytes());
                        // It goes on at half of either limit, be that half nothing at all.
                        let full = if client.paused {
                            held > max / 2 || bytes > bytes_max / 2
                        } else {
                            held >= max || bytes >= bytes_max
                        };
                        session.epoch().is_none() || full
                    })
            }
            Stage::Bidden | Stage::Closing | Stage::PeerClosed => false,
        };
        if pause != client.paused {
            client.paused = pause;
            let output = if pause {
                Output::Pause { conn }
            } else {
                Output::Resume { conn }
            };
            self.outputs.push_back(output);
        }
    }
}

#[cfg(test)]
mod tests;
