//! Contract transactions: what is accepted really locks the money under these terms.

use bitcoin::consensus::encode::deserialize;
use bitcoin::hashes::{Hash, sha256};
use bitcoin::{FeeRate, OutPoint, Sequence, Transaction, Txid};
use farebox_channel::client::{Draft, Funded};
use farebox_channel::gateway::{Gateway, Mined, Spender};
use farebox_channel::message::ContractRequest;
use farebox_channel::{
    ChainTime, Contract, Fee, Kind, Member, Payment, Refund, RefundError, RefundRequest, Sat,
    Settlement, SettlementError, Terms, VerifiedPayment,
};

use crate::bytes::Bytes;
use crate::parties::{EXPIRY, NOW, client_key, clock_at, gateway, payout, sat, terms};

/// The first lock time that is a time and no height.
const LOCK_TIME_THRESHOLD: u32 = 500_000_000;
/// Where the transactions that spend a contract are mined.
const HEIGHT: u32 = 300;

/// Reads a transaction, which is shown as a contract: some choices, and then its bytes.
pub fn contract(data: &[u8]) {
    let mut bytes = Bytes::new(data);
    let choices = Choices::take(&mut bytes);
    let Ok(mut transaction) = deserialize::<Transaction>(bytes.rest()) else { return };
    let gateway = gateway();
    let terms = terms(&gateway, choices.kind);
    if choices.is_planted {
        choices.plant(&mut transaction, &terms);
    }
    let case = Case { gateway, terms, transaction, choices };
    case.check_transaction();
    case.check_shown();
    case.check_funding();
    case.check_spending();
}

/// What the bytes say besides the transaction.
struct Choices {
    kind: Kind,
    /// Whether one output is made to pay the contract.
    is_planted: bool,
    /// Whether another transaction's id is named.
    is_foreign: bool,
    /// Whether the payment is signed for another amount.
    is_forged: bool,
    /// Whether the contract is said to be broadcast already.
    is_broadcast: bool,
    vout: u8,
    chain: ChainTime,
    capacity: Sat,
    paid: Sat,
    rate: FeeRate,
}

impl Choices {
    fn take(bytes: &mut Bytes<'_>) -> Self {
        let flags = bytes.byte();
        let has = |bit: u8| flags & (1 << bit) != 0;
        Self {
            kind: if has(0) { Kind::Cltv } else { Kind::Refund },
            is_planted: has(1),
            is_foreign: has(2),
            is_forged: has(3),
            is_broadcast: has(4),
            vout: bytes.byte(),
            chain: ChainTime { height: bytes.number(), median_time_past: bytes.number() },
            capacity: sat(u64::from(bytes.number())),
            paid: sat(u64::from(bytes.number())),
            rate: FeeRate::from_sat_per_kwu(u64::from(bytes.number())),
        }
    }

    /// Has the output that is named pay the contract.
    fn plant(&self, transaction: &mut Transaction, terms: &Terms) {
        if let Some(output) = transaction.output.get_mut(usize::from(self.vout)) {
            output.script_pubkey = terms.script_pubkey();
            output.value = self.capacity.to_amount();
        }
    }
}

struct Case {
    gateway: Gateway,
    terms: Terms,
    transaction: Transaction,
    choices: Choices,
}

impl Case {
    fn outpoint(&self) -> OutPoint {
        let is_foreign = self.choices.is_foreign;
        let txid = if is_foreign { Txid::all_zeros() } else { self.transaction.compute_txid() };
        OutPoint { txid, vout: u32::from(self.choices.vout) }
    }

    fn contract(&self) -> Contract {
        let (terms, capacity) = (self.terms, self.choices.capacity);
        Contract { terms, outpoint: self.outpoint(), capacity, payout: payout() }
    }

    /// Returns what the output at the outpoint holds for the contract, if all is well.
    fn locked(&self) -> Option<u64> {
        let Self { terms, transaction, choices, .. } = self;
        let hash = sha256::Hash::hash(terms.witness_script().as_bytes());
        let program = [&[0x00, 0x20], hash.as_byte_array().as_slice()].concat();
        let output = transaction.output.get(usize::from(choices.vout))?;
        let is_good = !choices.is_foreign
            && output.script_pubkey.to_bytes() == program
            && (terms.kind == Kind::Cltv || is_segwit(transaction))
            && is_final(transaction, choices.chain);
        let value = output.value.to_sat();
        (is_good && value <= Sat::MAX.get()).then_some(value)
    }

    /// The gateway takes a transaction when the money is locked, and never else.
    fn check_transaction(&self) {
        let (outpoint, chain) = (self.outpoint(), self.choices.chain);
        let checked = self.terms.check_transaction(&self.transaction, outpoint, chain);
        assert_eq!(checked.ok().map(Sat::get), self.locked());
    }

