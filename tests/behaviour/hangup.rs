//! Goal: SIGHUP ends nothing in the middle of a shutdown; alone it is a graceful stop if the
//! terminal has gone, and otherwise a line in the log. Method: the signal by kill(2), and the end
//! of a real terminal whose other side is closed.

use std::os::fd::OwnedFd;
use std::process::Command;

use rustix::process::Signal;

use crate::support::client::Client;
use crate::support::said::Said;
use crate::support::server::{BINARY, Server};
use crate::support::terminal::terminal;

/// Long enough for what happens in it, on a loaded machine too.
const LONG_DRAIN: [&str; 4] = ["--drain-timeout", "7s", "--drain-quiet", "3s"];

/// The server as the leader of a session whose terminal this is, after what a shell does first.
fn on_a_terminal(first: &str) -> (OwnedFd, Command) {
    let (master, path) = terminal();
    let mut shell = Command::new("sh");
    let script = format!("{first} exec setsid --ctty \"$0\" \"$@\" < {path}");
    shell.args(["-c", &script, BINARY]);
    (master, shell)
}

fn says_goodbye(mut client: Client, count: u64) {
    assert!(matches!(client.hear(), Said::Notice(_)));
    assert_eq!(client.hear(), Said::Bye(count));
    client.until_closed(1001);
}

#[test]
fn without_a_terminal_it_is_a_line_in_the_log() {
    let mut server = Server::start("memory:", &[]);
    let (mut client, _) = Client::v1(&server, "kept");
    server.signal(Signal::HUP);
    server.log().until("SIGHUP ignored");
    assert_eq!(client.say("still there"), 1);
    server.terminate();
    says_goodbye(client, 1);
    assert_eq!(server.exits_with(0).signal, "SIGTERM");
}

#[test]
fn while_the_terminal_is_there_it_is_a_line_in_the_log() {
    let (_master, command) = on_a_terminal("");
    let mut server = Server::launch(command, "memory:", &[]);
    server.signal(Signal::HUP);
    server.log().until("SIGHUP ignored");
    server.stop();
}

#[test]
fn a_terminal_that_goes_is_a_graceful_stop() {
    let (master, command) = on_a_terminal("");
    let mut server = Server::launch(command, "memory:", &[]);
    let (mut client, _) = Client::v1(&server, "told");
    assert_eq!(client.say("one"), 1);
    drop(master);
    says_goodbye(client, 1);
    assert_eq!(server.exits_with(0).signal, "SIGHUP");
}

/// `nohup` is asked for by who wants that.
#[test]
fn one_that_was_ignored_at_the_start_stays_ignored() {
    let (master, command) = on_a_terminal("trap '' HUP;");
    let mut server = Server::launch(command, "memory:", &[]);
    let (mut client, _) = Client::v1(&server, "kept");
    drop(master);
    server.signal(Signal::HUP);
    server.turns();
    assert_eq!(client.say("still there"), 1);
    assert_eq!(server.stop().signal, "SIGTERM");
}

/// systemd's `SendSIGHUP`, and a terminal that is closed while the server shuts down.
#[test]
fn in_a_shutdown_it_is_ignored() {
    let (master, command) = on_a_terminal("");
    let mut server = Server::launch(command, "memory:", &LONG_DRAIN);
    let (mut client, _) = Client::v1(&server, "drained");
    server.terminate();
    assert!(matches!(client.hear(), Said::Notice(_)));
    server.signal(Signal::HUP);
    server.log().until("SIGHUP ignored");
    drop(master);
    server.log().until("SIGHUP ignored: a shutdown");
    assert_eq!(client.say("while it drains"), 1);
    assert_eq!(client.hear(), Said::Bye(1));
    client.until_closed(1001);
    assert_eq!(server.exits_with(0).repeats, 0);
}
