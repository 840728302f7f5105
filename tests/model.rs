//! Goal: the protocol of claim, count, save, acknowledge, fence, shut down, spill, replay and
//! resume keeps its promises in every order in which things may happen and fail, within bounds.
//! Method: a model of one client with its outbox, two nodes and one store, explored exhaustively
//! by a model checker. Counts and records are the server's own types (`Ledger`, `Record`), so that
//! model and code cannot drift apart there. Then the same with one rule left out at a time: each
//! time, the checker must find what that breaks. See docs/model.md.

#[path = "model/action.rs"]
mod action;
#[path = "model/bounds.rs"]
mod bounds;
#[path = "model/client.rs"]
mod client;
#[path = "model/ending.rs"]
mod ending;
#[path = "model/events.rs"]
mod events;
#[path = "model/flaws.rs"]
mod flaws;
#[path = "model/mail.rs"]
mod mail;
#[path = "model/node.rs"]
mod node;
#[path = "model/normal.rs"]
mod normal;
#[path = "model/protocol.rs"]
mod protocol;
#[path = "model/rank.rs"]
mod rank;
#[path = "model/step.rs"]
mod step;
#[path = "model/store.rs"]
mod store;
#[path = "model/turn.rs"]
mod turn;

use std::sync::Arc;

use stateright::{Checker, Model, Path};

use action::Action;
use bounds::NO_FAULTS;
use events::{Event, Seen};
use flaws::{Flaw, Protocol};
use protocol::{Faults, Sundown};

/// No way to a broken promise is longer than this, the first step included.
const DEPTH_MAX: usize = 30;

#[test]
fn every_promise_holds() {
    let seen = Seen::default();
    let mut all = 0;
    for bounds in bounds::chosen() {
        let model = Sundown::new(bounds.messages, bounds.faults, Protocol::sound());
        let noted = Arc::clone(&model.seen);
        let checker = model.checker().threads(2).spawn_bfs().join();
        let (states, steps) = (checker.unique_state_count(), checker.state_count());
        println!("{bounds}: {states} states, {steps} steps");
        if let Some(&property) = checker.discoveries().keys().min() {
            let way = shortest_way(bounds.messages, bounds.faults, Protocol::sound(), property);
            println!(
                "not true: {property}\n{}",
                in_words(&way.unwrap_or_default())
            );
        }
        checker.assert_properties();
        assert_eq!(states, bounds.states, "docs/model.md says so, too");
        seen.add(&noted);
        all += states;
    }
    println!("in all: {all} states, on the way to which these steps were taken:");
    for event in Event::ALL {
        println!("  {event:?}: {}", seen.count(event));
        assert!(seen.count(event) > 0, "no run has shown {event:?}");
    }
}

/// Leaves one rule out and expects that this property breaks by it.
#[track_caller]
fn check_flaw(flaw: Flaw, messages: u64, faults: Faults, property: &'static str) {
    let way = shortest_way(messages, faults, Protocol::with(flaw), property);
    let Some(way) = way else {
        panic!("{flaw:?}: the checker has not found that \"{property}\" does not hold");
    };
    println!("{flaw:?} breaks \"{property}\":\n{}", in_words(&way));
}

/// The shortest way to a state in which a property does not hold: the checker looks deeper and
/// deeper, since it does not stop at the first that it sees.
fn shortest_way(
    messages: u64,
    faults: Faults,
    protocol: Protocol,
    property: &'static str,
) -> Option<Vec<Action>> {
    (1..=DEPTH_MAX).find_map(|depth| {
        let model = Sundown::new(messages, faults, protocol);
        let checker = model.checker().target_max_depth(depth).spawn_bfs().join();
        checker.discovery(property).map(Path::into_actions)
    })
}

fn in_words(way: &[Action]) -> String {
    let first = std::iter::once("the client connects to A".to_owned());
    let steps: Vec<_> = first.chain(way.iter().map(Action::to_string)).collect();
    let numbered = steps.iter().enumerate();
    let lines: Vec<_> = numbered
        .map(|(at, step)| format!("  {:2}. {step}", at + 1))
        .collect();
    lines.join("\n")
}

#[test]
fn without_the_fence_messages_are_counted_twice() {
    let faults = Faults {
        moves: 1,
        ..NO_FAULTS
    };
    check_flaw(Flaw::NoFence, 1, faults, "no message is counted twice");
}

#[test]
fn an_acknowledgement_before_the_save_can_be_lost() {
    let faults = Faults {
        crashes: 1,
        ..NO_FAULTS
    };
    let property = "no acknowledged message is lost";
    check_flaw(Flaw::AcknowledgeBeforeSave, 1, faults, property);
}

#[test]
fn a_goodbye_before_the_save_can_be_a_lie() {
    let faults = Faults {
        shutdowns: 1,
        ..NO_FAULTS
    };
    let property = "no acknowledged message is lost";
    check_flaw(Flaw::GoodbyeBeforeSave, 1, faults, property);
}

#[test]
fn who_leaves_before_its_save_can_be_told_a_lie() {
    let faults = Faults {
        shutdowns: 1,
        drains: 1,
        ..NO_FAULTS
    };
    let property = "what is acknowledged is in the store";
    check_flaw(Flaw::LeavesBeforeSave, 1, faults, property);
}

#[test]
fn a_goodbye_that_tells_what_is_spilled_can_be_a_lie() {
    let faults = Faults {
        shutdowns: 1,
        ..NO_FAULTS
    };
    let property = "no acknowledged message is lost";
    check_flaw(Flaw::GoodbyeTellsSpilled, 1, faults, property);
}

