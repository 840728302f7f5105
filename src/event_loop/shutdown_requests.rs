//! Requests to shut down (signals, and other threads), and the outcome at the end, which the engine
//! and the store report. It only passes values on.

use super::EventLoop;
use crate::core::Core;
use crate::engine::io::{Disk, Input};
use crate::engine::shutdown::{Outcome, Request, Trigger};
use crate::signals::Signals;

impl EventLoop {
    /// Passes on requests to shut down. A request wakes the loop.
    pub(super) fn pass_requests(&mut self, core: &mut Core) {
        let signals = self.signals.iter().flat_map(Signals::pending);
        let handles = self.requests.take_shutdowns();
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
        let disk = self.store.disk();
        Outcome {
            spill_rows_waiting: self.spill_rows_waiting,
            synced: disk.map(|disk| disk == Disk::Synced),
            sync_failed: disk == Some(Disk::Failed),
            ..core.engine().outcome()
        }
    }
}
