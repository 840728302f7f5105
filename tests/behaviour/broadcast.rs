//! Goal: what an operator says to everybody reaches every client of every node once, in order, and
//! the operator hears how many; nobody who does not read holds it up, nor does a frozen Redis; and
//! a server that shuts down says that it does not take it any more.
//! Method: `POST /broadcast` by hand and by the command, with one node, and with two on one Redis.

use std::net::SocketAddr;
use std::process::Output;

use crate::support::client::{Client, Event};
use crate::support::http::{self, Response, exchange, request};
use crate::support::redis::Redis;
use crate::support::said::Said;
use crate::support::server::{Server, run};
use crate::support::stream::Stream;
use crate::support::{PATIENCE, eventually, now};

#[track_caller]
fn post(admin: SocketAddr, json: &str) -> Response {
    exchange(admin, post_bytes(json).as_bytes())
}

fn post_bytes(json: &str) -> String {
    let len = json.len();
    format!("POST /broadcast HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len}\r\n\r\n{json}")
}

#[track_caller]
fn assert_queued(response: &Response, clients: usize) {
    let expected = format!("{{\"queued\":{clients}}}\n");
    assert_eq!((response.status, response.body.as_str()), (200, &*expected));
}

#[track_caller]
fn assert_hears(client: &mut Client, json: &str) {
    let expected = format!("{{\"broadcast\":{json}}}");
    assert_eq!(client.meet(), Event::Text(expected));
}

/// Waits until a node hears the others.
fn until_linked(server: &Server) {
    eventually("the nodes hear each other", || {
        server.metric("broadcast_link_up") == Some(1)
    });
}

/// Nodes on this Redis, each of which hears the others.
fn linked<const N: usize>(redis: &Redis) -> [Server; N] {
    let nodes = [(); N].map(|()| Server::start(&redis.url(), &[]));
    nodes.iter().for_each(until_linked);
    nodes
}

#[test]
fn every_client_hears_it_and_the_operator_how_many() {
    let server = Server::start("memory:", &[]);
    assert_queued(&post(server.admin, "1"), 0);
    let mut clients = [
        Client::plain(&server, "/ws/chat/"),
        Client::v1(&server, "ann").0,
        Client::v1(&server, "ben").0,
    ];
    for json in ["{\"text\": \"héllo\", \"n\":[1, 2]}", "\"again\"", "null"] {
        assert_queued(&post(server.admin, json), 3);
    }
    for client in &mut clients {
        assert_hears(client, "{\"text\": \"héllo\", \"n\":[1, 2]}");
        assert_hears(client, "\"again\"");
        assert_hears(client, "null");
        assert_eq!(client.say("still counted"), 1);
    }
}

#[test]
fn what_cannot_be_sent_is_refused_with_the_reason() {
    let server = Server::start("memory:", &[]);
    let mut witness = Client::plain(&server, "/ws/chat/");
    let check = |request: &str, status: u16, reason: &str| {
        let response = exchange(server.admin, request.as_bytes());
        assert_eq!(response.status, status, "{}", response.body);
        assert!(response.body.contains(reason), "{}", response.body);
    };
    check(&post_bytes("{} {}"), 400, "not JSON");
    check(&post_bytes(&"[".repeat(60_000)), 400, "not JSON");
    let head = "POST /broadcast HTTP/1.1\r\nHost: localhost\r\n";
    // A page in an operator's browser: it may post there without being asked.
    for field in ["Origin: https://evil.example", "Sec-Fetch-Site: cross-site"] {
        let by_a_page = format!("{head}{field}\r\nContent-Length: 1\r\n\r\n1");
        check(&by_a_page, 403, "not for web pages");
    }
    let wrong = request(server.admin, "GET", "/broadcast");
    assert_eq!((wrong.status, wrong.header("Allow")), (405, Some("POST")));
    let public = exchange(server.address, post_bytes("1").as_bytes());
    assert_eq!(public.status, 404, "it is for operators");
    assert_eq!(witness.say("nothing was heard"), 1);
}

