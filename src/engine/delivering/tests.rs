//! Pushes from one session to another on one node and from elsewhere: who gets them, and when.

use std::panic::resume_unwind;

use std::time::Duration;

use super::*;
use crate::config::{Config, Durability};
use crate::engine::app::{Application, Deferred, Hub, Session};
use crate::engine::io::{
    Commit, Input, Push, PushRequest, Received, Snapshot, StoreCommand, StoreEvent,
};
use crate::engine::mailbox::PushRefused;
use crate::engine::message::Message;
use crate::engine::receipt::PushError;
use crate::engine::tests::{PLAIN, Rig, V1, V2, conn, quiet};
use crate::store::SessionStore as _;

thread_local! {
    /// What the service has deferred last.
    static DEFERRED: std::cell::RefCell<Option<Deferred>> = const { std::cell::RefCell::new(None) };
}

/// Does what messages say, line by line: `to SESSION TEXT`, `self TEXT`, `panic`, `defer`, `wake MS`.
struct Post;

impl Application for Post {
    fn on_message(&mut self, message: Message<'_>, session: &mut Session<'_>) {
        let Message::Text(text) = message else { return };
        for line in text.lines() {
            let words: Vec<_> = line.splitn(3, ' ').collect();
            match words[..] {
                ["to", to, text] => session.push_to(&id(to), text).unwrap(),
                ["self", text] => session.push(text).unwrap(),
                ["defer"] => {
                    let deferred = session.defer();
                    DEFERRED.with(|one| one.replace(Some(deferred)));
                }
                ["panic"] => resume_unwind(Box::new("as it was told")),
                ["wake", ms] => session.wake_in(Duration::from_millis(ms.parse().unwrap())),
                _ => {}
            }
        }
    }

    fn on_timer(&mut self, session: &mut Session<'_>) {
        session.push("awake").unwrap();
    }

    fn on_push_refused(
        &mut self,
        to: &SessionId,
        body: &Body,
        why: PushRefused,
        session: &mut Session<'_>,
    ) {
        let bytes = body.len();
        session.reply_text(format!("refused {to}, {bytes} bytes: {why}"));
    }

    fn on_shutdown(&mut self, hub: &mut Hub<'_>) {
        hub.push_to(&id("b"), "the end").unwrap();
    }
}

fn id(name: &str) -> SessionId {
    SessionId::parse(name).unwrap()
}

fn post(protocol: Protocol, sessions: &[&str]) -> Rig {
    let mut rig = Rig::serving(&quiet(Durability::Acked), Post);
    rig.open_all(protocol, sessions);
    rig
}

/// Another node pushes: it is in the store, and nothing is known of it here.
fn push_elsewhere(rig: &mut Rig, to: &str, body: &str, step: u64) {
    let to = id(to);
    let body = body.into();
    rig.store.ask(StoreCommand::Commit(vec![Commit {
        key: SessionKey {
            slot: 99,
            generation: 99,
        },
        session: id("elsewhere"),
        epoch: 1,
        snapshot: Snapshot {
            step,
            ..Snapshot::counted(0)
        },
        mail: Some(Box::new(Mail {
            confirmed: 0,
            pushes: vec![Push { step, to, body }],
        })),
    }]));
    rig.store.flush(rig.now);
    let answer = rig.store.poll_event();
    assert!(
        matches!(&answer, Some(StoreEvent::Committed { pushed, .. })
            if matches!(pushed[..], [Pushed::Accepted(_)])),
        "{answer:?}"
    );
}

fn hear(rig: &mut Rig, session: &str, sent: u64) {
    let session = id(session);
    rig.store_is(StoreEvent::Mail { session, sent });
}

#[test]
fn a_push_arrives_once_it_is_committed_and_is_kept_until_it_is_confirmed() {
    let mut rig = post(V2, &["a", "b"]);
    rig.answers = false;
    rig.tell(0, "mto b one\nto b two");
    assert_eq!(rig.asked(), ["a=1"]);
    rig.check(&[]);
    rig.answer();
    rig.check(&["#0 c1", "#1 m1 one", "#1 m2 two"]);
    rig.answers = true;
    rig.tell(1, "a1");
    rig.flush();
    // It comes back without having said more.
    rig.close(1);
    rig.flush();
    rig.log.clear();
    rig.open(2, V2, "b");
    rig.flush();
    rig.check(&[
        "#2 pause",
        "#2 h{\"session\":\"b\",\"incarnation\":1,\"count\":0,\"resumed\":true,\"sent\":2}",
        "#2 m2 two",
        "#2 resume",
    ]);
}

