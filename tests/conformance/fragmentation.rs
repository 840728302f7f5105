//! Section 5.4: fragments make one message, control frames may stand between them, and messages
//! may not.

use std::sync::Arc;

use super::case::{Case, every_way};
use super::wire::{
    BINARY, CONTINUATION, FIN, PING, PONG, TEXT, answer, close, close_answer, fragments, frame,
    last, noise_of, part, text_of,
};

pub(crate) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for (kind, opcode) in [("text", TEXT), ("binary", BINARY)] {
        cases.extend(right(kind, opcode));
        cases.extend(control_between(kind, opcode));
        cases.extend(wrong(kind, opcode));
    }
    cases.extend(many());
    cases.extend(nothing_to_continue());
    cases
}

fn right(kind: &str, opcode: u8) -> Vec<Case> {
    let case = |what: &str| Case::new(format!("{kind}: {what}"));
    let (a, b, c) = (part(opcode, "a"), part(CONTINUATION, "b"), last("c"));
    let abc = answer(opcode, "abc");
    let three = [a.as_slice(), &b, &c].concat();
    let two = [a.as_slice(), &c].concat();
    let then_whole = [three.as_slice(), &frame(opcode, "d")].concat();
    let closed_inside = [a.as_slice(), &b, &close(1000, "")].concat();
    let mut cases = vec![
        case("two fragments").send(two).hear(answer(opcode, "ac")),
        case("two messages")
            .send(three.repeat(2))
            .hear(abc.repeat(2)),
        case("then a whole message")
            .send(then_whole)
            .hear(&abc)
            .hear(answer(opcode, "d")),
        case("a Close before the last fragment")
            .send(closed_inside)
            .says(close_answer(1000, "")),
    ];
    let name = format!("{kind}: three fragments");
    cases.extend(every_way(&name, &three, |case| case.hear(&abc)));
    for (name, [first, second, third]) in [
        ("all are empty", ["", "", ""]),
        ("only the first is not empty", ["full", "", ""]),
        ("only the second is not empty", ["", "full", ""]),
        ("only the last is not empty", ["", "", "full"]),
    ] {
        let bytes = [part(opcode, first), part(CONTINUATION, second), last(third)].concat();
        let echo = answer(opcode, [first, second, third].concat());
        let name = format!("{kind}: {name}");
        cases.extend(every_way(&name, bytes, |case| case.hear(&echo)));
    }
    cases
}

/// Control frames between the fragments are answered there, and change nothing.
fn control_between(kind: &str, opcode: u8) -> Vec<Case> {
    let case = |what: &str| Case::new(format!("{kind}: {what}"));
    let (a, b, c) = (part(opcode, "a"), part(CONTINUATION, "b"), last("c"));
    let (one, two) = (frame(PING, "1"), frame(PING, "2"));
    let pinged = [&a, &one, &b, &two, &c].map(Vec::as_slice).concat();
    let echo = [answer(PONG, "1"), answer(PONG, "2"), answer(opcode, "abc")].concat();
    let pongs = [&a, &frame(PONG, "1"), &b, &frame(PONG, "2"), &c];
    let pongs = pongs.map(Vec::as_slice).concat();
    let now = case("a ping is answered before the message has come");
    let now = now
        .send([a.as_slice(), &one].concat())
        .hear(answer(PONG, "1"));
    let mut cases = vec![
        case("pongs between")
            .send(pongs)
            .hear(answer(opcode, "abc")),
        now.send([b, c].concat()).hear(answer(opcode, "abc")),
    ];
    let name = format!("{kind}: pings between");
    cases.extend(every_way(&name, &pinged, |case| case.hear(&echo)));
    for at in 1..pinged.len() {
        let (head, tail) = pinged.split_at(at);
        let cut = case(&format!("pings between, cut at {at}"));
        cases.push(cut.send(head).turn().send(tail).hear(&echo));
    }
    cases
}

