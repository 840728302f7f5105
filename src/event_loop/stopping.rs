//! Who asks for the shutdown: signals, and other threads. It only passes on what they ask.

use std::sync::atomic::Ordering;

use super::EventLoop;
use crate::engine::io::Input;
use crate::engine::shutdown::{Request, Trigger};
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
}