#[test]
fn a_number_that_no_push_has_confirms_none() {
    let mut rig = post(V2, &["a", "b"]);
    rig.tell(0, "mto b one\nto b two");
    rig.flush();
    for number in [3, 99, u64::MAX] {
        rig.tell(1, &format!("a{number}"));
        rig.pass(1_000);
        assert_eq!(rig.store_waiting("b"), 2, "a{number}");
    }
    rig.tell(1, "a2");
    rig.pass(1_000);
    assert_eq!(rig.store_waiting("b"), 0);
}

#[test]
fn what_is_confirmed_while_a_commit_is_under_way_goes_with_the_next() {
    let mut rig = post(V2, &["b"]);
    rig.tell(0, "mself one");
    rig.flush();
    rig.answers = false;
    rig.tell(0, "mhi");
    assert_eq!(rig.asked(), ["b=2"]);
    rig.tell(0, "a1");
    assert_eq!(rig.asked(), [""; 0]);
    rig.answer();
    assert_eq!(rig.asked(), ["b=2"]);
    rig.answer();
    assert_eq!((rig.store_sent("b"), rig.store_waiting("b")), (1, 0));
    assert_eq!(rig.asked(), [""; 0]);
}

#[test]
fn a_client_that_says_what_it_has_received_does_not_get_it_again() {
    let all = ["m1 x", "m2 y"];
    for (number, incarnation, expected) in [
        (0, None, &all[..]),
        (1, None, &all[1..]),
        (2, None, &[]),
        (3, None, &all),
        (1, Some(1), &all[1..]),
        (1, Some(2), &all),
    ] {
        let received = Received {
            number,
            incarnation,
        };
        let mut rig = post(V2, &["a", "b"]);
        rig.tell(0, "mto b x\nto b y");
        rig.flush();
        rig.log.clear();
        rig.input(Input::Gone { conn: conn(1) });
        rig.input(Input::Opened {
            conn: conn(2),
            protocol: V2,
            tells: crate::engine::app::Tells::ALL,
            session: Some(id("b")),
            received,
        });
        rig.flush();
        let got = rig.log.iter().filter_map(|line| line.strip_prefix("#2 "));
        let got: Vec<_> = got.filter(|line| line.starts_with('m')).collect();
        assert_eq!(got, expected, "{received:?}");
    }
}

#[test]
fn other_clients_get_bare_messages_which_count_as_received_when_the_kernel_has_them() {
    for protocol in [PLAIN, V1] {
        let mut rig = post(protocol, &["a", "b"]);
        rig.tell(0, "to b one");
        rig.flush();
        rig.check(&["#0 {\"count\":1}", "#1 one"]);
        rig.input(Input::Taken { conn: conn(1) });
        rig.tell(0, "to b two");
        rig.flush();
        rig.check(&["#0 {\"count\":2}", "#1 two"]);
        // The second is still in our buffer when the connection breaks.
        rig.input(Input::Gone { conn: conn(1) });
        rig.flush();
        rig.open(2, protocol, "b");
        rig.flush();
        let again: Vec<_> = rig
            .log
            .iter()
            .filter(|line| line.contains("one") || line.contains("two"))
            .collect();
        assert_eq!(again, ["#2 two"]);
    }
}

#[test]
fn a_client_without_a_session_pushes_and_its_count_waits_for_that() {
    let mut rig = post(V2, &["b"]);
    rig.answers = false;
    rig.open(1, PLAIN, "");
    rig.tell(1, "hi");
    rig.check(&["#1 {\"count\":1}"]);
    rig.tell(1, "to b hello\nself me");
    rig.check(&[]);
    rig.flush();
    rig.answer();
    rig.check(&["#1 {\"count\":2}", "#0 m1 hello", "#1 me"]);
    rig.tell(1, "hi");
    rig.flush();
    rig.answer();
    rig.check(&["#1 {\"count\":3}"]);
}

