//! The machine: its whole table and graph against the committed ones, each clamp of the deadlines,
//! and 100,000 random histories against what must hold in all of them.

use std::fmt::Write as _;
use std::path::Path;

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

use super::*;
use crate::clock;

const EVENTS: [Event; 5] = [
    Event::Begin,
    Event::Hurry,
    Event::Quit,
    Event::Done,
    Event::Due,
];

fn machine(state: State, delay: Duration, now: Instant) -> Shutdown {
    let mut shutdown = Shutdown::new(ShutdownBudget {
        delay,
        ..ShutdownBudget::default()
    });
    shutdown.state = state;
    if state != State::Serving {
        shutdown.timeline.began = Some(now);
    }
    shutdown
}

fn states(now: Instant) -> [State; 8] {
    [
        State::Serving,
        State::Delaying { deadline: now },
        State::Notifying { deadline: now },
        State::Draining {
            deadline: now,
            since: now,
        },
        State::Persisting { deadline: now },
        State::Closing { deadline: now },
        State::Sweeping {
            deadline: now,
            settled: now,
        },
        State::Stopped,
    ]
}

fn steps() -> Vec<(Phase, Event, bool, Phase, &'static [Action])> {
    let now = clock::now().instant;
    let mut steps = Vec::new();
    for state in states(now) {
        for event in EVENTS {
            let delays: &[u64] = if (state, event) == (State::Serving, Event::Begin) {
                &[0, 1]
            } else {
                &[0]
            };
            for delay in delays {
                let mut shutdown = machine(state, Duration::from_secs(*delay), now);
                let actions = shutdown.step(event, now);
                let next = shutdown.state.phase();
                steps.push((state.phase(), event, *delay > 0, next, actions));
            }
        }
    }
    steps
}

/// Compares with a committed file, or writes it: `SUNDOWN_BLESS=1 cargo test`.
#[track_caller]
fn check_snapshot(file: &str, text: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("docs")
        .join(file);
    if std::env::var_os("SUNDOWN_BLESS").is_some() {
        std::fs::write(&path, text).unwrap();
    }
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(
        committed, text,
        "docs/{file} differs: if that is meant, SUNDOWN_BLESS=1 writes it"
    );
}

#[test]
fn the_whole_table_is_the_committed_one() {
    let mut table = String::from(
        "# The shutdown machine: every phase, every event\n\n\
         Made and checked by the tests of `src/engine/shutdown.rs`. An event that is not listed \
         for\na phase leaves it as it is.\n\n\
         | phase | event | next phase | actions |\n|---|---|---|---|\n",
    );
    for (state, event, delayed, next, actions) in steps() {
        if state == next && actions.is_empty() {
            continue;
        }
        let condition = if delayed { " (with a delay)" } else { "" };
        let actions: Vec<_> = actions.iter().map(|action| format!("{action:?}")).collect();
        let actions = actions.join(", ");
        writeln!(
            table,
            "| {state:?} | {event:?}{condition} | {next:?} | {actions} |"
        )
        .unwrap();
    }
    check_snapshot("shutdown-table.md", &table);
}

#[test]
fn the_graph_is_the_committed_one() {
    let mut graph = String::from("digraph shutdown {\n");
    let mut edges: Vec<(Phase, Phase, Vec<String>)> = Vec::new();
    for (state, event, _, next, _) in steps() {
        if state == next {
            continue;
        }
        let label = format!("{event:?}");
        match edges
            .iter_mut()
            .find(|(from, to, _)| (*from, *to) == (state, next))
        {
            Some((_, _, labels)) => labels.push(label),
            None => edges.push((state, next, vec![label])),
        }
    }
    for (from, to, labels) in edges {
        writeln!(
            graph,
            "  {from:?} -> {to:?} [label=\"{}\"];",
            labels.join(", ")
        )
        .unwrap();
    }
    graph.push_str("}\n");
    check_snapshot("shutdown-graph.dot", &graph);
}

/// A request of this moment.
fn asked(at: Instant) -> Request {
    let trigger = Trigger::Handle;
    Request { trigger, at }
}

