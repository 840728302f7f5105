//! What one client knows of its session, as docs/protocol.md tells it to: what it has put on the
//! wire, what was acknowledged, and everything in which the server contradicts itself. Pure: it
//! never sees a socket or a clock.
//!
//! Messages have the numbers 1, 2, 3, …; all up to `acknowledged` have left the outbox, the rest of
//! `wanted` is in it.

/// The account of a session, over all its connections.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ledger {
    pub(crate) session: String,
    /// Distinct messages that the client wanted to be counted.
    pub(crate) wanted: u64,
    /// The highest number that it ever put on the wire.
    pub(crate) wired: u64,
    /// The highest count that it was told by a reply, a hello or a goodbye.
    pub(crate) acknowledged: u64,
    /// Acknowledged messages that a hello, or in the end the store, has denied.
    pub(crate) lost: u64,
    /// Messages that were acknowledged by a reply and denied by the goodbye after it: no
    /// contradiction with `relaxed`, if the next hello knows of them.
    pub(crate) denied: u64,
    /// Counts above what was sent.
    pub(crate) double: u64,
    /// Replies above the hello of a newer connection: with `acked`, two owners.
    pub(crate) overlapping: u64,
    /// Replies that were not the next count of their connection.
    pub(crate) out_of_order: u64,
    /// Messages that went on the wire more than once.
    pub(crate) repeated: u64,
    pub(crate) hellos: u64,
    /// It keeps no outbox: a plain client, whose messages nobody sends again.
    pub(crate) is_plain: bool,
    /// Everything was acknowledged when it left.
    pub(crate) is_complete: bool,
}

/// One connection's part in it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Seat {
    /// The count that it has heard last.
    pub(crate) at: u64,
    /// The number of the last message that it has sent.
    pub(crate) sent: u64,
    /// The hello of the connection that has taken the session from it.
    taken_at: Option<u64>,
}

impl Ledger {
    pub(crate) fn new(session: &str) -> Self {
        Self {
            session: session.to_owned(),
            ..Self::default()
        }
    }

    /// Messages in the outbox.
    pub(crate) fn outbox(&self) -> u64 {
        self.wanted.saturating_sub(self.acknowledged)
    }

    /// One more message to be counted.
    pub(crate) fn want(&mut self) {
        self.wanted += 1;
    }

    /// The number of the next message that this connection has to send.
    pub(crate) fn next(&self, seat: &Seat) -> Option<u64> {
        (seat.sent < self.wanted).then_some(seat.sent + 1)
    }

    /// That message is on the wire.
    pub(crate) fn sent(&mut self, seat: &mut Seat) {
        seat.sent += 1;
        if seat.sent <= self.wired {
            self.repeated += 1;
        } else {
            self.wired = seat.sent;
        }
    }

    pub(crate) fn hello(&mut self, seat: &mut Seat, count: u64) {
        self.hellos += 1;
        self.deny_below(count);
        self.doubt_above(self.wired, count);
        self.acknowledged = count;
        (seat.at, seat.sent) = (count, count);
    }

    /// A newer connection was greeted with this count: this one may count no further.
    pub(crate) fn take_over(seat: &mut Seat, hello: u64) {
        seat.taken_at.get_or_insert(hello);
    }

    pub(crate) fn reply(&mut self, seat: &mut Seat, count: u64) {
        self.out_of_order += u64::from(count != seat.at + 1);
        // Each connection can have counted only what its hello said and what it has sent itself.
        let own = seat.sent;
        self.doubt_above(own, count);
        if seat.taken_at.is_some_and(|taken_at| count > taken_at) {
            self.overlapping += 1;
        }
        seat.at = count;
        seat.sent = seat.sent.max(count);
        self.acknowledged = self.acknowledged.max(count);
    }

    pub(crate) fn goodbye(&mut self, seat: &mut Seat, total: u64) {
        self.denied += seat.at.saturating_sub(total);
        let own = seat.sent;
        self.doubt_above(own, total);
        self.acknowledged = self.acknowledged.max(total);
    }

