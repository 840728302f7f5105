//! Bytes to messages, and messages to bytes: what stands between one read and the engine, and
//! between the engine and one write.

use std::hint::black_box;

use criterion::{Criterion, Throughput};
use sundown::net::frame::encode_message;
use sundown::net::intake::Intake;
use sundown::net::reader::{Reader, Received};

const MASK: [u8; 4] = [0x5a, 0x13, 0xc7, 0x8e];

pub(crate) fn bench(criterion: &mut Criterion) {
    receive(criterion, "one text of 20 B", 1, 20);
    receive(criterion, "sixteen texts of 20 B in one read", 16, 20);
    receive(criterion, "a text of 64 KiB", 1, 64 << 10);
    encode(criterion, 20);
    encode(criterion, 64 << 10);
}

/// A masked text frame, as a client sends it.
fn frame(payload_len: usize) -> Vec<u8> {
    let mut frame = vec![0x81];
    match payload_len {
        len @ ..126 => frame.push(0x80 | len as u8),
        len => {
            frame.push(0xff);
            frame.extend((len as u64).to_be_bytes());
        }
    }
    frame.extend(MASK);
    let masks = MASK.iter().cycle();
    frame.extend(masks.take(payload_len).map(|mask| b'x' ^ mask));
    frame
}

fn receive(criterion: &mut Criterion, name: &str, frames: usize, payload_len: usize) {
    let bytes = frame(payload_len).repeat(frames);
    let mut buffer = bytes.clone();
    let (mut reader, mut spare) = (Reader::default(), Vec::new());
    let mut group = criterion.benchmark_group("receive");
    group.throughput(Throughput::Bytes(bytes.len() as u64));
    group.bench_function(name, |bencher| {
        bencher.iter(|| {
            buffer.copy_from_slice(&bytes);
            let mut input = Intake::new(&mut buffer);
            let mut messages = 0;
            while let Received::Message(message) = reader.next(&mut input, 1 << 20, &mut spare) {
                black_box(message);
                messages += 1;
            }
            assert_eq!(messages, frames);
        });
    });
    group.finish();
}

fn encode(criterion: &mut Criterion, payload_len: usize) {
    let payload = vec![b'x'; payload_len];
    let mut output = Vec::new();
    let mut group = criterion.benchmark_group("encode");
    group.throughput(Throughput::Bytes(payload_len as u64));
    group.bench_function(format!("a text of {payload_len} B"), |bencher| {
        bencher.iter(|| {
            output.clear();
            encode_message(black_box(&payload), false, &mut output);
        });
    });
    group.finish();
}
