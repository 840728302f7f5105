//! What only `sundown` has: the chat on its stores, one heartbeat to all, the whole shutdown, and
//! how soon it is there.

use std::io::{self, Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::closed;
use crate::connection::request;
use crate::crowd::{Crowd, Told};
use crate::options::Options;
use crate::process::Server;
use crate::results::Results;
use crate::servers::{self, Redis, Scratch};

const WARM_UP: Duration = Duration::from_millis(250);
const PAYLOAD: usize = 20;

/// Each connection has a session of its own.
fn session(index: usize) -> String {
    format!("/ws/chat/?session=bench-{index}")
}

pub(crate) fn throughput(options: &Options, results: &mut Results) -> io::Result<()> {
    let scratch = Scratch::new()?;
    for &connections in &options.chat_connections {
        for round in 0..options.rounds {
            for durability in ["acked", "relaxed"] {
                for store in ["memory:", "sqlite:", "redis://"] {
                    let measured = on_store(options, &scratch, connections, (store, durability))
                        .map_err(|error| {
                            io::Error::other(format!("{store} {durability}: {error}"))
                        })?;
                    let row = json!({
                        "connections": connections,
                        "payload": PAYLOAD,
                        "depth": 1,
                        "per_second": measured.per_second,
                        "cpu_us": measured.cpu_us,
                        "server_busy": measured.server_busy,
                        "client_busy": measured.client_busy,
                    });
                    results.push("chat", &format!("{store} {durability}"), round, row);
                }
            }
        }
        results.print_latest("chat");
    }
    Ok(())
}

fn on_store(
    options: &Options,
    scratch: &Scratch,
    connections: usize,
    (store, durability): (&str, &str),
) -> io::Result<closed::Throughput> {
    let redis = (store == "redis://").then(|| Redis::start(scratch));
    let redis = redis.transpose()?;
    let url = match (store, &redis) {
        ("sqlite:", _) => format!("sqlite:{}", scratch.fresh("bench.db").display()),
        (_, Some(redis)) => redis.url(),
        (store, None) => store.to_owned(),
    };
    let spill = format!("sqlite:{}", scratch.fresh("spill.db").display());
    let more = ["--durability", durability, "--spill", &spill];
    let server = servers::chat(options, &url, &more)?;
    let mut crowd = Crowd::new(server.addr, PAYLOAD)?;
    crowd.open(connections, &session)?;
    let plan = closed::Plan {
        depth: 1,
        warm_up: WARM_UP,
        measured: options.measured,
        echo: false,
    };
    let measured = closed::run(&mut crowd, server.pid(), plan)?;
    for connection in &crowd.connections {
        let count = format!("{{\"count\":{}}}", connection.sent);
        if connection.last != count.as_bytes() {
            let last = String::from_utf8_lossy(&connection.last);
            return Err(io::Error::other(format!(
                "{count} expected, and {last} came"
            )));
        }
    }
    Ok(measured)
}

const LISTENERS: usize = 10_000;
const WAVES: u64 = 3;

pub(crate) fn broadcast(options: &Options, results: &mut Results) -> io::Result<()> {
    let mut command = servers::sundown(&options.sundown);
    command.args(["--store", "memory:", "--heartbeat", "2s"]);
    let server = Server::start(&mut command)?;
    let mut crowd = Crowd::new(server.addr, PAYLOAD)?;
    crowd.open(LISTENERS, &|_| "/ws/chat/".to_owned())?;
    // The wave that found some of them missing is let pass.
    let quiet = Duration::from_millis(500);
    let (mut heard, deadline) = (None, Instant::now() + Duration::from_secs(10));
    while heard.is_none_or(|at: Instant| at.elapsed() < quiet) && Instant::now() < deadline {
        crowd.turn(Some(Duration::from_millis(20)), &mut |_, _| {
            heard = Some(Instant::now());
            Ok(())
        })?;
    }
    for wave in 0..WAVES {
        let before = server.cpu_ns()?;
        let (mut count, mut first, mut last) = (0, None, None);
        let deadline = Instant::now() + Duration::from_secs(10);
        while count < LISTENERS && Instant::now() < deadline {
            crowd.turn(Some(Duration::from_millis(20)), &mut |_, _| {
                let now = Instant::now();
                first.get_or_insert(now);
                last = Some(now);
                count += 1;
                Ok(())
            })?;
        }
        let (Some(first), Some(last), true) = (first, last, count == LISTENERS) else {
            return Err(io::Error::other(format!("{count} heartbeats came")));
        };
        // Until the loop has gone to sleep again.
        std::thread::sleep(Duration::from_millis(50));
        let cpu_us = (server.cpu_ns()? - before) as f64 / 1e3;
        let row = json!({
            "connections": LISTENERS,
            "kind": "one heartbeat to all",
            "wall_ms": (last - first).as_secs_f64() * 1e3,
            "cpu_ms": cpu_us / 1e3,
            "cpu_us_each": cpu_us / LISTENERS as f64,
        });
        results.push("broadcast", "sundown", wave as usize, row);
    }
    results.print_latest("broadcast");
    Ok(())
}

/// How the time of a shutdown is prescribed: as it is shipped, and without any wait.
const BUDGETS: [(&str, &[&str]); 2] = [
    ("as shipped", &[]),
    (
        "without the waits",
        &["--drain-quiet", "0s", "--close-spread", "0s"],
    ),
];

pub(crate) fn shutdown(options: &Options, results: &mut Results) -> io::Result<()> {
    for (connections, busy) in [(10_000, false), (1_000, true)] {
        for round in 0..options.rounds {
            for (budget, flags) in BUDGETS {
                let mut row = goodbye(options, connections, busy, flags)?;
                row["connections"] = json!(connections);
                row["kind"] = json!(if busy { "busy" } else { "idle" });
                results.push("shutdown", budget, round, row);
            }
        }
        results.print_latest("shutdown");
    }
    Ok(())
}

fn goodbye(options: &Options, connections: usize, busy: bool, flags: &[&str]) -> io::Result<Value> {
    let server = servers::chat(options, "memory:", flags)?;
    let mut crowd = Crowd::new(server.addr, PAYLOAD)?;
    crowd.open(connections, &session)?;
    if busy {
        let begun = Instant::now();
        for index in 0..connections {
            crowd.send(index, 1)?;
        }
        while begun.elapsed() < WARM_UP * 2 {
            crowd.turn(Some(Duration::from_millis(10)), &mut answer)?;
        }
    } else {
        std::thread::sleep(WARM_UP);
    }
    let before = server.cpu_ns()?;
    let begun = Instant::now();
    server.signal(Signal::TERM)?;
    while !server.has_ended()? {
        let timeout = Some(Duration::from_millis(1));
        if busy {
            crowd.turn(timeout, &mut answer)?;
        } else {
            crowd.turn(timeout, &mut |_, _| Ok(()))?;
        }
    }
    let wall = begun.elapsed();
    let cpu_ns = server.cpu_ns()?.saturating_sub(before);
    crowd.wait_for_ends()?;
    for connection in &crowd.connections {
        let bidden = connection.last.starts_with(b"{\"bye\":true,");
        if !bidden || connection.closed != Some(1001) {
            return Err(io::Error::other("somebody was bidden no goodbye"));
        }
    }
    let output = server.rest_of_output()?;
    let report: Value = serde_json::from_str(output.lines().last().unwrap_or_default())?;
    Ok(json!({
        "wall_ms": wall.as_secs_f64() * 1e3,
        "cpu_ms": cpu_ns as f64 / 1e6,
        "cpu_us_each": cpu_ns as f64 / 1e3 / connections as f64,
        "report": report,
    }))
}

/// Each answer brings the next message.
fn answer(_: Told<'_>, more: &mut usize) -> io::Result<()> {
    *more += 1;
    Ok(())
}

const STARTS: usize = 20;

pub(crate) fn start(options: &Options, results: &mut Results) -> io::Result<()> {
    let scratch = Scratch::new()?;
    for round in 0..STARTS {
        for store in ["memory:", "sqlite:"] {
            let url = match store {
                "sqlite:" => format!("sqlite:{}", scratch.fresh("start.db").display()),
                store => store.to_owned(),
            };
            let mut command = servers::sundown(&options.sundown);
            let mut server = Server::start(command.args(["--store", &url]))?;
            first_101(&server)?;
            let first_101 = server.started.elapsed();
            let ready = server.wait_ready()?;
            std::thread::sleep(Duration::from_millis(100));
            let memory = server.memory()?;
            let ms = |time: Duration| time.as_secs_f64() * 1e3;
            let row = json!({
                "kind": "from the fork on",
                "listening_ms": ms(server.listening_after),
                "ready_ms": ms(ready),
                "first_101_ms": ms(first_101),
                "resident": memory.resident,
                "anonymous": memory.anonymous,
                "binary_bytes": std::fs::metadata(&options.sundown)?.len(),
            });
            results.push("start", store, round, row);
        }
    }
    results.print_latest("start");
    Ok(())
}

fn first_101(server: &Server) -> io::Result<()> {
    let mut socket = TcpStream::connect(server.addr)?;
    socket.set_nodelay(true)?;
    socket.write_all(request("/ws/chat/").as_bytes())?;
    let mut answer = [0; 12];
    socket.read_exact(&mut answer)?;
    if answer == *b"HTTP/1.1 101" {
        Ok(())
    } else {
        Err(io::Error::other("the first answer is no 101"))
    }
}
