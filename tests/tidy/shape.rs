//! How files look: the header that says what a file is, and how long a file, a function and a line
//! may be, so that each can be read at once.

use super::source::{Source, is_test_file};
use super::tree::{File, Offence, files, holds, refuses};

/// Lines of code in a file of `src/`, without its tests.
const FILE_LINES_MAX: usize = 400;
/// The same with tests, and for files of tests.
const FILE_LINES_HARD_MAX: usize = 600;
/// Lines of code between a function's braces.
const FUNCTION_LINES_MAX: usize = 70;
const COLUMNS_MAX: usize = 100;
/// A header of one line says enough from this length on.
const HEADER_CHARS_MIN: usize = 60;

fn rust(files: &[File]) -> impl Iterator<Item = &File> {
    files.iter().filter(|file| file.is_rust())
}

fn missing_headers(files: &[File]) -> Vec<Offence> {
    let is_short = |file: &&File| {
        let lines = file.text.lines().map_while(|line| line.strip_prefix("//!"));
        let header: Vec<&str> = lines.map(str::trim).collect();
        let chars: usize = header.iter().map(|line| line.chars().count()).sum();
        chars == 0 || header.len() < 2 && chars < HEADER_CHARS_MIN
    };
    let message = "no header: begin with `//!` and say what this file is, what it owns, and what \
                   it must never do (in tests: goal and method)";
    let short = rust(files).filter(is_short);
    short.map(|file| Offence::new(file, 1, message)).collect()
}

fn long_files(files: &[File]) -> Vec<Offence> {
    let mut offences = Vec::new();
    for file in rust(files) {
        let source = Source::of(file);
        let tested = source
            .attributes
            .iter()
            .filter(|a| a.text == "#[cfg(test)]");
        let test_lines = |range: &std::ops::Range<usize>| {
            let first = source.tokens[range.start].line;
            first..=source.tokens[range.end - 1].line
        };
        let tests: Vec<_> = tested
            .map(|attribute| test_lines(&attribute.covers))
            .collect();
        let is_own = |line: &&usize| !tests.iter().any(|range| range.contains(line));
        let all = source.code_lines.len();
        let own = source.code_lines.iter().filter(is_own).count();
        let message = if !is_test_file(&file.path) && own > FILE_LINES_MAX {
            format!(
                "{own} lines of code, and {FILE_LINES_MAX} are the most: it holds two nouns, give \
                 each its file"
            )
        } else if all > FILE_LINES_HARD_MAX {
            format!(
                "{all} lines of code, and {FILE_LINES_HARD_MAX} are the most: move the tests to a \
                 file of their own, or one behaviour of them"
            )
        } else {
            continue;
        };
        offences.push(Offence::new(file, 1, message));
    }
    offences
}

fn long_functions(files: &[File]) -> Vec<Offence> {
    let mut offences = Vec::new();
    for file in rust(files) {
        for function in Source::of(file).functions() {
            if function.len > FUNCTION_LINES_MAX {
                let message = format!(
                    "`{}` has {} lines of code, and {FUNCTION_LINES_MAX} are the most: leave the \
                     decisions here and give each step a function of its own",
                    function.name, function.len
                );
                offences.push(Offence::new(file, function.line, message));
            }
        }
    }
    offences
}

fn long_lines(files: &[File]) -> Vec<Offence> {
    let mut offences = Vec::new();
    for file in files
        .iter()
        .filter(|file| file.is_rust() || file.is_markdown())
    {
        let mut is_fenced = false;
        for (at, line) in file.text.lines().enumerate() {
            is_fenced ^= file.is_markdown() && line.trim_start().starts_with("```");
            // Tables and what is quoted from a terminal have no other place to break, nor have
            // links.
            let cannot_break = is_fenced
                || line.trim_start().starts_with('|')
                || line.contains("](")
                || line.contains("://");
            let columns = line.chars().count();
            if columns > COLUMNS_MAX && !(file.is_markdown() && cannot_break) {
                let message = format!("{columns} columns, and {COLUMNS_MAX} are the most: wrap it");
                offences.push(Offence::new(file, at + 1, message));
            }
        }
    }
    offences
}

