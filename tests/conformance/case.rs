//! A case: bytes that a client sends on a connection of its own, what must come back, byte for
//! byte, and how it must end. All cases of a family are run, and those that fail are named.

use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::wire::{FIN, close, close_answer, fragments};
use crate::support::client::{Client, Event};
use crate::support::frame::{CLOSE, PING, unmasked};
use crate::support::http::{self, ACCEPT, upgrade};
use crate::support::stream::{End, Stream};
use crate::support::{PATIENCE, ms, now};

pub(crate) struct Case {
    pub(crate) name: String,
    opening: Opening,
    steps: Vec<Step>,
    ending: Ending,
}

/// The request, in pieces that are read one by one, and the answer that it deserves.
struct Opening {
    pieces: Vec<Vec<u8>>,
    status: u16,
    /// Header fields; `None`: it must not be there.
    fields: Vec<(&'static str, Option<&'static str>)>,
}

enum Step {
    Send(Vec<u8>),
    /// The server has read what was sent so far.
    Turn,
    /// Each piece of this size is written by itself.
    Chopped(Vec<u8>, usize),
    /// Exactly these bytes come back.
    Hear(Vec<u8>),
    /// A message in fragments of a size, written and compared without holding it twice.
    Echo(u8, Arc<Vec<u8>>, usize),
    /// The client's FIN.
    Finish,
}

enum Ending {
    /// The server still serves: our Close is answered.
    Served,
    /// A Close frame with this code, and whatever reason.
    Fails(u16),
    /// Exactly these bytes.
    Says(Vec<u8>),
    /// No WebSocket: the answer to the request is all.
    Refused,
    /// Whatever follows the opening.
    Ignored,
}

impl Case {
    /// Ends with a Close that is answered, unless something else is said.
    pub(crate) fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            opening: Opening {
                pieces: vec![upgrade("/", &[]).into_bytes()],
                status: 101,
                fields: vec![("Sec-WebSocket-Accept", Some(ACCEPT))],
            },
            steps: Vec::new(),
            ending: Ending::Served,
        }
    }

    /// Another request, in pieces that are read one by one.
    pub(crate) fn request(mut self, pieces: &[&[u8]]) -> Self {
        self.opening.pieces = pieces.iter().map(|piece| piece.to_vec()).collect();
        self
    }

    /// The answer to the request has this field, or has not.
    pub(crate) fn field(mut self, name: &'static str, value: Option<&'static str>) -> Self {
        self.opening.fields.retain(|field| field.0 != name);
        self.opening.fields.push((name, value));
        self
    }

    /// The request is answered with this status.
    pub(crate) fn refused(mut self, status: u16) -> Self {
        self.opening.status = status;
        self.opening.fields.clear();
        self.ending = Ending::Refused;
        self
    }

    /// Nothing is asked of what follows the steps.
    pub(crate) fn ignored(mut self) -> Self {
        self.ending = Ending::Ignored;
        self
    }

    fn step(mut self, step: Step) -> Self {
        self.steps.push(step);
        self
    }

    pub(crate) fn send(self, bytes: impl AsRef<[u8]>) -> Self {
        self.step(Step::Send(bytes.as_ref().to_vec()))
    }

    /// What was sent so far is read before anything else is sent.
    pub(crate) fn turn(self) -> Self {
        self.step(Step::Turn)
    }

    /// Written in pieces of this size; they may be read together.
    pub(crate) fn chopped(self, bytes: impl AsRef<[u8]>, size: usize) -> Self {
        self.step(Step::Chopped(bytes.as_ref().to_vec(), size))
    }

    /// Written in pieces of this size, each of which is read before the next is sent.
    pub(crate) fn trickled(self, bytes: impl AsRef<[u8]>, size: usize) -> Self {
        let pieces = bytes.as_ref().chunks(size);
        pieces.fold(self, |case, piece| case.send(piece).turn())
    }

    pub(crate) fn hear(self, bytes: impl AsRef<[u8]>) -> Self {
        self.step(Step::Hear(bytes.as_ref().to_vec()))
    }

    pub(crate) fn echo(self, opcode: u8, payload: &Arc<Vec<u8>>, size: usize) -> Self {
        self.step(Step::Echo(opcode, Arc::clone(payload), size))
    }

    pub(crate) fn finish(self) -> Self {
        self.step(Step::Finish)
    }

    pub(crate) fn fails(mut self, code: u16) -> Self {
        self.ending = Ending::Fails(code);
        self
    }

    pub(crate) fn says(mut self, bytes: impl AsRef<[u8]>) -> Self {
        self.ending = Ending::Says(bytes.as_ref().to_vec());
        self
    }

    fn run(&self, run: &mut Run) -> Result<(), String> {
        for (at, piece) in self.opening.pieces.iter().enumerate() {
            if at > 0 {
                run.turn();
            }
            run.stream.queue(piece);
        }
        run.open(&self.opening)?;
        for (at, step) in self.steps.iter().enumerate() {
            let done = match step {
                Step::Send(bytes) => {
                    run.stream.queue(bytes);
                    Ok(())
                }
                Step::Turn => {
                    run.turn();
                    Ok(())
                }
                Step::Chopped(bytes, size) => {
                    for piece in bytes.chunks(*size) {
                        run.stream.queue(piece);
                        run.stream.flush();
                    }
                    Ok(())
                }
                Step::Hear(bytes) => run.hear(bytes),
                Step::Echo(opcode, payload, size) => run.echo(*opcode, payload, *size),
                Step::Finish => {
                    run.stream.finish();
                    Ok(())
                }
            };
            done.map_err(|wrong| format!("step {at}: {wrong}"))?;
        }
        match &self.ending {
            Ending::Served => {
                run.stream.queue(&close(1000, ""));
                run.hear(&close_answer(1000, ""))
            }
            Ending::Fails(code) => run.hear_failure(*code),
            Ending::Says(bytes) => run.hear(bytes),
            Ending::Refused => Ok(()),
            Ending::Ignored => return Ok(()),
        }?;
        run.hear_end()
    }
}

