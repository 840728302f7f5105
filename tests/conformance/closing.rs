//! Sections 5.5.1 and 7: a Close is answered with the same and the server's FIN; a wrong one with
//! 1002 or 1007. What follows a Close is nothing, and never a reset.
//!
//! Section 5.5.1 asks that the code is repeated. This server repeats the reason, too.

use super::case::{Case, every_way};
use super::wire::{
    BINARY, CONTINUATION, FIN, PING, PONG, TEXT, Width, answer, close, close_answer, frame, header,
    masked, noise_of, part, text_of,
};
use crate::support::frame::CLOSE;

/// Section 7.4.1, IANA's registry (1012 to 1014), and what libraries and applications may use.
const VALID: &[u16] = &[
    1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, 3000, 3001, 3500, 3999,
    4000, 4001, 4500, 4998, 4999,
];

/// Not defined, reserved, or never to be sent.
const INVALID: &[u16] = &[
    0, 1, 2, 999, 1004, 1005, 1006, 1015, 1016, 1017, 1099, 1100, 1999, 2000, 2001, 2998, 2999,
    5000, 5001, 9999, 10_000, 32_767, 32_768, 65_534, 65_535,
];

pub(crate) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for code in VALID {
        for (how, reason) in [
            ("", ""),
            (" and a reason", "because"),
            (" and more", "é€😀"),
        ] {
            let (bytes, echo) = (close(*code, reason), close_answer(*code, reason));
            let name = format!("the code {code}{how}");
            cases.extend(every_way(&name, bytes, |case| case.says(&echo)));
        }
    }
    for code in INVALID {
        for (how, reason) in [("", ""), (" and a reason", "because")] {
            let name = format!("the code {code}{how}");
            let bytes = close(*code, reason);
            cases.extend(every_way(&name, bytes, |case| case.fails(1002)));
        }
    }
    cases.extend(payloads());
    cases.extend(reasons());
    cases.extend(what_follows());
    cases.extend(where_it_stands());
    cases.extend(ends_without());
    cases
}

fn payloads() -> Vec<Case> {
    let empty = answer(0x8, "");
    let bytes = masked(CLOSE, b"");
    let mut cases = vec![
        Case::new("half a code")
            .send(masked(CLOSE, b"\x03"))
            .fails(1002),
        Case::new("half a code, its header alone")
            .send(header(CLOSE, 1, Width::Bits7))
            .fails(1002),
    ];
    cases.extend(every_way("no payload", bytes, |case| case.says(&empty)));
    for len in [1, 2, 61, 122, 123] {
        let case = Case::new(format!("a reason of {len} bytes"));
        cases.push(
            case.send(close(1000, text_of(len)))
                .says(close_answer(1000, text_of(len))),
        );
    }
    for len in [124, 125, 126, 1_000, 65_534, 70_000] {
        let bytes = close(1000, text_of(len));
        let case = |how: &str| Case::new(format!("a reason of {len} bytes{how}"));
        cases.push(case("").send(&bytes).fails(1002));
        cases.push(case(", two bytes of it").send(&bytes[..2]).fails(1002));
    }
    cases
}

/// Section 5.5.1: a reason is UTF-8.
fn reasons() -> Vec<Case> {
    let mut cases = Vec::new();
    let invalid: [&[u8]; 10] = [
        b"\x80",
        b"\xff",
        b"\xc0\xaf",
        b"\xed\xa0\x80",
        b"\xf4\x90\x80\x80",
        b"cut short \xc3",
        b"cut short \xe2\x82",
        b"cut short \xf0\x9f\x98",
        b"\xce\xba\xe1\xbd\xb9\xcf\x83\xed\xa0\x80edited",
        b"late, but within the hundred and twenty-three bytes of a reason: \xfe",
    ];
    for reason in invalid {
        let bytes = close(1000, reason);
        let name = format!("the reason {}", reason.escape_ascii());
        cases.extend(every_way(&name, &bytes, |case| case.fails(1007)));
        // Half of a character in a message is no part of the reason.
        let within = [part(TEXT, b"\xc3"), bytes].concat();
        let case = Case::new(name + ", within a message");
        cases.push(case.send(within).fails(1007));
    }
    let early = [
        header(CLOSE, 125, Width::Bits7),
        masked(0, b"\x03\xe8a\xff")[2..].to_vec(),
    ];
    let case = Case::new("a reason that fails before it has come");
    cases.push(case.send(early.concat()).fails(1007));
    for tail in [b"\xa9".as_slice(), b""] {
        let within = [part(TEXT, b"\xc3"), close(1000, tail)].concat();
        let case = Case::new("a Close within a character of a message");
        cases.push(if tail.is_empty() {
            case.send(within).says(close_answer(1000, ""))
        } else {
            case.send(within).fails(1007)
        });
    }
    cases
}

