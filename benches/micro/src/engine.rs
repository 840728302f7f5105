//! One turn of the engine: a hundred sessions send a message each, their counts go to a store in
//! one batch, and the replies come out when it has confirmed.

use criterion::{BenchmarkId, Criterion, Throughput};
use sundown::clock;
use sundown::engine::Engine;
use sundown::engine::app::Tells;
use sundown::engine::io::{
    ConnId, Input, Levels, Mailbox, Now, Output, Protocol, Received, SessionId, StoreCommand,
    StoreEvent,
};
use sundown::store::record::Record;
use sundown::{Chat, Config, Durability, Message};

const CONNECTIONS: u32 = 100;

pub(crate) fn bench(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("turn");
    group.throughput(Throughput::Elements(u64::from(CONNECTIONS)));
    for durability in [Durability::Acked, Durability::Relaxed] {
        let name = format!("{durability:?}");
        let id = BenchmarkId::new("100 messages", name);
        group.bench_function(id, |bencher| {
            let mut rig = Rig::new(durability);
            bencher.iter(|| rig.turn());
        });
    }
    group.finish();
}

/// The engine, with a store that answers at once.
struct Rig {
    engine: Engine,
    now: Now,
}

impl Rig {
    fn new(durability: Durability) -> Self {
        let now = clock::now();
        let config = Config {
            durability,
            ..Config::default()
        };
        let mut rig = Self {
            engine: Engine::new(&config, Box::new(Chat), [7; 32], now),
            now,
        };
        rig.engine.handle_input(Input::Store(StoreEvent::Up), now);
        for slot in 0..CONNECTIONS {
            let session = SessionId::parse(&format!("bench-{slot}"));
            let opened = Input::Opened {
                conn: conn(slot),
                protocol: Protocol::Plain,
                tells: Tells::ALL,
                session: session.ok(),
                received: Received::default(),
            };
            rig.engine.handle_input(opened, now);
        }
        rig.flush();
        rig
    }

    fn turn(&mut self) {
        for slot in 0..CONNECTIONS {
            let message = Input::Message {
                conn: conn(slot),
                message: Message::Text("twenty bytes of text"),
            };
            self.engine.handle_input(message, self.now);
        }
        self.engine.handle_timeout(self.now);
        self.engine
            .handle_input(Input::Levels(Levels::default()), self.now);
        let sent = self.flush();
        assert_eq!(sent, CONNECTIONS, "each has its reply");
    }

    /// Answers all that is asked of the store, and counts what is sent.
    fn flush(&mut self) -> u32 {
        while let Some(command) = self.engine.poll_store() {
            let event = match command {
                StoreCommand::Commit(batch) => StoreEvent::Committed {
                    batch,
                    fenced: Vec::new(),
                    pushed: Vec::new(),
                },
                StoreCommand::Claim(claim) => StoreEvent::Claimed {
                    key: claim.key,
                    grant: Record::claim(None, false, claim.token, 0).1,
                },
                StoreCommand::Read(read) => StoreEvent::Mailbox {
                    key: read.key,
                    mailbox: Mailbox::default(),
                },
                StoreCommand::Sync => StoreEvent::Synced,
            };
            self.engine.handle_input(Input::Store(event), self.now);
        }
        let mut sent = 0;
        while let Some(output) = self.engine.poll_output() {
            sent += u32::from(matches!(output, Output::Send { .. }));
        }
        sent
    }
}

fn conn(slot: u32) -> ConnId {
    ConnId {
        slot,
        generation: slot,
    }
}
