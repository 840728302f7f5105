//! Goal: what Redis loses of sessions that are open here is there again, though their clients say
//! nothing: after a renewal, and at the latest when the server has left.
//! Method: FLUSHDB under quiet clients.

use crate::support::client::Client;
use crate::support::eventually;
use crate::support::redis::Redis;
use crate::support::server::Server;

fn quiet_after_ten(server: &Server, session: &str) -> Client {
    let (mut client, _) = Client::v1(server, session);
    (1..=10).for_each(|n| assert_eq!(client.say("counted"), n));
    client
}

#[track_caller]
fn assert_resumes(redis: &Redis, session: &str) {
    let server = Server::start(&redis.url(), &[]);
    let (_, hello) = Client::v1(&server, session);
    assert_eq!((hello.count, hello.resumed), (10, true), "{session}");
}

#[test]
fn a_shutdown_saves_every_open_session_changed_or_not() {
    let redis = Redis::start();
    let mut server = Server::start(&redis.url(), &[]);
    let _first = quiet_after_ten(&server, "first");
    let _second = quiet_after_ten(&server, "second");
    redis.command(&["FLUSHDB"]);
    let report = server.stop();
    assert_eq!((report.saved, report.unsaved.len()), (2, 0));
    assert_resumes(&redis, "first");
    assert_resumes(&redis, "second");
}

#[test]
fn a_renewal_restores_it() {
    let redis = Redis::start();
    let mut server = Server::start(&redis.url(), &["--session-ttl", "8s"]);
    let _client = quiet_after_ten(&server, "quiet");
    redis.command(&["FLUSHDB"]);
    let restored =
        || format!("{:?}", redis.command(&["EXISTS", "sundown:session:quiet"])) == "int(1)";
    eventually("the session is there again", restored);
    server.kill();
    assert_resumes(&redis, "quiet");
}
