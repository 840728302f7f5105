//! The reader, fed with bytes that are cut anywhere: what it tells, when it refuses, what it holds.

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

use super::oracle::{Told, compare};
use super::*;
use crate::net::masked::{frame, header};

const LIMIT: usize = 1_000;

/// Reads all of `input`, or up to an end.
fn tell(reader: &mut Reader, input: &mut Intake<'_>, limit: usize, told: &mut Vec<Told>) {
    loop {
        told.push(match reader.next(input, limit, &mut Vec::new()) {
            Received::Message(Message::Text(text)) => Told::Text(text.to_owned()),
            Received::Message(Message::Binary(bytes)) => Told::Binary(bytes.to_vec()),
            Received::Ping => Told::Ping(reader.ping_payload().to_vec()),
            Received::Pong => Told::Pong,
            Received::Closed => Told::Closed(reader.close_payload().unwrap().to_vec()),
            Received::Failed(reason) => Told::Failed(reason.code()),
            Received::Nothing => {
                assert!(input.rest().is_empty());
                return;
            }
        });
        if has_ended(told) {
            return;
        }
    }
}

fn has_ended(told: &[Told]) -> bool {
    matches!(told.last(), Some(Told::Closed(_) | Told::Failed(_)))
}

/// Gives one piece to a reader, and returns what it tells.
fn read(reader: &mut Reader, piece: &[u8]) -> Vec<Told> {
    let (mut bytes, mut told) = (piece.to_vec(), Vec::new());
    tell(reader, &mut Intake::new(&mut bytes), LIMIT, &mut told);
    told
}

/// What these pieces tell, one after the other; and of how many bytes there was an end.
fn read_all<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> (Vec<Told>, usize) {
    let (mut reader, mut told, mut used) = (Reader::default(), Vec::new(), 0);
    for piece in pieces {
        told.extend(read(&mut reader, piece));
        if has_ended(&told) {
            break;
        }
        used += piece.len();
    }
    (told, used)
}

/// The first `valid` bytes may stand, and the next may not, for this reason: in one piece, cut at
/// every byte, and byte by byte.
#[track_caller]
fn check(bytes: &[u8], valid: usize, reason: &CloseReason) {
    for cut in 0..=bytes.len() {
        let (head, tail) = bytes.split_at(cut);
        let (told, _) = read_all([head, tail]);
        assert_eq!(
            told.last(),
            Some(&Told::Failed(reason.code())),
            "cut at {cut}"
        );
    }
    let (told, used) = read_all(bytes.chunks(1));
    assert_eq!(
        told.last(),
        Some(&Told::Failed(reason.code())),
        "byte by byte"
    );
    assert_eq!(used, valid, "byte by byte");
}

#[test]
fn a_whole_message_is_lent_from_where_it_was_read_to() {
    let lens = [0, 1, 3, 4, 7, 8, 20, 125, 126, LIMIT];
    let payloads = lens.map(|len| {
        (0..len)
            .map(|index| (index % 101) as u8)
            .collect::<Vec<_>>()
    });
    let frames = payloads.iter().map(|payload| frame(0x82, payload));
    let mut bytes = frames.collect::<Vec<_>>().concat();
    bytes.extend(frame(0x81, "é€😀".as_bytes()));
    let lent_from = bytes.as_ptr_range();
    let (mut reader, mut input) = (Reader::default(), Intake::new(&mut bytes));
    for payload in &payloads {
        let Received::Message(Message::Binary(message)) =
            reader.next(&mut input, LIMIT, &mut Vec::new())
        else {
            panic!("no message of {} bytes", payload.len());
        };
        assert_eq!(message, payload);
        assert!(
            lent_from.contains(&message.as_ptr()),
            "{} bytes",
            payload.len()
        );
        assert!(!reader.is_under_way());
    }
    let received = reader.next(&mut input, LIMIT, &mut Vec::new());
    assert_eq!(received, Received::Message(Message::Text("é€😀")));
    assert_eq!(
        reader.next(&mut input, LIMIT, &mut Vec::new()),
        Received::Nothing
    );
    assert_eq!(
        (input.frames(), input.used()),
        (11, lent_from.end as usize - lent_from.start as usize)
    );
}

