//! The shipped compose file under a name and a port of its own, with the commands that an operator
//! has for it. It takes everything down when it is dropped, volumes included.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use super::engine::{Engine, docker, inspect, try_docker};
use super::images;
use crate::support::process::Process;
use crate::support::{eventually, http};

pub(crate) struct Stack {
    name: String,
    image: String,
    /// Where clients connect.
    pub(crate) address: SocketAddr,
    memory: &'static str,
    _engine: Engine,
}

/// How a promotion ended.
#[derive(Debug)]
pub(crate) struct Promotion {
    pub(crate) code: Option<i32>,
    pub(crate) text: String,
}

/// What the server itself says of its end.
#[derive(Debug, serde::Deserialize)]
pub(crate) struct Report {
    pub(crate) signal: String,
    pub(crate) spilled: u64,
    pub(crate) byes: u64,
    pub(crate) closed_1001: u64,
    pub(crate) cut: u64,
}

impl Stack {
    /// With the shipped image; nothing runs yet.
    #[track_caller]
    pub(crate) fn new(engine: Engine) -> Self {
        let probe = TcpListener::bind((way_in(), 0)).expect("a free port");
        let address = probe.local_addr().expect("its address");
        Self {
            name: format!("sundown-test-{}", address.port()),
            image: images::under_test().to_owned(),
            address,
            memory: "64m",
            _engine: engine,
        }
    }

    /// The limit of each colour.
    pub(crate) fn with_memory(mut self, memory: &'static str) -> Self {
        self.memory = memory;
        self
    }

    /// One colour, and all that it depends on, by Compose alone; until it serves.
    #[track_caller]
    pub(crate) fn up(&self, service: &str) {
        self.compose(&["up", "-d", service]);
        self.until_ready();
    }

    /// Until the proxy has somewhere to send clients, and has seen for itself that it is ready: it
    /// takes a server that it has just found for ready until a check has failed.
    #[track_caller]
    pub(crate) fn until_ready(&self) {
        let ask = "exec 3<>/dev/tcp/127.0.0.1/9999; echo show stat sundown 4 -1 >&3; cat <&3";
        let proxy = self.container("proxy");
        eventually("a colour serves behind the proxy", || {
            let stats = docker(&["exec", &proxy, "bash", "-c", ask]);
            let is_up = |line: &str| line.contains(",UP,") && line.contains(",L7OK,");
            stats.lines().any(is_up) && http::get(self.address, "/readyz").status == 200
        });
    }

