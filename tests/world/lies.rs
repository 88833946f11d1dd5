//! Lies that clients tell the gateway, and fibs that a gateway tells its clients.

use bitcoin::absolute::LockTime;
use bitcoin::hashes::Hash;
use bitcoin::{FeeRate, OutPoint, ScriptBuf, Transaction, TxOut, WPubkeyHash};
use farebox_channel::client::Purse;
use farebox_channel::message::{
    CloseRequest, ContractRequest, PayRequest, Receipt, RefundReply, StateName, StateReply,
    StatusReply, TermsReply,
};
use farebox_channel::wire::WELL_KNOWN;
use farebox_channel::{Contract, Expiry, Msat, Pass, Payment, Payout, Sat};
use secp256k1::ecdsa::Signature;
use secp256k1::{Message, SECP256K1, SecretKey};

use crate::chain::Rejected;
use crate::client::{Client, Saved, Stage, close_proof};
use crate::gateway::PAID;
use crate::net::Answer;
use crate::scene::Scene;

/// A client's lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lie {
    /// Pays with another pass.
    WrongPass,
    /// Pays with somebody else's channel.
    ForeignChannel,
    /// Pays with a signature of which one bit is wrong.
    FlippedBit,
    /// Pays with the other signature that the same key has made (`BIP-0146`).
    HighS,
    /// Pays with another key's signature.
    ForeignKey,
    /// Pays more than the channel holds.
    BeyondCapacity,
    /// Leaves itself less than dust.
    BelowDust,
    /// Pays with its first payment again.
    OldPayment,
    /// Closes for less than is spent.
    CloseBelowSpent,
    /// Closes somebody else's channel.
    ForeignClose,
    /// Shows its contract with another payout script.
    OtherPayout,
    /// Shows its contract with another capacity.
    OtherCapacity,
    /// Spends the coin that its contract is made of.
    SpentContract,
    /// Broadcasts its refund before T.
    EarlyRefund,
}

impl Lie {
    const ALL: [Self; 14] = [
        Self::WrongPass,
        Self::ForeignChannel,
        Self::FlippedBit,
        Self::HighS,
        Self::ForeignKey,
        Self::BeyondCapacity,
        Self::BelowDust,
        Self::OldPayment,
        Self::CloseBelowSpent,
        Self::ForeignClose,
        Self::OtherPayout,
        Self::OtherCapacity,
        Self::SpentContract,
        Self::EarlyRefund,
    ];

    /// Tells whether the gateway may answer the lie as if it were none: an old payment draws on
    /// the credit, and a close that comes second only asks for the state.
    pub(crate) const fn may_be_taken(self) -> bool {
        matches!(self, Self::OldPayment | Self::CloseBelowSpent)
    }
}

/// Has a client tell a lie.
pub(crate) fn tell(liar: &mut Client, scene: &mut Scene) {
    let Some(saved) = liar.shelf.current.clone() else { return };
    let lie = scene.rng.pick(&Lie::ALL);
    match lie {
        Lie::SpentContract => return spend_coin(&saved, scene),
        Lie::EarlyRefund => return refund_early(&saved, scene),
        _ => {}
    }
    let Stage::Open(purse) = &saved.stage else { return };
    let foreign = scene.books.open().pages.values().find(|it| it.client != liar.number).cloned();
    let Some(foreign) = foreign.map(|page| page.contract.outpoint) else { return };
    scene.mark(&format!("lie {lie:?}"));
    match lie {
        Lie::CloseBelowSpent | Lie::ForeignClose => {
            let close = false_close(lie, purse, &saved, foreign, scene);
            liar.lie(WELL_KNOWN, &close, lie, scene);
        }
        Lie::OtherPayout | Lie::OtherCapacity => {
            liar.lie(WELL_KNOWN, &false_contract(lie, purse, &saved.key), lie, scene);
        }
        _ => {
            scene.note_signed(purse.contract().outpoint, &purse.payment);
            let pay = false_payment(lie, purse, &saved, foreign, scene);
            liar.lie(&format!("{PAID}1000"), &pay, lie, scene);
        }
    }
}

