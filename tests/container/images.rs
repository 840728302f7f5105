//! The images that the tests run: the one that is shipped, built by its own script once, what
//! stands in for other people's images, and spoiled ones for deploys that must fail.

use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use super::engine::docker;

/// The shipped image, under a name of its own, and whatever compose.yml names besides.
#[track_caller]
pub(crate) fn under_test() -> &'static str {
    static BUILT: OnceLock<()> = OnceLock::new();
    BUILT.get_or_init(|| {
        run("docker/image.sh", &[NAME]);
        run("tests/container/stand-ins.sh", &[]);
    });
    NAME
}

/// The shipped image with more lines in its Dockerfile.
#[track_caller]
pub(crate) fn spoiled(what: &str, lines: &str) -> String {
    let name = format!("{}-{what}", under_test());
    let directory = tempfile::tempdir().expect("a directory");
    let text = format!("FROM {}\n{lines}\n", under_test());
    std::fs::write(directory.path().join("Dockerfile"), text).expect("a file");
    let context = directory.path().to_str().expect("a path of UTF-8");
    docker(&["build", "--quiet", "--tag", &name, context]);
    name
}

/// A script of the repository, which must succeed.
#[track_caller]
pub(crate) fn run(script: &str, args: &[&str]) {
    let output = Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join(script))
        .args(args)
        .stdin(Stdio::null())
        .env("DOCKER_BUILDKIT", "0")
        .output();
    let output = output.unwrap_or_else(|error| panic!("{script}: {error}"));
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{script}: {stderr}");
    print!("{}", String::from_utf8_lossy(&output.stdout));
}

const NAME: &str = "sundown:under-test";
