//! One connection of the load client: its handshake, the frames that it owes the server, and what
//! has come back.
//!
//! It reads and writes until the kernel has no more. It must never decide what to send: that is the
//! load's business.

use std::io::{self, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::os::fd::OwnedFd;

use mio::net::TcpStream;
use rustix::net::{AddressFamily, SocketFlags, SocketType};

use crate::frames::{CLOSE, Frame, Reader, Template, masked};

/// A connection.
pub(crate) struct Connection {
    pub(crate) socket: TcpStream,
    stage: Stage,
    reader: Reader,
    /// Bytes of frames to be sent.
    owed: usize,
    /// Where in a frame the next byte to be sent stands.
    at: usize,
    /// A Close frame, behind the frames that are under way.
    close: Vec<u8>,
    close_asked: bool,
    blocked: bool,
    /// The server has closed its side: a short read is not the end.
    pub(crate) hung_up: bool,
    /// Data messages.
    pub(crate) sent: u64,
    pub(crate) received: u64,
    /// What the latest short data message said.
    pub(crate) last: Vec<u8>,
    /// The code of the server's Close frame.
    pub(crate) closed: Option<u16>,
}

/// How far it has come.
enum Stage {
    /// The request to send, and then the answer so far.
    Handshake {
        request: Vec<u8>,
        answer: Vec<u8>,
    },
    Open,
    /// The server has closed its side, too.
    Over,
}

/// Where it stands after a read.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Progress {
    Handshake,
    /// The handshake has just been completed.
    Opened,
    Open,
    Over,
}

const REQUEST_TAIL: &str = "Host: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                            Sec-WebSocket-Version: 13\r\n\
                            Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

/// A request for an upgrade.
pub(crate) fn request(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\n{REQUEST_TAIL}")
}

impl Connection {
    /// Begins to connect, from this address.
    pub(crate) fn new(server: SocketAddr, from: Ipv4Addr, path: &str) -> io::Result<Self> {
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let socket =
            rustix::net::socket_with(AddressFamily::INET, SocketType::STREAM, flags, None)?;
        rustix::net::bind(&socket, &SocketAddrV4::new(from, 0))?;
        rustix::net::sockopt::set_tcp_nodelay(&socket, true)?;
        match rustix::net::connect(&socket, &server) {
            Ok(()) | Err(rustix::io::Errno::INPROGRESS) => {}
            Err(error) => return Err(error.into()),
        }
        Ok(Self {
            socket: TcpStream::from_std(into_std(socket)),
            stage: Stage::Handshake {
                request: request(path).into_bytes(),
                answer: Vec::new(),
            },
            reader: Reader::default(),
            owed: 0,
            at: 0,
            close: Vec::new(),
            close_asked: false,
            blocked: false,
            hung_up: false,
            sent: 0,
            received: 0,
            last: Vec::new(),
            closed: None,
        })
    }

    pub(crate) fn is_over(&self) -> bool {
        matches!(self.stage, Stage::Over)
    }

    /// Closes our side, after the server has closed its own; the descriptor goes with the crowd.
    pub(crate) fn hang_up(&mut self) {
        // The server may be gone altogether.
        let _gone = self.socket.shutdown(std::net::Shutdown::Both);
    }

    /// So many frames more are to be sent.
    pub(crate) fn owe(&mut self, frames: usize, template: &Template) {
        self.owed += frames * template.frame_len;
        self.sent += frames as u64;
    }

    /// Sends a Close frame when all else has been sent, and nothing after it.
    pub(crate) fn close(&mut self, code: u16) {
        if !self.close_asked {
            self.close_asked = true;
            self.close = masked(CLOSE, &code.to_be_bytes());
        }
    }

