//! Goal: an error of Redis that is about one session costs that session alone: its client is closed
//! with 1013, nobody else notices, the log does not grow with the attempts, and the report tells
//! the truth.
//! Method: something that is no session under a session's key. A Redis at `maxmemory` refuses in the
//! same way: `tests/redis_store`.

use tempfile::TempDir;

use crate::support::client::Client;
use crate::support::redis::Redis;
use crate::support::server::Server;

const EVIL: &str = "sundown:session:evil";

fn refused(server: &Server, session: &str) -> bool {
    let path = format!("/ws/chat/?session={session}");
    let mut client = Client::plain(server, &path);
    let (code, reason) = client.until_close();
    client.until_end();
    (code, reason.as_str()) == (1013, "session refused by the store; try again later")
}

#[test]
fn one_bad_key_is_one_clients_matter_however_often_it_comes() {
    let redis = Redis::start();
    redis.command(&["SET", EVIL, "x"]);
    let mut server = Server::start(&redis.url(), &[]);
    let (mut good, _) = Client::v1(&server, "good");
    for n in 1..=100 {
        assert!(refused(&server, "evil"));
        assert_eq!(good.say("in between"), n);
        assert_eq!(Client::v1(&server, &format!("new-{n}")).1.count, 0);
    }
    assert_eq!(server.readiness(), 200);
    let log = server.log();
    assert_eq!(log.count("the store is down"), 0);
    // One at once; another only after a minute. The log is written by a thread of its own.
    log.until("the store refuses a session");
    assert!((1..=3).contains(&log.count("the store refuses a session")));
    assert_eq!(log.count("evil"), 0, "a session id is a secret");
    assert_eq!(server.metric("store_refused_sessions_total"), Some(100));
    drop(good);
    assert_eq!(server.stop().unsaved, []);
}

/// A key that is overwritten under an open session.
#[test]
fn what_redis_does_not_take_of_one_session_goes_into_the_spill_or_is_named() {
    let dir = TempDir::new().expect("a temporary directory");
    let spill = format!("sqlite:{}", dir.path().join("spill.db").display());
    let nowhere = format!("sqlite:{}", dir.path().join("no/spill.db").display());
    for (spill, is_safe) in [(&nowhere, false), (&spill, true)] {
        let redis = Redis::start();
        let flags = ["--durability", "relaxed", "--spill", spill];
        let short = ["--drain-timeout", "500ms", "--persist-timeout", "1s"];
        let mut server = Server::start(&redis.url(), &[&flags[..], &short].concat());
        let (mut evil, _) = Client::v1(&server, "evil");
        let (mut good, _) = Client::v1(&server, "good");
        assert_eq!((evil.say("one"), good.say("one")), (1, 1));
        redis.command(&["SET", EVIL, "x"]);
        assert_eq!((evil.say("two"), good.say("two")), (2, 2));
        assert_eq!(evil.until_close().0, 1013);
        server.terminate();
        good.until_closed(1001);
        let report = server.exits_with(i32::from(!is_safe));
        assert_eq!(report.spilled, u64::from(is_safe), "{report:?}");
        let named: Vec<_> = report
            .unsaved
            .iter()
            .map(|row| (&*row.session, row.count))
            .collect();
        assert_eq!(named, if is_safe { vec![] } else { vec![("evil", 2)] });
        if !is_safe {
            continue;
        }
        // The row is set aside, and the next server serves.
        let mut next = Server::start(&redis.url(), &flags);
        let stays = "1 sessions, which stay in the file: WRONGTYPE";
        next.log().until(stays);
        assert!(refused(&next, "evil"));
        assert_eq!(Client::v1(&next, "good").1.count, 2);
        next.stop();
        redis.command(&["DEL", EVIL]);
        let last = Server::start(&redis.url(), &flags);
        assert_eq!(Client::v1(&last, "evil").1.count, 2);
    }
}
