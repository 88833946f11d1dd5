//! A world: clients, a gateway and a chain, and what happens to them, step by step.

mod calm;
mod crossing;
mod post;
mod weather;

use std::collections::BTreeSet;

use bitcoin::{OutPoint, Txid};
use farebox_channel::gateway::{Cause, Channel};

use crate::books::Books;
use crate::chain::SharedChain;
use crate::client::Client;
use crate::coverage::Coverage;
use crate::disk::{Records, Written};
use crate::gateway::{Driven, House};
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
        let count = usize::try_from(rng.within(3..=6)).unwrap();
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
            now: BEGIN,
            broken: vec![],
        };
        Self {
            scene,
            wall,
            house,
            clients,
            lawful: Lawful::default(),
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
            84 if self.scene.rng.one_in(3) => self.hours().await,
            85 if self.scene.rng.one_in(2) => self.reorg(),
            86 if self.scene.rng.one_in(2) => self.evict(),
            87 => self.move_fees(),
            88 if self.scene.rng.one_in(3) => self.lose_node(),
            89..=91 => self.plan_mishap(),
            92 => self.plan_client_crash(),
            93 | 94 => self.resume().await,
            95..=97 => self.lie(),
            98 => self.copy_disk(),
            99 if self.has_losses => self.lose_disk(),
            _ => {}
        }
        self.mend();
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
        if matches!(self.house.look_around().await, Driven::Died) {
            self.scene.mark("gateway killed");
        }
    }

    /// Checks every law.
    fn check(&mut self) -> Result<(), String> {
        let mut plate = self.house.disk.plate();
        let written = std::mem::take(&mut plate.written);
        let events = std::mem::take(&mut plate.events);
        let records = plate.records.channels.clone();
        drop(plate);
        for event in events {
            self.scene.mark(&event);
        }
        for written in &written {
            self.note_written(written);
            let chain = self.scene.chain.look();
            laws::of_written(written, &chain, &self.house.gateway.keyring)?;
        }
        let truth = self.scene.books.open();
        let chain = self.scene.chain.look();
        let broken = truth.broken.iter().chain(&self.scene.broken).chain(&chain.unrelayable);
        if let Some(broken) = broken.into_iter().next() {
            return Err(broken.clone());
        }
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

    /// Notes what a commit shows to have happened.
    fn note_written(&mut self, Written { before, after }: &Written) {
        self.note_caught_up(before.as_ref(), after);
        let was_closing = matches!(before, Some(Channel::Closing(_) | Channel::Ended(_)));
        let before_name = before.as_ref().map(Channel::name);
        if before_name != Some(after.name()) {
            let outpoint = after.contract().outpoint;
            self.scene.log.note(format!("the gateway's record: {outpoint} is {}", after.name()));
            self.scene.coverage.note(format!("state {}", after.name()));
        }
        let Channel::Closing(closing) = after else { return };
        if !was_closing {
            self.scene.mark(match closing.cause {
                Cause::Client => "channel closed by its client",
                Cause::Exhausted => "channel exhausted",
                Cause::Expiring => "channel closed before its expiry",
                Cause::Spent => "contract spent without the gateway",
            });
        }
        if let Some(Channel::Closing(before)) = before
            && before.settlement.is_some()
            && before.settlement != closing.settlement
        {
            self.scene.mark("settlement replaced for its fee");
        }
    }

    /// A restored gateway that is shown a payment counts it as spent, so it has forgotten no more
    /// than what was signed beyond it.
    fn note_caught_up(&self, before: Option<&Channel>, after: &Channel) {
        let (Some(Channel::Open(before)), Channel::Open(now)) = (before, after) else { return };
        if !before.account.is_stale || now.account.is_stale {
            return;
        }
        let mut truth = self.scene.books.open();
        let Some(page) = truth.pages.get_mut(&after.contract().outpoint) else { return };
        let beyond = page.signed_sat.saturating_sub(now.account.payment.paid().get());
        let forgotten = page.forgotten_before_msat + beyond * 1_000;
        page.forgotten_msat = page.forgotten_msat.min(forgotten);
    }
}
