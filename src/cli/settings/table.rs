//! Every setting, in the order of `--help`: its name, its default, its text, and the field that it
//! goes into. What a text means is for [`values`](super::values); it must never know that.

use sundown::config::StoreConfig;

use super::values::{
    address_in_url, bytes, durability, duration, entries, level, log_format, origins, paths,
    sqlite_path, sqlite_url, store, switch,
};
use super::{App, Group, Setting};

const LISTEN: &str = "IP:PORT, such as 127.0.0.1:8000 or [::1]:8000 (a name is not looked up), or \
                      unix:PATH";
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
        metavar: "IP:PORT|unix:PATH",
        default: "127.0.0.1:8000",
        group: Group::Listeners,
        help: "Where WebSocket clients connect; /healthz and /readyz answer here too. Port 0 \
               takes a free port, which is printed. The default takes connections from this \
               machine only: in a container it must be 0.0.0.0:8000 or nobody gets in. An \
               address that is in use stops the start. With unix:PATH, clients come through a \
               proxy on this host that may write to the socket: its mode is 0660, its group that \
               of the server, or of the directory if that has the set-group-ID bit.",
        expected: LISTEN,
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
        help: "What is served: `chat` counts each session's messages under --path; `echo` \
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
        name: "path",
        metavar: "LIST",
        default: "/ws/chat/",
        group: Group::Listeners,
        help: "The paths under which `chat` is served, separated by commas, each with or without \
               its last slash: /ws/chat/,/blue/ws/chat/ for an ingress that hands a prefix on. \
               Other paths are 404. The page connects to the first, and so does `sundown smoke`.",
        expected: "paths separated by commas, such as /ws/chat/",
        apply: |s, text| put(&mut s.config.paths, paths(text)),
        ..BASE
    },
    Setting {
        name: "subprotocols",
        metavar: "LIST",
        default: "",
        group: Group::Listeners,
        help: "Subprotocols that sundown does not know and the backend does, separated by commas: \
               ocpp1.6,mqtt. A client gets the first that it offers (sundown.v1 and sundown.v2 are \
               always among them), and then nothing of sundown's own but the Close: no counts, \
               timestamps or goodbye. A browser that offers others only closes the connection at once.",
        expected: "subprotocols that are not sundown's own, separated by commas, such as ocpp1.6",
        apply: |s, text| put(&mut s.config.subprotocols, Some(entries(text))),
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
        name: "admin-hosts",
        metavar: "LIST",
        default: "",
        group: Group::Listeners,
        help: "Names under which --admin may be asked, separated by commas: app_blue:8001, or \
               app_blue for any port. Addresses and localhost always may. Any other name is \
               answered 421: a web page could have given it to this machine, and read the metrics.",
        expected: "names separated by commas, each with a port or without",
        apply: |s, text| put(&mut s.config.admin_hosts, Some(entries(text))),
        ..BASE
    },
    Setting {
        name: "allowed-origins",
        metavar: "LIST",
        default: "*",
        group: Group::Listeners,
        help: "The origins whose pages may connect, separated by commas, as browsers send them: \
               https://example.org,https://*.example.org (all names below, and not itself), \
               file:// or app://. for pages of apps. Empty or `*` is every origin, and then any \
               web page can connect its visitors.",
        expected: "origins separated by commas, or * alone for all",
        apply: |s, text| put(&mut s.config.allowed_origins, origins(text)),
        ..BASE
    },
    Setting {
        name: "proxy-protocol",
        metavar: "on|off",
        default: "off",
        group: Group::Listeners,
        help: "`on`: the proxies of --trusted-proxies begin each connection to --listen and --admin \
               with a PROXY header (version 1 or 2), which names the client. From then on a \
               connection of theirs without one is answered 400, health checks included; and \
               with `off`, one that has it: turn it on together with the proxy.",
        expected: "on or off",
        apply: |s, text| put(&mut s.config.proxy_protocol, switch(text)),
        ..BASE
    },
    Setting {
        name: "trusted-proxies",
        metavar: "LIST",
        default: "",
        group: Group::Listeners,
        help: "Proxies that say where a client comes from, by a PROXY header or by \
               X-Forwarded-For, separated by commas: addresses and networks \
               (127.0.0.1,10.0.0.0/8,fd00::/8), and `unix` for whoever may connect to a socket in \
               the file system. Of X-Forwarded-For it is the rightmost address that is no such \
               proxy. With addresses of clients among them, clients can make theirs up.",
        expected: "addresses, networks and unix, separated by commas",
        apply: |s, text| put(&mut s.config.trusted_proxies, Some(entries(text))),
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
        explain: |text| match text.parse::<StoreConfig>() {
            Ok(store) => sundown::store::check(&store).err(),
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
        help: "How often every client is sent a timestamp; 0s is off, and then a page, which does \
               not see pings, cannot tell a quiet server from one that is gone.",
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
        name: "max-deferred",
        metavar: "NUMBER",
        default: "1024",
        group: Group::Limits,
        help: "Messages whose handling may wait for another thread, all sessions together; then no \
               client is read from until half of them are done. `chat` and `echo` never defer.",
        expected: "a whole number from 1",
        apply: |s, text| put(&mut s.config.limits.deferred_max, text.parse().ok()),
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
        help: "Silence after which a client is cut; at a quarter of it, it is pinged. Much longer \
               than 2m, and a proxy that cuts after a minute of silence does so before the ping. \
               0s is off: no pings, and a client that vanished without a word keeps its place for \
               ever.",
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
               what collects logs; `auto` is text on a terminal and in systemd's journal, which \
               gets a priority with each line and no time, and json anywhere else.",
        expected: "text, json or auto",
        apply: |s, text| put(&mut s.log_format, log_format(text)),
        ..BASE
    },
];

fn put<T>(field: &mut T, value: Option<T>) -> Option<()> {
    *field = value?;
    Some(())
}
