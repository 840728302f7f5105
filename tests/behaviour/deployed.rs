//! Goal: what docs/deploy offers to copy works with this server: each setting in it is one, with a
//! value that it takes, and a supervisor is more patient than the shutdown is long.
//! Method: the files' text, and the built binary with their variables. What systemd and Kubernetes
//! say of them is asked by scripts/check-deploy.sh.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::support::SHUTDOWN_MAX;
use crate::support::server::{BINARY, Server};

const UNIT: &str = "systemd/sundown@.service";
const DEPLOYMENT: &str = "kubernetes/deployment.yaml";
/// Each instance has the variables of both its files.
const INSTANCES: [[&str; 2]; 2] = [
    ["systemd/common.env", "systemd/blue.env"],
    ["systemd/common.env", "systemd/green.env"],
];

fn read(file: &str) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let path = root.join("docs/deploy").join(file);
    std::fs::read_to_string(path).expect("a file of docs/deploy")
}

/// `NAME=VALUE` lines, those that are commented out included.
fn variables_of_lines(text: &str) -> Vec<(String, String)> {
    let lines = text.lines().map(|line| line.trim_start_matches('#'));
    let pairs = lines.filter_map(|line| line.split_once('='));
    let ours = pairs.filter(|(name, _)| name.starts_with("SUNDOWN_"));
    ours.map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}

/// `- name: NAME` lines, each with the `value: VALUE` that follows it at once.
fn variables_of_yaml(text: &str) -> Vec<(String, String)> {
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    let pairs = lines.windows(2).filter_map(|pair| {
        let name = pair[0].strip_prefix("- name: ")?;
        let value = pair[1].strip_prefix("value: ")?;
        Some((name.to_owned(), value.trim_matches('"').to_owned()))
    });
    pairs.collect()
}

/// The server starts with them and has nothing to say about any. Where it listens and what it
/// keeps sessions in is the test's own.
#[track_caller]
fn check(variables: &[(String, String)]) {
    assert!(!variables.is_empty(), "the file was not understood");
    let mut command = Command::new("/usr/bin/env");
    for (name, value) in variables {
        command.arg(format!("{name}={value}"));
        if matches!(name.as_str(), "SUNDOWN_LISTEN" | "SUNDOWN_ADMIN") {
            value.parse::<SocketAddr>().expect("an address and a port");
        }
    }
    command.arg(BINARY);
    let mut server = Server::launch(command, "memory:", &[]);
    server.stop();
    let log = server.process.stderr.all();
    let mut complaints = log.iter().filter(|line| line.contains("SUNDOWN_"));
    assert_eq!(complaints.next(), None);
}

/// The value that stands behind this, on a line of its own.
#[track_caller]
fn value<'a>(text: &'a str, before: &str) -> &'a str {
    let mut lines = text.lines().map(str::trim);
    let value = lines.find_map(|line| line.strip_prefix(before));
    value.unwrap_or_else(|| panic!("no line begins with `{before}`"))
}

#[test]
fn every_setting_of_the_instances_is_one() {
    let mut addresses = Vec::new();
    for files in INSTANCES {
        let variables = variables_of_lines(&files.map(read).concat());
        check(&variables);
        addresses.extend(
            variables
                .into_iter()
                .filter(|(name, _)| matches!(name.as_str(), "SUNDOWN_LISTEN" | "SUNDOWN_ADMIN")),
        );
    }
    let mut ports: Vec<String> = addresses.into_iter().map(|(_, value)| value).collect();
    assert_eq!(ports.len(), 4);
    ports.sort_unstable();
    ports.dedup();
    assert_eq!(ports.len(), 4, "they are in each other's way");
}

#[test]
fn every_setting_of_the_deployment_is_one() {
    let deployment = read(DEPLOYMENT);
    let variables = variables_of_yaml(&deployment);
    let all = deployment.matches("- name: SUNDOWN_").count();
    // The store's URL is a secret.
    assert_eq!(variables.len(), all - 1, "{variables:?}");
    check(&variables);
}

#[test]
fn who_stops_it_is_patient_enough() {
    let deployment = read(DEPLOYMENT);
    let variables = variables_of_yaml(&deployment);
    let timeout = variables
        .iter()
        .find(|(name, _)| name == "SUNDOWN_SHUTDOWN_TIMEOUT");
    let (_, timeout) = timeout.expect("a timeout");
    assert_eq!(timeout, "10s", "the default, for all to see");
    for (text, before) in [
        (&deployment, "terminationGracePeriodSeconds: "),
        (&read(UNIT), "TimeoutStopSec="),
    ] {
        let patience = value(text, before).parse().expect("seconds");
        assert!(Duration::from_secs(patience) > SHUTDOWN_MAX, "{before}");
    }
}
