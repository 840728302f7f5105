//! Goal: with `--path` the service is under each of its paths, with or without the last slash, and
//! under no other; the start-up line, the page and the smoke test have the first. Method: the built
//! binary; upgrades, a page and a smoke test.

use crate::support::client::Client;
use crate::support::http::{get, upgrade};
use crate::support::server::{Server, run};

const PATHS: &str = "/blue/ws/,/b";

#[test]
fn the_service_is_where_it_is_said_to_be() {
    let server = Server::start("memory:", &["--path", PATHS]);
    for (path, status) in [
        ("/blue/ws/", 101),
        ("/blue/ws?session=a", 101),
        ("/b", 101),
        ("/b/", 101),
        ("/ws/chat/", 404),
        ("/ws/chat", 404),
        ("/b//", 404),
        ("/blue", 404),
        ("/", 404),
    ] {
        let answer = Client::dial(server.address, &upgrade(path, &[]));
        let got = answer.map_or_else(|refusal| refusal.status, |_| 101);
        assert_eq!(got, status, "{path}");
    }
    let lines = server.process.stdout.all();
    let first = format!("listening on ws://{}/blue/ws/", server.address);
    assert!(lines.contains(&first), "{lines:?}");
    let page = format!("page on http://{}/", server.address);
    assert!(lines.contains(&page), "{lines:?}");
    let page = get(server.address, "/").body;
    assert!(page.contains("data-path=\"/blue/ws/\""), "{page}");
    let listen = server.address.to_string();
    let smoke = run(&["smoke", "--path", PATHS, "--listen", &listen]);
    assert!(smoke.status.success(), "{smoke:?}");
}

#[test]
fn a_path_may_be_the_root_beside_the_page() {
    let server = Server::start("memory:", &["--path", "/"]);
    assert_eq!(get(server.address, "/").status, 200);
    let mut client = Client::plain(&server, "/");
    assert_eq!(client.say("one"), 1);
}
