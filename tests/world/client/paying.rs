//! How a client pays, asks, and closes.

use bitcoin::Network;
use farebox_channel::client::Purse;
use farebox_channel::message::{
    CloseRequest, PayRequest, Receipt, StateName, StateReply, StatusReply, StatusRequest,
    StatusSubject,
};
use farebox_channel::wire::{Field, WELL_KNOWN};
use farebox_channel::{Contract, Msat, Payment, Place, Proof, Sat, Subject, Timestamp};

use super::{Asked, Client, Saved, Stage};
use crate::gateway::{HOST, PAID};
use crate::lies::Fib;
use crate::net::Answer;
use crate::scene::Scene;

/// What requests cost, in millisatoshi.
const PRICES: [u64; 8] = [250, 999, 1_500, 21_500, 333_333, 1_000_000, 3_000_000, 3_000_000];
/// The field that names a request.
const NAME: &str = "idempotency-key";

impl Client {
    /// Pays for a request, or does something else with an open channel.
    pub(super) fn use_channel(&mut self, purse: &Purse, saved: &Saved, scene: &mut Scene) {
        match scene.rng.below(32) {
            0 | 1 => self.ask_status(purse.contract(), saved, scene),
            2 => self.show_again(saved, scene),
            11..=18 if self.is_hasty() => self.begin_to_close(purse, saved, scene),
            3 if scene.rng.one_in(3) => {
                self.begin_to_close(purse, saved, scene);
            }
            4 | 5 => self.pay_ahead(purse, saved, scene),
            6..=10 if !self.mind.named.is_empty() => self.ask_again(purse, scene),
            _ => self.pay(purse, saved, scene),
        }
    }

    pub(super) fn begin_to_close(&mut self, purse: &Purse, saved: &Saved, scene: &mut Scene) {
        if self.save_stage(saved, Stage::Closing(purse.clone()), scene) {
            self.close(purse, saved, scene);
        }
    }

    /// Tells whether the client closes soon: a reorg may then find the contract still shallow.
    const fn is_hasty(&self) -> bool {
        self.number % 4 == 1
    }

    /// Tells whether the client soon has nothing left.
    const fn is_spender(&self) -> bool {
        self.number % 4 == 3
    }

    fn pay(&mut self, purse: &Purse, saved: &Saved, scene: &mut Scene) {
        let left = purse.left().get();
        let price = if self.is_spender() { PRICES[7] } else { scene.rng.pick(&PRICES) };
        let price = match price {
            // The rest goes for one last request.
            price if price > left && scene.rng.one_in(2) => left.max(1),
            price => price,
        };
        let Ok((next, request)) = purse.pay(Msat::new(price).unwrap(), &saved.key) else {
            scene.log.note(format!("client {} has nothing left for {price} msat", self.number));
            if scene.rng.one_in(2) {
                self.begin_to_close(purse, saved, scene);
            }
            return;
        };
        scene.note_agreed(request.channel, price);
        if !self.save_stage(saved, Stage::Open(next), scene) {
            return;
        }
        scene.note_signed(request.channel, &request.payment);
        let name = scene.rng.one_in(3).then(|| self.name(scene));
        let asked = Asked::Pay { price, name: name.clone(), is_first: true };
        self.mind.named.extend(name.iter().map(|name| (name.clone(), price)));
        self.send_payment(&request, asked, scene);
    }

    /// Names a request, now and then with a name that another one has already.
    fn name(&mut self, scene: &mut Scene) -> String {
        if scene.rng.one_in(12) && !self.mind.named.is_empty() {
            let index = scene.rng.index(self.mind.named.len());
            return self.mind.named.remove(index).0;
        }
        format!("request-{}", scene.ticket())
    }

    fn send_payment(&mut self, request: &PayRequest, asked: Asked, scene: &mut Scene) {
        let Asked::Pay { price, name, .. } = &asked else { return };
        let path = format!("{PAID}{price}");
        let mut fields = vec![(PayRequest::NAME.to_owned(), request.encode())];
        fields.extend(name.iter().map(|name| (NAME.to_owned(), name.clone())));
        self.send(path, fields, asked, None, scene);
    }

    /// Sends a named request once more, with the latest payment.
    fn ask_again(&mut self, purse: &Purse, scene: &mut Scene) {
        let index = scene.rng.index(self.mind.named.len());
        let (name, price) = self.mind.named[index].clone();
        let request = purse.top_up();
        scene.note_signed(request.channel, &request.payment);
        self.send_payment(&request, Asked::Pay { price, name: Some(name), is_first: false }, scene);
    }

    /// Signs for more than was asked, so that later requests need no signature.
    fn pay_ahead(&mut self, purse: &Purse, saved: &Saved, scene: &mut Scene) {
        let contract = purse.contract();
        let more = purse.payment.paid.get() + scene.rng.within(1..=2_000);
        let Some(paid) = Sat::new(more).ok().and_then(|paid| contract.payable(paid)) else {
            return;
        };
        let payment = Payment::sign(contract, paid, &saved.key).unwrap();
        let ahead = paid.to_msat().get() - purse.payment.paid.to_msat().get();
        scene.note_agreed(contract.outpoint, ahead);
        let next = Purse { payment, ..purse.clone() };
        if !self.save_stage(saved, Stage::Open(next), scene) {
            return;
        }
        scene.note_signed(contract.outpoint, &payment);
        let request = PayRequest { payment, ..purse.top_up() };
        let fields = vec![(PayRequest::NAME.to_owned(), request.encode())];
        let asked = Asked::Pay { price: 0, name: None, is_first: true };
        self.send(WELL_KNOWN.to_owned(), fields, asked, None, scene);
    }

