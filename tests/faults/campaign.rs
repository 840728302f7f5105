//! The rows, run one after the other, and the table that they make.

use std::fmt::Write as _;
use std::panic::{AssertUnwindSafe, catch_unwind};

use super::fleet::Fleet;
use super::fleet::ledger::Ledger;
use super::fleet::letters::{self, Says};
use super::holdings::{self, Holdings};
use super::rows::FAULTS;
use crate::files::allow_files;
use crate::support::redis::Redis;
use crate::support::store::Store;
use crate::support::{PATIENCE, ms, now, pause};

/// One fault.
pub(crate) struct Fault {
    pub(crate) name: &'static str,
    pub(crate) store: &'static str,
    pub(crate) durability: &'static str,
    pub(crate) promise: Promise,
    pub(crate) run: fn(&mut Row) -> Tally,
}

/// What the store itself, or the durability, promises in this row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Promise {
    /// Lost and double must be 0.
    Kept,
    /// It may forget what it has confirmed.
    MayBreak,
    /// It does forget, which the accounts must show: that they can.
    Breaks,
}

/// A row while it runs.
pub(crate) struct Row {
    /// Multiplies clients and rounds.
    pub(crate) scale: usize,
    store: &'static str,
    durability: &'static str,
    promise: Promise,
    notes: Vec<String>,
}

/// What a row came to.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    clients: usize,
    sent: u64,
    acknowledged: u64,
    /// Messages that the store has counted in the end.
    counted: u64,
    /// Messages that the service has seen, by its own count.
    seen: u64,
    lost: u64,
    double: u64,
    /// Sessions whose service has not seen each message that was counted, once and in order: never
    /// any, whatever the store does.
    astray: usize,
    /// Replies that were not the next count: never any, whatever the store does.
    out_of_order: u64,
    /// Clients that could not finish.
    stranded: usize,
}

impl Row {
    /// For the last column.
    pub(crate) fn note(&mut self, note: impl Into<String>) {
        self.notes.push(note.into());
    }

    /// A new store of the row's kind.
    #[track_caller]
    pub(crate) fn store(&self) -> Store {
        match self.store {
            "SQLite" => Store::sqlite(),
            _ => Store::Redis(Redis::durable()),
        }
    }

    /// What a server of the row is started with.
    pub(crate) fn flags(&self) -> &'static [&'static str] {
        match self.durability {
            "relaxed" => &["--durability", "relaxed"],
            _ => &[],
        }
    }

    /// Everyone comes back and finishes, and is compared with this store.
    #[track_caller]
    pub(crate) fn settle_with(&mut self, fleet: Fleet, store: &Store) -> Tally {
        self.settle(fleet, |ledgers| holdings::of(store, names(ledgers)))
    }

    /// Everyone comes back and finishes, and is compared with Redis.
    #[track_caller]
    pub(crate) fn settle_with_redis(&mut self, fleet: Fleet, redis: &Redis) -> Tally {
        self.settle(fleet, |ledgers| {
            holdings::in_redis(redis.port(), names(ledgers))
        })
    }

    /// The same with the SQLite file of this store.
    #[track_caller]
    pub(crate) fn settle_with_sqlite(&mut self, fleet: Fleet, store: &str) -> Tally {
        self.settle(fleet, |_| holdings::in_sqlite(store))
    }

    /// What the store has when all is over. With `relaxed` a client has its counts before the store
    /// does, and a node that serves on saves them a moment later: those are waited for.
    fn last_holdings(
        &self,
        holdings: impl Fn(&[Ledger]) -> Holdings,
        ledgers: &[Ledger],
    ) -> Holdings {
        let deadline = now() + PATIENCE;
        loop {
            let found = holdings(ledgers);
            let count = |ledger: &Ledger| found.get(&ledger.session).map(|held| held.count);
            let is_there = |ledger: &Ledger| count(ledger) >= Some(ledger.wanted);
            let waits = self.durability == "relaxed" && self.promise == Promise::Kept;
            if !waits || now() > deadline || ledgers.iter().all(is_there) {
                return found;
            }
            pause(ms(20));
        }
    }

    fn settle(&mut self, fleet: Fleet, holdings: impl Fn(&[Ledger]) -> Holdings) -> Tally {
        let mut tally = Tally {
            clients: fleet.clients(),
            ..Tally::default()
        };
        let accounts = fleet.finish();
        let pushes = letters::check(&accounts);
        if pushes > 0 {
            self.note(format!("{pushes} pushes, each received once"));
        }
        let accounts = accounts.into_iter();
        let (mut ledgers, says): (Vec<Ledger>, Vec<Says>) = accounts
            .map(|account| (account.ledger, account.says))
            .unzip();
        let mut holdings = self.last_holdings(holdings, &ledgers);
        let (mut hellos, mut repeated) = (0, 0);
        for (ledger, says) in ledgers.iter_mut().zip(says) {
            let held = holdings.remove(&ledger.session).unwrap_or_default();
            ledger.settle(held.count);
            tally.counted += held.count;
            tally.seen += held.seen;
            if !held.is_whole(&ledger.session, says) {
                tally.astray += 1;
                eprintln!("    {held:?}, {ledger:?}");
            }
            if self.durability == "acked" {
                ledger.lost = ledger.lost.max(ledger.denied);
                ledger.double += ledger.overlapping;
            }
            tally.sent += ledger.wanted;
            tally.acknowledged += ledger.acknowledged;
            tally.lost += ledger.lost;
            tally.double += ledger.double;
            tally.out_of_order += ledger.out_of_order;
            tally.stranded += usize::from(!ledger.is_complete);
            hellos += ledger.hellos;
            repeated += ledger.repeated;
            let is_clean = ledger.lost + ledger.double + ledger.out_of_order == 0;
            if self.promise == Promise::Kept && !(is_clean && ledger.is_complete) {
                eprintln!("    {ledger:?}");
            }
        }
        self.note(format!("{hellos} hellos, {repeated} sent again"));
        tally
    }
}

