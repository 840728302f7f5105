//! Goal: a charge point is let in by its password, its frames are answered as OCPP-J 1.6 says, and a
//! call that comes again takes effect once, also after a SIGTERM or a `kill -9`.
//! Method: charge points by hand; `make test-ocpp` has those of the Python package `ocpp`.

use tempfile::TempDir;

use super::example;
use super::support::client::{Client, Event};
use super::support::frame::CLOSE;
use super::support::server::Server;
use super::support::store::Store;
use super::support::stream::{End, Stream};
use super::support::{PATIENCE, http};

/// `CP-1:first` and `CP-2:second`, in Base64.
const FIRST: &str = "Authorization: Basic Q1AtMTpmaXJzdA==";
const SECOND: &str = "Authorization: basic Q1AtMjpzZWNvbmQ=";
const OCPP: &str = "Sec-WebSocket-Protocol: ocpp1.5, ocpp1.6";

/// A central system, and the store that it has again after its end.
struct Central {
    store: Store,
    files: TempDir,
}

impl Central {
    fn new() -> Self {
        let files = TempDir::new().expect("a temporary directory");
        let file = files.path().join("charge-points");
        std::fs::write(file, "# two\n\nCP-1 first\nCP-2\tsecond\n").expect("a file");
        let store = Store::sqlite();
        Self { store, files }
    }

    #[track_caller]
    fn start(&self) -> Server {
        let file = self.files.path().join("charge-points");
        let flags = ["--charge-points", file.to_str().expect("a name")];
        Server::launch(example("ocpp"), &self.store.url(), &flags)
    }
}

#[track_caller]
fn connect(server: &Server, id: &str, authorization: &str) -> Client {
    let head = http::upgrade(&format!("/ocpp/{id}"), &[authorization, OCPP]);
    Client::dial(server.address, &head).expect("101")
}

/// The answer to a frame.
#[track_caller]
fn ask(client: &mut Client, frame: &str) -> String {
    client.text(frame);
    let Event::Text(answer) = client.meet() else {
        panic!("no answer to {frame}");
    };
    answer
}

fn start_of(id: &str, meter: u64) -> String {
    format!(
        r#"[2,"{id}","StartTransaction",{{"connectorId":1,"idTag":"tag","meterStart":{meter},"timestamp":"2026-01-01T00:00:00Z"}}]"#
    )
}

/// The number of a transaction that has begun, without the incarnation's millions.
#[track_caller]
fn number_in(answer: &str) -> u64 {
    let answer: serde_json::Value = serde_json::from_str(answer).expect("JSON");
    let number = answer[2]["transactionId"].as_u64();
    number.unwrap_or_else(|| panic!("no transaction: {answer}")) % 1_000_000
}

#[test]
fn who_is_let_in() {
    let central = Central::new();
    let mut server = central.start();
    for (path, more, status) in [
        ("/ocpp/CP-1", FIRST, 101),
        ("/ocpp/CP-2", SECOND, 101),
        ("/ocpp/CP-1", SECOND, 401),
        ("/ocpp/CP-1", "Authorization: Basic", 401),
        ("/ocpp/CP-1", "Authorization: Basic Q1AtMTpmaXJz", 401),
        ("/ocpp/CP-1", "X-Authorization: none", 401),
        ("/ocpp/CP-3", FIRST, 404),
        ("/ocpp/", FIRST, 404),
        ("/ws/chat/", FIRST, 404),
    ] {
        let mut stream = Stream::connect(server.address);
        stream.queue(http::upgrade(path, &[more, OCPP]).as_bytes());
        let answer = http::answer(&mut stream, PATIENCE).expect("an answer");
        assert_eq!(answer.status, status, "{path} {more}");
        let asks = (status == 401).then_some("Basic realm=\"charge points\"");
        assert_eq!(answer.header("WWW-Authenticate"), asks);
        let speaks = (status == 101).then_some("ocpp1.6");
        assert_eq!(answer.header("Sec-WebSocket-Protocol"), speaks);
    }
    let head = http::upgrade("/ocpp/CP-1", &[FIRST, "Sec-WebSocket-Protocol: ocpp2.0.1"]);
    let mut stranger = Client::dial(server.address, &head).expect("101");
    let reason = "offer the subprotocol ocpp1.6".to_owned();
    assert_eq!(stranger.meet(), Event::Close(1008, reason));
    server.stop();
}