    /// Takes the answer to a paid request.
    pub(super) fn take_receipt(
        &mut self,
        (price, name, is_first): (u64, Option<String>, bool),
        answer: &Answer,
        fib: Option<Fib>,
        scene: &mut Scene,
    ) {
        let Some(saved) = self.shelf.current.clone() else { return };
        let Stage::Open(purse) = &saved.stage else { return };
        let price = Msat::new(price).unwrap();
        if let Some(receipt) = answer.field::<Receipt>() {
            let taken = purse.receive(&receipt, price);
            scene.note_fib(fib, taken.is_err());
            if answer.status == 200 && answer.is_whole {
                self.mind.named.retain(|(other, _)| Some(other) != name.as_ref());
            }
            let stage = match taken {
                Ok(_) if !is_first => return,
                Ok(next) => Stage::Open(next),
                Err(distrust) => {
                    scene.log.note(format!("client {}: {distrust}", self.number));
                    Stage::Closing(purse.clone())
                }
            };
            let _alive = self.save_stage(&saved, stage, scene);
            return;
        }
        let Some(problem) = answer.problem() else { return };
        let stage = match problem {
            "channel-closing" | "channel-ended" | "channel-expiring" | "channel-late" => {
                Stage::Closing(purse.clone())
            }
            "channel-restored" => return self.show_newest(purse, &saved, scene),
            "channel-unknown" => return self.show_again(&saved, scene),
            // A named request may have been charged before.
            _ if name.is_none() && is_first => Stage::Open(purse.take_back(price)),
            _ => return,
        };
        let _alive = self.save_stage(&saved, stage, scene);
    }

    /// Asks what is on record.
    pub(super) fn ask_status(&mut self, contract: &Contract, saved: &Saved, scene: &mut Scene) {
        // Whoever has lost all but its key knows no outpoint.
        let is_lost = matches!(saved.stage, Stage::Lost(_));
        let subject = if is_lost || scene.rng.one_in(2) {
            StatusSubject::Key(contract.terms.client_key)
        } else {
            StatusSubject::Channel(contract.outpoint)
        };
        let time = Timestamp::new(scene.now);
        let proof = Proof::sign(&subject.proven(), PLACE, time, &saved.key);
        self.step(&StatusRequest { subject, proof }, Asked::Status, scene);
    }

    /// Believes the gateway's record as far as its own signature goes.
    pub(super) fn take_status(&mut self, answer: &Answer, scene: &mut Scene) {
        let Some(reply) = answer.field::<StatusReply>() else { return };
        let Some(saved) = self.shelf.current.clone() else { return };
        let outpoint = saved.contract().outpoint;
        let Some(told) = reply.channels.iter().find(|it| it.channel == outpoint) else { return };
        if saved.is_old {
            return self.catch_up(&saved, told, scene);
        }
        let Stage::Open(purse) = &saved.stage else { return };
        scene.mark(&format!("state {}", told.state));
        let is_signed = told.payment.verify(purse.contract()).is_ok();
        let pays = |asked: &Asked| matches!(asked, Asked::Pay { .. });
        let is_idle = !self.mind.waiting.values().any(pays);
        let mut next = purse.clone();
        if is_signed && is_idle && told.spent <= purse.spent {
            next.spent = told.spent;
        }
        next.pass = told.pass;
        let stage = match told.state {
            StateName::Open | StateName::Pending => Stage::Open(next),
            StateName::Late
            | StateName::Closing
            | StateName::WrittenOff
            | StateName::Settled
            | StateName::Lost => Stage::Closing(next),
        };
        let _alive = self.save_stage(&saved, stage, scene);
    }

    /// Closes the channel for what is spent, or for the least that the gateway takes.
    pub(super) fn close(&mut self, purse: &Purse, saved: &Saved, scene: &mut Scene) {
        let contract = purse.contract();
        let time = Timestamp::new(scene.now);
        let mut request = purse.close(PLACE, time, &saved.key).unwrap();
        // More than is signed already is never signed for a close.
        if let Some(least) = self.mind.least.filter(|least| *least <= purse.payment.paid) {
            let paid = contract.payable(least.max(request.payment.paid)).unwrap();
            if paid <= purse.payment.paid {
                let payment = Payment::sign(contract, paid, &saved.key).unwrap();
                request = CloseRequest { payment, ..request };
            }
        }
        scene.note_signed(contract.outpoint, &request.payment);
        self.step(&request, Asked::Close, scene);
    }

    /// Takes the answer to a close.
    pub(super) fn take_closing(&mut self, answer: &Answer, scene: &mut Scene) {
        if let Some(reply) = answer.field::<StateReply>() {
            scene.mark(&format!("state {}", reply.state));
        }
        if answer.problem() == Some("final-out-of-bounds") {
            let body: serde_json::Value = serde_json::from_str(&answer.body).unwrap();
            self.mind.least = body["least"].as_u64().and_then(|least| Sat::new(least).ok());
        }
    }
}

/// Where proofs are shown.
const PLACE: Place<'static> = Place { network: Network::Regtest, host: HOST };

/// Makes the proof of a close.
pub(crate) fn close_proof(
    outpoint: bitcoin::OutPoint,
    seconds: u64,
    key: &secp256k1::SecretKey,
) -> Proof {
    Proof::sign(&Subject::Close(outpoint), PLACE, Timestamp::new(seconds), key)
}
