//! The bus of a build without the feature `redis`: a type without values.

use std::sync::Arc;
use std::time::Instant;

use super::BusEvent;
use crate::error::Error;
use crate::store::{Peer, StoreParts};

#[expect(
    clippy::unnecessary_wraps,
    reason = "the signature is that of a build with Redis"
)]
pub(crate) fn open(_parts: &StoreParts<'_>) -> Result<Option<Bus>, Error> {
    Ok(None)
}

pub(crate) enum Bus {}

impl Bus {
    pub(crate) fn follow(&mut self, _peer: Option<Peer>, _now: Instant) {
        match *self {}
    }

    pub(crate) fn publish(&mut self, _message: Arc<str>, _now: Instant) -> bool {
        match *self {}
    }

    pub(crate) fn is_up(&self) -> bool {
        match *self {}
    }

    pub(crate) fn handle_ready(&mut self, _now: Instant) {
        match *self {}
    }

    pub(crate) fn handle_timeout(&mut self, _now: Instant) {
        match *self {}
    }

    pub(crate) fn flush(&mut self, _now: Instant) {
        match *self {}
    }

    pub(crate) fn poll_event(&mut self) -> Option<BusEvent> {
        match *self {}
    }

    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        match *self {}
    }
}
