//! `sundown broadcast JSON`: has a running server say something to every client of every node, and
//! prints what it answered. All of it ends within ten seconds; it must never read without end.

use std::fmt;
use std::io::{self, Read, Write};
use std::time::Duration;

use serde::Deserialize;
use sundown::config::{Config, Listen};

use super::stream::{self, Stream};

/// From the start to the answer, which comes when all clients of that node are told.
const TIMEOUT: Duration = Duration::from_secs(10);

/// What is read of an answer: ours are far shorter.
const ANSWER_BYTES_MAX: u64 = 4 << 10;

/// Why nobody, or not everybody, was told, as one line.
#[derive(Debug)]
pub(crate) enum Failure {
    /// There is no admin listener, by this configuration.
    NoAdmin,
    /// It has no port that one could know.
    NoPort,
    /// No answer.
    Silent(Listen, io::Error),
    /// Something else than 200, and what came with it.
    Refused(Listen, String),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoAdmin => f.write_str("--admin off: broadcasts go through the admin listener"),
            Self::NoPort => f.write_str(stream::NO_PORT),
            Self::Silent(addr, error) => write!(f, "http://{addr}/broadcast: {error}"),
            Self::Refused(addr, answer) => write!(f, "http://{addr}/broadcast: {answer}"),
        }
    }
}

/// Says it, and gives the body of the answer.
pub(crate) fn say(config: &Config, json: &str) -> Result<String, Failure> {
    let admin = config.admin.ok_or(Failure::NoAdmin)?;
    let addr = stream::reachable(&admin.into()).ok_or(Failure::NoPort)?;
    let answer = match ask(config, &addr, json) {
        Ok(answer) => answer,
        Err(error) => return Err(Failure::Silent(addr, error)),
    };
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    let (line, body) = (head.lines().next().unwrap_or_default(), body.trim_end());
    if line.starts_with("HTTP/1.1 200 ") {
        return Ok(body.to_owned());
    }
    let status = line.strip_prefix("HTTP/1.1 ").unwrap_or(line);
    Err(Failure::Refused(
        addr,
        format!("{status}: {}", error_of(body)),
    ))
}

/// The text of `{"error":"…"}`, or what else a server says.
fn error_of(body: &str) -> String {
    #[derive(Deserialize)]
    struct Refusal {
        error: String,
    }
    match serde_json::from_str(body) {
        Ok(Refusal { error }) => error,
        Err(_) => body.to_owned(),
    }
}

fn ask(config: &Config, addr: &Listen, json: &str) -> io::Result<String> {
    let mut stream = Stream::connect(config, addr, TIMEOUT)?;
    let request = format!(
        "POST /broadcast HTTP/1.1\r\nHost: {addr}\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\nConnection: close\r\n\r\n{json}",
        json.len()
    );
    stream.write_all(request.as_bytes())?;
    let mut answer = Vec::new();
    stream.take(ANSWER_BYTES_MAX).read_to_end(&mut answer)?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}
