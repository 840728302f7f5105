//! A panic in each callback, over real sockets: it costs its own client the connection at most, and
//! nobody else anything. What was not counted is counted when it comes again.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use sundown::{Admission, Closed, Hub, Message, PushRefused, Session, SessionId, Upgrade};

use super::*;

/// Panics once in the callback that a session is named for, and tells of each open and each close.
#[derive(Clone)]
struct Fragile {
    broken: Arc<Mutex<BTreeSet<String>>>,
    told: Arc<Mutex<Vec<Told>>>,
}

/// The session, and why it was closed if it was not opened.
type Told = (String, Option<Closed>);

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Fragile {
    fn break_in(&self, callback: &str, session: Option<&SessionId>) {
        let is_meant = session.is_some_and(|id| id.as_str() == callback);
        if is_meant && lock(&self.broken).insert(callback.to_owned()) {
            std::panic::resume_unwind(Box::new("as it was asked to"));
        }
    }

    fn tell(&self, session: &Session<'_>, closed: Option<Closed>) {
        let id = session.id().map_or("", |id| id.as_str()).to_owned();
        lock(&self.told).push((id, closed));
    }
}

impl Application for Fragile {
    fn on_upgrade(&mut self, request: &Upgrade<'_>) -> Admission {
        self.break_in("on_upgrade", request.session());
        Admission::accept(request)
    }

    fn on_open(&mut self, session: &mut Session<'_>) {
        self.tell(session, None);
        session
            .set_state(b"never if it panics")
            .expect("a few bytes");
        self.break_in("on_open", session.id());
        session.set_state(b"").expect("no bytes");
    }

    fn on_message(&mut self, message: Message<'_>, session: &mut Session<'_>) {
        assert_eq!(session.state(), b"", "of a callback that has panicked");
        session
            .set_state(b"never if it panics")
            .expect("a few bytes");
        self.break_in("on_message", session.id());
        session.set_state(b"").expect("no bytes");
        match message {
            Message::Text("defer") => {
                let (app, deferred) = (self.clone(), session.defer());
                thread::spawn(move || {
                    deferred.complete(move |session| app.break_in("deferred", session.id()));
                });
            }
            Message::Text("drop") => {
                let deferred = session.defer();
                if lock(&self.broken).insert("dropped".to_owned()) {
                    thread::spawn(move || drop(deferred));
                } else {
                    deferred.complete(|_| {});
                }
            }
            Message::Text("wake") => session.wake_in(ms(1)),
            Message::Text("push") => {
                let nobody = SessionId::parse("nobody").expect("a name");
                session.push_to(&nobody, "hi").expect("a short text");
            }
            Message::Text(_) | Message::Binary(_) => {}
        }
    }

    fn on_timer(&mut self, session: &mut Session<'_>) {
        self.break_in("on_timer", session.id());
        let app = self.clone();
        let rest = session.defer();
        rest.complete(move |session| app.break_in("deferred_timer", session.id()));
    }

    fn on_push_refused(
        &mut self,
        _to: &SessionId,
        _body: &sundown::Body,
        _why: PushRefused,
        session: &mut Session<'_>,
    ) {
        self.break_in("on_push_refused", session.id());
    }

    fn on_close(&mut self, session: &mut Session<'_>, why: Closed) {
        self.tell(session, Some(why));
        self.break_in("on_close", session.id());
    }

    fn on_shutdown(&mut self, _hub: &mut Hub<'_>) {
        std::panic::resume_unwind(Box::new("also at the end"));
    }
}

/// In which session, and what is said there.
struct Case {
    session: &'static str,
    says: &'static str,
    /// Whether the message is counted, since what panics comes after it.
    counts: bool,
    /// What the client is told.
    reason: &'static str,
}

const ON_MESSAGE: &str = "the service failed on this message";
const ELSEWHERE: &str = "the service failed outside of a message";

