//! A database for tests of a store whose calls block: a table behind a lock, which outlives the
//! connections to it. It keeps the epochs of what it has deleted.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use sundown::store::expiry::Times;
use sundown::store::record::{Record, Records, carry_out};
use sundown::store::{Claim, Commit, Grant, ReadMailbox};
use sundown::{BlockingStore, Committed, StoreError};
use sundown::{Mailbox, SessionId};

/// A connection.
#[derive(Clone, Default)]
pub(crate) struct Table(Arc<Mutex<Rows>>);

#[derive(Default)]
struct Rows {
    /// With the time at which each expires.
    records: HashMap<SessionId, (Record, u64)>,
    epoch_floor: u64,
}

/// The rows, at a time.
struct Now<'a>(&'a mut Rows, Times);

impl Records for Now<'_> {
    fn find(&self, session: &SessionId) -> Option<(&Record, bool)> {
        let (record, at_ms) = self.0.records.get(session)?;
        Some((record, *at_ms > self.1.judged_ms))
    }

    fn keep(&mut self, session: &SessionId, record: Record) {
        let row = (record, self.1.expires_ms);
        self.0.records.insert(session.clone(), row);
    }
}

impl BlockingStore for Table {
    fn claim(&mut self, claims: &[Claim], times: Times) -> Result<Vec<Grant>, StoreError> {
        let rows = &mut *self.0.lock().expect("no call panics");
        let (floor, mut rows) = (rows.epoch_floor, Now(rows, times));
        let grants = claims.iter().map(|claim| {
            let known = rows.find(&claim.session);
            let is_alive = known.is_some_and(|(_, is_alive)| is_alive);
            let known = known.map(|(record, _)| record);
            let (record, grant) = Record::claim(known, is_alive, claim.token, floor);
            rows.keep(&claim.session, record);
            grant
        });
        Ok(grants.collect())
    }

    fn commit(&mut self, batch: &[Commit], times: Times) -> Result<Committed, StoreError> {
        let rows = &mut *self.0.lock().expect("no call panics");
        let (mut rows, mut committed) = (Now(rows, times), Committed::default());
        for (position, commit) in batch.iter().enumerate() {
            if !carry_out(&mut rows, commit, &mut committed.pushed) {
                committed.fenced.push(position);
            }
        }
        Ok(committed)
    }

    fn read(&mut self, read: &ReadMailbox, times: Times) -> Result<Mailbox, StoreError> {
        let rows = &mut *self.0.lock().expect("no call panics");
        let rows = Now(rows, times);
        let known = rows.find(&read.session).filter(|(_, is_alive)| *is_alive);
        let mailbox = known.map(|(record, _)| record.mailbox().clone());
        Ok(mailbox.unwrap_or_default())
    }

    fn maintain(&mut self, times: Times) -> Result<(), StoreError> {
        let rows = &mut *self.0.lock().expect("no call panics");
        let is_over = |(_, at_ms): &(Record, u64)| *at_ms <= times.judged_ms;
        let gone = rows.records.extract_if(|_, row| is_over(row));
        let epochs = gone.map(|(_, (record, _))| record.epoch());
        rows.epoch_floor = epochs.fold(rows.epoch_floor, u64::max);
        Ok(())
    }
}
