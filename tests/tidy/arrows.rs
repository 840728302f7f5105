//! Who may import whom. The table is the architecture: one row for each module, with the reason.
//! What is not in its row, a module does not use; what nobody uses, is in no row.

use std::collections::BTreeSet;

use super::documents::dependencies;
use super::paths::{Path, paths};
use super::source::Source;
use super::tree::{File, Offence, files, holds};

/// What a module, and all below it that has no row of its own, may use besides itself.
struct Row {
    module: &'static str,
    /// Of this crate.
    inside: &'static [&'static str],
    /// Other crates.
    crates: &'static [&'static str],
    std: Std,
    why: &'static str,
}

/// Which parts of the standard library.
#[derive(Clone, Copy)]
enum Std {
    Only(&'static [&'static str]),
    Not(&'static [&'static str]),
}

/// The world outside: whoever has none of it is pure.
const PURE: Std = Std::Not(&[
    "std::env",
    "std::fs",
    "std::io",
    "std::net",
    "std::os",
    "std::process",
    "std::thread",
]);
/// Reads bytes through `std::io::Read` and knows its errors, and is pure otherwise.
const BYTES: Std = Std::Not(&[
    "std::env",
    "std::fs",
    "std::net",
    "std::os",
    "std::process",
    "std::thread",
]);
/// Sockets, and neither files nor threads.
const SOCKETS: Std = Std::Not(&["std::env", "std::fs", "std::process", "std::thread"]);
const FILES: Std = Std::Not(&[
    "std::env",
    "std::net",
    "std::os",
    "std::process",
    "std::thread",
]);
/// Files or names, on a thread that is there to be blocked.
const HELPER: Std = Std::Not(&["std::env", "std::os", "std::process"]);

