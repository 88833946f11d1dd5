//! A store full of open channels, and what a bench reads of its own process.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bitcoin::hashes::Hash;
use bitcoin::{Network, OutPoint, ScriptBuf, Txid, WPubkeyHash};
use farebox_channel::gateway::{Account, Channel, Open, Rules, Settling};
use farebox_channel::{
    Clock, Contract, Expiry, Keyring, Kind, Msat, Payment, Payout, Sat, Seconds, Seed, Terms,
    Timestamp, VerifiedPayment,
};
use farebox_ledger::{Changes, SqliteStore, Store};
use secp256k1::ecdsa::Signature;
use secp256k1::{PublicKey, SECP256K1, SecretKey};
use tempfile::TempDir;

/// What both clocks show.
const NOW: u64 = 1_800_000_000;
/// How many channels are written at a time.
const CHUNK: u32 = 10_000;
/// The ticks of a second in `/proc/self/stat`.
const TICKS_PER_SECOND: u64 = 100;

/// Makes a folder on the disk of the build: a temporary folder may be kept in memory.
pub(crate) fn folder() -> TempDir {
    TempDir::with_prefix_in("farebox-bench-", env!("CARGO_TARGET_TMPDIR")).unwrap()
}

/// Opens the store at `path`.
pub(crate) fn open_store(path: &Path) -> SqliteStore {
    SqliteStore::open(path, &keyring().fingerprint()).unwrap()
}

/// Makes a store with so many open channels, each with keys of its own.
pub(crate) fn fill(path: &Path, channels: u32) {
    let mut store = open_store(path);
    let one = SecretKey::from_slice(&[1; 32]).unwrap().public_key(SECP256K1);
    // The next key is the last one and a point more: much quicker than a new one.
    let mut client = SecretKey::from_slice(&[2; 32]).unwrap().public_key(SECP256K1);
    let mut gateway = SecretKey::from_slice(&[3; 32]).unwrap().public_key(SECP256K1);
    for first in (0..channels).step_by(CHUNK.try_into().unwrap()) {
        let chunk = first..channels.min(first + CHUNK);
        let open = chunk.map(|number| {
            client = client.combine(&one).unwrap();
            gateway = gateway.combine(&one).unwrap();
            channel(number, client, gateway)
        });
        let open: Vec<Channel> = open.collect();
        store.commit(&Changes { channels: open.iter().collect(), ..Changes::default() }).unwrap();
    }
}

fn keyring() -> Keyring {
    Keyring::new(Seed::new([1; 32]), Network::Regtest)
}

/// Returns the outpoint of the channel with this number.
pub(crate) fn outpoint(number: u32) -> OutPoint {
    // As spread over all values as hashes are.
    let spread = bitcoin::hashes::sha256d::Hash::hash(&number.to_le_bytes());
    OutPoint { txid: Txid::from_byte_array(spread.to_byte_array()), vout: 0 }
}

pub(crate) fn signature() -> Signature {
    Signature::from_compact(&[1; 64]).unwrap()
}

/// Returns an open channel.
fn channel(number: u32, client_key: PublicKey, gateway_key: PublicKey) -> Channel {
    let expiry = Expiry::new(NOW + 172_800 + u64::from(number % 864_000)).unwrap();
    let kind = Kind::Cltv;
    let network = Network::Regtest;
    let payout = ScriptBuf::new_p2wpkh(&WPubkeyHash::from_byte_array([7; 20]));
    let contract = Contract {
        terms: Terms { network, kind, gateway_key, client_key, expiry },
        outpoint: outpoint(number),
        capacity: Sat::new(1_000_000_000).unwrap(),
        payout: Payout::new(payout).unwrap(),
    };
    let payment = Payment { paid: Sat::new(1_000).unwrap(), signature: signature() };
    let account = Account {
        contract: Arc::new(contract),
        payment: VerifiedPayment::from_record(payment),
        spent: Msat::new(1_500).unwrap(),
        least: Sat::new(400).unwrap(),
        is_stale: false,
        used_at: now().now(),
        coins: Arc::default(),
    };
    Channel::Open(Open { account, height: Some(800_000 + number % 2_000) })
}

pub(crate) fn now() -> Clock {
    Clock { median_time_past: Timestamp::new(NOW), wall: Timestamp::new(NOW) }
}

pub(crate) fn rules() -> Rules {
    Rules {
        kinds: Kind::ALL.to_vec(),
        capacity: Sat::new(10_000).unwrap()..=Sat::new(1_000_000_000).unwrap(),
        lifetime: Seconds::new(86_400)..=Seconds::new(864_000),
        first_payment: Sat::new(1_000).unwrap(),
        cheapest: Msat::new(1).unwrap(),
        confirmations: 1,
        stop: Seconds::new(28_800),
        settle: Seconds::new(21_600),
        settling: Settling::default(),
        unconfirmed: None,
        restored: None,
    }
}

/// Returns the processor time that this process has used.
pub(crate) fn cpu_time() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let (_, fields) = stat.rsplit_once(") ").unwrap();
    // The user's and the system's time: fields 14 and 15 of all, of which two are cut off.
    let ticks = fields.split(' ').skip(11).take(2).map(|it| it.parse::<u64>().unwrap());
    Duration::from_millis(ticks.sum::<u64>() * 1_000 / TICKS_PER_SECOND)
}
