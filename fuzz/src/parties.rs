//! The two parties of all targets: keys, rules, a clock and contracts.

use bitcoin::hashes::Hash;
use bitcoin::{Network, OutPoint, ScriptBuf, Txid, WPubkeyHash};
use farebox_channel::gateway::{Gateway, Rules, Settling};
use farebox_channel::{
    Clock, Contract, Expiry, Keyring, Kind, Msat, Payment, Payout, Sat, Seconds, Seed, Terms,
    Timestamp, VerifiedPayment,
};
use secp256k1::{SECP256K1, SecretKey};

/// What both clocks show at first.
pub(crate) const NOW: u32 = 1_800_000_000;
/// Two days later: when the contracts expire.
pub(crate) const EXPIRY: u32 = NOW + 172_800;
/// What a contract holds, in satoshi.
pub(crate) const CAPACITY: u64 = 100_000;
/// The first payment, in satoshi.
pub(crate) const FIRST: u64 = 1_000;

pub(crate) fn sat(sat: u64) -> Sat {
    Sat::new(sat).unwrap()
}

/// An amount in millisatoshi; the greatest number stands for the greatest amount.
pub(crate) fn msat(number: u32) -> Msat {
    if number == u32::MAX { Msat::MAX } else { Msat::new(u64::from(number)).unwrap() }
}

pub(crate) const fn clock_at(seconds: u32) -> Clock {
    let time = Timestamp::new(seconds as u64);
    Clock { median_time_past: time, wall: time }
}

pub(crate) fn gateway() -> Gateway {
    let keyring = Keyring::new(Seed::new([1; 32]), Network::Regtest);
    let rules = Rules {
        kinds: Kind::ALL.to_vec(),
        capacity: sat(10_000)..=sat(1_000_000),
        lifetime: Seconds::new(86_400)..=Seconds::new(864_000),
        first_payment: sat(FIRST),
        cheapest: msat(1),
        confirmations: 2,
        stop: Seconds::new(28_800),
        settle: Seconds::new(21_600),
        settling: Settling { wait: Seconds::new(0), ..Settling::default() },
        unconfirmed: None,
        restored: None,
    };
    Gateway { keyring, rules }
}

pub(crate) fn client_key() -> SecretKey {
    SecretKey::from_slice(&[2; 32]).unwrap()
}

pub(crate) fn terms(gateway: &Gateway, kind: Kind) -> Terms {
    let expiry = Expiry::new(u64::from(EXPIRY)).unwrap();
    gateway.keyring.terms(kind, client_key().public_key(SECP256K1), expiry)
}

/// Where both sides are paid.
pub(crate) fn payout() -> Payout {
    Payout::new(ScriptBuf::new_p2wpkh(&WPubkeyHash::from_byte_array([7; 20]))).unwrap()
}

pub(crate) fn contract(gateway: &Gateway, kind: Kind) -> Contract {
    Contract {
        terms: terms(gateway, kind),
        outpoint: OutPoint { txid: Txid::from_byte_array([9; 32]), vout: 1 },
        capacity: sat(CAPACITY),
        payout: payout(),
    }
}

/// The payment of `paid` satoshi, verified.
pub(crate) fn paid(contract: &Contract, paid: u64) -> VerifiedPayment {
    Payment::sign(contract, sat(paid), &client_key()).unwrap().verify(contract).unwrap()
}
