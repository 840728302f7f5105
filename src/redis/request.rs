//! The commands that open a link, whatever it is for.
//!
//! It must never send, and never log what it makes: HELLO holds the password.

use redis::Cmd;

use super::target::Login;

pub(crate) fn hello(login: &Login) -> Cmd {
    let mut command = redis::cmd("HELLO");
    command.arg(3);
    if let Some((user, password)) = credentials(login) {
        command.arg("AUTH").arg(user).arg(password);
    }
    command.arg("SETNAME").arg(CLIENT_NAME);
    command
}

/// For a Redis that does not know HELLO; `None` without user and password.
pub(crate) fn auth(login: &Login) -> Option<Cmd> {
    let (user, password) = credentials(login)?;
    let mut command = redis::cmd("AUTH");
    if login.user.is_some() {
        command.arg(user); // Before version 6 there were no users, and AUTH took a password only.
    }
    command.arg(password);
    Some(command)
}

pub(crate) fn set_name() -> Cmd {
    let mut command = redis::cmd("CLIENT");
    command.arg("SETNAME").arg(CLIENT_NAME);
    command
}

/// `None` for the database that a connection begins with.
pub(crate) fn select(login: &Login) -> Option<Cmd> {
    if login.db == 0 {
        return None;
    }
    let mut command = redis::cmd("SELECT");
    command.arg(login.db);
    Some(command)
}

pub(crate) fn subscribe(channel: &str) -> Cmd {
    let mut command = redis::cmd("SUBSCRIBE");
    command.arg(channel);
    command
}

/// Asks for a sign of life.
pub(crate) fn ping() -> Cmd {
    redis::cmd("PING")
}

/// The same in RESP3, in which Redis says whether it is a replica by now, too.
pub(crate) fn role() -> Cmd {
    let mut command = redis::cmd("HELLO");
    command.arg(3);
    command
}

/// User and password, if there is anything to say. A user alone is one without a password
/// (`nopass`).
fn credentials(login: &Login) -> Option<(&str, &str)> {
    if login.user.is_none() && login.password.is_none() {
        return None;
    }
    let user = login.user.as_deref().unwrap_or("default");
    Some((user, login.password.as_deref().unwrap_or_default()))
}

const CLIENT_NAME: &str = "sundown";