/// The same bytes whole, in writes of 1, and byte by byte, each of which is read before the next.
pub(crate) fn every_way(
    name: &str,
    bytes: impl AsRef<[u8]>,
    end: impl Fn(Case) -> Case,
) -> impl Iterator<Item = Case> {
    let (bytes, case) = (bytes.as_ref(), |how: &str| {
        Case::new(format!("{name}{how}"))
    });
    let cases = [
        case("").send(bytes),
        case(", in writes of 1").chopped(bytes, 1),
        case(", byte by byte").trickled(bytes, 1),
    ];
    cases.map(end).into_iter()
}

/// A case that is being run.
struct Run<'a> {
    stream: Stream,
    witness: &'a mut Client,
    patience: Duration,
}

impl Run<'_> {
    fn open(&mut self, opening: &Opening) -> Result<(), String> {
        let Some(response) = http::answer(&mut self.stream, self.patience) else {
            return Err(format!("no answer: {:?}", self.stream.end()));
        };
        if response.status != opening.status {
            return Err(format!("{response:?}"));
        }
        if response.status != 101 {
            // Read to its end already.
            self.stream.take(response.body.len());
        }
        for (name, value) in &opening.fields {
            if response.header(name) != *value {
                return Err(format!("{name}: {:?}", response.header(name)));
            }
        }
        Ok(())
    }

    /// Someone else's ping has been answered, so what was sent before it has been read: the server
    /// takes what is ready in order.
    fn turn(&mut self) {
        self.stream.flush();
        self.witness.frame(PING, b"turn");
        assert_eq!(self.witness.meet(), Event::Pong(b"turn".to_vec()));
    }

    /// Waits for so many bytes, or the end.
    fn await_bytes(&mut self, len: usize) {
        let deadline = now() + self.patience;
        while self.stream.unread().len() < len && self.stream.end().is_none() && now() < deadline {
            self.stream.pump(deadline);
        }
    }

    fn hear(&mut self, expected: &[u8]) -> Result<(), String> {
        self.await_bytes(expected.len());
        let unread = self.stream.unread();
        if !unread.starts_with(expected) {
            let (expected, end) = (in_hex(expected), self.stream.end());
            return Err(format!(
                "expected {expected}, came {} {end:?}",
                in_hex(unread)
            ));
        }
        self.stream.take(expected.len());
        Ok(())
    }

    fn echo(&mut self, opcode: u8, payload: &[u8], size: usize) -> Result<(), String> {
        for fragment in fragments(opcode, payload, size) {
            self.stream.queue(&fragment);
        }
        let header = unmasked(FIN | opcode, payload);
        let header = &header[..header.len() - payload.len()];
        self.hear(header)?;
        self.await_bytes(payload.len());
        let unread = self.stream.unread();
        if !unread.starts_with(payload) {
            let same = unread.iter().zip(payload).take_while(|(a, b)| a == b);
            return Err(format!(
                "of {} bytes, {} are the same",
                payload.len(),
                same.count()
            ));
        }
        self.stream.take(payload.len());
        Ok(())
    }

    fn hear_failure(&mut self, code: u16) -> Result<(), String> {
        self.await_bytes(usize::MAX);
        let unread = self.stream.unread();
        let is_close = match unread {
            [CLOSE, len @ 2..=125, high, low, reason @ ..] => {
                u16::from_be_bytes([*high, *low]) == code
                    && reason.len() + 2 == usize::from(*len)
                    && str::from_utf8(reason).is_ok()
            }
            _ => false,
        };
        if !is_close {
            let (unread, end) = (in_hex(unread), self.stream.end());
            return Err(format!("expected a Close {code}, came {unread} {end:?}"));
        }
        self.stream.take(self.stream.unread().len());
        Ok(())
    }

    /// Nothing more, and a FIN: never a reset.
    fn hear_end(&mut self) -> Result<(), String> {
        self.await_bytes(usize::MAX);
        let (unread, end) = (self.stream.unread(), self.stream.end());
        if unread.is_empty() && end == Some(End::Eof) {
            return Ok(());
        }
        Err(format!("at the end came {} {end:?}", in_hex(unread)))
    }
}

