//! Who imports whom (layers.txt, docs/ARCHITECTURE.md): what no line of the table allows is refused,
//! and so is a permission that nobody uses, and modules that import each other in a circle.

use std::collections::{BTreeMap, BTreeSet};

use super::{File, dependencies, files, holds, rust};

/// Parts of the standard library that reach outside of the process; all others are for everybody.
const WORLD: &[&str] = &["env", "fs", "io", "net", "os", "process", "thread"];

/// The table: each module, and what it may use, as beginnings of paths.
fn layers() -> BTreeMap<&'static str, Vec<String>> {
    let rows = include_str!("layers.txt").lines();
    let rows = rows.filter(|line| !line.is_empty() && !line.starts_with('#'));
    rows.map(|line| {
        let mut cells = line.split('|').map(str::trim);
        let module = cells.next().unwrap_or_default();
        let mut list = |before: &str| {
            let places = cells.next().unwrap_or_default().split_whitespace();
            places
                .map(|place| format!("{before}{place}"))
                .collect::<Vec<_>>()
        };
        (module, [list("crate::"), list(""), list("std::")].concat())
    })
    .collect()
}

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

/// The files below src/, without those of tests, each with the path of its module.
fn modules(files: &[File]) -> impl Iterator<Item = (&File, Vec<&str>)> {
    let code = rust(files).filter(|file| !file.path.ends_with("tests.rs"));
    code.filter_map(|file| {
        let path = file.path.strip_prefix("src/")?.strip_suffix(".rs")?;
        Some((file, path.trim_end_matches("/mod").split('/').collect()))
    })
}

/// What the table does not allow, and what it allows for nothing.
fn complaints(files: &[File], crates: &[String]) -> Vec<String> {
    let layers = layers();
    let mut complaints = Vec::new();
    let mut unused: BTreeSet<(&str, &String)> = layers
        .iter()
        .flat_map(|(layer, places)| places.iter().map(|place| (*layer, place)))
        .collect();
    for (file, module) in modules(files) {
        let above = (1..=module.len()).rev().map(|len| module[..len].join("::"));
        let mut above = above.filter_map(|name| layers.get_key_value(name.as_str()));
        let Some((layer, allowed)) = above.next() else {
            complaints.push(file.at(1, "this module has no line in tests/tidy/layers.txt"));
            continue;
        };
        for path in paths(&module, file.without_tests(), crates) {
            let is_world = |part: &&str| is_in(&path, &format!("std::{part}"));
            let is_own = is_in(&path, &format!("crate::{layer}"));
            if is_own || path.starts_with("std::") && !WORLD.iter().any(is_world) {
                continue;
            }
            if !allowed.iter().any(|place| is_in(&path, place)) {
                complaints.push(file.at(1, format!("`{path}` is not for `{layer}`")));
            }
            unused.retain(|(of, place)| of != layer || !is_in(&path, place));
        }
    }
    let unused = unused
        .iter()
        .map(|(layer, place)| format!("{layer} no longer uses {place}"));
    complaints.extend(unused);
    complaints
}

/// Modules that import each other, directly or through others. A module and those below it are one
/// thing, and may.
fn circles(files: &[File]) -> Vec<String> {
    let names: BTreeSet<String> = modules(files)
        .map(|(_, module)| module.join("::"))
        .collect();
    let mut arrows: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (file, module) in modules(files) {
        let from = module.join("::");
        let to = paths(&module, file.without_tests(), &[])
            .into_iter()
            .filter_map(|path| {
                let mut place = path.strip_prefix("crate::")?;
                while !names.contains(place) {
                    place = place.rsplit_once("::")?.0;
                }
                Some(place.to_owned())
            });
        let to = to
            .filter(|to| !is_in(&from, to) && !is_in(to, &from))
            .collect();
        arrows.insert(from, to);
    }
    // What is imported by nobody that is left, or imports nobody that is left, is in no circle.
    let mut left = 0;
    while left != arrows.len() {
        left = arrows.len();
        let all: BTreeSet<String> = arrows.keys().cloned().collect();
        for to in arrows.values_mut() {
            to.retain(|to| all.contains(to));
        }
        arrows.retain(|_, to| !to.is_empty());
        let imported: BTreeSet<String> = arrows.values().flatten().cloned().collect();
        arrows.retain(|from, _| imported.contains(from));
    }
    arrows
        .iter()
        .map(|(from, to)| format!("a circle: {from} imports {to:?}"))
        .collect()
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

#[test]
fn no_modules_import_each_other() {
    holds(circles(&files()));
}

/// So that the rules above are not green because they see nothing.
#[test]
fn imports_and_circles_are_seen() {
    let text = "use crate::store::{self, redis::{A, B as C}};\nuse super::super::clock;\n\
                // crate::x\nfn f(a: mio::Token) { std::thread::sleep(a); super::g() }";
    let found = paths(&["net", "http"], text, &["mio".to_owned()]);
    let found: Vec<&str> = found.iter().map(String::as_str).collect();
    let expected = "crate::clock crate::net::g crate::store crate::store::redis::A \
                    crate::store::redis::B mio::Token std::thread::sleep";
    assert_eq!(found.join(" "), expected);
    let file = |path: &str, text: &str| File {
        path: path.to_owned(),
        text: text.to_owned(),
    };
    let new = file(
        "src/engine/new.rs",
        "use std::net::A;\nuse crate::net::http;",
    );
    let complaints = complaints(&[new], &[]);
    let forbidden = complaints.iter().filter(|text| text.contains("is not for"));
    assert_eq!(forbidden.count(), 2);
    let a = file("src/a.rs", "use crate::b::B;");
    let b = file("src/b.rs", "mod c; use c::C; fn f() { super::d::g() }");
    let d = file("src/d.rs", "use crate::a::A;");
    assert_eq!(circles(&[a, b, d]).len(), 3);
}
