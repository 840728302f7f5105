//! HTTP/1.1 as far as this server speaks it: one request head in, one short answer out.
//!
//! Pure: bytes in, bytes out. A connection carries one request; every answer but the 101 closes it.

use std::borrow::Cow;
use std::net::SocketAddr;

use tungstenite::http::header::{HeaderName, HeaderValue};
use tungstenite::http::{Method, Request, Uri};

use super::proxy_protocol::{self, BadHeader, Preface};

/// A request head.
pub type Head = Request<()>;

/// Why a head cannot be answered as asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadHead {
    /// It is no HTTP/1.x request.
    Malformed,
    /// What it asks for is no request target.
    Target,
    /// It has no Host, or more than one, or one that is none.
    Host,
    /// It is too long, or has too many fields.
    TooLarge,
    /// The body that it announces is too long.
    BodyTooLarge,
    /// It announces a body and does not say how long it is.
    NoLength,
    /// What comes before it is wrong.
    Preface(BadHeader),
}

/// Most header fields in a head: four times what browsers send.
const HEADERS_MAX: usize = 100;

/// A request that is being received.
#[derive(Debug, Default)]
pub struct Incoming {
    preface: Preface,
    /// Of the preface and the head; once that is whole, of the body.
    bytes: Vec<u8>,
    awaited: Option<Awaited>,
}

/// The head of a body that is being received.
#[derive(Debug)]
struct Awaited {
    head: Head,
    head_len: usize,
    body_len: usize,
    /// The client waits for a 100 before it sends the body (RFC 9110, section 10.1.1).
    expects_continue: bool,
}

impl Incoming {
    /// A request behind what is to come first.
    pub fn behind(preface: Preface) -> Self {
        Self {
            preface,
            ..Self::default()
        }
    }

    /// The client's address, if a proxy has said one before the request.
    pub fn client(&self) -> Option<SocketAddr> {
        match self.preface {
            Preface::Received(client) => client,
            Preface::Off | Preface::Untrusted | Preface::Expected => None,
        }
    }

    /// Whether not one byte has come; of a client behind a proxy, but for the proxy's header.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty() && self.awaited.is_none()
    }

    /// How many bytes have come of a request that is not whole.
    pub fn held_bytes(&self) -> usize {
        let head_len = self.awaited.as_ref().map_or(0, |awaited| awaited.head_len);
        head_len + self.bytes.len()
    }

    /// Takes in what has come; `None` while the head is not complete. Returns the head, and what
    /// came behind it. Whatever the verdict is, it is the last.
    pub fn receive(
        &mut self,
        input: &[u8],
        len_max: usize,
    ) -> Result<Option<(Head, Vec<u8>)>, BadHead> {
        let mut old_len = self.bytes.len();
        self.bytes.extend_from_slice(input);
        if self.preface == Preface::Expected {
            let parsed = proxy_protocol::parse(&self.bytes).map_err(BadHead::Preface)?;
            let Some((client, len)) = parsed else {
                return Ok(None);
            };
            self.bytes.drain(..len);
            self.preface = Preface::Received(client);
            old_len = 0;
        }
        match proxy_protocol::is_header(&self.bytes) {
            Some(false) => {}
            Some(true) => return Err(BadHead::Preface(self.preface.unexpected())),
            None => return Ok(None),
        }
        if input.is_empty() || !worth_parsing(&self.bytes, old_len, len_max) {
            return Ok(None);
        }
        let parsed = parse(&self.bytes, len_max)?;
        Ok(parsed.map(|(head, len)| (head, self.bytes.split_off(len))))
    }

    /// The same where what comes behind a head is its body: returns both when both are complete.
    /// What comes behind the body is dropped.
    pub fn receive_with_body(
        &mut self,
        input: &[u8],
        len_max: usize,
        body_len_max: usize,
    ) -> Result<Option<(Head, Vec<u8>)>, BadHead> {
        if self.awaited.is_some() {
            self.bytes.extend_from_slice(input);
        } else if let Some((head, behind)) = self.receive(input, len_max)? {
            let head_len = std::mem::replace(&mut self.bytes, behind).len();
            self.awaited = Some(Awaited {
                head_len,
                body_len: body_len(&head, body_len_max)?,
                expects_continue: expects_continue(&head),
                head,
            });
        }
        let is_whole = |awaited: &mut Awaited| self.bytes.len() >= awaited.body_len;
        let Some(awaited) = self.awaited.take_if(is_whole) else {
            return Ok(None);
        };
        let mut body = std::mem::take(&mut self.bytes);
        body.truncate(awaited.body_len);
        Ok(Some((awaited.head, body)))
    }

    /// Whether the client waits for a 100. Returns `true` once.
    pub fn take_expectation(&mut self) -> bool {
        let awaited = self.awaited.as_mut();
        awaited.is_some_and(|awaited| std::mem::take(&mut awaited.expects_continue))
    }
}

