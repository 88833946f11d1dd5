//! A toy chain: blocks with times, unspent outputs, a mempool and reorgs. It checks what spends a
//! contract as a node does.

mod blocks;
mod mempool;
mod node;
mod relay;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard};

use bitcoin::{Block, BlockHash, OutPoint, Transaction, TxOut, Txid};

use crate::life::lock;
pub(crate) use mempool::Rejected;
pub(crate) use node::{CONFIGURED_HASH, ToyNode, is_gateways};

/// What a chain holds.
#[derive(Debug)]
pub(crate) struct ToyChain {
    /// The active chain, from height 0 on.
    active: Vec<Sheet>,
    /// Blocks that a reorg has taken away.
    stale: BTreeMap<BlockHash, Sheet>,
    /// Coins that were there from the beginning.
    base: BTreeMap<OutPoint, TxOut>,
    /// The unspent outputs of the active chain, and the heights of their blocks.
    coins: BTreeMap<OutPoint, (TxOut, u32)>,
    /// What the active chain's transactions spend.
    spends: BTreeMap<OutPoint, Txid>,
    mined: BTreeMap<Txid, u32>,
    pool: BTreeMap<Txid, Pooled>,
    /// Every transaction that was ever in the mempool or in a block.
    known: BTreeMap<Txid, Transaction>,
    /// The contracts whose settlement the gateway has handed out.
    pub(crate) handed: BTreeSet<OutPoint>,
    /// What the gateway has handed to the node although no network would relay it.
    pub(crate) unrelayable: Vec<String>,
    /// What has happened in the mempool since this was last emptied.
    pub(crate) events: Vec<&'static str>,
    /// Whether the gateway's node is away.
    pub(crate) is_away: bool,
    /// The node's estimate for a transaction that has time, in sat/vB. Who is in a hurry pays
    /// twice as much.
    pub(crate) estimate: Option<u64>,
    /// The least fee rate that is relayed, in sat/vB.
    pub(crate) floor: u64,
    /// What the gateway was told of that last.
    told_floor: u64,
    addresses: u64,
    blocks_made: u32,
}

/// A block.
#[derive(Clone, Debug)]
struct Sheet {
    block: Block,
    hash: BlockHash,
    height: u32,
}

/// A transaction of the mempool.
#[derive(Clone, Debug)]
struct Pooled {
    transaction: Transaction,
    fee: u64,
}

/// A chain that everybody sees. Clones share it.
#[derive(Clone, Debug)]
pub(crate) struct SharedChain(Arc<Mutex<ToyChain>>);

impl SharedChain {
    /// Makes a chain of some empty blocks that ends at a time.
    pub(crate) fn new(seconds: u64) -> Self {
        Self(Arc::new(Mutex::new(ToyChain::new(seconds))))
    }

    /// Returns the chain.
    pub(crate) fn look(&self) -> MutexGuard<'_, ToyChain> {
        lock(&self.0)
    }
}

impl ToyChain {
    /// Returns the transaction that spends an output in the active chain or in the mempool.
    pub(crate) fn spender(&self, outpoint: OutPoint) -> Option<&Transaction> {
        let mined = self.spends.get(&outpoint).and_then(|txid| self.known.get(txid));
        mined.or_else(|| self.pooled_spender(outpoint).map(|(_, pooled)| &pooled.transaction))
    }

    /// Returns the transaction that spends an output in the active chain, and its height.
    pub(crate) fn mined_spender(&self, outpoint: OutPoint) -> Option<(&Transaction, u32)> {
        let txid = self.spends.get(&outpoint)?;
        Some((self.known.get(txid)?, *self.mined.get(txid)?))
    }

    /// Returns an output that was ever made, whatever became of it.
    pub(crate) fn output_ever(&self, outpoint: OutPoint) -> Option<&TxOut> {
        let vout = usize::try_from(outpoint.vout).ok()?;
        self.known.get(&outpoint.txid)?.output.get(vout)
    }

    /// Tells whether an output stands in the active chain, spent or not.
    pub(crate) fn is_confirmed(&self, outpoint: OutPoint) -> bool {
        self.mined.contains_key(&outpoint.txid)
    }
}
