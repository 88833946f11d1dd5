//! What a block costs a gateway with 10, 1,000 and 100,000 open channels.
//!
//! Run it with `cargo bench --bench block`. The watcher and the ledger are the real ones, over a
//! real SQLite file; the node is a list of blocks in memory, so that its own work does not count.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a bench that cannot go on has failed, and it prints what it has measured"
)]

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bitcoin::hashes::Hash;
use bitcoin::{
    Address, Amount, Block, BlockHash, CompactTarget, FeeRate, Network, OutPoint, ScriptBuf,
    Sequence, Transaction, TxIn, TxMerkleNode, TxOut, Txid, WPubkeyHash, Witness, absolute, block,
    transaction,
};
use farebox::config::FeeConfig;
use farebox::watcher::{Fitness, Setup, Watcher};
use farebox_chain::{BlockPlace, Chain, ChainError, Pooled, RelayPolicy, Tip, Unspent, Wallet};
use farebox_channel::gateway::{Account, Channel, Open, Rules, Settling};
use farebox_channel::{
    Contract, Expiry, Keyring, Kind, Msat, Payment, Payout, Sat, Seconds, Seed, Timestamp,
    VerifiedPayment,
};
use farebox_ledger::{Changes, Cursor, Ledger, SqliteStore, Store};
use secp256k1::ecdsa::Signature;
use secp256k1::{SECP256K1, SecretKey};
use tempfile::TempDir;

/// The transactions of a block, and the inputs of each: about what a full block has.
const TRANSACTIONS: u32 = 3_000;
const INPUTS: u32 = 3;
/// The blocks that are measured for each number of channels.
const BLOCKS: u32 = 21;
/// When the blocks are mined, in Unix seconds: long before the channels expire.
const NOW: u32 = 1_800_000_000;

#[tokio::main(flavor = "current_thread")]
async fn main() {
    println!("{} transactions with {INPUTS} inputs each; median of {BLOCKS} blocks", TRANSACTIONS);
    println!("{:>10}  {:>14}  {:>16}", "channels", "ms per block", "us per input");
    for channels in [10, 1_000, 100_000] {
        let median = measure(channels).await;
        let (ms, us) = (median.as_secs_f64() * 1e3, median.as_secs_f64() * 1e6);
        println!("{channels:>10}  {ms:>14.2}  {:>16.3}", us / f64::from(TRANSACTIONS * INPUTS));
    }
}

/// Returns the median time that a watcher takes for a block.
async fn measure(channels: u32) -> Duration {
    let folder = TempDir::with_prefix("farebox-bench-").unwrap();
    let keyring = Keyring::new(Seed::new([1; 32]), Network::Regtest);
    let path = folder.path().join("channels.sqlite");
    let mut store = SqliteStore::open(&path, &keyring.fingerprint()).unwrap();
    let node = Blocks::default();
    node.mine(0);
    let (height, hash) = node.tip();
    let open: Vec<Channel> = (0..channels).map(|number| channel(&keyring, number)).collect();
    let changes = Changes {
        channels: open.iter().collect(),
        cursor: Some(Cursor { height, hash }),
        ..Changes::default()
    };
    store.commit(&changes).unwrap();
    drop(store);
    let store = SqliteStore::open(&path, &keyring.fingerprint()).unwrap();
    let ledger = Ledger::open(store, rules()).unwrap();
    let setup = Setup {
        fitness: Fitness { needs_wallet: false, ..Fitness::new(Network::Regtest) },
        payout: Some(payout()),
        fees: FeeConfig::default(),
    };
    let watcher = Watcher::new(node.clone(), keyring, ledger.clone(), setup);
    watcher.round().await.unwrap();
    let mut times = Vec::new();
    for number in 1..=BLOCKS {
        node.mine(number);
        let began = Instant::now();
        watcher.round().await.unwrap();
        times.push(began.elapsed());
    }
    ledger.close().await;
    times.sort_unstable();
    times[times.len() / 2]
}

/// Returns an open channel that nothing is due of.
fn channel(keyring: &Keyring, number: u32) -> Channel {
    let mut secret = [7; 32];
    secret[..4].copy_from_slice(&number.to_be_bytes());
    let key = SecretKey::from_slice(&secret).unwrap().public_key(SECP256K1);
    let expiry = Expiry::new(u64::from(NOW) + 10_000_000 + u64::from(number)).unwrap();
    let contract = Contract {
        terms: keyring.terms(Kind::Cltv, key, expiry),
        outpoint: OutPoint { txid: txid(0xc0, number), vout: 0 },
        capacity: Sat::new(100_000).unwrap(),
        payout: payout(),
    };
    let signature = Signature::from_compact(&[1; 64]).unwrap();
    let payment = Payment { paid: Sat::new(1_000).unwrap(), signature };
    let account = Account {
        contract: Arc::new(contract),
        payment: VerifiedPayment::from_record(payment),
        spent: Msat::new(1_500).unwrap(),
        least: Sat::new(400).unwrap(),
        is_stale: false,
        used_at: Timestamp::new(u64::from(NOW)),
        coins: Arc::default(),
    };
    Channel::Open(Open { account, height: Some(0) })
}

fn rules() -> Rules {
    Rules {
        kinds: Kind::ALL.to_vec(),
        capacity: Sat::new(50_000).unwrap()..=Sat::new(1_000_000).unwrap(),
        lifetime: Seconds::new(172_800)..=Seconds::new(2_592_000),
        first_payment: Sat::new(400).unwrap(),
        cheapest: Msat::new(1_500).unwrap(),
        confirmations: 1,
        stop: Seconds::new(43_200),
        settle: Seconds::new(36_000),
        settling: Settling::default(),
        unconfirmed: None,
        restored: None,
    }
}

