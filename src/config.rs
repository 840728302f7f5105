//! What an embedder or the command line decides: every setting with its unit, its default, and what
//! breaks if it is wrong. Values only; nothing here reads the environment or opens anything.

mod hosts;
mod listen;
mod origins;
mod proxies;

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use humantime::format_duration;

use crate::error::Error;

pub use hosts::AdminHosts;
pub use listen::{InvalidListen, Listen};
pub use origins::AllowedOrigins;
pub use proxies::TrustedProxies;

/// Everything that a server is started with. `Config::default()` serves on `127.0.0.1:8000`.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where WebSocket clients connect. Default `127.0.0.1:8000`; port 0 takes a free one, which
    /// `Server::local_addr` tells. An address that is in use stops the start. A socket in the file
    /// system is for a proxy on the same host: this user and one group may connect (mode 0660).
    pub listen: Listen,
    /// Where operators ask for health, readiness and metrics. Default `127.0.0.1:8001`; `None`
    /// turns it off. There is no authentication on it: keep it off public addresses.
    pub admin: Option<SocketAddr>,
    /// The request paths of the service, such as `/chat/ws/` behind a proxy that hands a prefix on;
    /// each with or without its last slash; `*` is every path. Default `/ws/chat/`. Where an application has its own
    /// [`on_upgrade`](crate::Application::on_upgrade), that decides.
    pub paths: Vec<String>,
    /// Subprotocols that only the application knows, such as `ocpp1.6`: tokens (RFC 9110, section
    /// 5.6.2). A client gets the first that it offers, unless it offers `sundown.v1` or
    /// `sundown.v2` before that.
    /// Default empty. Without an entry here, or [`Admission::with_subprotocol`], a browser that
    /// asks for a subprotocol gives up: RFC 6455, section 4.1, lets it have none that it was not
    /// given.
    ///
    /// [`Admission::with_subprotocol`]: crate::Admission::with_subprotocol
    pub subprotocols: Vec<String>,
    /// Names (`NAME` or `NAME:PORT`) under which operators may ask, beside addresses and
    /// `localhost`. Default empty. A name that others may give to this machine, and any web page
    /// of theirs can read the metrics; a missing one, and whoever asks by it gets 421.
    pub admin_hosts: Vec<String>,
    /// Where sessions are kept. Default `sqlite:sundown.db` in the working directory, and memory in
    /// a build without the feature `sqlite`.
    pub store: StoreConfig,
    /// When a reply may leave. Default [`Durability::Acked`].
    pub durability: Durability,
    /// The SQLite file for sessions that Redis does not take in time at a shutdown. Default
    /// `sundown-spill.db` in the working directory; only used with a Redis store. The next server
    /// that is started with it hands them to Redis before it is ready. Where it cannot be written,
    /// or is not there when the server comes back, such sessions are lost.
    pub spill: PathBuf,
    /// How long the store keeps a session after its last change. Default 24 h. Too short, and a
    /// client that comes back finds its count at 0; too long, and the store grows.
    pub session_ttl: Duration,
    /// The Redis channel on which nodes tell each other what is said to everybody. Default
    /// `sundown:broadcast`; only used with a Redis store. Nodes with different names do not hear
    /// each other; two fleets on one Redis with the same name do.
    pub broadcast_channel: String,
    /// How often clients get a timestamp. Default 30 s; zero turns it off, and then a page, which
    /// does not see pings, cannot tell a quiet server from one that is gone.
    pub heartbeat: Duration,
    /// The phases of the shutdown.
    pub shutdown: ShutdownBudget,
    /// Bounds on what a peer can make the server do.
    pub limits: Limits,
    /// The `Origin` values that may connect, as browsers send them (`https://example.org`), and
    /// `https://*.example.org` for all names below one. Default empty: every origin. Without a
    /// list, any web page can connect its visitors.
    pub allowed_origins: Vec<String>,
    /// Whether the proxies of `trusted_proxies` begin each connection to `listen` and `admin` with a
    /// header of the PROXY protocol, version 1 or 2, which names the client. Default off. A header
    /// that does not come from a trusted proxy, or not at all where it must, is answered 400, so
    /// that it has to be turned on together with the proxy.
    pub proxy_protocol: bool,
    /// Proxies that are believed about the client's address, which they say in a PROXY header or in
    /// `X-Forwarded-For`: addresses (`127.0.0.1`), networks (`10.0.0.0/8`, `fd00::/8`), and `unix`
    /// for whoever may connect to a socket in the file system. Default empty: the peer of each
    /// connection is taken for the client. An entry that clients share, and each of them can give
    /// itself any address.
    pub trusted_proxies: Vec<String>,
    /// Whether `GET /` on `listen` is a page that opens a session and shows a shutdown, with the
    /// client `/sundown.js`. Default off: the command turns it on, and an application has pages of
    /// its own, or none. With the page, whoever reaches the port can try the server by hand.
    pub web: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: Listen::from((Ipv4Addr::LOCALHOST, 8000)),
            admin: Some(SocketAddr::from((Ipv4Addr::LOCALHOST, 8001))),
            subprotocols: Vec::new(),
            admin_hosts: Vec::new(),
            paths: vec!["/ws/chat/".to_owned()],
            store: if cfg!(feature = "sqlite") {
                StoreConfig::Sqlite(PathBuf::from("sundown.db"))
            } else {
                StoreConfig::Memory
            },
            durability: Durability::Acked,
            spill: PathBuf::from("sundown-spill.db"),
            session_ttl: Duration::from_secs(24 * 60 * 60),
            broadcast_channel: "sundown:broadcast".to_owned(),
            heartbeat: Duration::from_secs(30),
            shutdown: ShutdownBudget::default(),
            limits: Limits::default(),
            allowed_origins: Vec::new(),
            proxy_protocol: false,
            trusted_proxies: Vec::new(),
            web: false,
        }
    }
}