/// Section 5.5.1: nothing follows a Close. What does is not answered.
fn what_follows() -> Vec<Case> {
    let mut cases = Vec::new();
    for (what, bytes) in [
        ("a text", frame(TEXT, "late")),
        ("a binary", frame(BINARY, "late")),
        ("a ping", frame(PING, "late")),
        ("a pong", frame(PONG, "late")),
        ("a second Close", close(1001, "again")),
        ("a wrong Close", close(1005, "")),
        ("a violation", masked(0xff, b"x")),
        ("half a frame", frame(TEXT, "late")[..4].to_vec()),
        ("64 KiB of text", frame(TEXT, text_of(65_536))),
        ("1,000 pings", frame(PING, "late").repeat(1_000)),
        ("1 MiB of noise", noise_of(1 << 20)),
    ] {
        let (our_close, answer) = (close(1000, "bye"), close_answer(1000, "bye"));
        let case = |how: &str| Case::new(format!("a Close and {what}, {how}"));
        let together = [our_close.as_slice(), &bytes].concat();
        cases.push(case("in one write").send(together).says(&answer));
        let one_by_one = case("read one by one").send(&our_close).turn().send(&bytes);
        cases.push(one_by_one.says(&answer));
        let after = case("sent when the Close is answered")
            .send(&our_close)
            .hear(&answer);
        cases.push(after.send(&bytes).turn().says(""));
    }
    let before = [
        frame(TEXT, "a"),
        frame(PING, "p"),
        close(1000, ""),
        frame(TEXT, "b"),
    ]
    .concat();
    let case = Case::new("a message and a ping before a Close, a message behind it").send(before);
    let case = case.hear(answer(TEXT, "a")).hear(answer(PONG, "p"));
    cases.push(case.says(close_answer(1000, "")));
    // The client's answer to a Close of failure, as a good client sends it.
    let failed = Case::new("the answer to a failure")
        .send(masked(FIN | 0x3, b""))
        .turn();
    cases.push(failed.send(close(1002, "")).finish().fails(1002));
    let ended = Case::new("a FIN behind a Close")
        .send(close(1000, ""))
        .finish();
    cases.push(ended.says(close_answer(1000, "")));
    cases
}

fn where_it_stands() -> Vec<Case> {
    let fragments = [part(TEXT, "a"), part(CONTINUATION, "b")].concat();
    let big = frame(BINARY, noise_of(70_000));
    vec![
        Case::new("first of all")
            .send(close(1000, ""))
            .says(close_answer(1000, "")),
        Case::new("behind a first fragment")
            .send([part(TEXT, "a"), close(1000, "")].concat())
            .says(close_answer(1000, "")),
        Case::new("behind two fragments")
            .send([fragments.as_slice(), &close(1001, "")].concat())
            .says(close_answer(1001, "")),
        Case::new("behind fragments, and a continuation behind it")
            .send(
                [
                    fragments.as_slice(),
                    &close(1000, ""),
                    &part(CONTINUATION, "c"),
                ]
                .concat(),
            )
            .says(close_answer(1000, "")),
        Case::new("behind 70,000 bytes, whose echo comes first")
            .send([big.as_slice(), &close(1000, "")].concat())
            .hear(answer(BINARY, noise_of(70_000)))
            .says(close_answer(1000, "")),
        Case::new("with a reserved bit")
            .send(masked(CLOSE | 0x40, b"\x03\xe8"))
            .fails(1002),
        Case::new("without FIN")
            .send(masked(CLOSE & !FIN, b"\x03\xe8"))
            .fails(1002),
    ]
}

/// A client that ends TCP alone: the server may close, with or without a frame (section 7.1.7).
/// This one says 1000, which docs/protocol.md promises.
fn ends_without() -> Vec<Case> {
    let mut cases = Vec::new();
    let whole = frame(TEXT, "hello");
    for (what, bytes) in [
        ("nothing", &whole[..0]),
        ("a byte of a header", &whole[..1]),
        ("a header without its mask", &whole[..2]),
        ("half a mask", &whole[..4]),
        ("a header", &whole[..6]),
        ("half a payload", &whole[..8]),
        ("half a message", &part(TEXT, "hel")),
        ("half a character", &part(TEXT, b"\xe2\x82")),
    ] {
        let case = Case::new(format!("a FIN behind {what}"))
            .send(bytes)
            .finish();
        cases.push(case.says(close_answer(1000, "")));
    }
    let case = Case::new("a FIN behind a message").send(&whole).finish();
    cases.push(
        case.hear(answer(TEXT, "hello"))
            .says(close_answer(1000, "")),
    );
    cases
}
