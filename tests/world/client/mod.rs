//! A client: the real state machine of `farebox_channel::client`, over a toy disk.

mod losing;
mod opening;
mod paying;
mod rivals;

pub(crate) use paying::close_proof;

use std::collections::BTreeMap;

use bitcoin::hashes::Hash;
use bitcoin::{FeeRate, OutPoint, PubkeyHash, ScriptBuf, ScriptHash, Transaction, WPubkeyHash};
use farebox_channel::client::{Funded, Held, Purse, Recovered};
use farebox_channel::message::{ContractRequest, Offer, OpenRequest};
use farebox_channel::wire::{Field, WELL_KNOWN};
use farebox_channel::{Clock, Contract, Payment, Payout, Refund, Sat, Timestamp};
use secp256k1::SecretKey;

use crate::disk::When;
use crate::lies::{Fib, Lie};
use crate::net::{Answer, Letter, Parcel};
use crate::scene::Scene;

/// The channels that a client opens, one after the other.
const CHANNELS_MAX: usize = 3;

/// A client of the gateway.
#[derive(Debug)]
pub(crate) struct Client {
    /// Which client it is.
    pub(crate) number: usize,
    /// Whether it lies at times.
    pub(crate) is_liar: bool,
    /// What it has saved.
    pub(crate) shelf: Shelf,
    /// What is lost at its next saves: after how many more, and on which side.
    pub(crate) crash: Option<(u64, When)>,
    payout: Payout,
    mind: Mind,
    /// Older copies of the channel in use.
    copies: Vec<Saved>,
}

/// A client's disk.
#[derive(Clone, Debug, Default)]
pub(crate) struct Shelf {
    /// The channel in use.
    pub(crate) current: Option<Saved>,
    /// The channels before it.
    pub(crate) old: Vec<Saved>,
}

/// What is saved of one channel.
#[derive(Clone, Debug)]
pub(crate) struct Saved {
    /// The client's key.
    pub(crate) key: SecretKey,
    /// The contract's transaction.
    pub(crate) transaction: Transaction,
    /// Whether it comes from an older copy, so that the gateway may know more.
    pub(crate) is_old: bool,
    /// How far the client has come.
    pub(crate) stage: Stage,
}

/// How far a client has come with a channel.
#[derive(Clone, Debug)]
pub(crate) enum Stage {
    /// The contract is built, and nobody has seen it.
    Funded(Funded),
    /// The refund is held.
    Held(Held),
    /// The channel pays.
    Open(Purse),
    /// The client pays no more.
    Closing(Purse),
    /// All but the key is lost. The contract stands here for the world, and not for the client.
    Lost(Contract),
}

/// What a client knows until it crashes.
#[derive(Debug, Default)]
struct Mind {
    offer: Option<Offer>,
    waiting: BTreeMap<u64, Asked>,
    /// The named requests that have no whole answer: name and price.
    named: Vec<(String, u64)>,
    /// The least final amount that the gateway has asked for.
    least: Option<Sat>,
    /// What the gateway has told of a channel of which only the key is left.
    recovered: Option<Recovered>,
}

/// What a client waits to be answered.
#[derive(Clone, Debug)]
enum Asked {
    Offer,
    Terms { offer: Box<Offer>, request: OpenRequest, key: SecretKey },
    Refund,
    Show(Box<ContractRequest>),
    Pay { price: u64, name: Option<String>, is_first: bool },
    Status,
    Close,
    Nothing,
}

impl Saved {
    /// Returns the contract.
    pub(crate) const fn contract(&self) -> &Contract {
        match &self.stage {
            Stage::Funded(funded) => &funded.contract,
            Stage::Held(held) => held.refund.contract(),
            Stage::Open(purse) | Stage::Closing(purse) => purse.contract(),
            Stage::Lost(contract) => contract,
        }
    }

    /// Returns the refund, once it is held.
    pub(crate) const fn refund(&self) -> Option<&Refund> {
        match &self.stage {
            Stage::Funded(_) | Stage::Lost(_) => None,
            Stage::Held(held) => Some(&held.refund),
            Stage::Open(purse) | Stage::Closing(purse) => Some(&purse.refund),
        }
    }

    /// Returns the greatest amount that the record knows to be signed.
    pub(crate) fn signed(&self) -> Sat {
        match &self.stage {
            Stage::Funded(_) | Stage::Lost(_) => Sat::ZERO,
            Stage::Held(held) => held.first_payment,
            Stage::Open(purse) | Stage::Closing(purse) => purse.payment.paid,
        }
    }
}