impl Config {
    /// The longest time that a setting takes, ten years of 365.25 days: adding it to a clock
    /// never overflows.
    pub const DURATION_MAX: Duration = Duration::from_secs(315_576_000);

    /// Refuses settings that make no sense, alone or together. The error is one line that names
    /// what it is about (by its flag, where there is one), what it is, and what is expected; it
    /// never shows a store's URL.
    pub fn validate(&self) -> Result<(), Error> {
        if let Some(admin) = self.admin
            && Some(admin) == self.listen.tcp()
            && admin.port() != 0
        {
            return refuse("--admin", admin, "another address than --listen");
        }
        if let Some(bad) = self.paths.iter().find(|path| !is_path(path)) {
            return refuse("--path", format_args!("{bad:?}"), PATH_EXPECTED);
        }
        if self.paths.is_empty() {
            return refuse("--path", "(empty)", PATH_EXPECTED);
        }
        let is_own = |name: &String| is_token(name) && !name.starts_with("sundown.");
        if let Some(bad) = self.subprotocols.iter().find(|name| !is_own(name)) {
            let given = format_args!("{bad:?}");
            return refuse("--subprotocols", given, SUBPROTOCOLS_EXPECTED);
        }
        if !is_channel(&self.broadcast_channel) {
            let given = format_args!("{:?}", self.broadcast_channel);
            return refuse("--broadcast-channel", given, CHANNEL_EXPECTED);
        }
        if self.web && !cfg!(feature = "web") {
            return refuse(
                "--web",
                "on",
                "off: this build is without the feature `web`",
            );
        }
        self.validate_durations()?;
        self.shutdown.validate()?;
        self.limits.validate()?;
        self.allowed_origins()?;
        self.admin_hosts()?;
        if self.trusted_proxies()?.is_empty() && self.proxy_protocol {
            let expected = "the proxies that send the header in --trusted-proxies";
            return refuse("--proxy-protocol", "on", expected);
        }
        Ok(())
    }

    /// The origins whose pages may connect.
    pub(crate) fn allowed_origins(&self) -> Result<AllowedOrigins, Error> {
        let parsed = AllowedOrigins::parse(&self.allowed_origins);
        parsed.or_else(|at| refuse_entry("--allowed-origins", at, AllowedOrigins::EXPECTED))
    }

    /// The names under which operators may ask.
    pub(crate) fn admin_hosts(&self) -> Result<AdminHosts, Error> {
        let parsed = AdminHosts::parse(&self.admin_hosts);
        parsed.or_else(|at| refuse_entry("--admin-hosts", at, AdminHosts::EXPECTED))
    }

