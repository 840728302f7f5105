//! Numbers as Prometheus wants them: families of samples, each with its name, kind and help.
//!
//! It owns the use of the `prometheus` crate, and nothing of what the numbers mean.

use std::fmt;
use std::time::Duration;

use prometheus::local::LocalHistogram;
use prometheus::{
    Counter, GaugeVec, Histogram, HistogramOpts, IntCounterVec, IntGauge, Opts, Registry, Result,
    TEXT_FORMAT, TextEncoder,
};

/// The media type of the page.
pub(super) const MEDIA_TYPE: &str = TEXT_FORMAT;

/// Families, which come out in the order of their names.
#[derive(Debug, Default)]
pub(super) struct Families(Registry);

/// A sample: the values of the labels, in their order, and a number.
type Sample<S, const LABELS: usize, N> = ([S; LABELS], N);

impl Families {
    /// A number that only grows. Its name ends with `_total`.
    pub(super) fn counter(&self, name: &str, help: &str, value: u64) {
        self.counters::<&str, 0>(name, help, [], [([], value)]);
    }

    /// The same for each combination of labels.
    pub(super) fn counters<S: AsRef<str> + fmt::Debug, const LABELS: usize>(
        &self,
        name: &str,
        help: &str,
        labels: [&str; LABELS],
        samples: impl IntoIterator<Item = Sample<S, LABELS, u64>>,
    ) {
        let family = IntCounterVec::new(Opts::new(name, help), &labels).and_then(|counters| {
            for (labels, value) in samples {
                counters
                    .get_metric_with_label_values(&labels)?
                    .inc_by(value);
            }
            self.0.register(Box::new(counters))
        });
        told(&family);
    }

    /// Seconds that only grow, in one sum.
    pub(super) fn seconds_total(&self, name: &str, help: &str, value: f64) {
        let family = Counter::new(name, help).and_then(|counter| {
            counter.inc_by(value);
            self.0.register(Box::new(counter))
        });
        told(&family);
    }

    /// A whole number that goes up and down.
    pub(super) fn gauge(&self, name: &str, help: &str, value: u64) {
        let family = IntGauge::new(name, help).and_then(|gauge| {
            gauge.set(i64::try_from(value).unwrap_or(i64::MAX));
            self.0.register(Box::new(gauge))
        });
        told(&family);
    }

    /// Any number that goes up and down, for each combination of labels.
    pub(super) fn gauges<S: AsRef<str> + fmt::Debug, const LABELS: usize>(
        &self,
        name: &str,
        help: &str,
        labels: [&str; LABELS],
        samples: impl IntoIterator<Item = Sample<S, LABELS, f64>>,
    ) {
        let family = GaugeVec::new(Opts::new(name, help), &labels).and_then(|gauges| {
            for (labels, value) in samples {
                gauges.get_metric_with_label_values(&labels)?.set(value);
            }
            self.0.register(Box::new(gauges))
        });
        told(&family);
    }

    /// One of several states, each of which is a label: 1 for the one that holds, 0 for the others.
    pub(super) fn state(&self, name: &str, help: &str, label: &str, all: &[&str], now: &str) {
        let holds = |state: &str| if state == now { 1.0 } else { 0.0 };
        let samples = all.iter().map(|&state| ([state], holds(state)));
        self.gauges(name, help, [label], samples);
    }

    /// Durations.
    pub(super) fn seconds(&self, seconds: &Seconds) {
        seconds.local.flush();
        told(&self.0.register(Box::new(seconds.shared.clone())));
    }

    /// The page, without families of which no sample is known yet.
    pub(super) fn page(&self) -> String {
        let page = TextEncoder::new().encode_to_string(&self.0.gather());
        debug_assert!(page.is_ok(), "a String takes everything: {page:?}");
        page.unwrap_or_default()
    }
}

/// Names and labels are fixed: a family that cannot be is told by the first test that wants a page.
fn told(family: &Result<()>) {
    debug_assert!(family.is_ok(), "{family:?}");
}

/// A histogram of durations, in seconds. Observing one adds to plain numbers; they are handed to
/// the library at the scrape.
pub(crate) struct Seconds {
    shared: Histogram,
    local: LocalHistogram,
}

impl Seconds {
    /// An empty one with these upper bounds, in seconds.
    pub(super) fn new(name: &str, help: &str, bounds: &[f64]) -> Self {
        let options = HistogramOpts::new(name, help).buckets(bounds.to_vec());
        #[expect(
            clippy::expect_used,
            reason = "names and bounds are constants; every start of every test runs this"
        )]
        let shared = Histogram::with_opts(options).expect("a name, and bounds that rise");
        let local = shared.local();
        Self { shared, local }
    }

    #[cfg(test)]
    pub(super) fn sum(&self) -> Duration {
        Duration::from_secs_f64(self.local.get_sample_sum())
    }

    pub(super) fn observe(&self, duration: Duration) {
        self.local.observe(duration.as_secs_f64());
    }
}

impl fmt::Debug for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Seconds").finish_non_exhaustive()
    }
}
