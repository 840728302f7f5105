//! The page of the server's own, and the client that it is made of: the files of this directory, as
//! they were when the binary was built, the scripts without their comments. It owns their paths, their
//! media types and the header fields that keep a browser from doing more than they need. It must never
//! read a file, and never answer a path that is not in its table.

use std::borrow::Cow;

use crate::net::http::Answer;

struct File {
    path: &'static str,
    media_type: &'static str,
    text: &'static str,
}

/// A script's text without the lines that have nothing but a comment: a quarter of the client.
macro_rules! script {
    ($file:literal) => {{
        const FILE: &[u8] = include_bytes!($file);
        const LEN: usize = without_comments(FILE, &mut [0; FILE.len()]);
        const CODE: [u8; LEN] = {
            let mut code = [0; LEN];
            without_comments(FILE, &mut code);
            code
        };
        match str::from_utf8(&CODE) {
            Ok(text) => text,
            Err(_) => panic!("whole lines of a text are a text"),
        }
    }};
}

/// Copies the lines of `script` that do not begin with `//`, `/*` or `*` to `code`, which has room;
/// how many bytes these are.
const fn without_comments(script: &[u8], code: &mut [u8]) -> usize {
    let (mut len, mut at) = (0, 0);
    while at < script.len() {
        let mut begin = at;
        while script[begin] == b' ' {
            begin += 1;
        }
        let is_comment = script[begin] == b'*'
            || script[begin] == b'/' && matches!(script[begin + 1], b'/' | b'*');
        loop {
            let byte = script[at];
            at += 1;
            if !is_comment {
                code[len] = byte;
                len += 1;
            }
            if byte == b'\n' {
                break;
            }
        }
    }
    len
}

/// The client, for pages of others.
const CLIENT: &str = "/sundown.js";

const FILES: &[File] = &[
    File {
        path: "/",
        media_type: "text/html; charset=utf-8",
        text: include_str!("index.html"),
    },
    File {
        path: "/page.css",
        media_type: "text/css; charset=utf-8",
        text: include_str!("page.css"),
    },
    File {
        path: "/page.js",
        media_type: "text/javascript; charset=utf-8",
        text: script!("page.js"),
    },
    File {
        path: CLIENT,
        media_type: "text/javascript; charset=utf-8",
        text: script!("sundown.js"),
    },
    File {
        path: "/favicon.svg",
        media_type: "image/svg+xml",
        text: include_str!("favicon.svg"),
    },
];

macro_rules! policy {
    () => {
        "Content-Security-Policy: default-src 'none'; script-src 'self'; style-src 'self'; \
         connect-src 'self'; img-src 'self'; base-uri 'none'; form-action 'none'; \
         frame-ancestors 'none'\r\nX-Content-Type-Options: nosniff\r\n\
         Referrer-Policy: no-referrer\r\n"
    };
}

/// Nothing but these files and a WebSocket to this server: no inline script or style, no other
/// host, no frame around it. (Content Security Policy Level 3; `'self'` includes `ws:` and `wss:`.)
const FIELDS: &str = policy!();

/// Pages of any other origin may load the client as a module: it is public code, and says nothing
/// about whoever asks (Fetch Standard, CORS protocol).
const CLIENT_FIELDS: &str = concat!(policy!(), "Access-Control-Allow-Origin: *\r\n");

/// What docs/hostile.md has for a peer that asks for a file and reads nothing.
const FILE_BYTES_MAX: usize = 40 << 10;
const _: () = {
    let mut at = 0;
    while at < FILES.len() {
        assert!(FILES[at].text.len() <= FILE_BYTES_MAX);
        at += 1;
    }
};

/// Where the page connects, as it stands in its file.
const SERVICE: &str = "data-path=\"/ws/chat/\"";

/// What answers with the files; the page connects to `service`, which is a path without quotes.
pub(crate) fn answering(service: &str) -> impl Fn(&str) -> Option<Answer> + Send + use<> {
    let service = format!("data-path=\"{}\"", service.replace('&', "&amp;"));
    move |path| {
        let mut answer = answer(path)?;
        if path == "/" {
            answer.body = answer.body.replace(SERVICE, &service);
        }
        Some(answer)
    }
}

/// The file of that path, if there is one.
fn answer(path: &str) -> Option<Answer> {
    let file = FILES.iter().find(|file| file.path == path)?;
    Some(Answer {
        status: 200,
        fields: Cow::Borrowed(if path == CLIENT {
            CLIENT_FIELDS
        } else {
            FIELDS
        }),
        media_type: file.media_type,
        body: file.text.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a file refers to: `src="…"`, `href="…"`, `from './…'`, `url(…)`.
    fn references(text: &str) -> Vec<&str> {
        [
            ("src=\"", '"'),
            ("href=\"", '"'),
            ("from '", '\''),
            ("url(", ')'),
        ]
        .iter()
        .flat_map(|(before, after)| {
            let ends = text.split(before).skip(1);
            ends.filter_map(|rest| rest.split(*after).next())
        })
        .collect()
    }

    #[test]
    fn every_reference_is_to_another_of_the_files() {
        let mut found = 0;
        for File { path, text, .. } in FILES {
            for reference in references(text).iter().filter(|to| !to.starts_with('#')) {
                let name = reference.trim_start_matches("./");
                assert!(answer(&format!("/{name}")).is_some(), "{path}: {reference}");
                found += 1;
            }
        }
        assert_eq!(
            found, 4,
            "style, script, icon, and the client that the script imports"
        );
    }

    #[test]
    fn the_page_connects_where_the_service_is() {
        let page = |service: &str| answering(service)("/").unwrap().body;
        assert!(page("/ws/chat/").contains(SERVICE));
        assert!(page("/a&b/").contains("data-path=\"/a&amp;b/\""));
        assert_eq!(answering("/a/")("/page.js"), answer("/page.js"));
    }

    #[test]
    fn nothing_is_in_a_file_that_the_policy_forbids() {
        for File { path, text, .. } in FILES {
            for forbidden in [
                "<style",
                " style=",
                "<script>",
                " onclick",
                "innerHTML",
                "eval(",
            ] {
                assert!(!text.contains(forbidden), "{path}: {forbidden}");
            }
        }
    }
}
