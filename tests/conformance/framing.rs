//! Section 5: messages of every length class come back as they went, however the kernel cuts them.

use std::sync::Arc;

use super::case::Case;
use super::wire::{
    BINARY, FIN, PING, TEXT, answer, close, close_answer, fragments, frame, masked_with, noise_of,
    text_of,
};

/// Around the borders between the three forms of a length, and within each.
const LENGTHS: [usize; 14] = [
    0, 1, 2, 3, 124, 125, 126, 127, 128, 255, 65_534, 65_535, 65_536, 65_537,
];

pub(crate) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for len in LENGTHS {
        for (kind, opcode, payload) in [
            ("text", TEXT, text_of(len)),
            ("binary", BINARY, noise_of(len)),
        ] {
            let (bytes, echo) = (frame(opcode, &payload), answer(opcode, &payload));
            let case = |how: &str| Case::new(format!("{kind} of {len} bytes{how}"));
            cases.push(case("").send(&bytes).hear(&echo));
            for size in [1, 7, 997, 1460] {
                // A byte at a time, of 64 KiB, is a matter of patience alone.
                if size < bytes.len() && bytes.len() / size < 10_000 {
                    let how = format!(" in writes of {size}");
                    cases.push(case(&how).chopped(&bytes, size).hear(&echo));
                }
            }
            if bytes.len() < 300 {
                cases.push(case(", byte by byte").trickled(&bytes, 1).hear(&echo));
            }
            let mut fragmented = case(" in three fragments");
            for fragment in fragments(opcode, &payload, payload.len().div_ceil(3).max(1)) {
                fragmented = fragmented.send(fragment).turn();
            }
            cases.push(fragmented.hear(&echo));
        }
    }
    cases.push(
        Case::new("text of 65,536 bytes in writes of 1")
            .chopped(frame(TEXT, text_of(65_536)), 1)
            .hear(answer(TEXT, text_of(65_536))),
    );
    cases.extend(masks());
    cases.extend(sequences());
    cases.extend(cut_headers());
    cases
}

fn masks() -> Vec<Case> {
    let masks = [
        [0, 0, 0, 0],
        [0xff; 4],
        [0x80, 0, 0, 0],
        [0, 0, 0, 1],
        *b"mask",
        [0x12, 0x34, 0x56, 0x78],
    ];
    let mut cases = Vec::new();
    for mask in masks {
        for (opcode, payload) in [(TEXT, text_of(61)), (BINARY, noise_of(62))] {
            let bytes = masked_with(mask, FIN | opcode, &payload);
            let name = format!("opcode {opcode:#x} with the mask {mask:02x?}");
            cases.push(Case::new(&name).send(&bytes).hear(answer(opcode, &payload)));
            let trickled = Case::new(name + ", byte by byte").trickled(&bytes, 1);
            cases.push(trickled.hear(answer(opcode, &payload)));
        }
    }
    cases
}

fn sequences() -> Vec<Case> {
    let mixed: Vec<(u8, Vec<u8>)> = (0..100)
        .map(|at| match at % 3 {
            0 => (TEXT, text_of(at)),
            1 => (BINARY, noise_of(at * 7)),
            _ => (TEXT, Vec::new()),
        })
        .collect();
    let bytes: Vec<u8> = mixed
        .iter()
        .flat_map(|(op, payload)| frame(*op, payload))
        .collect();
    let echo: Vec<u8> = mixed
        .iter()
        .flat_map(|(op, payload)| answer(*op, payload))
        .collect();
    let mut cases = vec![
        Case::new("100 messages in one write")
            .send(&bytes)
            .hear(&echo),
        Case::new("100 messages in writes of 1")
            .chopped(&bytes, 1)
            .hear(&echo),
        Case::new("100 messages in writes of 13")
            .chopped(&bytes, 13)
            .hear(&echo),
        Case::new("messages, and a Close behind them in the same write")
            .send([bytes.as_slice(), &close(1000, "")].concat())
            .hear(&echo)
            .says(close_answer(1000, "")),
    ];
    let mut turns = Case::new("100 messages, each when the one before has come back");
    for (opcode, payload) in &mixed {
        turns = turns.echo(*opcode, &Arc::new(payload.clone()), usize::MAX);
    }
    cases.push(turns);
    cases
}

/// Headers of each form cut at every byte, and read so.
fn cut_headers() -> Vec<Case> {
    let mut cases = Vec::new();
    for (len, header_len) in [(5, 6), (126, 8), (65_536, 14)] {
        let bytes = frame(TEXT, text_of(len));
        for at in 1..=header_len {
            let case = Case::new(format!("text of {len} bytes, its header cut at {at}"));
            let (head, tail) = bytes.split_at(at);
            let case = case.send(head).turn().send(tail);
            cases.push(case.hear(answer(TEXT, text_of(len))));
        }
    }
    for at in 1..11 {
        let bytes = frame(PING, "hello");
        let case = Case::new(format!("a ping cut at {at}"));
        let case = case.send(&bytes[..at]).turn().send(&bytes[at..]);
        cases.push(case.hear(answer(0xa, "hello")));
    }
    cases
}
