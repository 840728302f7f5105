//! What a Redis URL says: where to connect, how, and as whom.
//!
//! Owns the login, and so the password: it must never appear in an error, a description or a
//! `Debug` output.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use redis::{ConnectionAddr, ConnectionInfo, IntoConnectionInfo};

/// Everything that a URL decides.
#[derive(Debug)]
pub(crate) struct Target {
    pub(crate) place: Place,
    pub(crate) security: Security,
    pub(crate) login: Login,
}

/// Where Redis listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// An IP address: nothing to look up.
    Address(SocketAddr),
    /// A host name.
    Name { host: String, port: u16 },
    /// A Unix socket.
    Unix(PathBuf),
}

/// What is known of the other side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Security {
    /// `redis://`, `redis+unix://`: no TLS.
    Plain,
    /// `rediss://`: TLS, and the certificate must be good for the host.
    Tls,
    /// `rediss://…#insecure`: TLS with whoever answers.
    TlsUnverified,
}

/// As whom to connect, and to which database.
pub(crate) struct Login {
    pub(crate) user: Option<String>,
    pub(crate) password: Option<String>,
    pub(crate) db: u32,
}

const EXPECTED: &str = "not a Redis URL: it is redis:// or rediss://, then \
    [USER:PASSWORD@]HOST[:PORT][/DATABASE] with a HOST that is no wildcard such as 0.0.0.0; or \
    redis+unix:///PATH[?db=DATABASE]";

const EXPECTED_DB: &str =
    "not a Redis URL: the database is a number, as in redis://HOST:6379/3 or ?db=3";

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Login")
            .field("db", &self.db)
            .finish_non_exhaustive()
    }
}

impl Target {
    /// Reads a URL. The error is one line, without the URL and so without its password.
    pub(crate) fn parse(url: &str) -> Result<Self, String> {
        let (rest, fragment) = match url.split_once('#') {
            Some((rest, fragment)) => (rest, Some(fragment)),
            None => (url, None),
        };
        let (plain, security) = security(rest, fragment)?;
        check_password(&plain)?;
        let (plain, db) = query(&plain)?;
        check_path(&plain)?;
        // What redis-rs says can quote the URL, and so the password.
        let info = plain.into_connection_info().map_err(|_| EXPECTED)?;
        let mut login = login(&info)?;
        login.db = db.unwrap_or(login.db);
        Ok(Self {
            place: place(info.addr())?,
            security,
            login,
        })
    }

    /// The host, for the name in the server's certificate.
    pub(crate) fn host(&self) -> String {
        match &self.place {
            Place::Address(address) => address.ip().to_string(),
            Place::Name { host, .. } => host.clone(),
            Place::Unix(_) => "localhost".to_owned(),
        }
    }
}

/// The URL again, without user and password.
impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let db = self.login.db;
        let scheme = match self.security {
            Security::Plain => "redis",
            Security::Tls | Security::TlsUnverified => "rediss",
        };
        match &self.place {
            Place::Address(address) => write!(f, "{scheme}://{address}/{db}")?,
            Place::Name { host, port } => write!(f, "{scheme}://{host}:{port}/{db}")?,
            Place::Unix(path) => write!(f, "redis+unix://{}?db={db}", path.display())?,
        }
        match self.security {
            Security::Plain | Security::Tls => Ok(()),
            Security::TlsUnverified => f.write_str("#insecure"),
        }
    }
}

/// The URL as redis-rs reads it without its TLS feature, and what the scheme asked for.
fn security(url: &str, fragment: Option<&str>) -> Result<(String, Security), String> {
    let rest = url.strip_prefix("rediss://");
    match (rest, fragment) {
        (None, None) => Ok((url.to_owned(), Security::Plain)),
        (Some(rest), None) => Ok((format!("redis://{rest}"), Security::Tls)),
        (Some(rest), Some("insecure")) => Ok((format!("redis://{rest}"), Security::TlsUnverified)),
        (None | Some(_), Some(_)) => Err(
            "not a Redis URL: after '#' there can only be 'insecure', and only with rediss:// \
             (a '#' in a password is written %23)"
                .to_owned(),
        ),
    }
}

