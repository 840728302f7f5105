//! From arguments and environment to a command: flag before variable before default, and one line
//! about what is wrong. Arguments and environment come in as values; it must never print, and
//! never repeat what may be a password.

use std::ffi::OsString;

use lexopt::{Arg, Parser};
use sundown::error::Error;

use super::healthcheck::Probe;
use super::settings::{SETTINGS, Setting, Settings, VARIABLE_PREFIX};
use super::shutdown_report;

/// What the user asked for.
#[derive(Debug)]
pub(crate) enum Command {
    Serve(Box<Settings>),
    Healthcheck(Box<Settings>, Probe),
    Smoke(Box<Settings>),
    Broadcast(Box<Settings>, String),
    ShutdownReport(shutdown_report::Request),
    /// About all of it, or about one command.
    Help(Option<&'static str>),
    Version,
}

/// What cannot be understood, as one line without a password.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Usage(pub(crate) String);

/// A variable of the environment, by its name.
pub(crate) type Environment<'a> = &'a dyn Fn(&str) -> Option<OsString>;

/// Reads the command line (without the program's name) and the variables of all settings.
pub(crate) fn parse(
    args: impl IntoIterator<Item = OsString>,
    environment: Environment<'_>,
) -> Result<Command, Usage> {
    let mut parser = Parser::from_args(args);
    let mut command: Option<Word> = None;
    let mut flags: Vec<(&Setting, OsString)> = Vec::new();
    let mut said: Option<OsString> = None;
    let mut probe = Probe::Ready;
    while let Some(arg) = parser.next().map_err(|error| refuse_lexopt(&error))? {
        match arg {
            Arg::Short('h') | Arg::Long("help") => {
                return Ok(Command::Help(command.and_then(Word::with_help)));
            }
            Arg::Short('V') | Arg::Long("version") => return Ok(Command::Version),
            Arg::Long("live") => probe = Probe::Live,
            Arg::Long(name) => {
                let setting = find(name)?;
                let value = parser.value().map_err(|error| refuse_lexopt(&error))?;
                flags.push((setting, value));
            }
            Arg::Short(letter) => return Err(unknown(&format!("-{letter}"), "flag")),
            Arg::Value(json) if command == Some(Word::Broadcast) && said.is_none() => {
                said = Some(json);
            }
            Arg::Value(word) => {
                let known = Word::from_text(&word.to_string_lossy())?;
                if known == Word::ShutdownReport && command.is_none() && flags.is_empty() {
                    return shutdown_report(parser);
                }
                if command.replace(known).is_some() {
                    return Err(Usage("expected one command, not several".to_owned()));
                }
            }
        }
    }
    let word = command.unwrap_or(Word::Serve);
    if word == Word::Help {
        return Ok(Command::Help(None));
    }
    if probe == Probe::Live && word != Word::Healthcheck {
        return Err(Usage("--live is for healthcheck alone".to_owned()));
    }
    let settings = Box::new(settle(&flags, environment, word == Word::Serve)?);
    Ok(match word {
        Word::Broadcast => Command::Broadcast(settings, to_say(said)?),
        Word::Serve => Command::Serve(settings),
        Word::Healthcheck => Command::Healthcheck(settings, probe),
        Word::Smoke => Command::Smoke(settings),
        Word::ShutdownReport => return Err(no_settings()),
        Word::Help => Command::Help(None),
    })
}

/// The JSON behind `broadcast`. It is for the server to say whether it is any.
fn to_say(json: Option<OsString>) -> Result<String, Usage> {
    let json = json.and_then(|json| json.into_string().ok());
    json.ok_or_else(|| Usage("broadcast: expected JSON, such as '\"hello\"'".into()))
}

/// What stands behind `shutdown-report`, which knows no setting.
fn shutdown_report(mut parser: Parser) -> Result<Command, Usage> {
    let (mut source, mut svg) = (None, false);
    while let Some(arg) = parser.next().map_err(|error| refuse_lexopt(&error))? {
        match arg {
            Arg::Short('h') | Arg::Long("help") => {
                return Ok(Command::Help(Word::ShutdownReport.with_help()));
            }
            Arg::Long("svg") => svg = true,
            Arg::Long(_) | Arg::Short(_) => return Err(no_settings()),
            Arg::Value(path) => {
                if source.replace(path.into()).is_some() {
                    return Err(Usage(
                        "shutdown-report: expected one file, not several".into(),
                    ));
                }
            }
        }
    }
    let source = source.ok_or_else(|| {
        Usage("shutdown-report: expected a file with the output of a server, or -".into())
    })?;
    Ok(Command::ShutdownReport(shutdown_report::Request {
        source,
        svg,
    }))
}

fn no_settings() -> Usage {
    Usage("shutdown-report takes FILE or -, and --svg, and no setting".into())
}

/// Names of variables that look like settings and are none: most likely typing errors. They do no
/// harm, so they are worth a warning and not a refusal to start. Kubernetes sets `…_SERVICE_HOST`
/// and `…_PORT…` for every service whose name begins with ours; those are not worth a word.
pub(crate) fn unknown_variables(names: impl Iterator<Item = OsString>) -> Vec<String> {
    let known: Vec<String> = SETTINGS.iter().map(Setting::variable).collect();
    let names = names.filter_map(|name| name.into_string().ok());
    let ours = names.filter(|name| name.starts_with(VARIABLE_PREFIX));
    let kubernetes = |name: &str| name.contains("_SERVICE_HOST") || name.contains("_PORT");
    let mut unknown: Vec<String> = ours
        .filter(|name| !known.contains(name) && !kubernetes(name))
        .collect();
    unknown.sort_unstable();
    unknown
}

/// The words that name a command.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Word {
    Serve,
    Healthcheck,
    Smoke,
    Broadcast,
    ShutdownReport,
    Help,
}

