//! A world: clients, a gateway and a chain, and what happens to them, step by step.

use std::collections::BTreeSet;

use bitcoin::transaction::Version;
use bitcoin::{OutPoint, Txid};
use farebox_channel::gateway::{Cause, Channel};
use farebox_channel::message::PayRequest;
use farebox_channel::wire::Field;

use crate::books::{Books, Fate, Visit};
use crate::chain::SharedChain;
use crate::client::Client;
use crate::coverage::Coverage;
use crate::disk::{Mishap, Plan, When, Written};
use crate::gateway::{Driven, House, PAID};
use crate::laws::{self, Lawful};
use crate::lies;
use crate::life::WallClock;
use crate::net::{Answer, Letter, Parcel};
use crate::rng::Rng;
use crate::scene::{Log, Scene};

/// When every world begins, in Unix seconds.
const BEGIN: u64 = 1_800_000_000;
/// The steps of a world.
const STEPS: u64 = 700;
/// The rounds of an hour after which a calm world has come to rest.
const CALM_ROUNDS: u64 = 140;

/// Everything that there is.
#[derive(Debug)]
pub(crate) struct World {
    scene: Scene,
    wall: WallClock,
    house: House,
    clients: Vec<Client>,
    lawful: Lawful,
    noticed: BTreeSet<(OutPoint, Txid)>,
    /// Whether the gateway's answers are changed at times.
    has_fibs: bool,
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
            has_fibs,
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

    /// Any letter arrives, or is lost, or arrives and will do so again.
    async fn deliver_any(&mut self) {
        if self.scene.net.is_empty() {
            return self.act();
        }
        // What waits longest arrives soon, but not always first.
        let index = self.scene.rng.index(self.scene.net.len().min(6));
        let letter = self.scene.net.remove(index);
        let kind = if matches!(letter, Letter::Request(_)) { "request" } else { "answer" };
        match self.scene.rng.below(24) {
            0 => return self.scene.mark(&format!("{kind} lost")),
            1 => {
                self.scene.mark(&format!("{kind} duplicated"));
                self.scene.net.push(letter.clone());
            }
            _ => {}
        }
        match letter {
            Letter::Request(parcel) => self.deliver(parcel).await,
            Letter::Answer { client, ticket, mut answer } => {
                let is_fib = self.has_fibs && self.scene.rng.one_in(10);
                let fib = if is_fib { lies::fib(&mut answer, &mut self.scene) } else { None };
                self.scene.log.note(format!(
                    "client {client} is answered {ticket}: {} {} {}",
                    answer.status,
                    answer.problem().unwrap_or(""),
                    fib.map_or(String::new(), |fib| format!("{fib:?}")),
                ));
                self.clients[client].receive(ticket, &answer, fib, &mut self.scene);
            }
        }
    }

    /// The gateway takes a request.
    async fn deliver(&mut self, parcel: Parcel) {
        if !self.house.is_running() {
            return self.scene.mark("request lost");
        }
        let number = self.scene.ticket();
        let visit = self.visit(&parcel);
        self.scene.log.note(format!("the gateway takes {} as visit {number}", parcel.ticket));
        self.scene.books.open().visits.insert(number, visit);
        let driven = self.house.deliver(number, &parcel).await;
        self.answered(number, &parcel, driven);
    }

    /// Rolls what the service behind does with a request.
    fn visit(&mut self, parcel: &Parcel) -> Visit {
        let field = |name: &str| parcel.fields.iter().find(|(other, _)| other == name);
        let price = parcel.path.strip_prefix(PAID).and_then(|price| price.parse().ok());
        let pay = field(PayRequest::NAME)
            .and_then(|(_, value)| PayRequest::decode(value.as_bytes()).ok());
        let fate = match self.scene.rng.below(20) {
            0 => Fate::Fail,
            1 => Fate::Gone,
            2 => Fate::Break,
            3 | 4 => Fate::Use(self.scene.rng.within(0..=price.unwrap_or(0))),
            _ => Fate::Answer,
        };
        Visit {
            channel: pay.map(|pay| pay.channel),
            price: price.unwrap_or(0),
            name: field("idempotency-key").map(|(_, name)| name.clone()),
            fate,
            is_held: self.scene.rng.one_in(8),
            has_arrived: false,
        }
    }

