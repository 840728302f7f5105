//! Goal: behind each proxy an instance knows the address of each client, and believes nobody else:
//! by `X-Forwarded-For` with the files as they are shipped, and behind haproxy by a PROXY header of
//! either version, with the words that docs/deploy has for that; its health checks pass, and a stop
//! cuts nobody.
//! Method: clients from two loopback addresses, one of whom writes the field; the log at debug.

use crate::fleet::session::Habit;
use crate::fleet::{Fleet, plans};
use crate::proxy::{Change, Kind};
use crate::site::{Ground, Site};
use crate::stops::assess;
use crate::support::client::Client;
use crate::support::eventually;
use crate::support::http;

const FORGED: &str = "X-Forwarded-For: 192.0.2.1";

/// A site whose instances know one client from another address by this.
#[track_caller]
fn check(kind: Kind, flags: &[&str], changes: &[Change], port: &str, by: &str) -> Site {
    let site = Site::start_with(kind, &[flags, &["--log", "debug"]].concat(), changes);
    let client = |at| {
        let head = http::upgrade("/ws/chat/", &[FORGED]);
        Client::dial(at, &head).expect("101")
    };
    let (here, elsewhere) = (
        client(site.ground.doors.here),
        client(site.ground.doors.elsewhere),
    );
    let count = |words: &str| -> usize {
        let counts = site.servers.iter().map(|server| server.log().count(words));
        counts.sum()
    };
    let named = format!("its client is 127.0.0.2:{port}");
    eventually("the client is named", || {
        count(&named) == 1 && count(by) > 1
    });
    assert_eq!(count("192.0.2.1"), 0, "nobody believes the client");
    here.leave();
    elsewhere.leave();
    for server in &site.servers {
        let refused = server.metric("http_responses_total{code=\"400\",listener=\"public\"}");
        assert_eq!(refused.unwrap_or(0), 0);
        let refused = server.metric("http_responses_total{code=\"400\",listener=\"admin\"}");
        assert_eq!(refused.unwrap_or(0), 0);
    }
    site
}

#[track_caller]
fn check_forwarded(kind: Kind) {
    check(
        kind,
        &["--trusted-proxies=127.0.0.1"],
        &[],
        "0, by X-Forwarded-For",
        "X-Forwarded-For",
    );
}

#[test]
fn haproxy_forwards_the_address() {
    check_forwarded(Kind::HaProxy);
}

#[test]
fn nginx_forwards_the_address() {
    check_forwarded(Kind::Nginx);
}

#[test]
fn caddy_forwards_the_address() {
    check_forwarded(Kind::Caddy);
}

#[test]
fn the_proxy_of_the_compose_file_forwards_the_address() {
    check_forwarded(Kind::Compose);
}

/// The test itself asks from 127.0.0.1, and haproxy from here.
const SOURCE: &str = "127.0.0.3";

/// What stands behind an instance's address in the file.
fn line(word: &str) -> String {
    format!(" {word} source {SOURCE} check check-send-proxy port")
}

/// Of an instance that waits for a header.
fn flags() -> [String; 2] {
    let trusted = format!("--trusted-proxies={SOURCE}");
    ["--proxy-protocol=on".to_owned(), trusted]
}

#[track_caller]
fn check_header(word: &str) {
    let change = (" check port".to_owned(), line(word));
    let flags = flags();
    let flags = flags.each_ref().map(String::as_str);
    let mut site = check(Kind::HaProxy, &flags, &[change], "", "by the PROXY header");

    let fleet = Fleet::gather(
        &[site.ground.doors.here],
        plans("header", 20, Habit::Steady),
    );
    fleet.flow(100);
    let stopped = site.servers[0].stop();
    assert!(stopped.connections > 0, "nobody was there: {stopped:?}");
    fleet.until_all_open();
    fleet.flow(100);
    assess(&fleet.finish());
}

#[test]
fn haproxy_sends_a_header_of_version_1() {
    check_header("send-proxy");
}

#[test]
fn haproxy_sends_a_header_of_version_2() {
    check_header("send-proxy-v2");
}

/// It is turned on for one of the two, and in the wrong order at first.
#[test]
fn an_instance_that_does_not_agree_with_haproxy_gets_no_client_and_one_that_does_gets_all() {
    let ground = Ground::prepare_with(Kind::HaProxy, |[blue, _]| {
        let blue = blue.listen;
        let change = format!("{blue}{}", line("send-proxy-v2"));
        vec![(format!("{blue} check port"), change)]
    });
    let mut green = ground.launch(1, &[]);
    ground.until_reached(1);
    let mut blue = ground.launch(0, &[]);
    let refused = "http_responses_total{code=\"400\",listener=\"admin\"}";
    eventually("its check has failed", || blue.metric(refused) > Some(1));
    let doors = [ground.doors.here];
    let fleet = Fleet::gather(&doors, plans("agree", 20, Habit::Steady));
    fleet.flow(100);
    assert_eq!(blue.stop().connections, 0);

    blue = ground.launch(0, &flags());
    ground.until_reached(0);
    assert_eq!(green.stop().connections, 20);
    fleet.until_all_open();
    fleet.flow(100);
    assess(&fleet.finish());
    blue.stop();
}