/// Streams of frames, and what they tell.
fn streams() -> Vec<(Vec<Vec<u8>>, Vec<Told>)> {
    let text = |text: &str| Told::Text(text.to_owned());
    let binary = |bytes: &[u8]| Told::Binary(bytes.to_vec());
    let ping = |bytes: &[u8]| Told::Ping(bytes.to_vec());
    vec![
        (
            vec![frame(0x81, "a €".as_bytes()), frame(0x82, b"xyz")],
            vec![text("a €"), binary(b"xyz")],
        ),
        (
            vec![
                frame(0x01, b"\xe2"),
                frame(0x89, b"p"),
                frame(0x80, b"\x82\xac"),
            ],
            vec![ping(b"p"), text("€")],
        ),
        (
            vec![
                frame(0x01, b"\xe2\x82"),
                frame(0x00, b""),
                frame(0x80, b"\xac"),
            ],
            vec![text("€")],
        ),
        (
            vec![frame(0x89, b"p"), frame(0x89, b""), frame(0x8a, b"\xff")],
            vec![ping(b"p"), ping(b""), Told::Pong],
        ),
        (
            vec![
                frame(0x02, &[7; 60]),
                frame(0x00, b""),
                frame(0x80, &[8; 41]),
            ],
            vec![binary(&[&[7; 60][..], &[8; 41]].concat())],
        ),
        // A binary message is no text, and neither is what is between the fragments of one.
        (
            vec![
                frame(0x82, b"\xff"),
                frame(0x01, b"a"),
                frame(0x89, b"\xff"),
                frame(0x80, b"b"),
            ],
            vec![binary(b"\xff"), ping(b"\xff"), text("ab")],
        ),
        // The code is no text, the reason is one of its own, and nothing is looked at behind it.
        (
            vec![
                frame(0x01, b"\xe2"),
                frame(0x88, b"\x03\xf6ok"),
                frame(0x88, b""),
                b"\xff".to_vec(),
            ],
            vec![Told::Closed(b"\x03\xf6ok".to_vec())],
        ),
        (
            vec![frame(0x81, b"a"), frame(0x88, b"")],
            vec![text("a"), Told::Closed(Vec::new())],
        ),
        (
            vec![frame(0x82, &[7; LIMIT]), frame(0x82, b"")],
            vec![binary(&[7; LIMIT]), binary(b"")],
        ),
    ]
}

#[test]
fn whatever_is_cut_anywhere_reads_the_same() {
    for (frames, expected) in &streams() {
        let bytes = frames.concat();
        // Twice, where that does not take long.
        let seconds = if bytes.len() < 200 { bytes.len() } else { 0 };
        for first in 0..=bytes.len() {
            for second in first..=first.max(seconds) {
                let pieces = [&bytes[..first], &bytes[first..second], &bytes[second..]];
                let (told, _) = read_all(pieces);
                assert_eq!(&told, expected, "{bytes:x?} cut at {first} and {second}");
            }
        }
        let (told, _) = read_all(bytes.chunks(1));
        assert_eq!(&told, expected, "{bytes:x?} byte by byte");
    }
}

#[test]
fn the_first_byte_of_a_frame() {
    for first in 0..=u8::MAX {
        let is_valid = matches!(first, 0x01 | 0x02 | 0x81 | 0x82 | 0x88 | 0x89 | 0x8a);
        if !is_valid {
            check(&frame(first, b""), 0, &CloseReason::ProtocolError);
        }
        let is_valid = matches!(first, 0x00 | 0x80 | 0x88 | 0x89 | 0x8a);
        let begun = frame(0x01, b"a");
        let both = [begun.clone(), frame(first, b"")].concat();
        if !is_valid {
            check(&both, begun.len(), &CloseReason::ProtocolError);
        }
    }
}

#[test]
fn lengths_and_masks() {
    let check = |header: &[u8], valid| check(header, valid, &CloseReason::ProtocolError);
    check(&[0x81, 0x01], 1);
    check(&[0x82, 0x7f], 1);
    check(&[0x89, 0xfe], 1);
    check(&[0x88, 0xff], 1);
    check(&[0x88, 0x81], 1);
    check(&[0x82, 0xfe, 0, 125], 3);
    check(&[0x82, 0xff, 0, 0, 0, 0, 0, 0, 0xff, 0xff], 9);
    check(&[0x82, 0xff, 0x80, 0, 0, 0, 0, 0, 0, 0], 9);
}