#[test]
fn a_refused_push_fails_nothing_and_is_told() {
    let mut rig = post(V2, &["a", "b"]);
    rig.tell(0, "mto nobody text\nto b one");
    rig.flush();
    rig.check(&[
        "#0 c1",
        "#1 m1 one",
        "#0 rrefused nobody, 4 bytes: there is no such session",
    ]);
    let many = format!("m{}", "to b x\n".repeat(Mailbox::LEN_MAX));
    rig.tell(0, &many);
    rig.flush();
    let refused = "#0 rrefused b, 1 bytes: the mailbox of the session is full";
    assert_eq!(rig.log.iter().filter(|line| *line == refused).count(), 1);
    let arrived = rig.log.iter().filter(|line| line.starts_with("#1 m"));
    assert_eq!(arrived.count(), Mailbox::LEN_MAX - 1);
}

#[test]
fn a_step_that_fails_pushes_nothing() {
    let mut rig = post(V2, &["a", "b"]);
    rig.tell(0, "mto b one\npanic");
    rig.flush();
    assert!(
        !rig.log.iter().any(|line| line.starts_with("#1")),
        "{:?}",
        rig.log
    );
    assert_eq!(rig.store_sent("b"), 0);
}

/// The store has carried a commit out, and its answer is lost with the link.
#[test]
fn a_lost_answer_repeats_no_push_and_loses_none() {
    let mut rig = post(V2, &["a", "b"]);
    rig.answers = false;
    rig.tell(0, "mto b one");
    rig.asked();
    rig.store.flush(rig.now);
    while rig.store.poll_event().is_some() {}
    rig.store_is_down();
    rig.tell(0, "mto b two");
    rig.store_is(StoreEvent::Up);
    rig.answers = true;
    rig.flush();
    let arrived: Vec<_> = rig
        .log
        .iter()
        .filter(|line| line.starts_with("#1 m"))
        .collect();
    assert_eq!(arrived, ["#1 m1 one", "#1 m2 two"]);
    assert_eq!(rig.store_sent("b"), 2);
}

#[test]
fn news_from_another_node_is_looked_into_once() {
    let mut rig = post(V2, &["b"]);
    push_elsewhere(&mut rig, "b", "one", 1);
    push_elsewhere(&mut rig, "b", "two", 2);
    rig.answers = false;
    hear(&mut rig, "b", 1);
    hear(&mut rig, "b", 2);
    assert_eq!(rig.asked(), ["read b"]);
    rig.answer();
    rig.check(&["#0 m1 one", "#0 m2 two"]);
    // Old news, and news of a session that is not open here.
    hear(&mut rig, "b", 2);
    hear(&mut rig, "c", 9);
    assert_eq!(rig.asked(), [""; 0]);
    // A push of this node after one of another: the one between is read.
    push_elsewhere(&mut rig, "b", "three", 3);
    rig.answers = true;
    rig.tell(0, "mself four");
    rig.flush();
    rig.check(&["#0 c1", "#0 m3 three", "#0 m4 four"]);
}

/// A store may say so before it has answered what it has read by then.
#[test]
fn news_while_a_mailbox_is_read_is_looked_into() {
    let mut rig = post(V2, &["b"]);
    push_elsewhere(&mut rig, "b", "one", 1);
    rig.answers = false;
    hear(&mut rig, "b", 1);
    assert_eq!(rig.asked(), ["read b"]);
    rig.store.flush(rig.now);
    let read = rig.store.poll_event().unwrap();
    push_elsewhere(&mut rig, "b", "two", 2);
    hear(&mut rig, "b", 2);
    assert_eq!(rig.asked(), [""; 0]);
    rig.input(Input::Store(read));
    assert_eq!(rig.asked(), ["read b"]);
    rig.answer();
    rig.check(&["#0 m1 one", "#0 m2 two"]);
    assert_eq!(rig.asked(), [""; 0]);
}

#[test]
fn news_of_a_session_that_is_being_claimed_waits_for_the_grant() {
    let mut rig = Rig::serving(&quiet(Durability::Acked), Post);
    rig.answers = false;
    rig.open(0, V2, "b");
    assert_eq!(rig.asked(), ["claim b"]);
    rig.store.flush(rig.now);
    // The claim is carried out, and not answered.
    let claimed = rig.store.poll_event();
    push_elsewhere(&mut rig, "b", "one", 1);
    hear(&mut rig, "b", 1);
    assert_eq!(rig.asked(), [""; 0]);
    rig.input(Input::Store(claimed.unwrap()));
    assert_eq!(rig.asked(), ["read b"]);
    rig.answer();
    assert_eq!(rig.log.last().map(String::as_str), Some("#0 m1 one"));
}

