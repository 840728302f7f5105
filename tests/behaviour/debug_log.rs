//! Goal: `--log debug` has a line for each connection, each answer and each end with its code, and
//! no session's id; at `info` nothing that one client does is logged. Method: the same clients on
//! two servers, and their logs.

use crate::support::client::Client;
use crate::support::frame::CLOSE;
use crate::support::http::{exchange, upgrade};
use crate::support::server::Server;
use crate::support::stream::End;

const SECRET: &str = "only-the-client-knows";

/// What the log says of connections, when each kind of client has come and gone.
fn log_of_clients(level: &str) -> Vec<String> {
    let mut server = Server::start("memory:", &["--log", level]);
    let (first, _) = Client::v1(&server, SECRET);
    first.leave();
    let (mut again, _) = Client::v1(&server, SECRET);
    again.frame(0x83, b"");
    again.until_closed(1002);
    let mut silent = Client::plain(&server, "/ws/chat/");
    silent.stream.finish();
    silent.answers_close = false;
    assert_eq!(silent.until_end(), End::Eof);
    let mut bare = Client::plain(&server, "/ws/chat");
    bare.frame(CLOSE, b"");
    assert_eq!(bare.until_end(), End::Eof);
    for (path, status) in [
        (format!("/nowhere?session={SECRET}"), 404),
        ("/ws/chat/?session=a%20b".to_owned(), 400),
        (format!("/ws/chat/;session={SECRET}"), 404),
        (format!("/ws/chat/{SECRET}"), 404),
        (format!("/ws/chat;session={SECRET}"), 404),
        (format!("/astray/&session={SECRET}"), 404),
        (format!("/astray/%3Fsession={SECRET}"), 404),
    ] {
        let answer = exchange(server.address, upgrade(&path, &[]).as_bytes());
        assert_eq!(answer.status, status, "{path}");
    }
    assert_eq!(exchange(server.address, b"\x16\x03\x01 TLS").status, 400);
    let mut last = Client::plain(&server, "/ws/chat/");
    server.terminate();
    last.until_closed(1001);
    server.exit();
    server.log().all()
}

/// The messages about connections, without their numbers.
fn about_connections(log: &[String]) -> Vec<String> {
    let messages = log.iter().map(|line| {
        let line: serde_json::Value = serde_json::from_str(line).expect("JSON");
        line["message"].as_str().expect("a text").to_owned()
    });
    let about = messages.filter_map(|message| {
        let (number, said) = message.strip_prefix("connection ")?.split_once(": ")?;
        number.parse::<u32>().expect("a number");
        Some(said.to_owned())
    });
    about.collect()
}

#[test]
fn each_connection_has_its_lines_and_no_id_is_in_them() {
    let log = log_of_clients("debug");
    assert!(!log.concat().contains(SECRET), "{log:#?}");
    let said = about_connections(&log);
    let count = |part: &str| said.iter().filter(|said| said.contains(part)).count();
    for (part, times) in [
        ("101 for /ws/chat/, sundown.v1, session #", 2),
        ("101 for /ws/chat/, no subprotocol, session of no name", 2),
        ("101 for /ws/chat, no subprotocol", 1),
        ("Close 1000 by its peer", 1),
        ("Close 1002 by us: ", 1),
        ("Close 1005 by its peer", 1),
        ("Close 1001 by us: server shutdown", 1),
        ("lost, without a Close", 1),
        ("400, its request is bad", 1),
        ("404 for GET /nowhere", 1),
        ("400 for GET /ws/chat/", 1),
        ("404 for GET /ws/chat/ and 30 bytes more", 1),
        ("404 for GET /ws/chat/ and 21 bytes more", 1),
        ("404 for GET /ws/chat and 30 bytes more", 1),
        ("404 for GET /astray/ and ", 2),
    ] {
        assert_eq!(count(part), times, "{part} in {said:#?}");
    }
    let names: Vec<_> = said
        .iter()
        .filter_map(|said| said.split_once('#'))
        .collect();
    assert_eq!(names[0].1, names[1].1, "the same session has the same name");
    assert_eq!(names[0].1.len(), 8);
    // The last ones are those of the answers to health checks of the test itself.
    assert!(count("from 127.0.0.1:") >= 8, "{said:#?}");
}

#[test]
fn at_info_no_client_is_in_the_log() {
    let log = log_of_clients("info");
    assert_eq!(about_connections(&log), Vec::<String>::new());
    assert!(!log.concat().contains(SECRET), "{log:#?}");
}
