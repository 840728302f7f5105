//! The conversation, played from a script: no Redis, no socket, no time.

use std::time::Duration;

use super::*;
use crate::engine::io::{Claim, Commit, SessionId, SessionKey, Snapshot, State};
use crate::redis::framing::Framing;
use crate::redis::framing::REPLY_BYTES_MAX;
use crate::redis::target::Target;
use crate::store::redis::scripts;

const KEY: SessionKey = SessionKey {
    slot: 1,
    generation: 2,
};
const HELLO: &str = "%2\r\n$4\r\nmode\r\n$10\r\nstandalone\r\n$4\r\nrole\r\n$6\r\nmaster\r\n";
const LOADED: &str = "$3\r\nc1c\r\n$3\r\n5a5\r\n$3\r\nc03\r\n$3\r\nead\r\n";
const SAVED: &str = "*3\r\n*0\r\n*0\r\n*0\r\n";
/// The first epoch of a session that was not found.
const GRANTED: &str = "*8\r\n:1\r\n:0\r\n:0\r\n:1\r\n:0\r\n$0\r\n\r\n:0\r\n*0\r\n";
const WRITTEN: &str = ":0\r\n";
const SUBSCRIBED: &str = ">3\r\n$9\r\nsubscribe\r\n$17\r\nsundown:claimed:0\r\n:1\r\n";
const NOSCRIPT: &str = "-NOSCRIPT No matching script. Please use EVAL.\r\n";

/// A pipeline, what it has said since, and what it has answered.
struct Talk {
    pipeline: Pipeline,
    events: VecDeque<StoreEvent>,
}

impl Talk {
    fn begin(url: &str) -> Self {
        let login = Target::parse(url).unwrap().login;
        let mut pipeline = Pipeline::new(login, Duration::from_secs(1), 0xe1f);
        pipeline.greet();
        Self {
            pipeline,
            events: VecDeque::new(),
        }
    }

    /// Greeted, in RESP3.
    fn ready() -> Self {
        let mut talk = Self::begin("redis://h");
        talk.hear(&greeting()).unwrap();
        assert_eq!(talk.answered(), ["Up"]);
        talk.said();
        talk
    }

    fn hear(&mut self, text: &str) -> Result<(), String> {
        self.pipeline.receive(text.as_bytes(), &mut self.events)
    }

    /// The commands, as words; scripts are cut to their first line.
    fn said(&mut self) -> Vec<String> {
        let bytes = self.pipeline.exchange_mut().outbound.pending().to_vec();
        self.pipeline.exchange_mut().outbound.consume(bytes.len());
        let mut framing = Framing::default();
        framing.push(&bytes);
        let mut commands = Vec::new();
        while let Ok(Some(Value::Array(words))) = framing.next() {
            let words: Vec<String> = words
                .iter()
                .map(|word| redis::from_redis_value_ref::<String>(word).unwrap())
                .map(|word| word.replacen(scripts::shared(), "", 1))
                .map(|word| word.lines().next().unwrap_or_default().to_owned())
                .collect();
            commands.push(words.join(" "));
        }
        commands
    }

    fn answered(&mut self) -> Vec<String> {
        self.events
            .drain(..)
            .map(|event| format!("{event:?}"))
            .collect()
    }

    fn claim(&mut self, session: &str, token: u64) {
        let session = SessionId::parse(session).unwrap();
        self.ask(StoreCommand::Claim(Claim {
            key: KEY,
            session,
            token,
        }));
    }

    fn save(&mut self, sessions: &[&str]) {
        let commit = |(count, session): (usize, &&str)| Commit {
            key: KEY,
            session: SessionId::parse(session).unwrap(),
            epoch: 3,
            snapshot: Snapshot::counted(count as u64),
            mail: None,
        };
        let batch = sessions.iter().enumerate().map(commit).collect();
        self.ask(StoreCommand::Commit(batch));
    }