    /// Nothing was lost, nothing was counted twice, and it could finish.
    #[track_caller]
    pub(crate) fn assert_clean(&self) {
        let wrong = [self.lost, self.denied, self.double, self.overlapping];
        assert_eq!(wrong, [0; 4], "{self:?}");
        assert!(self.is_complete && self.out_of_order == 0, "{self:?}");
    }

    /// The last word: what the store itself has of the session when all is over.
    pub(crate) fn settle(&mut self, stored: u64) {
        if self.is_plain {
            self.wanted = self.wired;
            self.lost += self.acknowledged.saturating_sub(stored);
            self.double += stored.saturating_sub(self.wired);
        } else {
            self.lost += self.wanted.saturating_sub(stored);
            self.double += stored.saturating_sub(self.wanted);
        }
    }

    /// What was acknowledged above this count is gone. The account goes on from there, so that
    /// nothing is complained of twice.
    fn deny_below(&mut self, count: u64) {
        self.lost += self.acknowledged.saturating_sub(count);
        self.acknowledged = self.acknowledged.min(count);
    }

    /// What was counted above this was never sent.
    fn doubt_above(&mut self, sent: u64, count: u64) {
        self.double += count.saturating_sub(sent);
        self.wired = self.wired.max(count);
        self.wanted = self.wanted.max(count);
    }
}

/// A client that has sent so many, and has seen so many counted, on one connection.
fn after(messages: u64, counted: u64) -> (Ledger, Seat) {
    let (mut ledger, mut seat) = (Ledger::new("s"), Seat::default());
    ledger.hello(&mut seat, 0);
    for _ in 0..messages {
        ledger.want();
        ledger.sent(&mut seat);
    }
    (1..=counted).for_each(|count| ledger.reply(&mut seat, count));
    assert_eq!((ledger.lost, ledger.double, ledger.out_of_order), (0, 0, 0));
    (ledger, seat)
}

#[test]
fn the_account_sees_what_is_lost() {
    let check = |hello: u64, stored: u64, lost: u64, repeated: u64| {
        let (mut ledger, _) = after(9, 5);
        let mut seat = Seat::default();
        ledger.hello(&mut seat, hello);
        while ledger.next(&seat).is_some() {
            ledger.sent(&mut seat);
        }
        (hello + 1..=9).for_each(|count| ledger.reply(&mut seat, count));
        ledger.settle(stored);
        assert_eq!((ledger.lost, ledger.double), (lost, 0), "{ledger:?}");
        assert_eq!(ledger.repeated, repeated);
    };
    check(5, 9, 0, 4);
    check(9, 9, 0, 0);
    check(3, 9, 2, 6);
    check(5, 8, 1, 4);
}

#[test]
fn the_account_sees_what_is_double() {
    let (mut ledger, mut seat) = after(5, 5);
    ledger.reply(&mut seat, 6);
    assert_eq!(ledger.double, 1, "a count of nothing");
    let (mut ledger, _) = after(5, 5);
    ledger.hello(&mut Seat::default(), 7);
    assert_eq!(ledger.double, 2, "a hello of what was never sent");
    let (mut ledger, _) = after(5, 5);
    ledger.settle(8);
    assert_eq!(ledger.double, 3, "more in the store than was ever sent");
}

#[test]
fn the_account_sees_two_owners() {
    let (mut ledger, mut old) = after(9, 5);
    ledger.hello(&mut Seat::default(), 6);
    Ledger::take_over(&mut old, 6);
    ledger.reply(&mut old, 6);
    assert_eq!(ledger.overlapping, 0, "what was counted before");
    ledger.reply(&mut old, 7);
    assert_eq!(ledger.overlapping, 1);
}

#[test]
fn the_account_sees_a_goodbye_that_denies() {
    let (mut ledger, mut seat) = after(9, 5);
    ledger.goodbye(&mut seat, 7);
    assert_eq!((ledger.acknowledged, ledger.denied), (7, 0));
    let (mut ledger, mut seat) = after(9, 5);
    ledger.goodbye(&mut seat, 4);
    assert_eq!((ledger.denied, ledger.lost), (1, 0));
    let (mut ledger, mut seat) = after(9, 5);
    ledger.reply(&mut seat, 7);
    assert_eq!(ledger.out_of_order, 1);
}
