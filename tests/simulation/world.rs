//! One run: nodes, clients, and what goes wrong, until nothing does; then everything must come to
//! rest, with every message counted once, and every node must leave in good order.

use std::time::Duration;

use sundown::core::Core;
use sundown::engine::shutdown::Trigger;

use super::client::Client;
use super::common::{Common, Event};
use super::network::Side;
use super::node::{Node, Process, Turned};
use super::options::{Fault, Repair};
use super::spill::File;
use super::store::Link;
use super::trace::{Seen, Trace};

/// How long the world may take to come to rest once nothing goes wrong any more.
const REST_WITHIN: Duration = Duration::from_secs(400);
/// So long nothing must be on its way any more.
const SETTLES: Duration = Duration::from_secs(2);
/// Sanity: a run has fewer turns.
const TURNS_MAX: u64 = 2_000_000;

/// All that there is.
pub(crate) struct World {
    common: Common,
    nodes: Vec<Node>,
    clients: Vec<Client>,
    turns: u64,
}

impl World {
    pub(crate) fn new(seed: u64, trace: Trace) -> Self {
        let mut common = Common::new(seed, trace);
        let began = common.began;
        common.truth.links = vec![0; common.options.nodes];
        common.truth.files = (0..common.options.nodes).map(|_| File::default()).collect();
        let nodes = (0..common.options.nodes).map(|_| Node::default()).collect();
        let mut clients = Vec::new();
        for client in 0..common.options.clients.len() {
            let at = began + common.dice.within_ms(2000);
            clients.push(Client::new(&common, client, at));
            common.plan(at, Event::Act { client });
        }
        for (at, fault) in common.options.faults.clone() {
            common.plan(began + at, Event::Fault(fault));
        }
        common.plan(began + common.options.faults_end, Event::FaultsEnd);
        for node in 0..common.options.nodes {
            common.plan(began, Event::Restart { node });
        }
        Self {
            common,
            nodes,
            clients,
            turns: 0,
        }
    }

    /// The same for two runs that went the same way.
    pub(crate) fn digest(&self) -> u64 {
        self.common.trace.digest()
    }

    pub(crate) fn describe(&self) -> String {
        format!("{:#?}", self.common.options)
    }

    /// Plays it to its end; answers what it has seen.
    pub(crate) fn play(&mut self) -> Seen {
        while !self.common.is_calm {
            self.step(Duration::MAX);
        }
        self.come_to_rest();
        self.replay_what_was_refused();
        self.lose_records();
        self.common.say(|| "at rest: everyone leaves".to_owned());
        self.common.is_ending = true;
        for node in 0..self.nodes.len() {
            self.signal(node, Trigger::Sigterm);
        }
        let end = self.common.elapsed() + self.common.options.config.shutdown.timeout;
        let left = end + Duration::from_secs(30);
        while self.nodes.iter().any(|node| node.process.is_some()) {
            self.step(left);
        }
        while self.clients.iter().any(Client::is_connected) {
            self.step(left);
        }
        for client in &self.clients {
            client.check_end(&self.common);
        }
        self.common.seen.clone()
    }

    fn is_at_rest(&self) -> bool {
        let up = |node: &Node| node.process.as_ref().is_some_and(Process::is_at_rest);
        // What was refused waits for a replay, and the next one comes with the next link.
        let is_replayed = |file: &File| file.rows.keys().all(|row| file.refused.contains(row));
        self.common.truth.files.iter().all(is_replayed)
            && self.nodes.iter().all(up)
            && self.clients.iter().all(|c| c.is_at_rest(&self.common))
    }

    /// Rows that stayed in a file, since the store had refused them, are replayed when a link comes
    /// up again.
    fn replay_what_was_refused(&mut self) {
        if self
            .common
            .truth
            .files
            .iter()
            .all(|file| file.rows.is_empty())
        {
            return;
        }
        self.common
            .say(|| "at rest: the links break, for a replay".to_owned());
        self.common.seen.note("replayed once more");
        for file in &mut self.common.truth.files {
            file.refused.clear();
        }
        for number in 0..self.nodes.len() {
            if let Some(process) = &mut self.nodes[number].process {
                process.parts.link.break_off(&mut self.common);
                process.parts.link.go_down(&mut self.common);
                self.wake(number);
            }
        }
        self.come_to_rest();
    }

