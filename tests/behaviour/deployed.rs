//! Goal: what docs/deploy offers to copy works with this server: each setting in it is one, with a
//! value that it takes; a supervisor is more patient than the shutdown is long; and the liveness
//! probe fails neither for a crowd on the clients' port nor for a store that is away.
//! Method: the files' text, and the built binary with their variables and their probe. What systemd
//! and Kubernetes say of them is asked by scripts/check-deploy.sh.

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

use crate::support::peer::Nobody;
use crate::support::redis::Redis;
use crate::support::server::{BINARY, Server, with_variables};
use crate::support::{SHUTDOWN_MAX, http};

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
    let pairs = variables.iter().map(|(name, value)| (&**name, &**value));
    let pairs: Vec<(&str, &str)> = pairs.collect();
    for (name, value) in &pairs {
        if matches!(*name, "SUNDOWN_LISTEN" | "SUNDOWN_ADMIN") {
            value.parse::<SocketAddr>().expect("an address and a port");
        }
    }
    let mut server = Server::launch(with_variables(&pairs), "memory:", &[]);
    server.stop();
    assert_eq!(server.log().count("SUNDOWN_"), 0);
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
    let (_, probe) = deployment.split_once("livenessProbe:").expect("a probe");
    let patience: u64 = value(probe, "timeoutSeconds: ").parse().expect("seconds");
    assert!(patience > 2, "healthcheck answers within 2 s");
}

/// Runs the liveness probe of the deployment beside this server, whose clients' listener is out of
/// reach, as in a crowd: in its container, the variables are the server's own.
#[track_caller]
fn liveness(server: &Server) -> Output {
    let deployment = read(DEPLOYMENT);
    let (_, probe) = deployment.split_once("livenessProbe:").expect("a probe");
    let command = value(probe, "command: [").trim_end_matches(']');
    let mut words = command.split(", ");
    assert_eq!(words.next(), Some("/sundown"), "the image's only program");
    let mut probe = Command::new(BINARY);
    probe.args(words).env_clear();
    let nobody = Nobody::new();
    probe.env("SUNDOWN_LISTEN", nobody.addr.to_string());
    probe.env("SUNDOWN_ADMIN", server.admin.to_string());
    probe.output().expect("the binary runs")
}

#[test]
fn neither_a_crowd_nor_a_store_that_is_away_fails_the_liveness_probe() {
    let redis = Redis::start();
    redis.freeze();
    let server = Server::start_unready(&redis.url(), &[]);
    assert_eq!(http::get(server.admin, "/readyz").status, 503);
    let probe = liveness(&server);
    assert!(probe.status.success(), "{probe:?}");
    redis.thaw();
}
