//! An outage, as the engine and the log hear of it: one `Down` for each time that a link was up, and
//! a line for each new reason, however many attempts fail after it.

use std::mem;

/// What has been told.
#[derive(Debug)]
pub(crate) struct Outage {
    /// What is out of reach, for the log.
    name: String,
    /// The reasons so far; none while the link is up, and before it has been tried.
    reasons: Vec<String>,
    /// Attempts that have failed after the first reason.
    failures: u64,
}

impl Outage {
    pub(crate) fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            reasons: Vec::new(),
            failures: 0,
        }
    }

    /// The link is gone, or was not made. The reason, if the engine is to be told.
    pub(crate) fn handle_failure(&mut self, reason: String, about: &str) -> Option<String> {
        if self.reasons.is_empty() {
            self.reasons.push(reason.clone());
            return Some(reason);
        }
        self.failures += 1;
        // An attempt has the address before the reason that the open link had.
        let is_known = |known: &String| reason.ends_with(known.as_str());
        if self.reasons.len() < REASONS_MAX && !self.reasons.iter().any(is_known) {
            let name = &self.name;
            log::warn!("{about}{name} is still out of reach, now: {reason}");
            self.reasons.push(reason);
        }
        None
    }

    /// The link is there.
    pub(crate) fn handle_open(&mut self, about: &str) {
        self.reasons.clear();
        let failures = mem::take(&mut self.failures);
        if failures > 1 {
            let name = &self.name;
            log::info!("{about}{failures} attempts to reach {name} had failed");
        }
    }
}

/// Reasons that are logged in one outage.
const REASONS_MAX: usize = 8;
