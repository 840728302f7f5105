//! Requests, by HTTP: who becomes a client, and what the others are answered.
//!
//! It performs what `net::handshake` decides, and decides nothing.

use super::EventLoop;
use crate::core::Core;
use crate::engine::io::{ConnId, Gate, Input};
use crate::net::connection::Entrance;
use crate::net::handshake::{self, Decision, Rules};
use crate::net::http::Head;

impl EventLoop {
    pub(super) fn handle_request(
        &mut self,
        core: &mut Core,
        conn: ConnId,
        head: &Head,
        body: &[u8],
    ) {
        let Some(entrance) = self.connections.entrance(conn) else {
            return;
        };
        // Here and not by a timer: an idle server is not woken, and clients cost no look.
        if entrance == Entrance::Admin {
            self.listener.look_for_file();
        }
        let ready = self.is_ready(core);
        let gate = Gate {
            ready,
            ..core.engine().gate()
        };
        let client = self.connections.client(conn, head);
        let decision = match entrance {
            Entrance::Admin => handshake::decide_admin(head, ready, &self.admin_hosts),
            Entrance::Public => {
                let rules = Rules {
                    gate,
                    allowed_origins: &self.allowed_origins,
                    paths: &self.paths,
                    subprotocols: &self.subprotocols,
                    peer: client,
                    page: &self.page,
                };
                handshake::decide(head, &rules, |request| core.admit(request))
            }
        };
        let now = core.now().instant;
        let answer = match decision {
            Decision::Upgrade(upgrade) => {
                self.count_answer(entrance, 101, true);
                self.connections.upgrade(conn, &upgrade.response, now);
                let (protocol, session) = (upgrade.protocol, upgrade.session);
                self.note_upgrade(conn, head, protocol, session.as_ref());
                let opened = Input::Opened {
                    conn,
                    protocol,
                    tells: upgrade.tells,
                    session,
                    received: upgrade.received,
                };
                return core.handle_input(opened, self);
            }
            Decision::Answer(answer) => answer,
            Decision::Metrics => self.metrics_page(core, ready),
            Decision::Broadcast => return self.broadcast_asked(core, conn, body),
        };
        let is_handshake = entrance == Entrance::Public && handshake::is_handshake(head);
        self.count_answer(entrance, answer.status, is_handshake);
        self.note_answer(conn, head, answer.status);
        self.connections
            .answer(conn, &answer, !handshake::is_head(head), now);
    }
}