    /// The proxies that are believed.
    pub(crate) fn trusted_proxies(&self) -> Result<TrustedProxies, Error> {
        let parsed = TrustedProxies::parse(&self.trusted_proxies);
        parsed.or_else(|at| refuse_entry("--trusted-proxies", at, TrustedProxies::EXPECTED))
    }

    fn validate_durations(&self) -> Result<(), Error> {
        let budget = &self.shutdown;
        let limits = &self.limits;
        let optional = Duration::ZERO;
        let required = Duration::from_millis(1);
        for (name, value, min) in [
            ("--session-ttl", self.session_ttl, required),
            ("--heartbeat", self.heartbeat, optional),
            ("--shutdown-delay", budget.delay, optional),
            // Its least is the budget's own matter.
            ("--shutdown-timeout", budget.timeout, optional),
            ("--notify-timeout", budget.notify, optional),
            ("--drain-timeout", budget.drain, optional),
            ("--drain-quiet", budget.drain_quiet, optional),
            ("--persist-timeout", budget.persist, optional),
            ("--close-spread", budget.close_spread, optional),
            ("--handshake-timeout", limits.handshake_timeout, required),
            ("--idle-timeout", limits.idle_timeout, optional),
            ("linger_timeout", limits.linger_timeout, required),
            ("answered_timeout", limits.answered_timeout, required),
            ("close_timeout", limits.close_timeout, required),
        ] {
            if value < min {
                return refuse(name, format_duration(value), "at least 1ms");
            }
            if value > Self::DURATION_MAX {
                return refuse(name, format_duration(value), "at most 10 years");
            }
        }
        // Repeated for ever, or nearly at once, a timer would leave the loop no time for peers.
        for (name, value) in [
            ("--heartbeat", self.heartbeat),
            ("--idle-timeout", limits.idle_timeout),
        ] {
            if !value.is_zero() && value < required {
                return refuse(name, format_duration(value), "at least 1ms, or 0s for off");
            }
        }
        Ok(())
    }
}

fn refuse<T>(name: &str, given: impl fmt::Display, expected: &str) -> Result<T, Error> {
    Err(Error::Config(format!(
        "{name} {given}: expected {expected}"
    )))
}

const PATH_EXPECTED: &str = "paths as they stand in a request, such as /ws/chat/";

/// RFC 3986, section 3.3, but for quotes, which pages and shells take for theirs.
fn is_path(text: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b"/-._~!$&()*+,;=:@%".contains(&b);
    text == ANY_PATH || text.starts_with('/') && text.bytes().all(allowed)
}

/// The entry that lists every path.
pub(crate) const ANY_PATH: &str = "*";

/// Whether a request path is one of these, with or without its last slash.
pub(crate) fn lists(paths: &[String], path: &str) -> bool {
    fn without_slash(path: &str) -> &str {
        path.strip_suffix('/').unwrap_or(path)
    }
    let mut paths = paths.iter().map(|path| without_slash(path));
    paths.any(|listed| listed == without_slash(path) || listed == ANY_PATH)
}

const SUBPROTOCOLS_EXPECTED: &str =
    "subprotocols that are not sundown's own, separated by commas, such as ocpp1.6";

/// RFC 9110, section 5.6.2.
pub(crate) fn is_token(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    !text.is_empty() && text.bytes().all(allowed)
}

/// Not shown: whoever mixes up two variables may have put a store's URL here.
fn refuse_entry<T>(name: &str, at: usize, expected: &str) -> Result<T, Error> {
    refuse(name, format_args!("(entry {})", at + 1), expected)
}

const CHANNEL_EXPECTED: &str = "1 to 128 printable characters of ASCII, without spaces";

/// Whether this can stand in an ACL as it is.
fn is_channel(name: &str) -> bool {
    (1..=128).contains(&name.len()) && name.bytes().all(|byte| byte.is_ascii_graphic())
}

/// Where sessions are kept.
#[derive(Clone, PartialEq, Eq)]
pub enum StoreConfig {
    /// In this process: gone when it ends.
    Memory,
    /// In an SQLite file.
    Sqlite(PathBuf),
    /// In Redis: `redis://`, `rediss://` or `redis+unix://`. May hold a password.
    Redis(String),
}

