//! The mempool: what a node relays, and what it does not.

use std::collections::BTreeSet;

use bitcoin::absolute::LockTime;
use bitcoin::transaction::Version;
use bitcoin::{OutPoint, Transaction, TxOut, Txid};
use farebox_channel::{Payout, SETTLEMENT_VSIZE_MAX};

use super::{Pooled, ToyChain};
use crate::script::check_spend;

/// The greatest child of an unconfirmed version 3 transaction, in vB (`BIP-0431`).
const TRUC_CHILD_VSIZE_MAX: u64 = 1_000;
/// The most transactions that one replaces, children included (`BIP-0125`, rule 5).
const REPLACED_MAX: usize = 100;
/// What a replacement pays more for each vB of its own (`BIP-0125`, rule 4).
pub(super) const INCREMENT_SAT_PER_VB: u64 = 1;

/// Why the mempool does not take a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rejected {
    /// A coin is spent, or was never there.
    Missing,
    /// The fee is too low, or lower than that of what it would replace.
    Fee,
    /// Its lock time is not reached.
    NotFinal,
    /// It pays out more than it takes in.
    Inflation,
    /// An output is worth less than it costs to spend.
    Dust,
    /// It breaks a rule of version 3 (`BIP-0431`).
    Truc,
    /// A coin's script does not let it spend.
    Script(&'static str),
}

impl ToyChain {
    /// Takes a transaction into the mempool. One that is there or mined already is no error.
    pub(crate) fn accept(&mut self, transaction: &Transaction) -> Result<Txid, Rejected> {
        let txid = transaction.compute_txid();
        if self.pool.contains_key(&txid) || self.mined.contains_key(&txid) {
            return Ok(txid);
        }
        if !self.is_final(transaction) {
            return Err(Rejected::NotFinal);
        }
        let spent = self.spent_outputs(transaction)?;
        check_scripts(transaction, &spent)?;
        let fee = fee(transaction, &spent)?;
        check_dust(transaction)?;
        let replaced = self.conflicts(transaction);
        self.check_truc(transaction, &replaced)?;
        let vsize = u64::try_from(transaction.vsize()).unwrap();
        if fee < self.floor * vsize {
            return Err(Rejected::Fee);
        }
        self.check_replacement(transaction, fee, &replaced)?;
        self.pool.retain(|txid, _| !replaced.contains(txid));
        self.known.insert(txid, transaction.clone());
        self.pool.insert(txid, Pooled { transaction: transaction.clone(), fee });
        Ok(txid)
    }

    /// Loses a transaction of the mempool, and what spends it.
    pub(crate) fn evict(&mut self, index: usize) {
        let Some(txid) = self.pool.keys().nth(index).copied() else { return };
        let _evicted = self.pool.remove(&txid);
        self.purge();
    }

    /// Drops what pays less than the least fee rate that is relayed, and what spends it.
    pub(crate) fn trim(&mut self) {
        let floor = self.floor;
        let is_poor = |txid: &Txid| {
            self.pooled_fees(*txid)
                .is_some_and(|fees| fees.iter().all(|(fee, vsize)| *fee < floor * vsize))
        };
        let poor: BTreeSet<Txid> = self.pool.keys().copied().filter(is_poor).collect();
        self.pool.retain(|txid, _| !poor.contains(txid));
        self.purge();
    }

    /// Tells whether a transaction is in the mempool or in a block.
    pub(super) fn has(&self, txid: Txid) -> bool {
        self.pool.contains_key(&txid) || self.mined.contains_key(&txid)
    }

    /// Returns what spends an output in the mempool, and the fees of that and of all that descends
    /// from it.
    pub(crate) fn rival(&self, outpoint: OutPoint) -> Option<(Transaction, u64)> {
        let (txid, pooled) = self.pooled_spender(outpoint)?;
        let [_, (family_fee, _)] = self.pooled_fees(*txid)?;
        Some((pooled.transaction.clone(), family_fee))
    }

    /// Tells whether a refund is in the mempool.
    pub(crate) fn has_refunds(&self) -> bool {
        self.pool.values().any(|it| it.transaction.lock_time != LockTime::ZERO)
    }

    /// Returns the contracts' transactions in the mempool.
    pub(crate) fn pooled_contracts(&self) -> Vec<Transaction> {
        let is_contract =
            |it: &&Transaction| it.version == Version::TWO && it.lock_time == LockTime::ZERO;
        self.pool.values().map(|it| &it.transaction).filter(is_contract).cloned().collect()
    }

    /// Returns the settlements that others have taken the place of, and that could be mined still.
    pub(crate) fn older_settlements(&self) -> Vec<Transaction> {
        let is_possible = |it: &Transaction| {
            it.input.iter().all(|input| self.coins.contains_key(&input.previous_output))
        };
        let known = self
            .known
            .iter()
            .filter(|(txid, it)| it.version == Version(3) && !self.has(**txid) && is_possible(it));
        known.map(|(_, it)| it.clone()).collect()
    }

