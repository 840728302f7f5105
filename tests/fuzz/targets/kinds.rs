//! Goal: a message of a `sundown.v2` client is what docs/protocol.md says that it is, no more and no
//! less, in text as in a binary message, and what a session has counted is what its client counts.
//! Method: the input is cut into messages; a grammar that is written here a second time says what
//! each is. All of them go to an engine as well, whose application sees the bodies and nothing else.

#![no_main]

use std::sync::mpsc::{Sender, channel};

use libfuzzer_sys::fuzz_target;
use sundown::engine::Engine;
use sundown::engine::io::{ConnId, Input, Output, Protocol, StoreCommand, StoreEvent, Tells};
use sundown::engine::io::{Grant, Mailbox, Received, Snapshot};
use sundown::engine::message::Message;
use sundown::engine::message::v2::{self, ClientMessage, Invalid};
use sundown::{Application, Config, Session, clock};

fuzz_target!(|data: &[u8]| {
    let messages: Vec<&[u8]> = data.split(|byte| *byte == 0xff).collect();
    for message in &messages {
        parse(message);
    }
    converse(&messages);
});

/// What a message is, as the grammar has it.
fn is(message: &[u8]) -> Result<ClientMessage<'_>, Invalid> {
    match message {
        [] => Err(Invalid::Empty),
        [b'm', body @ ..] => Ok(ClientMessage::Body(Message::Binary(body))),
        [b'a', digits @ ..] => match number(digits) {
            Some(number) => Ok(ClientMessage::Received(number)),
            None => Err(Invalid::Malformed),
        },
        [b'q'] => Ok(ClientMessage::Leaving),
        [b'q', ..] => Err(Invalid::Malformed),
        [b'p' | b's' | b'u' | b'T', ..] => Err(Invalid::NotYet),
        [_, ..] => Err(Invalid::UnknownKind),
    }
}

fn number(digits: &[u8]) -> Option<u64> {
    let text = str::from_utf8(digits).ok()?;
    let number: u64 = text.parse().ok()?;
    (number.to_string() == text).then_some(number)
}

fn parse(message: &[u8]) {
    let expected = is(message);
    assert_eq!(v2::parse(Message::Binary(message)), expected, "{message:?}");
    let Ok(text) = str::from_utf8(message) else {
        return;
    };
    match (v2::parse(Message::Text(text)), expected) {
        (
            Ok(ClientMessage::Body(Message::Text(body))),
            Ok(ClientMessage::Body(Message::Binary(bytes))),
        ) => assert_eq!(body.as_bytes(), bytes),
        (got, expected) => assert_eq!(got, expected, "{text:?}"),
    }
}

/// Passes on what it sees.
struct Seen(Sender<Vec<u8>>);

impl Application for Seen {
    fn on_message(&mut self, message: Message<'_>, _session: &mut Session<'_>) {
        let Message::Binary(body) = message else {
            panic!("{message:?}");
        };
        self.0.send(body.to_owned()).expect("it is listened to");
    }
}

/// All messages on one connection, and a commit after them.
fn converse(messages: &[&[u8]]) {
    let (sender, seen) = channel();
    let now = clock::now();
    let mut engine = Engine::new(&Config::default(), Box::new(Seen(sender)), [7; 32], now);
    let conn = ConnId {
        slot: 0,
        generation: 0,
    };
    engine.handle_input(Input::Store(StoreEvent::Up), now);
    let opened = Input::Opened {
        conn,
        protocol: Protocol::V2,
        tells: Tells::ALL,
        session: None,
        received: Received::default(),
    };
    engine.handle_input(opened, now);
    let Some(StoreCommand::Claim(claim)) = engine.poll_store() else {
        panic!("no claim");
    };
    let grant = Grant {
        epoch: 1,
        found: false,
        snapshot: Snapshot {
            incarnation: 1,
            ..Snapshot::default()
        },
        mailbox: Mailbox::default(),
    };
    let key = claim.key;
    engine.handle_input(Input::Store(StoreEvent::Claimed { key, grant }), now);
    while engine.poll_output().is_some() {}

    let mut expected = Vec::new();
    let (mut leaves, mut broken) = (false, None);
    for message in messages {
        match is(message) {
            _ if broken.is_some() => {}
            Ok(ClientMessage::Body(_) | ClientMessage::Leaving) if leaves => {
                broken = Some(Invalid::AfterLeaving);
            }
            Ok(ClientMessage::Body(Message::Binary(body))) => expected.push(body.to_owned()),
            Ok(ClientMessage::Leaving) => leaves = true,
            Ok(ClientMessage::Body(_) | ClientMessage::Received(_)) => {}
            Err(invalid) => broken = Some(invalid),
        }
        let message = Message::Binary(message);
        engine.handle_input(Input::Message { conn, message }, now);
    }
    assert_eq!(seen.try_iter().collect::<Vec<_>>(), expected);
    let count = expected.len() as u64;
    if let Some(StoreCommand::Commit(batch)) = engine.poll_store() {
        assert_eq!(batch[0].snapshot.count, count);
        let committed = StoreEvent::Committed {
            batch,
            fenced: Vec::new(),
            pushed: Vec::new(),
        };
        engine.handle_input(Input::Store(committed), now);
    } else {
        assert_eq!(count, 0, "nothing is committed");
    }
    let mut said = Vec::new();
    let mut reasons = Vec::new();
    while let Some(output) = engine.poll_output() {
        match output {
            Output::Send {
                protocol, message, ..
            } => {
                assert!(reasons.is_empty(), "{message:?} follows a Close");
                let payload = message.payload(protocol, &mut Vec::new()).to_owned();
                said.push(String::from_utf8(payload).expect("a count"));
            }
            Output::Close { reason, .. } => reasons.push(reason.text().into_owned()),
            Output::Pause { .. } | Output::Resume { .. } => {}
            other => panic!("{other:?}"),
        }
    }
    let counts: Vec<_> = (count > 0)
        .then(|| format!("c{count}"))
        .into_iter()
        .collect();
    assert_eq!(said, counts);
    let broken = broken.map(|invalid: Invalid| invalid.text().to_owned());
    assert_eq!(reasons, broken.into_iter().collect::<Vec<_>>());
}
