//! Which proxies are believed about a client's address: the entries of `Config::trusted_proxies`, and
//! whether an address is one of them. Values only; it must never know what a proxy says.

use std::net::IpAddr;

/// The entries of `Config::trusted_proxies`, as they are compared.
#[derive(Clone, Debug, Default)]
pub struct TrustedProxies {
    networks: Vec<Network>,
    unix: bool,
}

/// All addresses that begin with these bits; a single address has all of its own.
#[derive(Clone, Copy, Debug)]
struct Network {
    address: IpAddr,
    bits: u32,
}

/// What lies before the IPv4 address in one that is written as IPv6 (RFC 4291, section 2.5.5.2).
const MAPPED_BITS: u32 = 96;

impl TrustedProxies {
    /// What an entry may be.
    pub(super) const EXPECTED: &str = "an address such as 127.0.0.1, a network such as 10.0.0.0/8 or fd00::/8 (its bits behind the \
         prefix are zero), or unix";

    /// `Err`: the position of an entry that is none of these.
    pub fn parse(list: &[String]) -> Result<Self, usize> {
        let mut proxies = Self::default();
        for (at, entry) in list.iter().enumerate() {
            if entry == "unix" {
                proxies.unix = true;
            } else {
                proxies.networks.push(Network::parse(entry).ok_or(at)?);
            }
        }
        Ok(proxies)
    }

    /// Whether a peer with this address is believed. One of IPv4 is the same on a socket of IPv6.
    pub fn trust(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.networks.iter().any(|network| network.has(address))
    }

    /// Whether whoever may connect to a socket in the file system is believed.
    pub fn trust_unix(&self) -> bool {
        self.unix
    }

    /// Whether nobody is believed.
    pub fn is_empty(&self) -> bool {
        self.networks.is_empty() && !self.unix
    }
}

impl Network {
    fn parse(text: &str) -> Option<Self> {
        let (address, bits) = match text.split_once('/') {
            Some((address, bits)) => (address, Some(bits)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().ok()?;
        let whole = width(address);
        let bits = match bits {
            // `parse` would let a sign pass.
            Some(digits) if digits.bytes().all(|byte| byte.is_ascii_digit()) => {
                digits.parse().ok().filter(|bits| *bits <= whole)?
            }
            Some(_) => return None,
            None => whole,
        };
        if cut(address, bits) != value(address) {
            return None;
        }
        let canonical = address.to_canonical();
        if width(canonical) == whole {
            return Some(Self { address, bits });
        }
        // A prefix that ends before the IPv4 address would be of no addresses that are compared.
        Some(Self {
            address: canonical,
            bits: bits.checked_sub(MAPPED_BITS)?,
        })
    }

    fn has(&self, address: IpAddr) -> bool {
        width(address) == width(self.address) && cut(address, self.bits) == value(self.address)
    }
}

fn width(address: IpAddr) -> u32 {
    match address {
        IpAddr::V4(_) => u32::BITS,
        IpAddr::V6(_) => u128::BITS,
    }
}

fn value(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => address.to_bits().into(),
        IpAddr::V6(address) => address.to_bits(),
    }
}

/// An address without what follows so many bits.
fn cut(address: IpAddr, bits: u32) -> u128 {
    let behind = width(address) - bits;
    let value = value(address);
    // Shifted by its whole width, a number would be as it was.
    let front = value.checked_shr(behind).unwrap_or(0);
    front.checked_shl(behind).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether a list of this one entry has the address; `None`: the entry is refused.
    fn trust(entry: &str, address: &str) -> Option<bool> {
        let proxies = TrustedProxies::parse(&[entry.to_owned()]).ok()?;
        Some(proxies.trust(address.parse().expect("an address")))
    }

    #[test]
    fn addresses_and_networks_of_both_families() {
        for (entry, address, expected) in [
            ("127.0.0.1", "127.0.0.1", true),
            ("127.0.0.1", "127.0.0.2", false),
            ("127.0.0.1", "::ffff:127.0.0.1", true),
            ("::ffff:127.0.0.1", "127.0.0.1", true),
            ("::ffff:10.0.0.0/104", "10.255.0.1", true),
            ("10.0.0.0/8", "10.255.255.255", true),
            ("10.0.0.0/8", "11.0.0.0", false),
            ("10.1.2.4/30", "10.1.2.7", true),
            ("10.1.2.4/30", "10.1.2.8", false),
            ("10.1.2.3/32", "10.1.2.3", true),
            ("0.0.0.0/0", "203.0.113.9", true),
            ("0.0.0.0/0", "2001:db8::1", false),
            ("::/0", "2001:db8::1", true),
            ("::/0", "127.0.0.1", false),
            ("::1", "::1", true),
            ("fd00::/8", "fdff::1", true),
            ("fd00::/8", "fe00::1", false),
            ("2001:db8::/127", "2001:db8::1", true),
            ("2001:db8::/127", "2001:db8::2", false),
            ("unix", "127.0.0.1", false),
        ] {
            assert_eq!(trust(entry, address), Some(expected), "{entry} {address}");
        }
        let unix = TrustedProxies::parse(&["unix".to_owned()]).expect("an entry");
        assert!(unix.trust_unix() && !unix.is_empty());
        assert!(TrustedProxies::default().is_empty());
    }

    #[test]
    fn entries_that_are_no_proxies() {
        for entry in [
            "",
            "*",
            "localhost",
            "UNIX",
            "unix:/run/s",
            "127.0.0.1:80",
            "[::1]",
            "10.0.0.0/33",
            "10.0.0.1/8",
            "10.0.0.0/",
            "10.0.0.0/+8",
            "10.0.0.0/-8",
            "10/8",
            "fd00::1/8",
            "::/129",
            "010.0.0.0/8",
            "::ffff:0.0.0.0/95",
            "fe80::1%eth0",
            "10.0.0.0/8/8",
        ] {
            assert_eq!(trust(entry, "::1"), None, "{entry:?}");
        }
        let list = ["127.0.0.1", "unix", "proxy"].map(str::to_owned);
        assert_eq!(TrustedProxies::parse(&list).err(), Some(2));
    }
}