fn names(ledgers: &[Ledger]) -> impl Iterator<Item = &str> {
    ledgers.iter().map(|ledger| ledger.session.as_str())
}

impl Fault {
    /// Its line of the table, and why it failed, if it did.
    fn run(&self, scale: usize) -> (String, Option<String>) {
        let mut row = Row {
            scale,
            store: self.store,
            durability: self.durability,
            promise: self.promise,
            notes: Vec::new(),
        };
        let began = now();
        // What a row owns dies with it, so that the next one finds nothing broken.
        let outcome = catch_unwind(AssertUnwindSafe(|| (self.run)(&mut row)));
        let seconds = began.elapsed().as_secs_f64();
        let (tally, failure) = match outcome {
            Ok(tally) => {
                let failure = self.verdict(&tally);
                (Some(tally), failure)
            }
            Err(panic) => (None, Some(message(&*panic))),
        };
        let mut line = format!("| {} | {} | {} |", self.name, self.store, self.durability);
        let numbers = match &tally {
            Some(tally) => {
                let mark = if self.promise == Promise::Kept {
                    ""
                } else {
                    " †"
                };
                let Tally {
                    clients,
                    sent,
                    acknowledged,
                    counted,
                    seen,
                    lost,
                    double,
                    ..
                } = tally;
                format!(
                    " {clients} | {sent} | {acknowledged} | {counted} | {seen} | {lost}{mark} | \
                     {double} |"
                )
            }
            None => " ? | ? | ? | ? | ? | ? | ? |".to_owned(),
        };
        line += &numbers;
        if failure.is_some() {
            row.notes.insert(0, "**FAILED**".to_owned());
        }
        write!(line, " {} |", row.notes.join("; ")).expect("a String takes everything");
        eprintln!("{seconds:>6.1} s  {line}");
        (line, failure)
    }

    fn verdict(&self, tally: &Tally) -> Option<String> {
        let holds = match self.promise {
            Promise::Kept => tally.lost == 0,
            Promise::MayBreak => true,
            Promise::Breaks => tally.lost > 0,
        };
        let clean = tally.double == 0 && tally.out_of_order == 0 && tally.stranded == 0;
        let clean = clean && tally.astray == 0 && tally.seen == tally.counted;
        (!holds || !clean || tally.acknowledged == 0)
            .then(|| format!("the store's promise: {:?}; {tally:?}", self.promise))
    }
}

fn message(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("a panic without words")
        .to_owned()
}

#[test]
fn the_campaign() {
    allow_files(4_000);
    let scale = match std::env::var("SUNDOWN_FAULTS_SCALE") {
        Ok(scale) => scale.parse().expect("SUNDOWN_FAULTS_SCALE is a number"),
        Err(_) => 1,
    };
    let wanted = std::env::var("SUNDOWN_FAULTS_ROWS").unwrap_or_default();
    let began = now();
    let mut lines = Vec::new();
    let mut failures = Vec::new();
    let chosen = FAULTS.iter().filter(|fault| fault.name.contains(&wanted));
    for fault in chosen {
        let (line, failure) = fault.run(scale);
        lines.push(line);
        failures.extend(failure.map(|why| format!("{} ({}): {why}", fault.name, fault.store)));
    }
    println!("\nScale {scale}, {:.0} s.", began.elapsed().as_secs_f64());
    if !wanted.is_empty() {
        println!(
            "Only the rows with “{wanted}”, {} of {}.",
            lines.len(),
            FAULTS.len()
        );
    }
    println!(
        "† Nothing is promised here.\n\n\
         | fault | store | durability | clients | sent | acknowledged | counted | seen | lost | \
         double | notes |\n|---|---|---|---:|---:|---:|---:|---:|---:|---:|---|\n{}\n",
        lines.join("\n")
    );
    assert!(!lines.is_empty(), "no row has “{wanted}” in its name");
    assert!(failures.is_empty(), "\n{}\n", failures.join("\n"));
}
