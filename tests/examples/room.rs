//! Goal: each member of the room hears each line once, in one order, whatever becomes of connections
//! and servers, and a newcomer hears the last 50.
//! Method: members by hand, of `sundown.v2`, which check the numbers of what they hear; a deploy and a
//! `kill -9` on one SQLite file while lines are under way.

use super::example;
use super::support::client::{Client, Event};
use super::support::http;
use super::support::kinds::{Hello, Told};
use super::support::server::Server;
use super::support::store::Store;

/// A server that has the room.
#[track_caller]
fn start(store: &Store) -> Server {
    let server = Server::launch(example("room"), &store.url(), &[]);
    server.log().until("this node has the room");
    server
}

/// A member, and what it has heard.
struct Member {
    id: &'static str,
    client: Client,
    incarnation: u64,
    heard: Vec<String>,
}

impl Member {
    #[track_caller]
    fn connect(server: &Server, id: &'static str) -> Self {
        let (client, hello) = Client::v2_to(server.address, &format!("/room?session={id}"));
        Self {
            id,
            client,
            incarnation: hello.incarnation,
            heard: Vec::new(),
        }
    }

    /// Comes back, with the number of the last line that it has heard.
    #[track_caller]
    fn reconnect(&mut self, server: &Server) -> Hello {
        let (id, received, incarnation) = (self.id, self.heard.len(), self.incarnation);
        let path = format!("/room?session={id}&received={received}&incarnation={incarnation}");
        let (client, hello) = Client::v2_to(server.address, &path);
        self.client = client;
        hello
    }

    fn send(&mut self, text: &str) {
        self.client.send(&format!("m{text}"));
    }

    /// Hears the next line; `None` at the end of the connection.
    #[track_caller]
    fn hear(&mut self) -> Option<&str> {
        loop {
            let event = self.client.meet();
            let Event::Text(text) = event else {
                let is_end = matches!(event, Event::Close(..) | Event::End(_));
                assert!(is_end, "{event:?}");
                return None;
            };
            if let Told::Push { number, body } = Told::parse(&text) {
                self.heard.push(body);
                assert_eq!(number, self.heard.len() as u64, "{:?}", self.heard);
                return self.heard.last().map(String::as_str);
            }
        }
    }

    #[track_caller]
    fn hears(&mut self, line: &str) {
        assert_eq!(self.hear(), Some(line));
    }
}

#[test]
fn members_come_and_go() {
    let mut server = start(&Store::Memory);
    let mut ann = Member::connect(&server, "ann");
    ann.send("hello?");
    ann.hears("* first: /join NAME");
    ann.send("/join Ann");
    ann.hears("* Ann is here");
    let mut bob = Member::connect(&server, "bob");
    bob.send("/join Bob");
    bob.hears("* Bob is here");
    ann.hears("* Bob is here");
    bob.send("/leave");
    bob.send("anybody?");
    bob.hears("* first: /join NAME");
    ann.hears("* Bob has left");
    for number in 1..=60 {
        ann.send(&format!("line {number}"));
        ann.hears(&format!("Ann: line {number}"));
    }
    ann.send(&"x".repeat(301));
    ann.hears("* that is too long");
    bob.send("/join Bob");
    for number in 11..=60 {
        bob.hears(&format!("Ann: line {number}"));
    }
    bob.hears("* Bob is here");
    for path in ["/room?session=room", "/ws/chat/?session=a", "/room"] {
        let head = http::upgrade(path, &["Sec-WebSocket-Protocol: sundown.v2"]);
        assert!(Client::dial(server.address, &head).is_err(), "{path}");
    }
    drop((ann, bob));
    server.stop();
}

/// Ann speaks on while the server is replaced, and sends again what was not counted.
#[test]
fn nobody_is_told_twice() {
    const LINES: u64 = 40;
    let store = Store::sqlite();
    let mut server = start(&store);
    let mut bob = Member::connect(&server, "bob");
    bob.send("/join Bob");
    bob.hears("* Bob is here");
    let mut ann = Member::connect(&server, "ann");
    ann.send("/join Ann");
    bob.hears("* Ann is here");
    let (mut counted, mut said) = (1, 1);
    for round in 1..=4 {
        for number in counted..said + LINES {
            ann.send(&format!("line {number}"));
        }
        said += LINES;
        // Some are under way, and Bob does not read them here.
        bob.hear();
        if round % 2 == 0 {
            server.kill();
            server = start(&store);
        } else {
            let mut old = std::mem::replace(&mut server, start(&store));
            old.terminate();
            while ann.hear().is_some() {}
            while bob.hear().is_some() {}
            old.exits_with(0);
        }
        bob.reconnect(&server);
        counted = ann.reconnect(&server).count;
        assert!(counted <= said);
    }
    for number in counted..said {
        ann.send(&format!("line {number}"));
    }
    let expected = |introduction: &[&str]| {
        let lines = (1..said).map(|number| format!("Ann: line {number}"));
        let introduction = introduction.iter().map(|line| (*line).to_owned());
        introduction.chain(lines).collect::<Vec<_>>()
    };
    let last = format!("Ann: line {}", said - 1);
    for member in [&mut ann, &mut bob] {
        while member.heard.last() != Some(&last) {
            assert!(member.hear().is_some());
        }
    }
    assert_eq!(bob.heard, expected(&["* Bob is here", "* Ann is here"]));
    assert_eq!(ann.heard, expected(&["* Ann is here"]));
    drop((ann, bob));
    server.stop();
}
