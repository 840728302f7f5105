//! The floor: what one thread with one epoll can do at all. It reads once for each readiness,
//! unmasks, and writes once; frames of any length pass through as they come.
//!
//! There is no library, no check of anything, no timer and no limit. It must never do more than an
//! echo needs, since all others are measured against it.

use std::io::{self, Read as _, Write as _};
use std::net::TcpListener as StdListener;

use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Registry, Token};

use crate::upgrade;

const LISTENER: Token = Token(usize::MAX);
const BUFFER_BYTES: usize = 64 << 10;

/// One client.
struct Client {
    socket: TcpStream,
    /// The request head, until it has been answered.
    head: Option<Vec<u8>>,
    header: [u8; 14],
    header_len: usize,
    /// Of the frame's payload.
    left: usize,
    mask: [u8; 4],
    /// What the kernel has not taken: nothing is read until it has.
    unsent: Vec<u8>,
    closing: bool,
}

/// Bytes in, and bytes out; for all clients.
struct Buffers {
    input: Vec<u8>,
    output: Vec<u8>,
}

pub(crate) fn serve(listener: StdListener) -> io::Result<()> {
    let mut poll = Poll::new()?;
    let mut events = Events::with_capacity(1_024);
    let mut listener = TcpListener::from_std(listener);
    poll.registry()
        .register(&mut listener, LISTENER, Interest::READABLE)?;
    let mut clients: Vec<Option<Client>> = Vec::new();
    let mut free = Vec::new();
    let mut buffers = Buffers {
        input: vec![0; BUFFER_BYTES],
        output: Vec::with_capacity(BUFFER_BYTES),
    };
    loop {
        poll.poll(&mut events, None)?;
        for event in &events {
            if event.token() == LISTENER {
                accept(&listener, poll.registry(), &mut clients, &mut free)?;
                continue;
            }
            let Token(slot) = event.token();
            if let Some(client) = &mut clients[slot]
                && client.ready(&mut buffers).is_err()
            {
                clients[slot] = None;
                free.push(slot);
            }
        }
    }
}

fn accept(
    listener: &TcpListener,
    registry: &Registry,
    clients: &mut Vec<Option<Client>>,
    free: &mut Vec<usize>,
) -> io::Result<()> {
    loop {
        let mut socket = match listener.accept() {
            Ok((socket, _)) => socket,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error),
        };
        socket.set_nodelay(true)?;
        let slot = free.pop().unwrap_or_else(|| {
            clients.push(None);
            clients.len() - 1
        });
        let interest = Interest::READABLE | Interest::WRITABLE;
        registry.register(&mut socket, Token(slot), interest)?;
        clients[slot] = Some(Client {
            socket,
            head: Some(Vec::new()),
            header: [0; 14],
            header_len: 0,
            left: 0,
            mask: [0; 4],
            unsent: Vec::new(),
            closing: false,
        });
    }
}

impl Client {
    /// Reads until a read comes back short. An error is the end of the client.
    fn ready(&mut self, buffers: &mut Buffers) -> io::Result<()> {
        loop {
            if !self.unsent.is_empty() && !self.flush()? {
                return Ok(());
            }
            let len = match self.socket.read(&mut buffers.input) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(len) => len,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            };
            buffers.output.clear();
            self.take(&buffers.input[..len], &mut buffers.output);
            self.send(&buffers.output)?;
            if self.closing && self.unsent.is_empty() {
                return Err(io::ErrorKind::ConnectionAborted.into());
            }
            if len < buffers.input.len() {
                return Ok(());
            }
        }
    }

    fn send(&mut self, output: &[u8]) -> io::Result<()> {
        if output.is_empty() {
            return Ok(());
        }
        if self.unsent.is_empty() {
            match self.socket.write(output) {
                Ok(len) if len == output.len() => return Ok(()),
                Ok(len) => self.unsent.extend_from_slice(&output[len..]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.unsent.extend_from_slice(output);
                }
                Err(error) => return Err(error),
            }
        } else {
            self.unsent.extend_from_slice(output);
        }
        self.flush().map(drop)
    }

    /// Whether nothing is left.
    fn flush(&mut self) -> io::Result<bool> {
        let mut sent = 0;
        while sent < self.unsent.len() {
            match self.socket.write(&self.unsent[sent..]) {
                Ok(len) => sent += len,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        self.unsent.drain(..sent);
        Ok(self.unsent.is_empty())
    }

    fn take(&mut self, mut input: &[u8], output: &mut Vec<u8>) {
        if let Some(head) = &mut self.head {
            head.extend_from_slice(input);
            if let Some(answer) = upgrade::answer(head) {
                output.extend_from_slice(answer.as_bytes());
                self.head = None;
            }
            return;
        }
        while !input.is_empty() {
            if self.left == 0 {
                input = self.take_header(input, output);
            }
            let len = self.left.min(input.len());
            let (payload, rest) = input.split_at(len);
            let begin = output.len();
            output.extend_from_slice(payload);
            unmask(&mut output[begin..], self.mask);
            self.mask.rotate_left(len % 4);
            self.left -= len;
            input = rest;
        }
    }

    /// Answers the header, once it is complete, and gives what follows it.
    fn take_header<'a>(&mut self, input: &'a [u8], output: &mut Vec<u8>) -> &'a [u8] {
        let room = &mut self.header[self.header_len..];
        let taken = room.len().min(input.len());
        room[..taken].copy_from_slice(&input[..taken]);
        let have = self.header_len + taken;
        let extended = match self.header[1] & 0x7f {
            126 => 2,
            127 => 8,
            _ => 0,
        };
        let whole = 2 + extended + 4;
        if have < 2 || have < whole {
            self.header_len = have;
            return &[];
        }
        let (header, mask) = self.header[..whole].split_at(2 + extended);
        self.left = match extended {
            0 => usize::from(header[1] & 0x7f),
            _ => header[2..]
                .iter()
                .fold(0, |sum, byte| sum << 8 | usize::from(*byte)),
        };
        self.mask = [mask[0], mask[1], mask[2], mask[3]];
        let first = if header[0] & 0x0f == 9 {
            0x8a
        } else {
            header[0]
        };
        self.closing |= first & 0x0f == 8;
        output.extend_from_slice(&[first, header[1] & 0x7f]);
        output.extend_from_slice(&header[2..]);
        let used = whole - self.header_len;
        self.header_len = 0;
        &input[used..]
    }
}

fn unmask(payload: &mut [u8], mask: [u8; 4]) {
    let (fours, rest) = payload.as_chunks_mut();
    let wide = u32::from_ne_bytes(mask);
    for four in fours {
        *four = (u32::from_ne_bytes(*four) ^ wide).to_ne_bytes();
    }
    for (byte, mask) in rest.iter_mut().zip(mask) {
        *byte ^= mask;
    }
}