    fn ask(&mut self, command: StoreCommand) {
        self.pipeline.ask(command, &mut self.events);
    }
}

fn greeting() -> String {
    format!("{HELLO}{LOADED}{WRITTEN}{SUBSCRIBED}")
}

fn granted(epoch: u64) -> String {
    GRANTED.replacen(":1", &format!(":{epoch}"), 1)
}

fn push(channel: &str, payload: &str) -> String {
    let (c, p) = (channel.len(), payload.len());
    format!(">3\r\n$7\r\nmessage\r\n${c}\r\n{channel}\r\n${p}\r\n{payload}\r\n")
}

#[test]
fn greets_in_two_steps_and_then_is_up() {
    let mut talk = Talk::begin("redis://me:secret@h/5");
    assert_eq!(talk.said(), ["HELLO 3 AUTH me secret SETNAME sundown"]);
    talk.hear(HELLO).unwrap();
    let said = talk.said();
    assert_eq!(said[0], "SELECT 5");
    assert!(
        said[1..5]
            .iter()
            .all(|said| said.starts_with("SCRIPT LOAD"))
    );
    assert_eq!(said[2], "SCRIPT LOAD #!lua flags=allow-oom");
    let subscribe = "SUBSCRIBE sundown:claimed:5:e1f sundown:claimed:5";
    assert_eq!(said[5..], ["PEXPIRE sundown:session:% 1", subscribe]);
    talk.hear(&format!("+OK\r\n{LOADED}{WRITTEN}")).unwrap();
    assert!(talk.answered().is_empty() && !talk.pipeline.exchange().is_ready());
    talk.hear(SUBSCRIBED).unwrap();
    assert_eq!(talk.answered(), ["Up"]);
    assert!(talk.pipeline.exchange().is_ready() && talk.pipeline.exchange().awaited().is_empty());
}

#[test]
fn speaks_resp2_to_those_who_know_no_more() {
    let unknown = "-ERR unknown command `HELLO`, with args beginning with: `3`, `AUTH`,\r\n";
    for (url, refusal, auth) in [
        ("redis://:secret@h", unknown, Some("AUTH secret")),
        (
            "redis://me:secret@h",
            "-NOPROTO no\r\n",
            Some("AUTH me secret"),
        ),
        ("redis://h", unknown, None),
    ] {
        let mut talk = Talk::begin(url);
        talk.said();
        talk.hear(refusal).unwrap();
        let said = talk.said();
        let named = usize::from(auth.is_some());
        assert_eq!(
            said.first().map(String::as_str).filter(|_| named == 1),
            auth
        );
        assert_eq!(said[named], "CLIENT SETNAME sundown");
        assert_eq!(said.len(), named + 6, "no SUBSCRIBE: {said:?}");
        let ok = "+OK\r\n".repeat(named);
        talk.hear(&format!("{ok}-ERR no names\r\n{LOADED}{WRITTEN}"))
            .unwrap();
        assert_eq!(talk.answered(), ["Up"]);
    }
}

#[test]
fn is_up_without_the_right_to_subscribe() {
    let mut talk = Talk::begin("redis://h");
    let refused = "-NOPERM this user has no permissions to access the channel\r\n";
    talk.hear(&format!("{HELLO}{LOADED}{WRITTEN}{refused}"))
        .unwrap();
    assert_eq!(talk.answered(), ["Up"]);
}