#[test]
fn frames_are_answered_as_the_standard_says() {
    let central = Central::new();
    let mut server = central.start();
    let mut client = connect(&server, "CP-1", FIRST);
    for ignored in [
        "",
        "boot",
        "{}",
        "[]",
        "[2]",
        r#"[2,1,"Heartbeat",{}]"#,
        r#"[9,"1",{}]"#,
    ] {
        client.text(ignored);
    }
    let long = format!(r#"[2,"{}","Heartbeat",{{}}]"#, "x".repeat(37));
    for (frame, expected) in [
        (r#"[2,"1"]"#, r#"[4,"1","FormationViolation","",{}]"#),
        (
            r#"[2,"2","Heartbeat"]"#,
            r#"[4,"2","FormationViolation","",{}]"#,
        ),
        (
            r#"[2,"3","Heartbeat",[]]"#,
            r#"[4,"3","FormationViolation","",{}]"#,
        ),
        (
            r#"[2,"4","Authorize",{}]"#,
            r#"[4,"4","FormationViolation","",{}]"#,
        ),
        (
            r#"[2,"5","Charge",{}]"#,
            r#"[4,"5","NotImplemented","",{}]"#,
        ),
        (
            r#"[2,"6","Authorize",{"idTag":"tag"}]"#,
            r#"[3,"6",{"idTagInfo":{"status":"Accepted"}}]"#,
        ),
        (
            r#"[2,"7","StopTransaction",{"transactionId":-1,"meterStop":1,"timestamp":""}]"#,
            r#"[3,"7",{}]"#,
        ),
    ] {
        assert_eq!(ask(&mut client, frame), expected);
    }
    assert!(ask(&mut client, &long).contains("FormationViolation"));
    assert!(ask(&mut client, r#"[2,"8","Heartbeat",{}]"#).contains("currentTime"));
    client.send(r#"[3,"1",{"status":"Accepted"}]"#);
    server
        .log()
        .until(r#"CP-1 answers "1": [{"status":"Accepted"}]"#);
    client.binary(b"[]");
    assert_eq!(
        client.meet(),
        Event::Close(1003, "OCPP-J is text".to_owned())
    );
    server.stop();
}

/// The same call is answered in the same way, whichever server it comes to; a new call with an old id
/// is a new call.
#[test]
fn a_call_takes_effect_once() {
    let central = Central::new();
    let mut server = central.start();
    let mut client = connect(&server, "CP-1", FIRST);
    let first = ask(&mut client, &start_of("1", 10));
    assert_eq!(number_in(&first), 1);
    assert_eq!(ask(&mut client, &start_of("1", 10)), first);
    assert_eq!(number_in(&ask(&mut client, &start_of("1", 20))), 2);
    let heartbeat = ask(&mut client, r#"[2,"2","Heartbeat",{}]"#);
    server.kill();

    let mut server = central.start();
    let mut client = connect(&server, "CP-1", FIRST);
    assert_eq!(ask(&mut client, &start_of("1", 10)), first);
    assert_eq!(ask(&mut client, r#"[2,"2","Heartbeat",{}]"#), heartbeat);
    let mut other = connect(&server, "CP-2", SECOND);
    assert_eq!(number_in(&ask(&mut other, &start_of("1", 10))), 1);
    // After the goodbye: it is processed, and its answer cannot be sent.
    client.answers_close = false;
    server.terminate();
    assert_eq!(client.until_close().0, 1001);
    client.text(&start_of("late", 30));
    client.frame(CLOSE, &[]);
    assert_eq!(client.until_end(), End::Eof);
    other.until_closed(1001);
    assert_eq!(server.exits_with(0).late, 1);

    let mut server = central.start();
    let mut client = connect(&server, "CP-1", FIRST);
    assert_eq!(number_in(&ask(&mut client, &start_of("next", 40))), 4);
    assert_eq!(number_in(&ask(&mut client, &start_of("late", 30))), 3);
    client.leave();
    server.stop();
}

#[test]
fn the_file_of_charge_points_is_needed() {
    let files = TempDir::new().expect("a temporary directory");
    let file = files.path().join("charge-points");
    let file = file.to_str().expect("a name");
    for (text, expected) in [
        ("CP-1\n", "line 1: no password"),
        ("\nCP/1 secret\n", "line 2: not an id"),
    ] {
        std::fs::write(file, text).expect("a file");
        let (mut process, _dir) =
            Server::spawn(example("ocpp"), "memory:", &["--charge-points", file]);
        let (status, _) = process.wait(PATIENCE);
        assert_eq!(status.code(), Some(64));
        process.stderr.until(expected);
    }
    let (mut process, _dir) = Server::spawn(example("ocpp"), "memory:", &[]);
    assert_eq!(process.wait(PATIENCE).0.code(), Some(64));
    process.stderr.until("--charge-points FILE is missing");
}