#[test]
fn signals_that_come_together_are_one_and_the_report_counts_them() {
    let came = clock::now().instant;
    let ms = Duration::from_millis;
    let check = |requests: &[(Trigger, u64)], phase: &str, repeats: u32| {
        let mut shutdown = Shutdown::new(ShutdownBudget::default());
        for &(trigger, after) in requests {
            let at = came + ms(after);
            shutdown.handle_request(Request { trigger, at }, came + ms(2_000));
        }
        let found = (shutdown.state().phase().name(), shutdown.repeats());
        assert_eq!(found, (phase, repeats), "{requests:?}");
    };
    let (term, int, handle) = (Trigger::Sigterm, Trigger::Sigint, Trigger::Handle);
    check(&[(term, 0)], "notifying", 0);
    check(&[(term, 0), (term, 499)], "notifying", 1);
    check(&[(term, 0), (int, 1), (term, 2)], "notifying", 2);
    check(&[(term, 0), (term, 500)], "persisting", 0);
    // A row of them is not one for ever.
    check(&[(term, 0), (term, 300), (term, 600)], "persisting", 1);
    check(&[(term, 0), (int, 500), (term, 1_000)], "stopped", 0);
    // Whoever calls means it.
    check(&[(handle, 0), (handle, 0)], "persisting", 0);
    check(&[(handle, 0), (term, 0), (term, 1)], "persisting", 1);
}

#[test]
fn all_times_count_from_when_the_signal_came_and_not_from_when_it_was_seen() {
    let came = clock::now().instant;
    let seen = came + Duration::from_secs(3);
    let mut shutdown = Shutdown::new(ShutdownBudget::default());
    shutdown.handle_request(asked(came), seen);
    let timeout = ShutdownBudget::default().timeout;
    assert_eq!(shutdown.end(), Some(came + timeout));
    let [(delaying, held_up), ..] = shutdown.timeline().lasted(Some(seen));
    assert_eq!((delaying, held_up), (Phase::Delaying, seen - came));
}

/// With nothing ever done, each phase must end so many milliseconds after the signal.
#[track_caller]
fn check_deadlines(budget: ShutdownBudget, expected_ms: &[u64]) {
    let began = clock::now().instant;
    let mut shutdown = Shutdown::new(budget);
    shutdown.handle_request(asked(began), began);
    let stuck = Census {
        connections: 1,
        leaving: 0,
        left: 0,
        untold: 1,
        unsent: 1,
        unread: 1,
        unsaved: 1,
        strangers: 1,
        heard_at: None,
    };
    let mut ends = Vec::new();
    while let Some(at) = shutdown.poll_timeout(&stuck) {
        shutdown.handle_census(&stuck, at);
        ends.push(at.duration_since(began).as_millis() as u64);
    }
    assert_eq!(shutdown.state(), State::Stopped);
    assert_eq!(ends, expected_ms);
}

#[test]
fn each_phase_has_its_ceiling_and_the_goodbyes_always_their_time() {
    let default = ShutdownBudget::default();
    check_deadlines(default, &[500, 2_500, 8_000, 9_500, 9_600]);
    let with = |delay, timeout, close_spread| ShutdownBudget {
        delay: Duration::from_secs(delay),
        timeout: Duration::from_secs(timeout),
        close_spread,
        ..default
    };
    let spread = default.close_spread;
    // The phases' own times count from the end of the delay.
    let delayed = [3_000, 3_375, 4_875, 9_000, 9_500, 9_600];
    check_deadlines(with(3, 10, spread), &delayed);
    // Too little time for all: the goodbyes keep theirs, and the rest share what is left.
    check_deadlines(with(0, 2, spread), &[62, 312, 1_000, 1_500, 1_600]);
    // Said all at once, they still have to arrive.
    let at_once = [78, 390, 1_250, 1_500, 1_600];
    check_deadlines(with(0, 2, Duration::ZERO), &at_once);
    let too_long = [8_000, 8_062, 8_312, 9_000, 9_500, 9_600];
    check_deadlines(with(60, 10, spread), &too_long);
}

