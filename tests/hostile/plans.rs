//! The crowds: what each peer of them sends, what it may cost, and how it must end for them.

use crate::bound::Bound;
use crate::crowd::Tally;
use crate::peer::Fate;
use crate::support::frame::{BINARY, FIN, PING, TEXT, masked};
use crate::support::http::upgrade;

/// What a crowd does once it is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Habit {
    /// Nothing more.
    Holding,
    /// More of them come, as fast as they can, and the oldest leave.
    Arriving,
    /// One byte a second each, until it is answered; then another comes.
    Trickling,
    /// As fast as it can until it is answered; then another comes.
    Sending,
    /// As fast as it can, and never listens.
    Deaf,
}

/// What a peer sends: once, and then for ever.
#[derive(Clone, Debug)]
pub(crate) struct Script {
    pub(crate) once: Vec<u8>,
    pub(crate) for_ever: Vec<u8>,
}

pub(crate) struct Plan {
    pub(crate) name: &'static str,
    pub(crate) habit: Habit,
    pub(crate) sockets: usize,
    /// Peers take them in turn.
    pub(crate) scripts: Vec<Script>,
    pub(crate) bound: Bound,
    pub(crate) flags: &'static [&'static str],
    /// It comes to the admin listener, and not to that of clients.
    pub(crate) is_at_admin: bool,
    /// The good client's p99 may double while it is there, or be as long as this.
    pub(crate) p99_ms: f64,
    /// Whether it has ended for them as the documents say.
    pub(crate) verdict: fn(&Tally),
}

/// What a network adds anyway, in milliseconds.
const P99_MS: f64 = 1.0;

/// Where all room is taken at all times, each newcomer costs the server a socket that it closes and one
/// that it accepts, both in the turn in which a message comes and in the one before.
const P99_MS_OF_FULL_ROOM: f64 = 2.0;

pub(crate) fn all() -> Vec<Plan> {
    [handshakes(), lingering(), headers(), claims(), floods()]
        .into_iter()
        .flatten()
        .collect()
}

fn handshakes() -> Vec<Plan> {
    let half = b"GET /ws/chat/ HTTP/1.1\r\nHost: loc";
    let half_open = |name, habit, timeout| Plan {
        name,
        habit,
        sockets: 10_000,
        scripts: vec![once(half)],
        bound: Bound {
            // And those beyond, whose oldest make room.
            sockets: 10_128,
            head_bytes: half.len(),
            ..Bound::default()
        },
        flags: timeout,
        is_at_admin: false,
        p99_ms: P99_MS,
        verdict: |tally| {
            only(
                tally,
                &[Fate::Ended, Fate::Answered(408), Fate::Answered(503)],
            );
        },
    };
    vec![
        half_open(
            "half-open handshakes",
            Habit::Holding,
            &["--handshake-timeout", "60s"],
        ),
        // Their time is up while more of them come.
        half_open(
            "more of them all the time",
            Habit::Arriving,
            &["--handshake-timeout", "1s"],
        ),
        Plan {
            name: "heads, 1 byte a second",
            habit: Habit::Trickling,
            sockets: 1_000,
            scripts: vec![once(&upgrade("/ws/chat/", &[]).into_bytes())],
            bound: Bound {
                sockets: 2_000,
                head_bytes: 16,
                ..Bound::default()
            },
            flags: &["--handshake-timeout", "2s"],
            is_at_admin: false,
            p99_ms: P99_MS,
            verdict: |tally| {
                // Whoever's first byte has not come by then gets no answer, and a busy machine is
                // slow to send it.
                only(tally, &[Fate::Answered(408), Fate::Ended]);
                some(tally, &Fate::Answered(408), 1);
            },
        },
        Plan {
            name: "frames, 1 byte a second",
            habit: Habit::Trickling,
            sockets: 1_000,
            scripts: vec![upgraded(&[], &masked(BINARY, &[0; 70_000]))],
            bound: Bound {
                sockets: 1_000,
                is_websocket: true,
                message_bytes: 1_024,
                ..Bound::default()
            },
            flags: &[],
            is_at_admin: false,
            p99_ms: P99_MS,
            verdict: |tally| only(tally, &[Fate::Closed(1000)]),
        },
    ]
}

fn lingering() -> Vec<Plan> {
    let not_found = b"GET /x HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let plan = |name, sockets, is_at_admin, p99_ms| Plan {
        name,
        habit: Habit::Arriving,
        sockets,
        scripts: vec![once(not_found)],
        bound: Bound {
            // As many as there is room for.
            sockets: 1_128 + 64,
            head_bytes: not_found.len(),
            ..Bound::default()
        },
        flags: &["--max-connections", "1000"],
        is_at_admin,
        p99_ms,
        verdict: |tally| only(tally, &[Fate::Answered(404)]),
    };
    vec![
        plan(
            "answered, and never closed",
            1_330,
            false,
            P99_MS_OF_FULL_ROOM,
        ),
        plan("the same, of operators", 140, true, P99_MS),
    ]
}

