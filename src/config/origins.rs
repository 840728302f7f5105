//! Which pages may connect: what browsers send as `Origin` (RFC 6454, section 7), and patterns of it.
//! Values only. It never shows an origin: whoever mixes up two settings may have written a password.

use std::net::{Ipv4Addr, Ipv6Addr};

/// The entries of `Config::allowed_origins`, as they are compared.
#[derive(Clone, Debug, Default)]
pub struct AllowedOrigins(Vec<Pattern>);

#[derive(Clone, Debug)]
struct Pattern {
    origin: Origin,
    /// The origin's host and not it, but every name below it.
    is_below: bool,
}

/// The parts of an origin, as a browser would write them.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Origin {
    /// Empty: `null`.
    scheme: String,
    /// Empty where a scheme has no hosts: `file://`.
    host: String,
    /// `None` if it is the one of the scheme.
    port: Option<u16>,
}

impl AllowedOrigins {
    /// What an entry may be.
    pub(super) const EXPECTED: &str = "scheme://host, scheme://host:port, scheme://*.host, file:// or null, without a path and \
         as browsers send it, such as https://example.org";

    /// `Err`: the position of an entry that no origin could ever match.
    pub fn parse(list: &[String]) -> Result<Self, usize> {
        let patterns = list.iter().enumerate();
        let patterns = patterns.map(|(at, text)| Pattern::parse(text).ok_or(at));
        patterns.collect::<Result<_, _>>().map(Self)
    }

    /// Whether a page of this origin may connect: of any, where there is no entry.
    pub fn allow(&self, origin: &[u8]) -> bool {
        self.0.is_empty()
            || str::from_utf8(origin)
                .ok()
                .and_then(Origin::parse)
                .is_some_and(|origin| self.0.iter().any(|pattern| pattern.matches(&origin)))
    }
}

impl Pattern {
    fn parse(text: &str) -> Option<Self> {
        let below = text.split_once("://*.");
        let origin = match below {
            Some((scheme, host)) => Origin::parse(&format!("{scheme}://{host}"))?,
            None => Origin::parse(text)?,
        };
        // Addresses have nothing below them, and a WebSocket's scheme is not that of a page.
        let has_names = !origin.host.is_empty() && !origin.is_address();
        let is_sent = !matches!(origin.scheme.as_str(), "ws" | "wss");
        (is_sent && (below.is_none() || has_names)).then_some(Self {
            origin,
            is_below: below.is_some(),
        })
    }

    fn matches(&self, origin: &Origin) -> bool {
        if !self.is_below {
            return *origin == self.origin;
        }
        let Some(below) = origin.host.strip_suffix(&self.origin.host) else {
            return false;
        };
        (&origin.scheme, origin.port) == (&self.origin.scheme, self.origin.port)
            && below.len() > 1
            && below.ends_with('.')
    }
}

impl Origin {
    fn parse(text: &str) -> Option<Self> {
        let text = text.to_ascii_lowercase();
        if text == "null" {
            return Some(Self {
                scheme: String::new(),
                host: String::new(),
                port: None,
            });
        }
        let (scheme, authority) = text.split_once("://")?;
        let (host, port) = split(authority)?;
        let is_web = matches!(scheme, "http" | "https");
        let is_host = match scheme {
            "file" => authority.is_empty(),
            _ if is_web => !host.is_empty() && is_name_or_address(&host),
            // Electron, Tauri, extensions: names of their own kind.
            _ => true,
        };
        let port = port.filter(|port| default_port(scheme) != Some(*port));
        (is_scheme(scheme) && is_host).then(|| Self {
            scheme: scheme.to_owned(),
            host,
            port,
        })
    }

    fn is_address(&self) -> bool {
        self.host.starts_with('[') || self.host.parse::<Ipv4Addr>().is_ok()
    }
}

/// RFC 3986, section 3.1.
fn is_scheme(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte);
    text.starts_with(|first: char| first.is_ascii_alphabetic()) && text.bytes().all(allowed)
}

fn default_port(scheme: &str) -> Option<u16> {
    match scheme {
        "http" => Some(80),
        "https" => Some(443),
        _ => None,
    }
}

/// Host and port; addresses in the one way in which they are written.
fn split(authority: &str) -> Option<(String, Option<u16>)> {
    if let Some(rest) = authority.strip_prefix('[') {
        let (address, rest) = rest.split_once(']')?;
        let host = format!("[{}]", address.parse::<Ipv6Addr>().ok()?);
        return Some((host, port(rest).ok()?));
    }
    let end = authority.find(':').unwrap_or(authority.len());
    let (host, rest) = authority.split_at(end);
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~!$&'();=+".contains(&byte);
    let host = host.bytes().all(allowed).then(|| host.to_owned())?;
    Some((host, port(rest).ok()?))
}

