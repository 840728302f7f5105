//! `X-Forwarded-For`: the client's address, as the proxies on its way have written it down.
//!
//! Pure. It must be asked only of a request whose peer is believed: anybody can write the field, and
//! each proxy adds what it has seen at its right end.

use std::net::{IpAddr, SocketAddr};

use super::http::Head;
use crate::config::TrustedProxies;

/// The rightmost address that is no trusted proxy's; of a way that has only those, where it begins.
/// Most proxies write no port: then it is 0. `None` if the last proxy says nothing.
pub(super) fn client(head: &Head, trusted: &TrustedProxies) -> Option<SocketAddr> {
    let fields = head.headers().get_all("x-forwarded-for").into_iter().rev();
    let hops = fields.flat_map(|field| field.as_bytes().rsplit(|byte| *byte == b','));
    let hops = hops.map(<[u8]>::trim_ascii).filter(|hop| !hop.is_empty());
    let mut first = None;
    for hop in hops {
        // Beyond a word such as `unknown`, nobody is known to be believed.
        let Some(address) = str::from_utf8(hop).ok().and_then(address) else {
            break;
        };
        first = Some(address);
        if !trusted.trust(address.ip()) {
            break;
        }
    }
    first
}

/// With a port or without, which only IPv4 may write without brackets.
fn address(text: &str) -> Option<SocketAddr> {
    let bare = text
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
        .filter(|rest| rest.contains(':'));
    let ip: Result<IpAddr, _> = bare.unwrap_or(text).parse();
    match ip {
        Ok(ip) => Some(SocketAddr::new(ip, 0)),
        Err(_) => text.parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::http;

    #[track_caller]
    fn check(fields: &[&str], expected: Option<&str>) {
        let list = ["127.0.0.1", "10.0.0.0/8", "fd00::/8"].map(str::to_owned);
        let trusted = TrustedProxies::parse(&list).expect("a list");
        let fields: Vec<String> = fields
            .iter()
            .map(|value| format!("X-Forwarded-For: {value}\r\n"))
            .collect();
        let head = format!("GET / HTTP/1.1\r\n{}\r\n", fields.concat());
        let (head, _) = http::parse(head.as_bytes(), 1_024).unwrap().unwrap();
        let expected = expected.map(|address| address.parse().expect("an address"));
        assert_eq!(client(&head, &trusted), expected, "{fields:?}");
    }

    #[test]
    fn the_rightmost_that_is_no_proxy() {
        check(&[], None);
        check(&[""], None);
        check(&["203.0.113.9"], Some("203.0.113.9:0"));
        check(&["192.0.2.1, 203.0.113.9"], Some("203.0.113.9:0"));
        check(&["192.0.2.1", "203.0.113.9"], Some("203.0.113.9:0"));
        check(&["192.0.2.1,203.0.113.9, 10.0.0.7"], Some("203.0.113.9:0"));
        check(
            &["192.0.2.1,203.0.113.9", "10.0.0.7,,fd00::1 ,"],
            Some("203.0.113.9:0"),
        );
        check(&["203.0.113.9, ::ffff:10.0.0.7"], Some("203.0.113.9:0"));
        check(&["10.0.0.9, 127.0.0.1"], Some("10.0.0.9:0"));
    }

    #[test]
    fn a_word_ends_the_way() {
        check(&["unknown"], None);
        check(&["203.0.113.9, unknown"], None);
        check(&["203.0.113.9, _hidden, 10.0.0.7"], Some("10.0.0.7:0"));
        check(&["203.0.113.9, \u{e9}"], None);
        check(&["203.0.113.9;10.0.0.7"], None);
        check(&["fe80::1%eth0"], None);
        check(&["[203.0.113.9]"], None);
    }

    #[test]
    fn with_a_port_and_without() {
        check(&["203.0.113.9:4711"], Some("203.0.113.9:4711"));
        check(&["192.0.2.1, 10.0.0.7:80"], Some("192.0.2.1:0"));
        check(&["2001:db8::9"], Some("[2001:db8::9]:0"));
        check(&["[2001:db8::9]"], Some("[2001:db8::9]:0"));
        check(&["[2001:db8::9]:4711"], Some("[2001:db8::9]:4711"));
    }
}
