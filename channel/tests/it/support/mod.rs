//! Two parties, a contract of each kind, rules and a clock; and a node's view of a spend.

mod law;
mod node;
pub(crate) mod settling;

use bitcoin::hashes::Hash;
use bitcoin::sighash::SighashCache;
use bitcoin::{
    Amount, EcdsaSighashType, FeeRate, Network, OutPoint, PubkeyHash, ScriptBuf, ScriptHash,
    Sequence, Transaction, TxIn, TxOut, Txid, WPubkeyHash, Witness, absolute, transaction,
};
use farebox_channel::gateway::{
    Channel, Closing, Gateway, Input, Market, Mempool, Plan, Rules, Settling, Step,
};
use farebox_channel::message::ContractRequest;
use farebox_channel::{
    ChainTime, Clock, Contract, Expiry, Keyring, Kind, Msat, Payment, Payout, Sat, Seconds, Seed,
    Terms, Timestamp, VerifiedPayment,
};
use secp256k1::constants::CURVE_ORDER;
use secp256k1::ecdsa::Signature;
use secp256k1::{Message, PublicKey, SECP256K1, SecretKey};

pub(crate) use law::law;
pub(crate) use node::check_spend;

/// What both clocks show.
pub(crate) const NOW: u64 = 1_800_000_000;
/// Two days later: when the contracts of these tests expire.
pub(crate) const EXPIRY: u64 = NOW + 172_800;
/// What the contracts of these tests hold, in satoshi.
pub(crate) const CAPACITY: u64 = 100_000;
/// The first payment, in satoshi.
pub(crate) const FIRST: u64 = 1_000;
/// How long before the expiry payments stop, in seconds.
pub(crate) const STOP: u64 = 28_800;
/// How long before the expiry the settlement goes out, in seconds.
pub(crate) const SETTLE: u64 = 21_600;

pub(crate) fn sat(sat: u64) -> Sat {
    Sat::new(sat).unwrap()
}

pub(crate) fn msat(msat: u64) -> Msat {
    Msat::new(msat).unwrap()
}

pub(crate) fn expiry(seconds: u64) -> Expiry {
    Expiry::new(seconds).unwrap()
}

/// A clock whose two hands agree.
pub(crate) fn clock_at(seconds: u64) -> Clock {
    Clock { median_time_past: Timestamp::new(seconds), wall: Timestamp::new(seconds) }
}

pub(crate) fn now() -> Clock {
    clock_at(NOW)
}

pub(crate) fn chain() -> ChainTime {
    ChainTime { height: 200, median_time_past: u32::try_from(NOW).unwrap() }
}

pub(crate) fn rate(sat_per_vb: u64) -> FeeRate {
    FeeRate::from_sat_per_vb(sat_per_vb).unwrap()
}

/// The secret key number `number`.
pub(crate) fn key(number: u32) -> SecretKey {
    let mut bytes = [2; 32];
    bytes[28..].copy_from_slice(&number.to_be_bytes());
    SecretKey::from_slice(&bytes).unwrap()
}

/// The client's key.
pub(crate) fn client_key() -> SecretKey {
    key(0)
}

pub(crate) fn public(key: &SecretKey) -> PublicKey {
    key.public_key(SECP256K1)
}

pub(crate) fn keyring() -> Keyring {
    Keyring::new(Seed::new([1; 32]), Network::Regtest)
}

pub(crate) fn rules() -> Rules {
    Rules {
        kinds: Kind::ALL.to_vec(),
        capacity: sat(10_000)..=sat(1_000_000),
        lifetime: Seconds::new(86_400)..=Seconds::new(864_000),
        first_payment: sat(FIRST),
        cheapest: Msat::new(1).unwrap(),
        confirmations: 2,
        stop: Seconds::new(u32::try_from(STOP).unwrap()),
        settle: Seconds::new(u32::try_from(SETTLE).unwrap()),
        settling: Settling { wait: Seconds::new(0), ..Settling::default() },
        unconfirmed: None,
        restored: None,
    }
}

pub(crate) fn gateway() -> Gateway {
    Gateway { keyring: keyring(), rules: rules() }
}

pub(crate) fn terms(kind: Kind) -> Terms {
    keyring().terms(kind, public(&client_key()), expiry(EXPIRY))
}

pub(crate) fn p2wpkh() -> Payout {
    Payout::new(ScriptBuf::new_p2wpkh(&WPubkeyHash::from_byte_array([7; 20]))).unwrap()
}

/// A payout of each kind that there is, and its dust.
pub(crate) fn payouts() -> [(Payout, u64); 5] {
    let program = |version| ScriptBuf::from_bytes([&[version, 32], &[7; 32][..]].concat());
    let payout = |script| Payout::new(script).unwrap();
    [
        (p2wpkh(), 294),
        (payout(program(0x00)), 330),
        (payout(program(0x51)), 330),
        (payout(ScriptBuf::new_p2sh(&ScriptHash::from_byte_array([7; 20]))), 540),
        (payout(ScriptBuf::new_p2pkh(&PubkeyHash::from_byte_array([7; 20]))), 546),
    ]
}

pub(crate) fn outpoint(number: u8) -> OutPoint {
    OutPoint { txid: Txid::from_byte_array([number; 32]), vout: u32::from(number) }
}

/// The same for more numbers than a byte has.
pub(crate) fn numbered(number: u16) -> OutPoint {
    let mut id = [3; 32];
    id[..2].copy_from_slice(&number.to_be_bytes());
    OutPoint { txid: Txid::from_byte_array(id), vout: 0 }
}

/// The contract that most tests are about.
pub(crate) fn contract(kind: Kind) -> Contract {
    let terms = terms(kind);
    Contract { terms, outpoint: outpoint(9), capacity: sat(CAPACITY), payout: p2wpkh() }
}

