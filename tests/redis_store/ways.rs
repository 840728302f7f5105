//! Every way to reach a Redis: TCP, a Unix socket, a name, TLS, with and without a login.

use std::path::Path;
use std::process::Command;
use std::time::Duration;
use std::{env, fs};

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use redis::Value;
use sundown::store::{SessionStore, StoreCommand, StoreEvent};

use crate::driver::Driver;
use crate::mailboxes;
use crate::support::redis::{Redis, free_port};

const SECRET: &str = "se#cret/@";
const SECRET_IN_URL: &str = "se%23cret%2F%40";

/// Claims and saves over this URL.
#[track_caller]
fn check(url: &str, described: &str) {
    let mut store = Driver::up(url);
    assert_eq!(store.store.describe(), described);
    let (epoch, ..) = store.claim("s", 1);
    assert!(store.save(&[("s", epoch, 5)]).is_empty());
}

#[test]
fn a_unix_socket_and_a_database() {
    let redis = Redis::with(&["--unixsocket", "redis.sock"]);
    let path = redis.dir().join("redis.sock").display().to_string();
    let url = format!("redis+unix://{path}");
    check(&format!("{url}?db=3"), &format!("{url}?db=3"));
    let port = redis.port();
    let url = format!("redis://127.0.0.1:{port}/4");
    check(&url, &url);
    for (db, sessions) in [("0", 0), ("3", 1), ("4", 1)] {
        let script = "redis.call('SELECT', ARGV[1]) return redis.call('DBSIZE')";
        let size = redis.command(&["EVAL", script, "0", db]);
        assert_eq!(size, Value::Int(sessions), "database {db}");
    }
}

#[test]
fn a_name_is_looked_up() {
    let redis = Redis::start();
    let url = format!("redis://localhost:{}", redis.port());
    check(&url, &format!("{url}/0"));
}

#[test]
fn an_unknown_name_is_a_reason_and_not_a_hang() {
    let mut store = Driver::open("redis://sundown.invalid");
    assert!(store.wait().is_zero(), "connecting is due at once");
    store.turn(Duration::ZERO);
    // Either the name server says no or, without one, the deadline comes.
    store.skip(Duration::from_secs(5));
    store.wait_down();
}

#[test]
fn a_password_a_user_and_no_rights_but_the_ones_it_needs() {
    let redis = Redis::with(&["--requirepass", SECRET]);
    let port = redis.port();
    let described = format!("redis://127.0.0.1:{port}/0");
    check_login(&redis, &format!(":{SECRET_IN_URL}"), &described);
    let admin = format!("default:{SECRET_IN_URL}");
    check_login(&redis, &admin, &described);
    let password = format!(">{SECRET}");
    // Those of docs/operations.md.
    let rights = "~sundown:session:* ~sundown:mailbox:* resetchannels &sundown:claimed:* -@all \
                  +hello +auth +client|setname +select +ping +subscribe +script|load +evalsha \
                  +publish +hget +hmget +hset +pexpire +time +llen +lrange +ltrim +rpush +del";
    let mut user = vec!["ACL", "SETUSER", "app", "on", &password];
    user.extend(rights.split(' '));
    redis.command_as(SECRET, &user);
    check_login(&redis, &format!("app:{SECRET_IN_URL}"), &described);
    let url = format!("redis://app:{SECRET_IN_URL}@127.0.0.1:{port}");
    mailboxes::keeps_all(&mut Driver::up(&url));
    // Those of 0.1.0 are enough for whoever pushes nothing.
    let fewer = "resetkeys ~sundown:session:* -llen -lrange -ltrim -rpush -del -hget";
    let mut user = vec!["ACL", "SETUSER", "app"];
    user.extend(fewer.split(' '));
    redis.command_as(SECRET, &user);
    check_login(&redis, &format!("app:{SECRET_IN_URL}"), &described);
    // Whoever pushes without them is refused by itself.
    let url = format!("redis://app:{SECRET_IN_URL}@127.0.0.1:{port}");
    let mut store = Driver::up(&url);
    let (epoch, ..) = store.claim("pusher", 1);
    let push = mailboxes::commit("pusher", epoch, 1, 0, &[(1, "s", "push".into())]);
    store.store.ask(StoreCommand::Commit(vec![push]));
    let refused = store.answer();
    assert!(
        matches!(&refused, StoreEvent::Refused { reason, .. } if reason.contains("can't")),
        "{refused:?}"
    );
    assert!(matches!(store.answer(), StoreEvent::Committed { .. }));
    assert!(store.save(&[("pusher", epoch, 1)]).is_empty());
    // Without the channel it hears nothing, and works all the same.
    redis.command_as(SECRET, &["ACL", "SETUSER", "app", "resetchannels"]);
    check_login(&redis, &format!("app:{SECRET_IN_URL}"), &described);
}

