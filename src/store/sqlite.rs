//! Sessions in sqlite.
