//! Goal: `--store` takes a whole Redis URL, and the password in it is printed nowhere. Each part of a
//! URL by itself is for `tests/redis_store`.
//! Method: a redis-server that demands a login; a session written through one server is there in the
//! next, and a database of another number does not have it.

use crate::support::client::Client;
use crate::support::redis::Redis;
use crate::support::server::Server;

#[test]
fn a_socket_a_login_and_a_database() {
    let users = "--unixsocket redis.sock --user default off --user bob on >secret ~* &* +@all";
    let redis = Redis::with(&users.split(' ').collect::<Vec<_>>());
    let path = redis.dir().join("redis.sock").display().to_string();
    let url = |db| format!("redis+unix://{path}?user=bob&pass=secret&db={db}");
    for (db, before) in [(3, 0), (3, 1), (4, 0)] {
        let mut server = Server::start(&url(db), &[]);
        let (mut client, hello) = Client::v1(&server, "named");
        assert_eq!(hello.count, before);
        assert_eq!(client.say("one"), before + 1);
        client.leave();
        server.stop();
        for output in [&server.process.stdout, server.log()] {
            let all = output.all().concat();
            assert!(!all.contains("secret"), "{all}");
        }
    }
}
