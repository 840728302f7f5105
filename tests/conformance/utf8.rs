//! Section 8.1: text is UTF-8, however it is cut; and if it is not, the connection fails with 1007
//! at the first byte with which it cannot be any more, though the frame and the message go on.
//!
//! What can be and what cannot is taken from the grammar of RFC 3629, section 4.

use super::case::{Case, every_way};
use super::wire::{
    BINARY, CONTINUATION, FIN, PING, PONG, TEXT, Width, answer, fragments, frame, header, last,
    masked, part,
};

/// The borders of every length and every gap, the code points that are no characters, and texts.
const VALID: &[(&str, &str)] = &[
    ("nothing", ""),
    ("one letter", "a"),
    ("U+0000", "\0"),
    ("U+007F", "\u{7f}"),
    ("U+0080", "\u{80}"),
    ("U+07FF", "\u{7ff}"),
    ("U+0800", "\u{800}"),
    ("U+0FFF and U+1000", "\u{fff}\u{1000}"),
    ("U+CFFF and U+D000", "\u{cfff}\u{d000}"),
    ("U+D7FF, before the surrogates", "\u{d7ff}"),
    ("U+E000, behind the surrogates", "\u{e000}"),
    (
        "U+FDD0 and U+FDEF, which are no characters",
        "\u{fdd0}\u{fdef}",
    ),
    ("U+FEFF, which some take for a mark", "\u{feff}\u{feff}a"),
    ("U+FFFD, which others put for an error", "\u{fffd}"),
    ("U+FFFE", "\u{fffe}"),
    ("U+FFFF", "\u{ffff}"),
    ("U+10000", "\u{10000}"),
    ("U+3FFFF and U+40000", "\u{3ffff}\u{40000}"),
    ("U+FFFFF and U+100000", "\u{fffff}\u{100000}"),
    ("U+10FFFD", "\u{10fffd}"),
    ("U+10FFFF, the last", "\u{10ffff}"),
    (
        "the last two of each plane, which are no characters",
        "\u{1fffe}\u{1ffff}\u{2fffe}\u{2ffff}\u{3fffe}\u{3ffff}\u{4fffe}\u{4ffff}\u{5fffe}\u{5ffff}\
         \u{6fffe}\u{6ffff}\u{7fffe}\u{7ffff}\u{8fffe}\u{8ffff}\u{9fffe}\u{9ffff}\u{afffe}\u{affff}\
         \u{bfffe}\u{bffff}\u{cfffe}\u{cffff}\u{dfffe}\u{dffff}\u{efffe}\u{effff}\u{ffffe}\u{fffff}\
         \u{10fffe}\u{10ffff}",
    ),
    ("Greek", "κόσμε"),
    ("every length", "aé€😀😀€éa"),
    ("letters and their accents", "e\u{301}o\u{308}\u{323}"),
    ("a flag and a family", "🇪🇺👨‍👩‍👧‍👦"),
    ("two directions", "שלום hello سلام"),
    ("ASCII, then others", "Hello-µ@ßöäüàá-UTF-8!!"),
];

