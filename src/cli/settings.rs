//! The table of settings: the one place that flags, environment variables, `--help` and defaults
//! come from. It turns the text of one value into one field; what fields mean together is for
//! `Config::validate`. It must never read the process's arguments or environment.

mod values;

use log::LevelFilter;
use sundown::config::{Config, StoreConfig};
use sundown::store::redis::RedisStore;

use super::logger::Format;
use values::{
    address_in_url, bytes, durability, duration, level, log_format, origins, sqlite_path,
    sqlite_url, store, switch,
};

/// What the command line decides: the library's configuration, the application to serve, and what
/// is said about it.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) config: Config,
    pub(crate) app: App,
    pub(crate) log: LevelFilter,
    pub(crate) log_format: Format,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            config: Config {
                web: true,
                ..Config::default()
            },
            app: App::Chat,
            log: LevelFilter::Info,
            log_format: Format::Auto,
        }
    }
}

/// The applications that come with the binary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum App {
    Chat,
    Echo,
}

/// One setting, as people see it.
pub(crate) struct Setting {
    /// The flag without its dashes; the variable is made from it.
    pub(crate) name: &'static str,
    /// What stands for the value in `--help`.
    pub(crate) metavar: &'static str,
    /// The default, as one would type it.
    pub(crate) default: &'static str,
    pub(crate) group: Group,
    /// Meaning, unit, and what breaks if it is wrong.
    pub(crate) help: &'static str,
    /// What a good value looks like, for the error about a bad one.
    pub(crate) expected: &'static str,
    /// Whether the value may hold a password, and so is never shown.
    pub(crate) secret: bool,
    /// Takes the text, or gives `None`.
    pub(crate) apply: fn(&mut Settings, &str) -> Option<()>,
    /// Says what is wrong with a text that was not taken, without repeating it, if there is more
    /// to say than what a good value looks like.
    pub(crate) explain: fn(&str) -> Option<String>,
}

impl Setting {
    /// The environment variable: `SUNDOWN_SHUTDOWN_TIMEOUT` for `--shutdown-timeout`.
    pub(crate) fn variable(&self) -> String {
        let upper = self.name.to_ascii_uppercase().replace('-', "_");
        format!("{VARIABLE_PREFIX}{upper}")
    }
}

/// What the name of every variable begins with.
pub(crate) const VARIABLE_PREFIX: &str = "SUNDOWN_";

/// The sections of `--help`, in their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Group {
    Listeners,
    Sessions,
    Shutdown,
    Limits,
    Log,
}

impl Group {
    pub(crate) const ALL: [Self; 5] = [
        Self::Listeners,
        Self::Sessions,
        Self::Shutdown,
        Self::Limits,
        Self::Log,
    ];

    /// The heading, and what the whole group has in common.
    pub(crate) fn heading(self) -> (&'static str, &'static str) {
        match self {
            Self::Listeners => ("Listeners and application", ""),
            Self::Sessions => ("Sessions", ""),
            Self::Shutdown => (
                "Shutdown",
                "The timeouts are ceilings, counted from the signal plus --shutdown-delay: a \
                 phase ends as soon as its work is done. They must rise in this order: notify, \
                 drain, persist, shutdown. A phase left at its default is clamped to a shorter \
                 --shutdown-timeout.",
            ),
            Self::Limits => ("Limits", "What a peer can make the server do or hold."),
            Self::Log => ("Log", ""),
        }
    }
}

const ADDRESS: &str = "IP:PORT, such as 127.0.0.1:8000 or [::1]:8000 (a name is not looked up)";
const DURATION: &str = "a duration with its unit, such as 500ms, 10s or 1m 30s";
const SIZE: &str = "a number of bytes, such as 65536, 64KiB or 1MiB";

/// What most settings share (durations of the shutdown), so that each entry says only its own.
const BASE: Setting = Setting {
    name: "",
    metavar: "DURATION",
    default: "",
    group: Group::Shutdown,
    help: "",
    expected: DURATION,
    secret: false,
    apply: |_, _| None,
    explain: |_| None,
};

