//! How a client opens a channel, refund first.

use bitcoin::absolute::LockTime;
use bitcoin::hashes::Hash;
use bitcoin::transaction::Version;
use bitcoin::{
    Amount, Network, ScriptBuf, Sequence, Transaction, TxIn, TxOut, WPubkeyHash, Witness,
};
use farebox_channel::client::{Draft, Funded, Held, Limits};
use farebox_channel::message::{
    ContractRequest, Offer, OpenRequest, RefundReply, StateName, StateReply, TermsReply,
};
use farebox_channel::{Kind, Sat, Seconds};
use secp256k1::SecretKey;
use std::collections::BTreeMap;

use super::{Asked, Client, Saved, Stage};
use crate::books::Page;
use crate::gateway::PAID;
use crate::lies::Fib;
use crate::net::Answer;
use crate::scene::Scene;

impl Client {
    /// Asks for the offer, and then for terms.
    pub(super) fn seek(&mut self, scene: &mut Scene) {
        let Some(offer) = self.mind.offer.clone() else {
            self.send(format!("{PAID}1000"), vec![], Asked::Offer, None, scene);
            return;
        };
        let Ok(key) = SecretKey::from_slice(&scene.rng.bytes()) else { return };
        let capacity = Sat::new(scene.rng.pick(&[10_000, 10_000, 15_000, 100_000])).unwrap();
        let lifetime = scene.rng.pick(&[36_000, 50_000, 86_400, 200_000]);
        let lifetime = scene.lifetime.unwrap_or(lifetime);
        let limits = Limits {
            network: Network::Regtest,
            kind: scene.rng.pick(&Kind::ALL),
            capacity,
            lifetime: Seconds::new(lifetime),
            first_payment_max: Sat::new(2_000).unwrap(),
        };
        let request = limits.request(&offer, &key).unwrap();
        let offer = Box::new(offer);
        self.step(&request, Asked::Terms { offer, request, key }, scene);
    }

    /// Checks the gateway's terms, and builds the contract.
    pub(super) fn take_terms(
        &mut self,
        (offer, request, key): (&Offer, &OpenRequest, SecretKey),
        answer: &Answer,
        fib: Option<Fib>,
        scene: &mut Scene,
    ) {
        let Some(reply) = answer.field::<TermsReply>() else { return };
        let accepted = Draft::accept(offer, request, &reply, Self::clock(scene));
        scene.note_fib(fib, accepted.is_err());
        if self.shelf.current.is_some() {
            return; // another answer was first
        }
        let Ok(draft) = accepted else { return };
        let transaction = fund(&draft, scene);
        let funded = draft.fund(transaction.clone(), self.payout.clone()).unwrap();
        let page = Page {
            client: self.number,
            contract: funded.contract.clone(),
            was_mined: false,
            is_shown: false,
            signed_sat: 0,
            agreed_msat: funded.first_payment.to_msat().get(),
            charges: BTreeMap::new(),
            answers: BTreeMap::new(),
            named_at: BTreeMap::new(),
            forgotten_msat: 0,
            forgotten_before_msat: 0,
            is_restored: false,
            is_settled_unknown: false,
            is_client_restored: false,
        };
        scene.books.open().pages.insert(page.contract.outpoint, page);
        let kind = funded.contract.terms.kind;
        let saved = Saved { key, transaction, is_old: false, stage: Stage::Funded(funded.clone()) };
        if !self.save(saved.clone(), scene) || kind == Kind::Refund {
            return;
        }
        let held = Stage::Held(funded.hold(None).unwrap());
        let _alive = self.save_stage(&saved, held, scene);
    }

    /// Asks the gateway to sign the refund of a contract that nobody has seen.
    pub(super) fn ask_refund(&mut self, funded: &Funded, scene: &mut Scene) {
        match funded.refund_request() {
            Some(request) => self.step(&request, Asked::Refund, scene),
            // A crash came between the contract and its refund, which needs no signature.
            None => {
                let saved = self.shelf.current.clone().unwrap();
                let held = Stage::Held(funded.clone().hold(None).unwrap());
                let _alive = self.save_stage(&saved, held, scene);
            }
        }
    }

