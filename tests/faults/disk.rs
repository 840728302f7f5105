//! A disk of the row's own that can really be full, or really be read-only, also for root: a
//! small file system in memory, mounted for as long as this lives.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

pub(crate) struct Disk {
    dir: TempDir,
}

impl Disk {
    #[track_caller]
    pub(crate) fn mount() -> Self {
        let dir = TempDir::new().expect("a temporary directory");
        let mounted = run("mount", &["-t", "tmpfs", "-o", SIZE, "tmpfs"], dir.path());
        assert!(
            mounted,
            "this row mounts a file system of its own, which takes root: run the tests as root, \
             or as the root of a namespace (`unshare --map-root-user --mount make test-faults`)"
        );
        Self { dir }
    }

    pub(crate) fn path(&self) -> &Path {
        self.dir.path()
    }

    /// For `--store` and `--spill`.
    pub(crate) fn sqlite(&self) -> String {
        format!("sqlite:{}", self.path().join("sundown.db").display())
    }

    /// Leaves not one byte.
    pub(crate) fn fill(&self) {
        let mut ballast = OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.ballast())
            .expect("a file for the ballast");
        for len in [64 << 10, 1_024, 1] {
            while ballast.write_all(&vec![0; len]).is_ok() {}
        }
    }

    pub(crate) fn free(&self) {
        std::fs::remove_file(self.ballast()).expect("the ballast is there");
    }

    /// Fails while anyone has a file open to write.
    #[track_caller]
    pub(crate) fn remount(&self, how: &str) {
        let options = format!("remount,{how}");
        assert!(run("mount", &["-o", &options], self.path()), "{options}");
    }

    fn ballast(&self) -> PathBuf {
        self.path().join("ballast")
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Lazily: a server that a failed row leaves behind may still have it open.
        run("umount", &["-l"], self.dir.path());
    }
}

fn run(program: &str, options: &[&str], path: &Path) -> bool {
    let status = Command::new(program).args(options).arg(path).status();
    status.is_ok_and(|status| status.success())
}

const SIZE: &str = "size=8m";