#[test]
fn gives_reasons_for_what_cannot_be_greeted() {
    let replica = HELLO.replace("$6\r\nmaster", "$7\r\nreplica");
    let cluster = HELLO.replace("$10\r\nstandalone", "$7\r\ncluster");
    for (heard, reason) in [
        (
            "-WRONGPASS invalid: secret\r\n".to_owned(),
            "WRONGPASS invalid: …",
        ),
        (
            "-NOAUTH Authentication required.\r\n".to_owned(),
            "NOAUTH Authentication required.",
        ),
        (replica, "a replica, which cannot be written to"),
        (cluster, "a Redis in cluster mode, which is not supported"),
        (
            "+OK\r\n".to_owned(),
            "an answer to HELLO that makes no sense",
        ),
        (
            format!("{HELLO}-LOADING Redis\tis loading\r\n"),
            "LOADING Redis is loading",
        ),
        (
            format!("{HELLO}:1\r\n"),
            "an answer to SCRIPT LOAD that makes no sense",
        ),
        (
            "HTTP/1.1 400 Bad Request\r\n".to_owned(),
            "no Redis: garbage received",
        ),
        (
            format!("{HELLO}-ERR unknown command 'SCRIPT', with args: secre\r\n"),
            "ERR unknown command",
        ),
        (
            format!("{HELLO}{LOADED}-NOREPLICAS Not enough good replicas to write.\r\n"),
            "NOREPLICAS Not enough good replicas to write.",
        ),
    ] {
        let mut talk = Talk::begin("redis://:secret@h");
        assert_eq!(talk.hear(&heard).unwrap_err(), reason);
        assert!(talk.answered().is_empty());
    }
}

#[test]
fn answers_in_the_order_of_the_requests() {
    let mut talk = Talk::ready();
    talk.claim("a", 77);
    talk.save(&["x", "y", "z"]);
    talk.ask(StoreCommand::Sync);
    talk.claim("b", 78);
    talk.pipeline.exchange_mut().ping();
    talk.ask(StoreCommand::Sync);
    assert_eq!(
        talk.said(),
        [
            "EVALSHA c1c 1 sundown:session:a 77 1000 sundown:claimed:0 a e1f",
            "EVALSHA 5a5 3 sundown:session:x sundown:session:y sundown:session:z \
             1000 3 1 0 0  3 1 1 1  3 1 2 2 ",
            "EVALSHA c1c 1 sundown:session:b 78 1000 sundown:claimed:0 b e1f",
            "HELLO 3",
        ]
    );
    talk.hear("*8\r\n:4\r\n:9\r\n:1\r\n:1\r\n:0\r\n$0\r\n\r\n:0\r\n*0\r\n*3\r\n*2\r\n:0\r\n:2\r\n*0\r\n*0\r\n")
        .unwrap();
    let answered = talk.answered();
    assert!(answered[0].starts_with("Claimed"), "{answered:?}");
    assert!(
        answered[0].contains("epoch: 4, found: true, snapshot: Snapshot { incarnation: 1, step: 0"),
        "{answered:?}"
    );
    assert!(
        answered[0].ends_with("count: 9, state: State(0 bytes) }, mailbox: Mailbox { sent: 0, bytes: 0, kept: [] } } }"),
        "{answered:?}"
    );
    assert!(
        answered[1].ends_with("fenced: [0, 2], pushed: [] }"),
        "{answered:?}"
    );
    assert_eq!(answered[2..], ["Synced"]);
    talk.hear(GRANTED).unwrap();
    assert_eq!(talk.answered().len(), 1);
    talk.hear(HELLO).unwrap();
    assert_eq!(talk.answered(), ["Synced"]);
    talk.ask(StoreCommand::Sync);
    assert_eq!(talk.answered(), ["Synced"]);
}

/// Everything that a link can carry, from HELLO on.
fn whole_conversation(cuts: &[usize]) -> Vec<String> {
    let mut talk = Talk::begin("redis://h");
    let news = push("sundown:claimed:0", "s 9");
    let stream = format!(
        "{}*8\r\n:4\r\n:9\r\n:1\r\n:1\r\n:0\r\n$0\r\n\r\n:2\r\n*1\r\n$3\r\ntab\r\n{news}*3\r\n*1\r\n:1\r\n*0\r\n*0\r\n{HELLO}{SAVED}",
        greeting()
    );
    let stream = stream.as_bytes();
    let mut answered = Vec::new();
    let mut from = 0;
    for &to in cuts.iter().chain([&stream.len()]) {
        let to = to.min(stream.len());
        talk.pipeline
            .receive(&stream[from..to], &mut talk.events)
            .unwrap();
        from = to;
        let events = talk.answered();
        if events.iter().any(|event| event == "Up") {
            // The rest of the replies is to these; none of them is complete before it is asked.
            talk.claim("a", 1);
            talk.save(&["x", "y"]);
            talk.pipeline.exchange_mut().ping();
            talk.save(&["x"]);
        }
        answered.extend(events);
    }
    assert!(talk.pipeline.exchange().awaited().is_empty());
    answered
}

