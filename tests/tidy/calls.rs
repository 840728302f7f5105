//! What nobody may call, and what to use instead. Clippy knows some of it; here it also holds where
//! clippy is not run, and the exceptions are in one place.

use super::arrows::known_crates;
use super::paths::paths;
use super::source::Source;
use super::tree::{File, Offence, files, holds, refuses};

/// What is banned.
enum Call {
    /// By its full name, however it was imported.
    Path(&'static str),
    /// `.name(`.
    Method(&'static str),
    /// `name!`.
    Macro(&'static str),
}

struct Ban {
    call: Call,
    /// The directories where it holds.
    within: &'static [&'static str],
    /// The files that are there to do it.
    except: &'static [&'static str],
    instead: &'static str,
}

impl Ban {
    const fn src(call: Call, instead: &'static str) -> Self {
        Self::except(call, &["src/"], &[], instead)
    }

    const fn everywhere(call: Call, instead: &'static str) -> Self {
        Self::except(call, &["src/", "tests/"], &[], instead)
    }

    const fn except(
        call: Call,
        within: &'static [&'static str],
        except: &'static [&'static str],
        instead: &'static str,
    ) -> Self {
        Self {
            call,
            within,
            except,
            instead,
        }
    }

    fn is_for(&self, file: &File) -> bool {
        self.within.iter().any(|directory| file.is_under(directory))
            && !self.except.contains(&file.path.as_str())
    }
}

const CLOCK: &str = "take `now` as an argument: the clock is read once a turn, so that all of a \
                     turn happens at one time and tests can replay it (src/clock.rs; in tests, \
                     `now` of tests/support)";
const SLEEP: &str = "nothing blocks the loop's thread: set a deadline. In tests, wait for the \
                     event, with a deadline (`eventually` of tests/support)";
const CONNECT: &str = "it blocks for minutes: use `mio::net`, and a deadline of the loop";
const RESOLVE: &str = "getaddrinfo blocks for as long as it likes: ask the resolver's thread \
                       (src/store/redis/resolver.rs)";
const PRINT: &str = "it blocks on a pipe that nobody reads, and panics when the reader has gone: \
                     use `log`, or `Stdout` of src/cli/output.rs in the binary";
const EXIT: &str = "it skips every destructor, and with it goodbyes and saves: return an `Error` \
                    or an `ExitCode`";
const LATER: &str = "what is not done is not merged: answer an error, or leave it out";
const CLOCK_FILES: &[&str] = &["src/clock.rs", "tests/support/mod.rs"];

const BANS: &[Ban] = &[
    Ban::except(
        Call::Path("std::time::Instant::now"),
        &["src/", "tests/"],
        CLOCK_FILES,
        CLOCK,
    ),
    Ban::except(
        Call::Path("std::time::SystemTime::now"),
        &["src/", "tests/"],
        CLOCK_FILES,
        CLOCK,
    ),
    Ban::except(
        Call::Path("std::thread::sleep"),
        &["src/", "tests/"],
        // Its `pause` paces clients, and never stands in for an event.
        &["tests/support/mod.rs"],
        SLEEP,
    ),
    Ban::src(Call::Path("std::net::TcpStream::connect"), CONNECT),
    Ban::except(
        Call::Path("std::net::TcpStream::connect_timeout"),
        &["src/"],
        // For processes of their own, which have no loop and ask one question.
        &["src/cli/stream.rs"],
        CONNECT,
    ),
    Ban::src(
        Call::Path("std::os::unix::net::UnixStream::connect"),
        CONNECT,
    ),
    Ban::except(
        Call::Method("to_socket_addrs"),
        &["src/"],
        &["src/store/redis/resolver.rs"],
        RESOLVE,
    ),
    Ban::src(
        Call::Path("std::net::ToSocketAddrs::to_socket_addrs"),
        RESOLVE,
    ),
    Ban::src(Call::Macro("print"), PRINT),
    Ban::src(Call::Macro("println"), PRINT),
    Ban::src(Call::Macro("eprint"), PRINT),
    Ban::src(Call::Macro("eprintln"), PRINT),
    Ban::everywhere(Call::Macro("dbg"), PRINT),
    Ban::src(Call::Path("std::process::exit"), EXIT),
    Ban::src(Call::Path("std::process::abort"), EXIT),
    Ban::everywhere(Call::Macro("todo"), LATER),
    Ban::everywhere(Call::Macro("unimplemented"), LATER),
];

