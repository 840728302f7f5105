//! A proxy with the configuration that is shipped for it: adapted to the addresses and
//! the certificate of a test, started, and what it has logged.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::Command;

use rustix::process::Signal;

use crate::support::process::Process;
use crate::support::stream::Stream;
use crate::support::{PATIENCE, eventually};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    HaProxy,
    Nginx,
    Caddy,
    /// The one of docker/compose.yml, which has no TLS.
    Compose,
}

/// An instance, as the proxy sees it.
#[derive(Clone, Copy)]
pub(crate) struct Backend {
    pub(crate) listen: SocketAddr,
    pub(crate) admin: SocketAddr,
}

/// Text of the shipped file, and what stands there in the test.
pub(crate) type Change = (String, String);

pub(crate) struct Proxy {
    kind: Kind,
    process: Process,
}

impl Kind {
    fn program(self) -> &'static str {
        match self {
            Self::HaProxy | Self::Compose => "haproxy",
            Self::Nginx => "nginx",
            Self::Caddy => "caddy",
        }
    }

    fn file(self) -> &'static str {
        match self {
            Self::HaProxy => "docs/deploy/proxies/haproxy.cfg",
            Self::Nginx => "docs/deploy/proxies/nginx.conf",
            Self::Caddy => "docs/deploy/proxies/Caddyfile",
            Self::Compose => "docker/haproxy/haproxy.cfg",
        }
    }

    /// Where it listens, whom it passes clients to, and nothing that takes root or a usual port.
    fn changes(self, dir: &Path, at: SocketAddr, backends: [Backend; 2]) -> Vec<Change> {
        let [blue, green] = backends;
        let dir = dir.display();
        let ip = at.ip();
        let port = at.port();
        let pairs: Vec<(&str, String)> = match self {
            Self::HaProxy => vec![
                ("    user haproxy\n    group haproxy\n", String::new()),
                // What it logs only when something is wrong is to be seen, too.
                (
                    "log /dev/log local0 notice",
                    "log stdout format raw local0".into(),
                ),
                ("    option dontlog-normal\n", String::new()),
                (
                    ":443 ssl crt /etc/haproxy/sundown.pem",
                    format!("{at} ssl crt {dir}/both.pem"),
                ),
                (
                    "127.0.0.1:8010 check port 8011",
                    format!("{} check port {}", blue.listen, blue.admin.port()),
                ),
                (
                    "127.0.0.1:8020 check port 8021",
                    format!("{} check port {}", green.listen, green.admin.port()),
                ),
            ],
            Self::Nginx => vec![
                ("listen 443 ssl;", format!("listen {at} ssl;")),
                ("    listen [::]:443 ssl;\n", String::new()),
                ("/etc/nginx/sundown", format!("{dir}/cert")),
                ("/var/log/nginx/sundown-error.log", format!("{dir}/log")),
                ("/var/log/nginx/sundown.log", format!("{dir}/log")),
                ("127.0.0.1:8010", blue.listen.to_string()),
                ("127.0.0.1:8020", green.listen.to_string()),
            ],
            Self::Caddy => vec![
                (
                    "{\n\t# Session ids",
                    "{\n\tadmin off\n\tauto_https disable_redirects\n\t# Session ids".into(),
                ),
                (
                    "chat.example.org {",
                    format!("https://localhost:{port} {{\n\tbind {ip}"),
                ),
                ("/etc/caddy/sundown", format!("{dir}/cert")),
                ("127.0.0.1:8010", blue.listen.to_string()),
                ("127.0.0.1:8020", green.listen.to_string()),
            ],
            Self::Compose => vec![
                // One for each machine, and names that only the engine knows.
                (
                    "    stats socket ipv4@127.0.0.1:9999 level admin\n",
                    String::new(),
                ),
                (
                    " resolvers docker init-addr none resolve-prefer ipv4",
                    String::new(),
                ),
                ("bind :8000", format!("bind {at}")),
                ("app_blue:8000", blue.listen.to_string()),
                ("app_green:8000", green.listen.to_string()),
            ],
        };
        let own = |(from, to): (&str, String)| (from.to_owned(), to);
        pairs.into_iter().map(own).collect()
    }
}

