//! Sessions of sundown in Postgres: a [`BlockingStore`] on the crate `postgres`.
//!
//! A claim, a commit without pushes and a sweep are one statement each, for any number of sessions;
//! a push is one, too. They are in the files beside this one. Any number of nodes may share a
//! database, and notify each other of pushes. It must never grant an epoch or a push's number twice:
//! the statements hold each row's lock, and a sweep excludes claims. Every transaction locks rows in
//! the same order, so that none waits for another in a circle.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use postgres::config::Host;
use postgres::fallible_iterator::FallibleIterator as _;
use postgres::{Client, Config, NoTls, Row, Statement, Transaction};
use sundown::store::expiry::Times;
use sundown::store::{Claim, Commit, Grant, Mail, Pushed, ReadMailbox, Snapshot};
use sundown::{BlockingStore, Committed, SessionId, StoreError};
use sundown::{Body, Mailbox, PushRefused, State};

const SCHEMA: &str = include_str!("schema.sql");
const CLAIM: &str = include_str!("claim.sql");
const COMMIT: &str = include_str!("commit.sql");
const SWEEP: &str = include_str!("sweep.sql");
const PUSH: &str = include_str!("push.sql");
const CONFIRM: &str = include_str!("confirm.sql");

/// Of an expired session that begins anew.
const DROP_FORMER: &str = "DELETE FROM sundown_mailbox USING sundown_sessions AS held
    WHERE sundown_mailbox.session = held.session AND held.sent = 0 AND held.session = ANY($1)";
const KEPT: &str = "SELECT session, is_binary, body FROM sundown_mailbox
    WHERE session = ANY($1) ORDER BY session, number";
/// One statement: a session with its pushes, or a row of nulls without any.
const READ: &str = "SELECT sent, is_binary, body
    FROM sundown_sessions LEFT JOIN sundown_mailbox USING (session)
    WHERE session = $1 AND expires_ms > $2 ORDER BY number";
const LOCK: &str = r#"SELECT session, epoch, step FROM sundown_sessions
    WHERE session = ANY($1) ORDER BY session COLLATE "C" FOR UPDATE"#;

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
    push: Statement,
    confirm: Statement,
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
        client
            .batch_execute("LISTEN sundown_mail")
            .map_err(failed)?;
        Ok(Self {
            claim: client.prepare(CLAIM).map_err(failed)?,
            commit: client.prepare(COMMIT).map_err(failed)?,
            push: client.prepare(PUSH).map_err(failed)?,
            confirm: client.prepare(CONFIRM).map_err(failed)?,
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
        let dropped = transaction.execute(DROP_FORMER, &[&sessions]);
        dropped.map_err(failed)?;
        let mut kept = kept(&mut transaction, &rows)?;
        transaction.commit().map_err(failed)?;
        let grants = rows.iter().map(|row| {
            let session: &str = row.get("session");
            let kept = kept.remove(session).unwrap_or_default();
            Ok((session, grant(row, kept)?))
        });
        let mut grants = grants.collect::<Result<HashMap<&str, Grant>, StoreError>>()?;
        let grants = sessions.iter().filter_map(|session| grants.remove(session));
        Ok(grants.collect())
    }

    fn commit(&mut self, batch: &[Commit], times: Times) -> Result<Committed, StoreError> {
        let mut transaction = self.client.transaction().map_err(failed)?;
        let mut committed = Committed::default();
        if batch.iter().all(|commit| commit.mail.is_none()) {
            let rows = take(&mut transaction, &self.commit, batch, times)?;
            let taken: HashSet<(&str, i64)> =
                rows.iter().map(|row| (row.get(0), row.get(1))).collect();
            let is_fenced = |commit: &Commit| {
                !taken.contains(&(commit.session.as_str(), commit.epoch.cast_signed()))
            };
            let commits = batch.iter().enumerate();
            let fenced = commits.filter(|(_, commit)| is_fenced(commit));
            committed.fenced = fenced.map(|(position, _)| position).collect();
            committed.mail = rows.iter().filter_map(mail_of).collect();
        } else {
            let mut held = lock(&mut transaction, batch)?;
            for (position, commit) in batch.iter().enumerate() {
                let one = std::slice::from_ref(commit);
                let rows = take(&mut transaction, &self.commit, one, times)?;
                let Some(row) = rows.first() else {
                    committed.fenced.push(position);
                    continue;
                };
                committed.mail.extend(mail_of(row));
                let session = commit.session.as_str();
                let (epoch, step) = (commit.epoch, commit.snapshot.step);
                let before = held.get(session).filter(|(held, _)| *held == epoch);
                let before = before.map(|(_, step)| *step);
                held.insert(session, (epoch, before.unwrap_or(0).max(step)));
                let Some(mail) = &commit.mail else { continue };
                if mail.confirmed > 0 {
                    let number = mail.confirmed.cast_signed();
                    let confirmed = transaction.execute(&self.confirm, &[&session, &number]);
                    confirmed.map_err(failed)?;
                }
                let pushed = push(&mut transaction, &self.push, mail, before, times)?;
                committed.pushed.extend(pushed);
            }
        }
        transaction.commit().map_err(failed)?;
        Ok(committed)
    }

    fn read(&mut self, read: &ReadMailbox, times: Times) -> Result<Mailbox, StoreError> {
        let judged = times.judged_ms.cast_signed();
        let rows = self.client.query(READ, &[&read.session.as_str(), &judged]);
        let rows = rows.map_err(failed)?;
        let sent = rows.first().map_or(0, |row| row.get::<_, i64>("sent"));
        let kept = rows.iter().filter_map(body);
        Ok(Mailbox::new(sent.cast_unsigned(), kept))
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

    /// What the database has notified us of, which came with the answers to other statements.
    fn news(&mut self) -> Result<Vec<(SessionId, u64)>, StoreError> {
        let mut notifications = self.client.notifications();
        let mut notifications = notifications.iter();
        let mut news = Vec::new();
        while let Some(notification) = notifications.next().map_err(failed)? {
            if let Some((session, sent)) = notification.payload().split_once(' ')
                && let (Ok(session), Ok(sent)) = (SessionId::parse(session), sent.parse())
            {
                news.push((session, sent));
            }
        }
        Ok(news)
    }
}

/// Commits these; returns the rows of what is not fenced.
fn take(
    transaction: &mut Transaction<'_>,
    statement: &Statement,
    batch: &[Commit],
    times: Times,
) -> Result<Vec<Row>, StoreError> {
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
    let rows = transaction.query(
        statement,
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
    rows.map_err(failed)
}

/// Locks the rows of a batch and of what it pushes to. Returns the epoch and the step of each.
fn lock<'a>(
    transaction: &mut Transaction<'_>,
    batch: &'a [Commit],
) -> Result<HashMap<&'a str, (u64, u64)>, StoreError> {
    let targets = batch.iter().flat_map(Commit::pushes).map(|push| &push.to);
    let sessions = batch.iter().map(|commit| &commit.session).chain(targets);
    let sessions: HashSet<&str> = sessions.map(SessionId::as_str).collect();
    let rows = transaction.query(LOCK, &[&sessions.iter().collect::<Vec<_>>()]);
    let rows = rows.map_err(failed)?;
    let number = |row: &Row, name| row.get::<_, i64>(name).cast_unsigned();
    let held = rows.iter().filter_map(|row| {
        let session = sessions.get(row.get::<_, &str>("session"))?;
        Some((*session, (number(row, "epoch"), number(row, "step"))))
    });
    Ok(held.collect())
}

