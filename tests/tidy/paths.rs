//! The paths in a Rust file, by `use` or in the middle of the code, each from the root of a crate:
//! `crate::engine::io::ConnId`, `std::thread::sleep`.

use std::collections::BTreeMap;
use std::ops::Range;

use super::source::{Source, Token, item_end};

/// A path, and where it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Path {
    pub(crate) segments: Vec<String>,
    pub(crate) line: usize,
    pub(crate) token: usize,
    /// Whether its first segment is a crate, so that it says all.
    pub(crate) is_whole: bool,
}

impl Path {
    pub(crate) fn text(&self) -> String {
        self.segments.join("::")
    }

    /// Whether it lies in `place`, or is it.
    pub(crate) fn is_in(&self, place: &str) -> bool {
        let place: Vec<&str> = place.split("::").collect();
        let mut own = self.segments.iter();
        place
            .iter()
            .all(|wanted| own.next().is_some_and(|segment| segment == wanted))
    }

    /// Whether this is `whole`; the end of it is enough where the rest was imported by `*`.
    pub(crate) fn names(&self, whole: &str) -> bool {
        let text = self.text();
        text == whole
            || !self.is_whole
                && self.segments.len() > 1
                && whole.ends_with(&text)
                && whole[..whole.len() - text.len()].ends_with("::")
    }
}

/// Every path of at least two segments, and every name that a `use` brings in.
pub(crate) fn paths(source: &Source<'_>, crates: &[String]) -> Vec<Path> {
    let mut reader = Reader {
        source,
        crates,
        children: Vec::new(),
        blocks: Vec::new(),
        imports: BTreeMap::new(),
        found: Vec::new(),
    };
    reader.read_modules();
    reader.read_uses();
    reader.read_code();
    reader.found
}

struct Reader<'a> {
    source: &'a Source<'a>,
    crates: &'a [String],
    /// The modules that are declared here, each with its path.
    children: Vec<Vec<&'a str>>,
    /// Each `mod name { … }`, from its first token on, outer before inner.
    blocks: Vec<Range<usize>>,
    /// What a name stands for that a `use` has brought in.
    imports: BTreeMap<String, Vec<String>>,
    found: Vec<Path>,
}

impl<'a> Reader<'a> {
    fn text(&self, at: usize) -> &'a str {
        self.source.tokens.get(at).map_or("", |token| token.text)
    }

    fn is_word(&self, at: usize) -> bool {
        self.source.tokens.get(at).is_some_and(Token::is_word)
    }

    fn read_modules(&mut self) {
        for at in 0..self.source.tokens.len() {
            let opens = self.text(at + 2) == "{";
            if self.text(at) == "mod" && self.is_word(at + 1) && opens {
                self.blocks.push(at..item_end(&self.source.tokens, at));
            }
        }
        for at in 0..self.source.tokens.len() {
            if self.text(at) == "mod" && self.is_word(at + 1) {
                let mut module = self.module_at(at.wrapping_sub(1));
                module.push(self.text(at + 1));
                self.children.push(module);
            }
        }
    }

    /// The module that this token is in, the `mod name { … }` around it included.
    fn module_at(&self, token: usize) -> Vec<&'a str> {
        let mut module = self.source.module();
        let around = self.blocks.iter().filter(|block| block.contains(&token));
        module.extend(around.map(|block| self.text(block.start + 1)));
        module
    }

    fn read_uses(&mut self) {
        for at in 0..self.source.tokens.len() {
            // `impl Trait + use<'a>` is something else.
            if self.text(at) == "use" && self.text(at + 1) != "<" {
                self.read_tree(at + 1, Vec::new());
            }
        }
    }

    /// One branch of a `use`: `a::b`, `a::{b, c}`, `a::*`, `a as b`. Answers where it ends.
    fn read_tree(&mut self, mut at: usize, mut segments: Vec<&'a str>) -> usize {
        loop {
            match self.text(at) {
                "::" => at += 1,
                "{" => {
                    at += 1;
                    while self.text(at) != "}" && !self.text(at).is_empty() {
                        at = self.read_tree(at, segments.clone());
                        at += usize::from(self.text(at) == ",");
                    }
                    return at + 1;
                }
                _ => {
                    segments.push(self.text(at));
                    at += 1;
                    if self.text(at) != "::" {
                        break;
                    }
                }
            }
        }
        if segments.len() > 1 && segments.last() == Some(&"self") {
            segments.pop();
        }
        let mut name = segments.last().copied().unwrap_or_default();
        if self.text(at) == "as" {
            name = self.text(at + 1);
            at += 2;
        }
        if let Some(path) = self.resolved(&segments, at - 1) {
            self.imports.insert(name.to_owned(), path.segments.clone());
            self.found.push(path);
        }
        at
    }

    fn read_code(&mut self) {
        let mut at = 0;
        while at < self.source.tokens.len() {
            if self.text(at) == "use" && self.text(at + 1) != "<" {
                while !matches!(self.text(at), ";" | "") {
                    at += 1;
                }
            }
            let mut segments = Vec::new();
            while self.is_word(at) {
                segments.push(self.text(at));
                at += 1;
                if self.text(at) != "::" || !self.is_word(at + 1) {
                    break;
                }
                at += 1;
            }
            if segments.len() > 1 {
                self.found.extend(self.resolved(&segments, at - 1));
            } else if segments.is_empty() {
                at += 1;
            }
        }
    }

    /// From the root of a crate; as it stands if that cannot be told from this file.
    fn resolved(&self, segments: &[&str], token: usize) -> Option<Path> {
        let module = self.module_at(token);
        let mut rest = segments;
        let mut base: Vec<String> = Vec::new();
        let first = *rest.first()?;
        let mut is_whole = true;
        if let "crate" | "self" | "super" = first {
            let mut depth = if first == "crate" { 0 } else { module.len() };
            while let Some(step @ ("crate" | "self" | "super")) = rest.first().copied() {
                depth = depth.saturating_sub(usize::from(step == "super"));
                rest = &rest[1..];
            }
            base.push("crate".to_owned());
            base.extend(module[..depth].iter().map(|&name| name.to_owned()));
        } else if self.is_child(&module, first) {
            base.push("crate".to_owned());
            base.extend(module.iter().map(|&name| name.to_owned()));
        } else if let Some(import) = self.imports.get(first) {
            base.clone_from(import);
            rest = &rest[1..];
            is_whole = self.is_whole(import);
        } else {
            is_whole = self.is_crate(first);
        }
        base.extend(rest.iter().map(|&name| name.to_owned()));
        Some(Path {
            segments: base,
            line: self.source.tokens.get(token)?.line,
            token,
            is_whole,
        })
    }

    fn is_child(&self, module: &[&str], name: &str) -> bool {
        let is_it = |child: &Vec<&str>| child.split_last() == Some((&name, module));
        self.children.iter().any(is_it)
    }

    fn is_whole(&self, segments: &[String]) -> bool {
        let first = segments.first();
        first.is_some_and(|first| first == "crate" || self.is_crate(first))
    }

    fn is_crate(&self, name: &str) -> bool {
        ["std", "core", "alloc"].contains(&name) || self.crates.iter().any(|known| known == name)
    }
}