#[test]
fn what_is_too_big_is_refused_when_it_is_announced() {
    let check = |bytes: &[u8], valid| check(bytes, valid, &CloseReason::TooBig);
    check(&[0x82, 0xfe, 0x03, 0xe9], 3);
    check(&[0x81, 0xff, 0, 0, 0, 0, 0, 1, 0, 0], 9);
    let mut fragments = frame(0x02, &[0; LIMIT - 1]);
    fragments.extend(frame(0x89, b"between"));
    fragments.extend(frame(0x00, b"1"));
    let valid = fragments.len();
    check(&[&fragments[..], &[0x80, 0x81]].concat(), valid + 1);

    // The next message has all of the room again.
    fragments.extend(frame(0x80, b""));
    fragments.extend(frame(0x82, &[0; LIMIT]));
    let (told, _) = read_all([&fragments[..]]);
    let expected = [
        Told::Ping(b"between".to_vec()),
        Told::Binary([&[0; LIMIT - 1][..], b"1"].concat()),
        Told::Binary(vec![0; LIMIT]),
    ];
    assert_eq!(told, expected);
}

#[test]
fn text_is_judged_byte_by_byte() {
    let check = |bytes: &[u8], valid| check(bytes, valid, &CloseReason::InvalidUtf8);
    check(&frame(0x81, b"ab\x80cd"), 6 + 2);
    check(&frame(0x81, b"a\xf4\x90\x80\x80"), 6 + 2);
    check(&frame(0x81, b"ab\xed\xa0\x80"), 6 + 3);
    check(&frame(0x81, b"ab\xc3"), 6 + 2);
    let begun = frame(0x01, b"a\xe2\x82");
    check(
        &[begun.clone(), frame(0x80, b"(more")].concat(),
        begun.len() + 6,
    );
    let between = [begun, frame(0x89, b"\xff"), frame(0x00, b"")].concat();
    check(
        &[between.clone(), frame(0x80, b"")].concat(),
        between.len() + 5,
    );
    check(&frame(0x88, b"\x03\xe8ok\xc0"), 6 + 4);
    check(&frame(0x88, b"\x03\xe8ok\xc3"), 6 + 4);
}

#[test]
fn what_is_held_is_what_has_come_of_a_message_that_is_not_whole() {
    let fragment = [&frame(0x02, b"abc")[..], &frame(0x00, b"defg")].concat();
    let (ping, last) = (frame(0x89, b"xy"), frame(0x80, b"hi"));
    // How much is held after each byte: of the message, and of the frame, a header included.
    let header = |before: usize| (1..=5).map(move |len| before + len).chain([before]);
    let payload = |before: usize, len: usize| (1..=len).map(move |len| before + len);
    let held = [
        header(0).chain(payload(0, 3)).collect::<Vec<_>>(),
        header(3).chain(payload(3, 4)).collect(),
        header(7).chain([8, 7]).collect(),
        header(7).chain([8, 0]).collect(),
        header(0).chain([1, 0]).collect(),
    ];
    let bytes = [fragment, ping, last, frame(0x81, b"ok")].concat();
    let mut reader = Reader::default();
    for (at, (byte, held)) in bytes.iter().zip(held.concat()).enumerate() {
        read(&mut reader, &[*byte]);
        reader.rest();
        assert_eq!(reader.held_bytes(), held, "behind byte {at}");
    }
}

#[test]
fn rest_is_between_messages_and_nowhere_else() {
    let frames = [
        frame(0x01, b"a"),
        frame(0x89, b""),
        frame(0x80, b"b"),
        frame(0x89, b""),
    ];
    let ends = [0, frames[..3].concat().len(), frames.concat().len()];
    let bytes = frames.concat();
    for cut in 0..=bytes.len() {
        let mut reader = Reader::default();
        read(&mut reader, &bytes[..cut]);
        reader.rest();
        assert_eq!(!reader.is_under_way(), ends.contains(&cut), "cut at {cut}");
    }
}

