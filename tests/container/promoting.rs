//! `docker/promote.sh`, with a thousand clients that send all the time, and with what can fail.

use rustix::process::{Signal, kill_process_group};

use super::engine::{Container, docker, engine, inspect, until_healthy};
use super::fleet::session::Habit;
use super::fleet::{Fleet, Plan, plans};
use super::images::{self, spoiled};
use super::noticed::{assert_farewells, settle, table};
use super::stack::Stack;
use crate::files::allow_files;
use crate::support::client::Client;
use crate::support::{PATIENCE, eventually, http};

/// What clients do about what they are told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Manners {
    /// They go on until the goodbye, and come back at once.
    Ignore,
    /// They go on until the goodbye, and come back when they are asked to.
    Wait,
    /// `sundown.v2`: they answer the notice, and leave at their slots.
    Answer,
}

pub(super) fn ceaseless(count: usize, manners: Manners) -> Vec<Plan> {
    let plan = |plan: Plan| Plan {
        heeds_wait: manners != Manners::Ignore,
        answers_notice: manners == Manners::Answer,
        ..plan
    };
    let plans = plans("client", count, Habit::Ceaseless);
    plans.into_iter().map(plan).collect()
}

/// Blue → green → blue.
#[track_caller]
fn check_deploys(clients: usize, manners: Manners) {
    let Some(engine) = engine() else { return };
    allow_files(2 * clients as u64 + 500);
    let stack = Stack::new(engine);
    stack.must_promote("blue");
    let fleet = Fleet::gather(&[stack.address], ceaseless(clients, manners));
    for colour in ["green", "blue"] {
        fleet.flow(clients as u64);
        stack.must_promote(colour);
        fleet.until_all_open();
    }
    fleet.flow(clients as u64);
    let accounts = settle(fleet, &stack);
    let sent: u64 = accounts.iter().map(|account| account.ledger.wanted).sum();
    println!(
        "{clients} clients, {sent} messages, {manners:?}:\n\n{}",
        table(&accounts, 2)
    );
    assert_farewells(&accounts, 2);
}

#[test]
fn two_deploys_lose_nothing_of_a_thousand_clients() {
    check_deploys(1_000, Manners::Wait);
}

#[test]
fn two_deploys_lose_nothing_of_a_thousand_clients_who_cannot_wait() {
    check_deploys(1_000, Manners::Ignore);
}

#[test]
fn two_deploys_lose_nothing_of_a_thousand_clients_who_answer_the_notice() {
    check_deploys(1_000, Manners::Answer);
}

/// Whatever fails, the old colour serves as before, and none of its clients notices anything.
#[test]
fn a_promotion_that_fails_leaves_the_old_colour_serving() {
    let Some(engine) = engine() else { return };
    let stack = Stack::new(engine);
    stack.must_promote("blue");
    let fleet = Fleet::gather(&[stack.address], ceaseless(50, Manners::Wait));
    let unreachable = "ENV SUNDOWN_LISTEN=127.0.0.1:8000";
    let store_away = r#"CMD ["--store", "redis://127.0.0.1:1"]"#;
    let no_program = r#"ENTRYPOINT ["/nothing"]"#;
    let wrong_setting = r#"CMD ["--shutdown-timeout", "soon"]"#;
    let cases = [
        ("there-is-none", None, "60", "does not start"),
        ("no-program", Some(no_program), "60", "does not start"),
        ("wrong-setting", Some(wrong_setting), "60", "has ended"),
        ("store-away", Some(store_away), "3", "is not ready"),
        (
            "echo",
            Some("ENV SUNDOWN_APP=echo"),
            "60",
            "has failed the test",
        ),
        (
            "unreachable",
            Some(unreachable),
            "3",
            "the proxy does not reach",
        ),
    ];
    for (what, lines, patience, expected) in cases {
        let image = match lines {
            Some(lines) => spoiled(what, lines),
            None => format!("{}-{what}", images::under_test()),
        };
        let promotion = stack.promote_image("green", &image, patience);
        let text = &promotion.text;
        println!("--- {what}\n{text}");
        assert_eq!(promotion.code, Some(1), "{what}: {text}");
        assert!(text.contains(expected), "{what}: {text}");
        assert!(
            text.contains("rolled back: app_blue serves as before"),
            "{text}"
        );
        assert!(!stack.is_running("app_green"), "{what}");
        fleet.flow(50);
    }
    let echo = spoiled("echo", "ENV SUNDOWN_APP=echo");
    assert_eq!(stack.promote_unheard("green", &echo), Some(1));
    assert!(
        !stack.is_running("app_green"),
        "nobody heard it, and it went on"
    );
    assert_eq!(fleet.hellos(), 50, "someone had to come back");

    // Nothing is left that would hold up the next one, nor the one after that.
    stack.must_promote("green");
    fleet.until_all_open();
    let blank = stack.promote_image("blue", &spoiled("no-program", no_program), "60");
    assert_eq!(blank.code, Some(1), "{}", blank.text);
    assert_eq!(fleet.hellos(), 100, "{}", blank.text);
    stack.must_promote("blue");
    fleet.until_all_open();
    assert_farewells(&settle(fleet, &stack), 2);
}

