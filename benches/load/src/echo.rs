//! The echo's grid: throughput in the closed loop, latency in the open one, and what idle
//! connections cost in memory. In each round the peers come one after the other, each as a new
//! process, so that whatever changes on the machine meanwhile meets them all.

use std::io;
use std::time::Duration;

use serde_json::{Value, json};

use crate::closed;
use crate::crowd::Crowd;
use crate::open;
use crate::options::{LATENCY_ROUNDS_FACTOR, Options};
use crate::results::{Results, Spread};
use crate::servers;

/// A point of the grid.
#[derive(Clone, Copy)]
struct Point {
    connections: usize,
    payload: usize,
    depth: usize,
}

/// Nothing is measured before caches, buffers and branch predictors have seen the load.
const WARM_UP: Duration = Duration::from_millis(250);

/// Bytes that may be under way at a point: beyond that, the kernel's buffers are measured.
const UNDER_WAY_MAX: usize = 200 << 20;

/// Where more than this is under way, answers come in gusts: it takes longer to see how many.
const HEAVY: usize = 32 << 20;
const HEAVY_FACTOR: u32 = 3;

/// Messages of this size come one at a time: deeper, it is the socket buffers that are measured.
const LARGE: usize = 1 << 20;

fn points(options: &Options) -> Vec<Point> {
    let mut points = Vec::new();
    for &connections in &options.connections {
        for &payload in &options.payloads {
            for &depth in &options.depths {
                let fits = connections * payload * depth <= UNDER_WAY_MAX;
                if fits && (payload < LARGE || depth == 1) {
                    points.push(Point {
                        connections,
                        payload,
                        depth,
                    });
                }
            }
        }
    }
    points
}

/// The root: all peers echo there.
pub(crate) fn path(_: usize) -> String {
    "/".to_owned()
}

pub(crate) fn throughput(options: &Options, results: &mut Results) -> io::Result<()> {
    for point in points(options) {
        for round in 0..options.rounds {
            for peer in &options.peers {
                let measured = closed_loop(options, peer, point);
                let measured = measured.map_err(|error| {
                    let Point {
                        connections,
                        payload,
                        depth,
                    } = point;
                    let at = format!("{peer}, {connections} × {payload} B, depth {depth}");
                    io::Error::other(format!("{at}: {error}"))
                })?;
                let row = json!({
                    "connections": point.connections,
                    "payload": point.payload,
                    "depth": point.depth,
                    "per_second": measured.per_second,
                    "cpu_us": measured.cpu_us,
                    "server_busy": measured.server_busy,
                    "client_busy": measured.client_busy,
                });
                results.push("throughput", peer, round, row);
            }
        }
        results.print_latest("throughput");
    }
    Ok(())
}

fn closed_loop(options: &Options, peer: &str, point: Point) -> io::Result<closed::Throughput> {
    let server = servers::echo(options, peer)?;
    let mut crowd = Crowd::new(server.addr, point.payload)?;
    crowd.open(point.connections, &path)?;
    let is_heavy = point.connections * point.payload * point.depth > HEAVY;
    let factor = if is_heavy { HEAVY_FACTOR } else { 1 };
    let plan = closed::Plan {
        depth: point.depth,
        warm_up: WARM_UP * factor,
        measured: options.measured * factor,
        echo: true,
    };
    closed::run(&mut crowd, server.pid(), plan)
}

/// Half of what the floor can do: the rate at which latencies are compared.
const LOAD: f64 = 0.5;

pub(crate) fn latency(options: &Options, results: &mut Results) -> io::Result<()> {
    let many = |connections: &&usize| (100..=1_000).contains(*connections);
    for &connections in options.connections.iter().filter(many) {
        let point = Point {
            connections,
            payload: 20,
            depth: 1,
        };
        let floor = (0..options.rounds)
            .map(|_| Ok(closed_loop(options, "floor", point)?.per_second))
            .collect::<io::Result<Vec<_>>>()?;
        let floor = Spread::of(floor).map_or(0.0, |spread| spread.median);
        let per_second = floor * LOAD;
        for round in 0..options.rounds * LATENCY_ROUNDS_FACTOR {
            for peer in &options.peers {
                let server = servers::echo(options, peer)?;
                let mut crowd = Crowd::new(server.addr, point.payload)?;
                crowd.open(connections, &path)?;
                let plan = open::Plan {
                    per_second,
                    warm_up: WARM_UP,
                    measured: options.measured,
                };
                let measured = open::run(&mut crowd, plan)?;
                let row = json!({
                    "connections": connections,
                    "payload": point.payload,
                    "kind": "at half the floor's throughput",
                    "rate": per_second,
                    "p50_us": measured.p50,
                    "p99_us": measured.p99,
                    "p999_us": measured.p999,
                    "max_us": measured.max,
                    "answered": measured.answered,
                });
                results.push("latency", peer, round, row);
            }
        }
        results.print_latest("latency");
    }
    Ok(())
}

/// How long a server has to come to rest.
const REST: Duration = Duration::from_millis(400);

pub(crate) fn memory(options: &Options, results: &mut Results) -> io::Result<()> {
    for &connections in &options.memory_connections {
        for peer in &options.peers {
            let held = idle(options, peer, connections)
                .map_err(|error| io::Error::other(format!("{peer}, {connections}: {error}")))?;
            results.push("memory", peer, 0, held);
        }
        results.print_latest("memory");
    }
    Ok(())
}

/// What a server holds for connections that say nothing, have said something, and have gone.
fn idle(options: &Options, peer: &str, connections: usize) -> io::Result<Value> {
    let server = servers::echo(options, peer)?;
    let rest = || {
        std::thread::sleep(REST);
        server.memory().map(|memory| memory.resident)
    };
    let start = rest()?;
    let mut crowd = Crowd::new(server.addr, 20)?;
    crowd.open(connections, &path)?;
    let fresh = rest()?;
    for index in 0..connections {
        crowd.send(index, 1)?;
        if index % 100 == 99 && !crowd.settle(PATIENCE)? {
            break;
        }
    }
    crowd.settle(PATIENCE)?;
    crowd.check_exact()?;
    let spoken = rest()?;
    crowd.close_all()?;
    let held = rest()?;
    let each = |bytes: u64| (bytes as f64 - start as f64) / connections as f64;
    Ok(json!({
        "connections": connections,
        "start": start,
        "fresh": fresh,
        "spoken": spoken,
        "held": held,
        "fresh_each": each(fresh),
        "spoken_each": each(spoken),
        "held_each": each(held),
    }))
}

const PATIENCE: Duration = Duration::from_secs(20);
