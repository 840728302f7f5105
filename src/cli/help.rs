//! The text of `--help`, made from the table of settings and wrapped for 80 columns. It must never
//! say anything about a setting that is not in the table.

use std::fmt::Write as _;

use super::settings::{Group, SETTINGS, Setting};

/// What terminals show without breaking a line.
const COLUMNS: usize = 80;

const HEAD: &str = "\
sundown: a WebSocket server that says goodbye properly.

Usage: sundown [serve] [FLAGS]      serve until SIGTERM or SIGINT
       sundown healthcheck [--live] [FLAGS]
                                    ask /readyz of a running server, or /healthz
       sundown smoke [FLAGS]        be served by it once, as a client is
       sundown broadcast [FLAGS] JSON
                                    have it say something to every client
       sundown shutdown-report [--svg] FILE|-
                                    draw the last report in a server's output
       sundown help

Every flag is also an environment variable, --shutdown-timeout for example
SUNDOWN_SHUTDOWN_TIMEOUT. The flag beats the variable, and the variable beats
the default. An empty variable counts as not set. A variable that begins with
SUNDOWN_ and is no setting is named in a warning at the start.

Durations are written 500ms, 10s or 1m 30s; sizes 65536, 64KiB or 1MiB.
";

const SIGNALS: &str = "
Other flags:
  -h, --help     this text
  -V, --version  the version

Signals:
  SIGTERM, SIGINT  the first: graceful shutdown, all phases
                   the second: no more draining, save and say goodbye now
                   the third: cut all connections and exit, after the spill

Exit codes of `sundown serve`:
   0  every session is safe, in the store or in the spill
   1  something was lost (the report names it), or the server could not start
      or go on
  64  bad configuration: one line on standard error says what to change
";

/// A command that asks a running server, or about one.
struct About {
    name: &'static str,
    arguments: &'static str,
    text: &'static str,
    /// What it reads of the settings.
    settings: &'static [&'static str],
    example: &'static str,
}