    /// The kernel takes more.
    pub(crate) fn unblock(&mut self, template: &Template) -> io::Result<()> {
        self.blocked = false;
        if let Stage::Handshake { request, .. } = &mut self.stage
            && !request.is_empty()
        {
            // It fits: nothing was sent before.
            let len = match self.socket.write(request) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
                Err(error) if error.kind() == io::ErrorKind::NotConnected => 0,
                other => other?,
            };
            request.drain(..len);
            return Ok(());
        }
        self.flush(template)
    }

    /// Sends what is owed, as far as the kernel takes it.
    pub(crate) fn flush(&mut self, template: &Template) -> io::Result<()> {
        while !self.blocked && self.owed > 0 {
            let bytes = template.slice(self.at, self.owed);
            let Some(len) = self.write(bytes)? else {
                return Ok(());
            };
            self.owed -= len;
            self.at = (self.at + len) % template.frame_len;
        }
        if self.owed == 0 && !self.blocked && !self.close.is_empty() {
            let close = std::mem::take(&mut self.close);
            // Far too short to be cut.
            self.write(&close)?;
        }
        Ok(())
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<Option<usize>> {
        match self.socket.write(bytes) {
            Ok(len) => Ok(Some(len)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.blocked = true;
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// Drops the frames of which nothing has been sent: the server has said Close.
    fn stop_sending(&mut self, template: &Template) {
        let begun = match self.at {
            0 => 0,
            at => template.frame_len - at,
        };
        self.sent -= ((self.owed - begun) / template.frame_len) as u64;
        self.owed = begun;
    }

    /// Reads all there is, and tells of each data message.
    pub(crate) fn read(
        &mut self,
        buffer: &mut [u8],
        template: &Template,
        tell: &mut impl FnMut(Frame<'_>) -> io::Result<()>,
    ) -> io::Result<Progress> {
        let mut progress = match self.stage {
            Stage::Handshake { .. } => Progress::Handshake,
            Stage::Open => Progress::Open,
            Stage::Over => return Ok(Progress::Over),
        };
        loop {
            let len = match self.socket.read(buffer) {
                Ok(0) => {
                    self.stage = Stage::Over;
                    return Ok(Progress::Over);
                }
                Ok(len) => len,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(progress),
                Err(error) => return Err(error),
            };
            let mut bytes = &buffer[..len];
            if let Stage::Handshake { answer, .. } = &mut self.stage {
                let before = answer.len();
                answer.extend_from_slice(bytes);
                let Some(head) = end_of_head(answer)? else {
                    continue;
                };
                bytes = &bytes[head - before..];
                self.stage = Stage::Open;
                progress = Progress::Opened;
            }
            self.take(bytes, template, tell)?;
            // A short read means that there is no more, unless the server has closed.
            if len < buffer.len() && self.closed.is_none() && !self.hung_up {
                return Ok(progress);
            }
        }
    }

    fn take(
        &mut self,
        bytes: &[u8],
        template: &Template,
        tell: &mut impl FnMut(Frame<'_>) -> io::Result<()>,
    ) -> io::Result<()> {
        let (received, last, closed) = (&mut self.received, &mut self.last, &mut self.closed);
        let was_open = closed.is_none();
        self.reader.take(bytes, &mut |frame| {
            match frame.opcode {
                1 | 2 => {
                    *received += 1;
                    last.clear();
                    last.extend_from_slice(frame.payload);
                    return tell(frame);
                }
                CLOSE => {
                    let code = frame.payload.first_chunk();
                    *closed = Some(code.map_or(1005, |code| u16::from_be_bytes(*code)));
                }
                _ => {}
            }
            Ok(())
        })?;
        if was_open && let Some(code) = self.closed {
            self.stop_sending(template);
            self.close(if code == 1005 { 1000 } else { code });
            self.flush(template)?;
        }
        Ok(())
    }
}

fn into_std(socket: OwnedFd) -> std::net::TcpStream {
    std::net::TcpStream::from(socket)
}

/// Where the head of a 101 ends; any other answer is an error.
fn end_of_head(answer: &[u8]) -> io::Result<Option<usize>> {
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n");
    if end.is_some() && !answer.starts_with(b"HTTP/1.1 101") {
        let text = String::from_utf8_lossy(answer);
        let status = text.lines().next().unwrap_or_default();
        return Err(io::Error::other(format!("no upgrade: {status}")));
    }
    Ok(end.map(|end| end + 4))
}
