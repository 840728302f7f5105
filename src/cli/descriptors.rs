//! The process's limit of open files, raised for `--max-connections`. It must never lower it, and
//! never stop the start: a limit that is too low shows as refused connections, not as none.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use sundown::Limits;

/// For what is no client: handshakes and health checks, operators, listeners, the store, signals,
/// the poll, standard streams.
const HEADROOM: u64 = (Limits::STRANGERS_MAX + Limits::OPERATORS_MAX) as u64 + 64;

/// What there is to do about a limit (`None` is no limit).
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    /// The soft limit is high enough.
    Enough,
    /// The soft limit is too low and the hard limit is not.
    Raise,
    /// Even the hard limit is too low.
    TooLow { hard: u64 },
}

/// Raises the soft limit to the hard one if so many connections need it, and says so in the log.
pub(crate) fn provide(connections: usize) {
    let needed = u64::try_from(connections)
        .unwrap_or(u64::MAX)
        .saturating_add(HEADROOM);
    let limit = getrlimit(Resource::Nofile);
    let verdict = judge(limit.current, limit.maximum, needed);
    if verdict == Verdict::Enough {
        return;
    }
    let (soft, hard) = (name(limit.current), name(limit.maximum));
    if limit.current != limit.maximum {
        let raised = Rlimit {
            current: limit.maximum,
            maximum: limit.maximum,
        };
        if let Err(error) = setrlimit(Resource::Nofile, raised) {
            log::warn!(
                "--max-connections {connections} needs {needed} open files, the limit is {soft}, \
                 and it cannot be raised: {error}"
            );
            return;
        }
        log::info!("limit of open files raised from {soft} to {hard}");
    }
    if let Verdict::TooLow { hard } = verdict {
        let advice = match hard.saturating_sub(HEADROOM) {
            0 => String::new(),
            fewer => format!(", or lower --max-connections to {fewer}"),
        };
        log::warn!(
            "--max-connections {connections} needs {needed} open files, and the hard limit is \
             {hard}: raise it (ulimit -Hn){advice}"
        );
    }
}

fn judge(soft: Option<u64>, hard: Option<u64>, needed: u64) -> Verdict {
    let short = |limit: Option<u64>| limit.filter(|&limit| limit < needed);
    match (short(soft), short(hard)) {
        (None, _) => Verdict::Enough,
        (Some(_), None) => Verdict::Raise,
        (Some(_), Some(hard)) => Verdict::TooLow { hard },
    }
}

fn name(limit: Option<u64>) -> String {
    limit.map_or_else(|| "unlimited".to_owned(), |limit| limit.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verdicts() {
        assert_eq!(judge(Some(100), Some(200), 100), Verdict::Enough);
        assert_eq!(judge(None, None, 100), Verdict::Enough);
        assert_eq!(judge(Some(99), Some(100), 100), Verdict::Raise);
        assert_eq!(judge(Some(99), None, 100), Verdict::Raise);
        assert_eq!(judge(Some(98), Some(99), 100), Verdict::TooLow { hard: 99 });
        assert_eq!(judge(Some(99), Some(99), 100), Verdict::TooLow { hard: 99 });
    }
}