impl FromStr for StoreConfig {
    type Err = InvalidStore;

    fn from_str(text: &str) -> Result<Self, InvalidStore> {
        if text == "memory:" {
            return Ok(Self::Memory);
        }
        if let Some(path) = text.strip_prefix("sqlite:") {
            // `sqlite://x.db` looks like a URL, and as a path it is /x.db.
            let named = !path.is_empty() && path != ":memory:" && !path.starts_with("//");
            return if named {
                Ok(Self::Sqlite(PathBuf::from(path)))
            } else {
                Err(InvalidStore)
            };
        }
        let redis = ["redis://", "rediss://", "redis+unix://"];
        if redis.iter().any(|scheme| text.starts_with(scheme)) {
            return Ok(Self::Redis(text.to_owned()));
        }
        Err(InvalidStore)
    }
}

/// Never shows a Redis URL, which may hold a password.
impl fmt::Debug for StoreConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Memory => f.write_str("memory:"),
            Self::Sqlite(path) => write!(f, "sqlite:{}", path.display()),
            Self::Redis(_) => f.write_str("redis://…"),
        }
    }
}

/// The text names no store: it must be `memory:`, `sqlite:PATH` (with at most one slash in front),
/// `redis://…`, `rediss://…` or `redis+unix://…`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InvalidStore;

impl fmt::Display for InvalidStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("memory:, sqlite:PATH, redis://…, rediss://… or redis+unix://…")
    }
}

impl std::error::Error for InvalidStore {}

/// When a reply to a message may leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// Only after the store has the new count: what a client has seen survives `kill -9`.
    Acked,
    /// At once; sessions are saved every 100 ms and at shutdown. A crash loses up to the last
    /// 100 ms of acknowledged messages.
    Relaxed,
}

/// How long each phase of a shutdown may take, counted from the signal (plus `delay`). Each is a
/// ceiling: a phase ends as soon as its work is done. They must rise in this order. The goodbyes
/// have their time before the rest is cut, shortly before `timeout`; if there is not room enough
/// before that, the phases share what there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShutdownBudget {
    /// Readiness is 503 and all else goes on for so long first. Default 0. Counts towards
    /// `timeout`: too long, and nothing is left for the rest.
    pub delay: Duration,
    /// The whole, from the signal to the exit. Default 10 s; more than 500 ms. Must be below what
    /// the supervisor waits before it kills.
    pub timeout: Duration,
    /// When every notice must be in the kernel. Default 500 ms.
    pub notify: Duration,
    /// When draining ends even if clients still send. Default 2.5 s.
    pub drain: Duration,
    /// How long all clients must be quiet for draining to end early. Default 250 ms. Shorter than
    /// a client's round trip, and messages in flight count as late ones, without a reply.
    pub drain_quiet: Duration,
    /// When saving ends, even if the store has not confirmed all. Default 8 s.
    pub persist: Duration,
    /// Over how long the goodbyes are spread. Default 500 ms; zero says goodbye to all at once,
    /// and all clients come back at once.
    pub close_spread: Duration,
}

impl ShutdownBudget {
    /// How long before `timeout` the rest is cut, so that the exit itself is in time.
    pub const CUT_BEFORE_END: Duration = Duration::from_millis(500);

    /// A phase that is at its default is clamped to a shorter `timeout`; one that was set to end
    /// after it, or before the phase that it follows, is a contradiction.
    fn validate(&self) -> Result<(), Error> {
        if self.timeout <= Self::CUT_BEFORE_END {
            let expected = format!(
                "more than {}, which are kept for cutting what is left and for the exit",
                format_duration(Self::CUT_BEFORE_END)
            );
            return refuse(
                "--shutdown-timeout",
                format_duration(self.timeout),
                &expected,
            );
        }
        let default = Self::default();
        for (name, value, default) in [
            ("--shutdown-delay", self.delay, default.delay),
            ("--notify-timeout", self.notify, default.notify),
            ("--drain-timeout", self.drain, default.drain),
            ("--persist-timeout", self.persist, default.persist),
            ("--close-spread", self.close_spread, default.close_spread),
        ] {
            if value >= self.timeout && value != default {
                let whole = format_duration(self.timeout);
                let expected = format!("less than --shutdown-timeout ({whole})");
                return refuse(name, format_duration(value), &expected);
            }
        }
        for (name, value, before, least) in [
            (
                "--drain-timeout",
                self.drain,
                "--notify-timeout",
                self.notify,
            ),
            (
                "--persist-timeout",
                self.persist,
                "--drain-timeout",
                self.drain,
            ),
        ] {
            if value < least {
                let expected = format!("at least {before} ({})", format_duration(least));
                return refuse(name, format_duration(value), &expected);
            }
        }
        Ok(())
    }
}

