//! A database for tests of a store whose calls block: a table behind a lock, which outlives the
//! connections to it. It keeps the epochs of what it has deleted.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use sundown::engine::io::{Claim, Commit, Grant, SessionId};
use sundown::store::expiry::Times;
use sundown::store::record::Record;
use sundown::{BlockingStore, StoreError};

/// A connection.
#[derive(Clone, Default)]
pub(crate) struct Table(Arc<Mutex<Rows>>);

#[derive(Default)]
struct Rows {
    /// With the time at which each expires.
    records: HashMap<SessionId, (Record, u64)>,
    epoch_floor: u64,
}

impl BlockingStore for Table {
    fn claim(&mut self, claims: &[Claim], times: Times) -> Result<Vec<Grant>, StoreError> {
        let mut rows = self.0.lock().expect("no call panics");
        let floor = rows.epoch_floor;
        let grants = claims.iter().map(|claim| {
            let known = rows.records.get(&claim.session);
            let is_alive = known.is_some_and(|(_, at_ms)| *at_ms > times.judged_ms);
            let known = known.map(|(record, _)| record);
            let (record, grant) = Record::claim(known, is_alive, claim.token, floor);
            let row = (record, times.expires_ms);
            rows.records.insert(claim.session.clone(), row);
            grant
        });
        Ok(grants.collect())
    }

    fn commit(&mut self, batch: &[Commit], times: Times) -> Result<Vec<usize>, StoreError> {
        let records = &mut self.0.lock().expect("no call panics").records;
        let mut fenced = Vec::new();
        for (position, commit) in batch.iter().enumerate() {
            let known = records.get(&commit.session).map(|(record, _)| record);
            match Record::commit(known, commit.epoch, &commit.snapshot) {
                Some(record) => {
                    let row = (record, times.expires_ms);
                    records.insert(commit.session.clone(), row);
                }
                None => fenced.push(position),
            }
        }
        Ok(fenced)
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
