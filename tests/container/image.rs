//! The image by itself: how large it is, what is in it, and what it can do without.

use std::net::SocketAddr;
use std::process::Command;

use super::engine::{Container, Volume, docker, engine, inspect, until_healthy};
use super::images;
use super::stack::repository;
use crate::support::{eventually, http};

#[track_caller]
fn run(options: &[&str]) -> Container {
    let run = ["run", "-d", "--publish", "127.0.0.1::8000"];
    Container(docker(&[&run, options, &[images::under_test()]].concat()))
}

/// The address at which it is reached, once it is ready.
#[track_caller]
fn until_ready(container: &Container) -> SocketAddr {
    let port = docker(&["port", &container.0, "8000/tcp"]);
    let address = port.parse().expect("an address of the host");
    eventually("it is ready", || {
        http::get(address, "/readyz").status == 200
    });
    address
}

#[test]
fn it_is_one_static_binary_of_five_megabytes() {
    let Some(_engine) = engine() else { return };
    let image = images::under_test();
    let size: u64 = inspect(image, "{{.Size}}").parse().expect("a number");
    println!("{image}: {size} bytes");
    assert!(size <= 5_250_000, "{size} bytes");

    let directory = tempfile::tempdir().expect("a directory");
    let root = directory.path();
    let container = Container(docker(&["create", image]));
    let tar = root.join("image.tar");
    let tar = tar.to_str().expect("a path of UTF-8");
    docker(&["export", "--output", tar, &container.0]);
    let list = output("tar", &["-tf", tar]);
    // What the engine itself adds to every container, and two directories of ours.
    let engines = ["dev/", "etc/", "proc/", "sys/", ".dockerenv"];
    let ours: Vec<&str> = list
        .lines()
        .filter(|path| !engines.iter().any(|engines| path.starts_with(engines)))
        .collect();
    let expected = ["sundown", "var/", "var/lib/", "var/lib/sundown/"];
    assert_eq!(ours, expected);

    output(
        "tar",
        &["-C", root.to_str().expect("UTF-8"), "-xf", tar, "sundown"],
    );
    let binary = root.join("sundown");
    let binary = binary.to_str().expect("a path of UTF-8");
    let headers = output("readelf", &["--program-headers", "--dynamic", binary]);
    assert!(!headers.contains("INTERP"), "{headers}");
    assert!(!headers.contains("(NEEDED)"), "{headers}");
}

#[test]
fn its_configuration_is_that_of_a_server_that_is_process_one() {
    let Some(_engine) = engine() else { return };
    let image = images::under_test();
    let field = |name: &str| inspect(image, &format!("{{{{json .Config.{name}}}}}"));
    assert_eq!(field("User"), r#""65532:65532""#);
    assert_eq!(field("Entrypoint"), r#"["/sundown"]"#);
    assert_eq!(field("StopSignal"), r#""SIGTERM""#);
    assert_eq!(
        field("Healthcheck.Test"),
        r#"["CMD","/sundown","healthcheck"]"#
    );
    assert_eq!(field("WorkingDir"), r#""/var/lib/sundown""#);
}

/// The two Dockerfiles make the same image: they differ in where the binary comes from.
#[test]
fn the_image_built_without_rust_is_the_same() {
    let tail = |name: &str| {
        let file = repository().join("docker").join(name);
        let text = std::fs::read_to_string(file).expect("it is in the repository");
        let (_, tail) = text.split_once("\nFROM scratch\n").expect("a last stage");
        tail.replace("--from=build ", "").replace("/image/", "")
    };
    assert_eq!(tail("Dockerfile"), tail("Dockerfile.build"));
}

#[test]
fn it_runs_with_a_read_only_root_no_capabilities_and_32_megabytes() {
    let Some(_engine) = engine() else { return };
    let hardened = [
        "--read-only",
        "--cap-drop=ALL",
        "--memory=32m",
        "--memory-swap=32m",
    ];
    let container = run(&[&hardened[..], &["--security-opt=no-new-privileges"]].concat());
    until_ready(&container);
    until_healthy(&container.0);
    let smoke = docker(&["exec", &container.0, "/sundown", "smoke"]);
    assert!(smoke.contains(r#"{"count":1}"#), "{smoke}");
    docker(&["stop", "--time", "12", &container.0]);
    assert_eq!(inspect(&container.0, "{{.State.ExitCode}}"), "0");
    assert_eq!(inspect(&container.0, "{{.State.OOMKilled}}"), "false");
}

/// Sessions, and what Redis did not take, are in the volume: the next container goes on with them.
#[test]
fn what_it_keeps_outlives_the_container() {
    let Some(_engine) = engine() else { return };
    let volume = Volume(docker(&["volume", "create"]));
    let mount = format!("{}:/var/lib/sundown", volume.0);
    for count in [1, 2] {
        let container = run(&["--read-only", "--volume", &mount]);
        let address = until_ready(&container);
        let head = http::upgrade("/ws/chat/?session=kept", &[]);
        let mut client = crate::support::client::Client::dial(address, &head).expect("101");
        assert_eq!(client.say("one more"), count);
        docker(&["stop", "--time", "12", &container.0]);
    }
}

#[track_caller]
fn output(program: &str, args: &[&str]) -> String {
    let output = Command::new(program).args(args).env("LC_ALL", "C").output();
    let output = output.unwrap_or_else(|error| panic!("{program}: {error}"));
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {args:?}: {stderr}");
    String::from_utf8(output.stdout).expect("UTF-8")
}
