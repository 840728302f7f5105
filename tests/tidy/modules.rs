//! Which files are compiled at all: every Rust file is declared by a `mod` that leads back to a
//! root, once for the crate that it belongs to, and `tests.rs` for tests alone.

use std::collections::BTreeMap;

use super::source::Source;
use super::tree::{File, Offence, files, holds, refuses};

/// A `mod name;` that was found.
struct Declaration {
    /// The files that it may mean.
    candidates: Vec<String>,
    for_tests: bool,
}

fn unreachable_files(files: &[File]) -> Vec<Offence> {
    let by_path: BTreeMap<&str, &File> = files.iter().map(|f| (f.path.as_str(), f)).collect();
    let rust = files.iter().filter(|file| file.is_rust());
    // For each file, whether it is for tests, as often as it was declared.
    let mut reached: BTreeMap<&str, Vec<bool>> = BTreeMap::new();
    let mut to_read: Vec<&File> = rust.clone().filter(|file| is_root(&file.path)).collect();
    while let Some(file) = to_read.pop() {
        for declaration in declarations(file) {
            let paths = declaration.candidates.iter();
            for file in paths.filter_map(|path| by_path.get(path.as_str())) {
                let seen = reached.entry(&file.path).or_default();
                seen.push(declaration.for_tests);
                // Once is enough to know what it declares.
                if seen.len() == 1 {
                    to_read.push(file);
                }
            }
        }
    }
    let complaint = |file: &File| {
        let declared = reached
            .get(file.path.as_str())
            .map_or(&[][..], Vec::as_slice);
        let tests_in_src = file.is_under("src/") && file.path.ends_with("/tests.rs");
        if is_root(&file.path) {
            None
        } else if declared.is_empty() {
            Some("no `mod` leads here, so it is never compiled: declare it, or delete it")
        } else if declared.len() > 1 && file.is_under("src/") {
            Some("compiled more than once: let one module declare it, and the others `use` it")
        } else if tests_in_src && declared.contains(&false) {
            Some("compiled into the library: put #[cfg(test)] above its `mod`")
        } else {
            None
        }
    };
    rust.filter_map(|file| complaint(file).map(|message| Offence::new(file, 1, message)))
        .collect()
}

/// What cargo compiles by itself.
fn is_root(path: &str) -> bool {
    let parts: Vec<&str> = path.split('/').collect();
    match parts[..] {
        ["src", "lib.rs" | "main.rs"]
        | ["tests", "fuzz", "src", "lib.rs"]
        | ["benches", _, "src", "main.rs"]
        | ["tests", "fuzz", "targets", _]
        | ["src", "bin", _]
        | ["tests" | "benches" | "examples", _]
        | ["tests" | "benches" | "examples", _, "main.rs"] => true,
        ["src" | "tests" | "benches" | "examples", ..] => false,
        // The build script, and crates of their own.
        _ => true,
    }
}

fn declarations(file: &File) -> Vec<Declaration> {
    let source = Source::of(file);
    let mut found = Vec::new();
    for (at, tokens) in source.tokens.windows(3).enumerate() {
        if tokens[0].text != "mod" || !tokens[1].is_word() || tokens[2].text != ";" {
            continue;
        }
        let named = source.attributes.iter().find_map(|attribute| {
            let is_on_it = attribute.covers.contains(&at);
            let path = attribute.text.strip_prefix("#[path=\"");
            path.filter(|_| is_on_it)
        });
        let candidates = match named {
            Some(path) => vec![beside(&file.path, path.trim_end_matches("\"]"))],
            None => below(&file.path, tokens[1].text),
        };
        found.push(Declaration {
            candidates,
            for_tests: source.is_test(at),
        });
    }
    found
}

fn beside(path: &str, name: &str) -> String {
    let mut parts: Vec<&str> = path.split('/').collect();
    parts.pop();
    for part in name.split('/') {
        match part {
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    parts.join("/")
}

fn below(path: &str, name: &str) -> Vec<String> {
    let file = path.rsplit('/').next().unwrap_or(path);
    let owns_directory = matches!(file, "mod.rs") || is_root(path);
    let directory = if owns_directory {
        path.strip_suffix(file).unwrap_or_default().to_owned()
    } else {
        format!("{}/", path.trim_end_matches(".rs"))
    };
    vec![
        format!("{directory}{name}.rs"),
        format!("{directory}{name}/mod.rs"),
    ]
}

#[test]
fn every_file_is_compiled() {
    holds(&unreachable_files(&files()));
}

#[track_caller]
fn check(tree: &[(&str, &str)], because: &str) {
    let files: Vec<File> = tree
        .iter()
        .map(|(path, text)| File::new(path, text))
        .collect();
    let times = usize::from(!because.is_empty());
    refuses(&unreachable_files(&files), times, because);
}

#[test]
fn a_file_that_nobody_declares_is_refused() {
    let lib = ("src/lib.rs", "mod a; mod b;");
    let a = ("src/a.rs", "mod c;");
    let b = ("src/b/mod.rs", "#[cfg(test)] mod tests;");
    let (c, tests) = (("src/a/c.rs", ""), ("src/b/tests.rs", ""));
    check(&[lib, a, b, c, tests], "");
    check(&[lib, a, b, c, tests, ("src/d.rs", "")], "never compiled");
    check(&[lib, a, b, c, tests, ("src/c.rs", "")], "never compiled");
    check(
        &[
            lib,
            a,
            b,
            c,
            ("src/b/tests.rs", "mod d;"),
            ("src/b/d.rs", ""),
        ],
        "never compiled",
    );
    check(
        &[("src/lib.rs", "mod b;"), ("src/b.rs", "// mod c;"), c],
        "never compiled",
    );
}

#[test]
fn a_file_that_is_compiled_wrongly_is_refused() {
    let twice = [
        ("src/lib.rs", "mod a;"),
        ("src/main.rs", "mod a;"),
        ("src/a.rs", ""),
    ];
    check(&twice, "more than once");
    let in_library = [("src/lib.rs", "mod tests;"), ("src/tests.rs", "")];
    check(&in_library, "#[cfg(test)]");
}

#[test]
fn tests_may_share_a_directory() {
    let shared = "#[path = \"../support/mod.rs\"] mod support;";
    let tree = [
        ("tests/one/main.rs", shared),
        ("tests/two.rs", "#[path = \"support/mod.rs\"] mod support;"),
        ("tests/support/mod.rs", "mod client;"),
        ("tests/support/client.rs", ""),
    ];
    check(&tree, "");
    check(&tree[1..2], "");
    check(
        &[tree[0], tree[2], tree[3], ("tests/support/new.rs", "")],
        "never compiled",
    );
}