#[test]
fn understands_the_stream_however_it_is_cut() {
    let up = greeting().len();
    let whole = whole_conversation(&[up]);
    assert_eq!(whole.len(), 5, "{whole:?}");
    for cut in 0..up + 80 {
        let cuts = if cut < up { [cut, up] } else { [up, cut] };
        assert_eq!(whole_conversation(&cuts), whole, "cut at {cut}");
    }
    let everywhere: Vec<usize> = (0..up + 200).collect();
    assert_eq!(whole_conversation(&everywhere), whole);
}

#[test]
fn loads_lost_scripts_and_repeats_what_was_refused_in_order() {
    let mut talk = Talk::ready();
    talk.claim("a", 1);
    talk.save(&["x"]);
    talk.ask(StoreCommand::Sync);
    talk.pipeline.exchange_mut().ping();
    talk.claim("b", 2);
    let first = talk.said();
    // Another node has loaded the scripts by the time of the last one: it is asked again as well.
    talk.hear(NOSCRIPT).unwrap();
    talk.claim("c", 3);
    let second = talk.said();
    assert!(
        second[..4]
            .iter()
            .all(|said| said.starts_with("SCRIPT LOAD"))
    );
    assert_eq!(second[4..7], [&first[0][..], &first[1], &first[3]]);
    assert!(second[7].ends_with(" c e1f"));
    talk.hear(&format!("{NOSCRIPT}{HELLO}{GRANTED}{LOADED}"))
        .unwrap();
    assert!(
        talk.answered().is_empty(),
        "the first round's answers are void"
    );
    talk.hear(&format!("{}{SAVED}", granted(5))).unwrap();
    talk.hear(&format!("{}{}", granted(6), granted(7))).unwrap();
    let answered = talk.answered();
    let kinds: Vec<_> = answered
        .iter()
        .map(|event| event.split(' ').next().unwrap())
        .collect();
    assert_eq!(
        kinds,
        ["Claimed", "Committed", "Synced", "Claimed", "Claimed"]
    );
    assert!(answered[4].contains("epoch: 7"), "{answered:?}");
}

#[test]
fn gives_up_on_a_redis_that_never_knows_its_scripts() {
    let mut talk = Talk::ready();
    talk.claim("a", 1);
    for _ in 0..RELOADS_MAX {
        talk.hear(&format!("{NOSCRIPT}{LOADED}")).unwrap();
    }
    assert!(talk.hear(NOSCRIPT).unwrap_err().contains("forgets scripts"));
}

#[test]
fn hears_news_and_nothing_else_on_the_channel() {
    let mut talk = Talk::ready();
    for (channel, payload) in [
        ("sundown:claimed:1", "s 2"),
        ("sundown:claimed:0", "s"),
        ("sundown:claimed:0", "s -2"),
        ("sundown:claimed:0", "s 18446744073709551616"),
        ("sundown:claimed:0", "not/an/id 2"),
        ("sundown:claimed:0", " 2"),
        ("sundown:claimed:0", ""),
        ("sundown:claimed:0:e1e", "s 2"),
    ] {
        talk.hear(&push(channel, payload)).unwrap();
        assert!(talk.answered().is_empty(), "{channel} {payload}");
    }
    talk.hear(">0\r\n>1\r\n$10\r\ninvalidate\r\n>2\r\n$7\r\nmessage\r\n_\r\n")
        .unwrap();
    assert!(talk.answered().is_empty());
    talk.hear(&push("sundown:claimed:0", "s.1 18446744073709551615"))
        .unwrap();
    let told = "TakenOver { session: SessionId(\"s.1\"), epoch: 18446744073709551615 }";
    assert_eq!(talk.answered(), [told]);
    talk.hear(&push("sundown:claimed:0:e1f", "s.1 3")).unwrap();
    assert!(matches!(
        talk.events.pop_front(),
        Some(StoreEvent::Mail { sent: 3, .. })
    ));
}

