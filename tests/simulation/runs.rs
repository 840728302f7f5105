//! Which seeds are played, and what is said of them: a fixed range in every test run, one seed
//! again, or new ones for a time.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use super::trace::{LINES_MAX, Seen, Trace, Words, loudly};
use super::world::World;

/// Played in every test run.
const SEEDS: std::ops::RangeInclusive<u64> = 1..=300;

/// Seeds that have found something, and what.
const REGRESSIONS: &[(u64, &str)] = &[
    (
        119,
        "spills piled up behind a locked file, and a peer was let go before its last one",
    ),
    (
        215,
        "with goodbyes that are not spread, the cut came in the turn in which they were said",
    ),
    (
        1_795_530_860_432,
        "a client that the service had closed was sent replies after its hurried Close",
    ),
];

/// What the fixed seeds must meet, each of it: so no fault is dead code, and no check looks at
/// nothing.
const MET: &[&str] = &[
    // Processes.
    "crash",
    "crash in a shutdown",
    "node frozen",
    "SIGTERM",
    "SIGINT",
    "handle",
    "second signal",
    "third signal",
    "signals that are one",
    "exit with spilled sessions",
    "exit with unsaved sessions",
    // The store and the way there.
    "store frozen",
    "store stalled",
    "deferred step completed",
    "deferred step completed without its client",
    "deferred step cancelled",
    "deferred step dropped",
    "link to the store lost",
    "asked on a dead link",
    "unanswered at the loss of a link",
    "carried out, answer lost",
    "claim repeated",
    "batch fenced",
    "batch partly fenced",
    "fenced",
    "news came late",
    "news never came",
    "taken over by another node",
    "spilled",
    "spill locked",
    "spill refused",
    "spill replayed",
    "spilled row settled",
    "claim refused",
    "batch refused",
    "batch partly refused",
    "save refused",
    "save refused before Persisting",
    "save refused in Persisting or later",
    "save refused of a closed session",
    "session refused",
    "spilled row refused",
    "replayed once more",
    "records lost, and renewed",
    "records lost before a shutdown",
    // Peers and the network.
    "partial write",
    "reader too slow",
    "late message",
    "barrier kept",
    "message sent again",
    "sent before a hello that never came",
    "own session taken over",
    "relaxed: acknowledged and lost",
    "goodbye",
    "sent away without a goodbye",
    "peer cut",
    "peer did not close in time",
    "refused with 503",
    "connection refused",
    "connection not let in",
    "ping answered",
    "pushed",
    "push refused",
    "refused push told",
    "refused push told late",
    "push repeated",
    "push received",
    "push received once more",
    "bare push received",
    "client says that it leaves",
    "left at its slot",
    "left at its slot in Persisting",
    "client closes",
    "client half-closes",
    "client drops TCP",
    "client loses patience",
    "closed by the service",
    "Close never answered",
];

fn env(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// Plays a seed; the error is all that there is to know.
fn play(seed: u64, words: Words) -> Result<Seen, String> {
    let trace = Trace::new(words);
    let mut options = String::new();
    let played = catch_unwind(AssertUnwindSafe(|| {
        let mut world = World::new(seed, trace.clone());
        options = world.describe();
        world.play()
    }));
    played.map_err(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        format!(
            "\nseed {seed}, drawn: {options}\n\nthe last {LINES_MAX} lines:\n{}\n\n\
             seed {seed}: {}\nto see it again: SUNDOWN_SEED={seed} make test\n",
            trace.tail(),
            text.unwrap_or_default()
        )
    })
}

/// Plays a seed without words, which take time; if it fails, again with them.
#[track_caller]
fn check(seed: u64) -> Seen {
    play(seed, Words::None).unwrap_or_else(|_| match play(seed, Words::Last) {
        Ok(_) => panic!("seed {seed} fails, and does not when it is played again"),
        Err(report) => panic!("{report}"),
    })
}

/// The fixed seeds; or only `SUNDOWN_SEED`; or, for as long as `SUNDOWN_SOAK` says, new ones.
#[test]
fn seeds() {
    if let Some(seed) = env("SUNDOWN_SEED") {
        again(seed.parse().expect("SUNDOWN_SEED: a number"));
    } else if let Some(time) = env("SUNDOWN_SOAK") {
        soak(humantime::parse_duration(&time).expect("SUNDOWN_SOAK: a time, such as 10m"));
    } else {
        fixed();
    }
}

fn again(seed: u64) {
    loudly(&format!("simulation: seed {seed}"));
    if let Err(report) = play(seed, Words::All) {
        panic!("{report}");
    }
}

fn fixed() {
    loudly(&format!(
        "simulation: seeds {} to {}",
        SEEDS.start(),
        SEEDS.end()
    ));
    let mut seen = Seen::default();
    for seed in SEEDS {
        seen.add(&check(seed));
    }
    println!("met: {:#?}", seen.0);
    for what in MET {
        assert!(seen.0.contains_key(what), "never met: {what}");
    }
}

fn soak(time: Duration) {
    let began = sundown::clock::now();
    let base = began.unix_ms;
    loudly(&format!("simulation: seeds from {base} on, for {time:?}"));
    let (mut seen, mut runs) = (Seen::default(), 0);
    while sundown::clock::now().instant - began.instant < time {
        seen.add(&check(base + runs));
        runs += 1;
    }
    loudly(&format!(
        "simulation: {runs} runs, in which was met: {:#?}",
        seen.0
    ));
}

#[test]
fn seeds_that_have_found_something() {
    for (seed, what) in REGRESSIONS {
        println!("simulation: seed {seed}: {what}");
        check(*seed);
    }
}

/// Without this, a seed would be worth nothing.
#[test]
fn a_seed_plays_the_same_run_again() {
    let digest = |seed| {
        let trace = Trace::new(Words::Last);
        let mut world = World::new(seed, trace);
        world.play();
        world.digest()
    };
    assert_eq!(digest(7), digest(7));
    assert_ne!(digest(7), digest(8));
}
