//! Goal: the server obeys RFC 6455 in every point that an independent suite of protocol tests would
//! try: the opening handshake, framing, control frames, fragments, UTF-8, closing, limits.
//! Method: the built binary echoes; each case is bytes on a plain socket, and the bytes that must
//! come back. All cases are run, and those that fail are named at the end. Nothing here is a
//! WebSocket library: what a frame looks like is written in `wire` and in `support::frame`.

#![expect(
    clippy::expect_used,
    reason = "a test stops at the first thing that is not as it should be"
)]
#![expect(clippy::similar_names, reason = "a ping and its pong belong together")]

#[path = "conformance/case.rs"]
mod case;
#[path = "conformance/closing.rs"]
mod closing;
#[path = "conformance/control.rs"]
mod control;
#[path = "conformance/fragmentation.rs"]
mod fragmentation;
#[path = "conformance/framing.rs"]
mod framing;
#[path = "conformance/headers.rs"]
mod headers;
#[path = "conformance/limits.rs"]
mod limits;
#[path = "conformance/opening.rs"]
mod opening;
#[path = "support/mod.rs"]
#[expect(
    dead_code,
    reason = "it is shared with the other tests, which use more of it"
)]
mod support;
#[path = "conformance/utf8.rs"]
mod utf8;
#[path = "conformance/wire.rs"]
mod wire;

use case::Case;
use support::now;
use support::server::Server;

#[test]
fn rfc_6455() {
    let mut usual = Server::start("memory:", &["--app", "echo", "--web", "off"]);
    let mut small = Server::start(
        "memory:",
        &["--app=echo", "--web=off", "--max-message-size=1000"],
    );
    let large_flags = [
        "--app=echo",
        "--max-message-size=16MiB",
        "--max-outbound-bytes=64MiB",
    ];
    let mut large = Server::start("memory:", &large_flags);
    let families: [(&str, &Server, Vec<Case>); 11] = [
        ("opening handshake", &usual, opening::cases()),
        ("extensions", &usual, opening::extensions()),
        ("framing", &usual, framing::cases()),
        (
            "reserved bits, opcodes, masks, lengths",
            &usual,
            headers::cases(),
        ),
        ("pings and pongs", &usual, control::cases()),
        ("fragmentation", &usual, fragmentation::cases()),
        ("valid UTF-8", &usual, utf8::valid()),
        ("invalid UTF-8", &usual, utf8::invalid()),
        ("closing", &usual, closing::cases()),
        ("limits", &small, limits::small()),
        ("16 MiB and many messages", &large, limits::large()),
    ];
    let (mut total, mut failures) = (0, Vec::new());
    for (name, server, cases) in families {
        let began = now();
        let failed = case::run(server.address, &cases);
        let took = now().duration_since(began).as_millis();
        println!(
            "{:>6} cases, {:>4} failed, {took:>6} ms: {name}",
            cases.len(),
            failed.len()
        );
        total += cases.len();
        failures.extend(
            failed
                .into_iter()
                .map(|failure| format!("{name}: {failure}")),
        );
    }
    println!("{total} cases, {} failed", failures.len());
    assert!(failures.is_empty(), "\n{}\n", failures.join("\n"));
    for server in [&mut usual, &mut small, &mut large] {
        assert_eq!(server.stop().cut, 0, "every connection has ended before");
    }
}