fn banned_calls(files: &[File], crates: &[String]) -> Vec<Offence> {
    let mut offences = Vec::new();
    for file in files.iter().filter(|file| file.is_rust()) {
        let bans: Vec<&Ban> = BANS.iter().filter(|ban| ban.is_for(file)).collect();
        if bans.is_empty() {
            continue;
        }
        let source = Source::of(file);
        let paths = paths(&source, crates);
        for Ban { call, instead, .. } in bans {
            let (name, lines): (String, Vec<usize>) = match call {
                Call::Path(whole) => {
                    let named = paths.iter().filter(|path| path.names(whole));
                    ((*whole).to_owned(), named.map(|path| path.line).collect())
                }
                Call::Method(name) => {
                    let lines = lines_with(&source, &[".", name, "("]);
                    (format!(".{name}()"), lines)
                }
                Call::Macro(name) => (format!("{name}!"), lines_with(&source, &[name, "!"])),
            };
            let offence = |line| Offence::new(file, line, format!("`{name}`: {instead}"));
            offences.extend(lines.into_iter().map(offence));
        }
    }
    offences
}

/// The lines where these tokens follow each other.
fn lines_with(source: &Source<'_>, words: &[&str]) -> Vec<usize> {
    let found = source.tokens.windows(words.len()).filter(|tokens| {
        let texts = tokens.iter().map(|token| token.text);
        texts.eq(words.iter().copied())
    });
    found.map(|tokens| tokens[0].line).collect()
}

/// Panics on the absence of a value, without a word on why it cannot be absent.
fn bare_unwraps(files: &[File]) -> Vec<Offence> {
    let mut offences = Vec::new();
    for file in files
        .iter()
        .filter(|file| file.is_rust() && file.is_under("src/"))
    {
        let source = Source::of(file);
        for (at, pair) in source.tokens.windows(2).enumerate() {
            let (before, name) = (pair[0].text, pair[1].text);
            let lint = match name {
                "unwrap" | "unwrap_err" => "clippy::unwrap_used",
                "expect" | "expect_err" => "clippy::expect_used",
                _ => continue,
            };
            // A method of the file's own type that happens to have the name.
            let is_own = at > 0 && source.tokens[at - 1].text == "self";
            let is_call = matches!(before, "." | "::") && !is_own;
            if is_call && !source.is_test(at) && !source.expects(lint, at) {
                let message = format!(
                    "`{name}` without a reason: nothing that a peer sends may panic. Handle the \
                     other case, or write #[expect({lint}, reason = \"why it holds\")] above"
                );
                offences.push(Offence::new(file, pair[1].line, message));
            }
        }
    }
    offences
}

fn ignored_tests(files: &[File]) -> Vec<Offence> {
    let mut offences = Vec::new();
    for file in files.iter().filter(|file| file.is_rust()) {
        for attribute in Source::of(file).attributes {
            let text = attribute.text;
            if text.starts_with("#[ignore")
                || text.starts_with("#[cfg_attr(") && text.contains(",ignore")
            {
                let message = "a test that is not run holds nothing: make it fast or make it \
                               sure, or delete it";
                offences.push(Offence::new(file, attribute.line, message));
            }
        }
    }
    offences
}

#[test]
fn nobody_calls_what_is_banned() {
    let files = files();
    holds(&banned_calls(&files, &known_crates(&files)));
}

#[test]
fn every_unwrap_has_its_reason() {
    holds(&bare_unwraps(&files()));
}

#[test]
fn every_test_is_run() {
    holds(&ignored_tests(&files()));
}

