//! Rust as far as the rules need it: tokens without comments, what an attribute covers, and where
//! functions begin and end. No parser: it must only never mistake a comment or a string for code.

use std::collections::BTreeSet;

use super::tree::File;

/// A word, a literal, `::`, or any other single character.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Token<'a> {
    pub(crate) text: &'a str,
    /// Counted from 1.
    pub(crate) line: usize,
}

impl Token<'_> {
    pub(crate) fn is_word(&self) -> bool {
        self.text.chars().all(is_word_char)
    }
}

/// `#[…]` or `#![…]`.
pub(crate) struct Attribute {
    /// Without spaces.
    pub(crate) text: String,
    pub(crate) line: usize,
    /// The tokens that it speaks of.
    pub(crate) covers: std::ops::Range<usize>,
}

pub(crate) struct Function<'a> {
    pub(crate) name: &'a str,
    pub(crate) line: usize,
    /// Lines of code between its braces.
    pub(crate) len: usize,
}

/// A Rust file, taken apart.
pub(crate) struct Source<'a> {
    pub(crate) file: &'a File,
    pub(crate) tokens: Vec<Token<'a>>,
    pub(crate) attributes: Vec<Attribute>,
    /// Lines with anything but comments on them.
    pub(crate) code_lines: BTreeSet<usize>,
}

impl<'a> Source<'a> {
    pub(crate) fn of(file: &'a File) -> Self {
        let tokens = tokens(&file.text);
        let lines = |token: &Token<'_>| {
            let more = token.text.bytes().filter(|byte| *byte == b'\n').count();
            token.line..=token.line + more
        };
        Self {
            file,
            attributes: attributes(&tokens),
            code_lines: tokens.iter().flat_map(lines).collect(),
            tokens,
        }
    }

    /// The module's path from the root of its crate: `engine::io`; empty for a root.
    pub(crate) fn module(&self) -> Vec<&'a str> {
        let path: &'a str = &self.file.path;
        let path = path.strip_prefix("src/").unwrap_or(path);
        let path = path.strip_suffix(".rs").unwrap_or(path);
        let path = path.strip_suffix("/mod").unwrap_or(path);
        match path {
            "lib" | "main" => Vec::new(),
            module => module.split('/').collect(),
        }
    }

    /// Whether the token is part of a test.
    pub(crate) fn is_test(&self, token: usize) -> bool {
        let covers = |attribute: &Attribute| {
            is_test_attribute(&attribute.text) && attribute.covers.contains(&token)
        };
        is_test_file(&self.file.path) || self.attributes.iter().any(covers)
    }

    /// Whether the token lies where one of these lints is expected to fire, for a reason.
    pub(crate) fn expects(&self, lint: &str, token: usize) -> bool {
        self.attributes.iter().any(|attribute| {
            let text = &attribute.text;
            (text.starts_with("#[expect(") || text.starts_with("#![expect("))
                && text.contains(lint)
                && text.contains("reason=")
                && attribute.covers.contains(&token)
        })
    }

    pub(crate) fn functions(&self) -> Vec<Function<'a>> {
        let is_named = |at: &usize| {
            let name = self.tokens.get(at + 1);
            self.tokens[*at].text == "fn" && name.is_some_and(Token::is_word)
        };
        let functions = (0..self.tokens.len()).filter(is_named);
        functions.filter_map(|at| self.function(at)).collect()
    }

    fn function(&self, at: usize) -> Option<Function<'a>> {
        let end = item_end(&self.tokens, at);
        let open = (at..end).find(|token| self.tokens[*token].text == "{")?;
        let body = self.tokens[open].line + 1..self.tokens[end - 1].line;
        // A body on one line has none between its braces.
        let len = if body.is_empty() {
            0
        } else {
            self.code_lines.range(body).count()
        };
        Some(Function {
            name: self.tokens[at + 1].text,
            line: self.tokens[at].line,
            len,
        })
    }
}

/// Files that are compiled for tests alone; `modules` sees to it that they are.
pub(crate) fn is_test_file(path: &str) -> bool {
    path.starts_with("tests/") || path.ends_with("/tests.rs")
}

fn is_test_attribute(text: &str) -> bool {
    text == "#[test]" || text == "#[cfg(test)]" || text.starts_with("#[cfg(all(test,")
}