    /// Returns how many transactions the mempool has.
    pub(crate) fn pool_len(&self) -> usize {
        self.pool.len()
    }

    /// Returns the ids of the mempool's transactions.
    pub(super) fn pool_txids(&self) -> Vec<Txid> {
        self.pool.keys().copied().collect()
    }

    /// Returns a transaction of the mempool.
    pub(super) fn pooled(&self, txid: Txid) -> Option<Transaction> {
        self.pool.get(&txid).map(|pooled| pooled.transaction.clone())
    }

    /// Returns what spends an output in the mempool.
    pub(super) fn pooled_spender(&self, outpoint: OutPoint) -> Option<(&Txid, &Pooled)> {
        let spends = |it: &Pooled| {
            it.transaction.input.iter().any(|input| input.previous_output == outpoint)
        };
        self.pool.iter().find(|(_, pooled)| spends(pooled))
    }

    /// Returns the fee and the size in vB of a transaction of the mempool, and those of itself with
    /// all that descends from it.
    pub(super) fn pooled_fees(&self, txid: Txid) -> Option<[(u64, u64); 2]> {
        let own = self.pool.get(&txid)?;
        let family = self.with_descendants(BTreeSet::from([txid]));
        let sum = family
            .iter()
            .map(|txid| &self.pool[txid])
            .fold((0, 0), |(fee, vsize), it| (fee + it.fee, vsize + it.vsize()));
        Some([(own.fee, own.vsize()), sum])
    }

    /// Returns an output that is unspent but for the mempool.
    pub(super) fn unspent_output(&self, outpoint: OutPoint) -> Option<&TxOut> {
        if let Some((output, _)) = self.coins.get(&outpoint) {
            return Some(output);
        }
        let vout = usize::try_from(outpoint.vout).ok()?;
        self.pool.get(&outpoint.txid)?.transaction.output.get(vout)
    }

    /// Returns the height of an unspent output's block.
    pub(super) fn coin_height(&self, outpoint: OutPoint) -> Option<u32> {
        self.coins.get(&outpoint).map(|(_, height)| *height)
    }

    /// Tells whether the next block may have a transaction, as far as its lock time goes: the
    /// median time past must be beyond it, strictly (`BIP-0113`).
    pub(super) fn is_final(&self, transaction: &Transaction) -> bool {
        if !transaction.is_lock_time_enabled() {
            return true;
        }
        match transaction.lock_time {
            LockTime::Blocks(height) => height.to_consensus_u32() <= self.height(),
            LockTime::Seconds(time) => u64::from(time.to_consensus_u32()) < self.median_time_past(),
        }
    }

    /// Drops what the newest block has made impossible.
    pub(super) fn purge(&mut self) {
        loop {
            let bad = |(txid, it): (&Txid, &Pooled)| {
                let is_possible = !self.mined.contains_key(txid)
                    && self.spent_outputs(&it.transaction).is_ok()
                    && self.check_truc(&it.transaction, &BTreeSet::from([*txid])).is_ok()
                    && self.is_final(&it.transaction);
                (!is_possible).then_some(*txid)
            };
            let gone: BTreeSet<Txid> = self.pool.iter().filter_map(bad).collect();
            if gone.is_empty() {
                return;
            }
            self.pool.retain(|txid, _| !gone.contains(txid));
        }
    }

    fn spent_outputs(&self, transaction: &Transaction) -> Result<Vec<TxOut>, Rejected> {
        let spent = transaction.input.iter().map(|it| self.unspent_output(it.previous_output));
        spent.map(|output| output.cloned().ok_or(Rejected::Missing)).collect()
    }

    /// Version 3 is small, and mixes with no other version while unconfirmed. It has at most one
    /// parent there and one child, which is smaller still. `leaving` does not count as a child.
    fn check_truc(
        &self,
        transaction: &Transaction,
        leaving: &BTreeSet<Txid>,
    ) -> Result<(), Rejected> {
        let is_truc = |it: &Transaction| it.version == Version(3);
        let vsize = u64::try_from(transaction.vsize()).unwrap();
        let parents = self.parents(transaction);
        if !is_truc(transaction) {
            let is_mixed = parents.iter().any(|txid| is_truc(&self.pool[txid].transaction));
            return if is_mixed { Err(Rejected::Truc) } else { Ok(()) };
        }
        let is_fine = match parents.first() {
            None => vsize <= SETTLEMENT_VSIZE_MAX,
            Some(parent) => {
                let it = &self.pool[parent].transaction;
                let is_lone = self
                    .children(&BTreeSet::from([*parent]))
                    .all(|(child, _)| leaving.contains(child));
                vsize <= TRUC_CHILD_VSIZE_MAX
                    && parents.len() == 1
                    && is_truc(it)
                    && self.parents(it).is_empty()
                    && is_lone
            }
        };
        if is_fine { Ok(()) } else { Err(Rejected::Truc) }
    }