/// The first of these ends the host, so that what follows it in a password would be taken for a
/// path, or for a parameter.
fn check_password(url: &str) -> Result<(), String> {
    let Some((_, rest)) = url.split_once("redis://") else {
        return Ok(());
    };
    match rest.split_once(['/', '?']) {
        Some((_, rest)) if rest.contains('@') => Err(
            "not a Redis URL: an '@' after the host; in a password, '/' is written %2F, '?' %3F, \
             '#' %23 and '@' %40"
                .to_owned(),
        ),
        Some(_) | None => Ok(()),
    }
}

/// What follows the host is empty, or names a database. A slash at its end makes no difference.
fn check_path(url: &str) -> Result<(), String> {
    let rest = url.strip_prefix("redis://");
    let path = rest.and_then(|rest| rest.split_once('/'));
    let name = path.map_or("", |(_, path)| path.trim_matches('/'));
    if name.is_empty() || name.parse::<u32>().is_ok() {
        Ok(())
    } else {
        Err(EXPECTED_DB.to_owned())
    }
}

/// The URL without the parameters that redis-rs would not look at, and the database that they name.
fn query(url: &str) -> Result<(String, Option<u32>), String> {
    let Some((rest, query)) = url.split_once('?') else {
        return Ok((url.to_owned(), None));
    };
    let is_unix = !rest.starts_with("redis://");
    let known: &[&str] = if is_unix {
        &["db", "user", "pass"]
    } else {
        &["db"]
    };
    let (mut seen, mut db) = (Vec::new(), None);
    for parameter in query.split('&') {
        let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
        if !known.contains(&name) || seen.contains(&name) {
            // Its name is not shown: it may be a part of a password.
            let known = known.join("=, ");
            return Err(format!(
                "not a Redis URL: after '?' there can only be {known}=, each once (a '?' in a \
                 password is written %3F, an '&' %26)"
            ));
        }
        seen.push(name);
        if name == "db" {
            let number = value.parse();
            db = Some(number.map_err(|_| EXPECTED_DB)?);
        }
    }
    if is_unix {
        return Ok((url.to_owned(), db));
    }
    let path = rest.trim_start_matches("redis://").split_once('/');
    if db.is_some() && path.is_some_and(|(_, path)| !path.is_empty()) {
        return Err(
            "not a Redis URL: the database is named twice, by '/' and by '?db='".to_owned(),
        );
    }
    Ok((rest.to_owned(), db))
}

fn place(address: &ConnectionAddr) -> Result<Place, String> {
    if let ConnectionAddr::Unix(path) = address {
        return Ok(Place::Unix(path.clone()));
    }
    let ConnectionAddr::Tcp(host, port) = address else {
        return Err("not a Redis URL: neither a host nor a Unix socket".to_owned());
    };
    if host.is_empty() || *port == 0 {
        return Err("not a Redis URL: missing host or port".to_owned());
    }
    Ok(match host.parse::<IpAddr>() {
        Ok(ip) => Place::Address(SocketAddr::new(ip, *port)),
        Err(_) => Place::Name {
            host: host.clone(),
            port: *port,
        },
    })
}