fn payout() -> Payout {
    Payout::new(ScriptBuf::new_p2wpkh(&WPubkeyHash::from_byte_array([9; 20]))).unwrap()
}

/// Returns the id number `number` of a sort.
fn txid(sort: u8, number: u32) -> Txid {
    let mut bytes = [sort; 32];
    bytes[..4].copy_from_slice(&number.to_be_bytes());
    Txid::from_byte_array(bytes)
}

/// A node that has nothing but blocks.
#[derive(Clone, Debug, Default)]
struct Blocks(Arc<Mutex<Vec<Block>>>);

impl Blocks {
    /// Puts a full block on top, which has nothing of a channel.
    fn mine(&self, number: u32) {
        let mut blocks = self.0.lock().unwrap();
        let spend = |index: u32, input: u32| TxIn {
            previous_output: OutPoint {
                txid: txid(0xb0, number * TRANSACTIONS + index),
                vout: input,
            },
            script_sig: ScriptBuf::new(),
            sequence: Sequence::MAX,
            witness: Witness::from_slice(&[[3; 71].as_slice(), &[2; 33]]),
        };
        let output =
            TxOut { value: Amount::from_sat(50_000), script_pubkey: payout().script().to_owned() };
        let transaction = |index| Transaction {
            version: transaction::Version::TWO,
            lock_time: absolute::LockTime::ZERO,
            input: (0..INPUTS).map(|input| spend(index, input)).collect(),
            output: vec![output.clone(); 2],
        };
        let header = block::Header {
            version: block::Version::TWO,
            prev_blockhash: blocks.last().map_or_else(BlockHash::all_zeros, Block::block_hash),
            merkle_root: TxMerkleNode::all_zeros(),
            time: NOW + number,
            bits: CompactTarget::from_consensus(0),
            nonce: number,
        };
        blocks.push(Block { header, txdata: (0..TRANSACTIONS).map(transaction).collect() });
    }

    fn tip(&self) -> (u32, BlockHash) {
        let blocks = self.0.lock().unwrap();
        (u32::try_from(blocks.len()).unwrap() - 1, blocks.last().unwrap().block_hash())
    }
}

/// Says that a bench asks no such thing.
fn unexpected<T>(method: &str) -> Result<T, ChainError> {
    Err(ChainError::Unexpected { method: method.to_owned(), reason: "not here".to_owned() })
}

impl Chain for Blocks {
    async fn tip(&self) -> Result<Tip, ChainError> {
        let (height, hash) = Self::tip(self);
        let time = u64::from(NOW + height);
        Ok(Tip {
            network: Network::Regtest,
            height,
            hash,
            headers: height,
            time,
            median_time_past: time,
            oldest: None,
            is_initial_download: false,
        })
    }

    async fn relay_policy(&self) -> Result<RelayPolicy, ChainError> {
        let (least, increment) = (FeeRate::BROADCAST_MIN, FeeRate::BROADCAST_MIN);
        Ok(RelayPolicy { truc: None, least, increment })
    }

    async fn block_hash(&self, height: u32) -> Result<Option<BlockHash>, ChainError> {
        let blocks = self.0.lock().unwrap();
        Ok(blocks.get(usize::try_from(height).unwrap()).map(Block::block_hash))
    }

    async fn block_place(&self, hash: BlockHash) -> Result<Option<BlockPlace>, ChainError> {
        let blocks = self.0.lock().unwrap();
        let Some(index) = blocks.iter().position(|block| block.block_hash() == hash) else {
            return Ok(None);
        };
        let previous = Some(blocks[index].header.prev_blockhash);
        Ok(Some(BlockPlace { height: u32::try_from(index).unwrap(), previous, is_active: true }))
    }

    async fn block(&self, hash: BlockHash) -> Result<Block, ChainError> {
        let blocks = self.0.lock().unwrap();
        let found = blocks.iter().find(|block| block.block_hash() == hash);
        found.cloned().map_or_else(|| unexpected("getblock"), Ok)
    }

    async fn unspent(&self, _: OutPoint) -> Result<Option<Unspent>, ChainError> {
        unexpected("gettxout")
    }

    async fn confirmed(&self, _: OutPoint) -> Result<Option<Unspent>, ChainError> {
        unexpected("gettxout")
    }

    async fn spenders(&self, _: Vec<OutPoint>) -> Result<Vec<Option<Txid>>, ChainError> {
        unexpected("gettxspendingprevout")
    }

    async fn broadcast(&self, _: Transaction) -> Result<(), ChainError> {
        unexpected("sendrawtransaction")
    }

    async fn mempool(&self) -> Result<Vec<Txid>, ChainError> {
        unexpected("getrawmempool")
    }

    async fn mempool_transaction(&self, _: Txid) -> Result<Option<Transaction>, ChainError> {
        unexpected("getrawtransaction")
    }

    async fn in_mempool(&self, _: Txid) -> Result<Option<Pooled>, ChainError> {
        unexpected("getmempoolentry")
    }

    async fn wait_for_height(&self, _: u32, _: Duration) -> Result<(), ChainError> {
        unexpected("waitforblockheight")
    }

    async fn fee_rate(&self, _: u16) -> Result<Option<FeeRate>, ChainError> {
        Ok(None)
    }
}

impl Wallet for Blocks {
    async fn check_wallet(&self) -> Result<(), ChainError> {
        unexpected("getwalletinfo")
    }

    async fn fresh_address(&self) -> Result<Address, ChainError> {
        unexpected("getnewaddress")
    }

    async fn fund(&self, _: ScriptBuf, _: u64, _: FeeRate) -> Result<Transaction, ChainError> {
        unexpected("fundrawtransaction")
    }

    async fn release(&self, _: Transaction) -> Result<(), ChainError> {
        unexpected("lockunspent")
    }
}
