//! `load`: drives servers from the core beside theirs, and says what they did.
//!
//! - `load bench [quick|full] [--OPTION VALUE]…` measures, prints tables and writes JSON;
//! - `load report` makes tables and plots of that for docs/benchmarks.md;
//! - `load check`, `load bless`, `load spread` count instructions under callgrind.
//!
//! It must never use the server's code: what is measured does not measure itself.

mod about;
mod chat;
mod check;
mod closed;
mod connection;
mod crowd;
mod echo;
mod frames;
mod lockstep;
mod open;
mod options;
mod plots;
mod process;
mod report;
mod results;
mod servers;
mod tables;
mod targets;

use std::io;
use std::path::Path;
use std::process::ExitCode;

use options::Options;
use results::Results;

const USAGE: &str = "load bench [quick|full] [--sections A,B] [--peers A,B] [--connections N,M] \
                     [--payloads N,M] [--depths N,M] [--chat-connections N,M] \
                     [--memory-connections N,M] [--rounds N] [--millis N] [--sundown PATH] \
                     [--peers-binary PATH] [--out PATH]\n\
                     load report [RESULTS]\n\
                     load check|bless|spread [BINARY]";

const COMMITTED: &str = "benches/instructions.txt";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let (command, rest) = match args.split_first() {
        Some((command, rest)) => (command.as_str(), rest),
        None => ("", &[][..]),
    };
    let first = rest.first().map(String::as_str);
    let binary = Path::new(first.unwrap_or("target/release/sundown"));
    let holds = match command {
        "bench" => match Options::parse(rest) {
            Ok(options) => bench(&options).map(|()| true),
            Err(error) => {
                eprintln!("{error}\n{USAGE}");
                return ExitCode::from(64);
            }
        },
        "report" => {
            let results = Path::new(first.unwrap_or("target/bench/results.json"));
            report::write(results).map(|()| true)
        }
        "check" => check::run(binary, Path::new(COMMITTED), false),
        "bless" => check::run(binary, Path::new(COMMITTED), true),
        "spread" => check::spread(binary, 10).map(|()| true),
        _ => {
            eprintln!("{USAGE}");
            return ExitCode::from(64);
        }
    };
    match holds {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// A load average beyond this says that others need the cores as well.
const LOAD_MAX: f64 = 0.5;

/// Runs the sections that were asked for. What is done is kept, if a later one fails.
fn bench(options: &Options) -> io::Result<()> {
    process::pin(process::CLIENT_CORE)?;
    let about = about::about(options)?;
    let load = about["load"]
        .as_str()
        .and_then(|load| load.parse::<f64>().ok());
    if load.is_none_or(|load| load > LOAD_MAX) {
        println!("the machine is doing other things (load {load:?}): take the figures for a hint");
    }
    let mut results = Results {
        about,
        rows: Vec::new(),
    };
    for (section, measure) in [
        (
            "start",
            chat::start as fn(&Options, &mut Results) -> io::Result<()>,
        ),
        ("throughput", echo::throughput),
        ("latency", echo::latency),
        ("chat", chat::throughput),
        ("memory", echo::memory),
        ("broadcast", chat::broadcast),
        ("shutdown", chat::shutdown),
    ] {
        if !options.has(section) {
            continue;
        }
        let measured = measure(options, &mut results);
        results.save(&options.out)?;
        measured.map_err(|error| io::Error::other(format!("{section}: {error}")))?;
    }
    if let Some(targets) = targets::table(&results) {
        println!("\ntargets\n{}", targets.text());
    }
    println!("{} is written", options.out.display());
    Ok(())
}
