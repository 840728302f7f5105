//! Messages up to the limit come back, in one frame or in many; what would go over it is refused
//! with 1009 (section 7.4.1) as soon as it is announced, by one frame or by all together.

use std::sync::Arc;

use super::case::Case;
use super::wire::{
    BINARY, CONTINUATION, FIN, PING, PONG, TEXT, Width, answer, fragments, frame, header, last,
    noise_of, part, text_of,
};

/// `--max-message-size` of the server that `small` is for.
const LIMIT: usize = 1_000;

/// The same for `large`.
const LARGE_LIMIT: usize = 16 << 20;

pub(crate) fn small() -> Vec<Case> {
    let mut cases = Vec::new();
    for (kind, opcode, payload) in [
        ("text", TEXT, text_of(LIMIT)),
        ("binary", BINARY, noise_of(LIMIT)),
    ] {
        let case = |what: &str| Case::new(format!("{kind}: {what}"));
        let echo = answer(opcode, &payload);
        let over = [payload.as_slice(), b"x"].concat();
        cases.push(case("the limit").send(frame(opcode, &payload)).hear(&echo));
        cases.push(case("a byte more").send(frame(opcode, &over)).fails(1009));
        for size in [1, 10, 333, 500, 999] {
            let case = |what: &str| case(&format!("{what} in fragments of {size}"));
            let bytes = fragments(opcode, &payload, size).concat();
            cases.push(case("the limit").send(&bytes).hear(&echo));
            cases.push(
                case("the limit, twice")
                    .send(bytes.repeat(2))
                    .hear(echo.repeat(2)),
            );
            let bytes = fragments(opcode, &over, size).concat();
            cases.push(case("a byte more").send(bytes).fails(1009));
        }
        cases.extend(announced(kind, opcode, &payload));
        let pings: Vec<u8> = (0..100).flat_map(|_| frame(PING, [b'p'; 125])).collect();
        let within = [part(opcode, &payload), pings, last("")].concat();
        let pings = case("control frames do not count").send(within);
        let pongs = answer(PONG, [b'p'; 125]).repeat(100);
        cases.push(pings.hear(pongs).hear(&echo));
        let mut hollow = part(opcode, &payload);
        hollow.extend(part(CONTINUATION, "").repeat(1_000));
        let over = [hollow.as_slice(), &last("x")].concat();
        hollow.extend(last(""));
        cases.push(
            case("empty fragments do not count")
                .send(hollow)
                .hear(&echo),
        );
        cases.push(
            case("a byte more behind empty fragments")
                .send(over)
                .fails(1009),
        );
        let endless = [part(opcode, "x"), part(CONTINUATION, "x").repeat(2_000)].concat();
        cases.push(case("fragments without an end").send(endless).fails(1009));
        let behind = [frame(opcode, &payload), frame(opcode, [b'x'; LIMIT + 1])].concat();
        cases.push(
            case("the limit, then more")
                .send(behind)
                .hear(&echo)
                .fails(1009),
        );
    }
    cases
}

/// Too much is refused by its header, which may be all that comes.
fn announced(kind: &str, opcode: u8, payload: &[u8]) -> Vec<Case> {
    let case = |what: &str| Case::new(format!("{kind}: {what}, announced and not sent"));
    let header_of = |first, len| {
        let wide = len > u64::from(u16::MAX);
        header(first, len, if wide { Width::Bits64 } else { Width::Bits16 })
    };
    let mut cases = Vec::new();
    for len in [LIMIT as u64 + 1, 65_535, 65_536, 1 << 32, (1 << 63) - 1] {
        for first in [FIN | opcode, opcode] {
            let case = case(&format!("{len} bytes, first byte {first:#x}"));
            cases.push(case.send(header_of(first, len)).fails(1009));
        }
    }
    for first in [FIN, CONTINUATION] {
        let over = [part(opcode, payload), header(first, 1, Width::Bits7)].concat();
        let case = case(&format!("a byte more, first byte {first:#x}"));
        cases.push(case.send(over).fails(1009));
    }
    // A fragment that is within the limit by itself, and a sum that would not fit 64 bits.
    for len in [126, 999, (1 << 63) - 1] {
        let over = [part(opcode, &payload[..900]), header_of(FIN, len)].concat();
        let case = case(&format!("{len} bytes behind 900"));
        cases.push(case.send(over).fails(1009));
    }
    cases
}

pub(crate) fn large() -> Vec<Case> {
    let mut cases = Vec::new();
    let kinds = [
        ("text", TEXT, Arc::new(text_of(LARGE_LIMIT))),
        ("binary", BINARY, Arc::new(noise_of(LARGE_LIMIT))),
    ];
    for (kind, opcode, payload) in &kinds {
        let name = format!("{kind} of 16 MiB");
        cases.push(Case::new(&name).echo(*opcode, payload, usize::MAX));
        for size in [64, 1 << 10, 64 << 10, 1 << 20] {
            let name = format!("{name} in fragments of {size}");
            cases.push(Case::new(name).echo(*opcode, payload, size));
        }
        let over = header(FIN | opcode, LARGE_LIMIT as u64 + 1, Width::Bits64);
        cases.push(
            Case::new(format!("{name} and a byte, announced"))
                .send(over)
                .fails(1009),
        );
    }
    for (kind, opcode, payload) in [
        ("text", TEXT, Arc::new(text_of(4 << 20))),
        ("binary", BINARY, Arc::new(noise_of(4 << 20))),
    ] {
        for size in [256, 4 << 10, 16 << 10, 256 << 10, 2 << 20, usize::MAX] {
            let name = format!("{kind} of 4 MiB in fragments of {size}");
            cases.push(Case::new(name).echo(opcode, &payload, size));
        }
    }
    for size in [64, 128, 256, 512, 1_024, 2_048] {
        for (kind, opcode, payload) in [
            ("text", TEXT, text_of(1 << 20)),
            ("binary", BINARY, noise_of(1 << 20)),
        ] {
            let case = Case::new(format!("{kind} of 1 MiB in writes of {size}"));
            let case = case.chopped(frame(opcode, &payload), size);
            cases.push(case.hear(answer(opcode, &payload)));
        }
    }
    for len in [0, 16, 64, 256, 1_024, 4_096] {
        for (kind, opcode, payload) in [
            ("texts", TEXT, Arc::new(text_of(len))),
            ("binaries", BINARY, Arc::new(noise_of(len))),
        ] {
            let mut case = Case::new(format!("1,000 {kind} of {len} bytes, there and back"));
            for _ in 0..1_000 {
                case = case.echo(opcode, &payload, usize::MAX);
            }
            cases.push(case);
        }
    }
    // UTF-8 knows 1,112,064 of them: all but the surrogates.
    let every: String = ('\0'..=char::MAX).collect();
    let every = Arc::new(every.into_bytes());
    for size in [usize::MAX, 997, 64 << 10] {
        let name = format!("every code point in one text, in fragments of {size}");
        cases.push(Case::new(name).echo(TEXT, &every, size));
    }
    cases
}
