//! The command: arguments and environment → `Config` → `Server` → `Outcome` → exit code. It must
//! never decide what the library can decide, and never call `process::exit`.

#![expect(dead_code, reason = "serving is the next change")]

mod cli;

use std::env;
use std::process::ExitCode;

use cli::args::{self, Command};
use cli::{healthcheck, help, logger, output};

/// `EX_USAGE` of sysexits.h.
const BAD_CONFIGURATION: u8 = 64;
/// Not ready, or something was lost, or the server could not start or go on.
const FAILED: u8 = 1;

fn main() -> ExitCode {
    logger::install();
    let code = match args::parse(env::args_os().skip(1), &|name| env::var_os(name)) {
        Ok(Command::Serve(_)) => {
            output::print_error("this build does not serve yet");
            FAILED
        }
        Ok(Command::Healthcheck(settings)) => match healthcheck::check(&settings.config) {
            Ok(()) => 0,
            Err(unready) => {
                output::print_error(&unready.to_string());
                FAILED
            }
        },
        Ok(Command::Help) => {
            output::print_text(&help::text());
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
    ExitCode::from(code)
}