/// What follows a host: nothing, or `:port`.
fn port(text: &str) -> Result<Option<u16>, ()> {
    let Some(digits) = text.strip_prefix(':') else {
        return if text.is_empty() { Ok(None) } else { Err(()) };
    };
    // `parse` would let a sign pass.
    if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(());
    }
    digits.parse().map(Some).map_err(|_| ())
}

/// A browser reads a host that ends in a number as an address (URL Standard, section 3.5).
fn is_name_or_address(host: &str) -> bool {
    let is_number = |label: &str| !label.is_empty() && label.bytes().all(|b| b.is_ascii_digit());
    let name = host.strip_suffix('.').unwrap_or(host);
    let has_empty_label = !host.starts_with('[') && name.split('.').any(str::is_empty);
    let ends_in_number = name.rsplit('.').next().is_some_and(is_number);
    !has_empty_label && (!ends_in_number || host.parse::<Ipv4Addr>().is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether a page of this origin may connect where this is the list; `None`: it is refused.
    fn allow(entry: &str, origin: &str) -> Option<bool> {
        let allowed = AllowedOrigins::parse(&[entry.to_owned()]).ok()?;
        Some(allowed.allow(origin.as_bytes()))
    }

    #[test]
    fn each_entry_and_what_it_matches() {
        for (entry, origin) in [
            ("https://a.example", "https://a.example"),
            ("https://a.example:443", "https://a.example"),
            ("https://A.Example", "https://a.example"),
            ("HTTP://a.example:080", "http://a.example"),
            ("http://a.example:443", "http://a.example:443"),
            ("https://a.example", "https://a.example:443"),
            ("https://a_b.example.", "https://a_b.example."),
            ("http://127.0.0.1:3000", "http://127.0.0.1:3000"),
            ("http://[0:0::1]:3000", "http://[::1]:3000"),
            ("null", "null"),
            ("file://", "file://"),
            ("app://.", "app://."),
            ("app://", "app://"),
            ("capacitor://localhost", "capacitor://localhost"),
            ("chrome-extension://abcdef", "chrome-extension://abcdef"),
            ("https://*.example.com", "https://a.example.com"),
            ("https://*.example.com", "https://a.b.example.com"),
            ("https://*.example.com:443", "https://a.example.com"),
            ("https://*.example.com:8443", "https://a.example.com:8443"),
            ("http://*.localhost", "http://a.localhost"),
        ] {
            assert_eq!(allow(entry, origin), Some(true), "{entry} {origin}");
        }
        for (entry, origin) in [
            ("https://a.example", "http://a.example"),
            ("https://a.example", "https://a.example:8443"),
            ("https://a.example", "https://a.example.evil.example"),
            (
                "https://a.example",
                "https://a.example https://evil.example",
            ),
            ("https://a.example", "null"),
            ("null", "file://"),
            ("file://", "null"),
            ("file://", "file://host"),
            ("https://*.example.com", "https://example.com"),
            ("https://*.example.com", "https://.example.com"),
            ("https://*.example.com", "https://evilexample.com"),
            (
                "https://*.example.com",
                "https://a.example.com.evil.example",
            ),
            ("https://*.example.com", "http://a.example.com"),
            ("https://*.example.com", "https://a.example.com:8443"),
            ("https://*.example.com", "https://evil.example/.example.com"),
            ("https://*.example.com", "https://evil.example#.example.com"),
            ("https://*.example.com", ""),
        ] {
            assert_eq!(allow(entry, origin), Some(false), "{entry} {origin}");
        }
        assert!(AllowedOrigins::default().allow(b"\xff"), "no list");
        let some = AllowedOrigins::parse(&["null".to_owned()]).expect("an entry");
        assert!(!some.allow(b"\xff"));
    }

    #[test]
    fn what_could_never_match_is_refused() {
        for entry in [
            "",
            "*",
            "example.org",
            "//example.org",
            "https://",
            "https://*",
            "https://*.",
            "https://a.*.example",
            "https://*a.example",
            "https://*.127.0.0.1",
            "https://*.[::1]",
            "https://example.org/",
            "https://example.org?a",
            "https://example.org:",
            "https://example.org:65536",
            "https://example.org:+1",
            "https://.example.org",
            "https://a..example.org",
            "https://1.2.3",
            "https://256.1.1.1",
            "https://[::1",
            "https://user@example.org",
            "https://b\u{fc}cher.example",
            "wss://example.org",
            "ws://example.org",
            "file:///home",
            "file://localhost",
            "file://*.host",
            "1app://host",
            "redis://:secret@host",
        ] {
            assert_eq!(allow(entry, "null"), None, "{entry:?}");
        }
    }
}