fn wrong(kind: &str, opcode: u8) -> Vec<Case> {
    let mut cases = Vec::new();
    let begun = part(opcode, "begun");
    for (inner, first) in [
        ("text", TEXT),
        ("binary", BINARY),
        ("a text with FIN", FIN | TEXT),
        ("a binary with FIN", FIN | BINARY),
    ] {
        let inside = part(first, "inside");
        let case = |how: &str| Case::new(format!("{kind}: {inner} inside{how}"));
        let bytes = [begun.as_slice(), &inside].concat();
        cases.push(case("").send(&bytes).fails(1002));
        cases.push(case(", in writes of 1").chopped(&bytes, 1).fails(1002));
        let early = [begun.as_slice(), &[first]].concat();
        cases.push(case(", its first byte alone").send(early).fails(1002));
        let pinged = [begun.as_slice(), &frame(PING, "p"), &inside].concat();
        cases.push(
            case(", behind a ping")
                .send(pinged)
                .hear(answer(PONG, "p"))
                .fails(1002),
        );
        let third = [begun.as_slice(), &part(CONTINUATION, "b"), &inside].concat();
        cases.push(case(", behind two fragments").send(third).fails(1002));
    }
    for (control, first) in [("ping", PING), ("pong", PONG), ("Close", 0x8)] {
        let inside = [begun.as_slice(), &part(first, ""), &last("")].concat();
        let case = Case::new(format!("{kind}: a {control} in fragments inside"));
        cases.push(case.send(inside).fails(1002));
    }
    cases
}

fn nothing_to_continue() -> Vec<Case> {
    let mut cases = Vec::new();
    for (how, orphan) in [
        ("without FIN", part(CONTINUATION, "orphan")),
        ("with FIN", last("orphan")),
        ("empty, without FIN", part(CONTINUATION, "")),
        ("empty, with FIN", last("")),
    ] {
        let case = |where_it_is: &str| {
            Case::new(format!("a continuation of nothing {how}, {where_it_is}"))
        };
        cases.push(case("first of all").send(&orphan).fails(1002));
        cases.push(case("byte by byte").chopped(&orphan, 1).fails(1002));
        cases.push(case("its first byte alone").send(&orphan[..1]).fails(1002));
        let whole = [frame(TEXT, "whole"), orphan.clone()].concat();
        cases.push(
            case("behind a message")
                .send(whole)
                .hear(answer(TEXT, "whole"))
                .fails(1002),
        );
        let ended = [part(TEXT, "a"), last("b"), orphan.clone()].concat();
        let ended = case("behind the last fragment").send(ended);
        cases.push(ended.hear(answer(TEXT, "ab")).fails(1002));
        let followed = [orphan.as_slice(), &frame(TEXT, "behind").repeat(1_000)].concat();
        cases.push(case("before 12 kB of messages").send(followed).fails(1002));
        let pinged = [frame(PING, "p"), orphan].concat();
        cases.push(
            case("behind a ping")
                .send(pinged)
                .hear(answer(PONG, "p"))
                .fails(1002),
        );
    }
    cases
}

/// Many fragments, with and without something between them.
fn many() -> Vec<Case> {
    let mut cases = Vec::new();
    for (kind, opcode, payload) in [
        ("text", TEXT, text_of(65_536)),
        ("binary", BINARY, noise_of(65_536)),
    ] {
        let shared = Arc::new(payload.clone());
        for size in [1, 64, 256, 997, 1_300, 32_768] {
            let name = format!("{kind} of 65,536 bytes in fragments of {size}");
            cases.push(Case::new(name).echo(opcode, &shared, size));
        }
        let payload = &payload[..1_000];
        let mut pinged = (Vec::new(), Vec::new());
        for (at, fragment) in fragments(opcode, payload, 10).into_iter().enumerate() {
            let text = at.to_string();
            pinged
                .0
                .extend([frame(PING, &text), fragment, frame(PONG, &text)].concat());
            pinged.1.extend(answer(PONG, &text));
        }
        pinged.1.extend(answer(opcode, payload));
        let name = format!("{kind} in 100 fragments and 100 pings");
        cases.extend(every_way(&name, &pinged.0, |case| case.hear(&pinged.1)));

        let mut hollow = part(opcode, "a");
        hollow.extend(part(CONTINUATION, "").repeat(10_000));
        hollow.extend(last("b"));
        let name = format!("{kind} with 10,000 empty fragments");
        cases.push(Case::new(name).send(hollow).hear(answer(opcode, "ab")));
    }
    cases
}