fn headers() -> Vec<Plan> {
    let line = b"GET /ws/chat/ HTTP/1.1\r\n";
    let giant = [&line[..], b"X-Giant: ", &vec![b'x'; 100_000], b"\r\n\r\n"].concat();
    let plan = |name, script| Plan {
        name,
        habit: Habit::Sending,
        sockets: 50,
        scripts: vec![script],
        bound: Bound {
            // Whoever was answered lingers, and holds nothing.
            sockets: 10_128,
            ..Bound::default()
        },
        flags: &[],
        is_at_admin: false,
        p99_ms: P99_MS,
        verdict: |tally| {
            only(tally, &[Fate::Answered(431), Fate::Ended]);
            some(tally, &Fate::Answered(431), 50);
        },
    };
    vec![
        plan("endless request lines", sending(b"GET /", b"a")),
        plan("endless tiny headers", sending(line, b"a:b\r\n")),
        plan("headers without an end", sending(line, b"a")),
        plan("headers of 100 kB", once(&giant)),
    ]
}

fn claims() -> Vec<Plan> {
    let claim = |len: u64| {
        let mut header = vec![BINARY, 0xff];
        header.extend_from_slice(&len.to_be_bytes());
        header.extend_from_slice(&[1, 2, 3, 4, 5, 6]);
        upgraded(&header, &[])
    };
    vec![Plan {
        name: "claims of up to 2^63 - 1 bytes",
        habit: Habit::Holding,
        sockets: 999,
        scripts: vec![claim(15 << 20), claim((1 << 63) - 1), claim(1 << 20)],
        bound: Bound {
            sockets: 999,
            is_websocket: true,
            message_bytes: 2,
            ..Bound::default()
        },
        flags: &[],
        is_at_admin: false,
        p99_ms: P99_MS,
        verdict: |tally| {
            only(tally, &[Fate::Closed(1009), Fate::Closed(1000)]);
            some(tally, &Fate::Closed(1009), 666);
            some(tally, &Fate::Closed(1000), 333);
        },
    }]
}

fn floods() -> Vec<Plan> {
    let empty_fragments = upgraded(&masked(TEXT & !FIN, b""), &masked(0, b"").repeat(1_000));
    let pings = upgraded(&[], &masked(PING, b"").repeat(1_000));
    let messages = upgraded(&[], &masked(TEXT, b"x").repeat(1_000));
    // Whoever reads may go on; whoever does not is closed, if there was time to fill the buffers.
    let verdict = |habit| match habit {
        Habit::Deaf => |tally: &Tally| {
            only(tally, &[Fate::Closed(1000), Fate::Closed(1008), Fate::Open]);
        },
        Habit::Holding | Habit::Arriving | Habit::Trickling | Habit::Sending => {
            |tally: &Tally| only(tally, &[Fate::Closed(1000), Fate::Open])
        }
    };
    let plan = |name, habit, script| Plan {
        name,
        habit,
        sockets: 20,
        scripts: vec![script],
        bound: Bound {
            sockets: 20,
            is_websocket: true,
            is_answered: true,
            ..Bound::default()
        },
        flags: &[],
        is_at_admin: false,
        p99_ms: P99_MS,
        verdict: verdict(habit),
    };
    vec![
        plan("endless empty fragments", Habit::Sending, empty_fragments),
        plan("pings, and pongs are read", Habit::Sending, pings.clone()),
        plan("pings, and nothing is read", Habit::Deaf, pings),
        plan(
            "messages, replies are read",
            Habit::Sending,
            messages.clone(),
        ),
        plan("messages, nothing is read", Habit::Deaf, messages),
    ]
}

fn once(bytes: &[u8]) -> Script {
    sending(bytes, b"")
}

fn sending(once: &[u8], for_ever: &[u8]) -> Script {
    // In pieces of some kilobytes, whatever the unit.
    let times = 4_096_usize
        .checked_div(for_ever.len())
        .map_or(1, |times| times.max(1));
    Script {
        once: once.to_vec(),
        for_ever: for_ever.repeat(times),
    }
}

fn upgraded(once: &[u8], for_ever: &[u8]) -> Script {
    let head = upgrade("/ws/chat/", &[]);
    sending(&[head.as_bytes(), once].concat(), for_ever)
}

#[track_caller]
fn only(tally: &Tally, fates: &[Fate]) {
    let others: Vec<_> = tally
        .iter()
        .filter(|(fate, _)| !fates.contains(fate))
        .collect();
    assert!(others.is_empty(), "not only {fates:?}, but {tally:?}");
}

#[track_caller]
fn some(tally: &Tally, fate: &Fate, least: usize) {
    let count = tally.get(fate).copied().unwrap_or(0);
    assert!(
        count >= least,
        "{fate:?} for {least} at least, but {tally:?}"
    );
}
