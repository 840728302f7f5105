//! SIGTERM, SIGINT and SIGHUP, each with the moment at which it came.
//!
//! It owns the process's handlers for the three, and a helper thread that waits for them: a loop
//! that is held up by a disk or by an application must not move the deadline of the shutdown. It
//! belongs to the binary (or to an embedder that wants the same): the library never installs a
//! handler on its own account. Register before anything else: configuration, bind and store take
//! time, and a SIGTERM in that time must count.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::OpenOptionsExt as _;
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, OnceLock};
use std::thread;

use mio::Waker;
use nix::errno::Errno;
use nix::libc;
use nix::sys::signal::{SigSet, Signal};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::exfiltrator::WithRawSiginfo;
use signal_hook::iterator::{Handle, SignalsInfo};

use crate::clock;
use crate::engine::shutdown::{Request, Trigger};
use crate::error::Error;

/// The signal handlers, and what the thread behind them has taken in.
pub struct Signals {
    requests: Receiver<Request>,
    /// Wakes the loop, as soon as there is one.
    waker: Arc<OnceLock<Arc<Waker>>>,
    handle: Handle,
}

impl Signals {
    /// Installs the handlers, and lets the signals through if whoever started the process has
    /// blocked them. From here on none of them ends the process by itself. Call it before other
    /// threads are started, which inherit the mask.
    ///
    /// A SIGHUP that is ignored when the process starts (`nohup`) stays ignored.
    pub fn register() -> Result<Self, Error> {
        let mut kinds = vec![SIGTERM, SIGINT];
        if !is_ignored(SIGHUP) {
            kinds.push(SIGHUP);
        }
        // A signal that comes while its handler is installed waits for that: it would be lost, or
        // end the process.
        let mask: SigSet = [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP]
            .into_iter()
            .collect();
        let failed = |error: Errno| Error::io("cannot change the signal mask")(error.into());
        mask.thread_block().map_err(failed)?;
        let signals =
            SignalsInfo::new(&kinds).map_err(Error::io("cannot install the signal handlers"))?;
        mask.thread_unblock().map_err(failed)?;
        let (sender, requests) = mpsc::channel();
        let waker = Arc::new(OnceLock::new());
        let handle = signals.handle();
        let of_thread = Arc::clone(&waker);
        let had_terminal = has_terminal();
        thread::Builder::new()
            .name("sundown-signals".to_owned())
            .spawn(move || wait(signals, had_terminal, &sender, &of_thread))
            .map_err(Error::io("cannot start the thread for signals"))?;
        Ok(Self {
            requests,
            waker,
            handle,
        })
    }

    /// Has the loop woken by a signal, and for those that have come already.
    pub(crate) fn watch(&mut self, waker: &Arc<Waker>) -> Result<(), Error> {
        self.waker.get_or_init(|| Arc::clone(waker));
        waker.wake().map_err(Error::io("cannot wake the loop"))
    }

    /// The requests that have arrived since the last call. Never blocks.
    pub(crate) fn pending(&self) -> impl Iterator<Item = Request> {
        self.requests.try_iter()
    }
}

impl Drop for Signals {
    /// Ends the thread.
    fn drop(&mut self) {
        self.handle.close();
    }
}

/// The thread.
fn wait(
    mut signals: SignalsInfo<WithRawSiginfo>,
    had_terminal: bool,
    requests: &Sender<Request>,
    waker: &OnceLock<Arc<Waker>>,
) {
    while !signals.handle().is_closed() {
        let mut infos: Vec<_> = signals.wait().collect();
        let at = clock::now().instant;
        // Their order in the set says nothing about when they came; a SIGHUP that comes with
        // another one means nothing beside it.
        infos.sort_by_key(|info| info.si_signo == SIGHUP);
        for info in infos {
            let trigger = match info.si_signo {
                SIGTERM => Trigger::Sigterm,
                SIGINT => Trigger::Sigint,
                SIGHUP if is_hangup(&info) || had_terminal && !has_terminal() => Trigger::Sighup,
                SIGHUP => {
                    log::info!("SIGHUP ignored: there is nothing to reload, and no terminal went");
                    continue;
                }
                _ => continue,
            };
            if requests.send(Request { trigger, at }).is_err() {
                return;
            }
            if let Some(waker) = waker.get()
                && let Err(error) = waker.wake()
            {
                log::error!("cannot wake the loop: {error}");
            }
        }
    }
}

/// Whether the kernel has sent it: the terminal, or the leader of the session, has gone.
fn is_hangup(info: &libc::siginfo_t) -> bool {
    cfg!(target_os = "linux") && info.si_code == SI_KERNEL
}

/// sigaction(2).
const SI_KERNEL: i32 = 0x80;

/// Whether there is a controlling terminal. A shell passes SIGHUP on when its terminal has gone.
fn has_terminal() -> bool {
    // A serial line without a carrier must not hold this up.
    let mut options = OpenOptions::new();
    options.read(true).custom_flags(libc::O_NONBLOCK);
    options.open("/dev/tty").is_ok()
}

/// Whether the process was started with this signal ignored. Only Linux tells.
fn is_ignored(signal: i32) -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    mask.unwrap_or_default() & 1 << (signal - 1) != 0
}