impl Client {
    /// Makes a client with a payout script of one of the five kinds.
    pub(crate) fn new(number: usize, is_liar: bool) -> Self {
        let crash = None;
        Self {
            number,
            is_liar,
            shelf: Shelf::default(),
            crash,
            payout: payout(number),
            mind: Mind::default(),
            copies: vec![],
        }
    }

    /// Does something that is useful where the client stands.
    pub(crate) fn act(&mut self, scene: &mut Scene) {
        let Some(saved) = self.shelf.current.clone() else {
            let is_patient = self.mind.waiting.is_empty() || scene.rng.one_in(6);
            if self.shelf.old.len() < CHANNELS_MAX && is_patient {
                self.seek(scene);
            }
            return;
        };
        if self.put_away(&saved, scene) || self.take_back(&saved, scene) {
            return;
        }
        if self.outbid(&saved, scene) || self.spend_change(&saved, scene) {
            return;
        }
        // Whoever waits for several answers rarely asks for more.
        if self.mind.waiting.len() > 2 && !scene.rng.one_in(6) {
            return;
        }
        match &saved.stage {
            Stage::Funded(funded) => self.ask_refund(funded, scene),
            Stage::Held(held) => self.show(held, &saved, scene),
            Stage::Open(purse) if saved.is_old => self.ask_status(purse.contract(), &saved, scene),
            Stage::Lost(contract) => self.ask_status(contract, &saved, scene),
            Stage::Open(purse) => self.use_channel(purse, &saved, scene),
            Stage::Closing(purse) => self.close(purse, &saved, scene),
        }
    }

    /// Waits for what is its own, and does nothing else.
    pub(crate) fn rest(&mut self, scene: &mut Scene) {
        if let Some(saved) = self.shelf.current.clone() {
            let _done = self.put_away(&saved, scene) || self.take_back(&saved, scene);
        }
    }

    /// Takes an answer.
    pub(crate) fn receive(
        &mut self,
        ticket: u64,
        answer: &Answer,
        fib: Option<Fib>,
        scene: &mut Scene,
    ) {
        let Some(asked) = self.mind.waiting.remove(&ticket) else { return };
        if let Some(problem) = answer.problem() {
            scene.coverage.note(format!("answer {problem}"));
        }
        match asked {
            Asked::Offer => self.mind.offer = answer.field().or_else(|| self.mind.offer.take()),
            Asked::Terms { offer, request, key } => {
                self.take_terms((&offer, &request, key), answer, fib, scene);
            }
            Asked::Refund => self.take_refund(answer, fib, scene),
            Asked::Show(shown) => self.take_state(&shown, answer, scene),
            Asked::Pay { price, name, is_first } => {
                self.take_receipt((price, name, is_first), answer, fib, scene);
            }
            Asked::Status => self.take_status(answer, scene),
            Asked::Close => self.take_closing(answer, scene),
            Asked::Nothing => {}
        }
    }

    /// Closes a channel that is open.
    pub(crate) fn wind_up(&mut self, scene: &mut Scene) {
        let Some(saved) = self.shelf.current.clone() else { return };
        if let Stage::Open(purse) = saved.stage.clone() {
            self.begin_to_close(&purse, &saved, scene);
        }
    }

    /// Forgets all that is not saved.
    pub(crate) fn crash(&mut self) {
        self.mind = Mind::default();
    }

    /// Saves a channel. Tells whether the client still lives: if not, nothing may be sent.
    #[must_use]
    fn save(&mut self, saved: Saved, scene: &mut Scene) -> bool {
        if scene.rng.one_in(4) {
            self.copies.push(saved.clone());
        }
        let Some((left, when)) = self.crash else {
            self.shelf.current = Some(saved);
            return true;
        };
        self.crash = left.checked_sub(1).map(|left| (left, when));
        if left > 0 || when == When::After {
            self.shelf.current = Some(saved);
        }
        if left > 0 {
            return true;
        }
        self.crash();
        let side = if when == When::Before { "before" } else { "after" };
        scene.mark(&format!("client crashed {side} a save"));
        false
    }

    /// Saves another stage of a channel.
    #[must_use]
    fn save_stage(&mut self, saved: &Saved, stage: Stage, scene: &mut Scene) -> bool {
        self.save(Saved { stage, ..saved.clone() }, scene)
    }

    /// Sends a step to the well-known path.
    fn step<F: Field>(&mut self, message: &F, asked: Asked, scene: &mut Scene) {
        let field = (F::NAME.to_owned(), message.encode());
        self.send(WELL_KNOWN.to_owned(), vec![field], asked, None, scene);
    }

