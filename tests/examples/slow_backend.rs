//! Goal: a backend that takes 50 ms for each message costs nobody an answer in a shutdown.
//! Method: 500 clients with 20 messages each, a SIGTERM when each has had its first answer, and a
//! second server on the same store, which says what was counted.

use super::example;
use super::support::client::{Client, Event};
use super::support::http;
use super::support::said::{Hello, Said};
use super::support::server::Server;
use super::support::store::Store;
use super::support::stream::End;

const CLIENTS: u64 = 500;
const MESSAGES: u64 = 20;

fn start(store: &Store, workers: &str) -> Server {
    Server::launch(
        example("slow_backend"),
        &store.url(),
        &["--workers", workers],
    )
}

/// A client, and the number of the last message that was answered.
struct Guest {
    client: Client,
    answered: u64,
}

impl Guest {
    #[track_caller]
    fn connect(server: &Server, name: u64, answered: u64) -> (Self, Hello) {
        let path = format!("/ws/chat/?session=guest-{name}");
        let mut client = Client::dial(server.address, &http::upgrade_v1(&path)).expect("101");
        let Said::Hello(hello) = client.hear() else {
            panic!("no hello first");
        };
        (Self { client, answered }, hello)
    }

    /// Sends what is left after so many messages.
    fn send_after(&mut self, counted: u64) {
        for number in counted + 1..=MESSAGES {
            self.client.text(&format!("message {number}"));
        }
        self.client.stream.flush();
    }

    /// Hears one answer more, or `None` when the server has said what ends the connection: the total
    /// of its goodbye, and then nothing but the Close.
    #[track_caller]
    fn hear(&mut self) -> Option<Said> {
        loop {
            let Event::Text(text) = self.client.meet() else {
                panic!("no goodbye");
            };
            if text.starts_with('{') {
                let said = Said::parse(&text);
                if matches!(said, Said::Bye(_)) {
                    return Some(said);
                }
                continue;
            }
            self.answered += 1;
            let number = self.answered;
            assert_eq!(text, format!("{number} MESSAGE {number}"));
            return None;
        }
    }

    #[track_caller]
    fn hear_until(&mut self, answered: u64) {
        while self.answered < answered {
            assert_eq!(self.hear(), None);
        }
    }

    /// Hears the rest, and the goodbye with its total.
    #[track_caller]
    fn hear_out(&mut self) -> u64 {
        loop {
            if let Some(Said::Bye(total)) = self.hear() {
                assert_eq!(self.client.until_close().0, 1001);
                return total;
            }
        }
    }
}

/// Everybody has sent everything and has had an answer.
#[track_caller]
fn busy(server: &Server) -> Vec<Guest> {
    let connect = |name| Guest::connect(server, name, 0).0;
    let mut guests: Vec<Guest> = (0..CLIENTS).map(connect).collect();
    for guest in &mut guests {
        guest.send_after(0);
    }
    for guest in &mut guests {
        guest.hear_until(1);
    }
    guests
}

#[test]
fn what_was_received_is_answered_before_the_goodbye() {
    let store = Store::sqlite();
    let mut server = start(&store, "500");
    let mut guests = busy(&server);
    server.terminate();
    for guest in &mut guests {
        assert_eq!((guest.hear_out(), guest.answered), (MESSAGES, MESSAGES));
        assert_eq!(guest.client.until_end(), End::Eof);
    }
    let report = server.exits_with(0);
    assert_eq!((report.connections, report.closed_1001), (CLIENTS, CLIENTS));
    let mut next = start(&store, "1");
    for name in 0..CLIENTS {
        let (_, hello) = Guest::connect(&next, name, MESSAGES);
        assert_eq!(hello.count, MESSAGES);
    }
    next.stop();
}

/// A worker for ten clients: the time for draining is not enough, and clients go on elsewhere. What
/// was not counted they send again; what was counted, and not answered, is answered then.
#[test]
fn what_takes_too_long_is_answered_by_the_next_server() {
    let store = Store::sqlite();
    let (mut server, mut next) = (start(&store, "50"), start(&store, "500"));
    let mut guests = busy(&server);
    server.terminate();
    let mut is_unanswered = false;
    for (name, guest) in (0..).zip(&mut guests) {
        let (total, answered) = (guest.hear_out(), guest.answered);
        assert!(
            (answered..=answered + 1).contains(&total),
            "{total}, {answered}"
        );
        assert!(total < MESSAGES, "there was time for all");
        let (resumed, hello) = Guest::connect(&next, name, answered);
        assert!(hello.count >= total);
        is_unanswered |= hello.count > answered;
        *guest = resumed;
        guest.send_after(hello.count);
    }
    assert!(is_unanswered, "no step was open at the goodbye");
    for guest in &mut guests {
        guest.hear_until(MESSAGES);
    }
    server.exits_with(0);
    next.terminate();
    for guest in &mut guests {
        assert_eq!((guest.hear_out(), guest.answered), (MESSAGES, MESSAGES));
        assert_eq!(guest.client.until_end(), End::Eof);
    }
    next.exits_with(0);
}
