//! What the documents promise of each other: that a reader who starts at the README finds all of
//! them, that no link leads nowhere, and that each dependency has been defended.

use std::collections::BTreeSet;

use super::tree::{File, Offence, files, has_extension, holds, refuses};

/// Where readers start.
const ENTRANCE: &str = "README.md";
const ADR: &str = "docs/adr/0001-dependencies.md";

fn find<'a>(files: &'a [File], path: &str) -> Option<&'a File> {
    files.iter().find(|file| file.path == path)
}

/// The names of all crates in Cargo.toml, for whatever they are used.
pub(crate) fn dependencies(files: &[File]) -> Vec<String> {
    let manifest = find(files, "Cargo.toml").map_or("", |file| &file.text);
    let mut names = Vec::new();
    let mut is_list = false;
    for line in manifest.lines() {
        if let Some(section) = line.trim().strip_prefix('[') {
            let section = section.trim_end_matches(']');
            is_list = section.ends_with("dependencies");
            // `[dependencies.name]`
            let table = section.rsplit_once("dependencies.");
            names.extend(table.map(|(_, name)| name.to_owned()));
        } else if is_list && let Some((name, _)) = line.split_once('=') {
            let name = name.split('.').next().unwrap_or(name);
            names.push(name.trim().to_owned());
        }
    }
    names
}

