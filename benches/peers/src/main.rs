//! The servers that `sundown --app echo` is compared with: each sends every data message back, on
//! any path, on one thread. `peers NAME` serves on a free port of 127.0.0.1 and prints where.
//!
//! Each is written as its own documentation writes an echo server; the variants are what somebody
//! who knows it would change. None of them is made worse than it need be.

mod axum;
mod fastwebsockets;
mod floor;
mod soketto;
mod tungstenite;
mod upgrade;

use std::future::Future;
use std::io::{self, Write as _};
use std::net::{Ipv4Addr, TcpListener};
use std::process::ExitCode;

/// A name, and what serves under it until the process is ended.
type Peer = (&'static str, fn(TcpListener) -> io::Result<()>);

const PEERS: &[Peer] = &[
    ("floor", floor::serve),
    ("tungstenite", |listener| {
        on_tokio(tungstenite::serve(
            listener,
            tungstenite::Variant::AsShipped,
        ))
    }),
    ("tungstenite-4k", |listener| {
        on_tokio(tungstenite::serve(
            listener,
            tungstenite::Variant::SmallBuffers,
        ))
    }),
    ("tungstenite-batch", |listener| {
        on_tokio(tungstenite::serve(listener, tungstenite::Variant::Batching))
    }),
    ("fastwebsockets", |listener| {
        on_tokio(fastwebsockets::serve(listener))
    }),
    ("fastwebsockets-raw", |listener| {
        on_tokio(fastwebsockets::serve_raw(listener))
    }),
    ("axum", |listener| on_tokio(axum::serve(listener, None))),
    ("axum-4k", |listener| {
        on_tokio(axum::serve(listener, Some(4 << 10)))
    }),
    ("soketto", |listener| on_tokio(soketto::serve(listener))),
];

fn main() -> ExitCode {
    let name = std::env::args().nth(1).unwrap_or_default();
    let Some((_, serve)) = PEERS.iter().find(|(peer, _)| *peer == name) else {
        let names: Vec<_> = PEERS.iter().map(|(peer, _)| *peer).collect();
        eprintln!("peers NAME: one of {}", names.join(", "));
        return ExitCode::from(64);
    };
    match listen().and_then(serve) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{name}: {error}");
            ExitCode::FAILURE
        }
    }
}

fn listen() -> io::Result<TcpListener> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    listener.set_nonblocking(true)?;
    let mut stdout = io::stdout();
    writeln!(stdout, "listening on ws://{}/", listener.local_addr()?)?;
    stdout.flush()?;
    Ok(listener)
}

/// One thread for all.
fn on_tokio(server: impl Future<Output = io::Result<()>>) -> io::Result<()> {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.enable_io().build()?.block_on(server)
}
