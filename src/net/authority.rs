//! The `Host` of a request (RFC 9110, section 7.2), and whether the admin listener answers under
//! that name.
//!
//! Pure. A browser sends the name that a page was loaded from, so that a page whose name was made
//! to mean this machine (DNS rebinding) is told from an operator by it.

use std::net::{Ipv4Addr, Ipv6Addr};

use tungstenite::http::Version;
use tungstenite::http::uri::Authority;

use super::http::{BadHead, Head};
use crate::config::AdminHosts;

/// The host of a request; `None` if it has none, which only HTTP/1.0 may. RFC 9112, section 3.2: a
/// request without a Host, with two, or with one that is none, is answered 400.
pub(super) fn host_of(head: &Head) -> Result<Option<&str>, BadHead> {
    let mut hosts = head.headers().get_all("host").into_iter();
    let Some(host) = hosts.next() else {
        let may_lack = head.version() < Version::HTTP_11;
        return if may_lack {
            Ok(None)
        } else {
            Err(BadHead::Host)
        };
    };
    let host = host.to_str().map_err(|_| BadHead::Host)?;
    if hosts.next().is_some() || split(host).is_none() {
        return Err(BadHead::Host);
    }
    Ok(Some(host))
}

/// Whether operators may be asked for under every name that the request has for them: an address,
/// `localhost` (which browsers resolve themselves), or a name on the list.
pub(super) fn is_for_operators(head: &Head, hosts: &AdminHosts) -> bool {
    let target = head.uri().authority().map(Authority::as_str);
    let host = host_of(head).ok().flatten();
    [target, host].into_iter().flatten().all(|authority| {
        split(authority).is_some_and(|(name, port)| {
            let name = name.strip_suffix('.').unwrap_or(name);
            let is_address = name.starts_with('[') || name.parse::<Ipv4Addr>().is_ok();
            is_address || name.eq_ignore_ascii_case("localhost") || hosts.allow(name, port)
        })
    })
}

/// Host and port of `uri-host [ ":" port ]` (RFC 3986, section 3.2).
fn split(authority: &str) -> Option<(&str, &str)> {
    let end = if authority.starts_with('[') {
        authority.find(']')? + 1
    } else {
        authority.find(':').unwrap_or(authority.len())
    };
    let (host, port) = authority.split_at(end);
    let port = match port.strip_prefix(':') {
        Some(port) if port.bytes().all(|byte| byte.is_ascii_digit()) => port,
        None if port.is_empty() => port,
        Some(_) | None => return None,
    };
    let literal = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'));
    let is_host = match literal {
        Some(literal) => literal.parse::<Ipv6Addr>().is_ok(),
        None => host.bytes().all(is_in_name),
    };
    is_host.then_some((host, port))
}

/// `unreserved`, `sub-delims` and what begins an escape.
fn is_in_name(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=%".contains(&byte)
}