/// The interim answer to a client that waits before it sends its body.
pub const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// RFC 9112, section 6: without either field there is no body. Chunks are not understood; and both
/// fields may be an attempt to smuggle a request past a proxy.
pub fn body_len(head: &Head, len_max: usize) -> Result<usize, BadHead> {
    let headers = head.headers();
    if headers.contains_key("transfer-encoding") {
        let has_both = headers.contains_key("content-length");
        return Err(if has_both {
            BadHead::Malformed
        } else {
            BadHead::NoLength
        });
    }
    let mut lengths = headers.get_all("content-length").into_iter();
    let Some(length) = lengths.next() else {
        return Ok(0);
    };
    let digits = length.to_str().ok().filter(|text| {
        // `parse` would let a sign pass.
        lengths.next().is_none() && text.bytes().all(|byte| byte.is_ascii_digit())
    });
    let digits = digits.filter(|text| !text.is_empty());
    match digits.ok_or(BadHead::Malformed)?.parse::<usize>() {
        Ok(len) if len <= len_max => Ok(len),
        // More digits than fit are more bytes, too.
        Ok(_) | Err(_) => Err(BadHead::BodyTooLarge),
    }
}

fn expects_continue(head: &Head) -> bool {
    let expected = head.headers().get("expect");
    expected.is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"100-continue"))
}

/// Reads a request head from the front of `bytes`; `None` while it is not complete. Returns the
/// head and its length. What lies beyond `len_max` is not looked at, so that the verdict is the
/// same however the bytes were cut on their way.
pub fn parse(bytes: &[u8], len_max: usize) -> Result<Option<(Head, usize)>, BadHead> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut raw = httparse::Request::new(&mut headers);
    let len = match raw.parse(&bytes[..bytes.len().min(len_max)]) {
        Ok(httparse::Status::Complete(len)) => len,
        Ok(httparse::Status::Partial) if bytes.len() >= len_max => return Err(BadHead::TooLarge),
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(httparse::Error::TooManyHeaders) => return Err(BadHead::TooLarge),
        Err(_) if raw.method.is_some() && raw.path.is_none() && has_bad_target(bytes) => {
            return Err(BadHead::Target);
        }
        Err(_) => return Err(BadHead::Malformed),
    };
    let target = raw.path.and_then(to_target).ok_or(BadHead::Target)?;
    let head = to_head(&raw, target).ok_or(BadHead::Malformed)?;
    Ok(Some((head, len)))
}

/// Whether a head could be complete, or be known to be bad, now that `bytes` have grown from
/// `old_len`: so that a head which comes byte by byte is not parsed anew for each.
fn worth_parsing(bytes: &[u8], old_len: usize, len_max: usize) -> bool {
    let from = old_len.saturating_sub(3);
    let ends = |tail: &[u8]| tail.ends_with(b"\n\r\n") || tail.ends_with(b"\n\n");
    let complete = (from..bytes.len()).any(|at| ends(&bytes[..=at]));
    old_len == 0 || complete || bytes.len() >= len_max
}

/// Whether what follows the method has a byte that must be written as `%XX` in every target (RFC
/// 3986, section 2). Of a line that ends there instead, something else is wrong.
fn has_bad_target(bytes: &[u8]) -> bool {
    let behind = bytes.iter().skip_while(|byte| **byte != b' ').skip(1);
    let mut target = behind.take_while(|byte| !b" \r\n".contains(byte));
    !target.all(u8::is_ascii_graphic)
}

