//! Goal: what a frozen Redis does not take at a shutdown is in the spill when the clients are told
//! goodbye, exit code 0, and in Redis again before the next server with that spill is ready, unless
//! somebody has claimed the session since.
//! Method: SIGSTOP to redis-server, messages, SIGTERM to the server; then Redis is killed, so that
//! nothing of what waited in its sockets is ever carried out, and restarted on its files.

use std::fs::{self, File};
use std::time::Duration;

use rusqlite::Connection;
use tempfile::TempDir;

use super::closed_files::names_in;
use crate::support::client::Client;
use crate::support::redis::Redis;
use crate::support::server::{Report, Server};
use crate::support::{eventually, now};

/// The wait for the store is short here: what comes after it is the matter.
const SHORT: [&str; 4] = ["--drain-timeout", "500ms", "--persist-timeout", "1s"];

struct Spill {
    _dir: TempDir,
    url: String,
    path: std::path::PathBuf,
}

impl Spill {
    fn new() -> Self {
        let dir = TempDir::new().expect("a temporary directory");
        let path = dir.path().join("spill.db");
        let url = format!("sqlite:{}", path.display());
        Self {
            _dir: dir,
            url,
            path,
        }
    }

    fn start(&self, redis: &Redis, flags: &[&str]) -> Server {
        let spill = ["--spill", &self.url];
        Server::start(&redis.url(), &[&spill, &SHORT[..], flags].concat())
    }

    /// Sessions in the file, and their counts.
    fn rows(&self) -> Vec<(String, i64)> {
        let conn = Connection::open(&self.path).expect("the spill");
        let mut rows = conn
            .prepare("SELECT id, count FROM spilled ORDER BY id")
            .expect("its table");
        let rows = rows.query_map([], |row| Ok((row.get(0)?, row.get(1)?)));
        rows.expect("rows").map(|row| row.expect("a row")).collect()
    }
}

/// Messages that Redis never gets, and the exit.
#[track_caller]
fn spill(
    redis: &mut Redis,
    server: &mut Server,
    clients: &mut [(Client, usize)],
    code: i32,
) -> Report {
    redis.freeze();
    for (client, messages) in &mut *clients {
        (0..*messages).for_each(|_| client.text("not saved"));
        client.stream.flush();
    }
    server.terminate();
    for (client, _) in clients {
        client.until_closed(1001);
    }
    let report = server.exits_with(code);
    redis.kill();
    redis.restart();
    report
}

#[test]
fn what_redis_did_not_take_is_there_at_the_next_start() {
    let (mut redis, file) = (Redis::durable(), Spill::new());
    let mut server = file.start(&redis, &[]);
    let (mut a, _) = Client::v1(&server, "a");
    let (b, _) = Client::v1(&server, "b");
    (1..=3).for_each(|n| assert_eq!(a.say("saved"), n));
    let report = spill(&mut redis, &mut server, &mut [(a, 4), (b, 1)], 0);
    assert_eq!((report.spilled, report.saved), (2, 0));
    assert_eq!(report.unsaved, []);
    // Closed, so that whoever carries the file away has all of it.
    let names = names_in(file.path.parent().expect("a directory"));
    assert_eq!(names, ["spill.db"]);
    assert_eq!(file.rows(), [("a".to_owned(), 7), ("b".to_owned(), 1)]);
    assert_eq!(
        report.spill_rows_waiting,
        Some(0),
        "they are this shutdown's"
    );

    // Redis is away when the next server starts: neither is it ready, nor is the spill touched.
    redis.freeze();
    let start = || Server::start_unready(&redis.url(), &["--spill", &file.url]);
    let mut server = start();
    assert_eq!(server.readiness(), 503);
    let report = server.stop();
    assert_eq!((report.spilled, report.spill_rows_waiting), (0, Some(2)));
    assert_eq!(file.rows().len(), 2);

    let mut server = start();
    redis.thaw();
    server.log().until("2 sessions replayed, 0 dropped");
    server.process.stdout.until("ready");
    assert_eq!(file.rows(), []);
    assert_eq!(Client::v1(&server, "a").1.count, 7);
    assert_eq!(Client::v1(&server, "b").1.count, 1);
    server.stop();
}

#[test]
fn relaxed_replies_are_not_taken_back() {
    let (mut redis, file) = (Redis::durable(), Spill::new());
    let mut server = file.start(&redis, &["--durability", "relaxed"]);
    let (mut client, _) = Client::v1(&server, "relaxed");
    redis.freeze();
    (1..=5).for_each(|n| assert_eq!(client.say("answered at once"), n));
    let report = spill(&mut redis, &mut server, &mut [(client, 0)], 0);
    assert_eq!(report.spilled, 1);
    let server = file.start(&redis, &[]);
    assert_eq!(Client::v1(&server, "relaxed").1.count, 5);
}

/// Its client has been elsewhere in the meantime, and has sent again what was not confirmed.
#[test]
fn a_session_that_was_claimed_anew_is_dropped_and_said_so() {
    let (mut redis, file) = (Redis::durable(), Spill::new());
    let mut server = file.start(&redis, &[]);
    let (mut moved, _) = Client::v1(&server, "moved");
    let (stayed, _) = Client::v1(&server, "stayed");
    assert_eq!(moved.say("saved"), 1);
    spill(&mut redis, &mut server, &mut [(moved, 4), (stayed, 2)], 0);

    let elsewhere = Server::start(&redis.url(), &[]);
    let (mut moved, hello) = Client::v1(&elsewhere, "moved");
    assert_eq!((hello.count, hello.resumed), (1, true));
    assert_eq!(moved.say("once more"), 2);

    let server = file.start(&redis, &[]);
    let line = server.log().until("claimed anew since");
    assert!(!line.contains("moved"), "an id is a secret: {line}");
    server.log().until("1 sessions replayed, 1 dropped");
    assert_eq!(file.rows(), []);
    assert_eq!(moved.say("and on"), 3);
    assert_eq!(Client::v1(&server, "stayed").1.count, 2);
}