/// Makes a payment that the gateway must not take, or that adds nothing.
fn false_payment(
    lie: Lie,
    purse: &Purse,
    saved: &Saved,
    foreign: OutPoint,
    scene: &mut Scene,
) -> PayRequest {
    let contract = purse.contract();
    let honest = purse.top_up();
    // What is changed must be another payment than the latest.
    let more = Sat::new(purse.payment.paid.get() + 1).unwrap();
    let more = contract.payable(more).unwrap_or(contract.capacity);
    let sign = |contract: &Contract, key| Payment::sign(contract, more, key).unwrap();
    let with = |signature| PayRequest { payment: Payment { paid: more, signature }, ..honest };
    let of = |paid| PayRequest { payment: Payment { paid, ..purse.payment }, ..honest };
    let mut bytes = sign(contract, &saved.key).signature.serialize_compact();
    match lie {
        Lie::WrongPass => {
            let mut pass = *purse.pass.as_bytes();
            pass[scene.rng.index(16)] ^= 1;
            PayRequest { pass: Pass::new(pass), ..honest }
        }
        Lie::ForeignChannel => PayRequest { channel: foreign, ..honest },
        Lie::FlippedBit => {
            bytes[8 + scene.rng.index(24)] ^= 1 << scene.rng.below(8);
            with(Signature::from_compact(&bytes).unwrap())
        }
        Lie::HighS => {
            let s = SecretKey::from_slice(&bytes[32..]).unwrap().negate();
            bytes[32..].copy_from_slice(&s.secret_bytes());
            with(Signature::from_compact(&bytes).unwrap())
        }
        Lie::ForeignKey => {
            let other = SecretKey::from_slice(&[5; 32]).unwrap();
            with(sign(contract, &other).signature)
        }
        Lie::BeyondCapacity => of(Sat::new(contract.capacity.get() + 1).unwrap()),
        Lie::BelowDust => of(Sat::new(contract.capacity.get() - 1).unwrap()),
        _ => {
            let first = contract.payable(purse.least).unwrap_or(contract.capacity);
            let payment = Payment::sign(contract, first, &saved.key).unwrap();
            PayRequest { payment, ..honest }
        }
    }
}

/// Makes a close that the gateway must not take.
fn false_close(
    lie: Lie,
    purse: &Purse,
    saved: &Saved,
    foreign: OutPoint,
    scene: &Scene,
) -> CloseRequest {
    let contract = purse.contract();
    let channel = if lie == Lie::ForeignClose { foreign } else { contract.outpoint };
    // Less than any first payment.
    let payment = Payment::sign(contract, Sat::new(1).unwrap(), &saved.key).unwrap();
    CloseRequest { channel, proof: close_proof(channel, scene.now, &saved.key), payment }
}

/// Shows a contract that is on record with another payout or capacity, properly signed.
fn false_contract(lie: Lie, purse: &Purse, key: &SecretKey) -> ContractRequest {
    let mut contract = purse.contract().clone();
    if lie == Lie::OtherPayout {
        contract.payout = Payout::new(other_script()).unwrap();
    } else {
        contract.capacity = Sat::new(contract.capacity.get() + 1_000).unwrap();
    }
    let paid = contract.payable(purse.least).unwrap();
    ContractRequest {
        outpoint: contract.outpoint,
        transaction: None,
        capacity: contract.capacity,
        kind: contract.terms.kind,
        client_key: contract.terms.client_key,
        expiry: contract.terms.expiry,
        payment: Payment::sign(&contract, paid, key).unwrap(),
        payout: contract.payout,
    }
}

/// Returns another payout script of a liar.
pub(crate) fn other_script() -> ScriptBuf {
    ScriptBuf::new_p2wpkh(&WPubkeyHash::from_byte_array([6; 20]))
}

/// Spends the coin of a contract that is not mined, for a higher fee.
fn spend_coin(saved: &Saved, scene: &mut Scene) {
    let taken = scene.chain.look().accept(&respent(&saved.transaction));
    if taken.is_ok() {
        scene.mark("lie SpentContract");
    }
}

/// Returns a transaction that spends the coins of another one to somewhere else.
pub(crate) fn respent(transaction: &Transaction) -> Transaction {
    let script_pubkey = other_script();
    let sum: bitcoin::Amount = transaction.output.iter().map(|output| output.value).sum();
    let output = vec![TxOut { value: sum / 2, script_pubkey }];
    Transaction { output, lock_time: LockTime::ZERO, ..transaction.clone() }
}

/// Broadcasts a refund that is not final yet.
fn refund_early(saved: &Saved, scene: &mut Scene) {
    let Some(refund) = saved.refund() else { return };
    let contract = saved.contract();
    let mut chain = scene.chain.look();
    if chain.median_time_past() > u64::from(contract.terms.expiry.get()) {
        return;
    }
    let rate = FeeRate::from_sat_per_vb(20).unwrap();
    let refund = refund.transaction(&contract.payout, rate, &saved.key).unwrap();
    let taken = chain.accept(&refund);
    drop(chain);
    scene.mark("lie EarlyRefund");
    if taken == Err(Rejected::NotFinal) {
        scene.mark("refund too early refused");
    } else {
        scene.broken.push(format!("no refund is relayed before T: {taken:?}"));
    }
}

