//! What the log says of the store: what an operator acts on.
//!
//! A store that goes or comes back has a line each time. Of the requests that it refuses by
//! themselves the first has one at once, and then at most one in [`TELL_EVERY`] says how many there
//! were, since a client may repeat a refused request as often as it likes. It never names a session:
//! a session id is a secret.

use std::time::{Duration, Instant};

use crate::engine::io::StoreEvent;

/// How many requests were refused since the last line about them, and when that was.
#[derive(Debug, Default)]
pub(super) struct StoreLog {
    told_at: Option<Instant>,
    untold: u64,
}

/// The least time between two lines.
const TELL_EVERY: Duration = Duration::from_secs(60);

impl StoreLog {
    /// This has happened.
    pub(super) fn tell(&mut self, event: &StoreEvent, now: Instant) {
        match event {
            StoreEvent::Up => log::info!("the store is up"),
            StoreEvent::Down { reason } => log::warn!("the store is down: {reason}"),
            StoreEvent::Lost { reason } => {
                log::error!("what the store has confirmed is gone: {reason}");
            }
            StoreEvent::Stalled => log::warn!("the store does not answer in good time"),
            StoreEvent::Resumed => log::info!("the store answers again"),
            StoreEvent::Refused { reason, .. } => {
                if let Some(line) = self.refused(reason, now) {
                    log::warn!("{line}");
                }
            }
            StoreEvent::Claimed { .. }
            | StoreEvent::Committed { .. }
            | StoreEvent::Mailbox { .. }
            | StoreEvent::Mail { .. }
            | StoreEvent::Synced
            | StoreEvent::Spilled { .. }
            | StoreEvent::TakenOver { .. } => {}
        }
    }

    fn refused(&mut self, reason: &str, now: Instant) -> Option<String> {
        self.untold += 1;
        if self.told_at.is_some_and(|at| now < at + TELL_EVERY) {
            return None;
        }
        self.told_at = Some(now);
        let sessions = match std::mem::take(&mut self.untold) {
            1 => "a session".to_owned(),
            count => format!("a session, {count} times since the last such line"),
        };
        Some(format!("the store refuses {sessions}: {reason}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;

    #[test]
    fn one_line_a_minute_with_a_count() {
        let (began, mut log) = (clock::now().instant, StoreLog::default());
        let mut at = |ms| log.refused("WRONGTYPE", began + Duration::from_millis(ms));
        let first = "the store refuses a session: WRONGTYPE";
        assert_eq!(at(0).as_deref(), Some(first));
        assert!((1..60_000).all(|ms| at(ms).is_none()));
        let later = "the store refuses a session, 60000 times since the last such line: WRONGTYPE";
        assert_eq!(at(60_000).as_deref(), Some(later));
    }
}
