//! What an application can do outside of any session. It collects, and carries out nothing.

use super::PushTooBig;
use super::session::letter;
use crate::engine::ids::SessionId;
use crate::engine::mailbox::Body;
use crate::engine::step::Letter;

/// What [`Application::on_shutdown`](super::Application::on_shutdown) can still do.
#[derive(Debug)]
pub struct Hub<'a> {
    pub(crate) letters: &'a mut Vec<Letter>,
}

impl Hub<'_> {
    /// Pushes a message to a session, as [`Session::push_to`](super::Session::push_to) does. It is
    /// committed before the first client gets its goodbye, unless the store does not answer in time.
    pub fn push_to(&mut self, to: &SessionId, body: impl Into<Body>) -> Result<(), PushTooBig> {
        self.letters.push(letter(Some(to.clone()), body.into())?);
        Ok(())
    }
}
