//! What the text of a value means: durations, sizes, stores and origins. Text in, value out, or
//! nothing; it must never know which setting it is for.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use log::LevelFilter;
use sundown::config::{Durability, StoreConfig};

use crate::cli::logger::Format;

/// Only what can be opened, so that a Redis URL with a mistake is refused under its setting's name.
pub(super) fn store(text: &str) -> Option<StoreConfig> {
    let store = text.parse().ok()?;
    sundown::store::check(&store).ok()?;
    Some(store)
}

pub(super) fn duration(text: &str) -> Option<Duration> {
    humantime::parse_duration(text).ok()
}

/// `65536`, `64KiB`, `1 MiB`.
pub(super) fn bytes(text: &str) -> Option<usize> {
    let units = [("KiB", 1 << 10), ("MiB", 1 << 20)];
    let in_unit = |&(suffix, unit): &(&str, usize)| Some((text.strip_suffix(suffix)?, unit));
    let (number, unit) = units.iter().find_map(in_unit).unwrap_or((text, 1));
    let number: usize = number.trim_end().parse().ok()?;
    number.checked_mul(unit)
}

pub(super) fn sqlite_path(text: &str) -> Option<PathBuf> {
    match text.parse() {
        Ok(StoreConfig::Sqlite(path)) => Some(path),
        Ok(StoreConfig::Memory | StoreConfig::Redis(_)) | Err(_) => None,
    }
}

pub(super) fn switch(text: &str) -> Option<bool> {
    match text {
        "on" => Some(true),
        "off" => Some(false),
        _ => None,
    }
}

pub(super) fn durability(text: &str) -> Option<Durability> {
    match text {
        "acked" => Some(Durability::Acked),
        "relaxed" => Some(Durability::Relaxed),
        _ => None,
    }
}

pub(super) fn log_format(text: &str) -> Option<Format> {
    match text {
        "auto" => Some(Format::Auto),
        "text" => Some(Format::Text),
        "json" => Some(Format::Json),
        _ => None,
    }
}

/// In lower case only, as every other word.
pub(super) fn level(text: &str) -> Option<LevelFilter> {
    let is_lower = text.chars().all(|c| c.is_ascii_lowercase());
    is_lower.then(|| text.parse().ok()).flatten()
}

/// What each must be is for `Config::validate`.
pub(super) fn paths(text: &str) -> Option<Vec<String>> {
    let list = text.split(',').map(|path| path.trim().to_owned());
    let list: Vec<String> = list.collect();
    (!list.iter().any(String::is_empty)).then_some(list)
}

/// What stands between commas.
pub(super) fn entries(text: &str) -> Vec<String> {
    let entries = text.split(',').map(str::trim);
    let entries = entries.filter(|entry| !entry.is_empty());
    entries.map(str::to_owned).collect()
}

/// No list is every origin; `*` among others would be a list that lists nothing.
pub(super) fn origins(text: &str) -> Option<Vec<String>> {
    let list = entries(text);
    match list.as_slice() {
        // Two variables that are both unset must not let everybody in.
        [] if text.contains(',') => None,
        [one] if one == "*" => Some(Vec::new()),
        several if several.iter().any(|entry| entry == "*") => None,
        _ => Some(list),
    }
}

/// What to write instead of a URL that leads to an address.
pub(super) fn address_in_url(text: &str) -> Option<String> {
    let (scheme, rest) = text.split_once("://")?;
    if let Ok(address) = rest.trim_end_matches('/').parse::<SocketAddr>() {
        return Some(format!("expected IP:PORT and nothing else: {address}"));
    }
    let scheme: String = scheme.chars().take(16).collect();
    Some(format!(
        "expected IP:PORT without {scheme}://, such as 127.0.0.1:8001"
    ))
}

/// What to write instead of `sqlite://x.db`.
pub(super) fn sqlite_url(text: &str) -> Option<String> {
    text.starts_with("sqlite://").then(|| {
        "two slashes make it a URL, which it is not: write sqlite:/PATH for an absolute path, or \
         sqlite:PATH"
            .to_owned()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_counted_in_bytes() {
        assert_eq!(bytes("64KiB"), Some(65_536));
        assert_eq!(bytes("2 MiB"), Some(2_097_152));
        assert_eq!(bytes("7"), Some(7));
        assert_eq!(bytes("18446744073709551615KiB"), None);
    }

    #[test]
    fn empty_and_star_are_every_origin() {
        assert_eq!(origins(""), Some(Vec::new()));
        assert_eq!(origins("*"), Some(Vec::new()));
        assert_eq!(
            origins(" , "),
            None,
            "two that are unset let nobody in by mistake"
        );
        let two = vec!["https://a".to_owned(), "https://b".to_owned()];
        assert_eq!(origins("https://a, https://b"), Some(two));
    }
}