impl Word {
    /// The name of a command that has a help of its own.
    fn with_help(self) -> Option<&'static str> {
        match self {
            Self::Serve | Self::Help => None,
            Self::Healthcheck => Some("healthcheck"),
            Self::Smoke => Some("smoke"),
            Self::Broadcast => Some("broadcast"),
            Self::ShutdownReport => Some("shutdown-report"),
        }
    }

    fn from_text(text: &str) -> Result<Self, Usage> {
        match text {
            "serve" => Ok(Self::Serve),
            "healthcheck" => Ok(Self::Healthcheck),
            "smoke" => Ok(Self::Smoke),
            "broadcast" => Ok(Self::Broadcast),
            "shutdown-report" => Ok(Self::ShutdownReport),
            "help" => Ok(Self::Help),
            other => Err(Usage(format!(
                "{}: no such command; expected serve, healthcheck, smoke, broadcast, \
                 shutdown-report or help",
                shown(other)
            ))),
        }
    }
}

/// Flag before variable before default, for each setting in the order of the table.
fn settle(
    flags: &[(&Setting, OsString)],
    environment: Environment<'_>,
    validate: bool,
) -> Result<Settings, Usage> {
    let mut settings = Settings::default();
    let mut from_environment = Vec::new();
    for setting in SETTINGS {
        let given = flags.iter().filter(|(other, _)| other.name == setting.name);
        let mut by_flag = false;
        // Whoever starts us through a script adds flags at its end: the last one counts.
        for (_, value) in given {
            apply(
                &mut settings,
                setting,
                &format!("--{}", setting.name),
                value,
            )?;
            by_flag = true;
        }
        // Compose files pass `${NAME:-}` on: empty is how they say "not set".
        let is_set = |value: &OsString| value.to_str().is_none_or(|text| !text.trim().is_empty());
        let variable = environment(&setting.variable()).filter(is_set);
        if let (false, Some(value)) = (by_flag, variable) {
            apply(&mut settings, setting, &setting.variable(), &value)?;
            from_environment.push(setting);
        }
    }
    if validate {
        let verdict = settings.config.validate();
        verdict.map_err(|error| refuse_config(&error, &from_environment))?;
    }
    Ok(settings)
}

fn apply(
    settings: &mut Settings,
    setting: &Setting,
    place: &str,
    value: &OsString,
) -> Result<(), Usage> {
    // What comes from a file (a mounted secret, mostly) ends in a line break.
    let text = value.to_str().map(str::trim);
    let taken = text.and_then(|text| (setting.apply)(settings, text));
    taken.ok_or_else(|| {
        let given = match text {
            Some(_) if setting.secret => NOT_SHOWN.to_owned(),
            Some(text) => shown(text),
            None => "(not UTF-8)".to_owned(),
        };
        match text.and_then(setting.explain) {
            Some(why) => Usage(format!("{place} {given}: {why}")),
            None => Usage(format!("{place} {given}: expected {}", setting.expected)),
        }
    })
}