/// Every setting, in the order of `--help`.
pub(crate) const SETTINGS: &[Setting] = &[
    Setting {
        name: "listen",
        metavar: "IP:PORT",
        default: "127.0.0.1:8000",
        group: Group::Listeners,
        help: "Where WebSocket clients connect; /healthz and /readyz answer here too. Port 0 \
               takes a free port, which is printed. The default takes connections from this \
               machine only: in a container it must be 0.0.0.0:8000 or nobody gets in. An \
               address that is in use stops the start.",
        expected: ADDRESS,
        apply: |s, text| put(&mut s.config.listen, text.parse().ok()),
        explain: address_in_url,
        ..BASE
    },
    Setting {
        name: "admin",
        metavar: "IP:PORT|off",
        default: "127.0.0.1:8001",
        group: Group::Listeners,
        help: "Where operators reach /healthz, /readyz, /metrics and /broadcast; `off` for no \
               such listener. It asks for no password: keep it off public addresses.",
        expected: "IP:PORT, such as 127.0.0.1:8001, or off",
        apply: |s, text| match text {
            "off" => put(&mut s.config.admin, Some(None)),
            address => put(&mut s.config.admin, address.parse().ok().map(Some)),
        },
        explain: address_in_url,
        ..BASE
    },
    Setting {
        name: "app",
        metavar: "chat|echo",
        default: "chat",
        group: Group::Listeners,
        help: "What is served: `chat` counts each session's messages under /ws/chat/; `echo` \
               sends every message back as it came, under any path (for conformance and latency \
               tests).",
        expected: "chat or echo",
        apply: |s, text| {
            let app = match text {
                "chat" => Some(App::Chat),
                "echo" => Some(App::Echo),
                _ => None,
            };
            put(&mut s.app, app)
        },
        ..BASE
    },
    Setting {
        name: "web",
        metavar: "on|off",
        default: "on",
        group: Group::Listeners,
        help: "`on`: GET / on --listen is a page that opens a session and shows a shutdown as \
               its client sees it, and /sundown.js is that client, for pages of your own. `off`: \
               these paths are 404. With the page, whoever reaches the port can try the server \
               by hand.",
        expected: "on or off",
        apply: |s, text| put(&mut s.config.web, switch(text)),
        ..BASE
    },
    Setting {
        name: "allowed-origins",
        metavar: "LIST",
        default: "*",
        group: Group::Listeners,
        help: "The origins whose pages may connect, separated by commas, as browsers send them: \
               https://example.org,https://app.example.org. Empty or `*` is every origin, and \
               then any web page can connect its visitors.",
        expected: "origins separated by commas, or * alone for all",
        apply: |s, text| put(&mut s.config.allowed_origins, origins(text)),
        ..BASE
    },
    Setting {
        name: "store",
        metavar: "STORE",
        default: "sqlite:sundown.db",
        group: Group::Sessions,
        help: "Where sessions are kept: `memory:` (gone with the process), `sqlite:PATH` (for \
               instances on one machine), or Redis for several machines: redis://, rediss:// \
               (TLS) or redis+unix://. With a password in the URL use SUNDOWN_STORE: flags are \
               seen by everyone who can list processes. With `memory:` or a path that does not \
               outlive the container, clients that come back begin at 0.",
        expected: "memory:, sqlite:PATH, redis://…, rediss://… or redis+unix://…",
        secret: true,
        apply: |s, text| put(&mut s.config.store, store(text)),
        explain: |text| match text.parse() {
            Ok(StoreConfig::Redis(url)) => RedisStore::check_url(&url).err(),
            Ok(StoreConfig::Memory | StoreConfig::Sqlite(_)) => None,
            Err(_) => sqlite_url(text),
        },
    },
    Setting {
        name: "durability",
        metavar: "acked|relaxed",
        default: "acked",
        group: Group::Sessions,
        help: "When a reply may leave: `acked`, after the store has the new count, so that even \
               kill -9 loses nothing that a client saw; or `relaxed`, at once, with a save every \
               100 ms and at shutdown, so that a crash can lose the last 100 ms.",
        expected: "acked or relaxed",
        apply: |s, text| put(&mut s.config.durability, durability(text)),
        ..BASE
    },
    Setting {
        name: "spill",
        metavar: "sqlite:PATH",
        default: "sqlite:sundown-spill.db",
        group: Group::Sessions,
        help: "The SQLite file for sessions that Redis does not take in time at a shutdown; only \
               used with a Redis store. The next server that is started with it hands them to \
               Redis before it is ready. Where it cannot be written, such sessions are named in \
               the report, and the exit code is 1; on a disk that goes away with the container, \
               they go with it.",
        expected: "sqlite:PATH, such as sqlite:/var/lib/sundown/spill.db",
        apply: |s, text| put(&mut s.config.spill, sqlite_path(text)),
        explain: sqlite_url,
        ..BASE
    },
    Setting {
        name: "broadcast-channel",
        metavar: "NAME",
        default: "sundown:broadcast",
        group: Group::Sessions,
        help: "The Redis channel on which nodes pass broadcasts on to each other; only used with \
               a Redis store. Nodes with different names do not hear each other, and two fleets \
               with the same name on one Redis do. An ACL must allow the channel.",
        expected: "1 to 128 printable characters of ASCII, without spaces",
        apply: |s, text| {
            // What else it must be is for `Config::validate`.
            let name = text.bytes().all(|byte| byte.is_ascii_graphic()) && !text.is_empty();
            put(
                &mut s.config.broadcast_channel,
                name.then(|| text.to_owned()),
            )
        },
        ..BASE
    },
    Setting {
        name: "session-ttl",
        default: "24h",
        group: Group::Sessions,
        help: "How long the store keeps a session after its last change. Too short, and a \
               client that comes back begins at 0; too long, and the store grows.",
        apply: |s, text| put(&mut s.config.session_ttl, duration(text)),
        ..BASE
    },
    Setting {
        name: "heartbeat",
        default: "30s",
        group: Group::Sessions,
        help: "How often every client is sent a timestamp; 0s is off. Longer than the idle \
               timeout of a proxy on the way, and the proxy cuts quiet connections.",
        apply: |s, text| put(&mut s.config.heartbeat, duration(text)),
        ..BASE
    },
    Setting {
        name: "shutdown-delay",
        default: "0s",
        help: "For so long readiness is 503 while all else goes on, for balancers that need time \
               to notice. It counts towards --shutdown-timeout: too long, and nothing is left \
               for the rest.",
        apply: |s, text| put(&mut s.config.shutdown.delay, duration(text)),
        ..BASE
    },
    Setting {
        name: "shutdown-timeout",
        default: "10s",
        help: "The whole, from the signal to the exit; more than 500ms. It must be below what \
               the supervisor waits before it kills (Docker: 10s unless stop_grace_period says \
               more; Kubernetes: 30s), or the kill cuts the goodbyes off.",
        apply: |s, text| put(&mut s.config.shutdown.timeout, duration(text)),
        ..BASE
    },
    Setting {
        name: "notify-timeout",
        default: "500ms",
        help: "When the notice must have left to every client. Clients that read too slowly for \
               it go without.",
        apply: |s, text| put(&mut s.config.shutdown.notify, duration(text)),
        ..BASE
    },
    Setting {
        name: "drain-timeout",
        default: "2500ms",
        help: "When draining ends even if clients still send. What they send after it is \
               counted and saved, but gets no reply.",
        apply: |s, text| put(&mut s.config.shutdown.drain, duration(text)),
        ..BASE
    },
    Setting {
        name: "drain-quiet",
        default: "250ms",
        help: "How long all clients must be quiet for draining to end early. Shorter than a \
               client's round trip, and messages on their way get no reply; from \
               --drain-timeout on, draining always takes its whole time.",
        apply: |s, text| put(&mut s.config.shutdown.drain_quiet, duration(text)),
        ..BASE
    },
    Setting {
        name: "persist-timeout",
        default: "8s",
        help: "When saving ends, even if the store has not confirmed all. Too short for a slow \
               store, and sessions that it would have taken go into the spill (with Redis) or are \
               lost.",
        apply: |s, text| put(&mut s.config.shutdown.persist, duration(text)),
        ..BASE
    },
    Setting {
        name: "close-spread",
        default: "500ms",
        help: "Over how long the goodbyes are spread; 0s says goodbye to all at once, and all \
               clients come back at once.",
        apply: |s, text| put(&mut s.config.shutdown.close_spread, duration(text)),
        ..BASE
    },
    Setting {
        name: "max-connections",
        metavar: "NUMBER",
        default: "10000",
        group: Group::Limits,
        help: "Connections at a time on --listen; the next is answered 503. Each takes a file \
               descriptor: the soft limit of the process is raised for them at the start, and a \
               hard limit that is too low is warned about.",
        expected: "a whole number from 1",
        apply: |s, text| put(&mut s.config.limits.connections_max, text.parse().ok()),
        ..BASE
    },
    Setting {
        name: "max-message-size",
        metavar: "BYTES",
        default: "1MiB",
        group: Group::Limits,
        help: "Bytes in a message, its fragments together; a larger one is closed with 1009. \
               Each connection can make the server hold so much.",
        expected: SIZE,
        apply: |s, text| put(&mut s.config.limits.message_bytes_max, bytes(text)),
        ..BASE
    },
    Setting {
        name: "max-outbound-bytes",
        metavar: "BYTES",
        default: "1MiB",
        group: Group::Limits,
        help: "Bytes that may wait for a client which does not read; then it is closed with \
               1008. Too small, and a short stall costs a connection.",
        expected: SIZE,
        apply: |s, text| put(&mut s.config.limits.outbound_bytes_max, bytes(text)),
        ..BASE
    },
    Setting {
        name: "handshake-timeout",
        default: "10s",
        group: Group::Limits,
        help: "From accept to the end of the request head. Too short, and clients on slow lines \
               never get in; too long, and idle strangers hold places.",
        apply: |s, text| put(&mut s.config.limits.handshake_timeout, duration(text)),
        ..BASE
    },
    Setting {
        name: "idle-timeout",
        default: "2m",
        group: Group::Limits,
        help: "Silence after which a client is cut; at half of it, it is pinged. 0s is off, and \
               then a client that vanished without a word keeps its place for ever.",
        apply: |s, text| put(&mut s.config.limits.idle_timeout, duration(text)),
        ..BASE
    },
    Setting {
        name: "log",
        metavar: "LEVEL",
        default: "info",
        group: Group::Log,
        help: "The least that is worth a line on standard error: error, warn, info, debug or \
               trace; or off. Nothing is logged for a message or a connection down to info. At \
               warn, a store that is up again is not told.",
        expected: "off, error, warn, info, debug or trace",
        apply: |s, text| put(&mut s.log, level(text)),
        ..BASE
    },
    Setting {
        name: "log-format",
        metavar: "text|json|auto",
        default: "auto",
        group: Group::Log,
        help: "`text` for people; `json`, one object a line (ts, level, target, message), for \
               what collects logs; `auto` is text on a terminal, and json anywhere else.",
        expected: "text, json or auto",
        apply: |s, text| put(&mut s.log_format, log_format(text)),
        ..BASE
    },
];

