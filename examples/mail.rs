//! Clients that push to each other: who sends `NAME TEXT` has `TEXT` pushed to the session `NAME`, and
//! bytes come back to the session that sends them. The shipped client is tested on it (tests/web).
//!
//! ```text
//! mail [--listen ADDR] [--admin ADDR|off] [--store STORE]
//! ```

use std::process::ExitCode;

use sundown::{Application, Message, Server, Session, SessionId};

#[path = "shared/mod.rs"]
mod shared;

fn main() -> ExitCode {
    shared::serve(|arguments| Ok(Server::bind(arguments.config()?, Mail)?))
}

struct Mail;

impl Application for Mail {
    fn on_message(&mut self, message: Message<'_>, session: &mut Session<'_>) {
        let pushed = match message {
            Message::Binary(bytes) => session.push(bytes),
            Message::Text(text) => match text.split_once(' ') {
                Some((name, text)) => match SessionId::parse(name) {
                    Ok(to) => session.push_to(&to, text),
                    Err(_) => return session.reply_text("no such name"),
                },
                None => return session.reply_text("NAME TEXT"),
            },
        };
        if let Err(error) = pushed {
            session.reply_text(error.to_string());
        }
    }
}
