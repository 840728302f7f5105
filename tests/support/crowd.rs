//! Many clients at once, each with a habit and a thread, and what each of them saw.

use std::net::SocketAddr;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::client::{Client, Event};
use super::said::Said;
use super::stream::{End, Stream};
use super::{PATIENCE, http, ms, now};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Habit {
    /// A message every 50 ms; a `sundown.v1` client stops when it gets the notice.
    Steady,
    /// Three messages, then only listens.
    Idle,
    /// Sends a kilobyte after the other without a pause, and reads, until its own Close is out.
    Blasting,
    /// Sends, and reads nothing until the server is gone.
    NeverReading,
    /// Connected, with half a request head or none of it.
    HalfOpen,
}

/// A client to be.
#[derive(Clone, Debug)]
pub(crate) struct Guest {
    pub(crate) habit: Habit,
    pub(crate) session: Option<String>,
    pub(crate) v1: bool,
}

/// What a client saw, and when.
#[derive(Debug)]
pub(crate) struct Seen {
    pub(crate) guest: Guest,
    /// Its session; a `sundown.v1` client always has one.
    pub(crate) session: Option<String>,
    /// Messages that it put on the wire before its own Close.
    pub(crate) sent: u64,
    /// The count in the hello, then the last reply's.
    pub(crate) last_count: u64,
    pub(crate) last_reply: Option<Instant>,
    pub(crate) notice: Option<Instant>,
    pub(crate) bye: Option<(Instant, u64)>,
    pub(crate) close: Option<(Instant, u16, String)>,
    pub(crate) end: Option<(Instant, End)>,
}

pub(crate) struct Crowd {
    threads: Vec<JoinHandle<Seen>>,
    /// Dropped when the server is gone, for those who wait for that.
    server_lives: Vec<Sender<()>>,
}

/// `each` guests of every habit: with a session and without, plain and `sundown.v1`.
pub(crate) fn every_habit(each: usize) -> Vec<Guest> {
    let habits = [
        Habit::Steady,
        Habit::Idle,
        Habit::Blasting,
        Habit::NeverReading,
        Habit::HalfOpen,
    ];
    let mut guests = Vec::new();
    for habit in habits {
        for at in 0..each {
            let session = (at % 4 < 2).then(|| format!("{habit:?}-{at}"));
            guests.push(Guest {
                habit,
                session,
                v1: at % 2 == 0,
            });
        }
    }
    guests
}

impl Crowd {
    /// Connects everyone, and returns when each is in its stride.
    #[track_caller]
    pub(crate) fn gather(address: SocketAddr, guests: Vec<Guest>) -> Self {
        let (ready, readied) = channel();
        let mut crowd = Self {
            threads: Vec::new(),
            server_lives: Vec::new(),
        };
        let count = guests.len();
        for guest in guests {
            let (lives, gone) = channel();
            crowd.server_lives.push(lives);
            let ready = ready.clone();
            let attend = move || attend(address, guest, &ready, &gone);
            crowd.threads.push(std::thread::spawn(attend));
        }
        for _ in 0..count {
            readied
                .recv_timeout(PATIENCE * 2)
                .expect("every client gets in its stride");
        }
        crowd
    }

    /// Collects what everyone saw; the server must be gone.
    pub(crate) fn disperse(self) -> Vec<Seen> {
        drop(self.server_lives);
        let join = |thread: JoinHandle<Seen>| match thread.join() {
            Ok(seen) => seen,
            Err(panic) => std::panic::resume_unwind(panic),
        };
        self.threads.into_iter().map(join).collect()
    }
}

fn attend(address: SocketAddr, guest: Guest, ready: &Sender<()>, gone: &Receiver<()>) -> Seen {
    let mut seen = Seen::new(guest);
    if seen.guest.habit == Habit::HalfOpen {
        return stay_half_open(address, seen, ready);
    }
    let mut client = shake_hands(address, &seen.guest);
    match seen.guest.habit {
        Habit::Steady | Habit::Blasting => converse(&mut client, &mut seen, ready),
        Habit::Idle => {
            (0..3).for_each(|_| client.text("one of three"));
            let mut in_stride = false;
            while seen.end.is_none() {
                seen.listen(&mut client, PATIENCE);
                if !in_stride && seen.last_count == 3 {
                    in_stride = ready.send(()).is_ok();
                }
            }
        }
        Habit::NeverReading => {
            client.stream.shrink_window();
            (0..500).for_each(|_| client.text("and no ear"));
            client.stream.flush();
            client.answers_close = false;
            ready.send(()).expect("the crowd is gathering");
            // Ends by the sender's drop.
            assert!(gone.recv_timeout(PATIENCE * 3).is_err());
            while seen.end.is_none() {
                seen.listen(&mut client, PATIENCE);
            }
        }
        Habit::HalfOpen => unreachable!("handled above"),
    }
    seen.sent = client.sent;
    seen
}

fn shake_hands(address: SocketAddr, guest: &Guest) -> Client {
    let path = match &guest.session {
        Some(id) => format!("/ws/chat/?session={id}"),
        None => "/ws/chat/".to_owned(),
    };
    let head = if guest.v1 {
        http::upgrade_v1(&path)
    } else {
        http::upgrade(&path, &[])
    };
    Client::dial(address, &head).expect("101")
}