/// What it says and does when it cannot do what it is told.
#[test]
fn its_other_exit_codes() {
    let Some(engine) = engine() else { return };
    let stack = Stack::new(engine);
    // The first start, without a colour.
    let first = stack.must_promote("");
    assert!(first.contains("done: app_blue serves"), "{first}");
    assert_eq!(stack.promote("red").code, Some(64));
    assert_eq!(
        stack.promote_image("green", "sundown", "60s").code,
        Some(64)
    );

    // Two at a time.
    let mut one = stack.begin_promotion("green");
    one.stdout.until("wait until");
    let other = stack.promote("green");
    assert_eq!(other.code, Some(64), "{}", other.text);
    assert_eq!(one.wait(PATIENCE * 2).0.code(), Some(0));

    // An old colour that does not end as it should.
    let fleet = Fleet::gather(&[stack.address], ceaseless(10, Manners::Wait));
    let mut promotion = stack.begin_promotion("blue");
    promotion.stdout.until("SIGTERM");
    docker(&["kill", "--signal", "KILL", &stack.container("app_green")]);
    let (status, _) = promotion.wait(PATIENCE);
    assert_eq!(status.code(), Some(2), "{:?}", promotion.stderr.all());
    fleet.until_all_open();
    settle(fleet, &stack);

    // Both run.
    stack.compose(&["start", "app_green"]);
    let which = stack.promote("");
    assert_eq!(which.code, Some(64), "{}", which.text);

    // The proxy was stopped, by whomever.
    stack.compose(&["stop", "proxy"]);
    stack.must_promote("blue");
    assert!(!stack.is_running("app_green"));
    stack.until_ready();
}

#[test]
fn it_can_be_repeated_and_takes_up_what_was_interrupted() {
    let Some(engine) = engine() else { return };
    let stack = Stack::new(engine);
    stack.must_promote("blue");
    let before = stack.container("app_blue");
    let again = stack.must_promote("blue");
    assert!(again.contains("nothing to do"), "{again}");
    assert_eq!(stack.container("app_blue"), before);

    let fleet = Fleet::gather(&[stack.address], ceaseless(50, Manners::Wait));
    // As Ctrl-C does, which puts everything back (by SIGTERM: what a shell has started in the
    // background has SIGINT ignored); and then without a word, in the middle.
    for (signal, at) in [(Signal::TERM, "green: start"), (Signal::KILL, "wait until")] {
        let mut promotion = stack.begin_promotion("green");
        promotion.stdout.until(at);
        kill_process_group(promotion.pid(), signal).expect("a group of its own");
        promotion.wait(PATIENCE * 2);
        assert_eq!(stack.is_running("app_green"), signal == Signal::KILL);
        fleet.flow(50);
    }
    assert_eq!(fleet.hellos(), 50, "someone had to come back");
    stack.must_promote("green");
    fleet.until_all_open();
    assert_farewells(&settle(fleet, &stack), 1);
}

/// The proxy reads its configuration again, and nobody who is connected notices.
#[test]
fn a_reload_of_the_proxy_cuts_nobody() {
    let Some(engine) = engine() else { return };
    let stack = Stack::new(engine);
    stack.must_promote("blue");
    let fleet = Fleet::gather(&[stack.address], ceaseless(50, Manners::Wait));
    stack.compose(&["kill", "-s", "USR2", "proxy"]);
    let reloaded = || stack.logs("proxy").matches("New worker").count() == 2;
    eventually("the proxy has a new worker", reloaded);
    fleet.flow(200);
    assert_eq!(fleet.hellos(), 50, "someone had to come back");
    // Those who stay longer than `hard-stop-after` would be cut, and a promotion may take as long.
    assert_farewells(&settle(fleet, &stack), 0);
}

