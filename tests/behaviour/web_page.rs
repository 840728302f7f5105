//! Goal: a browser gets the page and the client as they are in the tree, the scripts without lines
//! of comments, with the policy that keeps it to them, and the paths are nobody else's otherwise: no
//! upgrade, no other file, none at all with `--web off`. That the page is answered throughout a
//! shutdown is for `never_a_reset`.
//! Method: plain requests; each body is compared with its file.

use crate::support::PATIENCE;
use crate::support::client::Client;
use crate::support::http::{self, exchange, get, request, upgrade};
use crate::support::server::Server;
use crate::support::stream::{End, Stream};

/// Path, media type, and the file itself.
const FILES: &[(&str, &str, &str)] = &[
    ("/", "text/html", include_str!("../../src/web/index.html")),
    (
        "/page.css",
        "text/css",
        include_str!("../../src/web/page.css"),
    ),
    (
        "/page.js",
        "text/javascript",
        include_str!("../../src/web/page.js"),
    ),
    (
        "/sundown.js",
        "text/javascript",
        include_str!("../../src/web/sundown.js"),
    ),
    (
        "/favicon.svg",
        "image/svg+xml",
        include_str!("../../src/web/favicon.svg"),
    ),
];

/// What is served of a file.
fn served(path: &str, text: &str) -> String {
    let is_comment = |line: &&str| {
        let code = line.trim_start();
        ["//", "/*", "*"]
            .iter()
            .any(|begin| code.starts_with(begin))
    };
    let is_script = path.contains(".js");
    let lines = text.split_inclusive('\n');
    lines
        .filter(|line| !is_script || !is_comment(line))
        .collect()
}

#[test]
fn the_files_are_served_under_a_strict_policy() {
    let server = Server::start("memory:", &[]);
    for (path, media_type, text) in FILES {
        let text = served(path, text);
        for path in [(*path).to_owned(), format!("{path}?session=ann")] {
            let response = get(server.address, &path);
            assert_eq!(response.status, 200, "{path}");
            assert_eq!(response.end, Some(End::Eof), "{path}");
            assert_eq!(response.body, text, "{path}");
            let field = |name| response.header(name).unwrap_or_default();
            assert!(field("Content-Type").starts_with(media_type), "{path}");
            assert_eq!(field("Content-Length"), text.len().to_string());
            assert_eq!(
                field("Content-Security-Policy"),
                "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; \
                 img-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
            );
            assert_eq!(field("X-Content-Type-Options"), "nosniff");
            assert_eq!(field("Referrer-Policy"), "no-referrer");
            assert_eq!(field("Cache-Control"), "no-store");
            let shared = response.header("Access-Control-Allow-Origin");
            let is_client = path.starts_with("/sundown.js");
            assert_eq!(shared, is_client.then_some("*"), "{path}");
        }
    }
}

#[test]
fn head_has_no_body_and_other_methods_are_405() {
    let server = Server::start("memory:", &[]);
    for (path, _, text) in FILES {
        let text = served(path, text);
        let head = request(server.address, "HEAD", path);
        assert_eq!((head.status, head.body.as_str()), (200, ""), "{path}");
        assert_eq!(
            head.header("Content-Length"),
            Some(text.len().to_string().as_str())
        );
        for method in ["POST", "PUT", "DELETE", "OPTIONS"] {
            let response = request(server.address, method, path);
            assert_eq!(response.status, 405, "{method} {path}");
            assert_eq!(response.header("Allow"), Some("GET, HEAD"));
        }
    }
}

#[test]
fn nothing_else_of_the_tree_is_served() {
    let server = Server::start("memory:", &[]);
    for path in [
        "/index.html",
        "/mod.rs",
        "/sundown.d.ts",
        "/package.json",
        "//",
        "/page.js/",
        "/PAGE.JS",
        "/../page.js",
        "/%70age.js",
        "/web/page.js",
        "/favicon.ico",
    ] {
        assert_eq!(get(server.address, path).status, 404, "{path}");
    }
    for (path, ..) in FILES {
        assert_eq!(
            get(server.admin, path).status,
            404,
            "not for operators: {path}"
        );
    }
}

#[test]
fn an_upgrade_is_the_applications() {
    let chat = Server::start("memory:", &[]);
    assert_eq!(
        exchange(chat.address, upgrade("/", &[]).as_bytes()).status,
        404
    );
    let echo = Server::start("memory:", &["--app", "echo"]);
    assert_eq!(get(echo.address, "/").status, 200);
    assert!(Client::dial(echo.address, &upgrade("/", &[])).is_ok());
}

#[test]
fn off_is_off() {
    let server = Server::start("memory:", &["--web", "off"]);
    for (path, ..) in FILES {
        assert_eq!(get(server.address, path).status, 404, "{path}");
        assert_eq!(request(server.address, "POST", path).status, 404, "{path}");
    }
    let echo = Server::start("memory:", &["--web", "off", "--app", "echo"]);
    assert_eq!(
        get(echo.address, "/").status,
        426,
        "an endpoint like every other path"
    );
}

/// More than `--max-outbound-bytes`, to a peer that reads it later.
#[test]
fn a_slow_reader_gets_all_of_it() {
    let server = Server::start("memory:", &["--max-outbound-bytes", "1024"]);
    let mut stream = Stream::connect(server.address);
    stream.shrink_window();
    stream.queue(b"GET /sundown.js HTTP/1.1\r\nHost: x\r\n\r\n");
    stream.flush();
    server.turns();
    let response = http::answer(&mut stream, PATIENCE).expect("an answer");
    assert_eq!(response.end, Some(End::Eof));
    let (path, _, text) = FILES
        .iter()
        .find(|(path, ..)| *path == "/sundown.js")
        .expect("it is served");
    assert_eq!(response.body, served(path, text));
}
