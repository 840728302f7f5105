//! Under which names operators may ask: the entries of `Config::admin_hosts`, and whether a name is
//! one of them. Values only; it must never know a request, nor the names that always may.

/// The entries of `Config::admin_hosts`, as they are compared.
#[derive(Clone, Debug, Default)]
pub struct AdminHosts(Vec<(String, Option<String>)>);

impl AdminHosts {
    /// What an entry may be.
    pub(super) const EXPECTED: &str = "NAME or NAME:PORT, such as app_blue:8001";

    /// `Err`: the position of an entry that is no name.
    pub fn parse(list: &[String]) -> Result<Self, usize> {
        let entries = list.iter().enumerate();
        let entries = entries.map(|(at, text)| entry(text).ok_or(at));
        entries.collect::<Result<_, _>>().map(Self)
    }

    /// Whether this name, with this port (empty if none was written), is on the list.
    pub fn allow(&self, name: &str, port: &str) -> bool {
        let is_port = |own: &Option<String>| own.as_ref().is_none_or(|own| own == port);
        self.0
            .iter()
            .any(|(own, own_port)| own.eq_ignore_ascii_case(name) && is_port(own_port))
    }
}

fn entry(text: &str) -> Option<(String, Option<String>)> {
    let (name, port) = match text.split_once(':') {
        Some((name, port)) => (name, Some(port)),
        None => (text, None),
    };
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
    let is_name = !name.is_empty() && name.bytes().all(allowed);
    let is_port = port.is_none_or(|port| port.parse::<u16>().is_ok());
    (is_name && is_port).then(|| (name.to_owned(), port.map(str::to_owned)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_with_a_port_and_without() {
        let list = ["app_blue:8001", "Ops.example"].map(str::to_owned);
        let hosts = AdminHosts::parse(&list).expect("names");
        for (name, port, expected) in [
            ("app_blue", "8001", true),
            ("APP_BLUE", "8001", true),
            ("app_blue", "", false),
            ("app_blue", "9001", false),
            ("ops.example", "", true),
            ("ops.example", "8001", true),
            ("evil.example", "8001", false),
            ("", "", false),
        ] {
            assert_eq!(hosts.allow(name, port), expected, "{name}:{port}");
        }
        for bad in [
            "",
            "*",
            "*.example",
            "http://a",
            "a:",
            "a:b",
            "a/b",
            "[::1]",
        ] {
            assert_eq!(AdminHosts::parse(&[bad.to_owned()]).err(), Some(0), "{bad}");
        }
    }
}