#[test]
fn a_store_that_is_away_is_asked_again_what_a_mailbox_holds() {
    let mut rig = post(V2, &["b"]);
    push_elsewhere(&mut rig, "b", "one", 1);
    rig.answers = false;
    hear(&mut rig, "b", 1);
    assert_eq!(rig.asked(), ["read b"]);
    rig.store_is_down();
    assert_eq!(rig.asked(), [""; 0]);
    rig.store_is(StoreEvent::Up);
    assert!(rig.asked().contains(&"read b".to_owned()));
    rig.answer();
    rig.check(&["#0 m1 one"]);
}

/// Its numbers have begun anew, so that what its client knows does not hold.
#[test]
fn a_mailbox_that_the_store_has_lost_sends_its_client_away() {
    let mut rig = post(V2, &["a", "b"]);
    rig.tell(0, "mto b one\nto b two");
    rig.flush();
    rig.log.clear();
    let ttl = Duration::from_secs(60);
    rig.store = crate::store::memory::MemoryStore::new(ttl);
    rig.store.poll_event();
    rig.tell(1, "mhi");
    rig.flush();
    rig.tell(0, "mto b three");
    rig.flush();
    rig.check(&["#1 c1", "#0 c2", "#1 close 1013"]);
}

#[test]
fn what_is_under_way_to_a_slow_client_is_no_more_than_may_wait_for_it() {
    let mut config = quiet(Durability::Acked);
    config.limits.outbound_bytes_max = 20_000;
    let mut rig = Rig::serving(&config, Post);
    rig.open_all(V2, &["a", "b"]);
    let lines = format!("to b {}\n", "x".repeat(4_000)).repeat(5);
    rig.tell(0, &format!("m{lines}"));
    rig.flush();
    let arrived = |rig: &mut Rig| {
        let log = std::mem::take(&mut rig.log);
        log.iter().filter(|line| line.starts_with("#1 m")).count()
    };
    assert_eq!(arrived(&mut rig), 2);
    rig.tell(1, "a1");
    rig.flush();
    assert_eq!(arrived(&mut rig), 1);
    rig.tell(1, "a3");
    rig.flush();
    assert_eq!(arrived(&mut rig), 2);
}

#[test]
fn a_push_of_another_thread_is_told_once_it_is_committed() {
    let mut rig = post(V2, &["b"]);
    rig.answers = false;
    let mut receipts = Vec::new();
    for (to, body) in [("b", "one"), ("nobody", "x"), ("b", "two")] {
        let (request, receipt) = PushRequest::new(id(to), body.into());
        rig.input(Input::Push(request));
        receipts.push(receipt);
    }
    rig.asked();
    assert!(
        receipts
            .iter()
            .all(|receipt| receipt.wait_for(Duration::ZERO).is_none())
    );
    rig.answers = true;
    rig.flush();
    rig.check(&["#0 m1 one", "#0 m2 two"]);
    let told = receipts
        .into_iter()
        .map(|receipt| receipt.wait_for(Duration::ZERO));
    assert_eq!(
        told.collect::<Vec<_>>(),
        [Some(Ok(1)), Some(Err(PushError::Unknown)), Some(Ok(2))]
    );
    let (request, receipt) = PushRequest::new(id("b"), "late".into());
    drop(rig);
    drop(request);
    assert_eq!(receipt.wait(), Err(PushError::Stopped));
}

#[test]
fn what_a_shutdown_pushes_comes_before_the_goodbye() {
    let mut rig = post(V2, &["b"]);
    rig.shut_down();
    rig.pass(1_000);
    let at = |start: &str| rig.log.iter().position(|line| line.starts_with(start));
    let pushed = at("#0 m1 the end").unwrap();
    assert!(
        pushed < at("#0 b{\"total\":0,\"sent\":1}").unwrap(),
        "{:?}",
        rig.log
    );
}

