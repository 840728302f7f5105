//! A chat room: members that come and go, and the last 50 messages for whoever joins.
//!
//! ```text
//! room [--listen IP:PORT] [--admin ADDR|off] [--store STORE]
//! ```
//!
//! A client of `sundown.v2` connects to `/room?session=ID`, and sends `/join NAME`, `/leave`, or what
//! it says to the room. All that it hears are pushes: the store keeps them while it is away.
//!
//! The room is a session, too. Its state has the members and the last messages, and its client is a
//! thread of this program, the steward, which sends back each push that it gets: so what is pushed to
//! the room is processed once, in one order, by whichever node has the steward.

use std::collections::hash_map::RandomState;
use std::collections::{BTreeMap, VecDeque};
use std::hash::{BuildHasher as _, Hasher as _};
use std::process::ExitCode;
use std::thread;

use serde::{Deserialize, Serialize};
use sundown::{
    Admission, Application, Body, Message, PushRefused, Server, Session, SessionId, Upgrade,
};

#[path = "shared/mod.rs"]
mod shared;
#[path = "room/steward.rs"]
mod steward;

use shared::Failure;

/// The room's session.
const ROOM: &str = "room";

/// How many messages a newcomer is told.
const SAID_MAX: usize = 50;

/// A session's state has room for so many members, and for 50 messages of this length.
const MEMBERS_MAX: usize = 100;
const NAME_CHARS_MAX: usize = 30;
const TEXT_BYTES_MAX: usize = 300;

fn main() -> ExitCode {
    shared::serve(|arguments| {
        let mut config = arguments.config()?;
        config.limits.message_bytes_max = 4 << 10;
        let key = format!("{:x}", RandomState::new().build_hasher().finish());
        let room = SessionId::parse(ROOM).map_err(|_| Failure::Usage("no id".to_owned()))?;
        let chat = Chat {
            room,
            key: key.clone(),
        };
        let server = Server::bind(config, chat)?;
        let Some(address) = server.local_addr().tcp() else {
            let why = "the steward connects by TCP: --listen IP:PORT";
            return Err(Failure::Usage(why.to_owned()));
        };
        thread::spawn(move || steward::attend(address, ROOM, &key));
        Ok(server)
    })
}

struct Chat {
    room: SessionId,
    /// What the steward shows, and nobody else knows.
    key: String,
}

/// The state of the room's session.
#[derive(Default, Serialize, Deserialize)]
struct Room {
    /// Pushes up to this number are processed.
    processed: u64,
    /// Their names, by their sessions.
    members: BTreeMap<String, String>,
    said: VecDeque<String>,
}

/// What a client has sent, on its way to the room.
#[derive(Serialize, Deserialize)]
struct Sent {
    from: String,
    text: String,
}

impl Application for Chat {
    fn on_upgrade(&mut self, request: &Upgrade<'_>) -> Admission {
        let is_steward = request.header("x-room-key") == Some(&*self.key);
        match request.session() {
            _ if request.path() != "/room" => Admission::refuse(404, "not found"),
            _ if !request.subprotocols().any(|it| it == "sundown.v2") => {
                Admission::refuse(400, "offer the subprotocol sundown.v2")
            }
            None => Admission::refuse(400, "which session?"),
            Some(session) if *session == self.room && !is_steward => {
                Admission::refuse(403, "this is the room")
            }
            Some(_) => Admission::accept(request),
        }
    }

    fn on_message(&mut self, message: Message<'_>, session: &mut Session<'_>) {
        let Message::Text(text) = message else { return };
        if session.id() == Some(&self.room) {
            return process(text, session);
        }
        let Some(from) = session.id().map(ToString::to_string) else {
            return;
        };
        if text.len() > TEXT_BYTES_MAX {
            return tell(&from, "* that is too long", session);
        }
        let text = text.replace(char::is_control, " ");
        let sent = serde_json::to_string(&Sent { from, text });
        tell(ROOM, &sent.unwrap_or_default(), session);
    }

    /// A member whose mailbox is full, or whose session is no more, has left.
    fn on_push_refused(
        &mut self,
        to: &SessionId,
        _body: &Body,
        why: PushRefused,
        session: &mut Session<'_>,
    ) {
        if session.id() == Some(&self.room) {
            let mut room = Room::of(session);
            room.leave(to.as_str(), session);
            room.keep(session);
        } else if let Err(error) = session.push(format!("* not now, say it again: {why}")) {
            log::error!("{error}");
        }
    }
}

/// A step of the room: the steward has sent a push back, which begins with its number. One whose
/// confirmation was lost comes again.
fn process(push: &str, session: &mut Session<'_>) {
    let mut room = Room::of(session);
    let sent = push.split_once(' ').and_then(|(number, sent)| {
        let sent: Sent = serde_json::from_str(sent).ok()?;
        Some((number.parse().ok()?, sent))
    });
    let Some((number, Sent { from, text })) = sent else {
        return log::error!("the room got what is none of its pushes");
    };
    if number <= room.processed {
        return;
    }
    room.processed = number;
    match text.strip_prefix("/join ") {
        Some(name) => room.join(&from, name, session),
        None if text == "/leave" => room.leave(&from, session),
        None => room.say(&from, &text, session),
    }
    room.keep(session);
}

impl Room {
    fn of(session: &Session<'_>) -> Self {
        // Empty at first.
        serde_json::from_slice(session.state()).unwrap_or_default()
    }

    fn keep(&self, session: &mut Session<'_>) {
        let state = serde_json::to_vec(self).unwrap_or_default();
        if let Err(error) = session.set_state(&state) {
            log::error!("the room is too big: {error}");
        }
    }

    fn join(&mut self, who: &str, name: &str, session: &mut Session<'_>) {
        let name: String = name.chars().take(NAME_CHARS_MAX).collect();
        let is_new = !self.members.contains_key(who);
        if is_new && self.members.len() == MEMBERS_MAX {
            return tell(who, "* the room is full", session);
        }
        if is_new {
            for line in &self.said {
                tell(who, line, session);
            }
        }
        self.members.insert(who.to_owned(), name.clone());
        self.tell_all(&format!("* {name} is here"), session);
    }

    fn leave(&mut self, who: &str, session: &mut Session<'_>) {
        if let Some(name) = self.members.remove(who) {
            self.tell_all(&format!("* {name} has left"), session);
        }
    }

    fn say(&mut self, who: &str, text: &str, session: &mut Session<'_>) {
        let Some(name) = self.members.get(who) else {
            return tell(who, "* first: /join NAME", session);
        };
        let line = format!("{name}: {text}");
        self.tell_all(&line, session);
        self.said.push_back(line);
        if self.said.len() > SAID_MAX {
            self.said.pop_front();
        }
    }

    fn tell_all(&self, line: &str, session: &mut Session<'_>) {
        for member in self.members.keys() {
            tell(member, line, session);
        }
    }
}

/// Pushes to the session with this id.
fn tell(who: &str, line: &str, session: &mut Session<'_>) {
    let Ok(to) = SessionId::parse(who) else {
        return;
    };
    if let Err(error) = session.push_to(&to, line) {
        log::error!("{error}");
    }
}