/// With so many sockets and nothing ever done: when the cut begins, and when it has to be over.
#[test]
fn the_more_sockets_there_are_the_earlier_the_cut_begins() {
    let ms = Duration::from_millis;
    let check = |timeout: u64, connections: usize, expected_ms: [u128; 2]| {
        let timeout = ms(timeout);
        let budget = ShutdownBudget {
            timeout,
            ..ShutdownBudget::default()
        };
        let mut shutdown = Shutdown::new(budget);
        let stuck = Census {
            connections,
            unsent: 1,
            unsaved: 1,
            ..Census::default()
        };
        let began = clock::now().instant;
        shutdown.handle_census(&stuck, began);
        shutdown.handle_request(asked(began), began);
        let (mut at, mut ends) = (began, Vec::new());
        let mut actions: Vec<Action> = Vec::new();
        while let Some(due) = shutdown.poll_timeout(&stuck) {
            at = at.max(due);
            actions.extend(shutdown.handle_census(&stuck, at));
            ends.push((at - began).as_millis());
        }
        assert_eq!(ends[ends.len() - 2..], expected_ms, "{ends:?}");
        let cuts = actions.iter().filter(|action| **action == Action::CutPeers);
        assert_eq!(cuts.count(), 2, "in slices, and what is left at the end");
    };
    check(10_000, 1_000, [9_500, 9_600]);
    check(10_000, 10_000, [7_250, 9_600]);
    check(10_000, 1_000_000, [6_166, 9_600]);
    check(1_000, 1, [750, 800]);
    check(1_000, 10_000, [416, 800]);
}

#[test]
fn an_idle_server_only_waits_for_handshakes_that_are_half_through() {
    let began = clock::now().instant;
    let mut now = began;
    let mut shutdown = Shutdown::new(ShutdownBudget::default());
    shutdown.handle_request(asked(now), now);
    let nobody = Census::default();
    while let Some(at) = shutdown.poll_timeout(&nobody) {
        now = now.max(at);
        // As the engine does: again, until it stays where it is.
        while {
            let state = shutdown.state();
            shutdown.handle_census(&nobody, now);
            shutdown.state() != state
        } {}
    }
    assert_eq!(shutdown.state(), State::Stopped);
    assert_eq!(now - began, SETTLE_TIME);
}

type Level = fn(&mut Census) -> &mut usize;

/// What a phase waits for, and what it does not.
#[test]
fn each_phase_waits_for_its_own_work() {
    let now = clock::now().instant;
    let almost = now + Duration::from_millis(999);
    let later = now + Duration::from_secs(1);
    let levels: [(_, Level); 6] = [
        ("connections", |census| &mut census.connections),
        ("untold", |census| &mut census.untold),
        ("unsent", |census| &mut census.unsent),
        ("unread", |census| &mut census.unread),
        ("unsaved", |census| &mut census.unsaved),
        ("strangers", |census| &mut census.strangers),
    ];
    let check = |state, connections, expected: &[&str]| {
        let mut held_by = Vec::new();
        for (name, level) in levels {
            let mut shutdown = machine(state, Duration::ZERO, now);
            let mut census = Census {
                connections,
                ..Census::default()
            };
            *level(&mut census) = 1;
            shutdown.handle_census(&census, almost);
            if shutdown.state().phase() == state.phase() {
                held_by.push(name);
            }
        }
        assert_eq!(held_by, expected, "{state:?}");
    };
    let deadline = later;
    let draining = State::Draining {
        deadline,
        since: now,
    };
    let settled = now;
    check(State::Notifying { deadline }, 1, &["untold", "unsent"]);
    check(draining, 1, &["unsent", "unread", "unsaved"]);
    // With nobody left there is nothing to wait for.
    check(draining, 0, &[]);
    check(State::Persisting { deadline }, 1, &["unsaved"]);
    check(State::Closing { deadline }, 0, &["connections"]);
    check(
        State::Sweeping { deadline, settled },
        0,
        &["connections", "unsaved", "strangers"],
    );
}

#[test]
fn goodbyes_are_spread_over_half_of_the_time_that_is_left_at_most() {
    let now = clock::now().instant;
    for (left, expected) in [(4_000, 500), (1_000, 500), (400, 200), (0, 0)] {
        let deadline = now + Duration::from_millis(left);
        let shutdown = machine(State::Closing { deadline }, Duration::ZERO, now);
        assert_eq!(
            shutdown.close_spread(now),
            Duration::from_millis(expected),
            "{left}"
        );
    }
}

