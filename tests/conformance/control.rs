//! Sections 5.5.2 and 5.5.3: pings are answered, in order and with their payload; pongs are not.
//!
//! Section 5.5.3 would let a server answer only the last of several pings. This one answers each.

use super::case::{Case, every_way};
use super::wire::{BINARY, PING, PONG, TEXT, answer, frame, last, noise_of, part, text_of};

pub(crate) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    let payloads = [
        ("nothing", Vec::new()),
        ("a text", b"Hello, world!".to_vec()),
        (
            "bytes that are no text",
            b"\x00\xff\xfe\xfd\xfc\xfb\x00\xff".to_vec(),
        ),
        ("124 bytes", noise_of(124)),
        ("125 bytes", noise_of(125)),
        ("125 bytes of text", text_of(125)),
    ];
    for (what, payload) in &payloads {
        let (ping, pong) = (frame(PING, payload), answer(PONG, payload));
        let name = format!("a ping with {what}");
        cases.extend(every_way(&name, &ping, |case| case.hear(&pong)));
        let mut ten = Case::new(name + ", ten times, each after the answer");
        for _ in 0..10 {
            ten = ten.send(&ping).hear(&pong);
        }
        cases.push(ten);

        // Section 5.5.3: unsolicited pongs are a heartbeat, and no answer is expected.
        let unsolicited = frame(PONG, payload);
        let name = format!("a pong with {what} that nobody asked for");
        cases.extend(every_way(&name, &unsolicited, |case| case));
        let then_ping = [unsolicited.as_slice(), &ping].concat();
        let case = |how: &str| Case::new(format!("{name}{how}"));
        cases.push(case(", then a ping").send(then_ping).hear(&pong));
        let among = [frame(TEXT, "a"), unsolicited, frame(TEXT, "b")].concat();
        cases.push(
            case(", among messages")
                .send(among)
                .hear(answer(TEXT, "a"))
                .hear(answer(TEXT, "b")),
        );
    }
    for len in [126, 127, 128, 1_000, 65_535, 65_536] {
        for (kind, opcode) in [("ping", PING), ("pong", PONG)] {
            let bytes = frame(opcode, noise_of(len));
            cases.push(
                Case::new(format!("a {kind} of {len} bytes"))
                    .send(&bytes)
                    .fails(1002),
            );
            let chopped = Case::new(format!("a {kind} of {len} bytes in writes of 100"));
            cases.push(chopped.chopped(&bytes, 100).fails(1002));
        }
    }
    cases.extend(floods());
    cases
}

fn floods() -> Vec<Case> {
    let flood = |count: usize, len: usize| {
        let payload = |at: usize| format!("{at:0len$}");
        let pings: Vec<u8> = (0..count).flat_map(|at| frame(PING, payload(at))).collect();
        let pongs: Vec<u8> = (0..count)
            .flat_map(|at| answer(PONG, payload(at)))
            .collect();
        (pings, pongs)
    };
    let mut cases = Vec::new();
    for (count, len) in [(10, 2), (10, 125), (1_000, 4), (1_000, 125)] {
        let (pings, pongs) = flood(count, len);
        let case = |how: &str| Case::new(format!("{count} pings of {len} bytes {how}"));
        cases.push(case("in one write").send(&pings).hear(&pongs));
        cases.push(case("in writes of 17").chopped(&pings, 17).hear(&pongs));
    }
    let (pings, pongs) = flood(10, 2);
    cases.push(
        Case::new("10 pings in writes of 1")
            .chopped(&pings, 1)
            .hear(&pongs),
    );
    let mut mixed = (Vec::new(), Vec::new());
    for at in 0..100 {
        let text = at.to_string();
        mixed
            .0
            .extend([frame(PING, &text), frame(TEXT, &text), frame(BINARY, &text)].concat());
        mixed.1.extend(
            [
                answer(PONG, &text),
                answer(TEXT, &text),
                answer(BINARY, &text),
            ]
            .concat(),
        );
    }
    let case = Case::new("100 pings among messages, answered in their order");
    cases.push(case.send(&mixed.0).hear(&mixed.1));
    let within = [part(TEXT, "a"), pings, last("b")].concat();
    let case = Case::new("10 pings within a message")
        .send(within)
        .hear(&pongs);
    cases.push(case.hear(answer(TEXT, "ab")));
    cases
}
