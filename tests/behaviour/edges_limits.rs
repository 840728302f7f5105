//! Goal: each limit does what it says to the one who reaches it, and to nobody else.
//! Method: a server with a small limit, a client that reaches it, and a witness who must not
//! notice.

use std::process::Command;

use crate::support::client::{Client, Event};
use crate::support::frame::{BINARY, PING, masked};
use crate::support::http::{self, get, upgrade};
use crate::support::said::Said;
use crate::support::server::{self, Server};
use crate::support::stream::{End, Stream};
use crate::support::{PATIENCE, eventually, ms, now, pause};

#[test]
fn a_slow_handshake_is_cut() {
    let server = Server::start("memory:", &["--handshake-timeout", "500ms"]);
    let mut witness = Client::plain(&server, "/ws/chat/");
    let begun = now();
    let mut silent = Stream::connect(server.address);
    let mut half = Stream::connect(server.address);
    half.queue(b"GET /ws/chat/ HTTP/1.1\r\n");
    // Bytes that trickle in do not buy time.
    let mut trickling = Stream::connect(server.address);
    trickling.queue(b"GET /ws/chat/ HTTP/1.1\r\nX-Slow: ");
    while trickling.end().is_none() {
        assert!(begun.elapsed() < PATIENCE, "it trickles for ever");
        trickling.queue(b"x");
        trickling.pump(now() + ms(20));
        pause(ms(20));
    }
    assert!(
        begun.elapsed() >= ms(500),
        "cut after {:?}",
        begun.elapsed()
    );
    for stream in [&mut silent, &mut half] {
        let answer = stream.hear_out();
        let told = answer.is_empty() || answer.starts_with("HTTP/1.1 408");
        assert!(told, "{answer}");
    }
    assert_eq!(witness.say("unaffected"), 1);
}

#[test]
fn an_idle_peer_is_pinged_and_then_cut() {
    let server = Server::start("memory:", &["--idle-timeout", "2s"]);
    let mut answering = Client::plain(&server, "/ws/chat/");
    // Whoever answers stays, for many times as long.
    let answering = std::thread::spawn(move || {
        let begun = now();
        let mut spoken = false;
        loop {
            match answering.next(ms(100)) {
                None | Some(Event::Ping(_)) => {}
                Some(other) => return other,
            }
            if begun.elapsed() >= ms(7_000) && !spoken {
                answering.text("still here");
                spoken = true;
            }
            assert!(begun.elapsed() < PATIENCE, "no reply");
        }
    });
    let mut silent = Client::plain(&server, "/ws/chat/");
    silent.answers_ping = false;
    let begun = now();
    assert!(matches!(silent.meet(), Event::Ping(_)));
    assert!(
        begun.elapsed() >= ms(450),
        "pinged after {:?}",
        begun.elapsed()
    );
    assert_eq!(silent.until_close(), (1001, "idle timeout".to_owned()));
    assert!(
        begun.elapsed() >= ms(1_950),
        "cut after {:?}",
        begun.elapsed()
    );
    assert_eq!(silent.until_end(), End::Eof);
    let reply = answering.join().expect("it stays");
    assert_eq!(reply, Event::Text("{\"count\":1}".to_owned()));
}

/// Replies count against the limit, and so do pongs, as everything does that waits.
#[test]
fn a_reader_too_slow_is_cut_and_others_are_not() {
    let (message, pings) = (vec![7; 64 << 10], masked(PING, &[7; 125]));
    for frames in [masked(BINARY, &message), pings.repeat(500)] {
        let flags = ["--app", "echo", "--max-outbound-bytes", "65536"];
        let server = Server::start("memory:", &flags);
        let mut witness = Client::plain(&server, "/");
        let mut slow = Client::plain(&server, "/");
        let before = server.resident_kib();
        server.forget_peak();
        // Sends until the server has had enough: the kernel's buffers come first.
        let begun = now();
        while !server.has_closed_a_slow_reader() {
            assert!(begun.elapsed() < PATIENCE, "it takes everything");
            slow.stream.queue(&frames);
            slow.stream.flush();
            witness.text("unaffected");
            assert_eq!(witness.meet(), Event::Text("unaffected".to_owned()));
        }
        let grown = server.peak_kib().saturating_sub(before);
        assert!(grown < 8 << 10, "it grew by {grown} KiB");
        // Told to go while it was not listening; now it listens.
        slow.until_closed(1008);
        witness.leave();
    }
}