impl Default for ShutdownBudget {
    fn default() -> Self {
        Self {
            delay: Duration::ZERO,
            timeout: Duration::from_secs(10),
            notify: Duration::from_millis(500),
            drain: Duration::from_millis(2_500),
            drain_quiet: Duration::from_millis(250),
            persist: Duration::from_secs(8),
            close_spread: Duration::from_millis(500),
        }
    }
}

/// Bounds on what peers can make the server do or hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// WebSocket connections at a time; the next is answered 503. Default 10 000. Each needs a file
    /// descriptor, and so do up to [`Limits::STRANGERS_MAX`] sockets that are no clients yet.
    pub connections_max: usize,
    /// Bytes in a message, fragments together; more is closed with 1009. Default 1 MiB. Each
    /// connection can make the server hold this much.
    pub message_bytes_max: usize,
    /// Bytes that may wait for a peer which does not read; then it is closed with 1008. Default
    /// 1 MiB. One message is always taken, however large.
    pub outbound_bytes_max: usize,
    /// From accept to the end of the request head. Default 10 s.
    pub handshake_timeout: Duration,
    /// Silence after which a peer is cut; at a quarter of it, it is pinged. Looked at eight times in
    /// it, so that either may come an eighth of it late. Default 2 min; zero is off: no pings, and
    /// a peer that vanished without a word stays for ever.
    pub idle_timeout: Duration,
    /// Bytes of a request head; more is answered 431. 16 KiB.
    pub request_head_bytes_max: usize,
    /// Replies that may wait for a save before the connection is read no further. 1 024.
    pub held_replies_max: usize,
    /// Steps that may be open ([`Session::defer`](crate::Session::defer)) before no client is read
    /// from any more, until half of them have ended. 1 024.
    pub deferred_max: usize,
    /// Bytes read from one connection before the next has its turn, if its frames are large; of
    /// small frames, which take longer than their bytes, 2 KiB. 64 KiB and the header of a frame.
    pub read_bytes_max: usize,
    /// Bytes read in one turn of the loop from all connections; each read and each message counts
    /// for some bytes more. 1 MiB.
    pub turn_bytes_max: usize,
    /// The same of connections that have more than one read, before all others are asked for news
    /// again. 3 KiB.
    pub slice_bytes_max: usize,
    /// Connections accepted in one turn. 16.
    pub accepts_max: usize,
    /// Connections that a broadcast (heartbeat, notice) reaches in one turn. 512.
    pub fanout_max: usize,
    /// Broadcasts that may wait for the one before; the next is refused. 16, of up to 64 KiB.
    pub broadcasts_max: usize,
    /// Sessions in one save. 512.
    pub batch_max: usize,
    /// Sessions that go into the spill in one turn, or as many as there may be connections, if that
    /// is more: no goodbye leaves before its session is in the spill. In the last turn, all that
    /// are left. 65 536.
    pub spill_max: usize,
    /// How long a connection that is over may take to read what is left for it; and, if it was a
    /// WebSocket connection, to close its side then. 10 s.
    pub linger_timeout: Duration,
    /// How long a peer that has its HTTP answer may take to close its side. 2 s.
    pub answered_timeout: Duration,
    /// How long a peer may take to answer our Close outside of a shutdown. 10 s.
    pub close_timeout: Duration,
}