#[test]
fn draining_waits_until_all_are_quiet() {
    let now = clock::now().instant;
    let ms = Duration::from_millis;
    let mut shutdown = machine(
        State::Draining {
            deadline: now + ms(2_500),
            since: now,
        },
        Duration::ZERO,
        now,
    );
    let heard = Census {
        connections: 1,
        heard_at: Some(now + ms(100)),
        ..Census::default()
    };
    assert_eq!(shutdown.poll_timeout(&heard), Some(now + ms(350)));
    // Nor does it wait for those who have left, whatever is owed to them; for those who are to
    // leave it does, however quiet they are.
    let (connections, left, unsaved) = (2, 2, 1);
    let all_left = Census {
        connections,
        left,
        unsaved,
        ..heard
    };
    assert_eq!(shutdown.poll_timeout(&all_left), Some(now));
    let leaving = 1;
    let one_leaves = Census { leaving, ..heard };
    assert_eq!(shutdown.poll_timeout(&one_leaves), Some(now + ms(2_500)));
    assert!(shutdown.handle_census(&heard, now + ms(349)).is_empty());
    assert_eq!(
        shutdown.handle_census(&heard, now + ms(350)),
        [Action::Persist]
    );
}

/// A server's whole life at random: what the machine asked for, in order.
fn live(seed: u64) -> Vec<Action> {
    let mut rng = StdRng::seed_from_u64(seed);
    let mut shutdown = Shutdown::new(random_budget(&mut rng));
    let mut now = clock::now().instant;
    let mut heard_at = None;
    let mut actions = Vec::new();
    for step in 0..10_000 {
        let before = shutdown.state().phase();
        if rng.random_bool(0.1) || step > 200 && before == Phase::Serving {
            actions.extend_from_slice(shutdown.handle_request(asked(now), now));
        }
        if rng.random_bool(0.3) {
            heard_at = Some(now);
        }
        let census = random_census(&mut rng, heard_at);
        while {
            let state = shutdown.state();
            actions.extend_from_slice(shutdown.handle_census(&census, now));
            shutdown.state() != state
        } {}
        assert!(shutdown.state().phase() >= before, "seed {seed}: went back");
        if shutdown.state() == State::Stopped {
            return actions;
        }
        assert!(
            shutdown.end().is_none_or(|end| now < end),
            "seed {seed}: outlived its end"
        );
        // As the loop does: no later than the machine has asked for, often earlier.
        let due = shutdown
            .poll_timeout(&census)
            .unwrap_or(now + Duration::from_millis(50));
        let wait = due.saturating_duration_since(now);
        now += if rng.random_bool(0.5) {
            wait
        } else {
            wait.mul_f64(rng.random())
        };
    }
    panic!("seed {seed}: never stops");
}

fn random_budget(rng: &mut StdRng) -> ShutdownBudget {
    let mut ms = |below| Duration::from_millis(rng.random_range(0..below));
    ShutdownBudget {
        delay: ms(3_000),
        timeout: Duration::from_millis(100) + ms(12_000),
        notify: ms(1_000),
        drain: ms(4_000),
        drain_quiet: ms(500),
        persist: ms(10_000),
        close_spread: ms(2_000),
    }
}

fn random_census(rng: &mut StdRng, heard_at: Option<Instant>) -> Census {
    let mut level = || {
        if rng.random_bool(0.6) {
            0
        } else {
            rng.random_range(1..5)
        }
    };
    Census {
        connections: level(),
        leaving: level(),
        left: level(),
        untold: level(),
        unsent: level(),
        unread: level(),
        unsaved: level(),
        strangers: level(),
        heard_at,
    }
}

/// What must hold in every life.
fn check_history(seed: u64) {
    let actions = live(seed);
    let at = |action| actions.iter().position(|other| *other == action);
    let once = |action| actions.iter().filter(|other| **other == action).count() == 1;
    assert!(
        once(Action::Stop) && once(Action::Unready),
        "seed {seed}: {actions:?}"
    );
    assert_eq!(actions.last(), Some(&Action::Stop), "seed {seed}");
    if let Some(goodbye) = at(Action::SayGoodbye) {
        assert!(once(Action::SayGoodbye), "seed {seed}");
        assert!(
            at(Action::Persist).is_some_and(|persist| persist < goodbye),
            "seed {seed}"
        );
        assert!(
            at(Action::Notify).is_some_and(|notify| notify < goodbye),
            "seed {seed}"
        );
    }
    if let Some(listener) = at(Action::CloseListener) {
        assert!(
            at(Action::SayGoodbye).is_some_and(|goodbye| goodbye < listener),
            "seed {seed}"
        );
    }
}

#[test]
fn a_hundred_thousand_histories() {
    for seed in 0..100_000 {
        check_history(seed);
    }
}