/// Connections that are open at once.
const WORKERS: usize = 4;

/// So many failures are waited for with all patience. After them, the verdict is clear, and the
/// rest of the list is to come soon.
const PATIENT_FAILURES: usize = 4;

/// Runs all cases, and answers what was wrong with those that failed, in their order.
pub(crate) fn run(address: SocketAddr, cases: &[Case]) -> Vec<String> {
    let next = AtomicUsize::new(0);
    let failures = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..WORKERS.min(cases.len()) {
            scope.spawn(|| {
                let mut witness = Client::dial(address, &upgrade("/", &[])).expect("101");
                while let Some((at, case)) = take(cases, &next) {
                    let failed = failures.lock().expect("no holder panics").len();
                    let patience = if failed < PATIENT_FAILURES {
                        PATIENCE
                    } else {
                        ms(500)
                    };
                    let verdict = catch_unwind(AssertUnwindSafe(|| {
                        let stream = Stream::connect(address);
                        let witness = &mut witness;
                        case.run(&mut Run {
                            stream,
                            witness,
                            patience,
                        })
                    }));
                    let wrong = match verdict {
                        Ok(Ok(())) => continue,
                        Ok(Err(wrong)) => wrong,
                        Err(_) => "the client gave up (its panic is above)".to_owned(),
                    };
                    let failure = (at, format!("{}: {wrong}", case.name));
                    failures.lock().expect("no holder panics").push(failure);
                }
            });
        }
    });
    let mut failures = failures.into_inner().expect("no holder panics");
    failures.sort();
    failures.into_iter().map(|(_, failure)| failure).collect()
}

fn take<'a>(cases: &'a [Case], next: &AtomicUsize) -> Option<(usize, &'a Case)> {
    let at = next.fetch_add(1, Ordering::Relaxed);
    cases.get(at).map(|case| (at, case))
}

/// The first bytes, for people.
fn in_hex(bytes: &[u8]) -> String {
    let shown: Vec<String> = bytes
        .iter()
        .take(24)
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let more = if bytes.len() > shown.len() {
        " …"
    } else {
        ""
    };
    format!("[{}{more}] ({} bytes)", shown.join(" "), bytes.len())
}