fn converse(client: &mut Client, seen: &mut Seen, ready: &Sender<()>) {
    let kilobyte = "x".repeat(1_000);
    if seen.guest.habit == Habit::Blasting {
        client.stream.shrink_backlog();
    }
    let mut in_stride = false;
    let mut next_at = now();
    while seen.end.is_none() {
        if seen.guest.habit == Habit::Blasting {
            while !client.has_closed() && client.stream.unwritten() < 32 << 10 {
                client.text(&kilobyte);
            }
            seen.listen(client, ms(1));
        } else {
            let hushed = client.has_closed() || seen.notice.is_some();
            if !hushed && now() >= next_at {
                client.text("steadily");
                next_at = now() + ms(50);
            }
            let wait = if hushed {
                PATIENCE
            } else {
                next_at.saturating_duration_since(now())
            };
            seen.listen(client, wait);
        }
        if !in_stride && seen.last_reply.is_some() {
            in_stride = ready.send(()).is_ok();
        }
    }
}

fn stay_half_open(address: SocketAddr, mut seen: Seen, ready: &Sender<()>) -> Seen {
    let mut stream = Stream::connect(address);
    if seen.guest.v1 {
        stream.queue(b"GET /ws/chat/ HTTP/1.1\r\nHost: loc");
        stream.flush();
    }
    ready.send(()).expect("the crowd is gathering");
    let deadline = now() + PATIENCE * 3;
    while stream.end().is_none() && now() < deadline {
        stream.pump(deadline);
    }
    seen.end = stream.end().map(|end| (now(), end));
    seen
}

impl Seen {
    fn new(guest: Guest) -> Self {
        let session = guest.session.clone();
        Self {
            guest,
            session,
            sent: 0,
            last_count: 0,
            last_reply: None,
            notice: None,
            bye: None,
            close: None,
            end: None,
        }
    }

    /// Notes what comes: waits for the first event, then takes all that is there.
    fn listen(&mut self, client: &mut Client, within: Duration) {
        let mut event = client.next(within);
        while let Some(met) = event {
            let over = matches!(met, Event::End(_));
            self.note(met);
            event = if over { None } else { client.take() };
        }
    }

    fn note(&mut self, event: Event) {
        match event {
            Event::Text(text) => {
                assert!(
                    self.bye.is_none(),
                    "{text} came after the goodbye: {self:?}"
                );
                self.note_said(Said::parse(&text));
            }
            Event::Close(code, reason) => {
                assert!(self.close.is_none(), "a second Close: {self:?}");
                self.close = Some((now(), code, reason));
            }
            Event::End(end) => self.end = Some((now(), end)),
            Event::Ping(_) => {}
            Event::Binary(_) | Event::Pong(_) => panic!("nobody asked for {event:?}"),
        }
    }

    fn note_said(&mut self, said: Said) {
        match said {
            Said::Count(count) => {
                assert_eq!(count, self.last_count + 1, "counts rise by one: {self:?}");
                self.last_count = count;
                self.last_reply = Some(now());
            }
            Said::Hello(hello) => {
                self.last_count = hello.count;
                self.session = Some(hello.session);
            }
            Said::Notice(_) => {
                assert!(self.guest.v1, "a plain client got a notice: {self:?}");
                assert!(self.notice.is_none(), "a second notice: {self:?}");
                self.notice = Some(now());
            }
            Said::Bye(total) => self.bye = Some((now(), total)),
            Said::Time(_) => assert!(self.notice.is_none(), "a heartbeat after the notice"),
        }
    }

    /// The store keeps its count.
    pub(crate) fn has_session(&self) -> bool {
        self.guest.habit != Habit::HalfOpen && self.session.is_some()
    }

    /// The closing handshake is complete: our Close answered theirs and the end was clean.
    pub(crate) fn parted(&self) -> bool {
        let reads = !matches!(self.guest.habit, Habit::NeverReading | Habit::HalfOpen);
        reads && self.close.is_some() && matches!(self.end, Some((_, End::Eof)))
    }

    /// What a shutdown promises to a client of this habit.
    #[track_caller]
    pub(crate) fn assert_farewell(&self) {
        let end = self.end.as_ref().map(|(_, end)| end);
        assert_eq!(end, Some(&End::Eof), "no clean end: {self:?}");
        if self.guest.habit == Habit::HalfOpen {
            return;
        }
        let total = self.bye.map(|(_, total)| total);
        assert_eq!(total, Some(self.last_count), "the goodbye: {self:?}");
        let Some((_, code, reason)) = &self.close else {
            panic!("no Close: {self:?}")
        };
        assert_eq!(*code, 1001, "{self:?}");
        let retry = reason.strip_prefix("server shutdown; retry-after-ms=");
        let retry = retry.and_then(|retry| retry.parse::<u64>().ok());
        assert!(retry.is_some(), "the reason: {self:?}");
        assert_eq!(self.notice.is_some(), self.guest.v1, "the notice: {self:?}");
    }
}
