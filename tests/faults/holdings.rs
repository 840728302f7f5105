//! What a store holds of sessions of `examples/chain.rs`, asked of it past the server, and what it
//! must hold.

use std::collections::BTreeMap;

use redis::Value;

use super::fleet::letters::Says;
use super::resp::Resp;
use crate::support::store::Store;

/// A session in the store.
#[derive(Clone, Debug, Default)]
pub(crate) struct Held {
    /// Messages that sundown has counted.
    pub(crate) count: u64,
    /// Messages that the service has seen, by its own count.
    pub(crate) seen: u64,
    state: Vec<u8>,
}

pub(crate) type Holdings = BTreeMap<String, Held>;

impl Held {
    fn new(count: u64, state: Vec<u8>) -> Self {
        let seen = state.first_chunk().copied().map_or(0, u64::from_le_bytes);
        Self { count, seen, state }
    }

    /// Whether the service has seen each message that was counted, once and in order, as the fleet's
    /// client of this session sends them.
    pub(crate) fn is_whole(&self, session: &str, says: Says) -> bool {
        if self.count == 0 {
            return self.state.is_empty();
        }
        let begin = hash(&[session.as_bytes()]);
        let hash = (1..=self.count).fold(begin, |before, number| {
            hash(&[&before, says.body(session, number).as_bytes()])
        });
        self.state == [self.count.to_le_bytes(), hash].concat()
    }
}

/// FNV-1a.
fn hash(parts: &[&[u8]]) -> [u8; 8] {
    let bytes = parts.iter().copied().flatten();
    let hash = bytes.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    });
    hash.to_le_bytes()
}

/// What the store has of these sessions.
#[track_caller]
pub(crate) fn of<'a>(store: &Store, sessions: impl Iterator<Item = &'a str>) -> Holdings {
    match store {
        Store::Redis(redis) => in_redis(redis.port(), sessions),
        Store::Sqlite(_) => in_sqlite(&store.url()),
        Store::Memory => unreachable!("it is gone with the server"),
    }
}

#[track_caller]
pub(crate) fn in_redis<'a>(port: u16, sessions: impl Iterator<Item = &'a str>) -> Holdings {
    let mut redis = Resp::connect(port);
    let held = |session: &str| {
        let answer = redis.ask(&format!("HMGET sundown:session:{session} n s"));
        let Value::Array(fields) = answer else {
            panic!("no fields, but {answer:?}");
        };
        let mut fields = fields.into_iter().map(|field| match field {
            Value::BulkString(bytes) => bytes,
            Value::Nil => Vec::new(),
            other => panic!("no field, but {other:?}"),
        });
        let digits = fields.next().expect("a count");
        let count = match &*String::from_utf8_lossy(&digits) {
            "" => 0,
            digits => digits.parse().expect("a number"),
        };
        let state = fields.next().expect("a state");
        (session.to_owned(), Held::new(count, state))
    };
    sessions.map(held).collect()
}

/// All of this file, a store's URL.
#[track_caller]
pub(crate) fn in_sqlite(store: &str) -> Holdings {
    let path = store.strip_prefix("sqlite:").expect("a store of SQLite");
    let file = rusqlite::Connection::open(path).expect("the server's file");
    let mut rows = file
        .prepare("SELECT id, count, state FROM session")
        .expect("the server's table");
    let rows = rows.query_map([], |row| {
        Ok((row.get(0)?, row.get::<_, i64>(1)?, row.get(2)?))
    });
    let held = rows.expect("its rows").map(|row| {
        let (session, count, state) = row.expect("a session");
        let count = u64::try_from(count).expect("a count");
        (session, Held::new(count, state))
    });
    held.collect()
}