/// Carries out the pushes of steps after this one.
fn push(
    transaction: &mut Transaction<'_>,
    statement: &Statement,
    mail: &Mail,
    before: Option<u64>,
    times: Times,
) -> Result<Vec<Pushed>, StoreError> {
    let (expires, judged) = (
        times.expires_ms.cast_signed(),
        times.judged_ms.cast_signed(),
    );
    let limits = [Mailbox::LEN_MAX, Mailbox::BYTES_MAX];
    let [len_max, bytes_max] = limits.map(|limit| i64::try_from(limit).unwrap_or(i64::MAX));
    let outcomes = mail.pushes.iter().map(|push| {
        if before.is_some_and(|step| push.step <= step) {
            return Ok(Pushed::Before);
        }
        let row = transaction.query_opt(
            statement,
            &[
                &push.to.as_str(),
                &push.body.is_binary(),
                &push.body.as_bytes(),
                &expires,
                &judged,
                &len_max,
                &bytes_max,
            ],
        );
        Ok(match row.map_err(failed)?.map(|row| row.get::<_, i64>(0)) {
            None => Pushed::Refused(PushRefused::Unknown),
            Some(0) => Pushed::Refused(PushRefused::Full),
            Some(number) => Pushed::Accepted(number.cast_unsigned()),
        })
    });
    outcomes.collect()
}

/// The pushes that are kept for these sessions.
fn kept(
    transaction: &mut Transaction<'_>,
    rows: &[Row],
) -> Result<HashMap<String, Vec<Body>>, StoreError> {
    let mail = rows.iter().filter_map(mail_of);
    let sessions: Vec<_> = mail.map(|(session, _)| session.to_string()).collect();
    let mut kept = HashMap::new();
    if sessions.is_empty() {
        return Ok(kept);
    }
    for row in transaction.query(KEPT, &[&sessions]).map_err(failed)? {
        let bodies: &mut Vec<Body> = kept.entry(row.get("session")).or_default();
        bodies.extend(body(&row));
    }
    Ok(kept)
}

/// A session that has pushes, and the number of the latest.
fn mail_of(row: &Row) -> Option<(SessionId, u64)> {
    let sent: i64 = row.get("sent");
    let session = SessionId::parse(row.get("session")).ok()?;
    (sent > 0).then_some((session, sent.cast_unsigned()))
}

fn body(row: &Row) -> Option<Body> {
    let is_binary = row.get::<_, Option<bool>>("is_binary")?;
    Body::of(row.get("body"), is_binary)
}

fn grant(row: &Row, kept: Vec<Body>) -> Result<Grant, StoreError> {
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
        mailbox: Mailbox::new(number("sent"), kept),
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
