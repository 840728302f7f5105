//! One hostile peer: a socket that never blocks, what it sends once, and what it sends for ever.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Instant;

use rustix::net::sockopt::{set_socket_recv_buffer_size, set_socket_send_buffer_size};

use crate::plans::Script;
use crate::support::{PATIENCE, frame, ms, now, pause};

pub(crate) struct Peer {
    socket: TcpStream,
    script: Arc<Script>,
    written: usize,
    received: Vec<u8>,
}

/// How it ended for a peer.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Fate {
    /// An HTTP status other than 101, and the server's FIN.
    Answered(u16),
    /// The code of a Close frame, and the server's FIN.
    Closed(u16),
    /// A FIN without a word.
    Ended,
    /// A reset.
    Reset,
    /// It was still open when the crowd went home.
    Open,
}

/// What the kernel keeps for a peer in either direction.
const KERNEL_BYTES: usize = 64 << 10;

impl Peer {
    pub(crate) fn connect(address: SocketAddr, script: &Arc<Script>) -> Self {
        let socket = TcpStream::connect_timeout(&address, PATIENCE).expect("room in the queue");
        socket.set_nonblocking(true).expect("O_NONBLOCK");
        socket.set_nodelay(true).expect("TCP_NODELAY");
        // The kernel's buffers are not the server's memory, and would take megabytes first: before a
        // server has room for no more replies, and after the crowd has gone.
        set_socket_recv_buffer_size(&socket, KERNEL_BYTES).expect("SO_RCVBUF");
        set_socket_send_buffer_size(&socket, KERNEL_BYTES).expect("SO_SNDBUF");
        Self {
            socket,
            script: Arc::clone(script),
            written: 0,
            received: Vec::new(),
        }
    }

    /// Writes up to `max` bytes. `None`: the connection takes no more, ever.
    pub(crate) fn write(&mut self, max: usize) -> Option<usize> {
        let mut len = 0;
        while len < max {
            let Script { once, for_ever } = &*self.script;
            let rest = if self.written < once.len() {
                &once[self.written..]
            } else if for_ever.is_empty() {
                break;
            } else {
                &for_ever[(self.written - once.len()) % for_ever.len()..]
            };
            match self.socket.write(&rest[..rest.len().min(max - len)]) {
                Ok(taken) => {
                    self.written += taken;
                    len += taken;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(_) => return None,
            }
        }
        Some(len)
    }

    /// Writes what it sends once, as far as the kernel takes it.
    pub(crate) fn write_once(&mut self) {
        let rest = self.script.once.len() - self.written;
        // A failure shows again at the next write.
        self.write(rest);
    }

    /// Reads what there is; the fate, if this was the end.
    pub(crate) fn read(&mut self) -> Option<Fate> {
        let mut chunk = [0; 16 << 10];
        loop {
            match self.socket.read(&mut chunk) {
                Ok(0) => return Some(self.fate()),
                Ok(len) => self.received.extend_from_slice(&chunk[..len]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return None,
                Err(_) => return Some(Fate::Reset),
            }
        }
    }

    pub(crate) fn is_upgraded(&self) -> bool {
        self.received.starts_with(b"HTTP/1.1 101") && self.head_len().is_some()
    }

    /// Sends no more. If that fails, hearing the server out tells why.
    pub(crate) fn finish(&self) {
        drop(self.socket.shutdown(Shutdown::Write));
    }

    pub(crate) fn hear_out(mut self, deadline: Instant) -> Fate {
        loop {
            if let Some(fate) = self.read() {
                return fate;
            }
            if now() >= deadline {
                return Fate::Open;
            }
            pause(ms(1));
        }
    }

    fn head_len(&self) -> Option<usize> {
        let end = self
            .received
            .windows(4)
            .position(|four| four == b"\r\n\r\n")?;
        Some(end + 4)
    }

    fn fate(&self) -> Fate {
        let status = self
            .received
            .get(9..12)
            .and_then(|code| str::from_utf8(code).ok());
        let Some(status) = status.and_then(|code| code.parse().ok()) else {
            return Fate::Ended;
        };
        if status != 101 {
            return Fate::Answered(status);
        }
        let mut frames = &self.received[self.head_len().expect("a whole head")..];
        let mut last = Fate::Ended;
        while let Some((first, range)) = frame::parse(frames) {
            if first == frame::CLOSE {
                let code = frames[range.clone()].first_chunk();
                last = Fate::Closed(code.map_or(1005, |code| u16::from_be_bytes(*code)));
            }
            frames = &frames[range.end..];
        }
        last
    }
}
