//! What the examples share beside their services: arguments, a log, signals, and the loop.
//!
//! `--listen`, `--admin` and `--store` mean what they mean to the command `sundown`. It knows nothing
//! of any one service.

use std::process::ExitCode;
use std::str::FromStr;

use log::{LevelFilter, Log, Metadata, Record};
use sundown::signals::Signals;
use sundown::{Config, Error, Outcome, Server};

/// Why an example does not start, or does not go on.
pub(crate) enum Failure {
    /// The arguments make no sense.
    Usage(String),
    Server(Error),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Server(error)
    }
}

/// The arguments, as pairs of flag and value.
pub(crate) struct Arguments(Vec<(String, String)>);

impl Arguments {
    fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Self, Failure> {
        let mut pairs = Vec::new();
        while let Some(argument) = arguments.next() {
            let (flag, value) = match argument.split_once('=') {
                Some((flag, value)) => (flag.to_owned(), Some(value.to_owned())),
                None => (argument, arguments.next()),
            };
            let value = value.ok_or_else(|| Failure::Usage(format!("{flag} needs a value")))?;
            pairs.push((flag, value));
        }
        Ok(Self(pairs))
    }

    /// The value of a flag; of several, the last one.
    pub(crate) fn take<T: FromStr>(&mut self, flag: &str) -> Result<Option<T>, Failure> {
        let mut taken = None;
        for (_, text) in self.0.extract_if(.., |(name, _)| name == flag) {
            // The value is not repeated: that of `--store` may hold a password.
            let wrong = || Failure::Usage(format!("{flag}: not a value for it"));
            taken = Some(text.parse().map_err(|_| wrong())?);
        }
        Ok(taken)
    }

    /// The settings that every example has. Take an example's own flags before: no other is known.
    pub(crate) fn config(&mut self) -> Result<Config, Failure> {
        let mut config = Config::default();
        if let Some(listen) = self.take("--listen")? {
            config.listen = listen;
        }
        if let Some(store) = self.take("--store")? {
            config.store = store;
        }
        if let Some(Admin(admin)) = self.take("--admin")? {
            config.admin = admin;
        }
        match self.0.first() {
            None => Ok(config),
            Some((flag, _)) => Err(Failure::Usage(format!("{flag}: no such flag"))),
        }
    }
}

/// `IP:PORT`, or `off`.
struct Admin(Option<std::net::SocketAddr>);

impl FromStr for Admin {
    type Err = std::net::AddrParseError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "off" => Ok(Self(None)),
            address => address.parse().map(|address| Self(Some(address))),
        }
    }
}

/// Serves until SIGTERM or SIGINT and the shutdown that follows. The last line on standard output is
/// its report.
pub(crate) fn serve(make: impl FnOnce(&mut Arguments) -> Result<Server, Failure>) -> ExitCode {
    let error = match run(make) {
        Ok(outcome) => {
            println!("{}", outcome.report_json());
            return ExitCode::from(outcome.exit_code());
        }
        Err(Failure::Server(Error::Config(text)) | Failure::Usage(text)) => {
            eprintln!("{text}");
            return ExitCode::from(64);
        }
        Err(Failure::Server(error)) => error,
    };
    eprintln!("{error}");
    ExitCode::FAILURE
}

fn run(make: impl FnOnce(&mut Arguments) -> Result<Server, Failure>) -> Result<Outcome, Failure> {
    // First, so that a signal that comes during the start counts.
    let signals = Signals::register()?;
    if log::set_logger(&Stderr).is_ok() {
        log::set_max_level(LevelFilter::Info);
    }
    let mut arguments = Arguments::parse(std::env::args().skip(1))?;
    let mut server = make(&mut arguments)?.with_signals(signals)?;
    println!("listening on ws://{}", server.local_addr());
    if let Some(admin) = server.admin_addr() {
        println!("admin on http://{admin}");
    }
    println!("store {}", server.store_description());
    let mut is_ready = false;
    while server.turn(None)? {
        if !is_ready && server.is_ready() {
            is_ready = true;
            println!("ready");
        }
    }
    Ok(server.outcome())
}

/// Each record as a line on standard error. It waits for whoever reads that: a service that must
/// not has a logger with a thread of its own.
struct Stderr;

impl Log for Stderr {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.level() <= log::max_level()
    }

    fn log(&self, record: &Record<'_>) {
        if self.enabled(record.metadata()) {
            eprintln!("{} {}", record.level(), record.args());
        }
    }

    fn flush(&self) {}
}