const ABOUTS: [About; 4] = [
    About {
        name: "healthcheck",
        arguments: "[--live] [FLAGS]",
        text: "\
`sundown healthcheck` exits with 0 when /readyz answers 200 within 2 seconds,
on --admin if there is one, else on --listen; with 1 when it does not; and
with 64 on a bad configuration. With --live it asks /healthz, which is 200
whatever the store says: for a supervisor that restarts on a failure.",
        settings: &["admin", "listen"],
        example: "sundown healthcheck --admin 127.0.0.1:8001",
    },
    About {
        name: "smoke",
        arguments: "[FLAGS]",
        text: "\
`sundown smoke` connects to --listen as a client with a new session, sends one
message, and closes. It exits with 0 when the hello, the count and the closing
handshake are those of --app chat, all within 5 seconds, whatever its own --app
says; with 1 when they are not: one line on standard error says at which step,
and what came instead; and with 64 on a bad configuration. The session stays in
the store until the server's --session-ttl is over.",
        settings: &["listen", "path"],
        example: "sundown smoke --listen 127.0.0.1:8000",
    },
    About {
        name: "broadcast",
        arguments: "[FLAGS] JSON",
        text: "\
`sundown broadcast` hands any JSON of up to 64 KiB to a running server, on its
--admin; each client of every node gets it as {\"broadcast\":...}. It prints for
how many of that node's clients it was queued, and exits with 0; with 1 when it
was refused (503: the server shuts down) or nobody answers within 10 seconds.",
        settings: &["admin"],
        example: "sundown broadcast '{\"text\":\"a deploy in 5 minutes\"}'",
    },
    About {
        name: "shutdown-report",
        arguments: "[--svg] FILE|-",
        text: "\
`sundown shutdown-report` reads what a server has printed, from a file or from
standard input, and draws the last report in it as a time line; with --svg as
an SVG. What a supervisor writes in front of a line is let pass; Docker's
json-file logs and `journalctl -o json` are read, too. It exits with 0, and
with 1 when there is no report or the last one is not whole.",
        settings: &[],
        example: "docker logs app_blue | sundown shutdown-report -",
    },
];

const TAIL: &str = "
Output: addresses, the store and `ready` on standard output, and the report,
one JSON object, as its last line; the log on standard error. A reader that
does not keep up loses lines; it never holds up the server.

Started by systemd with Type=notify, or by anything else that sets
NOTIFY_SOCKET, it sends READY=1 together with `ready`, STOPPING=1 at the first
signal, and STATUS= lines.

Examples:
  sundown
  sundown --listen 0.0.0.0:8000 --store sqlite:/var/lib/sundown/sessions.db
  SUNDOWN_STORE=redis://:password@redis:6379 sundown --admin 0.0.0.0:8001
  sundown --app echo --admin off
  sundown healthcheck --admin 127.0.0.1:8001
  sundown smoke --listen 127.0.0.1:8000
  sundown broadcast '{\"text\":\"a deploy in 5 minutes\"}'
  docker logs app_blue | sundown shutdown-report -
";

/// The whole text, or that about one command, with a line break at its end.
pub(crate) fn text(command: Option<&str>) -> String {
    let about = ABOUTS.iter().find(|about| command == Some(about.name));
    about.map_or_else(whole, one)
}

fn one(about: &About) -> String {
    let About {
        name,
        arguments,
        text,
        settings,
        example,
    } = about;
    let mut out = format!("Usage: sundown {name} {arguments}\n\n{text}\n");
    if !settings.is_empty() {
        append(
            &mut out,
            format_args!("\nFlags, and variables as of the server:\n"),
        );
        for setting in SETTINGS.iter().filter(|it| settings.contains(&it.name)) {
            list(&mut out, setting);
        }
    }
    append(&mut out, format_args!("\nExample:\n  {example}\n"));
    out
}

fn whole() -> String {
    let mut out = HEAD.to_owned();
    for group in Group::ALL {
        let (title, about) = group.heading();
        append(&mut out, format_args!("\n{title}:\n"));
        wrap(&mut out, 2, about);
        for setting in SETTINGS.iter().filter(|setting| setting.group == group) {
            list(&mut out, setting);
        }
    }
    out.push_str(SIGNALS);
    for about in &ABOUTS {
        append(&mut out, format_args!("\n{}\n", about.text));
    }
    out.push_str(TAIL);
    out
}

fn list(out: &mut String, setting: &Setting) {
    let (name, metavar) = (setting.name, setting.metavar);
    let default = setting.default;
    append(
        out,
        format_args!("  --{name} {metavar}  [default: {default}]\n"),
    );
    wrap(out, 6, setting.help);
}

/// Adds words to lines of at most [`COLUMNS`], each indented.
fn wrap(out: &mut String, indent: usize, text: &str) {
    let mut column = 0;
    for word in text.split_whitespace() {
        let width = word.chars().count();
        if column == 0 {
            append(out, format_args!("{:indent$}{word}", ""));
            column = indent + width;
        } else if column + 1 + width > COLUMNS {
            append(out, format_args!("\n{:indent$}{word}", ""));
            column = indent + width;
        } else {
            append(out, format_args!(" {word}"));
            column += 1 + width;
        }
    }
    if column > 0 {
        out.push('\n');
    }
}

fn append(out: &mut String, text: std::fmt::Arguments<'_>) {
    #[expect(clippy::expect_used, reason = "a String takes everything")]
    out.write_fmt(text).expect("a String takes everything");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_command_has_a_help_of_its_own_that_is_part_of_the_whole() {
        let whole = text(None);
        for about in &ABOUTS {
            let own = text(Some(about.name));
            assert!(
                own.starts_with(&format!("Usage: sundown {} ", about.name)),
                "{own}"
            );
            assert!(
                whole.contains(about.text) && own.contains(about.text),
                "{own}"
            );
            assert!(whole.contains(about.example), "{}", about.example);
            assert!(own.len() < whole.len() / 3, "{own}");
            assert!(!own.contains("--session-ttl DURATION"), "{own}");
            assert!(
                own.lines().all(|line| line.chars().count() <= COLUMNS),
                "{own}"
            );
            for name in about.settings {
                assert!(own.contains(&format!("\n  --{name} ")), "{name}");
            }
        }
    }

    #[test]
    fn it_names_every_setting_with_its_default_and_fits_the_terminal() {
        let text = text(None);
        for setting in SETTINGS {
            let (name, metavar) = (setting.name, setting.metavar);
            let line = format!("  --{name} {metavar}  [default: {}]\n", setting.default);
            assert!(text.contains(&line), "{line}");
            assert!(!setting.help.is_empty(), "{name}");
        }
        for line in text.lines() {
            assert!(line.chars().count() <= COLUMNS, "{line}");
            assert_eq!(line, line.trim_end());
        }
    }
}