    /// Checks the gateway's signature, without which the contract is not shown.
    pub(super) fn take_refund(&mut self, answer: &Answer, fib: Option<Fib>, scene: &mut Scene) {
        let Some(reply) = answer.field::<RefundReply>() else { return };
        let Some(saved) = self.shelf.current.clone() else { return };
        if let Stage::Lost(_) = &saved.stage {
            return self.recover(&saved, reply.signature, fib, scene);
        }
        let Stage::Funded(funded) = saved.stage.clone() else { return };
        let held = funded.hold(Some(reply.signature));
        scene.note_fib(fib, held.is_err());
        if let Ok(held) = held {
            let _alive = self.save_stage(&saved, Stage::Held(held), scene);
        }
    }

    /// Shows the contract, with its transaction or after broadcasting it.
    pub(super) fn show(&mut self, held: &Held, saved: &Saved, scene: &mut Scene) {
        let outpoint = held.refund.contract().outpoint;
        let mut held = held.clone();
        if scene.rng.one_in(4) {
            held.transaction = None;
            let taken = scene.chain.look().accept(&saved.transaction);
            scene.log.note(format!("client {} broadcasts {outpoint}: {taken:?}", self.number));
            if let Some(page) = scene.books.open().pages.get_mut(&outpoint) {
                page.is_shown = true;
            }
        }
        let shown = held.show(&saved.key).unwrap();
        scene.note_signed(outpoint, &shown.payment);
        self.step(&shown.clone(), Asked::Show(Box::new(shown)), scene);
    }

    /// Shows the contract again, with the newest payment.
    pub(super) fn show_again(&mut self, saved: &Saved, scene: &mut Scene) {
        let Stage::Open(purse) = &saved.stage else { return };
        let contract = purse.contract();
        let shown = ContractRequest {
            outpoint: contract.outpoint,
            transaction: scene.rng.one_in(2).then(|| saved.transaction.clone()),
            capacity: contract.capacity,
            kind: contract.terms.kind,
            client_key: contract.terms.client_key,
            expiry: contract.terms.expiry,
            payout: contract.payout.clone(),
            payment: purse.payment,
        };
        scene.note_signed(shown.outpoint, &shown.payment);
        self.step(&shown.clone(), Asked::Show(Box::new(shown)), scene);
    }

    /// Takes what the gateway says of a shown contract.
    pub(super) fn take_state(
        &mut self,
        shown: &ContractRequest,
        answer: &Answer,
        scene: &mut Scene,
    ) {
        let Some(reply) = answer.field::<StateReply>() else { return };
        let Some(saved) = self.shelf.current.clone() else { return };
        if saved.contract().outpoint != shown.outpoint {
            return;
        }
        scene.mark(&format!("state {}", reply.state));
        let stage = match (saved.stage.clone(), reply.state) {
            (Stage::Held(held), StateName::Open) => Stage::Open(held.open(shown, &reply)),
            (Stage::Open(purse), StateName::Open | StateName::Pending) => {
                Stage::Open(farebox_channel::client::Purse { pass: reply.pass, ..purse })
            }
            (Stage::Open(purse), _) => Stage::Closing(purse),
            (stage, _) => stage,
        };
        let _alive = self.save_stage(&saved, stage, scene);
    }
}

/// Builds the transaction that funds a contract, as a wallet does.
fn fund(draft: &Draft, scene: &mut Scene) -> Transaction {
    let capacity = draft.capacity.get();
    let coin = scene.chain.look().mint(capacity + 6_000);
    let pays =
        TxOut { value: Amount::from_sat(capacity), script_pubkey: draft.terms.script_pubkey() };
    let change = TxOut {
        value: Amount::from_sat(1_000),
        script_pubkey: ScriptBuf::new_p2wpkh(&WPubkeyHash::from_byte_array([8; 20])),
    };
    let output = if scene.rng.one_in(2) { vec![pays, change] } else { vec![change, pays] };
    Transaction {
        version: Version::TWO,
        lock_time: LockTime::ZERO,
        input: vec![TxIn {
            previous_output: coin,
            sequence: Sequence::ENABLE_LOCKTIME_NO_RBF,
            witness: Witness::from_slice(&[&[1; 71][..], &[2; 33][..]]),
            ..TxIn::default()
        }],
        output,
    }
}