fn find(name: &str) -> Result<&'static Setting, Usage> {
    let found = SETTINGS.iter().find(|setting| setting.name == name);
    found.ok_or_else(|| unknown(&format!("--{name}"), "flag"))
}

fn unknown(given: &str, what: &str) -> Usage {
    let given = if may_be_secret(given) {
        NOT_SHOWN.to_owned()
    } else {
        given.escape_debug().take(SHOWN_MAX).collect()
    };
    Usage(format!("{given}: no such {what}; see sundown --help"))
}

/// lexopt's own texts repeat values; ours do not.
fn refuse_lexopt(error: &lexopt::Error) -> Usage {
    if let lexopt::Error::MissingValue {
        option: Some(option),
    } = error
    {
        let name = option.trim_start_matches('-');
        let setting = SETTINGS.iter().find(|setting| setting.name == name);
        let expected = setting.map_or("a value", |setting| setting.expected);
        return Usage(format!("{option} without a value: expected {expected}"));
    }
    Usage("the arguments make no sense; see sundown --help".to_owned())
}

/// `Config::validate` names settings by their flags; whoever set one through its variable is told
/// that name instead.
fn refuse_config(error: &Error, from_environment: &[&Setting]) -> Usage {
    let mut text = error.to_string();
    for setting in from_environment {
        text = text.replace(&format!("--{}", setting.name), &setting.variable());
    }
    Usage(text)
}

const NOT_SHOWN: &str = "(not shown: it may hold a password)";

/// The most characters of a value that are repeated.
const SHOWN_MAX: usize = 80;

/// What was given: quoted, on one line, not too long, and no URL.
fn shown(text: &str) -> String {
    if may_be_secret(text) {
        return NOT_SHOWN.to_owned();
    }
    let short: String = text.chars().take(SHOWN_MAX).collect();
    let more = if short.len() < text.len() { "…" } else { "" };
    format!("{short:?}{more}")
}