const CASES: [Case; 7] = [
    Case {
        session: "on_open",
        says: "",
        counts: false,
        reason: ELSEWHERE,
    },
    Case {
        session: "on_message",
        says: "hi",
        counts: false,
        reason: ON_MESSAGE,
    },
    Case {
        session: "deferred",
        says: "defer",
        counts: false,
        reason: ON_MESSAGE,
    },
    Case {
        session: "dropped",
        says: "drop",
        counts: false,
        reason: ON_MESSAGE,
    },
    Case {
        session: "on_timer",
        says: "wake",
        counts: true,
        reason: ELSEWHERE,
    },
    Case {
        session: "deferred_timer",
        says: "wake",
        counts: true,
        reason: ELSEWHERE,
    },
    Case {
        session: "on_push_refused",
        says: "push",
        counts: true,
        reason: ELSEWHERE,
    },
];

/// The connection fails with 1011, and the same message succeeds on the next one.
#[track_caller]
fn check_case(server: &Running, case: &Case) {
    let path = format!("/ws/chat/?session={}", case.session);
    let head = http::upgrade_v1(&path);
    let mut client = Client::dial(server.address, &head).expect("101");
    if !case.says.is_empty() {
        client.text(case.says);
    }
    let mut counted = 0;
    loop {
        match client.meet() {
            Event::Text(text) => {
                if let Said::Count(count) = Said::parse(&text) {
                    counted = count;
                }
            }
            Event::Close(code, reason) => {
                assert_eq!((code, &*reason), (1011, case.reason), "{}", case.session);
                break;
            }
            other @ (Event::Binary(_) | Event::Ping(_) | Event::Pong(_) | Event::End(_)) => {
                panic!("{other:?} in {}", case.session)
            }
        }
    }
    assert_eq!(client.until_end(), End::Eof);
    let before = u64::from(case.counts);
    assert!(counted <= before, "{}", case.session);
    let (mut client, hello) = server.v1(case.session);
    assert_eq!(hello.count, before, "{}", case.session);
    let says = if case.says.is_empty() {
        "hi"
    } else {
        case.says
    };
    assert_eq!(client.say(says), before + 1, "{}", case.session);
    client.leave();
}

#[test]
fn a_panic_in_each_callback() {
    let app = Fragile {
        broken: Arc::default(),
        told: Arc::default(),
    };
    let store = Store::sqlite();
    let server = Running::start(config(&store), app.clone());
    let (mut other, _) = server.v1("other");
    let mut others = 0;
    let mut still_serves = |other: &mut Client| {
        others += 1;
        assert_eq!(other.say("still here?"), others);
    };
    let head = http::upgrade_v1("/ws/chat/?session=on_upgrade");
    let refused = Client::dial(server.address, &head).err();
    assert_eq!(refused.map(|answer| answer.status), Some(500));
    still_serves(&mut other);
    let (client, hello) = server.v1("on_upgrade");
    assert_eq!(hello.count, 0);
    client.leave();
    for case in &CASES {
        check_case(&server, case);
        still_serves(&mut other);
    }
    for count in 0..2 {
        let (mut client, hello) = server.v1("on_close");
        assert_eq!(hello.count, count);
        assert_eq!(client.say("hi"), count + 1);
        client.leave();
        still_serves(&mut other);
    }
    server.handle.shutdown();
    assert!(matches!(other.hear(), Said::Notice(_)));
    assert_farewell(other, others);
    assert!(server.outcome().is_safe());

    // Each open has its close, and before the next open.
    let told = lock(&app.told);
    let sessions = ["other", "on_upgrade", "on_close"].into_iter();
    for session in sessions.chain(CASES.iter().map(|case| case.session)) {
        let of_it = told.iter().filter(|(id, _)| id == session);
        let whys: Vec<_> = of_it.map(|(_, why)| *why).collect();
        let opens = whys.iter().step_by(2).all(Option::is_none);
        let closes = whys.iter().skip(1).step_by(2).all(Option::is_some);
        assert!(
            opens && closes && whys.len() % 2 == 0,
            "{session}: {whys:?}"
        );
        let failed = whys.iter().filter(|why| **why == Some(Closed::Failed));
        let fails = CASES.iter().any(|case| case.session == session);
        assert_eq!(failed.count(), usize::from(fails), "{session}: {whys:?}");
    }
}
