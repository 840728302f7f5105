//! Where and of what a run was: the machine, the commit, the compiler, and the command.

use std::fs;
use std::io;
use std::process::Command;

use serde_json::{Map, Value, json};

use crate::options::{LATENCY_ROUNDS_FACTOR, Options};

pub(crate) fn about(options: &Options) -> io::Result<Map<String, Value>> {
    let cpu = fs::read_to_string("/proc/cpuinfo")?;
    let memory = fs::read_to_string("/proc/meminfo")?;
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease")?;
    let load = fs::read_to_string("/proc/loadavg")?;
    let changes = said_by("git", &["status", "--porcelain", "--untracked-files=no"]);
    let args: Vec<String> = std::env::args().skip(2).collect();
    let cores = cpu.lines().filter(|line| line.starts_with("processor"));
    let about = json!({
        "cpu": field(&cpu, "model name"),
        "cores": cores.count(),
        "memory": field(&memory, "MemTotal"),
        "kernel": kernel.trim(),
        "load": load.split(' ').next().unwrap_or_default(),
        "compiler": said_by("rustc", &["--version"]),
        "commit": said_by("git", &["rev-parse", "--short=12", "HEAD"]),
        "clean": changes.is_empty(),
        "date": said_by("date", &["-u", "+%Y-%m-%d"]),
        "arguments": args.join(" "),
        "rounds": options.rounds,
        "latency_factor": LATENCY_ROUNDS_FACTOR,
        "measured_ms": options.measured.as_millis() as u64,
    });
    Ok(about.as_object().cloned().unwrap_or_default())
}

fn field(text: &str, name: &str) -> String {
    let line = text.lines().find(|line| line.starts_with(name));
    let value = line.and_then(|line| line.split_once(':'));
    value.map_or_else(String::new, |(_, value)| value.trim().to_owned())
}

/// Nothing, if the command is not there.
fn said_by(command: &str, args: &[&str]) -> String {
    let output = Command::new(command).args(args).output();
    output.map_or_else(
        |_| String::new(),
        |output| String::from_utf8_lossy(&output.stdout).trim().to_owned(),
    )
}