#[test]
fn of_two_that_start_with_it_one_replays() {
    let (mut redis, file) = (Redis::durable(), Spill::new());
    let mut server = file.start(&redis, &[]);
    let mut clients: Vec<_> = (0..50)
        .map(|at| (Client::v1(&server, &format!("s{at}")).0, 1))
        .collect();
    let report = spill(&mut redis, &mut server, &mut clients, 0);
    assert_eq!(report.spilled, 50);
    let mut both = std::thread::scope(|scope| {
        let start = || file.start(&redis, &[]);
        let other = scope.spawn(start);
        [start(), other.join().expect("it starts")]
    });
    assert_eq!(file.rows(), []);
    assert_eq!(Client::v1(&both[0], "s7").1.count, 1);
    let mut said = Vec::new();
    for server in &mut both {
        server.stop();
        said.extend(server.log().all());
    }
    said.retain(|line| line.contains("sessions replayed"));
    let [replay] = &said[..] else {
        panic!("not one replay: {said:?}");
    };
    assert!(
        replay.contains("50 sessions replayed, 0 dropped"),
        "{replay}"
    );
}

/// Three signals: at once, but not before the spill.
#[test]
fn in_a_hurry_too() {
    let (mut redis, file) = (Redis::durable(), Spill::new());
    let mut server = file.start(&redis, &[]);
    let (mut client, _) = Client::v1(&server, "hurried");
    redis.freeze();
    (0..3).for_each(|_| client.text("not saved"));
    client.stream.flush();
    server.turns();
    for asked in 1..=3 {
        server.terminate();
        // Signals coalesce: the next one when this one has been seen.
        let log = server.log();
        eventually("the signal is seen", || log.count("asked for by") == asked);
    }
    assert_eq!(server.exits_with(0).spilled, 1);
    redis.kill();
    redis.restart();
    let server = file.start(&redis, &[]);
    assert_eq!(Client::v1(&server, "hurried").1.count, 3);
}

/// A server whose Redis is frozen and whose client has sent a message that is not saved.
#[track_caller]
fn check_removed(remove: impl Fn(&Spill), code: i32) -> Spill {
    let (mut redis, file) = (Redis::durable(), Spill::new());
    let mut server = file.start(&redis, &[]);
    let (client, _) = Client::v1(&server, "a");
    remove(&file);
    let report = spill(&mut redis, &mut server, &mut [(client, 3)], code);
    let unsaved: Vec<u64> = report.unsaved.iter().map(|row| row.count).collect();
    let lost = (report.spilled, unsaved);
    assert_eq!(lost, if code == 0 { (1, vec![]) } else { (0, vec![3]) });
    file
}

fn remove_all(file: &Spill) {
    for suffix in ["", "-wal", "-shm"] {
        let path = format!("{}{suffix}", file.path.display());
        std::fs::remove_file(path).expect("it is there");
    }
}

#[test]
fn a_spill_that_was_removed_is_made_again() {
    let file = check_removed(remove_all, 0);
    assert_eq!(file.rows(), [("a".to_owned(), 3)]);
}

#[test]
fn a_spill_whose_directory_was_removed_is_told_by_the_exit_code() {
    let remove = |file: &Spill| {
        let dir = file.path.parent().expect("a directory");
        std::fs::remove_dir_all(dir).expect("it is there");
    };
    check_removed(remove, 1);
}

/// It is removed when the sessions are in it, and a client that does not answer its Close is what
/// the exit waits for.
#[test]
fn a_spill_that_is_removed_shortly_before_the_exit_is_made_again() {
    let (redis, file) = (Redis::durable(), Spill::new());
    let mut server = file.start(&redis, &[]);
    let (mut a, _) = Client::v1(&server, "a");
    let (mut silent, _) = Client::v1(&server, "silent");
    redis.freeze();
    for client in [&mut a, &mut silent] {
        client.send("not saved");
    }
    server.terminate();
    assert_eq!(a.until_close().0, 1001);
    remove_all(&file);
    assert_eq!(server.exits_with(0).spilled, 2);
    assert_eq!(file.rows(), [("a".to_owned(), 1), ("silent".to_owned(), 1)]);
}

/// Somebody keeps the lock under which it would be made, for longer than the server has time.
#[test]
fn a_removed_file_that_cannot_be_made_again_does_not_hold_up_the_exit() {
    let (redis, file) = (Redis::durable(), Spill::new());
    let timeout = Duration::from_secs(2);
    let mut server = file.start(&redis, &["--shutdown-timeout", "2s"]);
    let (mut silent, _) = Client::v1(&server, "a");
    redis.freeze();
    silent.send("not saved");
    let directory = File::open(file.path.parent().expect("a directory")).expect("it is there");
    directory.lock().expect("nobody has the lock");
    fs::remove_file(&file.path).expect("it is there");
    let signalled_at = now();
    server.terminate();
    server.exits_with(1);
    let took = signalled_at.elapsed();
    assert!(took < timeout, "it took {took:?}");
}