fn put<T>(field: &mut T, value: Option<T>) -> Option<()> {
    *field = value?;
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Good values, each different from the default, and bad ones.
    const VALUES: &[(&str, &[&str], &[&str])] = &[
        (
            "listen",
            &["0.0.0.0:80", "[::]:0"],
            &[
                "",
                "8000",
                ":8000",
                "localhost:8000",
                "127.0.0.1",
                "127.0.0.1:65536",
                "off",
            ],
        ),
        (
            "admin",
            &["off", "[::1]:9"],
            &["", "OFF", "none", "localhost:8001"],
        ),
        ("app", &["echo"], &["", "Chat", "ping"]),
        ("web", &["off"], &["", "ON", "true", "1"]),
        (
            "allowed-origins",
            &["https://a.example, https://b.example:8443"],
            &["*,https://a"],
        ),
        (
            "store",
            &[
                "memory:",
                "sqlite:/var/lib/x.db",
                "redis://h",
                "rediss://h",
                "redis+unix:///s",
            ],
            &[
                "",
                "memory",
                "sqlite:",
                "sqlite::memory:",
                "redis:h",
                "postgres://h",
            ],
        ),
        ("durability", &["relaxed"], &["", "none"]),
        (
            "spill",
            &["sqlite:/tmp/spill"],
            &["", "sqlite:", "/tmp/spill", "memory:", "redis://h"],
        ),
        (
            "session-ttl",
            &["1h 30m", "7days"],
            &["", "10", "-1s", "1 fortnight"],
        ),
        ("broadcast-channel", &["blue"], &["", "a b", "ä"]),
        ("heartbeat", &["0s", "500ms"], &["", "10", "1.5.s"]),
        ("shutdown-delay", &["2s"], &["", "2"]),
        ("shutdown-timeout", &["3s"], &["", "ten"]),
        ("notify-timeout", &["0s", "100ms"], &["", "100"]),
        ("drain-timeout", &["1s"], &["", "1"]),
        ("drain-quiet", &["0s"], &["", "x"]),
        ("persist-timeout", &["5s"], &["", "5"]),
        ("close-spread", &["0s"], &["", "5"]),
        (
            "max-connections",
            &["1", "65000"],
            &["", "-1", "many", "1KiB", "1e4"],
        ),
        (
            "max-message-size",
            &["4096", "64KiB", "2 MiB"],
            &["", "KiB", "1MB", "-1", "1.5MiB"],
        ),
        ("max-outbound-bytes", &["1"], &["", "99999999999999MiB"]),
        ("handshake-timeout", &["1s"], &["", "1"]),
        ("idle-timeout", &["0s", "1m 30s"], &["", "1"]),
        ("log", &["off", "debug"], &["", "WARN", "warning", "0"]),
        ("log-format", &["json", "text"], &["", "JSON", "human"]),
    ];

    fn setting(name: &str) -> &'static Setting {
        let found = SETTINGS.iter().find(|setting| setting.name == name);
        found.expect("a setting of that name")
    }

    /// The whole of the settings as text; a Redis URL is in it as `redis://…`.
    fn check(name: &str, text: &str) -> Option<String> {
        let mut settings = Settings::default();
        (setting(name).apply)(&mut settings, text)?;
        Some(format!("{settings:?}"))
    }

    #[test]
    fn every_setting_takes_its_good_values_and_refuses_bad_ones() {
        let default = format!("{:?}", Settings::default());
        for (name, good, bad) in VALUES {
            for text in *good {
                let changed = check(name, text).expect(text);
                assert_ne!(changed, default, "{name} {text}");
            }
            for text in *bad {
                assert_eq!(check(name, text), None, "{name} {text:?}");
            }
        }
        let named: Vec<&str> = VALUES.iter().map(|(name, ..)| *name).collect();
        let mut missing = SETTINGS.iter().filter(|s| !named.contains(&s.name));
        assert!(missing.next().is_none(), "a setting has no values here");
    }

    #[test]
    fn defaults_in_the_table_are_those_of_the_command() {
        let mut settings = Settings::default();
        for (name, good, _) in VALUES {
            (setting(name).apply)(&mut settings, good[0]).expect(name);
        }
        for setting in SETTINGS {
            (setting.apply)(&mut settings, setting.default).expect(setting.name);
        }
        assert_eq!(
            format!("{settings:?}"),
            format!("{:?}", Settings::default())
        );
    }
}