fn check_login(redis: &Redis, login: &str, described: &str) {
    let url = format!("redis://{login}@127.0.0.1:{}", redis.port());
    let mut store = Driver::up(&url);
    assert_eq!(store.store.describe(), described);
    let (epoch, ..) = store.claim("s", 1);
    store.claim("s", epoch + 100);
    assert_eq!(store.save(&[("s", epoch, 5)]), [0]);
}

#[test]
fn a_wrong_password_is_a_reason_once_and_never_shown() {
    let redis = Redis::with(&["--requirepass", SECRET]);
    let url = format!("redis://:wrong-secret@127.0.0.1:{}", redis.port());
    let mut store = Driver::open(&url);
    let reason = store.wait_down();
    assert!(
        reason.contains("WRONGPASS") && !reason.contains("wrong-secret"),
        "{reason}"
    );
    for _ in 0..10 {
        store.skip(Duration::from_secs(2));
        store.turn(Duration::from_millis(20));
    }
    assert!(store.heard().is_none(), "one Down is enough");
    redis.command_as(SECRET, &["CONFIG", "SET", "requirepass", "wrong-secret"]);
    store.skip(Duration::from_secs(2));
    store.wait_up();
}

/// In a child process, since `SSL_CERT_FILE` is read from the environment: this test again, with
/// what it must do in `SUNDOWN_TEST_TLS`.
#[test]
fn tls_trusts_the_certificates_of_the_environment_and_no_others() {
    if let Ok(task) = env::var("SUNDOWN_TEST_TLS") {
        return tls_in_child(&task);
    }
    let dir = tempfile::tempdir().unwrap();
    let port = free_port().to_string();
    let authority = Authority::new(&dir.path().join("ca.pem"));
    Authority::new(&dir.path().join("other.pem"));
    let file = |name: &str| dir.path().join(name).display().to_string();
    authority.sign(&file("cert.pem"), &file("key.pem"));
    // The certificate is good for the first of these addresses only.
    let redis = Redis::with(&[
        "--bind",
        "127.0.0.1",
        "127.0.0.2",
        "--tls-port",
        &port,
        "--tls-auth-clients",
        "no",
        "--tls-cert-file",
        &file("cert.pem"),
        "--tls-key-file",
        &file("key.pem"),
        "--tls-ca-cert-file",
        &file("ca.pem"),
    ]);
    for (ca, task) in [
        ("ca.pem", format!("up rediss://localhost:{port}")),
        ("ca.pem", format!("up rediss://127.0.0.1:{port}")),
        ("ca.pem", format!("down rediss://127.0.0.2:{port}")),
        ("other.pem", format!("down rediss://localhost:{port}")),
        (
            "other.pem",
            format!("up rediss://localhost:{port}#insecure"),
        ),
        ("missing.pem", format!("refused rediss://localhost:{port}")),
    ] {
        let child = Command::new(env::current_exe().unwrap())
            .args(["--exact", "--nocapture"])
            .arg("ways::tls_trusts_the_certificates_of_the_environment_and_no_others")
            .env("SSL_CERT_FILE", file(ca))
            .env_remove("SSL_CERT_DIR")
            .env("SUNDOWN_TEST_TLS", &task)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&child.stdout);
        assert!(
            child.status.success() && said.contains("1 passed"),
            "{ca} {task}: {said}"
        );
    }
    drop(redis);
}

fn tls_in_child(task: &str) {
    let (task, url) = task.split_once(' ').unwrap();
    match task {
        "up" => {
            let mut store = Driver::up(url);
            // More than one TLS record, and more than the turn's read budget.
            let sessions: Vec<String> = (0..512).map(|n| format!("{n:0>128}")).collect();
            let batch: Vec<_> = sessions.iter().map(|id| (id.as_str(), 1, 1)).collect();
            for _ in 0..20 {
                assert!(store.save(&batch).is_empty());
            }
        }
        "down" => {
            let reason = Driver::open(url).wait_down();
            assert!(reason.contains("certificate"), "{reason}");
        }
        "refused" => {
            let error = Driver::try_open(url).err().unwrap().to_string();
            assert!(error.contains("SSL_CERT_FILE"), "{error}");
        }
        other => panic!("{other}"),
    }
}

struct Authority(Issuer<'static, KeyPair>);

impl Authority {
    /// Makes one, and writes its certificate.
    fn new(path: &Path) -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        fs::write(path, params.self_signed(&key).unwrap().pem()).unwrap();
        Self(Issuer::new(params, key))
    }

    /// Writes a certificate for this machine, and its key.
    fn sign(&self, cert_path: &str, key_path: &str) {
        let key = KeyPair::generate().unwrap();
        let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
        let params = CertificateParams::new(names).unwrap();
        let cert = params.signed_by(&key, &self.0).unwrap();
        fs::write(cert_path, cert.pem()).unwrap();
        fs::write(key_path, key.serialize_pem()).unwrap();
    }
}