    /// Notes what became of a request.
    fn answered(&mut self, number: u64, parcel: &Parcel, driven: Driven<Answer>) {
        let visit = self.scene.books.open().visits[&number].clone();
        let answer = match driven {
            Driven::Held => return self.scene.mark("request held by the service"),
            Driven::Died => return self.scene.mark("gateway killed"),
            Driven::Done(answer) => answer,
        };
        self.scene.log.note(format!(
            "visit {number} is answered {} {}",
            answer.status,
            answer.problem().unwrap_or("")
        ));
        let is_taken = visit.has_arrived || (answer.status == 200 && visit.price == 0);
        if let Some(lie) = parcel.lie.filter(|lie| !lie.may_be_taken() && is_taken) {
            self.scene.broken.push(format!("a lie buys nothing: {lie:?}"));
        }
        if visit.has_arrived {
            self.served(&visit, &answer);
        }
        let (client, ticket) = (parcel.client, parcel.ticket);
        self.scene.net.push(Letter::Answer { client, ticket, answer });
    }

    /// Counts what the service behind has answered.
    fn served(&mut self, visit: &Visit, answer: &Answer) {
        self.scene.coverage.note(match visit.fate {
            Fate::Answer => "served",
            Fate::Use(_) => "service used less",
            Fate::Fail => "service failed",
            Fate::Gone => "service was gone",
            Fate::Break => "service broke off",
        });
        let is_answer = answer.status == 200 && answer.is_whole;
        let (Some(channel), Some(name)) = (visit.channel, &visit.name) else { return };
        let mut truth = self.scene.books.open();
        if let Some(page) = truth.pages.get_mut(&channel).filter(|_| is_answer) {
            *page.answers.entry(name.clone()).or_default() += 1;
        }
        let is_again = |it: &Visit| it.has_arrived && it.name.as_ref() == Some(name);
        let is_again = truth.visits.values().filter(|it| is_again(it)).count() > 1;
        drop(truth);
        if is_answer && is_again {
            self.scene.mark("served again for its name");
        }
    }