const TABLE: &[Row] = &[
    Row {
        module: "engine",
        inside: &["config", "slots"],
        crates: &["rand", "slab"],
        std: PURE,
        why: "the engine decides and never sees a socket, a file, a thread or a clock: bytes, time \
              and seed come in as arguments, and what is to be done goes out as an `Output`",
    },
    Row {
        module: "engine::shutdown",
        inside: &["config::ShutdownBudget"],
        crates: &[],
        std: Std::Only(&["std::fmt", "std::time"]),
        why: "the machine is told levels and answers with actions, so that its whole table can be \
              written down: put what it needs to know into `Census`",
    },
    Row {
        module: "engine::io",
        inside: &["engine::message", "engine::shutdown::Trigger"],
        crates: &[],
        std: PURE,
        why: "the vocabulary is plain values that net and store may share; behaviour belongs to \
              the engine",
    },
    Row {
        module: "engine::message",
        inside: &["engine::io"],
        crates: &["humantime"],
        std: PURE,
        why: "the vocabulary is plain values that net and store may share; behaviour belongs to \
              the engine",
    },
    Row {
        module: "net",
        inside: &["config", "engine::io", "engine::message", "error", "slots"],
        crates: &["log", "mio", "socket2"],
        std: SOCKETS,
        why: "net carries bytes and knows no store and no engine, only their words: what is to be \
              decided goes to the event loop as an `Event`",
    },
    Row {
        module: "net::http",
        inside: &[],
        crates: &["httparse", "tungstenite"],
        std: PURE,
        why: "request heads and answers are bytes in, bytes out, tested without a socket",
    },
    Row {
        module: "net::websocket",
        inside: &["engine::io", "engine::message", "net::validator"],
        crates: &["tungstenite"],
        std: Std::Only(&["std::io", "std::mem"]),
        why: "frames are bytes in, bytes out, tested without a socket",
    },
    Row {
        module: "net::intake",
        inside: &["engine::io", "engine::message", "net::validator"],
        crates: &[],
        std: PURE,
        why: "whole messages are bytes in, bytes lent, tested without a socket",
    },
    Row {
        module: "net::validator",
        inside: &["engine::io", "net::utf8"],
        crates: &[],
        std: PURE,
        why: "what the RFC demands is judged by us alone, and tested without a socket",
    },
    Row {
        module: "net::utf8",
        inside: &[],
        crates: &[],
        std: PURE,
        why: "bytes in, a verdict out",
    },
    Row {
        module: "net::table",
        inside: &[],
        crates: &[],
        std: PURE,
        why: "rows and their numbers, whatever is in them",
    },
    Row {
        module: "net::spares",
        inside: &["net::websocket"],
        crates: &[],
        std: PURE,
        why: "codecs and buffers know no connection that they could carry anything from",
    },
    Row {
        module: "net::handshake",
        inside: &["engine::io", "net::http"],
        crates: &["tungstenite"],
        std: PURE,
        why: "the handshake decides from a head and rules, and is tested without a socket",
    },
    Row {
        module: "web",
        inside: &["net::http"],
        crates: &[],
        std: PURE,
        why: "the page is text that was compiled in: no file is read, and no path is followed",
    },
    Row {
        module: "store",
        inside: &["config", "engine::io", "error"],
        crates: &["mio"],
        std: FILES,
        why: "a store keeps counts and knows no connection and no engine, only their words: what \
              it has to say is a `StoreEvent`",
    },
    Row {
        module: "store::memory",
        inside: &["engine::io", "store::SessionStore", "store::record"],
        crates: &["log"],
        std: PURE,
        why: "one store does not lean on another, and this one touches nothing but memory",
    },
    Row {
        module: "store::record",
        inside: &[],
        crates: &[],
        std: Std::Only(&[]),
        why: "what claims and saves do to a record is a plain value, which a model checker runs",
    },
    Row {
        module: "store::sqlite",
        inside: &[
            "engine::io",
            "error",
            "store::SessionStore",
            "store::database",
        ],
        crates: &["log", "mio", "rusqlite"],
        std: FILES,
        why: "one store does not lean on another, and a thread of its own has only the \
              checkpointer",
    },
    Row {
        module: "store::spill",
        inside: &[
            "engine::io",
            "error",
            "store::SessionStore",
            "store::database",
        ],
        crates: &["log", "mio", "rusqlite"],
        std: FILES,
        why: "the spill stands before a store of any kind, and knows none of them",
    },
    Row {
        module: "store::database",
        inside: &[],
        crates: &["log", "rusqlite"],
        std: FILES,
        why: "how a file of ours is opened and written is the same for all kinds, whatever is in \
              it",
    },
    Row {
        module: "store::database::checkpointer",
        inside: &["error"],
        crates: &["log", "mio", "rusqlite"],
        std: HELPER,
        why: "the helper thread is there for fsync alone, and is told what to do by messages",
    },
    Row {
        module: "store::redis",
        inside: &["engine::io", "error", "store::SessionStore"],
        crates: &[
            "log",
            "mio",
            "redis",
            "rustix",
            "rustls",
            "rustls_native_certs",
        ],
        std: SOCKETS,
        why: "one store does not lean on another, and a thread of its own has only the resolver",
    },
    Row {
        module: "store::redis::resolver",
        inside: &[],
        crates: &["log", "mio"],
        std: HELPER,
        why: "the helper thread is there for getaddrinfo alone, and is told what to do by messages",
    },
    Row {
        module: "store::redis::pipeline",
        inside: &[
            "engine::io",
            "store::redis::conversation",
            "store::redis::exchange",
            "store::redis::outbound",
            "store::redis::reply",
            "store::redis::request",
            "store::redis::target::Login",
        ],
        crates: &["log", "redis"],
        std: PURE,
        why: "the conversation is bytes in, bytes out, tested without a socket: the link has those",
    },
    Row {
        module: "store::redis::subscription",
        inside: &[
            "store::redis::conversation",
            "store::redis::exchange",
            "store::redis::outbound",
            "store::redis::reply",
            "store::redis::request",
            "store::redis::target::Login",
        ],
        crates: &["log", "redis"],
        std: PURE,
        why: "what nodes say to each other is understood without a socket",
    },
    Row {
        module: "store::redis::exchange",
        inside: &["store::redis::framing", "store::redis::outbound"],
        crates: &["redis"],
        std: PURE,
        why: "which reply answers which request is known without a socket",
    },
    Row {
        module: "store::redis::conversation",
        inside: &["store::redis::outbound"],
        crates: &[],
        std: PURE,
        why: "what a link needs to know of what is said on it, and no more",
    },
    Row {
        module: "store::redis::reply",
        inside: &["engine::io", "store::redis::target::Login"],
        crates: &["redis"],
        std: PURE,
        why: "what Redis says is understood without a socket",
    },
    Row {
        module: "store::redis::framing",
        inside: &[],
        crates: &["redis"],
        std: PURE,
        why: "where a reply ends is found without a socket, so that it can be cut at every byte",
    },
    Row {
        module: "store::redis::request",
        inside: &["engine::io", "store::redis::target::Login"],
        crates: &["redis"],
        std: PURE,
        why: "what is said to Redis is written without a socket",
    },
    Row {
        module: "store::redis::backoff",
        inside: &[],
        crates: &["rand"],
        std: PURE,
        why: "how long to wait follows from the attempts and a seed, and replays",
    },
    Row {
        module: "config",
        inside: &["error"],
        crates: &["humantime"],
        std: Std::Not(&[
            "std::env",
            "std::fs",
            "std::io",
            "std::process",
            "std::thread",
        ]),
        why: "settings are values, below everything that reads them, and open nothing",
    },
    Row {
        module: "error",
        inside: &[],
        crates: &[],
        std: Std::Only(&["std::error", "std::fmt", "std::io"]),
        why: "what stops the server is below everything that can fail",
    },
    Row {
        module: "slots",
        inside: &[],
        crates: &[],
        std: PURE,
        why: "a set of numbers needs nothing",
    },
    Row {
        module: "broadcast",
        inside: &["config::Limits"],
        crates: &["serde_json"],
        std: PURE,
        why: "JSON in, the message out: who says it and who hears it is not its matter",
    },
    Row {
        module: "metrics",
        inside: &[],
        crates: &["prometheus"],
        std: PURE,
        why: "numbers and their text: the event loop counts, and hands in what others hold",
    },
    Row {
        module: "metrics::process",
        inside: &["metrics"],
        crates: &["rustix"],
        std: Std::Only(&["std::fs", "std::path"]),
        why: "it asks /proc, which is memory, and nothing that could wait",
    },
    Row {
        module: "clock",
        inside: &["engine::io::Now"],
        crates: &[],
        std: Std::Only(&["std::time"]),
        why: "it reads the time and does nothing else",
    },
    Row {
        module: "signals",
        inside: &["engine::shutdown::Trigger", "error", "net::token::Source"],
        crates: &["mio", "signal_hook", "signal_hook_mio"],
        std: PURE,
        why: "signals become triggers here; what they mean is the engine's business",
    },
    Row {
        module: "report",
        inside: &["engine::shutdown"],
        crates: &["serde", "serde_json"],
        std: PURE,
        why: "the report is made from the outcome alone, and printed by the binary",
    },
    Row {
        module: "event_loop",
        inside: &[
            "broadcast",
            "clock",
            "config",
            "engine",
            "error",
            "metrics",
            "net",
            "signals",
            "store::Bus",
            "store::BusEvent",
            "store::SessionStore",
        ],
        crates: &["log", "mio"],
        std: BYTES,
        why: "the loop carries between engine, net and store: it knows a store by its interface, \
              and never the API above it",
    },
    Row {
        module: "server",
        inside: &[
            "broadcast",
            "clock",
            "config",
            "engine",
            "error",
            "event_loop",
            "metrics",
            "net",
            "signals",
            "store",
            "web",
        ],
        crates: &["log", "mio", "rand"],
        std: Std::Not(&["std::env", "std::fs", "std::process", "std::thread"]),
        why: "the API puts the parts together; it never installs a handler, starts a thread or \
              ends the process",
    },
    Row {
        module: "lib",
        inside: &["broadcast", "config", "engine", "error", "server"],
        crates: &[],
        std: Std::Only(&[]),
        why: "the front page re-exports what an embedder starts with, and has no code",
    },
    Row {
        module: "main",
        inside: &["cli"],
        crates: &["log", "sundown"],
        std: Std::Only(&["std::env", "std::process::ExitCode"]),
        why: "the binary is an embedder like any other: what it needs, the library's public API \
              must offer",
    },
    Row {
        module: "cli",
        inside: &[],
        crates: &["humantime", "lexopt", "log", "rustix", "sundown"],
        std: Std::Not(&["std::fs", "std::thread"]),
        why: "the binary is an embedder like any other: what it needs, the library's public API \
              must offer",
    },
    Row {
        module: "cli::logger",
        inside: &["cli::output"],
        crates: &["humantime", "log", "serde", "serde_json", "sundown"],
        std: Std::Not(&["std::fs", "std::net", "std::thread"]),
        why: "a line is made of a record alone, and goes where output puts it",
    },
    Row {
        module: "cli::smoke",
        inside: &["cli::stream"],
        crates: &["sundown", "tungstenite"],
        std: SOCKETS,
        why: "the smoke test is a client like any other: it asks over the wire, and takes nothing \
              of the server's but its address and the words of the contract",
    },
    Row {
        module: "cli::smoke::said",
        inside: &[],
        crates: &["sundown", "tungstenite"],
        std: PURE,
        why: "what a server says is judged and shown without a socket",
    },
    Row {
        module: "cli::shutdown_report",
        inside: &[],
        crates: &["serde", "serde_json"],
        std: Std::Not(&["std::net", "std::thread", "std::time"]),
        why: "a report is drawn long after its server has gone: from a file, and from nothing else",
    },
];

