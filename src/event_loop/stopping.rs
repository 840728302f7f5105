//! The shutdown's beginning and its end: who asks for it (signals, and other threads), and what the
//! engine and the store say of how it went. It only passes on.

use std::sync::atomic::Ordering;

use super::EventLoop;
use crate::core::Core;
use crate::engine::io::{Disk, Input};
use crate::engine::shutdown::{Outcome, Request, Trigger};
use crate::signals::Signals;

impl EventLoop {
    /// Whoever asks has woken the loop.
    pub(super) fn pass_requests(&mut self, core: &mut Core) {
        let signals = self.signals.iter().flat_map(Signals::pending);
        let handles = self.requests.shutdowns.swap(0, Ordering::Acquire);
        let by_handle = Request {
            trigger: Trigger::Handle,
            at: core.now().instant,
        };
        let requests: Vec<_> = signals.chain((0..handles).map(|_| by_handle)).collect();
        for request in requests {
            let trigger = request.trigger;
            if trigger == Trigger::Sighup && core.engine().is_shutting_down() {
                log::info!("SIGHUP ignored: a shutdown is under way");
                continue;
            }
            log::info!("shutdown asked for by {trigger}");
            core.handle_input(Input::Shutdown(request), self);
        }
    }

    /// How it ended.
    pub(crate) fn outcome(&self, core: &Core) -> Outcome {
        let remains = self.store.remains();
        Outcome {
            spill_rows_waiting: remains.rows_waiting,
            synced: remains.disk.map(|disk| disk == Disk::Synced),
            sync_failed: remains.disk == Some(Disk::Failed),
            ..core.engine().outcome()
        }
    }
}
