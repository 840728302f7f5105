//! What happened, in words, and how often each kind of thing did. The words are for the run that
//! failed and is played again; the numbers show that no fault of the simulation is dead code.

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::io::Write as _;
use std::rc::Rc;
use std::time::Duration;

/// Where the words go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Words {
    /// Nowhere: words take time.
    None,
    /// The last of them are kept.
    Last,
    /// To standard error, all.
    All,
}

/// The lines that are kept.
pub(crate) const LINES_MAX: usize = 150;

/// What happened.
#[derive(Clone)]
pub(crate) struct Trace {
    words: Words,
    lines: Rc<RefCell<VecDeque<String>>>,
    hasher: DefaultHasher,
}

impl Trace {
    pub(crate) fn new(words: Words) -> Self {
        Self {
            words,
            lines: Rc::default(),
            hasher: DefaultHasher::new(),
        }
    }

    pub(crate) fn say(&mut self, at: Duration, words: impl FnOnce() -> String) {
        if self.words == Words::None {
            return;
        }
        let line = format!("{:>12.6} {}", at.as_secs_f64(), words());
        line.hash(&mut self.hasher);
        if self.words == Words::All {
            loudly(&line);
        }
        let mut lines = self.lines.borrow_mut();
        if lines.len() == LINES_MAX {
            lines.pop_front();
        }
        lines.push_back(line);
    }

    /// The last lines.
    pub(crate) fn tail(&self) -> String {
        let lines: Vec<_> = self.lines.borrow().iter().cloned().collect();
        lines.join("\n")
    }

    /// The same for two runs that went the same way.
    pub(crate) fn digest(&self) -> u64 {
        self.hasher.finish()
    }
}

/// How often what happened.
#[derive(Clone, Debug, Default)]
pub(crate) struct Seen(pub(crate) BTreeMap<&'static str, u64>);

impl Seen {
    pub(crate) fn note(&mut self, what: &'static str) {
        *self.0.entry(what).or_default() += 1;
    }

    pub(crate) fn add(&mut self, other: &Self) {
        for (what, times) in &other.0 {
            *self.0.entry(what).or_default() += times;
        }
    }
}

/// Past the capture of the test harness: whoever asked for it wants to see it.
pub(crate) fn loudly(line: &str) {
    writeln!(std::io::stderr(), "{line}").expect("standard error");
}
