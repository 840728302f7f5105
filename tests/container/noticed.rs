//! What the clients of a deploy noticed, as text and as a verdict.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use super::fleet::journal::{Break, End};
use super::fleet::{Account, Fleet};
use super::stack::Stack;

/// Everyone comes back and finishes; nothing is lost, nothing is counted twice.
#[track_caller]
pub(crate) fn settle(fleet: Fleet, stack: &Stack) -> Vec<Account> {
    let mut accounts = fleet.finish();
    let sessions = accounts
        .iter()
        .map(|account| account.ledger.session.as_str());
    let counts = stack.counts(sessions);
    for Account { ledger, .. } in &mut accounts {
        ledger.settle(counts[&ledger.session]);
        ledger.assert_clean();
    }
    accounts
}

/// Each client has lost its connection so many times, by a goodbye and a Close 1001 every time, and
/// every one of its handshakes after that succeeded.
#[track_caller]
pub(crate) fn assert_farewells(accounts: &[Account], deploys: usize) {
    for account in accounts {
        assert_eq!(account.breaks.len(), deploys, "{account:?}");
        for noticed in &account.breaks {
            assert_eq!(noticed.end, End::Farewell, "{account:?}");
            assert_eq!(noticed.refused, 0, "{account:?}");
        }
    }
}

/// The gap of each client, and how fast they came back, for every deploy.
pub(crate) fn table(accounts: &[Account], deploys: usize) -> String {
    let mut text = String::from(
        "| deploy | gap p50 | p90 | p99 | max | beyond its slot, p99 | back within | \
         at most in 100 ms | of the mean |\n\
         |---:|---:|---:|---:|---:|---:|---:|---:|---:|\n",
    );
    for deploy in 0..deploys {
        let breaks = accounts
            .iter()
            .filter_map(|account| account.breaks.get(deploy));
        let breaks: Vec<&Break> = breaks.collect();
        let mut gaps: Vec<Duration> = breaks.iter().filter_map(|noticed| noticed.gap()).collect();
        gaps.sort_unstable();
        let mut beyond: Vec<Duration> = breaks
            .iter()
            .filter_map(|noticed| noticed.beyond_slot())
            .collect();
        beyond.sort_unstable();
        let beyond = beyond.get(beyond.len().saturating_sub(1) * 99 / 100);
        let beyond = beyond.map_or("–".to_owned(), |beyond| {
            format!("{} ms", beyond.as_millis())
        });
        let mut greeted: Vec<Instant> = breaks
            .iter()
            .filter_map(|noticed| noticed.greeted)
            .collect();
        greeted.sort_unstable();
        let gap = |share| {
            gaps.get((gaps.len() - 1) * share / 100)
                .map_or(0, Duration::as_millis)
        };
        let span = greeted
            .last()
            .zip(greeted.first())
            .map_or(Duration::ZERO, |(last, first)| *last - *first);
        let most = busiest(&greeted);
        // Of what it would be if they came evenly.
        let share = most as u128 * span.as_millis() / greeted.len().max(1) as u128;
        writeln!(
            text,
            "| {} | {} ms | {} ms | {} ms | {} ms | {beyond} | {} ms | {most} | {share} % |",
            deploy + 1,
            gap(50),
            gap(90),
            gap(99),
            gap(100),
            span.as_millis(),
        )
        .expect("a String takes everything");
    }
    text
}

/// The most that came within 100 ms.
fn busiest(sorted: &[Instant]) -> usize {
    let within = |from: usize| {
        let end = sorted[from] + Duration::from_millis(100);
        sorted[from..].partition_point(|at| *at < end)
    };
    (0..sorted.len()).map(within).max().unwrap_or(0)
}

#[test]
fn the_busiest_moment_is_found_wherever_it_is() {
    let start = crate::support::now();
    let at = |ms: &[u64]| -> Vec<Instant> {
        ms.iter()
            .map(|ms| start + Duration::from_millis(*ms))
            .collect()
    };
    assert_eq!(busiest(&[]), 0);
    assert_eq!(busiest(&at(&[5])), 1);
    assert_eq!(busiest(&at(&[0, 99, 100, 101, 150, 250])), 4);
    assert_eq!(busiest(&at(&[0, 100, 200])), 1);
}
