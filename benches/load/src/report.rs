//! The tables and plots of docs/benchmarks.md, from the results of a run. What stands between the
//! two marks of that file is written here; the text around them is for people to write.

use std::fmt::Write as _;
use std::fs;
use std::io;
use std::path::Path;

use crate::options::SECTIONS;
use crate::plots::{Bar, bars};
use crate::results::{Results, Spread, grouped};
use crate::targets;

const DOCUMENT: &str = "docs/benchmarks.md";
const PLOTS: &str = "docs/benchmarks";
const BEGIN: &str = "<!-- measured: begin -->\n";
const END: &str = "<!-- measured: end -->\n";

pub(crate) fn write(results: &Path) -> io::Result<()> {
    let results = Results::load(results)?;
    let document = fs::read_to_string(DOCUMENT)?;
    let parts = document
        .split_once(BEGIN)
        .and_then(|(before, rest)| Some((before, rest.split_once(END)?.1)));
    let Some((before, after)) = parts else {
        return Err(io::Error::other(format!("{DOCUMENT} has no marks")));
    };
    fs::create_dir_all(PLOTS)?;
    let measured = measured(&results)?;
    fs::write(DOCUMENT, format!("{before}{BEGIN}{measured}{END}{after}"))?;
    println!("{DOCUMENT} and {PLOTS}/ are written");
    Ok(())
}

fn measured(results: &Results) -> io::Result<String> {
    let mut text = origin(results);
    if let Some(targets) = targets::table(results) {
        push(
            &mut text,
            format_args!("\n### To reach\n\n{}", targets.markdown()),
        );
    }
    for section in SECTIONS {
        let points = results.points(section);
        if points.is_empty() {
            continue;
        }
        push(&mut text, format_args!("\n### {}\n", title(section)));
        if *section == "throughput" {
            push(&mut text, format_args!("\n{}", overview(results)));
        }
        for point in points {
            if let Some(plot) = plot(results, section, &point)? {
                push(&mut text, format_args!("\n![{point}]({plot})\n"));
            }
            let table = results.table(section, &point).markdown();
            push(
                &mut text,
                format_args!("\n**{}**\n\n{table}", capital(&point)),
            );
        }
        if *section == "memory" {
            push(&mut text, format_args!("\n{}", slopes(results)));
        }
    }
    Ok(text)
}

fn title(section: &str) -> &'static str {
    match section {
        "start" => "Start, and the binary",
        "throughput" => "Throughput and CPU, closed loop",
        "latency" => "Latency, open loop",
        "chat" => "The chat on its stores",
        "memory" => "Memory of idle connections",
        "broadcast" => "One message to all",
        _ => "The whole shutdown",
    }
}

fn origin(results: &Results) -> String {
    let about = |name: &str| {
        let value = &results.about[name];
        value
            .as_str()
            .map_or_else(|| value.to_string(), str::to_owned)
    };
    let clean = match about("clean").as_str() {
        "true" => "",
        _ => ", with changes that are not committed",
    };
    format!(
        "\n| | |\n|---|---|\n| machine | {}, {} cores, {}, Linux {} |\n| compiler | {} |\n\
         | commit | {}{clean}, on {} |\n| command | `load bench {}`, by `make bench-peers` |\n\
         | load before the run | {} |\n\
         | spread | median of {} rounds of {} ms (least – most), for latencies of {} times as \
         many; ratios pair by pair |\n",
        about("cpu"),
        about("cores"),
        about("memory"),
        about("kernel"),
        about("compiler"),
        about("commit"),
        about("date"),
        about("arguments"),
        about("load"),
        about("rounds"),
        about("measured_ms"),
        about("latency_factor"),
    )
}

/// All points of the echo at a glance: throughput as a multiple of the floor's.
fn overview(results: &Results) -> String {
    let points = results.points("throughput");
    let Some(first) = points.first() else {
        return String::new();
    };
    let peers = results.peers("throughput", first);
    let mut text = format!("| / floor | {} |\n|---|", peers.join(" | "));
    text.push_str(&"---:|".repeat(peers.len()));
    text.push('\n');
    for point in &points {
        push(&mut text, format_args!("| {point} |"));
        for peer in &peers {
            let ratio = results.ratio("throughput", point, (peer, "floor"), "per_second");
            let ratio = ratio.map_or_else(String::new, |ratio| format!("{:.2}", ratio.median));
            push(&mut text, format_args!(" {ratio} |"));
        }
        text.push('\n');
    }
    text
}

/// What one connection more costs, between the fewest and the most that were opened.
fn slopes(results: &Results) -> String {
    let points = results.points("memory");
    let (Some(first), Some(last)) = (points.first(), points.last()) else {
        return String::new();
    };
    let mut text = format!(
        "| from {first} to {last} | fresh, B each | after speaking, B each |\n|---|---:|---:|\n"
    );
    for peer in results.peers("memory", first) {
        let at = |point: &str, metric: &str| results.spread("memory", point, &peer, metric);
        let slope = |metric: &str| {
            let few = at(first, metric)?.median;
            let many = at(last, metric)?.median;
            let more = connections(results, last) - connections(results, first);
            (more > 0.0).then(|| grouped((many - few) / more))
        };
        let text_of = |metric| slope(metric).unwrap_or_else(|| "–".to_owned());
        let (fresh, spoken) = (text_of("fresh"), text_of("spoken"));
        push(&mut text, format_args!("| {peer} | {fresh} | {spoken} |\n"));
    }
    text
}

fn connections(results: &Results, point: &str) -> f64 {
    let rows = results.section("memory").into_iter();
    let mut own = rows.filter(|row| crate::results::point(row) == point);
    own.next()
        .and_then(|row| row["connections"].as_f64())
        .unwrap_or_default()
}

/// A plot, where bars say more than a table: the medians of one metric.
fn plot(results: &Results, section: &str, point: &str) -> io::Result<Option<String>> {
    let (metric, unit) = match section {
        "throughput" if point.contains("20 B") => ("per_second", "messages/s"),
        "latency" => ("p99_us", "µs, p99"),
        "chat" => ("per_second", "messages/s"),
        "memory" => ("spoken_each", "B for each connection that has spoken"),
        _ => return Ok(None),
    };
    let median = |peer: &str| results.spread(section, point, peer, metric);
    let bar = |name: String| {
        let Spread { median: value, .. } = median(&name)?;
        let text = grouped(value);
        Some(Bar { name, value, text })
    };
    let peers = results.peers(section, point);
    let floor = median("floor").map(|floor| floor.median);
    let all: Vec<Bar> = peers.into_iter().filter_map(bar).collect();
    let title = format!("{}: {unit}", capital(point));
    let name = format!("{section}-{}.svg", slug(point));
    fs::write(Path::new(PLOTS).join(&name), bars(&title, &all, floor))?;
    Ok(Some(format!("benchmarks/{name}")))
}

fn slug(text: &str) -> String {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric());
    let words: Vec<_> = words.filter(|word| !word.is_empty()).collect();
    words.join("-").to_lowercase()
}

fn capital(text: &str) -> String {
    let mut chars = text.chars();
    let first = chars.next().map(|first| first.to_ascii_uppercase());
    first.into_iter().chain(chars).collect()
}

fn push(text: &mut String, line: std::fmt::Arguments<'_>) {
    let written = text.write_fmt(line);
    debug_assert!(written.is_ok(), "a String takes everything");
}
