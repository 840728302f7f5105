//! The door for one fuzz target, tests/fuzz/targets/redis_replies.rs: the conversation with Redis
//! without its link. It is there only in builds with `--cfg fuzzing`, which `cargo fuzz` sets, and
//! adds nothing to what the conversation does.

use std::collections::VecDeque;
use std::time::Duration;

use super::pipeline::Pipeline;
use crate::engine::io::{StoreCommand, StoreEvent};
use crate::redis::conversation::Conversation as _;
use crate::redis::target::Target;

/// A conversation on a link that has just come up.
pub struct Conversation {
    pipeline: Pipeline,
    events: VecDeque<StoreEvent>,
}

impl Conversation {
    /// Begins with the greeting.
    pub fn begin(url: &str) -> Result<Self, String> {
        let login = Target::parse(url)?.login;
        let mut pipeline = Pipeline::new(login, Duration::from_secs(1), 7);
        pipeline.greet();
        Ok(Self {
            pipeline,
            events: VecDeque::new(),
        })
    }

    /// Whether anything may be asked.
    pub fn is_ready(&self) -> bool {
        self.pipeline.exchange().is_ready()
    }

    /// Whether nothing is awaited.
    pub fn is_idle(&self) -> bool {
        self.pipeline.exchange().awaited().is_empty()
    }

    /// Asks for what the store is asked for.
    pub fn ask(&mut self, command: StoreCommand) {
        self.pipeline.ask(command, &mut self.events);
    }

    /// Asks for a sign of life.
    pub fn ping(&mut self) {
        self.pipeline.exchange_mut().ping();
    }

    /// Takes what Redis has sent; an error ends the link.
    pub fn receive(&mut self, bytes: &[u8]) -> Result<(), String> {
        self.pipeline.receive(bytes, &mut self.events)
    }

    /// What it has answered.
    pub fn poll_event(&mut self) -> Option<StoreEvent> {
        self.events.pop_front()
    }

    /// How many bytes are to be sent.
    pub fn unsent(&mut self) -> usize {
        self.pipeline.exchange_mut().outbound.pending().len()
    }
}