#[cfg(test)]
mod tests {
    use super::super::tree::File;
    use super::*;

    fn found(path: &str, text: &str) -> Vec<String> {
        let file = File::new(path, text);
        let source = Source::of(&file);
        let paths = paths(&source, &["mio".to_owned(), "sundown".to_owned()]);
        paths.iter().map(Path::text).collect()
    }

    #[test]
    fn every_way_to_name_something_is_seen() {
        let check = |text: &str, expected: &[&str]| {
            assert_eq!(found("src/net/http.rs", text), expected, "{text}");
        };
        check(
            "use crate::store::{self, redis::*, Kind as K};",
            &[
                "crate::store",
                "crate::store::redis::*",
                "crate::store::Kind",
            ],
        );
        check(
            "use super::token; use super::super::clock;",
            &["crate::net::token", "crate::clock"],
        );
        check(
            "fn f() -> crate::store::A<crate::server::B> { self::g() }",
            &["crate::store::A", "crate::server::B", "crate::net::http::g"],
        );
        check(
            "mod inner { use super::super::x; fn f() { self::y::z() } } use inner::y;",
            &[
                "crate::net::x",
                "crate::net::http::inner::y",
                "crate::net::http::inner::y::z",
            ],
        );
        check(
            "use std::{io, thread as t}; fn f() { io::stdin(); t::sleep(d) }",
            &[
                "std::io",
                "std::thread",
                "std::io::stdin",
                "std::thread::sleep",
            ],
        );
        check(
            "use mio::net::TcpStream; fn f() { TcpStream::connect(a); Elsewhere::g() }",
            &[
                "mio::net::TcpStream",
                "mio::net::TcpStream::connect",
                "Elsewhere::g",
            ],
        );
        check(
            "pub(in crate::net) fn f() -> impl A + use<'_> { <B as mio::C>::d() }",
            &["crate::net", "mio::C"],
        );
    }

    #[test]
    fn what_cannot_be_told_is_known_by_its_end() {
        let file = File::new("src/x.rs", "use std::time::*; fn f() { Instant::now() }");
        let source = Source::of(&file);
        let paths = paths(&source, &[]);
        assert!(paths[1].names("std::time::Instant::now"));
        assert!(!paths[1].names("std::time::NoInstant::now"));
        assert!(!paths[1].names("std::time::Instant"));
    }
}
