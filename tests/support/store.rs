//! The three stores, so that a test can be run on each; what backs them lives as long as this.

use tempfile::TempDir;

use super::redis::Redis;

pub(crate) enum Store {
    Memory,
    Sqlite(TempDir),
    Redis(Redis),
}

impl Store {
    pub(crate) fn sqlite() -> Self {
        Self::Sqlite(TempDir::new().expect("a temporary directory"))
    }

    #[track_caller]
    pub(crate) fn redis() -> Self {
        Self::Redis(Redis::start())
    }

    /// For `--store`.
    pub(crate) fn url(&self) -> String {
        match self {
            Self::Memory => "memory:".to_owned(),
            Self::Sqlite(dir) => format!("sqlite:{}", dir.path().join("sundown.db").display()),
            Self::Redis(redis) => redis.url(),
        }
    }
}