    /// Sends a lie, whose answer nobody waits for.
    pub(crate) fn lie<F: Field>(&mut self, path: &str, message: &F, lie: Lie, scene: &mut Scene) {
        let field = (F::NAME.to_owned(), message.encode());
        self.send(path.to_owned(), vec![field], Asked::Nothing, Some(lie), scene);
    }

    fn send(
        &mut self,
        path: String,
        fields: Vec<(String, String)>,
        asked: Asked,
        lie: Option<Lie>,
        scene: &mut Scene,
    ) {
        let ticket = scene.ticket();
        scene.log.note(format!(
            "client {} sends {ticket} to {path}: {}",
            self.number,
            name(&asked)
        ));
        self.mind.waiting.insert(ticket, asked);
        scene.net.push(Letter::Request(Parcel { ticket, client: self.number, path, fields, lie }));
    }

    /// Takes the money back after T, as long as nobody has spent it. Tells whether it was done.
    fn take_back(&self, saved: &Saved, scene: &mut Scene) -> bool {
        let contract = saved.contract();
        let mut chain = scene.chain.look();
        let is_due = chain.median_time_past() > u64::from(contract.terms.expiry.get());
        if !is_due
            || !chain.is_confirmed(contract.outpoint)
            || chain.spender(contract.outpoint).is_some()
        {
            return false;
        }
        let Some(refund) = saved.refund() else { return false };
        let rate = FeeRate::from_sat_per_vb(chain.floor.max(3)).unwrap();
        let Ok(transaction) = refund.transaction(&self.payout, rate, &saved.key) else {
            return false;
        };
        let taken = chain.accept(&transaction);
        drop(chain);
        scene.log.note(format!("client {} broadcasts its refund: {taken:?}", self.number));
        if let Err(why) = taken {
            scene.broken.push(format!("a refund is valid after T, and this one is not: {why:?}"));
        }
        true
    }

    /// Puts a channel away that is over: its contract is spent, or never will be there.
    fn put_away(&mut self, saved: &Saved, scene: &Scene) -> bool {
        let chain = scene.chain.look();
        let contract = saved.contract().outpoint;
        let is_over = |at: OutPoint, own: bool| {
            chain.mined_spender(at).is_some_and(|(transaction, height)| {
                chain.height() >= height + 5 && (own || transaction.compute_txid() != contract.txid)
            })
        };
        let coin = saved.transaction.input[0].previous_output;
        let is_over = is_over(contract, true) || is_over(coin, false);
        drop(chain);
        if is_over {
            self.shelf.old.extend(self.shelf.current.take());
            self.copies.clear();
            self.mind = Mind::default();
        }
        is_over
    }

    /// Returns the client's clock.
    fn clock(scene: &Scene) -> Clock {
        let median_time_past = Timestamp::new(scene.chain.look().median_time_past());
        Clock { median_time_past, wall: Timestamp::new(scene.now) }
    }
}

impl Scene {
    /// Notes in the truth that a payment was signed and sent.
    pub(crate) fn note_signed(&self, outpoint: OutPoint, payment: &Payment) {
        if let Some(page) = self.books.open().pages.get_mut(&outpoint) {
            page.is_shown = true;
            page.signed_sat = page.signed_sat.max(payment.paid.get());
        }
    }

    /// Notes in the truth that a client has agreed to pay.
    pub(crate) fn note_agreed(&self, outpoint: OutPoint, msat: u64) {
        if let Some(page) = self.books.open().pages.get_mut(&outpoint) {
            page.agreed_msat += msat;
        }
    }
}

/// Returns a word for what is asked.
const fn name(asked: &Asked) -> &'static str {
    match asked {
        Asked::Offer => "offer",
        Asked::Terms { .. } => "open",
        Asked::Refund => "refund",
        Asked::Show(_) => "contract",
        Asked::Pay { .. } => "pay",
        Asked::Status => "status",
        Asked::Close => "close",
        Asked::Nothing => "a lie",
    }
}

/// Returns a payout script of one of the five kinds.
fn payout(number: usize) -> Payout {
    let tag = u8::try_from(number).unwrap();
    let program = |version| ScriptBuf::from_bytes([&[version, 32], &[tag; 32][..]].concat());
    let script = match number % 5 {
        0 => ScriptBuf::new_p2wpkh(&WPubkeyHash::from_byte_array([tag; 20])),
        1 => program(0x00),
        2 => program(0x51),
        3 => ScriptBuf::new_p2sh(&ScriptHash::from_byte_array([tag; 20])),
        _ => ScriptBuf::new_p2pkh(&PubkeyHash::from_byte_array([tag; 20])),
    };
    Payout::new(script).unwrap()
}
