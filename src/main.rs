//! The command: arguments and environment → `Config` → `Server` → `Outcome` → exit code. It must
//! never decide what the library can decide, and never call `process::exit`.

// They block on a pipe that nobody reads, and panic when its reader has gone: use `log`, or
// `Stdout` of src/cli/output.rs.
#![warn(clippy::print_stderr, clippy::print_stdout)]

mod cli;

use std::env;
use std::io::ErrorKind;
use std::process::ExitCode;

use cli::args::{self, Command};
use cli::notify::{self, Notifier};
use cli::settings::{App, Settings};
use cli::{broadcast, descriptors, healthcheck, help, logger, output, reaper, shutdown_report};
use cli::{smoke, stream, unsaved};
use sundown::signals::Signals;
use sundown::{Chat, Echo, Error, Outcome, Server, clock};

/// `EX_USAGE` of sysexits.h.
const BAD_CONFIGURATION: u8 = 64;
/// Something was lost, or the server could not start or go on.
const FAILED: u8 = 1;

fn main() -> ExitCode {
    // Before anything else: a SIGTERM that comes while arguments are read or the store is opened
    // must count.
    let signals = Signals::register();
    logger::install();
    let code = match args::parse(env::args_os().skip(1), &|name| env::var_os(name)) {
        Ok(Command::Serve(settings)) => match signals.and_then(|it| serve(*settings, it)) {
            Ok(code) => return ExitCode::from(code),
            Err(error) => {
                output::print_error(&format!("{error}{}", hint(&error)));
                exit_code(&error)
            }
        },
        Ok(Command::Healthcheck(settings, probe)) => {
            match healthcheck::check(&settings.config, probe) {
                Ok(()) => 0,
                Err(unhealthy) => {
                    output::print_error(&unhealthy.to_string());
                    FAILED
                }
            }
        }
        Ok(Command::Smoke(settings)) => match smoke::check(&settings.config) {
            Ok(passed) => {
                output::print_line(&passed.to_string());
                0
            }
            Err(failure) => {
                output::print_error(&failure.to_string());
                FAILED
            }
        },
        Ok(Command::Broadcast(settings, json)) => match broadcast::say(&settings.config, &json) {
            Ok(answer) => {
                output::print_line(&answer);
                0
            }
            Err(failure) => {
                output::print_error(&failure.to_string());
                FAILED
            }
        },
        Ok(Command::ShutdownReport(request)) => match shutdown_report::draw(request) {
            Ok(drawing) => {
                output::print_text(&drawing);
                0
            }
            Err(failure) => {
                output::print_error(&failure.to_string());
                FAILED
            }
        },
        Ok(Command::Help(command)) => {
            output::print_text(&help::text(command));
            0
        }
        Ok(Command::Version) => {
            output::print_text(concat!("sundown ", env!("CARGO_PKG_VERSION"), "\n"));
            0
        }
        Err(usage) => {
            output::print_error(&usage.0);
            BAD_CONFIGURATION
        }
    };
    output::drain(clock::now().instant + output::PATIENCE);
    ExitCode::from(code)
}

/// Serves until a shutdown is over, and gives the exit code.
fn serve(settings: Settings, signals: Signals) -> Result<u8, Error> {
    logger::configure(settings.log, settings.log_format);
    reaper::start();
    for name in args::unknown_variables(env::vars_os().map(|(name, _)| name)) {
        log::warn!("the variable {name} is no setting of sundown: is it misspelled?");
    }
    let Settings {
        mut config, app, ..
    } = settings;
    let connections = config.limits.connections_max;
    let timeout = config.shutdown.timeout;
    let has_page = config.web;
    let beside = unsaved::beside(&config);
    let path = match app {
        App::Chat => config.paths.first().cloned().unwrap_or_default(),
        App::Echo => "/".to_owned(),
    };
    let server = match app {
        App::Chat => Server::bind(config, Chat)?,
        App::Echo => {
            config.paths.push("*".to_owned());
            Server::bind(config, Echo)?
        }
    };
    let server = server.with_signals(signals)?;
    // Not before: a server that cannot start says so in one line and nothing else.
    descriptors::provide(connections);
    announce(&server, &path, has_page);
    let mut notifier = Notifier::new(env::var_os(notify::VARIABLE));
    notifier.listening(server.local_addr());
    let mut outcome = run(server, &mut notifier)?;
    notifier.stopped(outcome.is_safe());
    // Whoever reads has the report at once; whoever does not moves no deadline.
    let now = clock::now().instant;
    // Closing many sockets takes its time where others have the processor.
    outcome.timeline.stopped = outcome.timeline.stopped.map(|_| now);
    let end = outcome.timeline.began.map(|began| began + timeout);
    let patience = now + output::PATIENCE;
    let deadline = end.map_or(patience, |end| end.min(patience));
    // Late already: the report has its moment all the same.
    let deadline = deadline.max(now + output::PATIENCE / 2);
    if outcome.unsaved_beyond_report() > 0 {
        let soon = now + deadline.saturating_duration_since(now) / 2;
        outcome.unsaved_file = unsaved::write(beside, outcome.unsaved.clone(), soon);
    }
    output::print_line(&outcome.report_json());
    output::drain(deadline);
    Ok(outcome.exit_code())
}

/// Serves, and says `ready` when the store has answered for the first time. Every socket is closed
/// when it returns.
fn run(mut server: Server, notifier: &mut Notifier) -> Result<Outcome, Error> {
    let (mut ready, mut stopping) = (false, false);
    while server.turn(notifier.timeout())? {
        if !ready && server.is_ready() {
            ready = true;
            output::print_line("ready");
            notifier.ready(server.local_addr());
        }
        if !stopping && server.is_shutting_down() {
            stopping = true;
            notifier.stopping();
        }
        notifier.retry();
    }
    Ok(server.outcome())
}

/// The start-up lines: connections are accepted from here on.
fn announce(server: &Server, path: &str, has_page: bool) {
    let url = stream::url("ws", &server.local_addr(), path);
    output::print_line(&format!("listening on {url}"));
    // As a browser on this machine finds it; none speaks to a socket in the file system.
    let address = stream::reachable(&server.local_addr()).and_then(|address| address.tcp());
    if let Some(address) = address.filter(|_| has_page) {
        output::print_line(&format!("page on http://{address}/"));
    }
    if let Some(admin) = server.admin_addr() {
        output::print_line(&format!("admin on http://{admin}"));
    }
    output::print_line(&format!("store {}", server.store_description()));
}

/// What to do about it, if that is known here.
fn hint(error: &Error) -> &'static str {
    if let Error::Bind { what, source } = error
        && source.kind() == ErrorKind::AddrInUse
    {
        if what.starts_with("unix:") {
            return "; stop who has it, or take another path";
        }
        "; stop who has it, or take free ports: \
         SUNDOWN_LISTEN=127.0.0.1:0 SUNDOWN_ADMIN=127.0.0.1:0 make run"
    } else {
        ""
    }
}

fn exit_code(error: &Error) -> u8 {
    if matches!(error, Error::Config(_)) {
        BAD_CONFIGURATION
    } else {
        FAILED
    }
}
