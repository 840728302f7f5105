//! Any number of connections on one epoll: opened in waves, turned by whoever drives the load, and
//! closed in order.
//!
//! It owns the connections and the receive buffer. It must never decide what is sent.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use mio::{Events, Interest, Poll, Token};

use crate::connection::{Connection, Progress};
use crate::frames::{Frame, Template};

/// The connections.
pub(crate) struct Crowd {
    poll: Poll,
    events: Events,
    buffer: Vec<u8>,
    server: SocketAddr,
    pub(crate) template: Template,
    pub(crate) connections: Vec<Connection>,
    opened: usize,
    over: usize,
    /// Which of 127.0.0.0/8 the next connections come from.
    source: u32,
}

/// A data message that has come back.
pub(crate) struct Told<'a> {
    /// Of which connection.
    pub(crate) index: usize,
    pub(crate) frame: Frame<'a>,
}

const BUFFER_BYTES: usize = 64 << 10;

/// Handshakes at a time: fewer than the shortest accept queue among the servers has room for.
const WAVE: usize = 100;

/// One address has 28,000 ports at least; a run takes this many of one, and the next run others, so
/// that those which rest in TIME_WAIT are never in the way.
const PER_SOURCE: usize = 10_000;

/// So long without any progress, and something is broken.
const PATIENCE: Duration = Duration::from_secs(20);

/// How long nothing more must come after the last answer: longer than an acknowledgement is
/// delayed, which a server without `TCP_NODELAY` waits for.
const SILENCE: Duration = Duration::from_millis(60);

static SOURCES: AtomicU32 = AtomicU32::new(2);

impl Crowd {
    pub(crate) fn new(server: SocketAddr, payload_len: usize) -> io::Result<Self> {
        Ok(Self {
            poll: Poll::new()?,
            events: Events::with_capacity(1_024),
            buffer: vec![0; BUFFER_BYTES],
            server,
            template: Template::new(payload_len),
            connections: Vec::new(),
            opened: 0,
            over: 0,
            source: 0,
        })
    }

    /// Opens connections until there are `len` of them; `path` says where each connects.
    pub(crate) fn open(&mut self, len: usize, path: &dyn Fn(usize) -> String) -> io::Result<()> {
        let (mut opened, mut deadline) = (self.opened, Instant::now() + PATIENCE);
        while self.opened < len {
            while self.connections.len() < len && self.connections.len() - self.opened < WAVE {
                self.connect(path)?;
            }
            self.turn(Some(Duration::from_millis(100)), &mut |_, _| Ok(()))?;
            if self.opened > opened {
                (opened, deadline) = (self.opened, Instant::now() + PATIENCE);
            }
            if Instant::now() > deadline {
                let message = format!("only {opened} of {len} connections were opened");
                return Err(io::Error::other(message));
            }
        }
        Ok(())
    }

    fn connect(&mut self, path: &dyn Fn(usize) -> String) -> io::Result<()> {
        let index = self.connections.len();
        if index.is_multiple_of(PER_SOURCE) {
            self.source = SOURCES.fetch_add(1, Ordering::Relaxed);
        }
        let [_, _, high, low] = self.source.to_be_bytes();
        let from = Ipv4Addr::new(127, 1, high, low);
        let mut connection = Connection::new(self.server, from, &path(index))?;
        let interest = Interest::READABLE | Interest::WRITABLE;
        let registry = self.poll.registry();
        registry.register(&mut connection.socket, Token(index), interest)?;
        self.connections.push(connection);
        Ok(())
    }

    /// Waits for events, and takes what they bring. `tell` may have the connection owe more, which
    /// is sent when all that it had to read is read: answers that came together are answered
    /// together.
    pub(crate) fn turn(
        &mut self,
        timeout: Option<Duration>,
        tell: &mut dyn FnMut(Told<'_>, &mut usize) -> io::Result<()>,
    ) -> io::Result<()> {
        match self.poll.poll(&mut self.events, timeout) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(()),
            other => other?,
        }
        for event in &self.events {
            let Token(index) = event.token();
            let connection = &mut self.connections[index];
            if event.is_writable() {
                connection.unblock(&self.template)?;
            }
            if !event.is_readable() || connection.is_over() {
                continue;
            }
            connection.hung_up |= event.is_read_closed() || event.is_error();
            let mut more = 0;
            let progress = connection.read(&mut self.buffer, &self.template, &mut |frame| {
                tell(Told { index, frame }, &mut more)
            })?;
            if more > 0 && connection.closed.is_none() {
                connection.owe(more, &self.template);
                connection.flush(&self.template)?;
            }
            match progress {
                Progress::Opened => self.opened += 1,
                Progress::Over => {
                    self.over += 1;
                    self.poll.registry().deregister(&mut connection.socket)?;
                    connection.hang_up();
                }
                Progress::Handshake | Progress::Open => {}
            }
        }
        Ok(())
    }

    /// Has a connection owe and send so many frames.
    pub(crate) fn send(&mut self, index: usize, frames: usize) -> io::Result<()> {
        let connection = &mut self.connections[index];
        connection.owe(frames, &self.template);
        connection.flush(&self.template)
    }

    /// Waits until everything that was sent has been answered, and says whether it has.
    pub(crate) fn settle(&mut self, patience: Duration) -> io::Result<bool> {
        let deadline = Instant::now() + patience;
        loop {
            let mut waiting = self.connections.iter();
            if waiting.all(|c| c.received >= c.sent) {
                return Ok(true);
            }
            if Instant::now() > deadline {
                return Ok(false);
            }
            self.turn(Some(Duration::from_millis(10)), &mut |_, _| Ok(()))?;
        }
    }

    /// Every message was answered once, and no connection has ended. An answer too many may come
    /// behind the last that was waited for, so there is some silence first.
    pub(crate) fn check_exact(&mut self) -> io::Result<()> {
        let deadline = Instant::now() + SILENCE;
        while Instant::now() < deadline {
            self.turn(Some(SILENCE), &mut |_, _| Ok(()))?;
        }
        for (index, connection) in self.connections.iter().enumerate() {
            let (sent, received) = (connection.sent, connection.received);
            if sent != received || connection.closed.is_some() || connection.is_over() {
                let closed = connection.closed;
                let message =
                    format!("connection {index}: {sent} sent, {received} back, closed {closed:?}");
                return Err(io::Error::other(message));
            }
        }
        Ok(())
    }

    /// Each says Close, and waits for the server's and for the end of its stream.
    pub(crate) fn close_all(&mut self) -> io::Result<()> {
        for index in 0..self.connections.len() {
            self.connections[index].close(1000);
            self.connections[index].flush(&self.template)?;
            // Those that are answered are taken off at once, so that the rest finds no crowd.
            if index % WAVE == WAVE - 1 {
                self.turn(Some(Duration::ZERO), &mut |_, _| Ok(()))?;
            }
        }
        self.wait_for_ends()
    }

    /// Waits until the server has closed every connection.
    pub(crate) fn wait_for_ends(&mut self) -> io::Result<()> {
        let deadline = Instant::now() + PATIENCE;
        while self.over < self.connections.len() {
            self.turn(Some(Duration::from_millis(100)), &mut |_, _| Ok(()))?;
            if Instant::now() > deadline {
                let (over, len) = (self.over, self.connections.len());
                let message = format!("the server has closed {over} of {len} connections");
                return Err(io::Error::other(message));
            }
        }
        Ok(())
    }
}