    /// The store loses all its records while everyone is connected: they come back, by themselves
    /// or in the shutdown that follows.
    fn lose_records(&mut self) {
        let options = &self.common.options;
        let Some(repair) = options.records_lost else {
            return;
        };
        let may_come_back = match repair {
            Repair::Renewal => options.config.session_ttl < Duration::from_secs(60),
            Repair::Shutdown => options.store_is_local || options.may_save_in_persisting(),
        };
        if !may_come_back {
            return;
        }
        // What the store has confirmed in the meantime would be taken for what it holds, and a claim
        // that is on its way would find nothing.
        let (settled, end) = (
            self.common.elapsed() + SETTLES,
            self.common.elapsed() + REST_WITHIN,
        );
        while self.common.elapsed() < settled || !self.is_idle() {
            self.step(end);
        }
        // Who has lost its session to another connection, unaware, could only restore its own count.
        let mut clients = self.clients.iter();
        if !clients.all(|client| self.is_served_by_owner(client)) {
            return;
        }
        self.common
            .say(|| format!("at rest: all records are lost, until {repair:?}"));
        self.common.truth.lose_records();
        let processes = self
            .nodes
            .iter_mut()
            .filter_map(|node| node.process.as_mut());
        processes.for_each(Process::records_lost);
        match repair {
            Repair::Renewal => {
                self.common.seen.note("records lost, and renewed");
                let end = self.common.elapsed() + REST_WITHIN;
                while !self.is_stored() {
                    self.step(end);
                }
                self.come_to_rest();
            }
            Repair::Shutdown => self.common.seen.note("records lost before a shutdown"),
        }
    }

    fn is_idle(&self) -> bool {
        let mut processes = self.nodes.iter().filter_map(|node| node.process.as_ref());
        processes.all(|process| process.parts.link.is_idle()) && !self.common.has_late_requests()
    }

    fn is_stored(&self) -> bool {
        let mut processes = self.nodes.iter().filter_map(|node| node.process.as_ref());
        processes.all(|process| process.is_stored(&self.common))
    }

    fn is_served_by_owner(&self, client: &Client) -> bool {
        client.has_one_connection()
            && client
                .served_by(&self.common)
                .is_none_or(|(session, node)| {
                    let process = self.nodes[node].process.as_ref();
                    let owner = self.common.truth.owner(session);
                    process.is_some_and(|process| owner == Some((node, process.life)))
                })
    }

    fn come_to_rest(&mut self) {
        let end = self.common.elapsed() + REST_WITHIN;
        while !self.is_at_rest() {
            self.step(end);
        }
    }

    /// The next moment in which something happens.
    fn step(&mut self, until: Duration) {
        let turns = self.nodes.iter().filter_map(|node| node.wake_at);
        let at = turns
            .chain(self.common.next_at())
            .min()
            .expect("clients always act");
        self.common.set_now(at);
        assert!(self.common.elapsed() <= until, "no rest:\n{}", self.state());
        while let Some(event) = self.common.next_event() {
            self.handle(event);
        }
        for number in 0..self.nodes.len() {
            if self.nodes[number]
                .wake_at
                .is_some_and(|wake_at| wake_at <= at)
            {
                self.turn(number);
            }
        }
    }

    fn state(&self) -> String {
        let processes = self.nodes.iter().filter_map(|node| node.process.as_ref());
        let clients = self
            .clients
            .iter()
            .filter(|client| !client.is_at_rest(&self.common));
        let lines: Vec<String> = processes
            .map(Process::describe)
            .chain(clients.map(Client::describe))
            .collect();
        lines.join("\n")
    }

    fn turn(&mut self, number: usize) {
        self.turns += 1;
        assert!(self.turns < TURNS_MAX, "turns without end");
        let common = &mut self.common;
        let node = &mut self.nodes[number];
        node.wake_at = None;
        let Some(process) = &mut node.process else {
            return;
        };
        let turned = process.turn(common);
        let now = common.now.instant;
        let least = common.options.turn_cost_max / 10;
        let cost = common.dice.time(least, common.options.turn_cost_max);
        node.busy_until = Some(now + cost);
        match turned {
            Turned::Again(Some(at)) => node.wake(at),
            Turned::Again(None) => {}
            Turned::Killed => {
                common.say(|| format!("node {number}: killed"));
                node.end(common, number, false);
                self.plan_restart(number);
            }
            Turned::Stopped(outcome) => {
                common.say(|| format!("node {number}: {}", outcome.report_json()));
                assert!(
                    !common.is_ending || outcome.is_safe(),
                    "at rest, and unsaved: {outcome:?}"
                );
                node.end(common, number, true);
                self.plan_restart(number);
            }
        }
    }

