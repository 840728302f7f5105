//! A disk of the row's own that can really be full, or really be read-only, also for root: a
//! small file system, mounted for as long as this lives.

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

pub(crate) struct Disk {
    dir: TempDir,
    /// The file that holds it, if it is not in memory.
    _image: Option<TempDir>,
}

impl Disk {
    #[track_caller]
    pub(crate) fn mount() -> Self {
        Self::with(&["-t", "tmpfs", "-o", "size=8m", "tmpfs"], None)
    }

    /// In memory there is no way to make a file system read-only that someone writes to. Ext4 does
    /// it by itself when its disk fails.
    #[track_caller]
    pub(crate) fn mount_ext4() -> Self {
        let dir = TempDir::new().expect("a temporary directory");
        let image = dir.path().join("image");
        let made = File::create(&image).and_then(|file| file.set_len(32 << 20));
        made.expect("a file for the file system");
        let formatted = run("mkfs.ext4", &["-q", "-F"], &image);
        assert!(formatted, "mkfs.ext4 failed: apt-get install e2fsprogs");
        let path = image.to_str().expect("a temporary path is UTF-8");
        Self::with(&["-t", "ext4", "-o", "loop", path], Some(dir))
    }

    #[track_caller]
    fn with(options: &[&str], image: Option<TempDir>) -> Self {
        let dir = TempDir::new().expect("a temporary directory");
        assert!(
            run("mount", options, dir.path()),
            "this row mounts a file system of its own: run the tests as root, where that is allowed"
        );
        Self { dir, _image: image }
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

    /// Copies of the database's files have no room behind their ends.
    #[track_caller]
    pub(crate) fn forget_reserve(&self) {
        let other = TempDir::new().expect("a temporary directory");
        self.rescue(other.path());
        for name in ["sundown.db", "sundown.db-wal", "sundown.db-shm"] {
            std::fs::remove_file(self.path().join(name)).expect("it is there");
        }
        for name in ["sundown.db", "sundown.db-wal"] {
            let copied = std::fs::copy(other.path().join(name), self.path().join(name));
            copied.expect("there was room for it");
        }
    }

    pub(crate) fn free(&self) {
        std::fs::remove_file(self.ballast()).expect("the ballast is there");
    }

    /// What ext4 does on an error of the disk: from now on nothing can be written, whoever has
    /// files open.
    #[track_caller]
    pub(crate) fn fail(&self) {
        self.remount("abort");
    }

    /// Copies what is on it to a good disk.
    #[track_caller]
    pub(crate) fn rescue(&self, to: &Path) {
        for name in ["sundown.db", "sundown.db-wal"] {
            std::fs::copy(self.path().join(name), to.join(name)).expect("it can be read");
        }
    }

    /// Read-only, or not; fails while anyone has a file open to write.
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
