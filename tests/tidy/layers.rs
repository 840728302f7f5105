//! Who imports whom (docs/ARCHITECTURE.md): one line for each module that may use something, and
//! what it may use. A module without a line has that of its parent. What no line allows is refused,
//! and so is a permission that nobody uses. A new arrow needs a record in docs/adr.

use std::collections::BTreeSet;

use super::{File, dependencies, files, holds, rust};

/// Parts of the standard library that reach outside of the process; all others are for everybody.
const WORLD: &[&str] = &["env", "fs", "io", "net", "os", "process", "thread"];

/// Module; modules of this crate besides itself; other crates; parts of [`WORLD`].
type Layer = (&'static str, &'static str, &'static str, &'static str);

#[rustfmt::skip]
const LAYERS: &[Layer] = &[
    ("engine", "config slots", "rand slab", ""),
    ("engine::shutdown", "config::ShutdownBudget", "", ""),
    ("engine::io", "engine::message engine::shutdown::Request", "", ""),
    ("engine::message", "engine::io", "humantime", ""),
    ("net", "config engine::io engine::message error slots", "log mio socket2", "io net"),
    ("net::unix", "", "log mio socket2", "fs io net os"),
    ("net::http", "", "httparse tungstenite", ""),
    ("net::websocket", "engine::io engine::message net::validator", "tungstenite", "io"),
    ("net::intake", "engine::io engine::message net::validator", "", ""),
    ("net::validator", "engine::io net::utf8", "", ""),
    ("net::utf8", "", "", ""),
    ("net::table", "", "", ""),
    ("net::spares", "net::websocket", "", ""),
    ("net::authority", "config::AdminHosts net::http", "tungstenite", "net"),
    ("net::date", "", "", ""),
    ("net::handshake", "config::AdminHosts config::AllowedOrigins engine::io net::authority net::http", "tungstenite", ""),
    ("web", "net::http", "", ""),
    ("store", "config engine::io error redis::Peer", "mio", ""),
    ("store::memory", "engine::io store::SessionStore store::expiry store::record", "log", ""),
    ("store::expiry", "engine::io", "", ""),
    ("store::record", "", "", ""),
    ("store::sqlite", "engine::io error store::Remains store::SessionStore store::database store::expiry", "log mio rusqlite", ""),
    ("store::spill", "engine::io error store::Peer store::Remains store::SessionStore store::database store::expiry", "log mio rusqlite", "fs io"),
    ("store::spill::place", "store::spill::file", "log mio", "thread"),
    ("store::database", "", "log rusqlite", "fs"),
    ("store::database::reserve", "store::database::location", "log rustix", "fs io"),
    ("store::database::location", "", "log rusqlite rustix", "fs io os thread"),
    ("store::database::checkpointer", "engine::io::Disk error store::database::location", "log mio rusqlite", "fs thread"),
    ("store::redis", "engine::io error redis store::SessionStore", "mio", ""),
    ("store::redis::pipeline", "engine::io redis store::redis::answers store::redis::scripts", "log redis", ""),
    ("store::redis::answers", "engine::io redis::reply redis::target", "redis", ""),
    ("store::redis::scripts", "engine::io redis::target", "redis", ""),
    ("bus", "error redis", "mio", ""),
    ("bus::subscription", "redis", "log redis", ""),
    ("redis", "", "log mio redis rustix rustls rustls_native_certs", "io net"),
    ("redis::resolver", "", "log mio", "io net thread"),
    ("redis::exchange", "redis::framing redis::outbound", "redis", ""),
    ("redis::conversation", "redis::outbound", "", ""),
    ("redis::reply", "redis::target", "redis", ""),
    ("redis::request", "redis::target", "redis", ""),
    ("redis::framing", "", "redis", ""),
    ("redis::backoff", "", "rand", ""),
    ("config", "error", "humantime", "net"),
    ("error", "", "", "io"),
    ("slots", "", "", ""),
    ("broadcast", "config::Limits", "serde_json", ""),
    ("metrics", "", "prometheus", ""),
    ("metrics::process", "metrics", "rustix", "fs"),
    ("clock", "engine::io::Now", "", ""),
    ("signals", "clock engine::shutdown::Request engine::shutdown::Trigger error", "log mio nix signal_hook", "fs os thread"),
    ("report", "engine::shutdown", "serde serde_json", ""),
    ("event_loop", "broadcast bus clock config engine error metrics net signals store::SessionStore", "log mio", "io"),
    ("server", "broadcast bus clock config engine error event_loop metrics net signals store web", "log mio rand", "net"),
    ("lib", "", "", ""),
    ("main", "", "log sundown", "env io process"),
    ("cli", "", "humantime lexopt log rustix sundown", "io net os"),
    ("cli::journal", "", "log", "env fs io os"),
    ("cli::output", "cli::journal", "log rustix sundown", "io os thread"),
    ("cli::logger", "cli::journal cli::output", "humantime log serde serde_json sundown", "io"),
    ("cli::unsaved", "", "log serde serde_json sundown", "fs io os thread"),
    ("cli::reaper", "", "log rustix signal_hook", "thread"),
    ("cli::broadcast", "cli::stream", "serde serde_json sundown", "io"),
    ("cli::smoke", "cli::stream", "sundown tungstenite", "io net"),
    ("cli::smoke::said", "", "sundown tungstenite", ""),
    ("cli::shutdown_report", "", "serde serde_json", "fs io"),
];