impl Limits {
    /// With a limit of 0 nothing would ever move.
    fn validate(&self) -> Result<(), Error> {
        if self.outbound_bytes_max < Self::OUTBOUND_BYTES_LEAST {
            return refuse(
                "--max-outbound-bytes",
                self.outbound_bytes_max,
                "at least 1KiB",
            );
        }
        for (name, value) in [
            ("--max-connections", self.connections_max),
            ("--max-message-size", self.message_bytes_max),
            ("request_head_bytes_max", self.request_head_bytes_max),
            ("held_replies_max", self.held_replies_max),
            ("--max-deferred", self.deferred_max),
            ("read_bytes_max", self.read_bytes_max),
            ("turn_bytes_max", self.turn_bytes_max),
            ("slice_bytes_max", self.slice_bytes_max),
            ("accepts_max", self.accepts_max),
            ("fanout_max", self.fanout_max),
            ("broadcasts_max", self.broadcasts_max),
            ("batch_max", self.batch_max),
            ("spill_max", self.spill_max),
        ] {
            if value == 0 {
                return refuse(name, value, "at least 1");
            }
        }
        // A connection's slot is a u32.
        if u32::try_from(self.connections_max).is_err() {
            return refuse(
                "--max-connections",
                self.connections_max,
                "at most 4294967295",
            );
        }
        Ok(())
    }
}

impl Limits {
    /// Sockets beyond `connections_max` that may be in a handshake, ask for health, or linger.
    pub const STRANGERS_MAX: usize = 128;

    /// Sockets on the admin listener.
    pub const OPERATORS_MAX: usize = 64;

    /// Bytes of JSON that are sent to everybody in one broadcast.
    pub const BROADCAST_BYTES_MAX: usize = 64 << 10;

    /// The least for `outbound_bytes_max`: a handful of replies.
    const OUTBOUND_BYTES_LEAST: usize = 1 << 10;
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections_max: 10_000,
            message_bytes_max: 1 << 20,
            outbound_bytes_max: 1 << 20,
            handshake_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(120),
            request_head_bytes_max: 16 << 10,
            held_replies_max: 1_024,
            deferred_max: 1_024,
            read_bytes_max: (64 << 10) + 14,
            turn_bytes_max: 1 << 20,
            slice_bytes_max: 3 << 10,
            accepts_max: 16,
            fanout_max: 512,
            broadcasts_max: 16,
            batch_max: 512,
            spill_max: 65_536,
            linger_timeout: Duration::from_secs(10),
            answered_timeout: Duration::from_secs(2),
            close_timeout: Duration::from_secs(10),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Changes a default configuration and gives what `validate` says of it.
    fn check(change: impl FnOnce(&mut Config)) -> String {
        let mut config = Config::default();
        change(&mut config);
        let verdict = config.validate();
        verdict.map_or_else(|error| error.to_string(), |()| "fine".to_owned())
    }

    fn origins(list: &[&str]) -> String {
        let list = list.iter().map(|&origin| origin.to_owned()).collect();
        check(|c| c.allowed_origins = list)
    }

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn sensible_settings_are_fine() {
        assert_eq!(check(|_| ()), "fine");
        assert_eq!(check(|c| c.shutdown.timeout = ms(3_000)), "fine");
        assert_eq!(check(|c| c.shutdown.timeout = ms(501)), "fine");
        assert_eq!(check(|c| c.shutdown.notify = ms(0)), "fine");
        assert_eq!(check(|c| c.heartbeat = ms(0)), "fine");
        assert_eq!(check(|c| c.broadcast_channel = "a:b".into()), "fine");
        let spaced = check(|c| c.broadcast_channel = "a b".into());
        assert!(spaced.contains("--broadcast-channel \"a b\""), "{spaced}");
        assert_eq!(check(|c| c.limits.idle_timeout = ms(0)), "fine");
        assert_eq!(
            check(|c| c.paths = vec!["/".into(), "/a%20/b".into()]),
            "fine"
        );
        for paths in [
            vec![],
            vec!["/ws", "ws"],
            vec!["/a b"],
            vec!["/a?b"],
            vec!["/\"x"],
        ] {
            let refused = check(|c| c.paths = paths.into_iter().map(str::to_owned).collect());
            assert!(refused.starts_with("--path "), "{refused}");
        }
        assert_eq!(
            origins(&["https://example.org", "http://[::1]:3000", "null"]),
            "fine"
        );
        let any_port = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        assert_eq!(
            check(|c| (c.listen, c.admin) = (any_port.into(), Some(any_port))),
            "fine"
        );
    }