#[test]
fn an_error_ends_the_link_with_its_reason() {
    for (heard, reason) in [
        ("-MISCONF cannot persist\r\n", "MISCONF cannot persist"),
        (
            "-ERR The user executing the script can't run this command\r\n",
            "ERR The user executing the script can't run this command",
        ),
        ("-READONLY You can't write\r\n", "READONLY You can't write"),
        ("-\r\n", "an error without a word"),
        ("-A\rB unknown command\r\n", "A B unknown command"),
        (
            "*2\r\n:1\r\n:2\r\n",
            "an answer to a claim that makes no sense",
        ),
        (
            "*8\r\n:1\r\n:-2\r\n:1\r\n:1\r\n:0\r\n$0\r\n\r\n:0\r\n*0\r\n",
            "an answer to a claim that makes no sense",
        ),
        (
            "*3\r\n:1\r\n:0\r\n$0\r\n\r\n",
            "an answer to a claim that makes no sense",
        ),
        (
            "*8\r\n:1\r\n:0\r\n:0\r\n:1\r\n:0\r\n:0\r\n:0\r\n*0\r\n",
            "an answer to a claim that makes no sense",
        ),
        ("_\r\n", "an answer to a claim that makes no sense"),
        ("*3\r\n:1\r\n:2\r\n:x\r\n", "no Redis: garbage received"),
        ("?\r\n", "no Redis: garbage received"),
    ] {
        let mut talk = Talk::ready();
        talk.claim("a", 1);
        assert_eq!(talk.hear(heard).unwrap_err(), reason);
    }
    for heard in [
        "*0\r\n",
        "*3\r\n*1\r\n:2\r\n*0\r\n*0\r\n",
        "*3\r\n*2\r\n:1\r\n:0\r\n*0\r\n*0\r\n",
        "*3\r\n*2\r\n:1\r\n:1\r\n*0\r\n*0\r\n",
        "*3\r\n*0\r\n*1\r\n:1\r\n*0\r\n",
        "*3\r\n*0\r\n*2\r\n:2\r\n+OOM no\r\n*0\r\n",
        "*3\r\n*1\r\n:1\r\n*2\r\n:1\r\n+OOM no\r\n*0\r\n",
        "*3\r\n*0\r\n*0\r\n*2\r\n:2\r\n:1\r\n",
        "*4\r\n*0\r\n*0\r\n*0\r\n*1\r\n:1\r\n",
        "+OK\r\n",
    ] {
        let mut talk = Talk::ready();
        talk.save(&["x", "y"]);
        let reason = talk.hear(heard).unwrap_err();
        assert_eq!(reason, "an answer to a save that makes no sense", "{heard}");
    }
    let mut talk = Talk::ready();
    assert!(talk.hear("+OK\r\n").unwrap_err().contains("nobody asked"));
}

#[test]
fn a_state_that_is_too_big_refuses_its_session_alone() {
    for (len, is_refused) in [(State::MAX, false), (State::MAX + 1, true)] {
        let mut talk = Talk::ready();
        talk.claim("a", 1);
        talk.claim("b", 2);
        let state = "x".repeat(len);
        let big = format!("*8\r\n:1\r\n:0\r\n:1\r\n:1\r\n:0\r\n${len}\r\n{state}\r\n:0\r\n*0\r\n");
        talk.hear(&format!("{big}{GRANTED}")).unwrap();
        let answered = talk.answered();
        assert_eq!(answered.len(), 2);
        assert_eq!(answered[0].starts_with("Refused"), is_refused);
        assert!(answered[1].starts_with("Claimed"), "{answered:?}");
    }
}

