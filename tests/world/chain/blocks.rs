//! Blocks: mined, taken away, and put in the place of others.

use std::collections::{BTreeMap, BTreeSet};

use bitcoin::block::{Header, Version};
use bitcoin::hashes::Hash;
use bitcoin::{
    Amount, Block, BlockHash, CompactTarget, OutPoint, Transaction, TxMerkleNode, TxOut, Txid,
    WPubkeyHash,
};

use super::{Sheet, ToyChain};

/// The blocks whose times make the median.
const MEDIAN_BLOCKS: usize = 11;
/// Seconds between two blocks of the beginning.
const SPACING: u64 = 600;

impl ToyChain {
    /// Makes a chain of some empty blocks that ends at a time.
    pub(super) fn new(seconds: u64) -> Self {
        let mut chain = Self {
            active: vec![],
            stale: BTreeMap::new(),
            base: BTreeMap::new(),
            coins: BTreeMap::new(),
            spends: BTreeMap::new(),
            mined: BTreeMap::new(),
            pool: BTreeMap::new(),
            known: BTreeMap::new(),
            handed: BTreeSet::new(),
            unrelayable: vec![],
            events: vec![],
            is_away: false,
            estimate: Some(2),
            floor: 1,
            told_floor: 1,
            addresses: 0,
            blocks_made: 0,
        };
        for block in (0..20).rev() {
            chain.mine(seconds - block * SPACING, &[], |_| true);
        }
        chain
    }

    /// Puts a confirmed coin into somebody's hands.
    pub(crate) fn mint(&mut self, sat: u64) -> OutPoint {
        self.addresses += 1;
        let number = self.addresses;
        let mut bytes = [0x77; 32];
        bytes[..8].copy_from_slice(&number.to_be_bytes());
        let outpoint = OutPoint { txid: Txid::from_byte_array(bytes), vout: 0 };
        let script_pubkey = bitcoin::ScriptBuf::new_p2wpkh(&WPubkeyHash::from_byte_array([3; 20]));
        let output = TxOut { value: Amount::from_sat(sat), script_pubkey };
        self.base.insert(outpoint, output.clone());
        self.coins.insert(outpoint, (output, 0));
        outpoint
    }

    /// Returns the height of the newest block.
    pub(crate) fn height(&self) -> u32 {
        u32::try_from(self.active.len()).unwrap() - 1
    }

    /// Returns the newest block's hash.
    pub(super) fn tip_hash(&self) -> BlockHash {
        self.active.last().map_or_else(BlockHash::all_zeros, |sheet| sheet.hash)
    }

    /// Returns the newest block's own time.
    pub(super) fn tip_time(&self) -> u64 {
        self.active.last().map_or(0, |sheet| u64::from(sheet.block.header.time))
    }

    /// Returns the median time of the newest blocks (`BIP-0113`).
    pub(crate) fn median_time_past(&self) -> u64 {
        let newest = self.active.iter().rev().take(MEDIAN_BLOCKS);
        let mut times: Vec<u64> = newest.map(|it| u64::from(it.block.header.time)).collect();
        times.sort_unstable();
        times.get(times.len() / 2).copied().unwrap_or(0)
    }

    /// Mines a block: first what the miner has of its own, then what it takes of the mempool.
    pub(crate) fn mine(
        &mut self,
        seconds: u64,
        own: &[Transaction],
        mut takes: impl FnMut(&Txid) -> bool,
    ) {
        let mut transactions = vec![];
        let mut made = BTreeSet::new();
        let mut gone = BTreeSet::new();
        let pooled: Vec<Transaction> = self
            .pool
            .iter()
            .filter(|(txid, _)| takes(txid))
            .map(|(_, pooled)| pooled.transaction.clone())
            .collect();
        let mut waiting: Vec<Transaction> = own.iter().cloned().chain(pooled).collect();
        // A child may stand before its parent in the list.
        for _ in 0..4 {
            waiting.retain(|transaction| {
                let is_there = |it: &OutPoint| {
                    (self.coins.contains_key(it) || made.contains(it)) && !gone.contains(it)
                };
                let spends = || transaction.input.iter().map(|input| input.previous_output);
                if !spends().all(|it| is_there(&it)) || !self.is_final(transaction) {
                    return true;
                }
                gone.extend(spends());
                let txid = transaction.compute_txid();
                made.extend(
                    (0..transaction.output.len())
                        .map(|vout| OutPoint { txid, vout: u32::try_from(vout).unwrap() }),
                );
                transactions.push(transaction.clone());
                false
            });
        }
        self.append(seconds, transactions);
        self.purge();
    }

    /// Takes the newest blocks away, and returns their transactions, oldest first.
    pub(crate) fn unwind(&mut self, depth: usize) -> Vec<Transaction> {
        let kept = self.active.len() - depth;
        let gone = self.active.split_off(kept);
        let transactions: Vec<_> =
            gone.iter().flat_map(|sheet| sheet.block.txdata.iter().cloned()).collect();
        self.stale.extend(gone.into_iter().map(|sheet| (sheet.hash, sheet)));
        self.coins = self.base.iter().map(|(at, output)| (*at, (output.clone(), 0))).collect();
        self.spends.clear();
        self.mined.clear();
        let active = self.active.clone();
        for sheet in &active {
            self.count(&sheet.block.txdata, sheet.height);
        }
        transactions
    }

    /// Puts a block on top.
    fn append(&mut self, seconds: u64, transactions: Vec<Transaction>) {
        self.blocks_made += 1;
        let time =
            if self.active.is_empty() { seconds } else { seconds.max(self.median_time_past() + 1) };
        let header = Header {
            version: Version::TWO,
            prev_blockhash: self.tip_hash(),
            merkle_root: TxMerkleNode::all_zeros(),
            time: u32::try_from(time).unwrap(),
            bits: CompactTarget::from_consensus(0),
            nonce: self.blocks_made,
        };
        let height = u32::try_from(self.active.len()).unwrap();
        self.count(&transactions, height);
        let hash = header.block_hash();
        self.active.push(Sheet { block: Block { header, txdata: transactions }, hash, height });
    }

    /// Counts a block's transactions in.
    fn count(&mut self, transactions: &[Transaction], height: u32) {
        for transaction in transactions {
            let txid = transaction.compute_txid();
            for input in &transaction.input {
                self.coins.remove(&input.previous_output);
                self.spends.insert(input.previous_output, txid);
            }
            for (vout, output) in transaction.output.iter().enumerate() {
                let outpoint = OutPoint { txid, vout: u32::try_from(vout).unwrap() };
                self.coins.insert(outpoint, (output.clone(), height));
            }
            self.mined.insert(txid, height);
            self.known.insert(txid, transaction.clone());
        }
    }
}