#[test]
fn what_is_under_way_takes_no_more_than_twice_what_has_come() {
    let mut reader = Reader::default();
    read(&mut reader, &header(0x02, 0xfe, LIMIT as u64));
    for len in 1..LIMIT {
        read(&mut reader, b"x");
        let capacity = reader.0.as_ref().unwrap().message.capacity();
        assert!(capacity <= 2 * len.max(8), "{capacity} bytes for {len}");
    }
    read(&mut reader, b"x");
    read(&mut reader, &frame(0x88, b""));
    assert_eq!(reader.0.unwrap().message.capacity(), 0, "behind a Close");
}

/// Frames as a client might send them, some of which are wrong, and may be cut short.
fn random_frames(rng: &mut StdRng, payload_max: usize) -> Vec<u8> {
    let (mut bytes, mut in_message) = (Vec::new(), false);
    for _ in 0..rng.random_range(1..8) {
        let begins: &[u8] = &[0x81, 0x81, 0x82, 0x01, 0x02, 0x89, 0x8a, 0x88];
        let goes_on: &[u8] = &[0x00, 0x00, 0x80, 0x80, 0x89, 0x8a, 0x88];
        let firsts = if in_message { goes_on } else { begins };
        let first = match rng.random_range(0..30) {
            0 => rng.random(),
            _ => firsts[rng.random_range(0..firsts.len())],
        };
        if first & 0x08 == 0 {
            in_message = first & 0x80 == 0;
        }
        let max = if first & 0x08 == 0 { payload_max } else { 130 };
        let len = [0, 1, 5, 20, 125, 126, max][rng.random_range(0..7)];
        let payload: Vec<u8> = if rng.random_bool(0.7) {
            "a€é😀".bytes().cycle().take(len).collect()
        } else {
            (0..len).map(|_| rng.random()).collect()
        };
        match rng.random_range(0..40) {
            // A length in more bytes than it needs.
            0 => bytes.extend(header(first, 0xfe, len as u64)),
            1 => bytes.extend(header(first, 0xff, len as u64)),
            2 => bytes.extend(header(first, rng.random(), rng.random())),
            _ => bytes.extend(frame(first, &payload)),
        }
    }
    if rng.random_bool(0.3) {
        let at = rng.random_range(0..bytes.len());
        bytes[at] = rng.random();
    }
    if rng.random_bool(0.5) {
        bytes.truncate(rng.random_range(0..=bytes.len()));
    }
    bytes
}

/// What bytes tell that are read in pieces of these lengths.
fn read_cut(bytes: &[u8], limit: usize, mut piece_len: impl FnMut() -> usize) -> Vec<Told> {
    let (mut reader, mut told, mut rest) = (Reader::default(), Vec::new(), bytes);
    while !rest.is_empty() && !has_ended(&told) {
        let (piece, behind) = rest.split_at(piece_len().min(rest.len()));
        let mut piece = piece.to_vec();
        tell(&mut reader, &mut Intake::new(&mut piece), limit, &mut told);
        rest = behind;
    }
    told
}

#[test]
fn whatever_comes_tungstenite_says_the_same() {
    let mut ends = [0; 5];
    for seed in 0..4_000 {
        let mut rng = StdRng::seed_from_u64(seed);
        // Some have large frames, a few of which make a message too big.
        let is_large = seed % 8 == 0;
        let (limit, payload_max) = if is_large {
            (60_000, 25_000)
        } else {
            (300, 130)
        };
        let bytes = random_frames(&mut rng, payload_max);
        let told = read_cut(&bytes, limit, || bytes.len());
        compare(&bytes, &told, limit);
        let piece_max = [2, 20, 20_000][rng.random_range(0..3)];
        let cut = read_cut(&bytes, limit, || rng.random_range(1..=piece_max));
        assert_eq!(cut, told, "seed {seed}: {bytes:x?}");
        ends[match told.last() {
            Some(Told::Failed(1002)) => 0,
            Some(Told::Failed(1007)) => 1,
            Some(Told::Failed(_)) => 2,
            Some(Told::Closed(_)) => 3,
            _ => 4,
        }] += 1;
    }
    assert!(ends.iter().all(|len| *len >= 10), "{ends:?}");
}