/// Texts that are none. What stands behind them is what hides an error from a lazy look.
const INVALID: &[(&str, &[u8])] = &[
    ("a lone continuation byte", b"\x80"),
    ("the last continuation byte", b"\xbf"),
    ("two continuation bytes", b"\x80\xbf"),
    ("seven continuation bytes", b"\x80\xbf\x80\xbf\x80\xbf\x80"),
    ("a continuation byte within a text", b"abc\x80def"),
    ("a continuation byte behind a character", b"\xc3\xa9\x80"),
    ("0xFE", b"\xfe"),
    ("0xFF", b"\xff"),
    ("0xFE and 0xFF", b"\xfe\xfe\xff\xff"),
    ("an overlong slash of 2 bytes", b"\xc0\xaf"),
    ("an overlong slash of 3 bytes", b"\xe0\x80\xaf"),
    ("an overlong slash of 4 bytes", b"\xf0\x80\x80\xaf"),
    ("an overlong slash of 5 bytes", b"\xf8\x80\x80\x80\xaf"),
    ("an overlong slash of 6 bytes", b"\xfc\x80\x80\x80\x80\xaf"),
    ("the last overlong of 2 bytes", b"\xc1\xbf"),
    ("the last overlong of 3 bytes", b"\xe0\x9f\xbf"),
    ("the last overlong of 4 bytes", b"\xf0\x8f\xbf\xbf"),
    ("the last overlong of 5 bytes", b"\xf8\x87\xbf\xbf\xbf"),
    ("the last overlong of 6 bytes", b"\xfc\x83\xbf\xbf\xbf\xbf"),
    ("an overlong NUL of 2 bytes", b"\xc0\x80"),
    ("an overlong NUL of 3 bytes", b"\xe0\x80\x80"),
    ("an overlong NUL of 4 bytes", b"\xf0\x80\x80\x80"),
    ("the first surrogate", b"\xed\xa0\x80"),
    ("the last high surrogate", b"\xed\xaf\xbf"),
    ("the first low surrogate", b"\xed\xb0\x80"),
    ("the last surrogate", b"\xed\xbf\xbf"),
    ("a pair of surrogates", b"\xed\xa0\x80\xed\xb0\x80"),
    ("another pair of surrogates", b"\xed\xaf\xbf\xed\xbf\xbf"),
    (
        "a surrogate within a text",
        b"\xce\xba\xe1\xbd\xb9\xcf\x83\xed\xa0\x80edited",
    ),
    ("U+110000", b"\xf4\x90\x80\x80"),
    (
        "U+110000 within a text",
        b"\xce\xba\xe1\xbd\xb9\xcf\x83\xf4\x90\x80\x80edited",
    ),
    ("U+13FFFF", b"\xf4\xbf\xbf\xbf"),
    ("U+140000", b"\xf5\x80\x80\x80"),
    ("U+1FFFFF", b"\xf7\xbf\xbf\xbf"),
    ("U+200000, of 5 bytes", b"\xf8\x88\x80\x80\x80"),
    ("U+3FFFFFF, of 5 bytes", b"\xfb\xbf\xbf\xbf\xbf"),
    ("U+4000000, of 6 bytes", b"\xfc\x84\x80\x80\x80\x80"),
    ("U+7FFFFFFF, of 6 bytes", b"\xfd\xbf\xbf\xbf\xbf\xbf"),
    ("1 of 2 bytes, then a letter", b"\xc3a"),
    ("1 of 3 bytes, then a letter", b"\xe2a"),
    ("2 of 3 bytes, then a letter", b"\xe2\x82a"),
    ("1 of 4 bytes, then a letter", b"\xf0a"),
    ("2 of 4 bytes, then a letter", b"\xf0\x9fa"),
    ("3 of 4 bytes, then a letter", b"\xf0\x9f\x98a"),
    (
        "3 of 4 bytes, then a whole character",
        b"\xf0\x9f\x98\xc3\xa9",
    ),
    ("1 of 2 bytes, twice", b"\xc3\xc3\xa9"),
    ("Latin-1", b"gr\xfc\xdfe"),
    ("UTF-16", b"\xff\xfeh\0i\0"),
    ("cut short: 1 of 2 bytes", b"a\xc3"),
    ("cut short: 1 of 3 bytes", b"a\xe2"),
    ("cut short: 2 of 3 bytes", b"a\xe2\x82"),
    ("cut short: 1 of 4 bytes", b"a\xf0"),
    ("cut short: 2 of 4 bytes", b"a\xf0\x9f"),
    ("cut short: 3 of 4 bytes", b"a\xf0\x9f\x98"),
    ("cut short: the last code point", b"\xf4\x8f\xbf"),
];

/// Where a text stops being the beginning of any: RFC 3629, section 4.
fn refused_at(bytes: &[u8]) -> Option<usize> {
    const ANY: (u8, u8) = (0x80, 0xbf);
    let mut at = 0;
    while let Some(first) = bytes.get(at) {
        let tail: &[(u8, u8)] = match first {
            0x00..=0x7f => &[],
            0xc2..=0xdf => &[ANY],
            0xe0 => &[(0xa0, 0xbf), ANY],
            0xe1..=0xec | 0xee | 0xef => &[ANY, ANY],
            0xed => &[(0x80, 0x9f), ANY],
            0xf0 => &[(0x90, 0xbf), ANY, ANY],
            0xf1..=0xf3 => &[ANY, ANY, ANY],
            0xf4 => &[(0x80, 0x8f), ANY, ANY],
            0x80..=0xc1 | 0xf5..=0xff => return Some(at),
        };
        at += 1;
        for (low, high) in tail {
            match bytes.get(at) {
                Some(byte) if (low..=high).contains(&byte) => at += 1,
                Some(_) => return Some(at),
                None => return None,
            }
        }
    }
    None
}

pub(crate) fn valid() -> Vec<Case> {
    let mut cases = Vec::new();
    for (name, text) in VALID {
        assert_eq!(refused_at(text.as_bytes()), None, "{name}");
        cases.extend(cut_everywhere(name, text.as_bytes()));
    }
    // Any bytes are a binary message, and any text is one, too.
    for (name, bytes) in INVALID {
        let case = Case::new(format!("{name}, in a binary message"));
        cases.push(case.send(frame(BINARY, bytes)).hear(answer(BINARY, bytes)));
        let case = Case::new(format!("{name}, in a ping"));
        cases.push(case.send(frame(PING, bytes)).hear(answer(PONG, bytes)));
    }
    cases
}

