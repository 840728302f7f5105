//! What Redis keeps of pushes, who is told of them, and what goes wrong alone.

use redis::Value;
use sundown::engine::io::{Body, Mailbox, PushRefused, Pushed, Refused, StoreCommand, StoreEvent};
use sundown::store::SessionStore as _;

use crate::driver::Driver;
use crate::mailboxes::commit;
use crate::steps::Promising as _;
use crate::support::redis::Redis;

const KEY: &str = "sundown:session:to";
const MAILBOX: &str = "sundown:mailbox:to";

/// One push of this step to "to".
fn push(store: &mut Driver, epoch: u64, step: u64) -> Pushed {
    let push = (step, "to", Body::from("push"));
    let (fenced, pushed) = store.commit_batch(vec![commit("from", epoch, step, 0, &[push])]);
    assert!(fenced.is_empty());
    pushed[0]
}

/// The next news of a push.
#[track_caller]
fn mail(store: &mut Driver) -> (String, u64) {
    loop {
        match store.next() {
            StoreEvent::Mail { session, sent } => return (session.to_string(), sent),
            StoreEvent::TakenOver { .. } => {}
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn the_node_that_claimed_a_session_is_told_of_pushes_to_it() {
    let redis = Redis::start();
    let mut owner = Driver::up(&redis.url());
    let mut other = Driver::up(&redis.url());
    owner.grant("to", 1);
    let (epoch, ..) = other.claim("from", 1);
    assert_eq!(push(&mut other, epoch, 1), Pushed::Accepted(1));
    assert_eq!(mail(&mut owner), ("to".to_owned(), 1));
    // Two in one commit are one piece of news, and a repeat is none.
    let both = [2, 2].map(|step| (step, "to", Body::from("push")));
    let two = commit("from", epoch, 2, 0, &both);
    other.commit_batch(vec![two.clone()]);
    other.commit_batch(vec![two]);
    assert_eq!(mail(&mut owner), ("to".to_owned(), 3));
    // Whoever has claimed it since.
    let mut successor = Driver::up(&redis.url());
    successor.grant("to", 2);
    assert_eq!(push(&mut other, epoch, 3), Pushed::Accepted(4));
    assert_eq!(mail(&mut successor), ("to".to_owned(), 4));
    assert_eq!(push(&mut other, epoch, 4), Pushed::Accepted(5));
    assert_eq!(mail(&mut successor), ("to".to_owned(), 5));
    // The former owner hears of the claim, and of no push any more.
    assert_eq!(owner.taken_over(epoch).0, "to");
    assert!(owner.heard().is_none());
}

/// The link was down, or the right to subscribe is missing.
#[test]
fn a_save_tells_of_pushes_that_were_missed() {
    let redis = Redis::start();
    let mut owner = Driver::up(&redis.url());
    let mut other = Driver::up(&redis.url());
    let grant = owner.grant("to", 1);
    let (quiet, ..) = owner.claim("quiet", 1);
    let (epoch, ..) = other.claim("from", 1);
    push(&mut other, epoch, 1);
    owner.reopen();
    for step in [1, 1] {
        owner.store.ask(StoreCommand::Commit(vec![
            crate::driver::commit("quiet", quiet, step),
            crate::driver::commit("to", grant.epoch, step),
        ]));
        assert_eq!(mail(&mut owner), ("to".to_owned(), 1));
        let answer = owner.answer();
        assert!(matches!(answer, StoreEvent::Committed { .. }), "{answer:?}");
    }
    owner.store.ask(StoreCommand::Commit(vec![
        commit("quiet", quiet, 2, 0, &[]),
        commit("to", grant.epoch, 2, 1, &[]),
    ]));
    assert_eq!(mail(&mut owner), ("to".to_owned(), 1));
}

#[test]
fn a_mailbox_lives_as_long_as_its_session() {
    let redis = Redis::start();
    let mut store = Driver::up(&redis.url());
    let (epoch, ..) = store.claim("from", 1);
    let owner = store.grant("to", 1).epoch;
    push(&mut store, epoch, 1);
    let lives = |what: &str| {
        for key in [KEY, MAILBOX] {
            let Value::Int(left_ms) = redis.command(&["PTTL", key]) else {
                panic!("PTTL");
            };
            let is_renewed = (3_000_000..=3_600_000).contains(&left_ms);
            assert!(is_renewed, "{key} after {what}: {left_ms}");
            redis.command(&["PEXPIRE", key, "100000"]);
        }
    };
    lives("a push");
    store.save(&[("to", owner, 1)]);
    lives("a save");
    store.save(&[("to", owner, 1)]);
    lives("a save that is covered");
    store.commit_batch(vec![commit("to", owner, 2, 0, &[])]);
    lives("a commit");
    store.grant("to", 2);
    lives("a claim");
}

#[test]
fn a_mailbox_without_its_session_is_nobody_s() {
    let redis = Redis::start();
    let mut store = Driver::up(&redis.url());
    let (epoch, ..) = store.claim("from", 1);
    store.grant("to", 1);
    let full = vec![(1, "to", Body::from("push")); Mailbox::LEN_MAX];
    store.commit_batch(vec![commit("from", epoch, 1, 0, &full)]);
    redis.command(&["DEL", KEY]);
    assert_eq!(store.read("to"), Mailbox::default());
    let unknown = Pushed::Refused(PushRefused::Unknown);
    assert_eq!(push(&mut store, epoch, 2), unknown);
    let grant = store.grant("to", 2);
    assert_eq!((grant.found, grant.mailbox), (false, Mailbox::default()));
    assert_eq!(push(&mut store, epoch, 3), Pushed::Accepted(1));
    assert_eq!(store.read("to"), Mailbox::new(1, [Body::from("push")]));
}

/// Somebody has deleted the list, or Redis has evicted it. Nothing is put behind the hole, and nobody
/// else gets the session, until its client has received all that there was.
#[test]
fn a_mailbox_that_has_lost_pushes_refuses_its_session_alone() {
    let redis = Redis::start();
    let mut store = Driver::up(&redis.url());
    let (epoch, ..) = store.claim("from", 1);
    let owner = store.grant("to", 1).epoch;
    let two = [(1, "to", Body::from("push")), (1, "to", Body::from("push"))];
    store.commit_batch(vec![commit("from", epoch, 1, 0, &two)]);
    for command in [["LPOP", MAILBOX], ["DEL", MAILBOX]] {
        redis.command(&command);
        assert!(store.refused_claim("to").starts_with("LOST pushes"));
        store
            .store
            .ask(StoreCommand::Read(crate::driver::read("to")));
        let answer = store.answer();
        assert!(
            matches!(&answer, StoreEvent::Refused { request: Refused::Read(_), reason }
                if reason.starts_with("LOST pushes")),
            "{answer:?}"
        );
    }
    let unknown = Pushed::Refused(PushRefused::Unknown);
    assert_eq!(push(&mut store, epoch, 2), unknown);
    assert!(store.save(&[("to", owner, 1)]).is_empty());
    // It has not received all of them.
    store.commit_batch(vec![commit("to", owner, 2, 1, &[])]);
    assert_eq!(push(&mut store, epoch, 3), unknown);
    store.commit_batch(vec![commit("to", owner, 3, 2, &[])]);
    assert_eq!(store.read("to"), Mailbox::new(2, []));
    // The numbers that there were are not given again.
    assert_eq!(push(&mut store, epoch, 4), Pushed::Accepted(3));
    assert_eq!(store.read("to"), Mailbox::new(3, [Body::from("push")]));
    assert_eq!(store.grant("to", 2).mailbox.sent(), 3);
}

#[test]
fn a_commit_is_carried_out_whole_or_not_at_all() {
    let redis = Redis::start();
    let mut store = Driver::up(&redis.url());
    let (epoch, ..) = store.claim("from", 1);
    let (other, ..) = store.claim("other", 1);
    store.grant("to", 1);
    let evil = "sundown:mailbox:from";
    redis.command(&["SET", evil, "x"]);
    let body = || Body::from("push");
    let all = [(1, "to", body()), (1, "from", body())];
    let bad = commit("from", epoch, 1, 0, &all);
    let good = commit("other", other, 1, 0, &[(1, "to", body())]);
    store
        .store
        .ask(StoreCommand::Commit(vec![bad.clone(), good.clone()]));
    match store.answer() {
        StoreEvent::Refused {
            request: Refused::Commit(refused),
            reason,
        } => {
            assert_eq!(refused, bad);
            assert!(reason.starts_with("WRONGTYPE"), "{reason}");
        }
        other => panic!("{other:?}"),
    }
    match store.answer() {
        StoreEvent::Committed {
            batch,
            fenced,
            pushed,
        } => assert_eq!(
            (batch, fenced, pushed),
            (vec![good], vec![], vec![Pushed::Accepted(1)])
        ),
        other => panic!("{other:?}"),
    }
    // Once the key is free, all of it.
    redis.command(&["DEL", evil]);
    assert_eq!(store.read("from"), Mailbox::default());
    assert_eq!(store.claim("from", 1), (epoch, 0, false));
    let (fenced, pushed) = store.commit_batch(vec![bad]);
    assert!(fenced.is_empty());
    assert_eq!(pushed, [2, 1].map(Pushed::Accepted));
}

/// All pushes from outside of a step are in one commit: those of others must not wait for one.
#[test]
fn a_push_to_what_is_no_session_is_refused_alone() {
    let redis = Redis::start();
    let mut store = Driver::up(&redis.url());
    let (epoch, ..) = store.claim("from", 1);
    for session in ["to", "evil", "worse"] {
        store.grant(session, 1);
    }
    redis.command(&["SET", "sundown:mailbox:evil", "x"]);
    redis.command(&["SET", "sundown:session:worse", "x"]);
    let body = || Body::from("push");
    let all = [(1, "evil", body()), (1, "worse", body()), (1, "to", body())];
    let (fenced, pushed) = store.commit_batch(vec![commit("from", epoch, 1, 0, &all)]);
    let unknown = Pushed::Refused(PushRefused::Unknown);
    assert_eq!(
        (fenced, pushed),
        (vec![], vec![unknown, unknown, Pushed::Accepted(1)])
    );
    assert_eq!(store.claim("from", 1).1, 1);
}

#[test]
fn a_mailbox_that_is_something_else_refuses_its_session_alone() {
    let redis = Redis::start();
    let mut store = Driver::up(&redis.url());
    let (epoch, ..) = store.claim("from", 1);
    let owner = store.grant("to", 1).epoch;
    push(&mut store, epoch, 1);
    redis.command(&["SET", MAILBOX, "x"]);
    assert!(store.refused_claim("to").starts_with("WRONGTYPE"));
    store
        .store
        .ask(StoreCommand::Read(crate::driver::read("to")));
    let refused = store.answer();
    assert!(
        matches!(
            refused,
            StoreEvent::Refused {
                request: Refused::Read(_),
                ..
            }
        ),
        "{refused:?}"
    );
    // What a node of 0.1.0 would save, it saves.
    assert!(store.save(&[("to", owner, 1)]).is_empty());
    for kept in [&["text", "x"][..], &["more", "than", "it has a number for"]] {
        redis.command(&["DEL", MAILBOX]);
        redis.command(&[&["RPUSH", MAILBOX], kept].concat());
        assert!(store.refused_claim("to").contains("mailbox"), "{kept:?}");
    }
}

#[test]
fn at_maxmemory_nothing_is_pushed_and_what_has_none_is_saved() {
    let redis = Redis::with(&["--maxmemory-policy", "noeviction"]);
    let mut store = Driver::up(&redis.url());
    let (epoch, ..) = store.claim("from", 1);
    let owner = store.grant("to", 1).epoch;
    push(&mut store, epoch, 1);
    redis.command(&["CONFIG", "SET", "maxmemory", "1"]);
    let pushing = commit("from", epoch, 2, 0, &[(2, "to", Body::from("push"))]);
    store.store.ask(StoreCommand::Commit(vec![pushing]));
    let refused = store.answer();
    assert!(
        matches!(&refused, StoreEvent::Refused { reason, .. } if reason.starts_with("OOM")),
        "{refused:?}"
    );
    let answer = store.answer();
    assert!(matches!(answer, StoreEvent::Committed { .. }), "{answer:?}");
    assert!(
        store
            .save(&[("from", epoch, 1), ("to", owner, 1)])
            .is_empty()
    );
    assert_eq!(store.read("to").sent(), 1);
    // What makes room is carried out. Who was refused is not known to those behind it in the batch,
    // for whom there is room.
    let newcomer = commit("new", 5, 1, 0, &[(1, "to", Body::from("push"))]);
    let confirming = commit("to", owner, 2, 1, &[]);
    let last = commit("from", epoch, 2, 0, &[(2, "new", Body::from("push"))]);
    store
        .store
        .ask(StoreCommand::Commit(vec![newcomer, confirming, last]));
    let refused = store.answer();
    assert!(matches!(refused, StoreEvent::Refused { .. }), "{refused:?}");
    let StoreEvent::Committed { batch, pushed, .. } = store.answer() else {
        panic!("the last answer");
    };
    assert_eq!(batch.len(), 2);
    assert_eq!(pushed, [Pushed::Refused(PushRefused::Unknown)]);
    assert_eq!(store.read("to"), Mailbox::new(1, []));
    redis.command(&["CONFIG", "SET", "maxmemory", "0"]);
    assert_eq!(push(&mut store, epoch, 3), Pushed::Accepted(2));
}