    /// The service behind goes on with a request.
    async fn resume(&mut self) {
        let held = self.house.held();
        if held.is_empty() {
            return self.act();
        }
        let number = self.scene.rng.pick(&held);
        self.scene.log.note(format!("the service goes on with visit {number}"));
        let (parcel, driven) = self.house.resume(number).await;
        self.answered(number, &parcel, driven);
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

    /// A block is mined.
    fn mine(&mut self) {
        let spacing = self.scene.rng.within(60..=1_500);
        self.pass(spacing);
        let skew = self.scene.rng.within(0..=3_600);
        let is_full = self.scene.rng.one_in(4);
        let Scene { rng, chain, now, .. } = &mut self.scene;
        chain.look().mine(*now + skew - 2_400, &[], |_| !is_full || rng.one_in(2));
        self.notice_mined();
    }

    fn notice_mined(&mut self) {
        let chain = self.scene.chain.look();
        let mut found = vec![];
        for page in self.scene.books.open().pages.values() {
            let outpoint = page.contract.outpoint;
            if let Some((transaction, _)) = chain.mined_spender(outpoint)
                && self.noticed.insert((outpoint, transaction.compute_txid()))
            {
                let is_settled = transaction.version == Version(3);
                found.push(if is_settled { "settlement mined" } else { "refund mined" });
            }
        }
        let height = chain.height();
        drop(chain);
        self.scene.log.note(format!("block {height} is mined"));
        for event in found {
            self.scene.mark(event);
        }
    }

    /// Some hours pass, with blocks, and mostly with a watcher.
    async fn hours(&mut self) {
        let is_watched = !self.scene.rng.one_in(4);
        for _ in 0..self.scene.rng.within(2..=14) {
            self.pass(900);
            self.mine();
            if is_watched {
                self.look_around().await;
            }
        }
    }

    /// Blocks are taken away, and others put in their place.
    fn reorg(&mut self) {
        let deep = self.scene.rng.one_in(10);
        let depth = if deep { self.scene.rng.within(4..=8) } else { self.scene.rng.within(1..=3) };
        self.is_deeply_reorged |= depth >= 6;
        let is_lost = self.scene.rng.one_in(4);
        let is_respent = self.scene.rng.one_in(4);
        let chain = self.scene.chain.clone();
        let mut chain = chain.look();
        let gone = chain.unwind(usize::try_from(depth).unwrap());
        let mut own = vec![];
        let mut events = vec![format!("a reorg of {depth} blocks")];
        for transaction in &gone {
            let is_settlement = transaction.version == Version(3);
            let is_contract = transaction.lock_time == bitcoin::absolute::LockTime::ZERO;
            if is_settlement {
                events.push("settlement reorged".to_owned());
            } else if is_contract {
                events.push("contract reorged".to_owned());
            }
            if is_respent && is_contract && !is_settlement {
                own.push(lies::respent(transaction));
                events.push("contract spent twice".to_owned());
            } else if !is_lost {
                let _gone = chain.accept(transaction);
            }
        }
        for block in 0..=depth {
            let rng = &mut self.scene.rng;
            chain.mine(self.scene.now - (depth - block) * 300, &own, |_| rng.one_in(2));
            own.clear();
        }
        drop(chain);
        for event in events {
            self.scene.mark(&event);
        }
        self.notice_mined();
    }

    /// The mempool loses a transaction.
    fn evict(&mut self) {
        let Scene { rng, chain, .. } = &mut self.scene;
        let mut chain = chain.look();
        let count = chain.pool_len();
        if count == 0 {
            return;
        }
        chain.evict(rng.index(count));
        drop(chain);
        self.scene.mark("mempool evicted");
    }

    /// Fees rise or fall.
    fn move_fees(&mut self) {
        let floor = self.scene.rng.pick(&[1, 1, 2, 5, 12]);
        let estimate = self.scene.rng.pick(&[None, Some(1), Some(3), Some(10)]);
        let mut chain = self.scene.chain.look();
        (chain.floor, chain.estimate) = (floor, estimate);
        drop(chain);
        self.scene
            .log
            .note(format!("the node relays from {floor} sat/vB, and estimates {estimate:?}"));
    }

    /// The gateway's node goes away.
    fn lose_node(&mut self) {
        self.scene.chain.look().is_away = true;
        self.scene.mark("node away");
    }

    /// What is down comes back at times.
    fn mend(&mut self) {
        if !self.house.is_running() && self.scene.rng.one_in(3) {
            self.house.start();
            self.scene.mark("gateway restarted");
        }
        let mut chain = self.scene.chain.look();
        if chain.is_away && self.scene.rng.one_in(8) {
            chain.is_away = false;
            drop(chain);
            self.scene.log.note("the node is back");
        }
    }

    /// Something will go wrong at a commit soon, or the gateway is killed at once.
    fn plan_mishap(&mut self) {
        let mishap = match self.scene.rng.below(8) {
            0 => Mishap::Full,
            1..=3 => Mishap::Crash(When::Before),
            4..=6 => Mishap::Crash(When::After),
            _ => {
                self.house.kill();
                return self.scene.mark("gateway killed");
            }
        };
        let left = self.scene.rng.below(3);
        let counts_blocks = self.scene.rng.one_in(4);
        self.house.disk.plate().plan = Some(Plan { left, counts_blocks, mishap });
    }

    fn plan_client_crash(&mut self) {
        let index = self.scene.rng.index(self.clients.len());
        let when = self.scene.rng.pick(&[When::Before, When::After]);
        self.clients[index].crash = Some((self.scene.rng.below(3), when));
    }

    /// Nothing goes wrong any more, until every channel is over.
    async fn calm(&mut self) -> Result<(), String> {
        let since = self.scene.now;
        self.heal();
        for _ in 0..CALM_ROUNDS {
            self.scene.log.step += 1;
            self.pass(3_600);
            self.scene.chain.look().mine(self.scene.now, &[], |_| true);
            self.notice_mined();
            self.look_around().await;
            for client in &mut self.clients {
                client.rest(&mut self.scene);
            }
            self.check()?;
            if self.is_at_rest() {
                break;
            }
        }
        if self.is_deeply_reorged {
            return Ok(());
        }
        laws::all_is_settled(&self.scene.books.open(), &self.scene.chain.look(), since)
    }

    /// Ends all that was wrong.
    fn heal(&mut self) {
        self.scene.net.clear();
        self.house.disk.plate().plan = None;
        self.house.kill();
        self.house.start();
        let mut chain = self.scene.chain.look();
        (chain.is_away, chain.floor, chain.estimate) = (false, 1, Some(1));
        drop(chain);
        for client in &mut self.clients {
            client.crash = None;
        }
    }

    /// Tells whether every contract that was mined is spent, deep in the chain.
    fn is_at_rest(&self) -> bool {
        let (truth, chain) = (self.scene.books.open(), self.scene.chain.look());
        truth.pages.keys().all(|contract| {
            let spender = chain.mined_spender(*contract);
            !chain.is_confirmed(*contract)
                || spender.is_some_and(|(_, height)| chain.height() > height + 7)
        })
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
}