    fn plan_restart(&mut self, node: usize) {
        if !self.common.is_ending {
            let most = self.common.options.restart_after_max;
            let after = self.common.dice.time(Duration::ZERO, most);
            self.common.plan_after(after, Event::Restart { node });
        }
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::Connect { sock } => self.connect(sock),
            Event::Arrived { sock, side } => {
                if self.common.arrive(sock, side) {
                    self.tell(sock, side, true);
                }
            }
            Event::Reset { sock, side } => {
                self.common.handle_reset(sock, side);
                self.tell(sock, side, true);
            }
            Event::Room { sock, side } => self.tell(sock, side, false),
            Event::Act { client } => self.clients[client].act(&mut self.common),
            Event::Read { client, sock } => {
                self.clients[client].handle_read(&mut self.common, sock);
            }
            Event::StoreWork { node } => {
                if let Some(process) = &mut self.nodes[node].process {
                    process.parts.link.work(&mut self.common);
                }
            }
            Event::Poke { node } => self.wake(node),
            Event::CarriedOut { node, request } => self.common.carry_out_late(node, request),
            Event::LinkDown { node, link } => {
                if let Some(process) = &mut self.nodes[node].process
                    && self.common.truth.links[node] == link
                {
                    process.parts.link.go_down(&mut self.common);
                    self.wake(node);
                }
            }
            Event::LinkUp { node, link } => {
                if let Some(process) = &mut self.nodes[node].process
                    && self.common.truth.links[node] == link
                {
                    process.parts.link.come_up(&mut self.common);
                    self.wake(node);
                }
            }
            Event::News {
                node,
                link,
                session,
                epoch,
            } => {
                self.tell_link(node, link, |link| link.hear(session, epoch));
            }
            Event::Mail {
                node,
                link,
                session,
                sent,
            } => {
                self.tell_link(node, link, |link| link.hear_of_mail(session, sent));
            }
            Event::Fault(fault) => self.go_wrong(fault),
            Event::Signal { node, life } => self.signal_again(node, life),
            Event::Crash { node, life } => self.crash(node, Some(life)),
            Event::Restart { node } => self.restart(node),
            Event::FaultsEnd => self.calm_down(),
        }
    }

    /// News for a node that still has this link.
    fn tell_link(&mut self, node: usize, link: u32, tell: impl FnOnce(&mut Link)) {
        if let Some(process) = &mut self.nodes[node].process
            && self.common.truth.links[node] == link
        {
            tell(&mut process.parts.link);
            self.wake(node);
        }
    }

    fn connect(&mut self, sock: u32) {
        let Some(node) = self.common.network.get(sock).map(|sock| sock.node) else {
            return;
        };
        let Some(process) = &mut self.nodes[node].process else {
            self.common.seen.note("connection refused");
            return self.common.close_sock(sock, Side::Server, false);
        };
        if process.handle_connect(sock) {
            self.wake(node);
        } else {
            self.common.seen.note("connection not let in");
        }
    }

    /// A socket is readable, or writable.
    fn tell(&mut self, sock: u32, side: Side, readable: bool) {
        let Some((client, node)) = self.common.network.get(sock).map(|s| (s.client, s.node)) else {
            return;
        };
        match side {
            Side::Client => self.clients[client].handle_ready(&mut self.common, sock),
            Side::Server => {
                if let Some(process) = &mut self.nodes[node].process {
                    process.handle_ready(sock, readable);
                    self.wake(node);
                }
            }
        }
    }

    fn wake(&mut self, node: usize) {
        let late = self.common.options.turn_cost_max / 4;
        let at = self.common.now.instant + self.common.dice.time(Duration::ZERO, late);
        self.nodes[node].wake(at);
    }

    fn restart(&mut self, node: usize) {
        if self.nodes[node].process.is_some() || self.common.is_ending {
            return;
        }
        self.nodes[node].lives += 1;
        let life = self.nodes[node].lives;
        self.common
            .say(|| format!("node {node}: life {life} begins"));
        let process = Process::new(&mut self.common, node, life);
        self.nodes[node].process = Some(process);
        self.nodes[node].busy_until = None;
        self.wake(node);
    }

    fn go_wrong(&mut self, fault: Fault) {
        let node = self.common.dice.among(0, self.nodes.len() - 1);
        self.common
            .say(|| format!("fault: {fault:?} at node {node}"));
        match fault {
            Fault::Signal => {
                let triggers = [Trigger::Sigterm, Trigger::Sigint, Trigger::Handle];
                let trigger = self.common.dice.pick(&triggers);
                self.signal(node, trigger);
                self.plan_more(node);
            }
            Fault::Crash => self.crash(node, None),
            Fault::Freeze => self.freeze(node),
            Fault::LoseLink => {
                let Some(process) = &mut self.nodes[node].process else {
                    return;
                };
                if process.parts.link.is_down() || self.common.options.store_is_local {
                    return;
                }
                self.common.seen.note("link to the store lost");
                process.parts.link.break_off(&mut self.common);
                let silence = self.common.options.silence_max;
                let after = self.common.dice.time(Duration::ZERO, silence);
                let link = self.common.truth.links[node];
                self.common
                    .plan_after(after, Event::LinkDown { node, link });
            }
            Fault::RefuseSessions => {
                let longest = Duration::from_millis(self.common.dice.pick(&[300, 3000, 25_000]));
                self.refuse_sessions(longest / 2, longest);
            }
            Fault::FreezeStore => {
                self.common.seen.note("store frozen");
                let longest = self.common.dice.pick(&[300, 3000, 25_000]);
                let until = self.common.now.instant + self.common.dice.within_ms(longest);
                self.common.truth.frozen_until = Some(until);
            }
        }
    }

    fn refuse_sessions(&mut self, least: Duration, most: Duration) {
        let until = self.common.now.instant + self.common.dice.time(least, most);
        self.common.truth.refuse_until(until);
    }

    /// More signals, or a kill in the middle of the shutdown.
    fn plan_more(&mut self, node: usize) {
        let life = self.nodes[node].lives;
        let within = self.common.options.config.shutdown.timeout;
        if self.common.dice.chance(self.common.options.extra_signal) {
            let after = self.common.dice.time(Duration::ZERO, within / 2);
            self.common.plan_after(after, Event::Signal { node, life });
        }
        let refuses = self.common.options.refuses_in_shutdown;
        if self.common.dice.chance(refuses) {
            // Into the next life: what was spilled is refused at its replay, too.
            self.refuse_sessions(within, 2 * within);
        }
        if self.common.dice.chance(0.15) {
            let after = self.common.dice.time(Duration::ZERO, within);
            self.common.plan_after(after, Event::Crash { node, life });
        }
    }

    fn signal(&mut self, node: usize, trigger: Trigger) {
        if let Some(process) = &mut self.nodes[node].process {
            self.common.seen.note(match trigger {
                Trigger::Sigterm => "SIGTERM",
                Trigger::Sigint => "SIGINT",
                Trigger::Sighup => "SIGHUP",
                Trigger::Handle => "handle",
            });
            process.parts.signals.push(trigger);
            self.wake(node);
        }
    }

    fn signal_again(&mut self, node: usize, life: u32) {
        let same = self.nodes[node]
            .process
            .as_ref()
            .is_some_and(|p| p.life == life);
        if same && !self.common.is_calm {
            self.signal(node, Trigger::Sigterm);
            self.plan_more(node);
        }
    }

    fn crash(&mut self, node: usize, of_life: Option<u32>) {
        let calm = self.common.is_calm;
        let Some(process) = &mut self.nodes[node].process else {
            return;
        };
        if calm || of_life.is_some_and(|life| process.life != life) {
            return;
        }
        let leaving = process.is_leaving();
        self.common.seen.note(if leaving {
            "crash in a shutdown"
        } else {
            "crash"
        });
        process.dies_after = Some(self.common.dice.among(0, Core::STEPS));
        self.wake(node);
    }

    fn freeze(&mut self, node: usize) {
        let Some(process) = &self.nodes[node].process else {
            return;
        };
        // What gets no processor cannot be in time.
        if process.is_leaving() {
            return;
        }
        self.common.seen.note("node frozen");
        let until = self.common.now.instant + self.common.dice.within_ms(8000);
        self.nodes[node].frozen_until = Some(until);
        self.nodes[node].wake_at = None;
        self.nodes[node].wake(until);
    }

    /// Nothing goes wrong any more.
    fn calm_down(&mut self) {
        self.common.say(|| "nothing goes wrong any more".to_owned());
        self.common.is_calm = true;
        self.common.truth.frozen_until = None;
        self.common.truth.refusing_until = None;
        for node in 0..self.nodes.len() {
            self.nodes[node].frozen_until = None;
            self.wake(node);
            let link = self.common.truth.links[node];
            self.common
                .plan_after(Duration::ZERO, Event::StoreWork { node });
            let is_dead = self.nodes[node]
                .process
                .as_ref()
                .is_some_and(|p| p.parts.link.is_dead());
            if is_dead {
                self.common
                    .plan_after(Duration::ZERO, Event::LinkDown { node, link });
            }
            let soon = Duration::from_millis(20);
            self.common.plan_after(soon, Event::LinkUp { node, link });
        }
        for client in &mut self.clients {
            client.reform(&mut self.common);
        }
    }
}