#[test]
fn a_replay_without_the_fence_counts_twice() {
    let faults = Faults {
        shutdowns: 1,
        ..NO_FAULTS
    };
    check_flaw(
        Flaw::ReplayWithoutFence,
        1,
        faults,
        "no message is counted twice",
    );
}

#[test]
fn a_save_that_is_not_repeated_leaves_the_client_waiting() {
    let faults = Faults {
        link_losses: 1,
        ..NO_FAULTS
    };
    let property = "without more faults, all is acknowledged";
    check_flaw(Flaw::ForgetLostSaves, 1, faults, property);
}

#[test]
fn an_epoch_that_is_given_twice_has_two_nodes_acknowledge() {
    let faults = Faults {
        moves: 1,
        ..NO_FAULTS
    };
    check_flaw(
        Flaw::SameEpochAgain,
        1,
        faults,
        "one node acknowledges for an epoch",
    );
}

#[test]
fn an_earlier_step_that_sets_the_state_leaves_a_newer_count() {
    let faults = Faults {
        link_losses: 1,
        ..NO_FAULTS
    };
    let property = "count and state are of the same step";
    check_flaw(Flaw::EarlierStateCounts, 2, faults, property);
}

#[test]
fn a_commit_that_is_repeated_without_regard_to_steps_repeats_its_effects() {
    let faults = Faults {
        link_losses: 1,
        ..NO_FAULTS
    };
    let property = "every effect is carried out once";
    check_flaw(Flaw::PushesRepeated, 1, faults, property);
}

#[test]
fn a_row_that_grew_during_its_replay_must_stay() {
    let faults = Faults {
        shutdowns: 1,
        link_losses: 1,
        ..NO_FAULTS
    };
    check_flaw(
        Flaw::DeleteNewerRow,
        2,
        faults,
        "exit code 0 means that all is safe",
    );
}

#[test]
fn a_refused_spill_must_not_count_as_kept() {
    let faults = Faults {
        shutdowns: 1,
        full_disks: 1,
        ..NO_FAULTS
    };
    check_flaw(
        Flaw::RefusedSpillCounts,
        1,
        faults,
        "exit code 0 means that all is safe",
    );
}

#[test]
fn a_refused_save_must_not_count_as_saved() {
    let faults = Faults {
        refusals: 1,
        ..NO_FAULTS
    };
    let property = "what is acknowledged is in the store";
    check_flaw(Flaw::RefusedSaveCounts, 1, faults, property);
}

#[test]
fn without_the_barrier_a_completed_close_promises_nothing() {
    let faults = Faults {
        shutdowns: 1,
        ..NO_FAULTS
    };
    let property = "the closing handshake waits for the save";
    check_flaw(Flaw::NoBarrier, 1, faults, property);
}

#[test]
fn a_client_that_ignores_the_hello_is_counted_wrongly() {
    let faults = Faults {
        moves: 1,
        ..NO_FAULTS
    };
    let property = "a message is counted as its own number";
    check_flaw(Flaw::ClientIgnoresHello, 1, faults, property);
}

#[test]
fn a_client_that_drops_its_outbox_at_the_goodbye_loses_messages() {
    let faults = Faults {
        shutdowns: 1,
        ..NO_FAULTS
    };
    let property = "what is acknowledged is in the store";
    check_flaw(Flaw::ClientTrustsGoodbye, 1, faults, property);
}

#[test]
fn a_commit_that_is_repeated_without_regard_to_steps_pushes_twice() {
    let faults = Faults {
        link_losses: 1,
        pushes: 1,
        ..NO_FAULTS
    };
    let property = "every effect is carried out once";
    check_flaw(Flaw::PushesRepeated, 0, faults, property);
}

#[test]
fn a_push_that_is_delivered_before_its_commit_comes_twice() {
    let faults = Faults {
        crashes: 1,
        pushes: 1,
        ..NO_FAULTS
    };
    let property = "each push arrives once, in order";
    check_flaw(Flaw::DeliverBeforeCommit, 1, faults, property);
}

#[test]
fn a_push_that_is_confirmed_when_it_was_handed_over_is_lost_with_the_connection() {
    let faults = Faults {
        moves: 1,
        pushes: 1,
        ..NO_FAULTS
    };
    let property = "without more faults, all pushes arrive";
    check_flaw(Flaw::HandedIsConfirmed, 0, faults, property);
}

#[test]
fn a_client_that_is_not_believed_what_it_has_received_gets_it_again() {
    let faults = Faults {
        moves: 1,
        pushes: 1,
        ..NO_FAULTS
    };
    let property = "each push arrives once, in order";
    check_flaw(Flaw::ReceivedIgnored, 0, faults, property);
}

#[test]
fn a_push_whose_answer_was_lost_must_be_looked_for() {
    let faults = Faults {
        link_losses: 1,
        pushes: 1,
        ..NO_FAULTS
    };
    let property = "without more faults, all pushes arrive";
    check_flaw(Flaw::BeforeIsNotAsked, 0, faults, property);
}

#[test]
fn when_news_of_a_push_is_lost_the_answer_to_a_commit_must_say_it() {
    let faults = Faults {
        link_losses: 1,
        pushes: 1,
        ..NO_FAULTS
    };
    let property = "without more faults, all pushes arrive";
    check_flaw(Flaw::CommitsSayNothing, 0, faults, property);
}

#[test]
fn what_is_heard_while_a_mailbox_is_read_must_not_be_forgotten() {
    let faults = Faults {
        pushes: 1,
        ..NO_FAULTS
    };
    let property = "without more faults, all pushes arrive";
    check_flaw(Flaw::HeardIsForgotten, 1, faults, property);
}
