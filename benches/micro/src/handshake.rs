//! From a browser's request to the 101: what a deploy makes every client ask for at once.

use std::hint::black_box;

use criterion::Criterion;
use sundown::config::AllowedOrigins;
use sundown::engine::io::Gate;
use sundown::net::handshake::{Decision, Rules, decide};
use sundown::net::http;
use sundown::{Application as _, Chat};

const REQUEST: &[u8] = b"GET /ws/chat/?session=ann HTTP/1.1\r\n\
    Host: chat.example.org\r\n\
    Connection: Upgrade\r\n\
    Pragma: no-cache\r\n\
    Cache-Control: no-cache\r\n\
    User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0\r\n\
    Upgrade: websocket\r\n\
    Origin: https://chat.example.org\r\n\
    Sec-WebSocket-Version: 13\r\n\
    Accept-Encoding: gzip, deflate, br\r\n\
    Accept-Language: en\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
    Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n\
    Sec-WebSocket-Protocol: sundown.v1\r\n\r\n";

pub(crate) fn bench(criterion: &mut Criterion) {
    let paths = ["/ws/chat/".to_owned()];
    criterion.bench_function("handshake", |bencher| {
        bencher.iter(|| {
            let head = http::parse(black_box(REQUEST), 16 << 10);
            let Ok(Some((head, _))) = head else {
                panic!("the request is refused");
            };
            let decision = decide(
                &head,
                &Rules {
                    gate: Gate {
                        ready: true,
                        upgrades: true,
                        sessions: true,
                    },
                    allowed_origins: &AllowedOrigins::default(),
                    paths: &paths,
                    subprotocols: &[],
                    peer: None,
                    page: &|_| None,
                },
                |request| Chat.on_upgrade(request),
            );
            assert!(matches!(decision, Decision::Upgrade(_)));
            decision
        });
    });
}