    /// What the gateway admits is what was shown, and was paid for.
    fn check_shown(&self) {
        let contract = self.contract();
        let Ok(mut payment) = Payment::sign(&contract, self.choices.paid, &client_key()) else {
            return;
        };
        if self.choices.is_forged {
            let other = if payment.paid == Sat::ZERO { contract.capacity } else { Sat::ZERO };
            payment.paid = other;
        }
        let shown = ContractRequest {
            outpoint: contract.outpoint,
            transaction: (!self.choices.is_broadcast).then(|| self.transaction.clone()),
            capacity: contract.capacity,
            kind: contract.terms.kind,
            client_key: contract.terms.client_key,
            expiry: contract.terms.expiry,
            payout: contract.payout.clone(),
            payment,
        };
        let Ok(checked) = self.gateway.check_shown(&shown, clock_at(NOW), self.choices.chain)
        else {
            return;
        };
        assert_eq!((checked.contract(), checked.payment().payment()), (&contract, &payment));
        assert!(self.gateway.rules.capacity.contains(&contract.capacity));
        assert!((self.gateway.rules.first_payment..=contract.capacity).contains(&payment.paid));
        assert!(!self.choices.is_forged, "a forged payment counts");
        if !self.choices.is_broadcast {
            assert_eq!(self.locked(), Some(contract.capacity.get()));
        }
        if let Some(output) = self.transaction.output.get(usize::from(self.choices.vout)) {
            let admitted = checked.clone().admit(output);
            assert_eq!(admitted.is_ok(), *output == contract.output());
        }
        let channel = checked.admit(&contract.output()).unwrap();
        assert_eq!(**channel.contract(), contract);
        self.check_settlement(&contract, &channel.account().payment);
    }

    /// What the client takes for its contract's funding is that.
    fn check_funding(&self) {
        let Self { terms, transaction, choices, .. } = self;
        let draft = Draft { terms: *terms, capacity: choices.capacity, first_payment: Sat::ZERO };
        let Ok(funded) = draft.fund(transaction.clone(), payout()) else { return };
        let Funded { contract, .. } = &funded;
        let index = usize::try_from(contract.outpoint.vout).unwrap();
        assert_eq!(transaction.output.get(index), Some(&contract.output()));
        assert_eq!(contract.outpoint.txid, transaction.compute_txid());
        assert!(terms.kind == Kind::Cltv || is_segwit(transaction));
        assert_eq!(funded.refund_request().is_some(), terms.kind == Kind::Refund);
        self.check_refund(contract);
    }

    /// The client holds a refund only with the gateway's own signature for it, and then it pays
    /// all but the fee.
    fn check_refund(&self, contract: &Contract) {
        let Contract { terms, outpoint, capacity, .. } = contract.clone();
        let Terms { kind, client_key: client, expiry, network, .. } = terms;
        let request = RefundRequest { outpoint, capacity, client_key: client, expiry };
        let key = self.gateway.keyring.channel_key(kind, &client, expiry);
        let half = key.sign_refund(&request, network);
        let wrong = Payment::sign(contract, Sat::ZERO, &client_key()).ok();
        for half in [None, wrong.map(|payment| payment.signature)] {
            assert_eq!(Refund::new(contract.clone(), half).is_ok(), kind == Kind::Cltv);
        }
        let refund = Refund::new(contract.clone(), Some(half)).unwrap();
        let dust = payout().dust().get();
        match refund.transaction(&payout(), self.choices.rate, &client_key()) {
            Ok(refund) => {
                assert_eq!(refund.version.0, 2);
                assert_eq!(refund.lock_time.to_consensus_u32(), EXPIRY);
                let [output] = refund.output.as_slice() else { panic!("{refund:?}") };
                assert_eq!(output.script_pubkey.as_script(), payout().script());
                assert!((dust..=capacity.get()).contains(&output.value.to_sat()));
                assert_eq!(recognise(contract, &refund), Some(Spender::Refund));
            }
            Err(RefundError::FeeTooHigh { fee_sat }) => {
                assert!(capacity.get() < fee_sat.saturating_add(dust));
            }
            Err(other) => panic!("{other}"),
        }
    }

    fn check_settlement(&self, contract: &Contract, payment: &VerifiedPayment) {
        let Self { gateway, choices, .. } = self;
        let members = [Member { contract, payment }];
        match Settlement::build(&members, &gateway.keyring, &payout(), Fee::at(choices.rate)) {
            Ok(Settlement { transaction, fee, share }) => {
                let outputs: u64 =
                    transaction.output.iter().map(|output| output.value.to_sat()).sum();
                assert_eq!(outputs + fee.get(), contract.capacity.get());
                assert_eq!(share.get() + fee.get(), payment.paid().get());
                assert_eq!(recognise(contract, &transaction), Some(Spender::Settlement));
            }
            Err(SettlementError::Uneconomic { .. }) => {}
            Err(other) => panic!("{other}"),
        }
    }

    /// A transaction spends a contract when one of its inputs does.
    fn check_spending(&self) {
        let Self { transaction, choices, .. } = self;
        assert_eq!(recognise(&self.contract(), transaction), None);
        let Some(input) = transaction.input.get(usize::from(choices.vout)) else { return };
        let spent = Contract { outpoint: input.previous_output, ..self.contract() };
        let mined = Mined::recognise(&spent, transaction, HEIGHT).unwrap();
        assert_eq!((mined.txid, mined.height), (transaction.compute_txid(), HEIGHT));
    }
}

fn recognise(contract: &Contract, transaction: &Transaction) -> Option<Spender> {
    Mined::recognise(contract, transaction, HEIGHT).map(|mined| mined.by)
}

fn is_segwit(transaction: &Transaction) -> bool {
    transaction.input.iter().all(|input| input.script_sig.is_empty() && !input.witness.is_empty())
}

/// Whether the next block may have it, as the node decides it (`BIP-0113`).
fn is_final(transaction: &Transaction, chain: ChainTime) -> bool {
    let lock_time = transaction.lock_time.to_consensus_u32();
    let is_past = if lock_time < LOCK_TIME_THRESHOLD {
        u64::from(lock_time) < u64::from(chain.height) + 1
    } else {
        lock_time < chain.median_time_past
    };
    is_past || transaction.input.iter().all(|input| input.sequence == Sequence::MAX)
}
