//! Goal: whatever Redis says, in whatever pieces, the conversation answers the same: never more
//! than was asked, in the order in which it was asked, and nothing after an error.
//! Method: the first byte says how the replies are cut, the second what is asked, and whether the
//! greeting has gone well before; the rest is what Redis says. It is heard in one piece and in
//! those pieces.

#![no_main]

use libfuzzer_sys::fuzz_target;
use sundown::engine::io::{
    Claim, Commit, Mail, Push, ReadMailbox, Refused, SessionId, SessionKey, Snapshot, StoreCommand,
    StoreEvent,
};
use sundown::store::redis::fuzzing::Conversation;
use sundown_fuzz::{choice, cut, heap};

const GREETING: &[u8] = b"%1\r\n+role\r\n+master\r\n+c1c\r\n+5a5\r\n+c03\r\n+ead\r\n:0\r\n\
    >3\r\n+subscribe\r\n+sundown:claimed:0\r\n:1\r\n";

/// The events, and how the link ended.
type Heard = (Vec<String>, Result<(), String>);

fuzz_target!(|data: &[u8]| {
    let (pattern, data) = choice(data);
    let (asked, replies) = choice(data);
    let whole = hear([replies].into_iter(), asked);
    let (pieces, growth) = heap::growth(|| hear(cut(replies, pattern), asked));
    assert_eq!(whole, pieces, "in one piece, and in pieces");
    // Four bytes of reply may become a `Value`. Where a script is refused, all are loaded again, three
    // times in a row at most: 24 KiB each time, into a buffer that doubles.
    let bound = (192 << 10) + 256 * replies.len();
    assert!(
        growth <= bound,
        "{growth} bytes for {} of reply",
        replies.len()
    );
});

fn hear<'a>(pieces: impl Iterator<Item = &'a [u8]>, asked: u8) -> Heard {
    let mut talk = Conversation::begin("redis://:hunter2@localhost").expect("a URL");
    let mut heard = Vec::new();
    let mut expected = Vec::new();
    if asked & 0x80 != 0 {
        talk.receive(GREETING).expect("a greeting by the book");
        assert!(talk.is_ready() && talk.is_idle());
        expected = ask(&mut talk, asked);
    }
    let mut end = Ok(());
    for piece in pieces {
        end = talk.receive(piece);
        if end.is_err() {
            break;
        }
    }
    let mut ups = 0;
    let mut expected = expected.into_iter();
    while let Some(event) = talk.poll_event() {
        heard.push(format!("{event:?}"));
        match event {
            StoreEvent::Up => ups += 1,
            // The batch's last answer follows.
            StoreEvent::TakenOver { .. }
            | StoreEvent::Mail { .. }
            | StoreEvent::Refused {
                request: Refused::Commit(_),
                ..
            } => {}
            answer @ (StoreEvent::Claimed { .. }
            | StoreEvent::Refused { .. }
            | StoreEvent::Committed { .. }
            | StoreEvent::Mailbox { .. }
            | StoreEvent::Synced) => {
                let next = expected.next().expect("an answer that nobody asked for");
                answers(&answer, next);
            }
            StoreEvent::Down { .. }
            | StoreEvent::Lost { .. }
            | StoreEvent::Stalled
            | StoreEvent::Resumed
            | StoreEvent::Spilled { .. } => {
                panic!("that is for the link to say: {event:?}")
            }
        }
    }
    assert_eq!(ups, u32::from(talk.is_ready()), "one Up for each link");
    if end.is_ok() && talk.is_idle() {
        assert!(expected.next().is_none(), "an answer got lost: {heard:?}");
    }
    if let Err(reason) = &end {
        assert!(!reason.contains("hunter2"), "{reason}");
        assert!(
            !reason.is_empty() && !reason.contains(char::is_control),
            "{reason:?}"
        );
    }
    (heard, end)
}

/// Four requests, of two bits each but the last, and what each is to be answered by. Every second
/// commit has pushes, and every second sync is a read.
fn ask(talk: &mut Conversation, asked: u8) -> Vec<u8> {
    let kinds = [asked & 3, asked >> 2 & 3, asked >> 4 & 3, asked >> 6 & 1];
    for (at, kind) in kinds.into_iter().enumerate() {
        let token = at as u64;
        match kind {
            0 => talk.ask(StoreCommand::Claim(Claim {
                key: key(0),
                session: session("a"),
                token,
            })),
            1 => talk.ask(StoreCommand::Commit(
                (0..3).map(|slot| commit(slot, token)).collect(),
            )),
            2 if is_odd(at) => talk.ask(StoreCommand::Read(ReadMailbox {
                key: key(0),
                session: session("a"),
            })),
            2 => talk.ask(StoreCommand::Sync),
            _ => talk.ping(),
        }
    }
    let asked = kinds.into_iter().enumerate().filter(|(_, kind)| *kind != 3);
    let expected = asked.map(|(at, kind)| if kind == 2 && is_odd(at) { READ } else { kind });
    expected.collect()
}

const READ: u8 = 4;

fn is_odd(at: usize) -> bool {
    at % 2 == 1
}

fn answers(event: &StoreEvent, kind: u8) {
    match (event, kind) {
        (StoreEvent::Claimed { key: found, .. }, 0) => assert_eq!(*found, key(0)),
        (
            StoreEvent::Refused {
                request: Refused::Claim(found),
                ..
            },
            0,
        ) => assert_eq!(*found, key(0)),
        (StoreEvent::Mailbox { key: found, .. }, READ) => assert_eq!(*found, key(0)),
        (
            StoreEvent::Refused {
                request: Refused::Read(found),
                ..
            },
            READ,
        ) => assert_eq!(*found, key(0)),
        (
            StoreEvent::Committed {
                batch,
                fenced,
                pushed,
            },
            1,
        ) => {
            assert!(batch.len() <= 3);
            let taken = batch.len() - fenced.len();
            assert!(pushed.is_empty() || pushed.len() == taken);
            assert!(batch.iter().all(|commit| commit.session == session("a")));
            let is_in = |at: &usize| *at < batch.len();
            assert!(fenced.is_sorted_by(|a, b| a < b) && fenced.iter().all(is_in));
        }
        (StoreEvent::Synced, 2) => {}
        (event, kind) => panic!("{event:?} in place of the answer to {kind}"),
    }
}

fn key(slot: u32) -> SessionKey {
    SessionKey {
        slot,
        generation: 7,
    }
}

fn session(id: &str) -> SessionId {
    SessionId::parse(id).expect("an id")
}

fn commit(slot: u32, count: u64) -> Commit {
    Commit {
        key: key(slot),
        session: session("a"),
        epoch: 1,
        snapshot: Snapshot::counted(count),
        mail: (count % 2 == 1).then(|| {
            Box::new(Mail {
                confirmed: 0,
                pushes: vec![Push {
                    step: count,
                    to: session("b"),
                    body: "body".into(),
                }],
            })
        }),
    }
}
