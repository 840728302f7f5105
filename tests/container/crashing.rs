//! A colour that is killed: nothing that was acknowledged is lost.

use super::engine::{docker, engine, inspect};
use super::fleet::session::Habit;
use super::fleet::{Fleet, plans};
use super::noticed::settle;
use super::stack::Stack;
use crate::support::eventually;

const CLIENTS: usize = 200;

/// Clients of blue go on, whatever happens to it.
#[track_caller]
fn check(happens: impl FnOnce(&Stack)) {
    let Some(engine) = engine() else { return };
    let stack = Stack::new(engine);
    stack.must_promote("blue");
    let fleet = Fleet::gather(&[stack.address], plans("client", CLIENTS, Habit::Ceaseless));
    fleet.flow(CLIENTS as u64);
    happens(&stack);
    fleet.until_all_open();
    fleet.flow(CLIENTS as u64);
    settle(fleet, &stack);
}

/// `docker kill`: the engine takes that for the operator's will and starts nothing. The operator
/// promotes the other colour, which finds nobody to stop.
#[test]
fn clients_of_a_killed_colour_go_on_at_the_other() {
    check(|stack| {
        docker(&["kill", "--signal", "KILL", &stack.container("app_blue")]);
        assert_eq!(stack.state("app_blue", "State.ExitCode"), "137");
        let text = stack.must_promote("green");
        assert!(
            text.contains("app_blue: does not run, nothing to stop"),
            "{text}"
        );
    });
}

/// A crash: the engine starts the colour again by itself, and clients come back to it.
#[test]
fn clients_of_a_crashed_colour_come_back_to_it() {
    check(|stack| {
        let id = stack.container("app_blue");
        let pid: i32 = inspect(&id, "{{.State.Pid}}").parse().expect("a pid");
        let pid = rustix::process::Pid::from_raw(pid).expect("it runs");
        rustix::process::kill_process(pid, rustix::process::Signal::KILL).expect("we are root");
        eventually("it was started again", || {
            inspect(&id, "{{.RestartCount}}") == "1"
        });
    });
}
