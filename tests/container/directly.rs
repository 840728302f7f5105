//! The same crowd from one process to the next, without containers, and without a proxy whose time
//! would be in the figures.

use super::fleet::Fleet;
use super::noticed::{assert_farewells, table};
use super::promoting::{Manners, ceaseless};
use crate::files::allow_files;
use crate::support::server::Server;
use crate::support::store::Store;

#[test]
fn a_thousand_clients_go_from_one_process_to_the_next() {
    allow_files(4_000);
    for manners in [Manners::Ignore, Manners::Wait, Manners::Answer] {
        let store = Store::redis();
        let mut blue = Server::start(&store.url(), &[]);
        let mut green = Server::start(&store.url(), &[]);
        let fleet = Fleet::gather(&[blue.address], ceaseless(1_000, manners));
        fleet.flow(3_000);
        fleet.redirect(&[green.address]);
        blue.terminate();
        fleet.until_hellos(2_000);
        let report = blue.exits_with(0);
        assert_eq!((report.byes, report.cut), (1_000, 0), "{report:?}");
        fleet.flow(1_000);
        let accounts = fleet.finish();
        for account in &accounts {
            account.ledger.assert_clean();
        }
        println!("{manners:?}:\n\n{}", table(&accounts, 1));
        assert_farewells(&accounts, 1);
        green.terminate();
        green.exits_with(0);
    }
}
