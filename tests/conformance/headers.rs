//! Sections 5.1, 5.2 and 5.5: what may not stand in a frame's header ends the connection with 1002,
//! at the byte that says it, and what came before is answered.

use super::case::Case;
use super::wire::{
    BINARY, CONTINUATION, FIN, PING, PONG, TEXT, Width, answer, frame, header, masked, part,
};
use crate::support::frame::{CLOSE, close_payload, unmasked};

pub(crate) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for bits in 1..8_u8 {
        for (kind, opcode) in OPCODES {
            let name = format!("reserved bits {bits:03b} on a {kind}");
            cases.extend(forbidden(&name, FIN | bits << 4 | opcode));
        }
    }
    for opcode in (0x3..=0x7).chain(0xb..=0xf) {
        cases.extend(forbidden(&format!("opcode {opcode:#x}"), FIN | opcode));
        cases.extend(forbidden(
            &format!("opcode {opcode:#x} without FIN"),
            opcode,
        ));
    }
    for (kind, opcode) in [("ping", PING), ("pong", PONG), ("Close", CLOSE & 0xf)] {
        cases.extend(forbidden(&format!("a {kind} without FIN"), opcode));
    }
    cases.extend(masks());
    cases.extend(lengths());
    cases
}

const OPCODES: [(&str, u8); 6] = [
    ("continuation", CONTINUATION),
    ("text", TEXT),
    ("binary", BINARY),
    ("Close", CLOSE & 0xf),
    ("ping", PING),
    ("pong", PONG),
];

/// A frame whose first byte may not be, wherever it stands and however it comes.
fn forbidden(name: &str, first: u8) -> Vec<Case> {
    let case = |where_it_is: &str| Case::new(format!("{name}, {where_it_is}"));
    let payload = close_payload(1000, "ok");
    let bad = masked(first, &payload);
    let before = [frame(TEXT, "before"), frame(PING, "before")].concat();
    let heard = [answer(TEXT, "before"), answer(PONG, "before")].concat();
    let behind = [frame(TEXT, "behind"), frame(PING, "behind")]
        .concat()
        .repeat(500);
    let fragment = part(TEXT, "begun");
    vec![
        case("empty").send(masked(first, b"")).fails(1002),
        case("with a payload").send(&bad).fails(1002),
        case("in writes of 1").chopped(&bad, 1).fails(1002),
        case("its first byte alone").send([first]).fails(1002),
        case("behind a message")
            .send([before.as_slice(), &bad].concat())
            .hear(&heard)
            .fails(1002),
        case("before 19 kB of frames")
            .send([bad.as_slice(), &behind].concat())
            .fails(1002),
        case("inside a message")
            .send([fragment.as_slice(), &bad].concat())
            .fails(1002),
        case("large, and never sent")
            .send(header(first, 1 << 20, Width::Bits64))
            .fails(1002),
    ]
}

fn masks() -> Vec<Case> {
    let mut cases = Vec::new();
    for (kind, opcode) in OPCODES {
        for len in [0, 2, 125] {
            let payload = [&[3, 232], [b'x'; 125].as_slice()].concat();
            let bad = unmasked(FIN | opcode, &payload[..len]);
            let name = format!("a {kind} of {len} bytes without a mask");
            let fragment = part(TEXT, "begun");
            cases.push(Case::new(&name).send(&bad).fails(1002));
            cases.push(
                Case::new(format!("{name}, its header alone"))
                    .send(&bad[..2])
                    .fails(1002),
            );
            let inside = Case::new(format!("{name}, inside a message"));
            cases.push(
                inside
                    .send([fragment.as_slice(), &bad].concat())
                    .fails(1002),
            );
        }
        for len in [126, 65_536] {
            let bad = unmasked(FIN | opcode, &vec![b'x'; len]);
            let name = format!("a {kind} of {len} bytes without a mask");
            cases.push(Case::new(name).send(&bad).fails(1002));
        }
    }
    let masked_then_not = [frame(TEXT, "before"), unmasked(FIN | TEXT, b"x")].concat();
    let case = Case::new("no mask on the second frame").send(masked_then_not);
    cases.push(case.hear(answer(TEXT, "before")).fails(1002));
    cases
}

fn lengths() -> Vec<Case> {
    let mut cases = Vec::new();
    let mut check = |what: &str, first: u8, len: u64, width: Width| {
        let header = header(first, len, width);
        let name = format!("{what} of {len} bytes, {width:?}");
        let whole = [
            header.as_slice(),
            &[0; 4],
            &vec![b'x'; len.min(70_000) as usize],
        ]
        .concat();
        cases.push(
            Case::new(format!("{name}: its header alone"))
                .send(&header)
                .fails(1002),
        );
        cases.push(Case::new(name).send(whole).fails(1002));
    };
    // Section 5.2: "the minimal number of bytes MUST be used to encode the length".
    for first in [FIN | TEXT, FIN | BINARY, TEXT] {
        for len in [0, 1, 64, 124, 125] {
            check("data", first, len, Width::Bits16);
            check("data", first, len, Width::Bits64);
        }
        for len in [126, 127, 1_000, 65_534, 65_535] {
            check("data", first, len, Width::Bits64);
        }
        // "The most significant bit MUST be 0."
        for len in [1 << 63, 1 << 63 | 5, u64::MAX] {
            check("data", first, len, Width::Bits64);
        }
    }
    // Section 5.5: control frames have 125 bytes at most, and so their length has one form.
    for first in [FIN | PING, FIN | PONG, CLOSE] {
        for len in [0, 125, 126, 127, 65_535] {
            check("control", first, len, Width::Bits16);
        }
        for len in [0, 125, 126, 65_536, 1 << 40, u64::MAX] {
            check("control", first, len, Width::Bits64);
        }
    }
    cases
}