/// A path that a module uses outside of its tests, and the row that it falls under.
struct Arrow<'a> {
    file: &'a File,
    row: Option<&'static Row>,
    path: Path,
}

fn arrows<'a>(files: &'a [File], crates: &[String]) -> Vec<Arrow<'a>> {
    let mut arrows = Vec::new();
    for file in files {
        if !file.is_under("src/") || !file.is_rust() {
            continue;
        }
        let source = Source::of(file);
        let row = row_of(&source);
        for path in paths(&source, crates) {
            if path.is_whole && !source.is_test(path.token) {
                arrows.push(Arrow { file, row, path });
            }
        }
    }
    arrows
}

/// The row of the module or of the nearest one above it.
fn row_of(source: &Source<'_>) -> Option<&'static Row> {
    let mut module = match source.file.path.as_str() {
        "src/lib.rs" => vec!["lib"],
        "src/main.rs" => vec!["main"],
        _ => source.module(),
    };
    loop {
        let name = module.join("::");
        if let Some(row) = TABLE.iter().find(|row| row.module == name) {
            return Some(row);
        }
        module.pop()?;
    }
}

fn is_allowed(row: &Row, path: &Path) -> bool {
    match path.segments[0].as_str() {
        "crate" => {
            let in_place = |place: &&str| path.is_in(&format!("crate::{place}"));
            in_place(&row.module) || row.inside.iter().any(in_place)
        }
        "std" | "core" | "alloc" => {
            // The whole of it, under any name, would make the rest of the row worthless.
            let named = path.segments.get(1).is_some_and(|part| part != "*");
            let part = format!("std::{}", path.segments[1..].join("::"));
            let path = Path {
                segments: part.split("::").map(str::to_owned).collect(),
                ..path.clone()
            };
            let in_place = |place: &&str| path.is_in(place);
            named
                && match row.std {
                    Std::Only(places) => places.iter().any(in_place),
                    Std::Not(places) => !places.iter().any(in_place),
                }
        }
        name => row.crates.contains(&name),
    }
}

pub(crate) fn forbidden_arrows(files: &[File], crates: &[String]) -> Vec<Offence> {
    let mut offences = Vec::new();
    for Arrow { file, row, path } in arrows(files, crates) {
        let text = path.text();
        let message = match row {
            Some(row) if is_allowed(row, &path) => continue,
            Some(Row { module, why, .. }) => format!(
                "`{text}` is not for `{module}`: {why}. A new arrow needs a record in docs/adr, \
                 and a place in TABLE of tests/tidy/arrows.rs"
            ),
            None => "this module has no row in TABLE of tests/tidy/arrows.rs: say there what it \
                     may use, and why nothing else"
                .to_owned(),
        };
        offences.push(Offence::new(file, path.line, message));
    }
    offences
}

/// Permissions that nobody uses: each is a hole that nobody has decided on.
fn unused_permissions(files: &[File], crates: &[String]) -> Vec<String> {
    let arrows = arrows(files, crates);
    let mut unused = Vec::new();
    for row in TABLE {
        let own = |arrow: &&Arrow<'_>| arrow.row.is_some_and(|own| own.module == row.module);
        let used: Vec<&Path> = arrows.iter().filter(own).map(|arrow| &arrow.path).collect();
        let inside = row.inside.iter().map(|place| format!("crate::{place}"));
        let places = inside.chain(row.crates.iter().map(|&name| name.to_owned()));
        let not_used = |place: &String| !used.iter().any(|path| path.is_in(place));
        let entries = places.filter(not_used);
        unused.extend(entries.map(|place| format!("{} no longer uses {place}", row.module)));
    }
    unused
}

pub(crate) fn known_crates(files: &[File]) -> Vec<String> {
    let mut crates: Vec<String> = dependencies(files)
        .into_iter()
        .map(|name| name.replace('-', "_"))
        .collect();
    crates.push("sundown".to_owned());
    crates
}

#[test]
fn every_import_is_in_the_table() {
    let files = files();
    holds(&forbidden_arrows(&files, &known_crates(&files)));
}

#[test]
fn the_table_allows_no_more_than_is_used() {
    let files = files();
    let unused = unused_permissions(&files, &known_crates(&files));
    assert!(unused.is_empty(), "take it out of TABLE: {unused:#?}");
}

#[test]
fn every_row_is_for_another_module() {
    let modules: BTreeSet<&str> = TABLE.iter().map(|row| row.module).collect();
    assert_eq!(modules.len(), TABLE.len());
}
