//! What the process itself needs, by the names that Prometheus has for it.
//!
//! Linux tells it in /proc, which is memory: reading it waits for no disk. Elsewhere there is
//! nothing of it on the page.

use std::fs;
use std::path::Path;

use super::families::Families;

/// What `/proc/self` says.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Usage {
    cpu_seconds: f64,
    virtual_bytes: u64,
    resident_bytes: u64,
    /// Seconds after the machine has started.
    started_after: f64,
}

/// Clock ticks in a second, as /proc has them on every architecture that Linux runs on.
const TICKS: f64 = 100.0;

pub(super) fn append(families: &Families) {
    let page_bytes = rustix::param::page_size() as u64;
    let stat = fs::read_to_string("/proc/self/stat").ok();
    if let Some(usage) = stat.and_then(|stat| parse(&stat, page_bytes)) {
        append_usage(families, usage);
    }
    if let Some(open) = open_files(Path::new("/proc/self/fd")) {
        families.gauge("process_open_fds", "File descriptors that are open.", open);
    }
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    families.gauge(
        "process_max_fds",
        "File descriptors that may be open.",
        limit.unwrap_or(u64::MAX),
    );
}

fn append_usage(families: &Families, usage: Usage) {
    let boot = fs::read_to_string("/proc/stat").ok();
    let boot = boot.as_deref().and_then(boot_time);
    families.gauge(
        "process_resident_memory_bytes",
        "Memory that is resident.",
        usage.resident_bytes,
    );
    families.gauge(
        "process_virtual_memory_bytes",
        "Addresses that are in use.",
        usage.virtual_bytes,
    );
    families.seconds_total(
        "process_cpu_seconds_total",
        "Time on a core, in user space and in the kernel.",
        usage.cpu_seconds,
    );
    if let Some(boot) = boot {
        families.gauges::<&str, 0>(
            "process_start_time_seconds",
            "When the process was started, since 1970-01-01T00:00:00Z.",
            [],
            [([], boot + usage.started_after)],
        );
    }
}

/// `proc_pid_stat(5)`: the second field is a name in parentheses, which may hold anything.
fn parse(stat: &str, page_bytes: u64) -> Option<Usage> {
    let (_, rest) = stat.rsplit_once(") ")?;
    let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
    // The first of these is the third field.
    let field = |number: usize| fields.get(number - 3).copied();
    let ticks = |number| field(number)?.parse::<f64>().ok();
    let pages: u64 = field(24)?.parse().ok()?;
    Some(Usage {
        cpu_seconds: (ticks(14)? + ticks(15)?) / TICKS,
        virtual_bytes: field(23)?.parse().ok()?,
        resident_bytes: pages.saturating_mul(page_bytes),
        started_after: ticks(22)? / TICKS,
    })
}

/// From 6.2 on the size of the directory says it (`proc_pid_fd(5)`); before, somebody has to.
fn open_files(directory: &Path) -> Option<u64> {
    match fs::metadata(directory).ok()?.len() {
        0 => Some(fs::read_dir(directory).ok()?.count() as u64),
        len => Some(len),
    }
}

fn boot_time(stat: &str) -> Option<f64> {
    let line = stat.lines().find_map(|line| line.strip_prefix("btime "))?;
    line.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_counted_behind_the_name() {
        let stat = "7 (a) b (c) S 1 7 7 0 -1 4194560 100 0 0 0 250 150 0 0 20 0 2 0 12345 \
                    5000000 600 18446744073709551615";
        let usage = Usage {
            cpu_seconds: 4.0,
            virtual_bytes: 5_000_000,
            resident_bytes: 600 * 4_096,
            started_after: 123.45,
        };
        assert_eq!(parse(stat, 4_096), Some(usage));
        assert_eq!(parse("7 (a) S 1", 4_096), None);
    }

    #[test]
    fn the_boot_is_a_line_of_its_own() {
        assert_eq!(
            boot_time("cpu 1 2\nbtime 1795353540\n"),
            Some(1_795_353_540.0)
        );
        assert_eq!(boot_time("cpu 1 2\n"), None);
    }
}
