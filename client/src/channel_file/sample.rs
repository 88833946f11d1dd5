//! Channels for tests of the file.

use bitcoin::hashes::Hash;
use bitcoin::{Network, OutPoint, ScriptBuf, Txid, WPubkeyHash};
use farebox_channel::client::Purse;
use farebox_channel::{Contract, Expiry, Kind, Pass, Payment, Payout, Refund, Sat, Terms};
use secp256k1::{SECP256K1, SecretKey};
use tempfile::TempDir;

use super::ChannelFile;
use crate::record::{Record, Stage};

/// A file of its own, and its folder.
pub(super) fn file() -> (ChannelFile, TempDir) {
    let folder = TempDir::new().unwrap();
    let file = ChannelFile::open(&folder.path().join("channels.sqlite")).unwrap();
    (file, folder)
}

pub(super) fn sat(sat: u64) -> Sat {
    Sat::new(sat).unwrap()
}

/// The open channel of this number with a server, after this payment.
pub(super) fn record(number: u8, origin: &str, paid: u64) -> Record {
    let key = SecretKey::from_slice(&[number; 32]).unwrap();
    let terms = Terms {
        network: Network::Regtest,
        kind: Kind::Cltv,
        gateway_key: SecretKey::from_slice(&[99; 32]).unwrap().public_key(SECP256K1),
        client_key: key.public_key(SECP256K1),
        expiry: Expiry::new(2_000_000_000).unwrap(),
    };
    let script = ScriptBuf::new_p2wpkh(&WPubkeyHash::all_zeros());
    let contract = Contract {
        terms,
        outpoint: OutPoint { txid: Txid::from_byte_array([number; 32]), vout: 0 },
        capacity: sat(100_000),
        payout: Payout::new(script).unwrap(),
    };
    let payment = Payment::sign(&contract, sat(paid), &key).unwrap();
    let purse = Purse {
        refund: Refund::new(contract, None).unwrap(),
        payment,
        spent: payment.paid.to_msat(),
        known: None,
        least: payment.paid,
        pass: Pass::new([number; 16]),
    };
    Record { origin: origin.to_owned(), key, stage: Stage::Open(purse) }
}