fn attributes(tokens: &[Token<'_>]) -> Vec<Attribute> {
    let mut attributes = Vec::new();
    for at in 0..tokens.len() {
        let inner = tokens[at..].get(1).is_some_and(|token| token.text == "!");
        let open = at + 1 + usize::from(inner);
        if tokens[at].text != "#" || tokens.get(open).is_none_or(|token| token.text != "[") {
            continue;
        }
        let close = closing(tokens, open);
        attributes.push(Attribute {
            text: tokens[at..close].iter().map(|token| token.text).collect(),
            line: tokens[at].line,
            covers: if inner {
                block_start(tokens, at)..block_end(tokens, close)
            } else {
                at..item_end(tokens, close)
            },
        });
    }
    attributes
}

/// The token after the bracket that closes the one at `open`.
fn closing(tokens: &[Token<'_>], open: usize) -> usize {
    let mut depth = 0_usize;
    for (at, token) in tokens.iter().enumerate().skip(open) {
        match token.text {
            "(" | "[" | "{" => depth += 1,
            ")" | "]" | "}" => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth == 0 {
            return at + 1;
        }
    }
    tokens.len()
}

/// The end of the item, statement, arm or field that starts here, perhaps with more attributes.
pub(crate) fn item_end(tokens: &[Token<'_>], start: usize) -> usize {
    let mut at = start;
    while tokens.get(at).is_some_and(|token| token.text == "#") {
        at = closing(tokens, at + 1);
    }
    let text = |at: usize| tokens.get(at).map_or("", |token| token.text);
    if text(at) == "pub" {
        at += 1;
        if text(at) == "(" {
            at = closing(tokens, at);
        }
    }
    // These end with a semicolon, whatever braces they have in them.
    let to_semicolon =
        matches!(text(at), "let" | "static" | "use") || text(at) == "const" && text(at + 1) != "fn";
    // In these, a comma stands between generics; in arms and fields, it is the end.
    let to_comma = !to_semicolon && !ITEMS.contains(&text(at));
    while let Some(token) = tokens.get(at) {
        match token.text {
            ";" => return at + 1,
            "," if to_comma => return at + 1,
            ")" | "]" | "}" => return at,
            "{" if !to_semicolon => return closing(tokens, at),
            "(" | "[" | "{" => at = closing(tokens, at),
            _ => at += 1,
        }
    }
    tokens.len()
}

/// What an item begins with, after its visibility.
const ITEMS: [&str; 10] = [
    "async", "const", "enum", "extern", "fn", "impl", "mod", "struct", "trait", "type",
];

fn block_start(tokens: &[Token<'_>], inside: usize) -> usize {
    let encloses = |open: &usize| tokens[*open].text == "{" && closing(tokens, *open) > inside;
    (0..inside).rev().find(encloses).unwrap_or(0)
}

fn block_end(tokens: &[Token<'_>], inside: usize) -> usize {
    let mut at = inside;
    while let Some(token) = tokens.get(at) {
        match token.text {
            "(" | "[" | "{" => at = closing(tokens, at),
            "}" => return at,
            _ => at += 1,
        }
    }
    tokens.len()
}

fn is_word_char(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// Splits Rust into tokens; comments and spaces are not among them.
fn tokens(text: &str) -> Vec<Token<'_>> {
    let mut tokens = Vec::new();
    let (mut rest, mut line) = (text, 1);
    while !rest.is_empty() {
        let (len, is_token) = first_token(rest);
        let (taken, left) = rest.split_at(len);
        if is_token {
            tokens.push(Token { text: taken, line });
        }
        line += taken.bytes().filter(|byte| *byte == b'\n').count();
        rest = left;
    }
    tokens
}

/// The length of what comes first, and whether it is a token at all. `text` is not empty.
fn first_token(text: &str) -> (usize, bool) {
    let first = text.chars().next().unwrap_or(' ');
    if first.is_whitespace() {
        return (first.len_utf8(), false);
    }
    if text.starts_with("//") {
        return (text.find('\n').unwrap_or(text.len()), false);
    }
    if text.starts_with("/*") {
        return (block_comment_len(text), false);
    }
    if let Some(len) = literal_len(text) {
        return (len, true);
    }
    if is_word_char(first) {
        let len = text.find(|c| !is_word_char(c)).unwrap_or(text.len());
        return (len, true);
    }
    let len = if text.starts_with("::") {
        2
    } else {
        first.len_utf8()
    };
    (len, true)
}

fn block_comment_len(text: &str) -> usize {
    let (mut at, mut depth) = (0, 0_usize);
    while let Some(found) = text[at..].find(['/', '*']) {
        at += found;
        if text[at..].starts_with("/*") {
            (at, depth) = (at + 2, depth + 1);
        } else if text[at..].starts_with("*/") {
            (at, depth) = (at + 2, depth - 1);
        } else {
            at += 1;
        }
        if depth == 0 {
            return at;
        }
    }
    text.len()
}

/// The length of the string, character or lifetime that comes first, if one does.
fn literal_len(text: &str) -> Option<usize> {
    let prefix = ["br", "cr", "b", "c", "r", ""]
        .into_iter()
        .find(|prefix| text.strip_prefix(prefix).is_some_and(opens_literal))?;
    let body = &text[prefix.len()..];
    let len = if prefix.ends_with('r') {
        let hashes = body.find('"')?;
        let end = format!("\"{}", &body[..hashes]);
        let content = &body[hashes + 1..];
        hashes + 1 + content.find(&end)? + end.len()
    } else if body.starts_with('"') {
        escaped_len(body, '"')?
    } else {
        character_len(body)?
    };
    Some(prefix.len() + len)
}

fn opens_literal(text: &str) -> bool {
    text.starts_with(['"', '\'']) || text.trim_start_matches('#').starts_with('"')
}

/// `'a'`, or the lifetime `'a`.
fn character_len(text: &str) -> Option<usize> {
    let mut chars = text.char_indices().skip(1);
    let (_, first) = chars.next()?;
    let is_character = first == '\\' || chars.next().is_some_and(|(_, second)| second == '\'');
    if is_character {
        return escaped_len(text, '\'');
    }
    let name = &text[1..];
    Some(1 + name.find(|c| !is_word_char(c)).unwrap_or(name.len()))
}

fn escaped_len(text: &str, quote: char) -> Option<usize> {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            c if c == quote => return Some(at + 1),
            _ => {}
        }
    }
    None
}

#[test]
fn comments_and_strings_are_not_code() {
    let text = r##"
        // a comment
        /* one /* in */ another */
        /// text
        let s = "a \" b"; let r = r#"c " d"#; let b = b'\''; let q = '"'; x::<'y>(r#fn);
    "##;
    let file = File::new("src/x.rs", text);
    let words: Vec<&str> = Source::of(&file).tokens.iter().map(|t| t.text).collect();
    let expected = [
        "let",
        "s",
        "=",
        r#""a \" b""#,
        ";",
        "let",
        "r",
        "=",
        r##"r#"c " d"#"##,
        ";",
        "let",
        "b",
        "=",
        r"b'\''",
        ";",
        "let",
        "q",
        "=",
        "'\"'",
        ";",
        "x",
        "::",
        "<",
        "'y",
        ">",
        "(",
        "r",
        "#",
        "fn",
        ")",
        ";",
    ];
    assert_eq!(words, expected);
}

#[test]
fn an_attribute_covers_its_item_and_no_more() {
    let covered = |text: &str| {
        let file = File::new("src/x.rs", text);
        let source = Source::of(&file);
        let is_test = |at: &usize| source.tokens[*at].text == "x" && source.is_test(*at);
        (0..source.tokens.len()).filter(is_test).count()
    };
    assert_eq!(covered("#[cfg(test)] mod t { x; { x } } fn f() { x }"), 2);
    assert_eq!(covered("#[cfg(test)] #[a] use a::{x, x}; x"), 2);
    assert_eq!(covered("#[cfg(test)] let a = b { x }.c(x); x"), 2);
    assert_eq!(covered("#[cfg(test)] const fn f([u8; 3]) -> A { x } x"), 1);
    assert_eq!(covered("#[cfg(test)] pub(crate) fn f<A, B>() { x } x"), 1);
    assert_eq!(covered("struct A { #[cfg(test)] pub a: x, b: x }"), 1);
    assert_eq!(covered("fn f() { #[cfg(test)] x } x"), 1);
    assert_eq!(covered("fn f() { #![cfg(test)] x }"), 0);
    assert_eq!(covered("#[cfg(not(test))] mod t { x }"), 0);
}
