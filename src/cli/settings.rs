//! The table of settings: the one place that flags, environment variables, `--help` and defaults
//! come from. It turns the text of one value into one field; what fields mean together is for
//! `Config::validate`. It must never read the process's arguments or environment.

mod table;
mod values;

use log::LevelFilter;
use sundown::config::Config;

use super::logger::Format;
pub(crate) use table::SETTINGS;

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
                web: cfg!(feature = "web"),
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Good values, each different from the default, and bad ones.
    const VALUES: &[(&str, &[&str], &[&str])] = &[
        (
            "listen",
            &["0.0.0.0:80", "[::]:0", "unix:/run/s.sock", "unix:s"],
            &[
                "",
                "unix:",
                "unix:///run/s",
                "unix:a\x1bb",
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
        ("path", &["/a, /b/", "/"], &["", ",", "/a,,/b"]),
        ("web", &["off"], &["", "ON", "true", "1"]),
        ("subprotocols", &["ocpp1.6, mqtt"], &[]),
        ("admin-hosts", &["app_blue:8001, ops"], &[]),
        (
            "allowed-origins",
            &["https://a.example, https://b.example:8443"],
            &["*,https://a"],
        ),
        ("proxy-protocol", &["on"], &["", "ON", "v2", "1"]),
        ("trusted-proxies", &["127.0.0.1, fd00::/8, unix"], &[]),
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
        ("max-deferred", &["1", "4096"], &["", "-1", "many"]),
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