/// More waits for it already than may, since one message is always taken: there is room for its
/// goodbye all the same, and it counts as one who was not drained.
#[test]
fn a_reader_without_room_gets_its_goodbye() {
    let flags = [
        "--app=echo",
        "--max-outbound-bytes=65536",
        "--max-message-size=33554432",
        "--drain-timeout=700ms",
        "--close-spread=0s",
    ];
    let mut server = Server::start("memory:", &flags);
    let mut witness = Client::plain(&server, "/");
    let mut full = Client::plain(&server, "/");
    full.stream.shrink_inbox();
    let message = vec![7; 16 << 20];
    full.binary(&message);
    full.stream.flush();
    eventually("all of it received", || {
        server.metric("messages_received_total") == Some(1)
    });
    server.terminate();
    // All goodbyes are said in the same turn.
    assert_eq!(witness.hear(), Said::Bye(0));
    assert_eq!(full.meet(), Event::Binary(message));
    assert_eq!(full.hear(), Said::Bye(1));
    for client in [&mut witness, &mut full] {
        client.until_closed(1001);
    }
    let report = server.exits_with(0);
    assert_eq!((report.byes, report.drained), (2, 1), "{report:?}");
    assert!(report.phases_ms.draining >= 100, "{report:?}");
}

/// No descriptor is left for `accept`: the loop backs off, serves those whom it has, and takes
/// the others when there is room.
#[test]
fn no_descriptors_left_is_no_spin() {
    let mut shell = Command::new("/bin/sh");
    shell.args(["-c", "ulimit -n 40; exec \"$0\" \"$@\"", server::BINARY]);
    let server = Server::launch(shell, "memory:", &["--max-connections", "1000"]);
    let mut inside = Vec::new();
    // Fills it up: the kernel completes these connections, whether they are accepted or not.
    let mut knocking: Vec<_> = (0..80).map(|_| Stream::connect(server.address)).collect();
    for stream in &mut knocking {
        stream.queue(upgrade("/ws/chat/", &[]).as_bytes());
        stream.flush();
    }
    let mut waiting = Vec::new();
    for mut stream in knocking {
        match http::answer(&mut stream, ms(20)) {
            Some(response) if response.status == 101 => inside.push(Client::over(stream)),
            Some(response) => assert_eq!(response.status, 503),
            None => waiting.push(stream),
        }
    }
    assert!(
        !waiting.is_empty(),
        "40 descriptors were enough for 80 clients"
    );

    let (before, begun) = (server.cpu_time(), now());
    pause(ms(1_000));
    let (used, window) = (server.cpu_time().saturating_sub(before), begun.elapsed());
    assert!(used < window / 5, "it used {used:?} in {window:?}");
    for client in &mut inside {
        assert_eq!(client.say("unaffected"), 1);
    }
    // Everyone has their turn as the others leave.
    let deadline = now() + PATIENCE;
    while let Some(client) = inside.pop() {
        client.leave();
        for mut stream in std::mem::take(&mut waiting) {
            match http::answer(&mut stream, ms(1)) {
                Some(response) => {
                    assert_eq!(response.status, 101);
                    inside.push(Client::over(stream));
                }
                None => waiting.push(stream),
            }
        }
        assert!(now() < deadline, "{} still wait", waiting.len());
    }
    for mut stream in waiting {
        let response = http::answer(&mut stream, PATIENCE).expect("room, and so an answer");
        assert_eq!(response.status, 101);
    }
    assert_eq!(get(server.address, "/healthz").status, 200);
}
