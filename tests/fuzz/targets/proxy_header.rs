//! Goal: a PROXY header says the same however its bytes were cut, no more than one header and one
//! read of it is held, and what it says is what another implementation reads in it.
//! Method: the first byte says how the rest is cut. It is parsed in one piece, as each of its
//! beginnings, and as a connection receives it; and by the crate `proxy-header`, which is less
//! strict about lines and stricter about a proxy that speaks for itself.

#![no_main]

use std::net::SocketAddr;

use libfuzzer_sys::fuzz_target;
use proxy_header::{ParseConfig, ProxyHeader};
use sundown::net::http::{BadHead, Incoming};
use sundown::net::proxy_protocol::{self, BYTES_MAX, BadHeader, Preface};
use sundown_fuzz::{choice, cut};

type Verdict = Result<Option<(Option<SocketAddr>, usize)>, BadHeader>;

const HEAD_BYTES_MAX: usize = 512;

fuzz_target!(|data: &[u8]| {
    let (pattern, bytes) = choice(data);
    let verdict = proxy_protocol::parse(bytes);
    compare(bytes, verdict);
    grow(bytes, verdict, pattern);
    receive(bytes, verdict, pattern);
});

/// What is known of a beginning stays known.
fn grow(bytes: &[u8], verdict: Verdict, pattern: u8) {
    let mut len = 0;
    for piece in cut(bytes, pattern) {
        len += piece.len();
        let early = proxy_protocol::parse(&bytes[..len]);
        assert!(
            early == Ok(None) || early == verdict,
            "{early:?}, {verdict:?}"
        );
        let told = proxy_protocol::is_header(&bytes[..len]);
        assert!(told.is_some() || len < 13, "it takes 13 bytes at most");
        // Every good header is seen where there is to be none.
        assert!(told != Some(false) || !matches!(verdict, Ok(Some(_))));
    }
    match verdict {
        Ok(Some((_, len))) => assert!(len <= BYTES_MAX && len <= bytes.len()),
        Ok(None) => assert!(bytes.len() < BYTES_MAX, "endless, and no verdict"),
        Err(_) => {}
    }
}

/// As a connection does that has to begin with a header, and as one that must not.
fn receive(bytes: &[u8], verdict: Verdict, pattern: u8) {
    let mut incoming = Incoming::behind(Preface::Expected);
    let mut len = 0;
    for piece in cut(bytes, pattern) {
        len += piece.len();
        let received = incoming.receive(piece, HEAD_BYTES_MAX);
        let is_behind = matches!(verdict, Ok(Some((_, header_len))) if header_len <= len);
        match received {
            Err(BadHead::Preface(BadHeader::Second)) => assert!(is_behind),
            Err(BadHead::Preface(bad)) => {
                assert_eq!(verdict, Err(bad));
                break;
            }
            Ok(None) if !is_behind => assert_eq!(incoming.held_bytes(), len),
            Ok(_) | Err(_) => assert!(is_behind, "a request before the header"),
        }
        if is_behind {
            let Ok(Some((client, _))) = verdict else {
                unreachable!("it is behind a good one");
            };
            assert_eq!(incoming.client(), client);
            break;
        }
        assert!(incoming.held_bytes() <= BYTES_MAX + usize::from(pattern).max(bytes.len()));
    }
    let mut plain = Incoming::default();
    for piece in cut(bytes, pattern) {
        match plain.receive(piece, HEAD_BYTES_MAX) {
            Ok(None) => {}
            Ok(Some(_)) => {
                assert!(!matches!(verdict, Ok(Some(_))), "a header is no request");
                break;
            }
            Err(bad) => {
                assert!(
                    matches!(verdict, Ok(None) | Err(_)) || bad == BadHead::Preface(BadHeader::Off)
                );
                break;
            }
        }
    }
}

fn compare(bytes: &[u8], verdict: Verdict) {
    let config = ParseConfig {
        include_tlvs: false,
        ..ParseConfig::default()
    };
    let other = ProxyHeader::parse(bytes, config);
    let client = |header: &ProxyHeader<'_>| header.proxied_address().map(|both| both.source);
    let is_block = bytes.starts_with(b"\r");
    match (verdict, other) {
        (Ok(Some(ours)), Ok((header, len))) => assert_eq!(ours, (client(&header), len)),
        (Ok(Some((client, len))), Err(_)) => {
            // A block of no known family, of a proxy that speaks for itself; or a line that says
            // nothing, with a bare CR in it. Neither matters here, and there both do.
            let is_bare = |two: &[u8]| two[0] == b'\r' && two[1] != b'\n';
            assert!(client.is_none());
            assert!(if is_block {
                bytes[12] == 0x20
            } else {
                bytes[..len].windows(2).any(is_bare)
            });
        }
        (Ok(None) | Err(_), Ok((_, len))) if is_block => assert!(len > BYTES_MAX),
        (Ok(None) | Err(_), Ok((header, len))) => {
            let mut line = Vec::new();
            let written = header.encode_v1(&mut line);
            assert!(
                written.is_err() || line != bytes[..len],
                "a good line is refused"
            );
        }
        (Ok(None) | Err(_), Err(_)) => {}
    }
}
