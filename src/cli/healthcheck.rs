//! `sundown healthcheck`: asks a running server's `/readyz`, for images that have no curl. It is a
//! short process of its own, so blocking sockets are fine here, each call within what is left of
//! two seconds; it must never share a process with the loop.

use std::fmt;
use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use sundown::clock;
use sundown::config::Config;

/// From the start to the verdict; Docker's own default for a health check is far longer.
const TIMEOUT: Duration = Duration::from_secs(2);

/// Why the server is not ready, as one line.
#[derive(Debug)]
pub(crate) enum Unready {
    /// Neither listener has a port that one could know.
    NoPort,
    /// No answer.
    Silent(SocketAddr, io::Error),
    /// An answer that is not 200.
    Answered(SocketAddr, String),
}

impl fmt::Display for Unready {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoPort => {
                f.write_str("port 0 is not where the server listens: give the port it printed")
            }
            Self::Silent(addr, error) => write!(f, "http://{addr}/readyz: {error}"),
            Self::Answered(addr, line) => write!(f, "http://{addr}/readyz: answered {line:?}"),
        }
    }
}

/// Whether the server of this configuration is ready.
pub(crate) fn check(config: &Config) -> Result<(), Unready> {
    let addr = address(config).ok_or(Unready::NoPort)?;
    let deadline = clock::now().instant + TIMEOUT;
    let answer = ask(addr, deadline).map_err(|error| {
        // Linux calls a read that took too long "resource temporarily unavailable".
        let slow = matches!(
            error.kind(),
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut
        );
        let error = if slow { late() } else { error };
        Unready::Silent(addr, error)
    })?;
    let mut words = answer.split(' ');
    let (version, status) = (words.next(), words.next());
    if version.is_some_and(|version| version.starts_with("HTTP/1.")) && status == Some("200") {
        return Ok(());
    }
    Err(Unready::Answered(addr, answer))
}

/// The admin listener if there is one, else the public one; from this machine.
fn address(config: &Config) -> Option<SocketAddr> {
    let candidates = [config.admin, Some(config.listen)];
    let known = |addr: &SocketAddr| addr.port() != 0;
    let mut addr = candidates.into_iter().flatten().find(known)?;
    if addr.ip().is_unspecified() {
        addr.set_ip(IpAddr::V4(Ipv4Addr::LOCALHOST));
    }
    Some(addr)
}

/// The status line of the answer.
fn ask(addr: SocketAddr, deadline: Instant) -> io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&addr, left(deadline)?)?;
    stream.set_write_timeout(Some(left(deadline)?))?;
    let request = format!("GET /readyz HTTP/1.1\r\nHost: {addr}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes())?;
    let mut head = [0; 128];
    let mut len = 0;
    while len < head.len() && !head[..len].contains(&b'\n') {
        stream.set_read_timeout(Some(left(deadline)?))?;
        match stream.read(&mut head[len..])? {
            0 => break,
            read => len += read,
        }
    }
    let text = String::from_utf8_lossy(&head[..len]);
    Ok(text.lines().next().unwrap_or_default().to_owned())
}

/// What is left until the deadline: never zero, which sockets take for "no timeout".
fn left(deadline: Instant) -> io::Result<Duration> {
    let left = deadline.saturating_duration_since(clock::now().instant);
    if left.is_zero() {
        Err(late())
    } else {
        Ok(left)
    }
}

fn late() -> io::Error {
    let text = format!("no answer within {}", humantime::format_duration(TIMEOUT));
    io::Error::new(io::ErrorKind::TimedOut, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_address(listen: &str, admin: Option<&str>) -> Option<String> {
        let config = Config {
            listen: listen.parse().unwrap(),
            admin: admin.map(|addr| addr.parse().unwrap()),
            ..Config::default()
        };
        address(&config).map(|addr| addr.to_string())
    }

    #[test]
    fn the_admin_listener_is_asked_first() {
        let ask = |listen, admin| check_address(listen, admin).unwrap();
        assert_eq!(ask("10.0.0.1:80", Some("10.0.0.2:81")), "10.0.0.2:81");
        assert_eq!(ask("10.0.0.1:80", None), "10.0.0.1:80");
        assert_eq!(ask("10.0.0.1:80", Some("0.0.0.0:81")), "127.0.0.1:81");
        assert_eq!(ask("[::]:80", None), "127.0.0.1:80");
        assert_eq!(ask("[::1]:80", None), "[::1]:80");
        assert_eq!(ask("10.0.0.1:80", Some("127.0.0.1:0")), "10.0.0.1:80");
        assert_eq!(check_address("127.0.0.1:0", None), None);
    }
}
