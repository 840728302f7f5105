//! Goal: every way to name a Redis works: password, user and password, database, unix socket.
//! Method: a redis-server that demands it; a session written through one server is there in the
//! next, and a database of another number does not have it.

use crate::support::client::Client;
use crate::support::redis::Redis;
use crate::support::server::Server;
use crate::support::{ms, pause};

#[track_caller]
fn check(url: &str) {
    let mut first = Server::start(url, &[]);
    let line = first
        .process
        .stdout
        .all()
        .into_iter()
        .find(|line| line.starts_with("store "));
    let line = line.expect("the start-up line of the store");
    assert!(!line.contains("secret"), "{line}");
    let (mut client, _) = Client::v1(&first, "named");
    assert_eq!(client.say("one"), 1);
    client.leave();
    first.stop();
    let second = Server::start(url, &[]);
    assert_eq!(Client::v1(&second, "named").1.count, 1);
}

#[test]
fn with_a_password() {
    let redis = Redis::with(&["--requirepass", "secret"]);
    check(&format!("redis://:secret@127.0.0.1:{}", redis.port()));
}

#[test]
fn with_a_user_and_a_password() {
    let users = "--user default off --user bob on >secret ~* &* +@all";
    let redis = Redis::with(&users.split(' ').collect::<Vec<_>>());
    check(&format!("redis://bob:secret@127.0.0.1:{}", redis.port()));
}

#[test]
fn with_a_host_name_and_a_database() {
    let redis = Redis::start();
    check(&format!("redis://localhost:{}/3", redis.port()));
    let same = Server::start(&format!("redis://localhost:{}?db=3", redis.port()), &[]);
    assert_eq!(Client::v1(&same, "named").1.count, 1);
    let other = Server::start(&format!("redis://localhost:{}/4", redis.port()), &[]);
    assert_eq!(Client::v1(&other, "named").1.count, 0);
}

#[test]
fn over_a_unix_socket() {
    let redis = Redis::with(&["--unixsocket", "redis.sock"]);
    check(&format!(
        "redis+unix://{}",
        redis.dir().join("redis.sock").display()
    ));
}

/// A wrong password is not an answer: the server serves, is not ready, and leaves when told to.
#[test]
fn with_a_wrong_password_it_is_never_ready() {
    let redis = Redis::with(&["--requirepass", "secret"]);
    let url = format!("redis://:wrong@127.0.0.1:{}", redis.port());
    let mut server = Server::start_unready(&url, &[]);
    for _ in 0..20 {
        assert_eq!(server.readiness(), 503);
        pause(ms(20));
    }
    server.stop();
    assert!(
        !server.process.stderr.all().concat().contains("wrong@"),
        "the password is logged"
    );
}