/// The paths in a file that begin at a crate: `crate::engine::io::ConnId`, `std::thread::sleep`.
fn paths(module: &[&str], text: &str, crates: &[String]) -> BTreeSet<String> {
    let code: String = text
        .lines()
        .map(|line| line.split("//").next().unwrap_or(""))
        .collect();
    let mut found = BTreeSet::new();
    for (at, word) in words(&code) {
        let before = code[..at].trim_end();
        let is_first = !before.ends_with("::") && !before.ends_with('.');
        let is_path = code[at + word.len()..].starts_with("::");
        let depth = match word {
            "crate" => 0,
            "super" => module.len() - 1,
            _ => module.len(),
        };
        let root = match word {
            "crate" | "super" => [&["crate"], &module[..depth]].concat(),
            "std" => vec!["std"],
            name if crates.iter().any(|known| known == name) && !declares(&code, name) => {
                vec![name]
            }
            _ => continue,
        };
        if is_first && is_path {
            let base: Vec<String> = root.iter().map(|&part| part.to_owned()).collect();
            branches(&code[at + word.len() + 2..], &base, &mut found);
        }
    }
    found
}

/// Whether a name is a module of the file's own, and not the crate of that name.
fn declares(code: &str, name: &str) -> bool {
    code.contains(&format!("mod {name};"))
}

/// Identifiers and where they begin.
fn words(code: &str) -> impl Iterator<Item = (usize, &str)> {
    let pieces = code.split(|c: char| !c.is_alphanumeric() && c != '_');
    let offset = |piece: &str| piece.as_ptr() as usize - code.as_ptr() as usize;
    pieces
        .filter(|piece| !piece.is_empty())
        .map(move |piece| (offset(piece), piece))
}

/// One branch of a path, and all of its `{…}`. Returns what follows it.
fn branches<'a>(mut rest: &'a str, base: &[String], found: &mut BTreeSet<String>) -> &'a str {
    let mut base = base.to_vec();
    loop {
        rest = rest.trim_start();
        if let Some(mut inner) = rest.strip_prefix('{') {
            while !inner.trim_start().starts_with('}') && !inner.is_empty() {
                inner = branches(inner, &base, found).trim_start();
                inner = inner.strip_prefix(',').unwrap_or(inner);
            }
            return inner.trim_start().strip_prefix('}').unwrap_or(inner);
        }
        let end = rest
            .find(|c: char| !c.is_alphanumeric() && c != '_')
            .unwrap_or(rest.len());
        match &rest[..end] {
            "super" => drop(base.pop()),
            "self" | "" => {}
            name => base.push(name.to_owned()),
        }
        rest = &rest[end..];
        let Some(next) = rest.strip_prefix("::") else {
            break;
        };
        rest = next;
    }
    found.insert(base.join("::"));
    // The rest of `a as b` or of `a::*`.
    let end = rest
        .find([',', '}', ';', '(', ')', '{', '<', '>'])
        .unwrap_or(rest.len());
    &rest[end..]
}