/// The same name, another image: what `make image && make promote` does.
#[test]
fn the_next_colour_runs_the_image_that_the_name_means_now() {
    let Some(engine) = engine() else { return };
    let stack = Stack::new(engine);
    let image = spoiled("next", "LABEL version=1");
    assert_eq!(stack.promote_image("blue", &image, "60").code, Some(0));
    let first = stack.state("app_blue", "Image");
    spoiled("next", "LABEL version=2");
    assert_eq!(stack.promote_image("green", &image, "60").code, Some(0));
    assert_ne!(stack.state("app_green", "Image"), first);
    // Back to what the colour that was stopped still has, though the name has left it.
    let going_back = stack.promote_image("blue", &first, "60");
    assert_eq!(going_back.code, Some(0), "{}", going_back.text);
    assert_eq!(stack.state("app_blue", "Image"), first);
}

/// Both colours run and none is held back: who has begun its shutdown is passed over at once,
/// before any check has noticed.
#[test]
fn no_newcomer_is_refused_while_a_colour_goes() {
    let Some(engine) = engine() else { return };
    let stack = Stack::new(engine);
    stack.up("app_blue");
    stack.compose(&["up", "-d", "app_green"]);
    let blue = stack.container("app_blue");
    let green = stack.container("app_green");
    until_healthy(&blue);
    until_healthy(&green);
    // The drain takes its time only if someone is there.
    let stay = Fleet::gather(&[stack.address], ceaseless(50, Manners::Wait));
    docker(&["kill", "--signal", "TERM", &blue]);
    welcome_while(&stack, || stack.is_running("app_blue"));
    stay.until_all_open();
    settle(stay, &stack);
}

/// A promotion that was killed after its switch has left both colours, and the old one held back.
#[test]
fn no_newcomer_is_refused_when_a_promotion_is_taken_up() {
    let Some(engine) = engine() else { return };
    let stack = Stack::new(engine);
    stack.must_promote("blue");
    stack.compose(&["up", "-d", "app_green"]);
    let hold = "exec 3<>/dev/tcp/127.0.0.1/9999; echo set server sundown/app_blue state drain >&3";
    let switched = ["exec", &stack.container("proxy"), "bash", "-c", hold];
    until_healthy(&stack.container("app_green"));
    docker(&switched);
    let mut promotion = stack.begin_promotion("green");
    welcome_while(&stack, || stack.is_running("app_blue"));
    let (status, _) = promotion.wait(PATIENCE);
    assert_eq!(status.code(), Some(0), "{:?}", promotion.stderr.all());
}

/// Newcomers, one after the other, none of whom is refused.
#[track_caller]
fn welcome_while(stack: &Stack, goes_on: impl Fn() -> bool) {
    let mut newcomers = 0;
    while goes_on() {
        let head = http::upgrade_v1("/ws/chat/");
        let refused = Client::dial(stack.address, &head).err();
        assert!(refused.is_none(), "newcomer {newcomers}: {refused:?}");
        newcomers += 1;
    }
    println!("{newcomers} newcomers, none refused");
    assert!(newcomers > 0);
}

/// A stand-in for green that says who the proxy says it is.
#[test]
fn the_address_of_the_client_is_passed_on() {
    let Some(engine) = engine() else { return };
    let stack = Stack::new(engine);
    stack.compose(&["up", "-d", "proxy"]);
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("haproxy.cfg");
    let config = "defaults\n mode http\n timeout connect 1s\n timeout client 5s\n \
                  timeout server 5s\nfrontend mirror\n bind :8000\n http-request return status 200 \
                  content-type text/plain lf-string %[req.hdr(X-Forwarded-For)]\n";
    std::fs::write(&file, config).expect("a file");
    // The user of the proxy is not that of this test.
    let mode = std::os::unix::fs::PermissionsExt::from_mode;
    std::fs::set_permissions(directory.path(), mode(0o755)).expect("a directory of ours");
    let mount = format!("{}:/usr/local/etc/haproxy:ro", directory.path().display());
    let front = stack.network("front");
    let network = ["--network", &front, "--network-alias", "app_green"];
    let run = [
        &["run", "-d", "--volume", &mount][..],
        &network,
        &["haproxy:2.6"],
    ]
    .concat();
    let _mirror = Container(docker(&run));
    stack.until_ready();
    let forged = "GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\
                  X-Forwarded-For: 192.0.2.1\r\n\r\n";
    let seen = http::exchange(stack.address, forged.as_bytes()).body;
    // Clients of this machine come from the host's end of the network.
    let gateway = inspect(&front, "{{(index .IPAM.Config 0).Gateway}}");
    assert_eq!(seen, gateway);
}
