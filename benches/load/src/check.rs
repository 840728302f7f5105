//! The guard: how many instructions the server needs for a message, by callgrind, which counts them
//! and knows no load, and how many system calls. Each may be 5 % more than what is committed.
//!
//! The release binary runs under valgrind twice for each application, with so many messages and
//! with twice as many: the difference is what the messages cost, without start and end.

use std::fmt::Write as _;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::crowd::Crowd;
use crate::lockstep;
use crate::process::Server;
use crate::servers::without_settings;

/// Applications, and where their clients connect.
const APPS: [(&str, &str); 2] = [("echo", "/"), ("chat", "/ws/chat/?session=check-")];

const CONNECTIONS: usize = 100;
const ROUNDS: usize = 100;
const PAYLOAD: usize = 20;
const TOLERANCE: f64 = 0.05;

/// What a run has needed.
#[derive(Clone, Copy, Debug)]
struct Needed {
    instructions: f64,
    system_calls: f64,
}

/// Measures, and compares with the committed values; or writes them.
pub(crate) fn run(binary: &Path, committed: &Path, bless: bool) -> io::Result<bool> {
    let mut lines = Vec::new();
    for (app, path) in APPS {
        let Needed {
            instructions,
            system_calls,
        } = for_a_message(binary, app, path)?;
        lines.push((format!("{app}.instructions"), instructions));
        lines.push((format!("{app}.system_calls"), system_calls));
    }
    if bless {
        write(committed, &lines)?;
        println!("{} is written", committed.display());
        return Ok(true);
    }
    compare(&fs::read_to_string(committed)?, &lines)
}

/// As often as asked for, to see how far the values are from each other.
pub(crate) fn spread(binary: &Path, times: usize) -> io::Result<()> {
    for (app, path) in APPS {
        for _ in 0..times {
            let needed = for_a_message(binary, app, path)?;
            let (instructions, calls) = (needed.instructions, needed.system_calls);
            println!("{app}: {instructions:.1} instructions, {calls:.4} system calls");
        }
    }
    Ok(())
}

fn for_a_message(binary: &Path, app: &str, path: &str) -> io::Result<Needed> {
    let once = under_callgrind(binary, app, path, ROUNDS)?;
    let twice = under_callgrind(binary, app, path, ROUNDS * 2)?;
    let messages = (ROUNDS * CONNECTIONS) as f64;
    let needed = Needed {
        instructions: (twice.instructions - once.instructions) / messages,
        system_calls: (twice.system_calls - once.system_calls) / messages,
    };
    // What costs nothing was not measured, and must not pass for an improvement.
    if needed.instructions > 0.0 && needed.system_calls > 0.0 {
        Ok(needed)
    } else {
        Err(io::Error::other(format!("{app}: a message costs nothing")))
    }
}

fn under_callgrind(binary: &Path, app: &str, path: &str, rounds: usize) -> io::Result<Needed> {
    fs::create_dir_all("target/bench")?;
    let log = PathBuf::from("target/bench/callgrind.log");
    let mut command = without_settings(Path::new("valgrind"));
    command
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg("--trace-syscalls=yes")
        .arg(format!("--log-file={}", log.display()))
        .arg("--")
        .arg(binary);
    // No timer of ours may fall into a run by chance.
    command.args(["--listen", "127.0.0.1:0", "--admin", "off"]);
    command.args(["--heartbeat", "0s", "--idle-timeout", "0s"]);
    command.args(["--store", "memory:", "--app", app]);
    let mut server = Server::start(&mut command)?;
    server.wait_ready()?;
    let mut crowd = Crowd::new(server.addr, PAYLOAD)?;
    let path_of = |index| match app {
        "echo" => path.to_owned(),
        _ => format!("{path}{index}"),
    };
    crowd.open(CONNECTIONS, &path_of)?;
    lockstep::run(&mut crowd, &server, rounds)?;
    server.signal(Signal::TERM)?;
    let deadline = Instant::now() + Duration::from_secs(30);
    while !server.has_ended()? {
        crowd.turn(Some(Duration::from_millis(5)), &mut |_, _| Ok(()))?;
        if Instant::now() > deadline {
            return Err(io::Error::other("the server does not end"));
        }
    }
    needed(&fs::read_to_string(&log)?)
}

/// From valgrind's log.
fn needed(log: &str) -> io::Result<Needed> {
    let collected = log.lines().find_map(|line| line.split_once("Collected : "));
    let instructions = collected.and_then(|(_, number)| number.trim().parse().ok());
    let Some(instructions) = instructions else {
        return Err(io::Error::other("callgrind has counted nothing"));
    };
    // Each is named once, even if a second line tells its end. Outside of valgrind, no system call
    // reads the clock.
    let calls = log.matches(") sys_").count() - log.matches(") sys_clock_gettime").count();
    Ok(Needed {
        instructions,
        system_calls: calls as f64,
    })
}

fn write(committed: &Path, lines: &[(String, f64)]) -> io::Result<()> {
    let mut text = String::from(
        "# What the release binary needs for one message of 20 bytes, with 100 connections that\n\
         # have one each: instructions by callgrind, and system calls. `make bench-check` fails\n\
         # past 5 %; `make bench-bless` writes this file. Another compiler gives other values.\n",
    );
    let written = writeln!(text, "compiler {}", compiler()?);
    debug_assert!(written.is_ok(), "a String takes everything");
    for (name, value) in lines {
        let written = writeln!(text, "{name} {value:.2}");
        debug_assert!(written.is_ok(), "a String takes everything");
    }
    fs::write(committed, text)
}

fn compare(committed: &str, lines: &[(String, f64)]) -> io::Result<bool> {
    let value = |name: &str| {
        let rest = committed.lines().find_map(|line| line.strip_prefix(name));
        rest.map(str::trim)
            .ok_or_else(|| io::Error::other(format!("{name} is not committed")))
    };
    let (then, now) = (value("compiler ")?, compiler()?);
    if then != now {
        println!("committed with {then}, and this is {now}: values may differ for that alone");
    }
    let mut holds = true;
    for (name, measured) in lines {
        let text = value(&format!("{name} "))?;
        let expected: f64 = text.parse().map_err(io::Error::other)?;
        let change = measured / expected - 1.0;
        let verdict = if change > TOLERANCE {
            holds = false;
            "TOO MUCH"
        } else if change < -TOLERANCE {
            "better: `make bench-bless` keeps it"
        } else {
            "ok"
        };
        let percent = change * 100.0;
        println!("{name:20} {expected:10.2} → {measured:10.2}  {percent:+6.2} %  {verdict}");
    }
    Ok(holds)
}

fn compiler() -> io::Result<String> {
    let output = Command::new("rustc").arg("--version").output()?;
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