fn undefended_dependencies(files: &[File]) -> Vec<Offence> {
    let nothing = File::new(ADR, "");
    let record = find(files, ADR).unwrap_or(&nothing);
    let dependencies = dependencies(files);
    let undefended = dependencies
        .iter()
        .filter(|name| !record.text.contains(&format!("`{name}`")));
    let mut offences: Vec<Offence> = undefended
        .map(|name| {
            let message = format!(
                "`{name}` is in Cargo.toml and not here: say in a line why writing it ourselves \
                 would be worse, or leave it out"
            );
            Offence::new(record, 1, message)
        })
        .collect();
    for (at, line) in record.text.lines().enumerate() {
        let Some(cell) = line
            .strip_prefix("| `")
            .and_then(|row| row.split('|').next())
        else {
            continue;
        };
        for name in cell.split('`').step_by(2) {
            let is_known = dependencies.iter().any(|known| known == name);
            if !is_known && !name.trim().is_empty() {
                let message = format!("`{name}` is not in Cargo.toml (any more): take it out");
                offences.push(Offence::new(record, at + 1, message));
            }
        }
    }
    offences
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

fn is_there(files: &[File], path: &str) -> bool {
    let inside = format!("{path}/");
    path.is_empty()
        || files
            .iter()
            .any(|file| file.path == path || file.path.starts_with(&inside))
}

fn dead_links(files: &[File]) -> Vec<Offence> {
    let mut offences = Vec::new();
    for file in files.iter().filter(|file| file.is_markdown()) {
        for (line, target) in links(file) {
            if !is_there(files, &target) {
                let message = format!("there is no {target}: correct the link, or take it out");
                offences.push(Offence::new(file, line, message));
            }
        }
    }
    offences
}

/// Documents that are spoken of, in comments and elsewhere, and are not there.
fn missing_documents(files: &[File]) -> Vec<Offence> {
    let mut offences = Vec::new();
    // The snippets of these tests speak of some that must not be there.
    for file in files.iter().filter(|file| !file.is_under("tests/tidy/")) {
        for (at, line) in file.text.lines().enumerate() {
            let is_between = |c: char| !c.is_ascii_alphanumeric() && !"_-./:".contains(c);
            for name in line.split(is_between) {
                let name = name.trim_end_matches(['.', ':']);
                let is_document =
                    name.len() > 3 && has_extension(name, "md") && !name.contains("://");
                let anywhere = format!("/{name}");
                let is_there = is_there(files, name)
                    || is_there(files, &resolved(&file.path, name))
                    || files.iter().any(|file| file.path.ends_with(&anywhere));
                if is_document && !is_there {
                    let message = format!(
                        "there is no {name}: whoever has only this tree cannot read it. Say here \
                         what it says, or name the file that does"
                    );
                    offences.push(Offence::new(file, at + 1, message));
                }
            }
        }
    }
    offences
}

/// Documents that a reader never comes across, whichever links are followed.
fn unlinked_documents(files: &[File]) -> Vec<Offence> {
    let mut found = BTreeSet::new();
    let mut to_read = vec![ENTRANCE.to_owned()];
    while let Some(path) = to_read.pop() {
        // A link to a directory leads to all that is in it.
        let inside = format!("{path}/");
        let leads_to = |file: &&File| file.path == path || file.path.starts_with(&inside);
        for file in files.iter().filter(|file| file.is_markdown()) {
            if leads_to(&file) && found.insert(&file.path) {
                to_read.extend(links(file).into_iter().map(|(_, target)| target));
            }
        }
    }
    let message = "nobody finds this: link it from README.md, or from what README.md leads to";
    let documents = files
        .iter()
        .filter(|file| file.is_under("docs/") && file.is_markdown());
    let lost = documents.filter(|file| !found.contains(&file.path));
    lost.map(|file| Offence::new(file, 1, message)).collect()
}

fn missing_changelog(files: &[File]) -> Vec<Offence> {
    let nothing = File::new("CHANGELOG.md", "");
    let changelog = find(files, "CHANGELOG.md").unwrap_or(&nothing);
    let is_there = changelog.text.lines().any(|line| line == "## [Unreleased]");
    let message = "no `## [Unreleased]`: what users notice is written there in the same commit, \
                   and a release gives it a number";
    let offence = (!is_there).then(|| Offence::new(changelog, 1, message));
    offence.into_iter().collect()
}

#[test]
fn every_dependency_is_defended() {
    let files = files();
    assert!(
        dependencies(&files).len() > 10,
        "Cargo.toml was not understood"
    );
    holds(&undefended_dependencies(&files));
}

#[test]
fn every_link_leads_somewhere() {
    holds(&dead_links(&files()));
}

#[test]
fn every_document_that_is_named_is_there() {
    holds(&missing_documents(&files()));
}

#[test]
fn every_document_is_found_from_the_readme() {
    holds(&unlinked_documents(&files()));
}

#[test]
fn the_changelog_has_room_for_the_next_change() {
    holds(&missing_changelog(&files()));
}

#[test]
fn a_dependency_without_a_defence_is_refused() {
    let check = |manifest: &str, record: &str, because: &str| {
        let files = [File::new("Cargo.toml", manifest), File::new(ADR, record)];
        let times = usize::from(!because.is_empty());
        refuses(&undefended_dependencies(&files), times, because);
    };
    let manifest =
        "[package]\nname = \"x\"\n[dependencies]\na-b = \"1\"\nc = { version = \"2\" }\n";
    check(manifest, "| `a-b`, `c` | why |\n", "");
    check(manifest, "| `a-b` | why |\n", "`c` is in Cargo.toml");
    check(
        manifest,
        "| `a-b` | `c` is why |\n| `d` | why |\n",
        "`d` is not in Cargo.toml",
    );
    check(
        "[dev-dependencies]\na.workspace = true\n",
        "",
        "`a` is in Cargo.toml",
    );
    check(
        "[target.'cfg(unix)'.dependencies.a]\nversion = \"1\"\n",
        "",
        "`a` is in Cargo.toml",
    );
}

#[test]
fn a_link_that_leads_nowhere_is_refused() {
    let check = |text: &str, times| {
        let files = [File::new("docs/a.md", text), File::new("src/lib.rs", "")];
        refuses(&dead_links(&files), times, "correct the link");
    };
    check("[b](b.md) and [lib](../src/library.rs)\n\n[c]: c.md\n", 3);
    check(
        "[a](a.md#part), [src](../src), [web](https://example.org), [here](#x)\n",
        0,
    );
}

#[test]
fn a_document_that_is_not_there_is_refused() {
    let check = |text: &str, times| {
        let files = [File::new("src/a.rs", text), File::new("docs/b.md", "")];
        refuses(&missing_documents(&files), times, "cannot read it");
    };
    check("// See docs/c.md, or PLAN.md.\n", 2);
    check(
        "// See docs/b.md, ../docs/b.md and https://x.org/c.md: any `.md`.\n",
        0,
    );
    check("root.join(\"docs\").join(\"b.md\")\n", 0);
}

#[test]
fn a_document_that_nobody_finds_is_refused() {
    let check = |readme: &str, times| {
        let files = [
            File::new("README.md", readme),
            File::new(
                "docs/ARCHITECTURE.md",
                "[records](adr) [back](../README.md)",
            ),
            File::new("docs/adr/0001.md", ""),
            File::new("docs/b.md", ""),
        ];
        refuses(&unlinked_documents(&files), times, "nobody finds this");
    };
    check("docs/b.md", 3);
    check("[how](docs/ARCHITECTURE.md)", 1);
    check("[how](docs/ARCHITECTURE.md) [b](docs/b.md)", 0);
}

#[test]
fn a_changelog_without_the_next_release_is_refused() {
    let changelog = |text: &str| [File::new("CHANGELOG.md", text)];
    refuses(
        &missing_changelog(&changelog("## [0.1.0]\n")),
        1,
        "in the same commit",
    );
    refuses(&missing_changelog(&[]), 1, "in the same commit");
    refuses(&missing_changelog(&changelog("## [Unreleased]\n")), 0, "");
}
