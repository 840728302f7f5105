//! Words that mean something on one machine only. The tree is read by people who have nothing but
//! the tree: a path of somebody's home leads them nowhere.

use super::tree::{File, Offence, files, holds, refuses};

/// Each in two halves, so that it does not stand here, and with what to write instead.
const WORDS: &[(&str, &str, &str)] = &[
    ("/ro", "ot/", RELATIVE),
    ("/ho", "me/", RELATIVE),
    ("/Us", "ers/", RELATIVE),
    ("/wo", "rk/", RELATIVE),
    ("/tmp/", "wt", RELATIVE),
    ("/tmp/", "bash", RELATIVE),
    (
        "crates",
        ".io",
        "“the registry”: which one cargo asks is a matter of its configuration",
    ),
];

const RELATIVE: &str = "a path from the root of the tree, or one that a test makes for itself";

/// Written by cargo, for this crate and for that of the fuzz targets.
const EXEMPT: &str = "Cargo.lock";

fn private_words(files: &[File]) -> Vec<Offence> {
    let mut offences = Vec::new();
    for file in files.iter().filter(|file| !file.path.ends_with(EXEMPT)) {
        for (at, line) in file.text.lines().enumerate() {
            for (start, end, instead) in WORDS {
                let word = format!("{start}{end}");
                if line
                    .match_indices(&word)
                    .any(|(at, _)| stands_alone(line, at))
                {
                    let message = format!("`{word}` means nothing elsewhere: write {instead}");
                    offences.push(Offence::new(file, at + 1, message));
                }
            }
        }
    }
    offences
}

/// Not the middle of a longer path.
fn stands_alone(line: &str, at: usize) -> bool {
    let is_path = |c: char| c.is_alphanumeric() || "._-~}".contains(c);
    !line[at..].starts_with('/') || !line[..at].ends_with(is_path)
}

#[test]
fn nothing_leads_out_of_the_tree() {
    holds(&private_words(&files()));
}

#[test]
fn a_word_of_one_machine_is_refused() {
    for (start, end, instead) in WORDS {
        let check = |before: &str, times| {
            let line = format!("a line\nsee {before}{start}{end}notes\n");
            refuses(
                &private_words(&[File::new("docs/a.md", &line)]),
                times,
                instead,
            );
            refuses(&private_words(&[File::new(EXEMPT, &line)]), 0, "");
        };
        check("", 1);
        check("file://", 1);
        check("src", usize::from(!start.starts_with('/')));
    }
}
