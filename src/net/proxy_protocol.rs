//! The PROXY protocol, versions 1 and 2, as haproxy's `proxy-protocol.txt` has it: what a proxy says
//! about a connection before the first byte of it.
//!
//! Pure: bytes in, an address out. It must never look past the header, nor take for one what is
//! none: who sends a header, and who must, is known before the first byte.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

/// The longest header that is read. Version 2 has room for 64 KiB of further fields, of which
/// proxies send some hundred bytes.
pub const BYTES_MAX: usize = 4 << 10;

/// A header whose sender speaks for itself, as for a health check.
pub const LOCAL: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0";

/// What begins version 1, and version 2.
const WORD: &[u8] = b"PROXY ";
const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

/// The signature, version and command, the family, and the length of the rest.
const FIXED_BYTES: usize = 16;

/// The longest line of version 1, with its end.
const LINE_BYTES_MAX: usize = 107;

/// Two paths of sockets in the file system.
const UNIX_BYTES: usize = 216;

/// What is to come before a request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Preface {
    /// Nothing, from anybody.
    #[default]
    Off,
    /// Nothing, from this peer.
    Untrusted,
    /// A header.
    Expected,
    /// It has come, with this address of the client, if there is one.
    Received(Option<SocketAddr>),
}

impl Preface {
    /// What a header is where none is to come (any more).
    pub fn unexpected(self) -> BadHeader {
        match self {
            Self::Off => BadHeader::Off,
            Self::Untrusted => BadHeader::Untrusted,
            Self::Expected | Self::Received(_) => BadHeader::Second,
        }
    }
}

/// Why a connection is refused before its request is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadHeader {
    /// There must be one, and there is none.
    Absent,
    /// It is not as its version has it.
    Malformed,
    /// It is longer than is read.
    TooLong,
    /// There is one, and nobody sends any.
    Off,
    /// There is one, of a peer that is not believed.
    Untrusted,
    /// There is another one behind it.
    Second,
}

impl BadHeader {
    /// One line that names the setting to look at.
    pub fn text(self) -> &'static str {
        match self {
            Self::Absent => {
                "no PROXY header: --proxy-protocol is on, and this peer is in --trusted-proxies"
            }
            Self::Malformed => "a bad PROXY header",
            Self::TooLong => "a PROXY header that is too long",
            Self::Off => "a PROXY header, and --proxy-protocol is off",
            Self::Untrusted => "a PROXY header, and this peer is not in --trusted-proxies",
            Self::Second => "a second PROXY header",
        }
    }
}

/// Reads a header from the front of `bytes`; `None` while it is not complete. Returns the client's
/// address and the header's length. Without an address, the peer is to be taken for the client: the
/// proxy speaks for itself, or does not know. What lies behind the header makes no difference.
pub fn parse(bytes: &[u8]) -> Result<Option<(Option<SocketAddr>, usize)>, BadHeader> {
    if agree(bytes, SIGNATURE) {
        parse_block(bytes)
    } else if agree(bytes, WORD) {
        parse_line(bytes)
    } else {
        Err(BadHeader::Absent)
    }
}

/// Whether a header begins here; `None` if the next byte may tell. No request does.
pub fn is_header(bytes: &[u8]) -> Option<bool> {
    let all = [SIGNATURE, b"PROXY TCP4 ", b"PROXY TCP6 ", b"PROXY UNKNOWN"];
    match all.iter().find(|begin| agree(bytes, begin)) {
        Some(begin) => (bytes.len() >= begin.len()).then_some(true),
        None => Some(false),
    }
}

/// Whether these begin alike, as far as both go.
fn agree(bytes: &[u8], begin: &[u8]) -> bool {
    bytes.iter().zip(begin).all(|(byte, other)| byte == other)
}

