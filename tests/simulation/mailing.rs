//! What a process does for the pushes of others: it pushes from outside of a step, and tells its
//! engine what the kernel has taken.

use sundown::core::Core;
use sundown::engine::io::{Input, PushRequest};
use sundown::engine::receipt::{PushError, Receipt};

use super::Attached;
use crate::posted::name_of;

/// A push of this process, from outside of a step, of which nothing is known yet.
pub(crate) struct Pending {
    to: usize,
    text: String,
    receipt: Receipt,
}

impl Attached<'_> {
    /// Another thread pushes, now and then.
    pub(super) fn push_from_outside(&mut self, core: &mut Core) {
        let common = &mut *self.common;
        if common.is_calm || !common.dice.chance(common.options.pushes) {
            return;
        }
        let to = common.dice.among(0, common.options.clients.len() - 1);
        self.parts.pushes += 1;
        let text = format!("{} #{}", self.parts.name, self.parts.pushes);
        let (request, receipt) = PushRequest::new(name_of(to), text.as_str().into());
        self.say(|| format!("pushes {text:?} to s{to}"));
        core.handle_input(Input::Push(request), self);
        self.parts.book.pushed_from_outside();
        self.parts.pending.push(Pending { to, text, receipt });
    }

    /// What is told of those that wait is true.
    pub(super) fn look_at_receipts(&mut self) {
        let posted = &self.common.truth.posted;
        let is_lost = self.common.truth.is_lost;
        self.parts.pending.retain(|pending| {
            let Pending { to, text, receipt } = pending;
            let Some(told) = receipt.wait_for(std::time::Duration::ZERO) else {
                return true;
            };
            match told {
                Ok(number) => {
                    if !is_lost {
                        posted.check(&name_of(*to), number, text);
                    }
                }
                Err(PushError::Full | PushError::Unknown) => assert!(posted.is_refused(text)),
                Err(PushError::AnswerLost) => assert!(posted.is_done(text)),
                Err(why @ (PushError::TooBig | PushError::TooMany)) => panic!("{text}: {why}"),
                // The session of its own may be spilled.
                Err(_) => {}
            }
            false
        });
    }
}