/// A fragment is the client's own, and is not sent (RFC 9112, section 3.2); `Uri` would drop it.
fn to_target(path: &str) -> Option<Uri> {
    path.parse().ok().filter(|_| !path.contains('#'))
}

fn to_head(raw: &httparse::Request<'_, '_>, target: Uri) -> Option<Head> {
    let mut head = Head::new(());
    *head.method_mut() = Method::from_bytes(raw.method?.as_bytes()).ok()?;
    *head.uri_mut() = target;
    *head.version_mut() = match raw.version? {
        0 => tungstenite::http::Version::HTTP_10,
        _ => tungstenite::http::Version::HTTP_11,
    };
    for header in raw.headers.iter() {
        let name = HeaderName::from_bytes(header.name.as_bytes()).ok()?;
        let value = HeaderValue::from_bytes(header.value).ok()?;
        head.headers_mut().append(name, value);
    }
    Some(head)
}

/// An answer other than the 101.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// Header fields beyond the usual ones, each ended by CRLF.
    pub fields: Cow<'static, str>,
    /// The media type of the body.
    pub media_type: &'static str,
    /// The body.
    pub body: String,
}

impl Answer {
    /// A small JSON body that says what happened: `{"status":"…"}` or `{"error":"…"}`.
    pub fn json(status: u16, text: &str) -> Self {
        let key = if status < 400 { "status" } else { "error" };
        let body = format!("{{\"{key}\":\"{text}\"}}\n");
        Self {
            status,
            fields: Cow::Borrowed(""),
            media_type: "application/json",
            body,
        }
    }

    /// `{"error":"…"}` with a text of any kind.
    pub fn error(status: u16, text: &str) -> Self {
        let clean = |c: char| {
            if c.is_control() || c == '"' || c == '\\' {
                ' '
            } else {
                c
            }
        };
        let text: String = text.chars().map(clean).collect();
        Self::json(status, &text)
    }

    /// An object that is written already.
    pub fn object(status: u16, body: &str) -> Self {
        Self {
            body: body.to_owned(),
            ..Self::json(status, "")
        }
    }

    /// The same with more header fields.
    #[must_use]
    pub fn with(self, fields: impl Into<Cow<'static, str>>) -> Self {
        let fields = fields.into();
        Self { fields, ..self }
    }

    /// 503 for who should try again elsewhere, or later.
    pub fn unavailable(text: &str) -> Self {
        Self::json(503, text).with("Retry-After: 1\r\n")
    }

    /// The bytes; `with_body` is false for HEAD, whose answer has the same head and no body
    /// (RFC 9110, section 9.3.2). `date` is the present, as section 5.6.7 writes it.
    pub fn to_bytes(&self, with_body: bool, date: &str) -> Vec<u8> {
        let Self {
            status,
            fields,
            media_type,
            body,
        } = self;
        let reason = reason_phrase(*status);
        let length = body.len();
        let head = format!(
            "HTTP/1.1 {status} {reason}\r\nDate: {date}\r\nContent-Type: {media_type}\r\n\
             Content-Length: {length}\r\nCache-Control: no-store\r\nConnection: close\r\n\
             {fields}\r\n"
        );
        let mut bytes = head.into_bytes();
        if with_body {
            bytes.extend_from_slice(body.as_bytes());
        }
        bytes
    }
}

