//! A world: clients, a gateway and a chain, and what happens to them, step by step.

mod calm;
mod crossing;
mod dusk;
mod notes;
mod post;
mod weather;

use std::collections::BTreeSet;

use bitcoin::{OutPoint, Txid};
use farebox_channel::gateway::Channel;

use crate::books::Books;
use crate::chain::SharedChain;
use crate::client::Client;
use crate::coverage::Coverage;
use crate::disk::Records;
use crate::gateway::{Driven, House};
use crate::laws::settling::{Docket, Weather};
use crate::laws::{self, Lawful};
use crate::lies;
use crate::life::WallClock;
use crate::rng::Rng;
use crate::scene::{Log, Scene};

/// When every world begins, in Unix seconds.
const BEGIN: u64 = 1_800_000_000;
/// The steps of a world.
const STEPS: u64 = 700;

/// Everything that there is.
#[derive(Debug)]
pub(crate) struct World {
    scene: Scene,
    wall: WallClock,
    house: House,
    clients: Vec<Client>,
    lawful: Lawful,
    docket: Docket,
    /// The settlements that were in no block at their emergency mark.
    late: BTreeSet<OutPoint>,
    /// When the least fee rate that is relayed has changed lately, and what it was before.
    floors: Vec<(u64, u64)>,
    /// Whether a refund was lately in the mempool.
    has_refunds: bool,
    noticed: BTreeSet<(OutPoint, Txid)>,
    /// Older copies of the gateway's disk.
    copies: Vec<Records>,
    /// Whether the gateway's answers are changed at times.
    has_fibs: bool,
    /// Whether disks are lost at times. Where none is, the laws are stricter.
    has_losses: bool,
    /// Whether a reorg went deeper than what counts as final.
    is_deeply_reorged: bool,
}

impl World {
    /// Makes the world of a seed.
    pub(crate) fn new(seed: u64, is_printed: bool) -> Self {
        let mut rng = Rng::new(seed);
        let wall = WallClock::new(BEGIN);
        let chain = SharedChain::new(BEGIN);
        let books = Books::default();
        let mut house = House::new(&mut rng, books.clone(), chain.clone(), wall.clone());
        house.start();
        let count = usize::try_from(rng.within(3..=7)).unwrap();
        let lifetime = rng.one_in(2).then(|| rng.pick(&[36_000, 50_000]));
        let clients = (0..count).map(|number| Client::new(number, number % 3 == 2)).collect();
        let has_fibs = rng.one_in(3);
        let has_losses = rng.one_in(2);
        let log = Log::new(is_printed);
        let scene = Scene {
            rng,
            chain,
            books,
            log,
            coverage: Coverage::default(),
            net: vec![],
            tickets: 0,
            lifetime,
            now: BEGIN,
            broken: vec![],
        };
        Self {
            scene,
            wall,
            house,
            clients,
            lawful: Lawful::default(),
            docket: Docket::default(),
            late: BTreeSet::new(),
            floors: vec![],
            has_refunds: false,
            noticed: BTreeSet::new(),
            copies: vec![Records::default()],
            has_fibs,
            has_losses,
            is_deeply_reorged: false,
        }
    }

    /// Plays the world to its end.
    pub(crate) async fn play(&mut self) -> Result<(), String> {
        for step in 0..STEPS {
            self.scene.log.step = step;
            self.step().await;
            self.check()?;
        }
        self.calm().await
    }

    /// Returns the step that was played last.
    pub(crate) const fn step_number(&self) -> u64 {
        self.scene.log.step
    }

    /// Returns the newest events.
    pub(crate) fn events(&self) -> String {
        self.scene.log.newest()
    }

    /// Returns what has happened.
    pub(crate) const fn coverage(&self) -> &Coverage {
        &self.scene.coverage
    }

    /// Lets one thing happen.
    async fn step(&mut self) {
        let pause = self.scene.rng.below(4);
        self.pass(pause);
        match self.scene.rng.below(100) {
            0..=49 => self.deliver_any().await,
            50..=70 => self.act(),
            71..=79 => self.look_around().await,
            80..=83 => self.mine(),
            84 if self.scene.rng.one_in(4) => self.hours().await,
            84 if self.scene.rng.one_in(3) => self.dusk().await,
            85 if self.scene.rng.one_in(2) => self.reorg(),
            86 if self.scene.rng.one_in(2) => self.evict(),
            87 => self.move_fees(),
            88 if self.scene.rng.one_in(3) => self.lose_node(),
            89..=91 => self.plan_mishap(),
            92 => self.plan_client_crash(),
            93 | 94 => self.resume().await,
            95..=97 => self.lie(),
            98 if self.scene.rng.one_in(3) => self.close_many().await,
            98 if self.scene.rng.one_in(2) => self.respend(),
            98 if self.scene.rng.one_in(3) => self.bring_back(),
            98 => self.copy_disk(),
            99 if self.has_losses => self.lose_disk(),
            _ => {}
        }
        self.mend();
    }

