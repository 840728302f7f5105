//! Goal: a terminal that nobody reads (a frozen ssh, `docker -t`, a serial console) holds up
//! neither the loop nor the exit, whatever is logged to it. Method: both outputs are one
//! pseudo-terminal, whose other side is read until the server is ready, and never again; signals
//! that are ignored with a line fill it.

use std::fs::{File, OpenOptions};
use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::os::fd::AsFd as _;
use std::process::{Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use crate::support::process::Running;
use crate::support::server::BINARY;
use crate::support::terminal::terminal;
use crate::support::{PATIENCE, eventually, http, now};

#[test]
fn a_terminal_that_nobody_reads_holds_nothing_up() {
    let (master, path) = terminal();
    let slave = OpenOptions::new().write(true).open(path);
    let slave = slave.expect("the other side");
    let args = ["--listen=127.0.0.1:0", "--admin=off", "--store=memory:"];
    let mut command = Command::new(BINARY);
    command.args(args).env_clear().stdin(Stdio::null());
    command.stdout(slave.try_clone().expect("a descriptor"));
    command.stderr(slave);
    let mut server = Running(command.spawn().expect("the binary runs"));
    drop(command);
    let pid = Pid::from_child(&server.0);

    let mut lines = BufReader::new(File::from(master.try_clone().expect("a descriptor"))).lines();
    let mut address = None::<SocketAddr>;
    loop {
        let line = lines.next().expect("a line").expect("UTF-8");
        if let Some(rest) = line.strip_prefix("listening on ws://") {
            let authority = rest.split('/').next().expect("an address");
            address = Some(authority.parse().expect("an address"));
        }
        if line == "ready" {
            break;
        }
    }
    let address = address.expect("it says where it listens");

    // Some hundred lines of 100 bytes are more than a terminal takes.
    for _ in 0..1_000 {
        kill_process(pid, Signal::HUP).expect("it runs");
        assert_eq!(http::get(address, "/healthz").status, 200);
    }
    assert!(is_full(&master), "nothing has held up the writer");
    let asked_at = now();
    kill_process(pid, Signal::TERM).expect("it runs");
    let mut exited = None;
    eventually("it exits", || {
        exited = server.0.try_wait().expect("a child");
        exited.is_some()
    });
    assert!(exited.is_some_and(|status| status.success()), "{exited:?}");
    assert!(now() - asked_at < PATIENCE);
}

/// Whether the terminal holds about as much as one does.
fn is_full(master: &rustix::fd::OwnedFd) -> bool {
    rustix::io::ioctl_fionread(master.as_fd()).is_ok_and(|bytes| bytes >= 4_000)
}