#[test]
fn every_exception_is_still_needed() {
    let files = files();
    for ban in BANS {
        for path in ban.except {
            let is_it = |file: &&File| file.path == *path;
            let file = files.iter().find(is_it).map(Source::of);
            let name = match ban.call {
                Call::Path(whole) => whole.rsplit("::").next().unwrap_or(whole),
                Call::Method(name) | Call::Macro(name) => name,
            };
            let calls = |source: Source<'_>| source.tokens.iter().any(|token| token.text == name);
            assert!(file.is_some_and(calls), "{path} has no `{name}` any more");
        }
    }
}

#[track_caller]
fn check(path: &str, text: &str, because: &str) {
    let offences = banned_calls(&[File::new(path, text)], &["mio".to_owned()]);
    refuses(&offences, usize::from(!because.is_empty()), because);
}

#[test]
fn a_banned_call_is_found_however_it_is_written() {
    let src = "src/net/new.rs";
    check(src, "fn f() { std::time::Instant::now() }", "once a turn");
    check(
        src,
        "use std::time::*; fn f() { Instant::now() }",
        "once a turn",
    );
    check(
        src,
        "use std::time; fn f() { x.map(time::SystemTime::now) }",
        "once a turn",
    );
    check(src, "use std::thread::{sleep, spawn};", "set a deadline");
    check(
        "tests/new.rs",
        "fn f() { std::thread::sleep(x) }",
        "eventually",
    );
    check(
        src,
        "use std::net as n; fn f() { n::TcpStream::connect(x) }",
        "mio::net",
    );
    check(src, "fn f() { x\n  .to_socket_addrs() }", "resolver");
    check(src, "fn f() { println!() }", "pipe");
    check(src, "#[cfg(test)] mod t { fn f() { dbg!(x) } }", "pipe");
    check(
        "src/main.rs",
        "use std::process; fn f() { process::exit(1) }",
        "goodbyes",
    );
    check(src, "fn f() { todo!() }", "not merged");
}

#[test]
fn a_call_that_only_looks_like_a_banned_one_is_none() {
    let src = "src/net/new.rs";
    check(
        src,
        "use mio::net::TcpStream; fn f() { TcpStream::connect(x) }",
        "",
    );
    check(
        src,
        "// Instant::now()\nfn f() { \"println!\"; clock::now() }",
        "",
    );
    check("src/clock.rs", "fn f() { std::time::Instant::now() }", "");
    check("tests/new.rs", "fn f() { println!() }", "");
}

#[test]
fn an_unwrap_without_a_reason_is_refused() {
    let check = |text: &str, times| {
        let offences = bare_unwraps(&[File::new("src/new.rs", text)]);
        refuses(&offences, times, "why it holds");
    };
    check("fn f() { x.unwrap() }", 1);
    check("fn f() { x\n  .expect(\"y\"); z.map(Option::unwrap) }", 2);
    check("#[expect(clippy::unwrap_used)] fn f() { x.unwrap() }", 1);
    check(
        "#[expect(clippy::expect_used, reason = \"y\")] fn f() { x.unwrap() }",
        1,
    );
    check(
        "#[expect(clippy::unwrap_used, reason = \"y\")] fn f() { x.unwrap() }",
        0,
    );
    check(
        "fn f() { #[expect(clippy::unwrap_used, reason = \"y\")] let y = x.unwrap(); x.unwrap() }",
        1,
    );
    check("#[cfg(test)] mod tests { fn f() { x.unwrap() } }", 0);
    check(
        "fn f() { x.unwrap_or(y); expect(z); self.expect(z); self.x.unwrap() }",
        1,
    );
}

#[test]
fn a_test_that_is_not_run_is_refused() {
    let check = |text: &str, times| {
        let offences = ignored_tests(&[File::new("tests/new.rs", text)]);
        refuses(&offences, times, "holds nothing");
    };
    check("#[test] #[ignore] fn f() {}", 1);
    check("#[test] #[ignore = \"slow\"] fn f() {}", 1);
    check("#[cfg_attr(unix, ignore)] fn f() {}", 1);
    check("#[test] fn ignore() {}", 0);
}
