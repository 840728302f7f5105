//! A connection to Redis past the server: for its settings, and for what it really has.

use std::io::Write as _;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};

use redis::{Parser, Value};

use crate::support::PATIENCE;

pub(crate) struct Resp {
    socket: TcpStream,
    parser: Parser,
}

impl Resp {
    #[track_caller]
    pub(crate) fn connect(port: u16) -> Self {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let socket = TcpStream::connect_timeout(&address, PATIENCE).expect("Redis listens");
        socket
            .set_read_timeout(Some(PATIENCE))
            .expect("a socket takes a timeout");
        Self {
            socket,
            parser: Parser::new(),
        }
    }

    /// A command and its answer, which must be no error.
    #[track_caller]
    pub(crate) fn ask(&mut self, words: &str) -> Value {
        let mut words = words.split(' ');
        let mut command = redis::cmd(words.next().unwrap_or_default());
        words.for_each(|word| {
            // So that an empty argument can be written.
            command.arg(word.trim_matches('"'));
        });
        self.socket
            .write_all(&command.get_packed_command())
            .expect("Redis takes a command");
        let answer = self.parser.parse_value(&mut self.socket);
        let answer = answer.expect("an answer of Redis");
        assert!(!matches!(answer, Value::ServerError(_)), "{answer:?}");
        answer
    }
}
