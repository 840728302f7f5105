//! Sessions of sundown in Postgres: a [`BlockingStore`] on the crate `postgres`.
//!
//! A claim, a commit and a sweep are one statement each, for any number of sessions; they are in
//! the files beside this one. Any number of nodes may share a database. It must never grant an
//! epoch twice: the statements hold each row's lock, and a sweep excludes claims.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use postgres::config::Host;
use postgres::{Client, Config, NoTls, Row, Statement};
use sundown::engine::io::{Claim, Commit, Grant, Snapshot, State};
use sundown::store::expiry::Times;
use sundown::{BlockingStore, StoreError};

const SCHEMA: &str = include_str!("schema.sql");
const CLAIM: &str = include_str!("claim.sql");
const COMMIT: &str = include_str!("commit.sql");
const SWEEP: &str = include_str!("sweep.sql");

/// Longer than any statement takes, and shorter than the 15 seconds after which sundown gives up.
const STATEMENT_TIMEOUT: &str = "SET statement_timeout = '10s'";
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// After this, a connection is lost whose other end does not acknowledge.
const TCP_TIMEOUT: Duration = Duration::from_secs(10);

/// Many claims at once, or one sweep: a claim reads the floor before it knows which rows are gone.
const CLAIMING: &str = "SELECT pg_advisory_xact_lock_shared(7303015)";
const SWEEPING: &str = "SELECT pg_advisory_xact_lock(7303015)";

/// One connection to the database.
pub struct PostgresStore {
    client: Client,
    claim: Statement,
    commit: Statement,
}

impl PostgresStore {
    /// Connects, and creates the tables where they are missing.
    ///
    /// # Errors
    ///
    /// The database is out of reach, or lets nobody in.
    pub fn connect(config: &Config) -> Result<Self, StoreError> {
        let mut config = config.clone();
        let config = config
            .connect_timeout(CONNECT_TIMEOUT)
            .tcp_user_timeout(TCP_TIMEOUT);
        let mut client = config.connect(NoTls).map_err(failed)?;
        client.batch_execute(STATEMENT_TIMEOUT).map_err(failed)?;
        client.batch_execute(SCHEMA).map_err(failed)?;
        Ok(Self {
            claim: client.prepare(CLAIM).map_err(failed)?,
            commit: client.prepare(COMMIT).map_err(failed)?,
            client,
        })
    }
}

/// The database for people, without the password.
#[must_use]
pub fn describe(config: &Config) -> String {
    let hosts = config.get_hosts().iter().map(|host| match host {
        Host::Tcp(name) => name.clone(),
        Host::Unix(path) => path.display().to_string(),
    });
    let hosts: Vec<_> = hosts.collect();
    let database = config
        .get_dbname()
        .or(config.get_user())
        .unwrap_or_default();
    format!("postgres:{database}@{}", hosts.join(","))
}

impl BlockingStore for PostgresStore {
    fn claim(&mut self, claims: &[Claim], times: Times) -> Result<Vec<Grant>, StoreError> {
        let sessions: Vec<_> = claims.iter().map(|claim| claim.session.as_str()).collect();
        let tokens: Vec<_> = claims
            .iter()
            .map(|claim| claim.token.cast_signed())
            .collect();
        let (expires, judged) = (
            times.expires_ms.cast_signed(),
            times.judged_ms.cast_signed(),
        );
        let mut transaction = self.client.transaction().map_err(failed)?;
        transaction.batch_execute(CLAIMING).map_err(failed)?;
        let rows = transaction.query(&self.claim, &[&sessions, &tokens, &expires, &judged]);
        let rows = rows.map_err(failed)?;
        transaction.commit().map_err(failed)?;
        let grants = rows.iter().map(|row| Ok((row.get("session"), grant(row)?)));
        let mut grants = grants.collect::<Result<HashMap<&str, Grant>, StoreError>>()?;
        let grants = sessions.iter().filter_map(|session| grants.remove(session));
        Ok(grants.collect())
    }

    fn commit(&mut self, batch: &[Commit], times: Times) -> Result<Vec<usize>, StoreError> {
        let sessions: Vec<_> = batch.iter().map(|commit| commit.session.as_str()).collect();
        let numbers = |of: fn(&Commit) -> u64| -> Vec<i64> {
            batch
                .iter()
                .map(|commit| of(commit).cast_signed())
                .collect()
        };
        let epochs = numbers(|commit| commit.epoch);
        let incarnations = numbers(|commit| commit.snapshot.incarnation);
        let steps = numbers(|commit| commit.snapshot.step);
        let counts = numbers(|commit| commit.snapshot.count);
        let states = batch.iter().map(|commit| commit.snapshot.state.as_bytes());
        let states: Vec<_> = states.collect();
        let expires = times.expires_ms.cast_signed();
        // A statement by itself is a transaction.
        let rows = self.client.query(
            &self.commit,
            &[
                &sessions,
                &epochs,
                &incarnations,
                &steps,
                &counts,
                &states,
                &expires,
            ],
        );
        let rows = rows.map_err(failed)?;
        let taken: HashSet<(&str, i64)> = rows.iter().map(|row| (row.get(0), row.get(1))).collect();
        let commits = sessions.into_iter().zip(epochs).enumerate();
        let fenced = commits.filter(|(_, commit)| !taken.contains(commit));
        Ok(fenced.map(|(position, _)| position).collect())
    }

    /// Asks whether anything has expired, which shows that the database is there, too.
    fn maintain(&mut self, times: Times) -> Result<(), StoreError> {
        let judged = times.judged_ms.cast_signed();
        let expired = "SELECT EXISTS (SELECT FROM sundown_sessions WHERE expires_ms <= $1)";
        let row = self.client.query_one(expired, &[&judged]).map_err(failed)?;
        if row.get(0) {
            let mut transaction = self.client.transaction().map_err(failed)?;
            transaction.batch_execute(SWEEPING).map_err(failed)?;
            transaction.execute(SWEEP, &[&judged]).map_err(failed)?;
            transaction.commit().map_err(failed)?;
        }
        Ok(())
    }
}

fn grant(row: &Row) -> Result<Grant, StoreError> {
    let number = |name| row.get::<_, i64>(name).cast_unsigned();
    let state = State::new(row.get("state"));
    Ok(Grant {
        epoch: number("epoch"),
        found: row.get("found"),
        snapshot: Snapshot {
            incarnation: number("incarnation"),
            step: number("step"),
            count: number("count"),
            state: state.map_err(|too_big| StoreError::Refused(too_big.to_string()))?,
        },
    })
}

/// What an error means. Its message has the cause, and no session.
#[expect(clippy::needless_pass_by_value, reason = "for `map_err`")]
fn failed(error: postgres::Error) -> StoreError {
    let Some(answer) = error.as_db_error() else {
        let cause = std::error::Error::source(&error);
        let cause = cause.map(|cause| format!(": {cause}")).unwrap_or_default();
        return StoreError::Away(format!("{error}{cause}"));
    };
    let reason = format!("{} ({})", answer.message(), answer.code().code());
    // The classes of errors that are about the values: a cardinality violation (21) is a session
    // that is twice in a batch, which the halves have once each.
    match &answer.code().code()[..2] {
        "21" | "22" | "23" | "54" => StoreError::Refused(reason),
        _ => StoreError::Away(reason),
    }
}