fn cut_everywhere(name: &str, text: &[u8]) -> Vec<Case> {
    let case = |how: &str| Case::new(format!("{name}, {how}"));
    let (whole, echo) = (frame(TEXT, text), answer(TEXT, text));
    let single = fragments(TEXT, text, 1);
    let pinged: Vec<u8> = single.join(&frame(PING, b"\xff")[..]);
    let pongs = answer(PONG, b"\xff").repeat(single.len() - 1);
    let mut cases = vec![
        case("in fragments of 1").send(single.concat()).hear(&echo),
        case("in fragments of 1, in writes of 1")
            .chopped(single.concat(), 1)
            .hear(&echo),
        case("in fragments of 1 with pings between")
            .send(&pinged)
            .hear(pongs)
            .hear(&echo),
    ];
    cases.extend(every_way(name, &whole, |case| case.hear(&echo)));
    for at in 1..text.len() {
        let (head, tail) = text.split_at(at);
        let two = [part(TEXT, head), last(tail)];
        let case = |how: &str| case(&format!("cut at {at}, {how}"));
        cases.push(case("in two fragments").send(two.concat()).hear(&echo));
        let between = [
            part(TEXT, head),
            part(CONTINUATION, ""),
            frame(PING, ""),
            last(tail),
        ];
        let between = case("with an empty fragment and a ping between").send(between.concat());
        cases.push(between.hear(answer(PONG, "")).hear(&echo));
        let (head, tail) = whole.split_at(whole.len() - text.len() + at);
        cases.push(
            case("in two reads")
                .send(head)
                .turn()
                .send(tail)
                .hear(&echo),
        );
    }
    cases
}

pub(crate) fn invalid() -> Vec<Case> {
    let mut cases = Vec::new();
    for (name, text) in INVALID {
        cases.extend(fails_fast(name, text));
        // The same behind a long valid text, so that it is not in the first read.
        let late = [&b"\xc3\xa9".repeat(4_000), *text].concat();
        let case = Case::new(format!("{name}, behind 8,000 bytes"));
        cases.push(case.send(frame(TEXT, &late)).fails(1007));
    }
    for byte in 0x80..=0xff_u8 {
        // Alone, and as the beginning of a character that does not come.
        let name = format!("{byte:#x} and a blank");
        cases.extend(fails_fast(&name, &[byte, b' ']));
    }
    for (at, second) in [0xe0, 0xed, 0xf0, 0xf4]
        .into_iter()
        .flat_map(|first| (0x80..=0xbf).map(move |second: u8| (first, second)))
    {
        let text = [at, second, 0x80, 0x80];
        if refused_at(&text[..2]).is_some() {
            let name = format!("{at:#x} and {second:#x}");
            let early = [
                header(FIN | TEXT, 4, Width::Bits7),
                masked(0, &text)[2..8].to_vec(),
            ];
            cases.push(Case::new(name).send(early.concat()).fails(1007));
        }
    }
    let every: Vec<u8> = (0x80..=0xbf).collect();
    cases.extend(fails_fast("every continuation byte", &every));
    cases
}

/// A text that is none, as a message, and up to the byte that says so.
fn fails_fast(name: &str, text: &[u8]) -> Vec<Case> {
    let case = |how: &str| Case::new(format!("{name}, {how}"));
    let whole = frame(TEXT, text);
    let behind = [whole.as_slice(), &frame(TEXT, "behind").repeat(1_000)].concat();
    let before = [frame(TEXT, "before"), frame(PING, "p"), whole.clone()].concat();
    let mut cases = vec![
        case("in fragments of 1")
            .send(fragments(TEXT, text, 1).concat())
            .fails(1007),
        case("before 12 kB of messages").send(behind).fails(1007),
        case("behind a message and a ping")
            .send(before)
            .hear(answer(TEXT, "before"))
            .hear(answer(PONG, "p"))
            .fails(1007),
    ];
    cases.extend(every_way(name, &whole, |case| case.fails(1007)));
    let Some(at) = refused_at(text) else {
        // It could go on, until it ends: nothing fails before that.
        let open = case("in a fragment, then the end").send(part(TEXT, text));
        let open = open.send(frame(PING, "alive")).hear(answer(PONG, "alive"));
        cases.push(open.send(last("")).fails(1007));
        let all_but_one = &whole[..whole.len() - 1];
        let late = case("its last byte late").send(all_but_one).turn();
        cases.push(late.send(&whole[whole.len() - 1..]).fails(1007));
        return cases;
    };
    let (valid, bad) = (&text[..at], &text[at..=at]);
    let up_to_bad = [valid, bad].concat();
    // Neither the message nor its fragment has ended.
    cases.push(
        case("in a fragment, and no more")
            .send(part(TEXT, &up_to_bad))
            .fails(1007),
    );
    let alive = case("alive before the byte")
        .send(part(TEXT, valid))
        .send(frame(PING, "alive"));
    let alive = alive.hear(answer(PONG, "alive"));
    cases.push(alive.send(part(CONTINUATION, bad)).fails(1007));
    // The frame itself has not arrived.
    for (width, len) in [
        (Width::Bits7, 125),
        (Width::Bits16, 60_000),
        (Width::Bits64, 70_000),
    ] {
        let begun = [
            header(FIN | TEXT, len, width),
            masked(0, &up_to_bad)[2..].to_vec(),
        ]
        .concat();
        let case = case(&format!("in a frame of {len} bytes that has not come"));
        cases.push(case.send(begun).fails(1007));
    }
    let begun = [
        header(FIN | TEXT, 125, Width::Bits7),
        masked(0, &up_to_bad)[2..].to_vec(),
    ];
    let late = case("in a frame that has not come, byte by byte").trickled(begun.concat(), 1);
    cases.push(late.fails(1007));
    cases
}