    /// Returns the later of the chain's and the own clock, in Unix seconds.
    fn clock_now(&self) -> u64 {
        self.scene.now.max(self.scene.chain.look().median_time_past())
    }

    /// Returns what the laws of settlements have to know of the node.
    fn weather(&mut self) -> Weather {
        let now = self.clock_now();
        // What the node has said of fees is good for ten seconds.
        self.floors.retain(|(at, _)| at + 10 >= now.min(self.scene.now));
        let floor = self.scene.chain.look().floor;
        let floor = self.floors.iter().map(|(_, floor)| *floor).fold(floor, u64::max);
        Weather { now, floor, has_refunds: self.has_refunds }
    }

    fn pass(&mut self, seconds: u64) {
        self.wall.pass(seconds);
        self.scene.now = self.wall.now();
    }

    /// A client does something.
    fn act(&mut self) {
        let index = self.scene.rng.index(self.clients.len());
        self.clients[index].act(&mut self.scene);
    }

    /// A liar lies.
    fn lie(&mut self) {
        let index = self.scene.rng.index(self.clients.len());
        if self.clients[index].is_liar {
            lies::tell(&mut self.clients[index], &mut self.scene);
        }
    }

    /// The watcher looks at the chain.
    async fn look_around(&mut self) {
        if !self.house.is_running() {
            return;
        }
        self.scene.log.note("the watcher looks around");
        let before = self.house.disk.plate().records.channels.clone();
        if matches!(self.house.look_around().await, Driven::Died) {
            return self.scene.mark("gateway killed");
        }
        let plate = self.house.disk.plate();
        let (is_well, mut records) = (plate.events.is_empty(), plate.records.channels.clone());
        drop(plate);
        // What is learnt of a contract at the end of a round, the next one acts on.
        let is_known = |it: &Channel| matches!(it, Channel::Closing(_)) && it.height().is_some();
        records.retain(|outpoint, _| before.get(outpoint).is_some_and(is_known));
        let weather = self.weather();
        let chain = self.scene.chain.look();
        if is_well && !chain.is_away {
            let rules = &self.house.gateway.rules;
            let kept = laws::vigil::what_is_late_is_on_its_way(&records, &chain, rules, weather);
            drop(chain);
            self.scene.broken.extend(kept.err());
        }
    }

    /// Checks every law.
    fn check(&mut self) -> Result<(), String> {
        let mut plate = self.house.disk.plate();
        let written = std::mem::take(&mut plate.written);
        let events = std::mem::take(&mut plate.events);
        let records = plate.records.channels.clone();
        drop(plate);
        let pooled = std::mem::take(&mut self.scene.chain.look().events);
        self.has_refunds = pooled.contains(&"refund beaten by a settlement")
            || self.scene.chain.look().has_refunds();
        for event in events.iter().map(String::as_str).chain(pooled) {
            self.scene.mark(event);
        }
        let weather = self.weather();
        for written in &written {
            self.note_written(written);
            let chain = self.scene.chain.look();
            laws::of_written(written, &chain, &self.house.gateway.keyring)?;
            let truth = self.scene.books.open();
            self.docket.check(written, &truth, &self.house.gateway.rules, weather)?;
        }
        let truth = self.scene.books.open();
        let chain = self.scene.chain.look();
        let broken = truth.broken.iter().chain(&self.scene.broken).chain(&chain.unrelayable);
        if let Some(broken) = broken.into_iter().next() {
            return Err(broken.clone());
        }
        let rules = &self.house.gateway.rules;
        laws::trust::no_more_is_trusted_than_may_be_lost(&records, &truth, &chain, rules)?;
        for (outpoint, page) in &truth.pages {
            let client = &self.clients[page.client];
            laws::served_is_spent(records.get(outpoint), page)?;
            laws::paid_is_signed(records.get(outpoint), page)?;
            if !client.is_liar {
                laws::signed_is_agreed(page)?;
            }
            self.lawful.the_client_can_refund(client, page)?;
            self.lawful.every_spending_is_just(page, &chain)?;
        }
        Ok(())
    }
}