#[test]
fn what_came_before_an_error_counts() {
    let mut talk = Talk::ready();
    talk.claim("a", 1);
    talk.claim("b", 2);
    talk.hear(&format!("{GRANTED}-BUSY running a script\r\n"))
        .unwrap_err();
    assert_eq!(talk.answered().len(), 1);
}

/// What follows must not be taken for the reply, wherever the bytes were cut.
#[test]
fn garbage_is_not_skipped_at_a_cut() {
    let bytes = &format!("?\r\n{GRANTED}");
    for cut in 0..=bytes.len() {
        let mut talk = Talk::ready();
        talk.claim("a", 1);
        let (head, tail) = bytes.split_at(cut);
        let end = talk.hear(head).and_then(|()| talk.hear(tail));
        assert_eq!(end, Err("no Redis: garbage received".to_owned()), "{cut}");
        assert!(talk.answered().is_empty(), "{cut}");
    }
}

#[test]
fn an_endless_reply_is_cut_off() {
    assert!(Talk::ready().hear("$1000000000\r\n").is_err());
    let mut talk = Talk::ready();
    talk.hear("+").unwrap();
    let piece = "x".repeat(64 << 10);
    let pieces = (1..100).take_while(|_| talk.hear(&piece).is_ok()).count();
    assert_eq!(pieces, REPLY_BYTES_MAX / piece.len() - 1);
}

#[test]
fn no_garbage_makes_it_panic() {
    use rand::rngs::StdRng;
    use rand::{RngExt, SeedableRng};
    let alphabet = b"$*%|~>-+:,#!=(_?0123456789\r\n\r\n\r\nabt";
    for seed in 0..3_000 {
        let mut random = StdRng::seed_from_u64(seed);
        let mut talk = Talk::ready();
        talk.claim("a", 1);
        talk.save(&["x"]);
        let valid = format!("{GRANTED}{}{SAVED}", push("sundown:claimed:0", "s 1"));
        let mut bytes = valid.into_bytes();
        for _ in 0..random.random_range(1..20) {
            let at = random.random_range(0..=bytes.len());
            let byte = alphabet[random.random_range(0..alphabet.len())];
            bytes.insert(at, byte);
        }
        // Whatever it makes of it, it comes back.
        drop(talk.pipeline.receive(&bytes, &mut talk.events));
    }
    for text in [
        "*9223372036854775807\r\n",
        "%4611686018427387904\r\n",
        "|4611686018427387904\r\n",
    ] {
        for prefix in ["", "*100\r\n"] {
            let mut talk = Talk::ready();
            drop(talk.hear(&format!("{prefix}{text}$1\r\na\r\n")));
        }
    }
    for text in [
        "$9223372036854775807\r\nx",
        "=-1\r\nx",
        "!-9223372036854775808\r\nx",
        "%-1\r\n",
        "|-1\r\n",
    ] {
        drop(Talk::ready().hear(text));
    }
    drop(Talk::ready().hear(&"*1\r\n".repeat(5_000)));
}

#[test]
fn the_oldest_request_keeps_its_time() {
    let start = crate::clock::now().instant;
    let mut talk = Talk::ready();
    assert_eq!(talk.pipeline.exchange().waiting_since(), None);
    talk.claim("a", 1);
    talk.pipeline.exchange_mut().mark_asked(start);
    talk.claim("b", 2);
    let later = start + Duration::from_secs(1);
    talk.pipeline.exchange_mut().mark_asked(later);
    assert_eq!(talk.pipeline.exchange().waiting_since(), Some(start));
    talk.hear(GRANTED).unwrap();
    assert_eq!(talk.pipeline.exchange().waiting_since(), Some(later));
}