/// Version 1: `PROXY TCP4 SOURCE DESTINATION PORT PORT`, or `PROXY UNKNOWN` and whatever.
fn parse_line(bytes: &[u8]) -> Result<Option<(Option<SocketAddr>, usize)>, BadHeader> {
    let line = &bytes[..bytes.len().min(LINE_BYTES_MAX)];
    let Some(end) = line.windows(2).position(|two| two == b"\r\n") else {
        return if line.len() < LINE_BYTES_MAX {
            Ok(None)
        } else {
            Err(BadHeader::TooLong)
        };
    };
    let words = line[..end].strip_prefix(WORD);
    let words = words.ok_or(BadHeader::Malformed)?;
    let client = if words == b"UNKNOWN" || words.starts_with(b"UNKNOWN ") {
        None
    } else {
        let client = str::from_utf8(words).ok().and_then(source);
        Some(client.ok_or(BadHeader::Malformed)?)
    };
    Ok(Some((client, end + 2)))
}

/// All five words, in the one way in which each is written.
fn source(words: &str) -> Option<SocketAddr> {
    let words: Vec<&str> = words.split(' ').collect();
    let [family, source, destination, source_port, destination_port] = words[..] else {
        return None;
    };
    let (port, _) = (port(source_port)?, port(destination_port)?);
    match family {
        "TCP4" => {
            let _: Ipv4Addr = destination.parse().ok()?;
            let source: Ipv4Addr = source.parse().ok()?;
            Some((source, port).into())
        }
        "TCP6" => {
            let _: Ipv6Addr = destination.parse().ok()?;
            let source: Ipv6Addr = source.parse().ok()?;
            Some((source, port).into())
        }
        _ => None,
    }
}

/// `parse` would let a sign pass, and zeros in front.
fn port(text: &str) -> Option<u16> {
    let port: u16 = text.parse().ok()?;
    let is_plain = text == "0" || text.starts_with(|first: char| matches!(first, '1'..='9'));
    is_plain.then_some(port)
}

/// Version 2. Fields behind the addresses are not looked at.
fn parse_block(bytes: &[u8]) -> Result<Option<(Option<SocketAddr>, usize)>, BadHeader> {
    let Some((fixed, behind)) = bytes.split_first_chunk::<FIXED_BYTES>() else {
        return Ok(None);
    };
    let [.., command, family, high, low] = *fixed;
    let is_local = match command {
        0x20 => true,
        0x21 => false,
        _ => return Err(BadHeader::Malformed),
    };
    let len = usize::from(u16::from_be_bytes([high, low]));
    let whole = FIXED_BYTES + len;
    if whole > BYTES_MAX {
        return Err(BadHeader::TooLong);
    }
    let Some(block) = behind.get(..len) else {
        return Ok(None);
    };
    let client = if is_local {
        // Whatever family it has.
        None
    } else {
        client_in(family, block)?
    };
    Ok(Some((client, whole)))
}

