//! Goal: as process 1 the server waits for orphans, so that what is run beside it (`docker exec`,
//! health checks) leaves no zombie. Method: a namespace of its own, by unshare(1); children are
//! left to the server by nsenter(1), and looked for in /proc.

use std::process::Command;

use rustix::process::{Pid, Signal, kill_process};

use crate::support::server::{BINARY, Server};
use crate::support::{PATIENCE, eventually};

/// The children of a process, as it is seen from here.
fn children(pid: i32) -> Vec<i32> {
    let path = format!("/proc/{pid}/task/{pid}/children");
    let list = std::fs::read_to_string(path).expect("a process, and a kernel that lists them");
    list.split_whitespace()
        .map(|pid| pid.parse().expect("a number"))
        .collect()
}

#[test]
fn process_1_leaves_no_zombies() {
    let mut command = Command::new("unshare");
    command.args(["--user", "--map-root-user", "--pid", "--fork"]);
    command.args(["--kill-child", "--", BINARY]);
    // Where the system allows no namespaces this fails, and says so: it is not skipped.
    let mut server = Server::launch(command, "memory:", &[]);
    let unshare = server.process.pid().as_raw_nonzero().get();
    let [init] = children(unshare)[..] else {
        panic!("unshare has one child: the server");
    };
    let status = Command::new("nsenter")
        .args(["--user", "--pid", "--target", &init.to_string()])
        .args(["sh", "-c", "for n in 1 2 3 4 5; do (exec sleep 0.2) & done"])
        .status();
    assert!(status.expect("nsenter runs").success());
    eventually("no child is left", || children(init).is_empty());
    let init = Pid::from_raw(init).expect("not 0");
    kill_process(init, Signal::TERM).expect("it runs");
    let exit = server.exit_within(PATIENCE);
    assert_eq!(exit.code, Some(0), "{:?}", exit.stdout);
}