/// A store's URL can end up behind the wrong flag. That of a web page has a password only before an
/// `@` or behind a `?`.
fn may_be_secret(text: &str) -> bool {
    let web = ["http://", "https://", "ws://", "wss://"];
    let is_web = web.iter().any(|scheme| text.starts_with(scheme)) && !text.contains('?');
    text.contains("://") && !is_web || text.contains('@')
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::ffi::OsStringExt;
    use std::path::Path;
    use sundown::config::StoreConfig;

    type Variables<'a> = &'a [(&'a str, &'a str)];

    fn run(args: &[&str], variables: Variables<'_>) -> Result<Command, Usage> {
        let find = |name: &str| variables.iter().find(|(known, _)| *known == name);
        let environment = |name: &str| find(name).map(|(_, value)| OsString::from(value));
        parse(args.iter().map(OsString::from), &environment)
    }

    /// The settings that a command line and an environment lead to.
    fn settings(args: &[&str], variables: Variables<'_>) -> Settings {
        match run(args, variables) {
            Ok(
                Command::Serve(settings)
                | Command::Healthcheck(settings, _)
                | Command::Smoke(settings)
                | Command::Broadcast(settings, _),
            ) => *settings,
            other @ (Ok(Command::ShutdownReport(_) | Command::Help(_) | Command::Version)
            | Err(_)) => {
                panic!("{other:?}")
            }
        }
    }

    #[track_caller]
    fn check_refused(args: &[&str], variables: Variables<'_>, expected: &str) {
        let Usage(line) = run(args, variables).expect_err("an error");
        assert_eq!(line, expected);
    }

    #[test]
    fn flag_beats_variable_beats_default() {
        let variable = [("SUNDOWN_MAX_CONNECTIONS", "7")];
        let connections = |args: &[&str], variables: Variables<'_>| {
            settings(args, variables).config.limits.connections_max
        };
        assert_eq!(connections(&[], &[]), 10_000);
        assert_eq!(connections(&[], &variable), 7);
        assert_eq!(connections(&["--max-connections", "8"], &variable), 8);
        assert_eq!(connections(&["--max-connections=8"], &variable), 8);
        let twice = ["--max-connections=8", "serve", "--max-connections=9"];
        assert_eq!(connections(&twice, &variable), 9);
        assert_eq!(connections(&[], &[("SUNDOWN_MAX_CONNECTIONS", "")]), 10_000);
        // A variable that a flag overrides is not even looked at.
        let bad = [("SUNDOWN_MAX_CONNECTIONS", "many")];
        assert_eq!(connections(&["--max-connections=8"], &bad), 8);
    }

    #[test]
    fn every_setting_has_a_flag_and_a_variable() {
        for setting in SETTINGS {
            let flag = format!("--{}", setting.name);
            let default = format!("{:?}", settings(&[], &[]));
            let by_flag = settings(&[&flag, setting.default], &[]);
            let by_variable = settings(&[], &[(&setting.variable(), setting.default)]);
            assert_eq!(format!("{by_flag:?}"), default);
            assert_eq!(format!("{by_variable:?}"), default);
            let Usage(line) = run(&[], &[(&setting.variable(), "\n\u{1}")]).expect_err("an error");
            assert!(line.starts_with(&setting.variable()), "{line}");
            assert!(!line.contains('\n'), "{line}");
        }
    }

    #[test]
    fn commands() {
        let name = |args: &[&str]| match run(args, &[]) {
            Ok(Command::Serve(_)) => "serve",
            Ok(Command::Healthcheck(_, Probe::Ready)) => "healthcheck",
            Ok(Command::Healthcheck(_, Probe::Live)) => "healthcheck --live",
            Ok(Command::Smoke(_)) => "smoke",
            Ok(Command::Help(_)) => "help",
            Ok(Command::Version) => "version",
            Ok(Command::ShutdownReport(_)) => "shutdown-report",
            Ok(Command::Broadcast(..)) => "broadcast",
            Err(_) => "error",
        };
        for command in ["healthcheck", "smoke", "broadcast", "shutdown-report"] {
            let Ok(Command::Help(about)) = run(&[command, "--help"], &[]) else {
                panic!("{command}");
            };
            assert_eq!(about, Some(command));
        }
        assert_eq!(name(&["--help", "smoke"]), "help");
        assert_eq!(name(&[]), "serve");
        assert_eq!(name(&["serve", "--app", "echo"]), "serve");
        assert_eq!(name(&["--app=echo", "serve"]), "serve");
        assert_eq!(name(&["healthcheck"]), "healthcheck");
        let live = ["healthcheck", "--live", "--admin=[::1]:9"];
        assert_eq!(name(&live), "healthcheck --live");
        assert_eq!(name(&["--live"]), "error");
        assert_eq!(name(&["smoke", "--live"]), "error");
        assert_eq!(name(&["healthcheck", "--live=1"]), "error");
        assert_eq!(name(&["smoke", "--app=echo"]), "smoke");
        for help in ["help", "--help", "-h"] {
            assert_eq!(name(&[help]), "help");
        }
        assert_eq!(name(&["healthcheck", "--help"]), "help");
        assert_eq!(name(&["--version"]), "version");
        assert_eq!(name(&["-V"]), "version");
        assert_eq!(name(&["serve", "healthcheck"]), "error");
        assert_eq!(name(&["start"]), "error");
        assert_eq!(name(&["broadcast", "[]"]), "broadcast");
        assert_eq!(name(&["broadcast", "--admin=[::1]:9", "[]"]), "broadcast");
        assert_eq!(name(&["broadcast", "--", "-1"]), "broadcast");
        assert_eq!(name(&["broadcast"]), "error");
        assert_eq!(name(&["broadcast", "[]", "[]"]), "error");
    }

    #[test]
    fn errors_say_what_was_given_where_and_what_is_expected() {
        check_refused(
            &["--listen", "localhost:8000"],
            &[],
            "--listen \"localhost:8000\": expected IP:PORT, such as 127.0.0.1:8000 or \
             [::1]:8000 (a name is not looked up), or unix:PATH",
        );
        check_refused(
            &[],
            &[("SUNDOWN_DRAIN_TIMEOUT", "5\nx")],
            "SUNDOWN_DRAIN_TIMEOUT \"5\\nx\": expected a duration with its unit, such as 500ms, \
             10s or 1m 30s",
        );
        check_refused(
            &["--app"],
            &[],
            "--app without a value: expected chat or echo",
        );
        check_refused(
            &["--shutdown-timeuot", "3s"],
            &[],
            "--shutdown-timeuot: no such flag; see sundown --help",
        );
        check_refused(&["-x"], &[], "-x: no such flag; see sundown --help");
        check_refused(
            &["start"],
            &[],
            "\"start\": no such command; expected serve, healthcheck, smoke, broadcast, \
             shutdown-report or help",
        );
    }

    #[test]
    fn contradictions_name_the_variable_that_they_come_from() {
        check_refused(
            &["--notify-timeout", "2s"],
            &[("SUNDOWN_DRAIN_TIMEOUT", "1s")],
            "SUNDOWN_DRAIN_TIMEOUT 1s: expected at least --notify-timeout (2s)",
        );
        // What who only asks does not need cannot make it fail.
        settings(&["healthcheck", "--drain-timeout", "1ms"], &[]);
        settings(&["smoke", "--drain-timeout", "1ms"], &[]);
    }

    #[test]
    fn a_line_break_at_the_end_of_a_value_is_not_part_of_it() {
        let variables = [
            ("SUNDOWN_STORE", "sqlite:/data/s.db\n"),
            ("SUNDOWN_SPILL", "sqlite:/data/spill.db\r\n"),
            ("SUNDOWN_LISTEN", " 0.0.0.0:80\n"),
            ("SUNDOWN_APP", "\n"),
        ];
        let config = settings(&["--max-connections", "7\n"], &variables).config;
        assert_eq!(config.store, StoreConfig::Sqlite("/data/s.db".into()));
        assert_eq!(config.spill, Path::new("/data/spill.db"));
        assert_eq!(config.listen, "0.0.0.0:80".parse().unwrap());
        assert_eq!(config.limits.connections_max, 7);
    }

    #[test]
    fn addresses_that_are_almost_right_are_told_how_they_are_written() {
        let url = "http://127.0.0.1:8000/";
        check_refused(
            &[],
            &[("SUNDOWN_LISTEN", url)],
            "SUNDOWN_LISTEN \"http://127.0.0.1:8000/\": expected IP:PORT and nothing else: \
             127.0.0.1:8000",
        );
        check_refused(
            &["--admin", "ws://localhost:1"],
            &[],
            "--admin \"ws://localhost:1\": expected IP:PORT without ws://, such as \
             127.0.0.1:8001",
        );
        let expected = "(not shown: it may hold a password): two slashes make it a URL, which it \
                        is not: write sqlite:/PATH for an absolute path, or sqlite:PATH";
        for flag in ["--store", "--spill"] {
            for path in ["sqlite://x.db", "sqlite:///var/lib/x.db"] {
                let Usage(line) = run(&[flag, path], &[]).expect_err("an error");
                assert_eq!(line, format!("{flag} {expected}"));
            }
        }
    }

    #[test]
    fn no_password_is_repeated() {
        let url = "redis://user:secret@host";
        let args: &[&[&str]] = &[
            &["--store", "redi://:secret@h"],
            &["--store", "redis:secret"],
            &["--listen", url],
            &["--listen", "http://user:secret@h"],
            &["--listen", "http://h/?pass=secret"],
            &["--allowed-origins", url],
            &["--allowed-origins", "redis+unix:///s?pass=secret"],
            &["--redis://:secret@h"],
            &["--stor", url],
            &["--help-me=redis://:secret@h"],
            &["serve", url],
            &[url],
        ];
        for args in args {
            let Usage(line) = run(args, &[]).expect_err("an error");
            assert!(!line.contains("secret"), "{line}");
        }
        let Usage(line) = run(&[], &[("SUNDOWN_STORE", "secret@h")]).expect_err("an error");
        assert!(!line.contains("secret"), "{line}");
    }

    #[test]
    fn values_must_be_utf8() {
        let args = [
            OsString::from("--store"),
            OsString::from_vec(vec![b's', 0xff]),
        ];
        let Usage(line) = parse(args, &|_| None).expect_err("an error");
        assert!(
            line.starts_with("--store (not UTF-8): expected memory:"),
            "{line}"
        );
    }

    #[test]
    fn variables_that_are_no_settings_are_found_except_those_of_kubernetes() {
        let names = [
            "PATH",
            "SUNDOWN_LISTEN",
            "SUNDOWN_SHUTDOWN_TIMEUOT",
            "SUNDOWN_PORT",
            "SUNDOWN_SERVICE_HOST",
            "SUNDOWN_PORT_8000_TCP_ADDR",
            "SUNDOWN_BLUE_SERVICE_PORT_WS",
            "SUNDOWN_FOO",
        ];
        let unknown = unknown_variables(names.iter().map(OsString::from));
        assert_eq!(unknown, ["SUNDOWN_FOO", "SUNDOWN_SHUTDOWN_TIMEUOT"]);
    }
}
