//! Goal: who answers the notice with `q` has left, and goes on elsewhere, while the server still
//! serves the others; it waits for nobody, and nobody waits for it.
//! Method: a client that leaves beside one that goes on, one that does not answer its Close, and
//! another server on the same Redis.

use crate::support::client::Client;
use crate::support::kinds::Told;
use crate::support::said::Said;
use crate::support::server::Server;
use crate::support::store::Store;

/// The notice, whose `reconnect_ms` is the client's slot.
#[track_caller]
fn slot(client: &mut Client) -> u64 {
    let told = client.told();
    let Told::Notice { reconnect_ms, .. } = told else {
        panic!("no notice, but {told:?}")
    };
    reconnect_ms
}

/// Goodbye and Close, and what remains of the wait.
#[track_caller]
fn farewell(client: &mut Client, total: u64) -> u64 {
    assert_eq!(client.told(), Told::Bye { total, sent: 0 });
    let (code, reason) = client.until_close();
    assert_eq!(code, 1001);
    let remains = reason.strip_prefix("server shutdown; retry-after-ms=");
    remains.expect("a wait").parse().expect("a number")
}

#[test]
fn who_is_ready_goes_on_elsewhere_while_others_are_served() {
    let store = Store::redis();
    // Only those who leave end the drain in time.
    let flags = ["--drain-timeout", "6s", "--drain-quiet", "6s"];
    let mut first = Server::start(&store.url(), &flags);
    let second = Server::start(&store.url(), &[]);
    let (mut talker, _) = Client::v1(&first, "talker");
    let (mut deaf, _) = Client::v2(&first, "deaf");
    let (mut ready, _) = Client::v2(&first, "ready");
    deaf.answers_close = false;
    first.terminate();
    let waits = [slot(&mut deaf), slot(&mut ready)];
    assert!(waits[0] <= waits[1], "{waits:?}");
    for client in [&mut deaf, &mut ready] {
        client.text("mlast");
        client.send("q");
    }
    for (client, wait) in [(&mut deaf, waits[0]), (&mut ready, waits[1])] {
        client.until_count(1);
        let remains = farewell(client, 1);
        assert!(remains <= wait, "{remains} of {wait}");
    }
    ready.until_end();
    assert!(matches!(talker.hear(), Said::Notice(_)));
    assert_eq!(talker.say("still there?"), 1);
    let (mut ready, again) = Client::v2(&second, "ready");
    assert_eq!((again.count, again.resumed), (1, true));
    ready.text("mmore");
    ready.until_count(2);
    assert_eq!(talker.say("still there?"), 2);
    talker.leave();
    deaf.close(1001);
    deaf.until_end();
    let report = first.exits_with(0);
    assert_eq!((report.byes, report.drained, report.cut), (2, 2, 0));
    assert_eq!((report.closed_1001, report.late), (2, 0));
}