/// Its slot comes before the store has answered.
#[test]
fn who_leaves_before_the_others_hears_what_the_application_says_at_the_end() {
    let mut rig = post(V2, &["b", "c"]);
    rig.levels.unread = 1;
    rig.tell(0, "q");
    rig.flush();
    rig.answers = false;
    rig.ask();
    // Its own last save is confirmed, and the other one is not asked yet.
    let mut asked = std::iter::from_fn(|| rig.engine.poll_store());
    let (own, farewell) = (asked.next().unwrap(), asked.next().unwrap());
    rig.store.ask(own);
    rig.answer();
    rig.pass(300);
    let said = |rig: &Rig, start: &str| rig.log.iter().position(|line| line.starts_with(start));
    assert_eq!(said(&rig, "#0 b"), None, "{:?}", rig.log);
    rig.store.ask(farewell);
    rig.answers = true;
    rig.flush();
    rig.pass(10);
    let pushed = said(&rig, "#0 m1 the end").unwrap();
    assert!(
        Some(pushed) < said(&rig, "#0 b{\"total\":0,\"sent\":1}"),
        "{:?}",
        rig.log
    );
}

#[test]
fn a_session_is_woken_once_and_not_after_its_end() {
    let mut rig = post(V2, &["a", "b"]);
    rig.tell(0, "mwake 500\nwake 100");
    rig.tell(1, "mwake 100");
    rig.flush();
    rig.log.clear();
    rig.pass(99);
    rig.check(&[]);
    rig.input(Input::Gone { conn: conn(1) });
    rig.pass(1_000);
    rig.check(&["#0 m1 awake"]);
}

#[test]
fn clients_that_push_faster_than_the_store_takes_it_are_not_read_from() {
    let config = Config {
        durability: Durability::Relaxed,
        ..quiet(Durability::Relaxed)
    };
    let mut rig = Rig::serving(&config, Post);
    rig.open_all(PLAIN, &["a"]);
    rig.answers = false;
    for _ in 0..10_000 {
        rig.tell(0, "self x");
        if rig.log.contains(&"#0 pause".to_owned()) {
            return;
        }
    }
    panic!("never");
}

/// The other one has confirmed what its client has received: nothing may be left out here.
#[test]
fn a_mailbox_that_a_newer_owner_has_confirmed_ends_the_session_here() {
    let mut rig = post(V2, &["b"]);
    push_elsewhere(&mut rig, "b", "one", 1);
    push_elsewhere(&mut rig, "b", "two", 2);
    rig.claim_elsewhere("b");
    let claimed = rig.store.poll_event();
    let Some(StoreEvent::Claimed { grant, .. }) = claimed else {
        panic!("{claimed:?}");
    };
    rig.store.ask(StoreCommand::Commit(vec![Commit {
        key: SessionKey {
            slot: 99,
            generation: 99,
        },
        session: id("b"),
        epoch: grant.epoch,
        snapshot: grant.snapshot,
        mail: Some(Box::new(Mail {
            confirmed: 1,
            pushes: Vec::new(),
        })),
    }]));
    rig.store.flush(rig.now);
    assert!(rig.store.poll_event().is_some());
    hear(&mut rig, "b", 2);
    rig.flush();
    rig.check(&["#0 close 4001"]);
}

#[test]
fn a_session_is_not_woken_while_too_much_of_it_waits_for_the_store() {
    let mut config = quiet(Durability::Acked);
    config.limits.held_replies_max = 4;
    let mut rig = Rig::serving(&config, Post);
    rig.open_all(V2, &["a"]);
    rig.answers = false;
    rig.tell(0, "mself x\nself x\nself x\nself x\nself x\nwake 10");
    rig.check(&["#0 pause"]);
    rig.pass(1_000);
    rig.check(&[]);
    rig.answers = true;
    rig.flush();
    rig.pass(0);
    assert_eq!(rig.log.last().map(String::as_str), Some("#0 m6 awake"));
}

#[test]
fn claims_wait_while_many_are_not_answered() {
    let mut rig = Rig::serving(&quiet(Durability::Acked), Post);
    rig.answers = false;
    for slot in 0..100 {
        rig.open(slot, V2, &format!("s{slot}"));
    }
    assert_eq!(rig.asked().len(), 64);
    rig.answer();
    assert_eq!(rig.asked().len(), 36);
}

#[test]
fn pushes_from_outside_wait_where_they_come_from_if_they_are_large() {
    let mut rig = post(V2, &["b"]);
    rig.answers = false;
    let mut receipts = Vec::new();
    while rig.engine.has_room_for_pushes() {
        let (request, receipt) = PushRequest::new(id("b"), vec![0; 200_000].into());
        rig.input(Input::Push(request));
        receipts.push(receipt);
    }
    assert_eq!(receipts.len(), 6);
    rig.answers = true;
    rig.flush();
    assert!(rig.engine.has_room_for_pushes());
}
