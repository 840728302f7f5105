//! `sundown healthcheck`: asks a running server's `/readyz` or `/healthz`, for images that have no
//! curl. All of it ends within two seconds; it must never read more than a status line.

use std::fmt;
use std::io::{self, Read, Write};
use std::time::Duration;

use sundown::config::{Config, Listen};

use super::stream::{self, Stream};

/// From the start to the verdict; Docker's own default for a health check is far longer.
const TIMEOUT: Duration = Duration::from_secs(2);

/// What is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Probe {
    /// Whether the server takes new clients.
    Ready,
    /// Whether its loop turns; `--live`.
    Live,
}

impl Probe {
    const fn path(self) -> &'static str {
        match self {
            Self::Ready => "/readyz",
            Self::Live => "/healthz",
        }
    }
}

/// Why the server is not healthy, as one line.
#[derive(Debug)]
pub(crate) enum Unhealthy {
    /// Neither listener has a port that one could know.
    NoPort,
    /// No answer.
    Silent(String, io::Error),
    /// An answer that is not 200.
    Answered(String, String),
}

impl fmt::Display for Unhealthy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoPort => f.write_str(stream::NO_PORT),
            Self::Silent(url, error) => write!(f, "{url}: {error}"),
            Self::Answered(url, line) => write!(f, "{url}: answered {line:?}"),
        }
    }
}

/// Whether the server of this configuration answers this probe with 200.
pub(crate) fn check(config: &Config, probe: Probe) -> Result<(), Unhealthy> {
    let addr = address(config).ok_or(Unhealthy::NoPort)?;
    let url = stream::url("http", &addr, probe.path());
    let answer = match ask(config, &addr, probe) {
        Ok(answer) => answer,
        Err(error) => return Err(Unhealthy::Silent(url, error)),
    };
    let mut words = answer.split(' ');
    let (version, status) = (words.next(), words.next());
    if version.is_some_and(|version| version.starts_with("HTTP/1.")) && status == Some("200") {
        return Ok(());
    }
    Err(Unhealthy::Answered(url, answer))
}

/// The admin listener if there is one, else the public one; from this machine.
fn address(config: &Config) -> Option<Listen> {
    let admin = config.admin.map(Listen::Tcp);
    let candidates = [admin.as_ref(), Some(&config.listen)];
    candidates.into_iter().flatten().find_map(stream::reachable)
}

/// The status line of the answer.
fn ask(config: &Config, addr: &Listen, probe: Probe) -> io::Result<String> {
    let mut stream = Stream::connect(config, addr, TIMEOUT)?;
    let (path, host) = (probe.path(), stream::host(addr));
    let request = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes())?;
    let mut head = [0; 128];
    let mut len = 0;
    while len < head.len() && !head[..len].contains(&b'\n') {
        match stream.read(&mut head[len..])? {
            0 => break,
            read => len += read,
        }
    }
    let text = String::from_utf8_lossy(&head[..len]);
    Ok(text.lines().next().unwrap_or_default().to_owned())
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
        assert_eq!(ask("10.0.0.1:80", Some("127.0.0.1:0")), "10.0.0.1:80");
        assert_eq!(ask("unix:/run/s", Some("0.0.0.0:81")), "127.0.0.1:81");
        assert_eq!(ask("unix:/run/s", None), "unix:/run/s");
        assert_eq!(check_address("127.0.0.1:0", None), None);
    }
}
