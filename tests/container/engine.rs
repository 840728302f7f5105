//! The Docker engine, by its command: as operators speak to it. One test at a time has it.

use std::process::{Command, Output, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::support::eventually;

/// The engine, for as long as a test has it.
pub(crate) struct Engine {
    _turn: MutexGuard<'static, ()>,
}

static TURN: Mutex<()> = Mutex::new(());

/// Waits for the engine. `None` if the tests that need it are to be skipped, which it says.
#[track_caller]
pub(crate) fn engine() -> Option<Engine> {
    if std::env::var("SUNDOWN_SKIP_DOCKER").is_ok_and(|skip| skip == "1") {
        eprintln!("SKIPPED, since SUNDOWN_SKIP_DOCKER=1: nothing is known about containers");
        return None;
    }
    // Whoever failed before has left the engine in order: its drops have run.
    let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let answer = command(&["version", "--format", "{{.Server.Version}}"]).output();
    let answers = answer.is_ok_and(|answer| answer.status.success());
    assert!(
        answers,
        "no Docker engine answers: start one, or skip these tests with SUNDOWN_SKIP_DOCKER=1"
    );
    Some(Engine { _turn: turn })
}

/// A container without Compose, removed with its volumes when it is dropped.
pub(crate) struct Container(pub(crate) String);

impl Drop for Container {
    fn drop(&mut self) {
        drop(try_docker(&["rm", "--force", "--volumes", &self.0]));
    }
}

/// A volume, removed when it is dropped.
pub(crate) struct Volume(pub(crate) String);

impl Drop for Volume {
    fn drop(&mut self) {
        drop(try_docker(&["volume", "rm", "--force", &self.0]));
    }
}

fn command(args: &[&str]) -> Command {
    let mut command = Command::new("docker");
    command.args(args).stdin(Stdio::null());
    // The builder that every engine has: the newer one is a plug-in.
    command.env("DOCKER_BUILDKIT", "0");
    command
}

/// What the command says, whether it succeeds or not.
#[track_caller]
pub(crate) fn try_docker(args: &[&str]) -> Output {
    command(args).output().expect("docker can be started")
}

/// What the command says on standard output, without the last line break. It must succeed.
#[track_caller]
pub(crate) fn docker(args: &[&str]) -> String {
    let output = try_docker(args);
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim_end().to_owned();
    assert!(
        output.status.success(),
        "docker {args:?}: {}",
        text(&output.stderr)
    );
    text(&output.stdout)
}

/// Waits until the health check of a container's image succeeds.
#[track_caller]
pub(crate) fn until_healthy(container: &str) {
    eventually("it is healthy", || {
        inspect(container, "{{.State.Health.Status}}") == "healthy"
    });
}

/// One field of a container, image, volume or network.
#[track_caller]
pub(crate) fn inspect(thing: &str, template: &str) -> String {
    docker(&["inspect", "--format", template, thing])
}