/// The first address of a block of this family, if it is one of the Internet. By which transport
/// the client has reached the proxy makes no difference.
fn client_in(family: u8, block: &[u8]) -> Result<Option<SocketAddr>, BadHeader> {
    match family {
        0x00 => Ok(None),
        0x11 | 0x12 => {
            let addresses = block.first_chunk().ok_or(BadHeader::Malformed)?;
            let [a, b, c, d, _, _, _, _, high, low, _, _] = *addresses;
            let address = Ipv4Addr::new(a, b, c, d);
            Ok(Some((address, u16::from_be_bytes([high, low])).into()))
        }
        0x21 | 0x22 => {
            let (source, behind) = block.split_first_chunk().ok_or(BadHeader::Malformed)?;
            let (_, ports): (&[u8; 16], _) =
                behind.split_first_chunk().ok_or(BadHeader::Malformed)?;
            let [high, low, _, _] = *ports.first_chunk().ok_or(BadHeader::Malformed)?;
            let address = Ipv6Addr::from(*source);
            Ok(Some((address, u16::from_be_bytes([high, low])).into()))
        }
        0x31 | 0x32 if block.len() >= UNIX_BYTES => Ok(None),
        _ => Err(BadHeader::Malformed),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A header of version 2.
    fn block(command: u8, family: u8, block: &[u8]) -> Vec<u8> {
        let len = u16::try_from(block.len()).unwrap().to_be_bytes();
        [SIGNATURE, &[command, family], &len, block].concat()
    }

    const FOUR: &[u8] = &[203, 0, 113, 9, 127, 0, 0, 1, 0x12, 0x67, 0x1f, 0x40];
    const TYPED: &[u8] = b"\x04\0\x02ab";

    fn six() -> Vec<u8> {
        let client: Ipv6Addr = "2001:db8::9".parse().unwrap();
        let here = Ipv6Addr::LOCALHOST;
        [&client.octets()[..], &here.octets(), &FOUR[8..]].concat()
    }

    /// Every good header, and the client that it names.
    fn good() -> Vec<(Vec<u8>, Option<&'static str>)> {
        let (four, six_at) = (Some("203.0.113.9:4711"), Some("[2001:db8::9]:4711"));
        let longest = format!(
            "PROXY UNKNOWN {}\r\n",
            "f".repeat(LINE_BYTES_MAX - "PROXY UNKNOWN \r\n".len())
        );
        let lines = [
            ("PROXY TCP4 203.0.113.9 127.0.0.1 4711 8000\r\n", four),
            ("PROXY TCP6 2001:db8::9 ::1 4711 8000\r\n", six_at),
            (
                "PROXY TCP6 2001:DB8:0::9 0:0:0:0:0:0:0:1 4711 0\r\n",
                six_at,
            ),
            (
                "PROXY TCP4 255.255.255.255 0.0.0.0 65535 65535\r\n",
                Some("255.255.255.255:65535"),
            ),
            ("PROXY UNKNOWN\r\n", None),
            ("PROXY UNKNOWN ffff:f... \u{7f} whatever\r\n", None),
            (&longest, None),
        ];
        let mut good: Vec<_> = lines
            .iter()
            .map(|(line, client)| (line.as_bytes().to_vec(), *client))
            .collect();
        let most = vec![0; BYTES_MAX - FIXED_BYTES];
        for (family, content, client) in [
            (0x11, FOUR, four),
            (0x12, FOUR, four),
            (0x11, &[FOUR, TYPED].concat(), four),
            // Fields that are none make no difference: they are not looked at.
            (0x11, &[FOUR, b"\xff"].concat(), four),
            (0x21, &six(), six_at),
            (0x22, &[&six(), TYPED].concat(), six_at),
            (0x31, &[0; UNIX_BYTES], None),
            (0x32, &[0; UNIX_BYTES + 5], None),
            (0x00, b"", None),
            (0x00, &most, None),
        ] {
            good.push((block(0x21, family, content), client));
            good.push((block(0x20, family, content), None));
        }
        good.push((LOCAL.to_vec(), None));
        good.push((block(0x20, 0x11, b""), None));
        good.push((block(0x20, 0xff, b"x"), None));
        good
    }

    #[test]
    fn a_header_cut_at_every_byte_is_the_same() {
        for (header, client) in good() {
            let client = client.map(|client| client.parse().unwrap());
            for cut in 0..header.len() {
                assert_eq!(parse(&header[..cut]), Ok(None), "{header:?} {cut}");
            }
            for behind in [&b""[..], b"GET / HTTP/1.1\r\n\r\n", b"PROXY ", b"\xff\0"] {
                let bytes = [&header, behind].concat();
                let expected = Ok(Some((client, header.len())));
                assert_eq!(parse(&bytes), expected, "{header:?} {behind:?}");
            }
        }
    }

    /// What is wrong is known by some byte, and with each that follows.
    #[track_caller]
    fn check_bad(bytes: &[u8], expected: BadHeader) {
        let mut verdicts = (0..=bytes.len()).map(|cut| parse(&bytes[..cut]));
        let first = verdicts.find(|verdict| *verdict != Ok(None));
        assert_eq!(first, Some(Err(expected)), "{bytes:?}");
        assert!(
            verdicts.all(|verdict| verdict == Err(expected)),
            "{bytes:?}"
        );
    }

    #[test]
    fn a_bad_line_cut_at_every_byte_is_the_same() {
        for words in [
            "",
            "TCP4",
            "TCP5 1.1.1.1 1.1.1.1 1 1",
            "tcp4 1.1.1.1 1.1.1.1 1 1",
            "UDP4 1.1.1.1 1.1.1.1 1 1",
            "UNKNOWNX",
            "TCP4 1.1.1.1 1.1.1.1 1",
            "TCP4 1.1.1.1 1.1.1.1 1 1 1",
            "TCP4  1.1.1.1 1.1.1.1 1 1",
            "TCP4 1.1.1.1 1.1.1.1 1 1 ",
            "TCP4 1.1.1.1 1.1.1.1 1 1\r",
            "TCP4 1.1.1.1 1.1.1.1 1 1\nGET /",
            "TCP4 1.1.1.1\t1.1.1.1 1 1",
            "TCP4 ::1 ::1 1 1",
            "TCP4 1.1.1.1 ::1 1 1",
            "TCP6 1.1.1.1 1.1.1.1 1 1",
            "TCP6 ::1 1.1.1.1 1 1",
            "TCP6 fe80::1%eth0 ::1 1 1",
            "TCP6 [::1] ::1 1 1",
            "TCP4 1.1.1 1.1.1.1 1 1",
            "TCP4 01.1.1.1 1.1.1.1 1 1",
            "TCP4 1.1.1.256 1.1.1.1 1 1",
            "TCP4 1.1.1.1 1.1.1.1 65536 1",
            "TCP4 1.1.1.1 1.1.1.1 1 65536",
            "TCP4 1.1.1.1 1.1.1.1 +1 1",
            "TCP4 1.1.1.1 1.1.1.1 -1 1",
            "TCP4 1.1.1.1 1.1.1.1 01 1",
            "TCP4 1.1.1.1 1.1.1.1 00 1",
            "TCP4 1.1.1.1 1.1.1.1  1",
        ] {
            check_bad(
                format!("PROXY {words}\r\n").as_bytes(),
                BadHeader::Malformed,
            );
        }
        check_bad(b"PROXY TCP4 \xff 1.1.1.1 1 1\r\n", BadHeader::Malformed);
        let long = format!("PROXY UNKNOWN {}\r\n", "f".repeat(92));
        assert_eq!(long.len(), LINE_BYTES_MAX + 1);
        check_bad(long.as_bytes(), BadHeader::TooLong);
    }

    #[test]
    fn a_bad_block_cut_at_every_byte_is_the_same() {
        for (command, family, content) in [
            (0x11, 0x11, FOUR),
            (0x31, 0x11, FOUR),
            (0x22, 0x11, FOUR),
            (0x2f, 0x11, FOUR),
            (0x21, 0x10, FOUR),
            (0x21, 0x01, FOUR),
            (0x21, 0x13, FOUR),
            (0x21, 0x41, FOUR),
            (0x21, 0x11, &FOUR[..11]),
            (0x21, 0x21, &six()[..35]),
            (0x21, 0x21, FOUR),
            (0x21, 0x31, &[0; UNIX_BYTES - 1]),
        ] {
            check_bad(&block(command, family, content), BadHeader::Malformed);
        }
        let long = vec![0; BYTES_MAX - FIXED_BYTES + 1];
        check_bad(&block(0x21, 0, &long), BadHeader::TooLong);
        check_bad(&block(0x20, 0, &long), BadHeader::TooLong);
        check_bad(&block(0x21, 0x11, &vec![0; 65_535]), BadHeader::TooLong);
    }

    #[test]
    fn what_begins_otherwise_is_no_header_at_any_cut() {
        for other in [
            "GET / HTTP/1.1\r\n\r\n",
            "PP",
            "PROXYTCP4 ",
            "PROXX",
            "proxy TCP4 ",
            "\r\n\r\nGET / HTTP/1.1\r\n\r\n",
            "\r\n\r\n\0\r\nQUIT\r",
            "\n",
            "\x16\x03\x01",
        ] {
            check_bad(other.as_bytes(), BadHeader::Absent);
        }
    }

    #[test]
    fn what_is_no_header_is_told_by_its_beginning() {
        for (header, _) in good() {
            for cut in 0..=header.len() {
                let told = is_header(&header[..cut]);
                assert_ne!(told, Some(false), "{header:?} {cut}");
                assert!(told.is_some() || cut < 13, "{header:?} {cut}");
            }
        }
        for other in [
            "GET / HTTP/1.1\r\n\r\n",
            "PROXY / HTTP/1.1\r\n\r\n",
            "PROXY TCP5 ",
            "\r\n\r\nGET / HTTP/1.1",
        ] {
            assert_eq!(is_header(other.as_bytes()), Some(false), "{other}");
        }
    }
}