/// The payment of `paid` satoshi on `contract`, verified.
pub(crate) fn paid(contract: &Contract, paid: u64) -> VerifiedPayment {
    Payment::sign(contract, sat(paid), &client_key()).unwrap().verify(contract).unwrap()
}

/// A transaction with one native segwit input and these outputs.
pub(crate) fn funding(outputs: &[(u64, ScriptBuf)]) -> Transaction {
    let output = |(value, script): &(u64, ScriptBuf)| TxOut {
        value: Amount::from_sat(*value),
        script_pubkey: script.clone(),
    };
    Transaction {
        version: transaction::Version::TWO,
        lock_time: absolute::LockTime::ZERO,
        input: vec![TxIn {
            previous_output: outpoint(1),
            sequence: Sequence::ENABLE_LOCKTIME_NO_RBF,
            witness: Witness::from_slice(&[&[1; 71][..], &[2; 33][..]]),
            ..TxIn::default()
        }],
        output: outputs.iter().map(output).collect(),
    }
}

/// The message that shows an honest contract of `kind` with the first payment.
pub(crate) fn shown(kind: Kind) -> ContractRequest {
    let terms = terms(kind);
    let transaction =
        funding(&[(5_000, p2wpkh().script().into()), (CAPACITY, terms.script_pubkey())]);
    let outpoint = OutPoint { txid: transaction.compute_txid(), vout: 1 };
    let contract = Contract { outpoint, ..contract(kind) };
    ContractRequest {
        outpoint,
        transaction: Some(transaction),
        capacity: contract.capacity,
        kind,
        client_key: terms.client_key,
        expiry: terms.expiry,
        payout: contract.payout.clone(),
        payment: *paid(&contract, FIRST).payment(),
    }
}

/// A channel whose contract was shown and is not confirmed.
pub(crate) fn pending(kind: Kind) -> Channel {
    let shown = gateway().check_shown(&shown(kind), now(), chain()).unwrap();
    let output = shown.contract().output();
    shown.admit(&output).unwrap()
}

/// A channel that takes payments.
pub(crate) fn open(kind: Kind) -> Channel {
    step(&pending(kind), Input::Confirmed { height: 201, confirmations: 2 })
}

/// The channel after `input`, which it takes.
pub(crate) fn step(channel: &Channel, input: Input) -> Channel {
    let next = channel.handle(now(), &rules(), input.clone());
    next.unwrap_or_else(|refusal| panic!("{input:?} is refused: {refusal}"))
}

/// What it costs to be mined, where one fee rate is as good as any.
pub(crate) fn market(sat_per_vb: u64) -> Market {
    let rate = rate(sat_per_vb);
    Market { relaxed: rate, urgent: rate, floor: self::rate(1), increment: self::rate(1) }
}

/// What is to be done for one channel while the mempool has nothing for it.
pub(crate) fn planned(channel: &Channel, clock: Clock) -> Vec<Step> {
    let Channel::Closing(closing) = channel else { return vec![] };
    Plan::new(&[closing], &Mempool::default(), &market(1), &rules(), clock.now()).0
}

/// Tells whether a settlement of one channel is to be built, or handed to the node.
pub(crate) fn is_settled_next(channel: &Channel, clock: Clock) -> bool {
    matches!(planned(channel, clock).as_slice(), [Step::Build(_) | Step::Broadcast(_)])
}

/// Tells whether one channel is still to be settled, at once or later.
pub(crate) fn is_claimed(channel: &Channel) -> bool {
    matches!(channel, Channel::Closing(closing) if Closing::is_claimed(closing))
}

/// The input that pays `paid_sat` in all and charges `price_msat`.
pub(crate) fn pay(channel: &Channel, paid_sat: u64, price_msat: u64) -> Input {
    Input::Pay { payment: paid(channel.contract(), paid_sat), price: msat(price_msat) }
}

/// The same signature with the other S, which the network does not relay.
pub(crate) fn high_s(low: &Signature) -> Signature {
    let mut compact = low.serialize_compact();
    let mut borrow = 0;
    for (s, order) in compact[32..].iter_mut().zip(CURVE_ORDER).rev() {
        let difference = i16::from(order) - i16::from(*s) - borrow;
        borrow = i16::from(difference < 0);
        *s = u8::try_from(difference.rem_euclid(256)).unwrap();
    }
    Signature::from_compact(&compact).unwrap()
}

/// The digest of input `index`, which spends `contract`, for `flag`.
pub(crate) fn digest(
    transaction: &Transaction,
    index: usize,
    contract: &Contract,
    flag: EcdsaSighashType,
) -> Message {
    let (script, value) = (contract.terms.witness_script(), contract.capacity.to_amount());
    let hash = SighashCache::new(transaction).p2wsh_signature_hash(index, &script, value, flag);
    Message::from_digest(hash.unwrap().to_byte_array())
}

/// The size of `transaction` in virtual bytes.
pub(crate) fn vsize(transaction: &Transaction) -> u64 {
    u64::try_from(transaction.vsize()).unwrap()
}

/// The weight of `transaction` if each of its signatures were 71 bytes long.
pub(crate) fn usual_weight(transaction: &Transaction) -> usize {
    let weight = usize::try_from(transaction.weight().to_wu()).unwrap();
    let witnesses = transaction.input.iter().flat_map(|input| input.witness.iter());
    let (count, length) = witnesses
        .filter(|item| item.first() == Some(&0x30)) // DER; no script of ours begins so
        .fold((0, 0), |(count, length), signature| (count + 1, length + signature.len()));
    weight + 71 * count - length
}