    /// A command of Compose, which must succeed.
    #[track_caller]
    pub(crate) fn compose(&self, args: &[&str]) {
        let output = self.try_compose(args);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "compose {args:?}: {stderr}");
    }

    fn try_compose(&self, args: &[&str]) -> Output {
        let file = repository().join("docker/compose.yml");
        let (program, first) = compose_command();
        let mut command = Command::new(program);
        command.args(first).arg("--file").arg(file).args(args);
        self.environment(&mut command, &self.image);
        command.output().expect("Compose can be started")
    }

    /// docker/promote.sh with the shipped image; without a colour if that is empty.
    #[track_caller]
    pub(crate) fn promote(&self, colour: &str) -> Promotion {
        self.promote_image(colour, &self.image, "60")
    }

    /// docker/promote.sh, which must do what it is told.
    #[track_caller]
    pub(crate) fn must_promote(&self, colour: &str) -> String {
        let promotion = self.promote(colour);
        assert_eq!(promotion.code, Some(0), "{}", promotion.text);
        promotion.text
    }

    #[track_caller]
    pub(crate) fn promote_image(&self, colour: &str, image: &str, patience: &str) -> Promotion {
        let mut command = self.promotion(colour, image);
        let output = command.env("PROMOTE_TIMEOUT", patience).output();
        let output = output.expect("the script can be started");
        let (stdout, stderr) = (output.stdout, output.stderr);
        let text = [stdout, stderr].concat();
        Promotion {
            code: output.status.code(),
            text: String::from_utf8_lossy(&text).into_owned(),
        }
    }

    /// The same, on its way.
    #[track_caller]
    pub(crate) fn begin_promotion(&self, colour: &str) -> Process {
        let mut command = self.promotion(colour, &self.image);
        // As a shell does: Ctrl-C then goes to all that the script has started, too.
        command.process_group(0);
        Process::spawn(command)
    }

    /// The same where every word on standard error is an error, as on a terminal that is gone.
    #[track_caller]
    pub(crate) fn promote_unheard(&self, colour: &str, image: &str) -> Option<i32> {
        let full = std::fs::File::create("/dev/full").expect("Linux has one");
        let mut command = self.promotion(colour, image);
        let status = command.stdout(Stdio::null()).stderr(full).status();
        status.expect("the script can be started").code()
    }

    fn promotion(&self, colour: &str, image: &str) -> Command {
        let mut command = Command::new(repository().join("docker/promote.sh"));
        command.args((!colour.is_empty()).then_some(colour));
        self.environment(&mut command, image);
        command
    }

    fn environment(&self, command: &mut Command, image: &str) {
        command
            .stdin(Stdio::null())
            .env("COMPOSE_PROJECT_NAME", &self.name)
            .env("SUNDOWN_IMAGE", image)
            .env("SUNDOWN_PUBLISH", self.address.to_string())
            .env("SUNDOWN_MEMORY", self.memory)
            // All clients of these tests have one address.
            .env("SUNDOWN_PER_ADDRESS", "10000");
    }

    /// A network of this project, by its name in compose.yml.
    pub(crate) fn network(&self, name: &str) -> String {
        format!("{}_{name}", self.name)
    }

    /// The id of a service's container.
    #[track_caller]
    pub(crate) fn container(&self, service: &str) -> String {
        let project = format!("label=com.docker.compose.project={}", self.name);
        let service = format!("label=com.docker.compose.service={service}");
        docker(&["ps", "-a", "-q", "--filter", &project, "--filter", &service])
    }

    #[track_caller]
    pub(crate) fn state(&self, service: &str, field: &str) -> String {
        let template = format!("{{{{.{field}}}}}");
        inspect(&self.container(service), &template)
    }

    #[track_caller]
    pub(crate) fn is_running(&self, service: &str) -> bool {
        let id = self.container(service);
        !id.is_empty() && inspect(&id, "{{.State.Running}}") == "true"
    }

    /// All that a container has said.
    #[track_caller]
    pub(crate) fn logs(&self, service: &str) -> String {
        let logs = try_docker(&["logs", &self.container(service)]);
        String::from_utf8_lossy(&[logs.stdout, logs.stderr].concat()).into_owned()
    }

    /// The last line on the standard output of a colour, which has ended by itself.
    #[track_caller]
    pub(crate) fn report(&self, service: &str) -> Report {
        assert_eq!(self.state(service, "State.Running"), "false");
        assert_eq!(self.state(service, "State.OOMKilled"), "false");
        // 137 would be SIGKILL.
        let logs = try_docker(&["logs", "--tail", "20", &self.container(service)]);
        let stderr = String::from_utf8_lossy(&logs.stderr);
        assert_eq!(self.state(service, "State.ExitCode"), "0", "{stderr}");
        let stdout = String::from_utf8_lossy(&logs.stdout);
        let last = stdout.lines().last().expect("a report");
        serde_json::from_str(last).unwrap_or_else(|error| panic!("{error}: {last}"))
    }

    /// The signals that the engine has sent to a colour since then, and how long it was from the
    /// first of them to the end of the process, by the engine's clock.
    #[track_caller]
    pub(crate) fn ending(&self, service: &str, since: &str) -> (Vec<String>, Duration) {
        let until = docker(&["info", "--format", "{{.SystemTime}}"]);
        let container = format!("container={}", self.container(service));
        let events = docker(&[
            "events",
            "--since",
            since,
            "--until",
            &until,
            "--filter",
            &container,
            "--format",
            "{{.Action}} {{.TimeNano}} {{.Actor.Attributes.signal}}",
        ]);
        let events: Vec<Vec<&str>> = events
            .lines()
            .map(|line| line.split(' ').collect())
            .collect();
        let of = |action: &'static str| events.iter().filter(move |event| event[0] == action);
        let at = |event: &[&str]| -> u64 { event[1].parse().expect("nanoseconds") };
        let killed = of("kill").next().expect("a signal");
        let died = of("die").next().expect("an end");
        let signals = of("kill").map(|event| event[2].to_owned()).collect();
        let took = Duration::from_nanos(at(died) - at(killed));
        (signals, took)
    }

    /// What Redis has counted for each of these sessions.
    #[track_caller]
    pub(crate) fn counts<'a>(
        &self,
        sessions: impl Iterator<Item = &'a str>,
    ) -> BTreeMap<String, u64> {
        let sessions: Vec<&str> = sessions.collect();
        let mut child = Command::new("docker")
            .args(["exec", "-i", &self.container("redis"), "redis-cli"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("docker can be started");
        let mut stdin = child.stdin.take().expect("it is piped");
        let mut asked = String::new();
        for session in &sessions {
            asked.push_str("HGET sundown:session:");
            asked.push_str(session);
            asked.push_str(" n\n");
        }
        let asking = std::thread::spawn(move || stdin.write_all(asked.as_bytes()));
        let answer = child.wait_with_output().expect("redis-cli ends");
        asking.join().expect("it only writes").expect("it is read");
        let answer = String::from_utf8_lossy(&answer.stdout);
        let counts: Vec<u64> = answer.lines().map(|n| n.parse().unwrap_or(0)).collect();
        assert_eq!(counts.len(), sessions.len(), "{answer}");
        let names = sessions.into_iter().map(str::to_owned);
        names.zip(counts).collect()
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let logs = self.try_compose(&["logs", "--no-color", "--tail", "30"]);
            eprintln!("{}", String::from_utf8_lossy(&logs.stdout));
        }
        // Compose would take ten times as long, and not get along with a paused container.
        let project = format!("label=com.docker.compose.project={}", self.name);
        let ours = |list: &[&str]| {
            let listed = try_docker(&[list, &["-q", "--filter", &project]].concat());
            let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
            listed.lines().map(str::to_owned).collect::<Vec<String>>()
        };
        for (list, remove) in [
            (&["ps", "-a"][..], &["rm", "--force", "--volumes"][..]),
            (&["network", "ls"], &["network", "rm"]),
            (&["volume", "ls"], &["volume", "rm"]),
        ] {
            let names = ours(list);
            if names.is_empty() {
                continue;
            }
            let names = names.iter().map(String::as_str);
            let gone = try_docker(&remove.iter().copied().chain(names).collect::<Vec<_>>());
            let stderr = String::from_utf8_lossy(&gone.stderr);
            assert!(
                gone.status.success() || std::thread::panicking(),
                "{stderr}"
            );
        }
    }
}

/// Compose 2 is a plug-in of docker, Compose 1 a program.
fn compose_command() -> (&'static str, &'static [&'static str]) {
    if try_docker(&["compose", "version"]).status.success() {
        ("docker", &["compose"])
    } else {
        ("docker-compose", &[])
    }
}

pub(crate) fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Where clients come in: at the engine's bridge, if it is on this machine, from where the kernel takes
/// them to the proxy, as it takes those of other hosts. On 127.0.0.1 a process of the engine would copy
/// every byte, on the processors that are measured.
fn way_in() -> Ipv4Addr {
    let subnet = "{{(index .IPAM.Config 0).Subnet}}";
    let answer = try_docker(&["network", "inspect", "--format", subnet, "bridge"]);
    let subnet = String::from_utf8_lossy(&answer.stdout).into_owned();
    let network = subnet
        .split('/')
        .next()
        .and_then(|address| address.parse().ok());
    // The bridge has the first address.
    let bridge = network.map(|network: Ipv4Addr| Ipv4Addr::from_bits(network.to_bits() + 1));
    let is_here = |address: &Ipv4Addr| TcpListener::bind((*address, 0)).is_ok();
    bridge.filter(is_here).unwrap_or(Ipv4Addr::LOCALHOST)
}
