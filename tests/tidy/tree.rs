//! The files that the rules look at, and what a rule answers. It reads the tree and must never
//! change it.

use std::fmt;
use std::path::Path;
use std::process::Command;

/// A text file, by its path from the root of the tree.
#[derive(Clone, Debug)]
pub(crate) struct File {
    pub(crate) path: String,
    pub(crate) text: String,
}

impl File {
    /// A snippet, as if it were this file.
    pub(crate) fn new(path: &str, text: &str) -> Self {
        Self {
            path: path.to_owned(),
            text: text.to_owned(),
        }
    }

    pub(crate) fn is_rust(&self) -> bool {
        has_extension(&self.path, "rs")
    }

    pub(crate) fn is_markdown(&self) -> bool {
        has_extension(&self.path, "md")
    }

    pub(crate) fn is_under(&self, directory: &str) -> bool {
        self.path.starts_with(directory)
    }
}

pub(crate) fn has_extension(path: &str, wanted: &str) -> bool {
    let extension = Path::new(path).extension();
    extension.is_some_and(|extension| extension == wanted)
}

/// Where a rule is broken, and what to do instead.
#[derive(Debug)]
pub(crate) struct Offence {
    path: String,
    line: usize,
    message: String,
}

impl Offence {
    pub(crate) fn new(file: &File, line: usize, message: impl Into<String>) -> Self {
        Self {
            path: file.path.clone(),
            line,
            message: message.into(),
        }
    }
}

impl fmt::Display for Offence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.path, self.line, self.message)
    }
}

/// The rule holds.
#[track_caller]
pub(crate) fn holds(offences: &[Offence]) {
    let lines: Vec<String> = offences.iter().map(Offence::to_string).collect();
    assert!(lines.is_empty(), "\n{}\n", lines.join("\n"));
}

/// The rule is broken so many times, and each message has this in it.
#[track_caller]
pub(crate) fn refuses(offences: &[Offence], times: usize, because: &str) {
    let lines: Vec<String> = offences.iter().map(Offence::to_string).collect();
    assert_eq!(lines.len(), times, "\n{}\n", lines.join("\n"));
    for line in lines {
        assert!(line.contains(because), "no “{because}” in: {line}");
    }
}

/// Inputs of the fuzz targets: bytes, even where they happen to be text.
const CORPUS: &str = "tests/fuzz/corpus/";

/// Every text file that git tracks; without git (in a package), every one that lies here.
pub(crate) fn files() -> Vec<File> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut paths = tracked(root).unwrap_or_else(|| lying_under(root, ""));
    paths.sort_unstable();
    paths.retain(|path| !path.starts_with(CORPUS));
    let read = |path: String| {
        // What is deleted and not committed yet is not there, and what is not UTF-8 is no text.
        let text = std::fs::read_to_string(root.join(&path)).ok()?;
        Some(File { path, text })
    };
    let files: Vec<File> = paths.into_iter().filter_map(read).collect();
    assert!(files.iter().any(|file| file.path == "src/lib.rs"));
    files
}

fn tracked(root: &Path) -> Option<Vec<String>> {
    let mut git = Command::new("git");
    let listing = git.args(["ls-files", "-z"]).current_dir(root).output();
    let paths = String::from_utf8(listing.ok()?.stdout).ok()?;
    let paths: Vec<String> = paths.split_terminator('\0').map(str::to_owned).collect();
    // A package that was unpacked inside another repository has no files of its own in it.
    let ours = paths.iter().any(|path| path == "src/lib.rs");
    ours.then_some(paths)
}

fn lying_under(root: &Path, directory: &str) -> Vec<String> {
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(root.join(directory))
        .into_iter()
        .flatten()
    {
        let Ok(entry) = entry else { continue };
        let name = entry.file_name().to_string_lossy().into_owned();
        let path = format!("{directory}{name}");
        if !entry.path().is_dir() {
            paths.push(path);
        } else if name != "target" && name != ".git" {
            paths.extend(lying_under(root, &format!("{path}/")));
        }
    }
    paths
}

#[test]
fn without_git_the_same_files_are_found() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let found = lying_under(root, "");
    for file in files() {
        assert!(found.contains(&file.path), "{} is missed", file.path);
    }
}