fn reason_phrase(status: u16) -> &'static str {
    tungstenite::http::StatusCode::from_u16(status)
        .ok()
        .and_then(|status| status.canonical_reason())
        .unwrap_or("")
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &[u8] =
        b"GET /ws/chat/?session=a HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\n\r\n";

    #[test]
    fn a_head_cut_at_every_byte() {
        for cut in 0..HEAD.len() {
            assert_eq!(
                parse(&HEAD[..cut], 1_024).map(|head| head.is_some()),
                Ok(false),
                "{cut}"
            );
            assert!(worth_parsing(HEAD, cut, 1_024), "{cut}");
        }
        let with_more = [HEAD, b"\x81\x80"].concat();
        let (head, len) = parse(&with_more, 1_024).unwrap().unwrap();
        assert_eq!(len, HEAD.len());
        assert_eq!(
            (head.uri().path(), head.uri().query()),
            ("/ws/chat/", Some("session=a"))
        );
    }

    const POST: &[u8] = b"POST /b HTTP/1.1\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n";

    #[test]
    fn a_body_cut_at_every_byte() {
        let whole = [POST, b"hello, and more"].concat();
        for cut in 1..whole.len() {
            let mut incoming = Incoming::default();
            let receive = |incoming: &mut Incoming, bytes: &[u8]| {
                incoming
                    .receive_with_body(bytes, 1_024, 64)
                    .expect("a good head")
            };
            let early = receive(&mut incoming, &whole[..cut]);
            assert_eq!(early.is_some(), cut >= POST.len() + 5, "{cut}");
            let expected = if early.is_some() { 0 } else { cut };
            assert_eq!(incoming.held_bytes(), expected);
            let expects = incoming.take_expectation();
            assert_eq!(
                expects,
                (POST.len()..POST.len() + 5).contains(&cut),
                "{cut}"
            );
            assert!(!incoming.take_expectation(), "once");
            let (head, body) = early
                .or_else(|| receive(&mut incoming, &whole[cut..]))
                .expect("a whole request");
            assert_eq!(
                (head.uri().path(), &body[..]),
                ("/b", &b"hello"[..]),
                "{cut}"
            );
        }
    }

    const LINE: &[u8] = b"PROXY TCP4 203.0.113.9 192.0.2.1 4711 443\r\n";

    #[test]
    fn a_preface_cut_at_every_byte() {
        // Longer than the request behind it.
        let long = [&proxy_protocol::LOCAL[..14], b"\0\xc8", &[7; 200]].concat();
        for (header, client) in [(LINE, "203.0.113.9:4711".parse().ok()), (&long, None)] {
            let whole = [header, HEAD, b"\x81\x80"].concat();
            for cut in 0..=whole.len() {
                let mut incoming = Incoming::behind(Preface::Expected);
                let mut receive = |bytes: &[u8]| {
                    let request = incoming.receive(bytes, 1_024).expect("a good head");
                    (request, incoming.held_bytes(), incoming.client())
                };
                let (early, waiting, named) = receive(&whole[..cut]);
                assert_eq!(early.is_some(), cut >= header.len() + HEAD.len(), "{cut}");
                let is_behind = cut >= header.len();
                assert_eq!(named, client.filter(|_| is_behind), "{cut}");
                let kept = cut - if is_behind { header.len() } else { 0 };
                assert!(early.is_some() || waiting == kept, "{cut}");
                let is_late = early.is_none();
                let request = early.or_else(|| receive(&whole[cut..]).0);
                let (head, behind) = request.expect("a whole request");
                assert_eq!(head.uri().path(), "/ws/chat/");
                assert!(!is_late || behind == b"\x81\x80", "{cut}");
                assert_eq!(incoming.client(), client);
            }
        }
    }

    #[test]
    fn a_preface_that_is_wrong_is_so_at_every_cut() {
        let verdict = |preface, bytes: &[&[u8]]| {
            let mut incoming = Incoming::behind(preface);
            let mut verdicts = bytes.iter().map(|bytes| incoming.receive(bytes, 64));
            verdicts.find_map(Result::err)
        };
        let block = [proxy_protocol::LOCAL, LINE].concat();
        for (preface, header, bad) in [
            (Preface::Off, LINE, BadHeader::Off),
            (
                Preface::Untrusted,
                proxy_protocol::LOCAL,
                BadHeader::Untrusted,
            ),
            (Preface::Expected, HEAD, BadHeader::Absent),
            (Preface::Expected, &block, BadHeader::Second),
        ] {
            for cut in 0..header.len() {
                let (front, behind) = header.split_at(cut);
                let verdict = verdict(preface, &[front, behind, HEAD]);
                assert_eq!(verdict, Some(BadHead::Preface(bad)), "{preface:?} {cut}");
            }
        }
    }

    #[test]
    fn bodies_that_are_not_received() {
        let check = |fields: &str, expected: Result<Option<usize>, BadHead>| {
            let head = format!("POST / HTTP/1.1\r\n{fields}\r\n");
            let received = Incoming::default().receive_with_body(head.as_bytes(), 1_024, 64);
            let received = received.map(|request| request.map(|(_, body)| body.len()));
            assert_eq!(received, expected, "{fields}");
        };
        check("", Ok(Some(0)));
        check("Content-Length: 0\r\n", Ok(Some(0)));
        check("Content-Length: 64\r\n", Ok(None));
        check("Content-Length: 65\r\n", Err(BadHead::BodyTooLarge));
        let endless = format!("Content-Length: {}\r\n", "9".repeat(40));
        check(&endless, Err(BadHead::BodyTooLarge));
        for bad in ["+1", "-1", "1, 1", "", "x"] {
            check(
                &format!("Content-Length: {bad}\r\n"),
                Err(BadHead::Malformed),
            );
        }
        check(
            "Content-Length: 1\r\nContent-Length: 1\r\n",
            Err(BadHead::Malformed),
        );
        check("Transfer-Encoding: chunked\r\n", Err(BadHead::NoLength));
        check(
            "Transfer-Encoding: chunked\r\nContent-Length: 0\r\n",
            Err(BadHead::Malformed),
        );
    }

    #[test]
    fn byte_by_byte_is_parsed_once() {
        let parses = (1..HEAD.len())
            .filter(|len| worth_parsing(&HEAD[..*len], len - 1, 1_024))
            .count();
        assert_eq!(parses, 1, "the first byte, to catch garbage early");
        assert!(worth_parsing(HEAD, HEAD.len() - 1, 1_024));
    }

    #[test]
    fn bad_heads() {
        #[track_caller]
        fn check(bytes: &[u8], expected: BadHead) {
            assert_eq!(parse(bytes, 64).map(drop), Err(expected));
        }
        check(b"\x16\x03\x01\x02\x00", BadHead::Malformed);
        check(b"GET / HTTP/1.1\r\nbad header\r\n\r\n", BadHead::Malformed);
        check(b"GET / HTTP/3.0\r\n\r\n", BadHead::Malformed);
        check(b"GET /?a=\"b\" HTTP/1.1\r\n\r\n", BadHead::Target);
        check(b"GET /?a=b#c HTTP/1.1\r\n\r\n", BadHead::Target);
        for byte in [b"\xe9", b"\x01", b"\x7f"] {
            let head = [b"GET /caf", byte.as_slice(), b" HTTP/1.1\r\n\r\n"].concat();
            check(&head, BadHead::Target);
        }
        check(b"HELO example\r\n\r\n", BadHead::Malformed);
        check(b"GET / HTTP/1.1\r\n\xe9: x\r\n\r\n", BadHead::Malformed);
        check(
            &[b"GET /", [b'a'; 70].as_slice()].concat(),
            BadHead::TooLarge,
        );
        let long = [b"GET /", [b'a'; 70].as_slice(), b" HTTP/1.1\r\n\r\n"].concat();
        check(&long, BadHead::TooLarge);
        // In one piece or cut at the limit: what is wrong beyond it makes no difference.
        let garbage = [b"GET /", [b'a'; 70].as_slice(), b"\0"].concat();
        check(&garbage, BadHead::TooLarge);
        check(&garbage[..64], BadHead::TooLarge);
    }

    #[test]
    fn too_many_fields() {
        let fields = "a: b\r\n".repeat(HEADERS_MAX + 1);
        let head = format!("GET / HTTP/1.1\r\n{fields}\r\n");
        assert_eq!(
            parse(head.as_bytes(), 16_384).map(drop),
            Err(BadHead::TooLarge)
        );
    }

    #[test]
    fn an_answer() {
        let answer = Answer::unavailable("shutting down");
        let text = String::from_utf8(answer.to_bytes(true, "now")).unwrap();
        assert!(
            text.starts_with("HTTP/1.1 503 Service Unavailable\r\nDate: now\r\n"),
            "{text}"
        );
        assert!(
            text.contains("\r\nConnection: close\r\nRetry-After: 1\r\n\r\n"),
            "{text}"
        );
        assert!(text.ends_with("{\"error\":\"shutting down\"}\n"), "{text}");
        assert!(answer.to_bytes(false, "now").ends_with(b"\r\n\r\n"));
    }
}
