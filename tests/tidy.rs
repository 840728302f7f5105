//! Goal: the tree stays what its documents say that it is, where no lint can see it: headers, sizes
//! of files, who imports whom, links, and the defence of each dependency.
//! Method: every rule is a function from the tracked files to complaints, as text with file and
//! line. Calls that are banned, `unwrap`s and long functions are clippy's (clippy.toml, Cargo.toml).

#[path = "tidy/layers.rs"]
mod layers;

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

/// A text file, by its path from the root of the tree.
struct File {
    path: String,
    text: String,
}

impl File {
    fn has_extension(&self, wanted: &str) -> bool {
        Path::new(&self.path)
            .extension()
            .is_some_and(|e| e == wanted)
    }

    /// A complaint about one line of this file.
    fn at(&self, line: usize, message: impl std::fmt::Display) -> String {
        format!("{}:{line}: {message}", self.path)
    }

    /// The text without the block of tests at its end.
    fn without_tests(&self) -> &str {
        let block = self.text.find("\n#[cfg(test)]\nmod tests {");
        &self.text[..block.unwrap_or(self.text.len())]
    }
}

/// Every text file that git tracks.
fn files() -> Vec<File> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let listing = Command::new("git")
        .args(["ls-files", "-z"])
        .current_dir(root)
        .output();
    let listing = listing.map(|output| output.stdout).unwrap_or_default();
    let paths = String::from_utf8_lossy(&listing);
    let paths = paths
        .split_terminator('\0')
        .filter(|path| !path.starts_with(CORPUS));
    // What is deleted and not committed yet is not there, and what is not UTF-8 is no text.
    let read = |path: &str| {
        let text = std::fs::read_to_string(root.join(path)).ok()?;
        Some(File {
            path: path.to_owned(),
            text,
        })
    };
    let files: Vec<File> = paths.filter_map(read).collect();
    let is_ours = files.iter().any(|file| file.path == "src/lib.rs");
    assert!(is_ours, "these rules are for a checkout: they ask git");
    files
}

fn rust(files: &[File]) -> impl Iterator<Item = &File> {
    files.iter().filter(|file| file.has_extension("rs"))
}

/// Inputs of the fuzz targets: bytes, even where they happen to be text.
const CORPUS: &str = "tests/fuzz/corpus/";

#[track_caller]
fn holds(complaints: impl IntoIterator<Item = String>) {
    let complaints: Vec<String> = complaints.into_iter().collect();
    assert!(complaints.is_empty(), "\n{}\n", complaints.join("\n"));
}

#[test]
fn every_file_says_what_it_is() {
    /// A header of one line says enough from this length on.
    const HEADER_CHARS_MIN: usize = 60;
    let files = files();
    let is_short = |file: &&File| {
        let header = file.text.lines().map_while(|line| line.strip_prefix("//!"));
        header.map(str::len).sum::<usize>() < HEADER_CHARS_MIN
    };
    holds(rust(&files).filter(is_short).map(|file| {
        file.at(
            1,
            "begin with `//!`: what this file is, owns, and never does (tests: goal, method)",
        )
    }));
}

#[test]
fn every_file_can_be_read_at_once() {
    /// Lines of code without tests in `src/`, and anywhere.
    const CODE_LINES_MAX: (usize, usize) = (400, 600);
    fn code_lines(text: &str) -> usize {
        let is_code = |line: &&str| !line.trim().is_empty() && !line.trim().starts_with("//");
        text.lines().filter(is_code).count()
    }
    let files = files();
    holds(rust(&files).filter_map(|file| {
        let is_own = file.path.starts_with("src/") && !file.path.ends_with("tests.rs");
        let (own, all) = (code_lines(file.without_tests()), code_lines(&file.text));
        let (own_max, all_max) = CODE_LINES_MAX;
        let too_long = is_own && own > own_max || all > all_max;
        too_long.then(|| {
            file.at(
                1,
                format!("{own} lines of code, {all} with tests: two nouns?"),
            )
        })
    }));
}

#[test]
fn every_test_is_run() {
    let files = files();
    let ignore = concat!("#[", "ignore");
    holds(rust(&files).filter_map(|file| {
        let line = file
            .text
            .lines()
            .position(|line| line.trim().starts_with(ignore))?;
        Some(file.at(line + 1, "a test that is not run holds nothing"))
    }));
}