#[test]
fn a_new_link_begins_with_nothing_of_the_old_one() {
    let mut talk = Talk::ready();
    talk.claim("a", 1);
    talk.hear("*3\r\n:1\r\n:0").unwrap();
    talk.pipeline.greet();
    assert_eq!(talk.said(), ["HELLO 3 SETNAME sundown"]);
    talk.hear(&greeting()).unwrap();
    assert_eq!(talk.answered(), ["Up"]);
    assert!(talk.pipeline.exchange().awaited().is_empty());
}

#[test]
fn an_error_about_one_key_is_the_answer_to_that_request_alone() {
    let mut talk = Talk::ready();
    talk.claim("evil", 1);
    talk.claim("good", 2);
    talk.hear(&format!("-WRONGTYPE Operation against a key\r\n{GRANTED}"))
        .unwrap();
    let answered = talk.answered();
    assert!(
        answered[0].starts_with("Refused { request: Claim("),
        "{answered:?}"
    );
    assert!(answered[0].ends_with("reason: \"WRONGTYPE Operation against a key\" }"));
    assert!(answered[1].starts_with("Claimed"), "{answered:?}");
}

#[test]
fn a_batch_is_saved_but_for_what_is_refused_in_it() {
    let mut talk = Talk::ready();
    talk.save(&["a", "b", "c", "d"]);
    let refused = "*4\r\n:0\r\n+WRONGTYPE x\r\n:2\r\n+ERR user_script:1: y\r\n";
    talk.hear(&format!("*3\r\n*1\r\n:3\r\n{refused}*2\r\n:1\r\n:5\r\n"))
        .unwrap();
    let events: Vec<_> = talk.events.drain(..).collect();
    let name = |commit: &Commit| commit.session.to_string();
    let [
        StoreEvent::Mail {
            session: b,
            sent: 5,
        },
        StoreEvent::Refused {
            request: Refused::Commit(c),
            ..
        },
        StoreEvent::Refused {
            request: Refused::Commit(a),
            ..
        },
        StoreEvent::Committed { batch, fenced, .. },
    ] = &events[..]
    else {
        panic!("{events:?}");
    };
    assert_eq!([b.to_string(), name(c), name(a)], ["b", "c", "a"]);
    assert_eq!(batch.iter().map(name).collect::<Vec<_>>(), ["b", "d"]);
    assert_eq!(*fenced, [1]);
    // What is about the server is not one session's.
    talk.save(&["a"]);
    let end = talk.hear("*3\r\n*0\r\n*2\r\n:0\r\n+READONLY z\r\n*0\r\n");
    assert_eq!(end.unwrap_err(), "READONLY z");
}

#[test]
fn a_redis_without_flags_gets_the_script_without_them() {
    let mut talk = Talk::begin("redis://h");
    talk.hear(HELLO).unwrap();
    talk.said();
    let refused = "-ERR Error compiling script (new function): user_script:1: '#'\r\n";
    let others = "$3\r\nc03\r\n$3\r\nead\r\n";
    let heard = format!("$3\r\nc1c\r\n{refused}{others}{WRITTEN}{SUBSCRIBED}");
    talk.hear(&heard).unwrap();
    assert!(talk.answered().is_empty());
    assert!(talk.said()[0].starts_with("SCRIPT LOAD local ttl_ms = ARGV[1]"));
    talk.hear("$3\r\n5a5\r\n").unwrap();
    assert_eq!(talk.answered(), ["Up"]);
    // It is not asked in vain again on this link.
    talk.save(&["x"]);
    talk.said();
    talk.hear(NOSCRIPT).unwrap();
    assert!(talk.said()[1].starts_with("SCRIPT LOAD local ttl_ms ="));
}

#[test]
fn a_quiet_link_notices_that_its_redis_has_become_a_replica() {
    let mut talk = Talk::ready();
    talk.pipeline.exchange_mut().ping();
    let replica = HELLO.replace("$6\r\nmaster", "$7\r\nreplica");
    assert!(talk.hear(&replica).unwrap_err().contains("a replica"));
}