    /// A replacement has a greater fee rate than each transaction that it conflicts with, pays for
    /// all that goes and for its own way, and spends nothing of what goes (`BIP-0125`).
    fn check_replacement(
        &self,
        transaction: &Transaction,
        fee: u64,
        replaced: &BTreeSet<Txid>,
    ) -> Result<(), Rejected> {
        if replaced.is_empty() {
            return Ok(());
        }
        if self.parents(transaction).iter().any(|parent| replaced.contains(parent)) {
            return Err(Rejected::Missing);
        }
        let vsize = u64::try_from(transaction.vsize()).unwrap();
        let is_richer = |it: &Pooled| fee * it.vsize() > it.fee * vsize;
        let is_rich = self.direct_conflicts(transaction).iter().all(|it| is_richer(&self.pool[it]));
        let replaced_fee: u64 = replaced.iter().map(|txid| self.pool[txid].fee).sum();
        let needed = replaced_fee + INCREMENT_SAT_PER_VB * vsize;
        if !is_rich || fee < needed || replaced.len() > REPLACED_MAX {
            return Err(Rejected::Fee);
        }
        Ok(())
    }

    /// Returns the transactions of the mempool that a transaction spends from.
    fn parents(&self, transaction: &Transaction) -> BTreeSet<Txid> {
        let spent = transaction.input.iter().map(|it| it.previous_output.txid);
        spent.filter(|txid| self.pool.contains_key(txid)).collect()
    }

    /// Returns the transactions of the mempool that spend from some others.
    fn children(&self, of: &BTreeSet<Txid>) -> impl Iterator<Item = (&Txid, &Pooled)> {
        self.pool.iter().filter(|(_, it)| {
            it.transaction.input.iter().any(|input| of.contains(&input.previous_output.txid))
        })
    }

    /// Returns the transactions of the mempool that spend the same coins as this one.
    pub(super) fn direct_conflicts(&self, transaction: &Transaction) -> BTreeSet<Txid> {
        let spends = transaction.input.iter().map(|it| it.previous_output);
        spends.filter_map(|it| self.pooled_spender(it)).map(|(txid, _)| *txid).collect()
    }

    /// Returns the transactions of the mempool that cannot stay beside this one.
    pub(super) fn conflicts(&self, transaction: &Transaction) -> BTreeSet<Txid> {
        self.with_descendants(self.direct_conflicts(transaction))
    }

    /// Adds all that spends from some transactions of the mempool, and from those, and so on.
    fn with_descendants(&self, mut found: BTreeSet<Txid>) -> BTreeSet<Txid> {
        loop {
            let children = self.children(&found).map(|(txid, _)| *txid);
            let children: Vec<Txid> = children.filter(|txid| !found.contains(txid)).collect();
            if children.is_empty() {
                return found;
            }
            found.extend(children);
        }
    }
}

impl Pooled {
    /// Returns its size in vB.
    fn vsize(&self) -> u64 {
        u64::try_from(self.transaction.vsize()).unwrap()
    }
}

/// Returns a transaction's fee.
fn fee(transaction: &Transaction, spent: &[TxOut]) -> Result<u64, Rejected> {
    let taken: u64 = spent.iter().map(|output| output.value.to_sat()).sum();
    let paid: u64 = transaction.output.iter().map(|output| output.value.to_sat()).sum();
    taken.checked_sub(paid).ok_or(Rejected::Inflation)
}

/// Checks every output against the dust limit of its script.
fn check_dust(transaction: &Transaction) -> Result<(), Rejected> {
    let is_dust = |output: &TxOut| match Payout::new(output.script_pubkey.clone()) {
        Ok(payout) => output.value.to_sat() < payout.dust().get(),
        Err(_) => true,
    };
    if transaction.output.is_empty() || transaction.output.iter().any(is_dust) {
        return Err(Rejected::Dust);
    }
    Ok(())
}

/// Checks what spends a script, and that all else has any witness at all.
fn check_scripts(transaction: &Transaction, spent: &[TxOut]) -> Result<(), Rejected> {
    for (index, output) in spent.iter().enumerate() {
        if output.script_pubkey.is_p2wsh() {
            check_spend(transaction, index, output).map_err(Rejected::Script)?;
        } else if transaction.input[index].witness.is_empty() {
            return Err(Rejected::Script("no witness"));
        }
    }
    Ok(())
}
