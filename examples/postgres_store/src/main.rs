//! A server whose sessions are in Postgres: each client sends numbers, and its session's state is
//! their sum.
//!
//! ```text
//! postgres_store --store postgres://USER:PASSWORD@HOST/DATABASE [--listen ADDR] [--admin ADDR]
//! ```

use std::process::ExitCode;

use postgres_store::{PostgresStore, describe};
use sundown::signals::Signals;
use sundown::{Application, Config, Error, Message, Outcome, Server, Session, Threaded};

/// Adds up what a client sends.
struct Sum;

impl Application for Sum {
    fn on_message(&mut self, message: Message<'_>, session: &mut Session<'_>) {
        let Message::Text(text) = message else { return };
        let held = str::from_utf8(session.state()).unwrap_or_default();
        let held: i64 = held.parse().unwrap_or_default();
        let sum = text
            .parse()
            .ok()
            .and_then(|number| held.checked_add(number));
        match sum.map(|sum| sum.to_string()) {
            Some(sum) if session.set_state(sum.as_bytes()).is_ok() => {
                session.reply_text(format!("sum {sum}"));
            }
            Some(_) | None => session.reply_text("not a number that can be added"),
        }
    }
}

struct Settings {
    config: Config,
    store: postgres::Config,
}

fn main() -> ExitCode {
    let log = env_logger::Env::default().default_filter_or("info,postgres=warn");
    env_logger::Builder::from_env(log).init();
    let settings = match settings(std::env::args().skip(1)) {
        Ok(settings) => settings,
        Err(error) => {
            eprintln!("postgres_store: {error}");
            return ExitCode::from(64);
        }
    };
    match serve(settings) {
        Ok(outcome) => {
            println!("{}", outcome.report_json());
            ExitCode::from(outcome.exit_code())
        }
        Err(error) => {
            eprintln!("postgres_store: {error}");
            ExitCode::FAILURE
        }
    }
}

fn serve(settings: Settings) -> Result<Outcome, Error> {
    let Settings { config, store } = settings;
    let signals = Signals::register()?;
    let server = Server::bind_with(config, Sum, |parts| {
        let described = describe(&store);
        let connect = move || PostgresStore::connect(&store);
        Ok(Box::new(Threaded::new(parts, described, connect)?))
    })?;
    let server = server.with_signals(signals)?;
    println!("listening on {}", server.local_addr());
    server.run()
}

fn settings(mut arguments: impl Iterator<Item = String>) -> Result<Settings, String> {
    let mut config = Config {
        admin: None,
        ..Config::default()
    };
    let mut store = None;
    while let Some(flag) = arguments.next() {
        let value = arguments.next().ok_or(format!("{flag} needs a value"))?;
        // The value is not repeated: it may have a password.
        let wrong = format!("{flag}: not a value for it");
        match &*flag {
            "--listen" => config.listen = value.parse().map_err(|_| wrong)?,
            "--admin" => config.admin = Some(value.parse().map_err(|_| wrong)?),
            "--store" => store = Some(value.parse().map_err(|_| wrong)?),
            _ => return Err(format!("{flag}: --store, --listen and --admin are known")),
        }
    }
    let store = store.ok_or("--store postgres://… is missing")?;
    Ok(Settings { config, store })
}
