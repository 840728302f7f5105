//! Goal: a client that says nothing stays, since the server's ping comes before a proxy loses
//! patience.
//! Method: the time-outs of the shipped file and the server's, both scaled down alike; then more than
//! the proxy's time-out passes.

use std::time::Duration;

use crate::proxy::Kind;
use crate::site::Site;
use crate::support::client::{Client, Event};
use crate::support::{http, now};

/// In place of 2 minutes, which are the server's `--idle-timeout` as well.
const PROXY: Duration = Duration::from_secs(8);

#[track_caller]
fn check(kind: Kind, time_outs: &[&str]) {
    let changes: Vec<(String, String)> = time_outs
        .iter()
        .map(|&from| (from.to_owned(), from.replace("2m", "8s")))
        .collect();
    let site = Site::start_with(
        kind,
        &["--heartbeat", "0s", "--idle-timeout", "8s"],
        &changes,
    );
    let head = http::upgrade("/ws/chat/", &[]);
    let mut client = Client::dial(site.ground.doors.here, &head).expect("101");
    let over = now() + PROXY * 3 / 2;
    while let Some(left) = over.checked_duration_since(now()) {
        match client.next(left) {
            None | Some(Event::Ping(_)) => {}
            Some(other) => panic!("{other:?}"),
        }
    }
    client.leave();
}

#[test]
fn a_quiet_client_stays_behind_haproxy() {
    check(Kind::HaProxy, &["timeout tunnel 2m"]);
}

#[test]
fn a_quiet_client_stays_behind_nginx() {
    check(
        Kind::Nginx,
        &["proxy_read_timeout 2m", "proxy_send_timeout 2m"],
    );
}

#[test]
fn a_quiet_client_stays_behind_caddy() {
    // It has no time-out for an open WebSocket.
    check(Kind::Caddy, &[]);
}
