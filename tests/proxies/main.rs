//! Proxies: `make check-proxies`.
//!
//! Goal: each configuration of docs/deploy/proxies does what it says. A stop of one instance cuts
//! nobody and refuses nobody; one address cannot take every seat, nor behind the proxy of
//! docker/compose.yml; a quiet client stays; session ids stay out of the logs.
//! Method: Debian's own haproxy, nginx and caddy with the file as it is shipped, but for addresses,
//! the certificate and the place of its log; two instances of the built binary behind it on one
//! SQLite file; clients over TLS that check the certificate.

#![expect(
    clippy::expect_used,
    reason = "a test stops at the first thing that is not as it should be"
)]

#[path = "../fleet/mod.rs"]
#[expect(dead_code, reason = "it is shared with the campaign, which uses more")]
mod fleet;
#[path = "../support/mod.rs"]
#[expect(
    dead_code,
    reason = "it is shared with the other tests, which use more of it"
)]
mod support;

mod addresses;
mod limits;
mod proxy;
mod quiet;
mod site;
mod sockets;
mod stops;