#[test]
fn a_large_one_may_come_in_pieces_and_after_a_100() {
    let server = Server::start("memory:", &[]);
    let mut client = Client::plain(&server, "/ws/chat/");
    let json = format!("\"{}\"", "a".repeat((64 << 10) - 2));
    let mut stream = Stream::connect(server.admin);
    let len = json.len();
    let head = format!(
        "POST /broadcast HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len}\r\n\
         Expect: 100-continue\r\n\r\n"
    );
    stream.queue(head.as_bytes());
    let go_on = b"HTTP/1.1 100 Continue\r\n\r\n";
    let deadline = now() + PATIENCE;
    while stream.unread().len() < go_on.len() && now() < deadline {
        stream.pump(deadline);
    }
    assert_eq!(stream.unread(), go_on);
    stream.take(go_on.len());
    for piece in json.as_bytes().chunks(10_000) {
        stream.queue(piece);
        stream.flush();
    }
    let answer = http::answer(&mut stream, PATIENCE).expect("an answer");
    assert_queued(&answer, 1);
    assert_hears(&mut client, &json);
}

/// The deaf one is closed when its buffer is full, as with any other message.
#[test]
fn a_reader_that_does_not_read_holds_nobody_up() {
    let server = Server::start("memory:", &["--max-outbound-bytes", "65536"]);
    let mut witness = Client::plain(&server, "/ws/chat/");
    let deaf = Client::plain(&server, "/ws/chat/");
    let json = format!("\"{}\"", "a".repeat(60_000));
    eventually("it has been closed", || {
        assert_eq!(post(server.admin, &json).status, 200);
        assert_hears(&mut witness, &json);
        server.has_closed_a_slow_reader()
    });
    assert_queued(&post(server.admin, "1"), 1);
    assert_hears(&mut witness, "1");
    drop(deaf);
}

/// Who is closed for it is not told, and not counted.
#[test]
fn who_has_no_room_for_it_is_not_counted() {
    let server = Server::start("memory:", &["--max-outbound-bytes", "1024"]);
    let deaf = Client::plain(&server, "/ws/chat/");
    deaf.stream.shrink_window();
    let json = format!("\"{}\"", "a".repeat(60_000));
    let mut last = 1;
    eventually("it has been closed", || {
        let response = post(server.admin, &json);
        assert_eq!(response.status, 200);
        let queued = u8::from(response.body == "{\"queued\":1}\n");
        assert!(queued <= last, "{}", response.body);
        last = queued;
        server.has_closed_a_slow_reader()
    });
    assert_eq!(last, 0, "the one that had no room");
}

#[test]
fn a_server_that_shuts_down_takes_none() {
    let server = Server::start("memory:", &["--shutdown-delay", "2s"]);
    let mut witness = Client::plain(&server, "/ws/chat/");
    assert_queued(&post(server.admin, "1"), 1);
    assert_hears(&mut witness, "1");
    server.terminate();
    eventually("the shutdown has begun", || server.readiness() == 503);
    let refused = post(server.admin, "2");
    assert_eq!(refused.status, 503);
    assert!(refused.body.contains("shutting down"), "{}", refused.body);
    assert_eq!(witness.hear(), Said::Bye(0));
}

#[test]
fn every_node_on_one_redis_hears_it_once() {
    let redis = Redis::start();
    let nodes: [Server; 3] = linked(&redis);
    let mut clients = nodes
        .each_ref()
        .map(|node| Client::plain(node, "/ws/chat/"));
    for (round, node) in nodes.iter().enumerate() {
        let json = round.to_string();
        assert_queued(&post(node.admin, &json), 1);
        // The next is said when all have heard this one: across nodes there is no other order.
        for client in &mut clients {
            assert_hears(client, &json);
        }
    }
    for client in &mut clients {
        assert_eq!(client.say("none came twice"), 1);
    }
}

#[test]
fn nodes_with_different_channels_do_not_hear_each_other() {
    let redis = Redis::start();
    let blue = Server::start(&redis.url(), &["--broadcast-channel", "blue"]);
    let green = Server::start(&redis.url(), &["--broadcast-channel", "green"]);
    let last = Server::start(&redis.url(), &["--broadcast-channel", "green"]);
    [&blue, &green, &last].into_iter().for_each(until_linked);
    let mut client = Client::plain(&green, "/ws/chat/");
    assert_eq!(post(blue.admin, "\"blue\"").status, 200);
    // Behind the other one, if that had been for this channel.
    assert_eq!(post(last.admin, "\"green\"").status, 200);
    assert_hears(&mut client, "\"green\"");
}

