//! The shutdown's beginning and its end: who asks for it (signals, and other threads), and what the
//! engine and the store say of how it went. It only passes on.

use std::sync::atomic::Ordering;

use super::EventLoop;
use crate::engine::io::{Disk, Input};
use crate::engine::shutdown::{Outcome, Request, Trigger};
use crate::signals::Signals;

impl EventLoop {
    /// Whoever asks has woken the loop.
    pub(super) fn dispatch_requests(&mut self) {
        let signals = self.signals.iter().flat_map(Signals::pending);
        let handles = self.requests.shutdowns.swap(0, Ordering::Acquire);
        let by_handle = Request {
            trigger: Trigger::Handle,
            at: self.now.instant,
        };
        let requests: Vec<_> = signals.chain((0..handles).map(|_| by_handle)).collect();
        for request in requests {
            let trigger = request.trigger;
            if trigger == Trigger::Sighup && self.is_shutting_down() {
                log::info!("SIGHUP ignored: a shutdown is under way");
                continue;
            }
            log::info!("shutdown asked for by {trigger}");
            self.handle_input(Input::Shutdown(request));
        }
    }

    /// How it ended.
    pub(crate) fn outcome(&self) -> Outcome {
        let remains = self.store.remains();
        Outcome {
            spill_rows_waiting: remains.rows_waiting,
            synced: remains.disk.map(|disk| disk == Disk::Synced),
            sync_failed: remains.disk == Some(Disk::Failed),
            ..self.engine.outcome()
        }
    }
}