/// What is false in a gateway's answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fib {
    /// Terms with another key than their script has.
    OtherKey,
    /// Terms with another script.
    OtherScript,
    /// Terms with another address.
    OtherAddress,
    /// Terms with a later expiry.
    OtherExpiry,
    /// A refund signature of another key.
    ForgedRefund,
    /// A receipt that claims more to be spent than was agreed to.
    MoreSpent,
    /// A receipt with a higher price.
    HigherPrice,
    /// A receipt for more than was signed.
    MorePaid,
    /// A state with another pass.
    OtherPass,
    /// A state that the channel is not in.
    OtherState,
    /// A status that tells too little to be spent.
    LessSpent,
}

impl Fib {
    /// Tells whether a client must notice.
    const fn is_noticed(self) -> bool {
        !matches!(self, Self::OtherPass | Self::OtherState | Self::LessSpent)
    }
}

impl Scene {
    /// Notes how a client has taken an answer that is a fib.
    pub(crate) fn note_fib(&mut self, fib: Option<Fib>, is_refused: bool) {
        let Some(fib) = fib.filter(|fib| fib.is_noticed()) else { return };
        if is_refused {
            self.mark(&format!("fib {fib:?} refused"));
        } else {
            self.broken.push(format!("a client refuses what it did not agree to: {fib:?}"));
        }
    }
}

/// Makes a fib of an answer, if there is anything in it to lie about.
pub(crate) fn fib(answer: &mut Answer, scene: &mut Scene) -> Option<Fib> {
    let fib = if let Some(terms) = answer.field::<TermsReply>() {
        false_terms(terms, answer, scene)
    } else if answer.field::<RefundReply>().is_some() {
        let other = SecretKey::from_slice(&[5; 32]).unwrap();
        let signature = SECP256K1.sign_ecdsa(&Message::from_digest([1; 32]), &other);
        answer.replace(&RefundReply { signature });
        Fib::ForgedRefund
    } else if let Some(receipt) = answer.field::<Receipt>() {
        false_receipt(receipt, answer, scene)
    } else if let Some(state) = answer.field::<StateReply>() {
        if scene.rng.one_in(2) {
            answer.replace(&StateReply { pass: Pass::new([1; 16]), ..state });
            Fib::OtherPass
        } else {
            answer.replace(&StateReply { state: StateName::Open, ..state });
            Fib::OtherState
        }
    } else if let Some(mut status) = answer.field::<StatusReply>() {
        for channel in &mut status.channels {
            channel.spent = Msat::ZERO;
        }
        answer.replace(&status);
        Fib::LessSpent
    } else {
        return None;
    };
    if !fib.is_noticed() {
        scene.mark(&format!("fib {fib:?} told"));
    }
    Some(fib)
}

fn false_terms(terms: TermsReply, answer: &mut Answer, scene: &mut Scene) -> Fib {
    let fib =
        scene.rng.pick(&[Fib::OtherKey, Fib::OtherScript, Fib::OtherAddress, Fib::OtherExpiry]);
    let other = SecretKey::from_slice(&[5; 32]).unwrap().public_key(SECP256K1);
    answer.replace(&match fib {
        Fib::OtherKey => TermsReply { gateway_key: other, ..terms },
        Fib::OtherScript => {
            let mut script = terms.script.to_bytes();
            script[10] ^= 1;
            TermsReply { script: ScriptBuf::from_bytes(script), ..terms }
        }
        Fib::OtherAddress => {
            let address = bitcoin::Address::p2wsh(&ScriptBuf::new(), bitcoin::Network::Regtest);
            TermsReply { address: address.to_string(), ..terms }
        }
        _ => {
            let later = u64::from(terms.expiry.get()) + 864_000;
            TermsReply { expiry: Expiry::new(later).unwrap(), ..terms }
        }
    });
    fib
}

fn false_receipt(receipt: Receipt, answer: &mut Answer, scene: &mut Scene) -> Fib {
    let more = |msat: Msat, by| Msat::new(msat.get() + by).unwrap();
    let fib = scene.rng.pick(&[Fib::MoreSpent, Fib::HigherPrice, Fib::MorePaid]);
    answer.replace(&match fib {
        Fib::MoreSpent => Receipt { spent: more(receipt.spent, 1_000_000_000), ..receipt },
        Fib::HigherPrice => Receipt { price: more(receipt.price, 1_000_000_000), ..receipt },
        _ => {
            let paid = Sat::new(receipt.paid.get() + 1_000_000).unwrap();
            Receipt { paid, ..receipt }
        }
    });
    fib
}