fn stray_blanks(files: &[File]) -> Vec<Offence> {
    let mut offences = Vec::new();
    for file in files {
        let mut refuse = |line, message| offences.push(Offence::new(file, line, message));
        for (at, line) in file.text.split('\n').enumerate() {
            if line.trim_end() != line {
                refuse(at + 1, "blanks at the end of the line: remove them");
            }
            if file.is_rust() && line.contains('\t') {
                refuse(
                    at + 1,
                    "a tab: indent by four spaces, and write `\\t` in a string",
                );
            }
        }
        if !file.text.is_empty() && !file.text.ends_with('\n') || file.text.ends_with("\n\n") {
            let last = file.text.lines().count();
            refuse(
                last,
                "a file ends with one line break: `cargo fmt` writes it",
            );
        }
    }
    offences
}

#[test]
fn every_file_says_what_it_is() {
    holds(&missing_headers(&files()));
}

#[test]
fn every_file_can_be_read_at_once() {
    holds(&long_files(&files()));
}

#[test]
fn every_function_can_be_read_at_once() {
    holds(&long_functions(&files()));
}

#[test]
fn every_line_can_be_read_at_once() {
    holds(&long_lines(&files()));
}

#[test]
fn there_are_no_stray_blanks() {
    holds(&stray_blanks(&files()));
}

fn one(path: &str, text: &str) -> [File; 1] {
    [File::new(path, text)]
}

#[test]
fn a_file_without_a_header_is_refused() {
    let check = |text: &str, times| {
        refuses(
            &missing_headers(&one("src/new.rs", text)),
            times,
            "no header",
        );
    };
    check("use std::io;\n", 1);
    check("//! Short.\nuse std::io;\n", 1);
    check("// A comment\n// of two lines.\n", 1);
    check("//!\n//!\n", 1);
    check("use std::io;\n//! Late, and\n//! two lines.\n", 1);
    check("//! Two lines,\n//! each short.\n", 0);
    check(
        "//! One line that says what the file is, what it owns, what it never does.\n",
        0,
    );
}

#[test]
fn a_long_file_is_refused() {
    let code = "fn f() {}\n";
    let tests = |lines| format!("#[cfg(test)]\nmod t {{\n{}}}\n", code.repeat(lines));
    let check = |path: &str, text: &str, because: &str| {
        let times = usize::from(!because.is_empty());
        refuses(&long_files(&one(path, text)), times, because);
    };
    check("src/new.rs", &code.repeat(401), "401 lines of code");
    check(
        "src/new.rs",
        &(code.repeat(400) + &"// why\n\n".repeat(100) + &tests(100)),
        "",
    );
    check(
        "src/new.rs",
        &(code.repeat(400) + &tests(200)),
        "603 lines of code",
    );
    check("tests/new.rs", &code.repeat(600), "");
    check("tests/new.rs", &code.repeat(601), "601 lines of code");
}

#[test]
fn a_long_function_is_refused() {
    let check = |lines: usize, times| {
        let body = "    // why\n    x();\n".repeat(lines);
        let text = format!("fn short() {{ x() }}\nimpl X {{\nfn long<A, B>(\n) {{\n{body}}}\n}}\n");
        let offences = long_functions(&one("src/new.rs", &text));
        refuses(&offences, times, "`long` has 71 lines");
    };
    check(70, 0);
    check(71, 1);
}

#[test]
fn a_long_line_is_refused() {
    let check = |path: &str, before: &str, columns: usize, times| {
        let line = format!("{before}{}\n", "é".repeat(columns - before.len()));
        refuses(&long_lines(&one(path, &line)), times, "101 columns");
    };
    check("src/new.rs", "// ", 100, 0);
    check("src/new.rs", "// ", 101, 1);
    check("src/new.rs", "// ://", 101, 1);
    check("docs/new.md", "", 101, 1);
    check("docs/new.md", "| a table ", 101, 0);
    check("docs/new.md", "[a link](", 101, 0);
    check("docs/new.md", "```\n$ command ", 120, 0);
}

#[test]
fn a_stray_blank_is_refused() {
    let check = |path: &str, text: &str, because: &str| {
        let times = usize::from(!because.is_empty());
        refuses(&stray_blanks(&one(path, text)), times, because);
    };
    check("docs/new.md", "a \n", "blanks");
    check("Makefile", "a:\n\tb\n", "");
    check("src/new.rs", "\tfn f() {}\n", "a tab");
    check("src/new.rs", "fn f() {}\r\n", "blanks");
    check("src/new.rs", "fn f() {}", "one line break");
    check("src/new.rs", "fn f() {}\n\n", "one line break");
    check("src/new.rs", "fn f() {}\n", "");
}