impl Proxy {
    /// Starts it and waits until it listens. The certificate is in this directory: `cert.pem`,
    /// `cert.key`, and `both.pem`.
    #[track_caller]
    pub(crate) fn start(
        kind: Kind,
        dir: &Path,
        at: SocketAddr,
        backends: [Backend; 2],
        more: &[Change],
    ) -> Self {
        let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join(kind.file());
        let mut text = fs::read_to_string(&shipped).expect("a file of the repository");
        for (from, to) in kind.changes(dir, at, backends).iter().chain(more) {
            assert!(text.contains(from), "{kind:?}: `{from}` is not there");
            text = text.replace(from, to);
        }
        let config = dir.join(shipped.file_name().expect("a file"));
        fs::write(&config, text).expect("a file in the test's directory");
        let mut command = Command::new(kind.program());
        command.current_dir(dir);
        match kind {
            Kind::HaProxy | Kind::Compose => {
                command.args(["-db", "-f"]).arg(&config);
                command.env("SUNDOWN_PER_ADDRESS", "100");
            }
            Kind::Nginx => {
                let around = dir.join("around.conf");
                fs::write(&around, around_nginx(dir)).expect("a file in the test's directory");
                command.arg("-e").arg("stderr").arg("-p").arg(dir);
                command.arg("-c").arg(around);
            }
            Kind::Caddy => {
                command.args(["run", "--adapter", "caddyfile", "--config"]);
                command.arg(&config).env("HOME", dir);
                command
                    .env_remove("XDG_DATA_HOME")
                    .env_remove("XDG_CONFIG_HOME");
            }
        }
        let process = Process::spawn(command);
        eventually("the proxy listens", || Stream::try_connect(at).is_ok());
        Self { kind, process }
    }

    /// All that it has logged.
    pub(crate) fn log(&self, dir: &Path) -> String {
        let mut lines = self.process.stdout.all();
        lines.extend(self.process.stderr.all());
        if self.kind == Kind::Nginx {
            lines.push(fs::read_to_string(dir.join("log")).expect("its log"));
        }
        lines.join("\n")
    }
}

impl Drop for Proxy {
    /// nginx has a process that serves, and which outlives the one that is killed.
    fn drop(&mut self) {
        if self.kind == Kind::Nginx && !std::thread::panicking() {
            self.process.signal(Signal::TERM);
            self.process.wait(PATIENCE);
        }
    }
}

/// What Debian's nginx.conf does: includes the file. All that is written is in this directory.
fn around_nginx(dir: &Path) -> String {
    let dir = dir.display();
    let paths = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];
    let temporary = paths.map(|what| format!("    {what}_temp_path {dir}/{what};\n"));
    let temporary = temporary.concat();
    format!(
        // By root, its workers are of no other user: all is in directories of the test's own.
        "daemon off;\nuser root root;\npid {dir}/pid;\nerror_log stderr;\nevents {{}}\n\
         http {{\n{temporary}    include {dir}/nginx.conf;\n}}\n"
    )
}

/// The clients' end of TLS: what comes in here in plain text goes to the proxy over TLS, and only
/// if the certificate is the right one. The second one comes from another address.
pub(crate) struct Doors {
    pub(crate) here: SocketAddr,
    pub(crate) elsewhere: SocketAddr,
    _process: Process,
}

const ELSEWHERE: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);

impl Doors {
    #[track_caller]
    pub(crate) fn open(
        kind: Kind,
        dir: &Path,
        to: SocketAddr,
        [here, elsewhere]: [SocketAddr; 2],
    ) -> Self {
        let dir_shown = dir.display();
        let tls = match kind {
            Kind::HaProxy | Kind::Nginx | Kind::Caddy => {
                format!("ssl verify required ca-file {dir_shown}/cert.pem sni str(localhost)")
            }
            Kind::Compose => String::new(),
        };
        let text = format!(
            "global\n    maxconn 4000\n\
             defaults\n    mode tcp\n    retries 0\n    timeout connect 20s\n    \
             timeout client 1h\n    timeout server 1h\n\
             listen here\n    bind {here}\n    server proxy {to} {tls}\n\
             listen elsewhere\n    bind {elsewhere}\n    \
             server proxy {to} source {ELSEWHERE} {tls}\n"
        );
        let config = dir.join("doors.cfg");
        fs::write(&config, text).expect("a file in the test's directory");
        let mut command = Command::new("haproxy");
        command.args(["-db", "-f"]).arg(config);
        let process = Process::spawn(command);
        eventually("the doors are open", || {
            Stream::try_connect(elsewhere).is_ok()
        });
        Self {
            here,
            elsewhere,
            _process: process,
        }
    }
}