/// A path of one machine, or the host of a registry. Each in two halves, so that it is not here.
#[test]
fn nothing_leads_out_of_the_tree() {
    let words = [
        ("/ro", "ot/"),
        ("/ho", "me/"),
        ("/wo", "rk/"),
        ("crates", ".io"),
    ];
    let words = words.map(|(start, end)| format!("{start}{end}"));
    let is_outside = |line: &str| {
        let mut pieces = line.split([' ', '"', '\'', '`', '(', '=', ':']);
        pieces.any(|piece| words.iter().any(|word| piece.starts_with(word)))
    };
    let files = files();
    let own = files.iter().filter(|file| !file.has_extension("lock"));
    holds(own.filter_map(|file| {
        let line = file.text.lines().position(is_outside)?;
        Some(file.at(line + 1, "names a machine or a host"))
    }));
}

/// The relative links of a document, each from the root of the tree, with its line.
fn links(file: &File) -> Vec<(usize, String)> {
    let mut links = Vec::new();
    for (at, line) in file.text.lines().enumerate() {
        let inline = line
            .split("](")
            .skip(1)
            .filter_map(|rest| rest.split(')').next());
        let labelled = line
            .strip_prefix('[')
            .and_then(|rest| rest.split_once("]: "));
        for target in inline.chain(labelled.map(|(_, target)| target)) {
            let target = target.split(['#', ' ']).next().unwrap_or(target);
            if !target.is_empty() && !target.contains(':') {
                links.push((at + 1, resolved(&file.path, target)));
            }
        }
    }
    links
}

fn resolved(from: &str, target: &str) -> String {
    let mut parts: Vec<&str> = from.split('/').collect();
    parts.pop();
    for part in target.split('/') {
        match part {
            ".." => drop(parts.pop()),
            "." | "" => {}
            part => parts.push(part),
        }
    }
    parts.join("/")
}

/// A file, or a directory with files in it.
fn leads_to(path: &str, file: &File) -> bool {
    path.is_empty() || file.path == path || file.path.starts_with(&format!("{path}/"))
}

#[test]
fn every_link_leads_somewhere() {
    let files = files();
    let documents = files.iter().filter(|file| file.has_extension("md"));
    holds(documents.flat_map(|file| {
        let links = links(file).into_iter();
        let dead = links.filter(|(_, to)| !files.iter().any(|file| leads_to(to, file)));
        dead.map(|(line, to)| file.at(line, format!("there is no {to}")))
            .collect::<Vec<_>>()
    }));
}

#[test]
fn every_document_is_found_from_the_readme() {
    let files = files();
    let mut found = BTreeSet::new();
    let mut to_read = vec!["README.md".to_owned()];
    while let Some(path) = to_read.pop() {
        for file in files
            .iter()
            .filter(|file| file.has_extension("md") && leads_to(&path, file))
        {
            if found.insert(&file.path) {
                to_read.extend(links(file).into_iter().map(|(_, target)| target));
            }
        }
    }
    let is_lost = |file: &&File| {
        file.path.starts_with("docs/") && file.has_extension("md") && !found.contains(&file.path)
    };
    let lost = files.iter().filter(is_lost);
    holds(lost.map(|file| file.at(1, "no link leads here from README.md")));
}

/// The names of all crates in Cargo.toml.
fn dependencies(files: &[File]) -> Vec<String> {
    let manifest = files.iter().find(|file| file.path == "Cargo.toml");
    let mut in_list = false;
    let lines = manifest.map_or("", |file| &file.text).lines();
    let names = lines.filter_map(|line| {
        if let Some(section) = line.strip_prefix('[') {
            in_list = section.trim_end_matches(']').ends_with("dependencies");
        }
        let (name, _) = line.split_once('=').filter(|_| in_list)?;
        Some(name.split('.').next().unwrap_or(name).trim().to_owned())
    });
    let names: Vec<String> = names.collect();
    assert!(names.len() > 10, "Cargo.toml was not understood");
    names
}

#[test]
fn every_dependency_is_defended() {
    let files = files();
    let record = files
        .iter()
        .find(|file| file.path == "docs/adr/0001-dependencies.md");
    let record = record.expect("the record of the dependencies");
    let dependencies = dependencies(&files);
    let undefended = dependencies
        .iter()
        .filter(|name| !record.text.contains(&format!("`{name}`")));
    holds(undefended.map(|name| record.at(1, format!("`{name}` has no line here"))));
}