fn is_in(path: &str, place: &str) -> bool {
    path.strip_prefix(place)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
}

/// The module of a file below src/.
fn module(file: &File) -> Option<Vec<&str>> {
    let path = file.path.strip_prefix("src/")?.strip_suffix(".rs")?;
    Some(path.trim_end_matches("/mod").split('/').collect())
}

/// The layer of the module or of the nearest one above it.
fn layer_of(module: &[&str]) -> Option<&'static Layer> {
    let above = (1..=module.len()).rev().map(|len| module[..len].join("::"));
    above
        .into_iter()
        .find_map(|name| LAYERS.iter().find(|layer| layer.0 == name))
}

/// What a layer allows, each as the beginning of a path.
fn permissions((_, inside, crates, world): &Layer) -> Vec<String> {
    let inside = inside
        .split_whitespace()
        .map(|place| format!("crate::{place}"));
    let world = world
        .split_whitespace()
        .map(|place| format!("std::{place}"));
    inside
        .chain(world)
        .chain(crates.split_whitespace().map(str::to_owned))
        .collect()
}

/// What the table does not allow, and what it allows for nothing.
fn complaints(files: &[File], crates: &[String]) -> Vec<String> {
    let mut complaints = Vec::new();
    let mut unused: BTreeSet<(&str, String)> = LAYERS
        .iter()
        .flat_map(|layer| permissions(layer).into_iter().map(|place| (layer.0, place)))
        .collect();
    for file in rust(files).filter(|file| !file.path.ends_with("tests.rs")) {
        let Some(module) = module(file) else { continue };
        let Some(layer) = layer_of(&module) else {
            complaints.push(file.at(1, "this module has no line in tests/tidy/layers.rs"));
            continue;
        };
        let allowed = permissions(layer);
        for path in paths(&module, file.without_tests(), crates) {
            let is_world = WORLD
                .iter()
                .any(|part| is_in(&path, &format!("std::{part}")));
            let is_own = is_in(&path, &format!("crate::{}", layer.0));
            if is_own || path.starts_with("std::") && !is_world {
                continue;
            }
            let granted: Vec<_> = allowed.iter().filter(|place| is_in(&path, place)).collect();
            if granted.is_empty() {
                complaints.push(file.at(1, format!("`{path}` is not for `{}`", layer.0)));
            }
            for place in granted {
                unused.remove(&(layer.0, place.clone()));
            }
        }
    }
    let unused = unused
        .iter()
        .map(|(layer, place)| format!("{layer} no longer uses {place}"));
    complaints.extend(unused);
    complaints
}

fn crates(files: &[File]) -> Vec<String> {
    let names = dependencies(files)
        .into_iter()
        .map(|name| name.replace('-', "_"));
    names.chain(["sundown".to_owned()]).collect()
}

#[test]
fn every_import_is_in_the_table() {
    let files = files();
    holds(complaints(&files, &crates(&files)));
}

/// So that the rule above is not green because it sees nothing.
#[test]
fn an_import_is_seen_however_it_is_written() {
    let check = |text: &str, expected: &[&str]| {
        let found = paths(&["net", "http"], text, &["mio".to_owned()]);
        assert_eq!(
            found.iter().map(String::as_str).collect::<Vec<_>>(),
            expected,
            "{text}"
        );
    };
    check(
        "use crate::store::{self, redis::{A, B as C}};",
        &[
            "crate::store",
            "crate::store::redis::A",
            "crate::store::redis::B",
        ],
    );
    check(
        "use super::super::clock; fn f() { super::g() }",
        &["crate::clock", "crate::net::g"],
    );
    check(
        "fn f(a: crate::store::A<mio::Token>) { std::thread::sleep(a) }",
        &["crate::store::A", "mio::Token", "std::thread::sleep"],
    );
    check(
        "// crate::x::y\nuse crate::{a, b::c}; a.mio::z",
        &["crate::a", "crate::b::c"],
    );
    let file = File {
        path: "src/engine/new.rs".to_owned(),
        text: "use std::net::TcpStream;\nuse crate::net::http;".to_owned(),
    };
    let seen = complaints(&[file], &[]);
    assert_eq!(
        seen.iter()
            .filter(|text| text.contains("is not for `engine`"))
            .count(),
        2
    );
}