fn login(info: &ConnectionInfo) -> Result<Login, String> {
    let settings = info.redis_settings();
    let some = |text: Option<&str>| text.filter(|text| !text.is_empty()).map(str::to_owned);
    Ok(Login {
        user: some(settings.username()),
        password: some(settings.password()),
        db: u32::try_from(settings.db()).map_err(|_| EXPECTED_DB)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(url: &str, described: &str) -> Target {
        let target = Target::parse(url).unwrap();
        assert_eq!(target.to_string(), described);
        assert!(!format!("{target:?}").contains("secret"));
        target
    }

    #[test]
    fn reads_every_form() {
        check("redis://127.0.0.1", "redis://127.0.0.1:6379/0");
        check("redis://[::1]:7000/3", "redis://[::1]:7000/3");
        check("redis://cache", "redis://cache:6379/0");
        check("redis://cache?db=3", "redis://cache:6379/3");
        check("rediss://cache:7000/?db=15", "rediss://cache:7000/15");
        check(
            "redis+unix:///run/redis.sock",
            "redis+unix:///run/redis.sock?db=0",
        );
        check("rediss://cache:6380/1", "rediss://cache:6380/1");
        check("rediss://cache/#insecure", "rediss://cache:6379/0#insecure");
        let target = check(
            "redis+unix:///r.sock?db=2&user=u&pass=secret",
            "redis+unix:///r.sock?db=2",
        );
        assert_eq!(target.login.user.as_deref(), Some("u"));
        assert_eq!(target.login.password.as_deref(), Some("secret"));
    }

    #[test]
    fn reads_user_and_password_decoded() {
        let target = check("redis://me:secret%23%2F%40@h/4", "redis://h:6379/4");
        assert_eq!(target.login.user.as_deref(), Some("me"));
        assert_eq!(target.login.password.as_deref(), Some("secret#/@"));
        let target = check("rediss://:secret@h", "rediss://h:6379/0");
        assert_eq!(target.login.user, None);
        assert_eq!(target.login.password.as_deref(), Some("secret"));
    }

    #[test]
    fn refuses_in_one_line_without_the_password_and_says_what_is_expected() {
        for (url, expected) in [
            ("redis://", "HOST[:PORT]"),
            ("redis://:secret@/0", ""),
            ("redis://:secret@h/x", "a number"),
            ("redis://:secret@h/-1", "a number"),
            ("redis://h/3/4", "a number"),
            ("redis://:sec#ret@h", ""),
            ("redis://:secret@h:99999", "HOST[:PORT]"),
            ("redis://:secret@h:0", ""),
            ("redis://:secret@h#insecure", ""),
            ("rediss://:secret@h#other", ""),
            ("redis://:secret@0.0.0.0", "wildcard"),
            ("redis://u:%ffsecret@h", ""),
            ("redis://:secret@h?protocol=secret", ""),
            ("redis://:secret@h?db=3&db=4", ""),
            ("redis://:secret@h/3?db=3", ""),
            ("redis://:secret@h?db=", ""),
            ("redis://:secret@h?db=secret", "a number"),
            ("redis://:secret@h?", ""),
            ("redis://:secret@h?secret", ""),
            ("redis+unix:///r.sock?pass=secret&timeout=5", ""),
            ("redis+unix:///r.sock?pass=secret&db=x", "a number"),
            ("http://:secret@h", ""),
            ("h:6379", "redis://"),
            ("secret", ""),
        ] {
            let error = Target::parse(url).unwrap_err();
            assert!(error.starts_with("not a Redis URL: "), "{url}: {error}");
            assert!(error.contains(expected), "{url}: {error}");
            let betrayed = error.contains("secret") || error.contains('\n');
            assert!(!betrayed, "{url}: {error}");
        }
        check("redis://h/3/", "redis://h:6379/3");
    }

    #[test]
    fn a_password_that_is_not_encoded_gets_a_hint() {
        for url in [
            "redis://:sec/ret@h",
            "redis://u:sec?ret@h:6379/0",
            "rediss://:/secret@h",
            "redis://:sec/r?et@h",
        ] {
            let error = Target::parse(url).unwrap_err();
            assert!(error.contains("'/' is written %2F"), "{url}: {error}");
            assert!(!error.contains("sec"), "{url}: {error}");
        }
        let target = check("redis://:secret%2F%3F@h", "redis://h:6379/0");
        assert_eq!(target.login.password.as_deref(), Some("secret/?"));
    }
}