    #[test]
    fn phases_that_contradict_each_other_are_refused() {
        assert_eq!(
            check(|c| c.shutdown.timeout = ms(0)),
            "--shutdown-timeout 0s: expected more than 500ms, which are kept for cutting what is \
             left and for the exit"
        );
        assert_eq!(
            check(|c| c.shutdown.timeout = ms(500)),
            "--shutdown-timeout 500ms: expected more than 500ms, which are kept for cutting what \
             is left and for the exit"
        );
        assert_eq!(
            check(|c| c.shutdown.delay = ms(10_000)),
            "--shutdown-delay 10s: expected less than --shutdown-timeout (10s)"
        );
        assert_eq!(
            check(|c| c.shutdown.drain = ms(100)),
            "--drain-timeout 100ms: expected at least --notify-timeout (500ms)"
        );
        assert_eq!(
            check(|c| c.shutdown.persist = ms(2_000)),
            "--persist-timeout 2s: expected at least --drain-timeout (2s 500ms)"
        );
        assert_eq!(
            check(|c| c.shutdown.persist = ms(10_000)),
            "--persist-timeout 10s: expected less than --shutdown-timeout (10s)"
        );
        assert_eq!(
            check(|c| (c.shutdown.timeout, c.shutdown.drain) = (ms(3_000), ms(4_000))),
            "--drain-timeout 4s: expected less than --shutdown-timeout (3s)"
        );
    }

    #[test]
    fn values_that_stop_everything_are_refused() {
        assert_eq!(
            check(|c| c.session_ttl = ms(0)),
            "--session-ttl 0s: expected at least 1ms"
        );
        assert_eq!(
            check(|c| c.limits.handshake_timeout = ms(0)),
            "--handshake-timeout 0s: expected at least 1ms"
        );
        assert_eq!(
            check(|c| c.heartbeat = Duration::from_nanos(5)),
            "--heartbeat 5ns: expected at least 1ms, or 0s for off"
        );
        assert_eq!(
            check(|c| c.session_ttl = Duration::MAX),
            format!(
                "--session-ttl {}: expected at most 10 years",
                format_duration(Duration::MAX)
            )
        );
        assert_eq!(
            check(|c| c.limits.message_bytes_max = 0),
            "--max-message-size 0: expected at least 1"
        );
        assert_eq!(
            check(|c| c.limits.batch_max = 0),
            "batch_max 0: expected at least 1"
        );
        assert_eq!(
            check(|c| c.admin = c.listen.tcp()),
            "--admin 127.0.0.1:8000: expected another address than --listen"
        );
    }

    #[test]
    fn lists_with_an_entry_that_is_none_are_refused_and_not_shown() {
        let origins = origins(&["null", "redis://:secret@host"]);
        let expected = "--allowed-origins (entry 2): expected scheme://host";
        assert!(origins.starts_with(expected), "{origins}");
        assert!(!origins.contains("secret"), "{origins}");
        assert_eq!(
            check(|c| c.admin_hosts = vec!["http://:secret@host".to_owned()]),
            "--admin-hosts (entry 1): expected NAME or NAME:PORT, such as app_blue:8001"
        );
        let list = ["127.0.0.1", "redis://:secret@host"];
        let proxies = check(|c| c.trusted_proxies = list.map(str::to_owned).into());
        let expected = "--trusted-proxies (entry 2): expected an address such as";
        assert!(proxies.starts_with(expected), "{proxies}");
        assert!(!proxies.contains("secret"), "{proxies}");
    }

    #[test]
    fn a_header_that_nobody_is_believed_to_send_is_refused() {
        assert_eq!(
            check(|c| c.proxy_protocol = true),
            "--proxy-protocol on: expected the proxies that send the header in --trusted-proxies"
        );
        let proxies = vec!["unix".to_owned()];
        assert_eq!(
            check(|c| (c.proxy_protocol, c.trusted_proxies) = (true, proxies)),
            "fine"
        );
    }
}