#[test]
fn a_frozen_redis_holds_up_no_client_of_this_node() {
    let redis = Redis::start();
    let server = Server::start(&redis.url(), &[]);
    until_linked(&server);
    let mut client = Client::plain(&server, "/ws/chat/");
    redis.freeze();
    for round in 0..100 {
        let json = round.to_string();
        // It is queued here, and the answer says that this is all that is known.
        let response = post(server.admin, &json);
        let only_here = "queued for 1 client of this node only: other nodes are out of reach";
        assert_eq!(response.status, 503, "{}", response.body);
        assert!(response.body.contains(only_here), "{}", response.body);
        assert_hears(&mut client, &json);
    }
    redis.thaw();
}

/// More than may wait at a time, by many operators and from another node: what is answered with
/// success is heard by all.
#[test]
fn nothing_that_was_answered_with_success_is_dropped_on_the_way() {
    let redis = Redis::start();
    let nodes: [Server; 2] = linked(&redis);
    let mut clients = nodes
        .each_ref()
        .map(|node| Client::plain(node, "/ws/chat/"));
    let mut streams: Vec<Stream> = Vec::new();
    for n in 0..60 {
        let mut stream = Stream::connect(nodes[0].admin);
        stream.queue(post_bytes(&n.to_string()).as_bytes());
        stream.write();
        streams.push(stream);
    }
    // On this node, and on the other.
    let mut queued = [0, 0];
    for stream in &mut streams {
        let answer = http::answer(stream, PATIENCE).expect("an answer");
        assert!(matches!(answer.status, 200 | 503), "{}", answer.body);
        let everywhere = answer.status == 200;
        // Redis may be too slow for all of them: then the answer says so.
        queued[0] += u64::from(everywhere || answer.body.contains("of this node only"));
        queued[1] += u64::from(everywhere);
    }
    assert!(queued[1] >= 16, "{queued:?}");
    for (client, queued) in clients.iter_mut().zip(queued) {
        (0..queued).for_each(|_| assert!(matches!(client.meet(), Event::Text(_))));
        assert_eq!(client.say("and no more"), 1);
    }
}

#[test]
fn nodes_hear_each_other_again_when_redis_is_back() {
    let mut redis = Redis::start();
    let nodes: [Server; 2] = linked(&redis);
    let mut client = Client::plain(&nodes[1], "/ws/chat/");
    redis.kill();
    eventually("the link is down", || {
        nodes[1].metric("broadcast_link_up") == Some(0)
    });
    redis.restart();
    nodes.iter().for_each(until_linked);
    assert_eq!(post(nodes[0].admin, "\"back\"").status, 200);
    assert_hears(&mut client, "\"back\"");
}

fn command(admin: SocketAddr, json: &str) -> Output {
    run(&["broadcast", "--admin", &admin.to_string(), "--", json])
}

#[test]
fn the_command_says_it_and_tells_what_came_of_it() {
    let server = Server::start("memory:", &["--shutdown-delay", "2s"]);
    let mut client = Client::plain(&server, "/ws/chat/");
    let said = command(server.admin, "{\"a\":1}");
    assert_eq!(said.status.code(), Some(0));
    assert_eq!(said.stdout, b"{\"queued\":1}\n");
    assert_hears(&mut client, "{\"a\":1}");
    let refused = |json: &str, reason: &str| {
        let out = command(server.admin, json);
        assert_eq!(out.status.code(), Some(1));
        let line = String::from_utf8_lossy(&out.stderr).into_owned();
        assert!(line.contains(reason) && line.lines().count() == 1, "{line}");
    };
    refused(
        "hello",
        "400 Bad Request: not JSON: expected value at line 1",
    );
    server.terminate();
    eventually("the shutdown has begun", || server.readiness() == 503);
    refused("1", "503");
}
