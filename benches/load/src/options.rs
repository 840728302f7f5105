//! What the command line asks for: which parts of the grid, how often and how long. Values only.

use std::path::PathBuf;
use std::time::Duration;

/// A run of the bench.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    pub(crate) sections: Vec<String>,
    pub(crate) peers: Vec<String>,
    pub(crate) connections: Vec<usize>,
    pub(crate) payloads: Vec<usize>,
    pub(crate) depths: Vec<usize>,
    /// Connections of the chats, and of the memory.
    pub(crate) chat_connections: Vec<usize>,
    pub(crate) memory_connections: Vec<usize>,
    pub(crate) rounds: usize,
    /// How long each measurement takes, after warming up.
    pub(crate) measured: Duration,
    pub(crate) sundown: PathBuf,
    pub(crate) peers_binary: PathBuf,
    /// The results, as JSON.
    pub(crate) out: PathBuf,
}

pub(crate) const SECTIONS: &[&str] = &[
    "start",
    "throughput",
    "latency",
    "chat",
    "memory",
    "broadcast",
    "shutdown",
];

/// All peers, the floor first: it is what the others are compared with.
pub(crate) const PEERS: &[&str] = &[
    "floor",
    "sundown",
    "tungstenite",
    "tungstenite-4k",
    "tungstenite-batch",
    "fastwebsockets",
    "fastwebsockets-raw",
    "axum",
    "axum-4k",
    "soketto",
];

/// The slowest of a thousand tells as much of the machine as of the server: whoever shares it takes
/// a core away for a millisecond now and then. So there are more rounds of it, for the median to
/// choose from.
pub(crate) const LATENCY_ROUNDS_FACTOR: usize = 3;

impl Options {
    /// Everything, as docs/benchmarks.md has it.
    fn full() -> Self {
        Self {
            sections: owned(SECTIONS),
            peers: owned(PEERS),
            connections: vec![1, 100, 1_000, 10_000],
            payloads: vec![20, 1 << 10, 64 << 10, 1 << 20],
            depths: vec![1, 16],
            chat_connections: vec![100, 1_000],
            memory_connections: vec![5_000, 10_000, 18_000],
            rounds: 3,
            measured: Duration::from_secs(1),
            sundown: PathBuf::from("target/release/sundown"),
            peers_binary: PathBuf::from("target/bench-peers/release/peers"),
            out: PathBuf::from("target/bench/results.json"),
        }
    }

    /// A look at where we stand.
    fn quick() -> Self {
        Self {
            peers: owned(&[
                "floor",
                "sundown",
                "tungstenite",
                "tungstenite-4k",
                "fastwebsockets",
            ]),
            connections: vec![100, 1_000],
            payloads: vec![20],
            chat_connections: vec![1_000],
            memory_connections: vec![10_000],
            measured: Duration::from_millis(400),
            ..Self::full()
        }
    }

    /// From `[PRESET] [--NAME VALUE]…`, or what is wrong with that.
    pub(crate) fn parse(args: &[String]) -> Result<Self, String> {
        let (mut options, rest) = match args.split_first() {
            Some((preset, rest)) if preset == "quick" => (Self::quick(), rest),
            Some((preset, rest)) if preset == "full" => (Self::full(), rest),
            _ => (Self::full(), args),
        };
        let mut rest = rest.iter();
        while let Some(name) = rest.next() {
            let value = rest.next().ok_or_else(|| format!("{name} what?"))?;
            match name.as_str() {
                "--sections" => options.sections = names(value, SECTIONS)?,
                "--peers" => options.peers = names(value, PEERS)?,
                "--connections" => options.connections = numbers(value)?,
                "--payloads" => options.payloads = numbers(value)?,
                "--depths" => options.depths = numbers(value)?,
                "--chat-connections" => options.chat_connections = numbers(value)?,
                "--memory-connections" => options.memory_connections = numbers(value)?,
                "--rounds" => options.rounds = number(value)?,
                "--millis" => options.measured = Duration::from_millis(number(value)? as u64),
                "--sundown" => options.sundown = PathBuf::from(value),
                "--peers-binary" => options.peers_binary = PathBuf::from(value),
                "--out" => options.out = PathBuf::from(value),
                _ => return Err(format!("{name} is no option")),
            }
        }
        if options.peers.first().is_none_or(|peer| peer != "floor") {
            options.peers.retain(|peer| peer != "floor");
            options.peers.insert(0, "floor".to_owned());
        }
        Ok(options)
    }

    pub(crate) fn has(&self, section: &str) -> bool {
        self.sections.iter().any(|own| own == section)
    }
}

fn owned(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

fn names(value: &str, known: &[&str]) -> Result<Vec<String>, String> {
    let names: Vec<&str> = value.split(',').collect();
    match names.iter().find(|name| !known.contains(name)) {
        Some(name) => Err(format!("{name} is none of {}", known.join(", "))),
        None => Ok(owned(&names)),
    }
}

fn numbers(value: &str) -> Result<Vec<usize>, String> {
    value.split(',').map(number).collect()
}

fn number(text: &str) -> Result<usize, String> {
    let number = text.parse().ok().filter(|number| *number > 0);
    number.ok_or_else(|| format!("{text} is no number"))
}
