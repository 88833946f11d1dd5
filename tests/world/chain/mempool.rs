//! The mempool: what a node relays, and what it does not.

use std::collections::BTreeSet;

use bitcoin::absolute::LockTime;
use bitcoin::transaction::Version;
use bitcoin::{OutPoint, Transaction, TxOut, Txid};
use farebox_channel::{Payout, SETTLEMENT_VSIZE_MAX};

use super::{Pooled, ToyChain};
use crate::script::check_spend;

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
        self.check_truc(transaction)?;
        let vsize = u64::try_from(transaction.vsize()).unwrap();
        if fee < self.floor * vsize {
            return Err(Rejected::Fee);
        }
        let replaced = self.conflicts(transaction);
        let replaced_fee: u64 = replaced.iter().map(|txid| self.pool[txid].fee).sum();
        if !replaced.is_empty() && fee < replaced_fee + vsize {
            return Err(Rejected::Fee);
        }
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
                    && self.check_truc(&it.transaction).is_ok()
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

    /// Version 3 spends nothing unconfirmed here, nobody spends it unconfirmed, and it is small.
    fn check_truc(&self, transaction: &Transaction) -> Result<(), Rejected> {
        let is_truc = transaction.version == Version(3);
        let vsize = u64::try_from(transaction.vsize()).unwrap();
        let parents =
            transaction.input.iter().filter_map(|it| self.pool.get(&it.previous_output.txid));
        let mixed = |parent: &Pooled| is_truc || parent.transaction.version == Version(3);
        if (is_truc && vsize > SETTLEMENT_VSIZE_MAX) || parents.into_iter().any(mixed) {
            return Err(Rejected::Truc);
        }
        Ok(())
    }

    /// Returns the transactions of the mempool that cannot stay beside this one.
    fn conflicts(&self, transaction: &Transaction) -> BTreeSet<Txid> {
        let spends = transaction.input.iter().map(|it| it.previous_output);
        let mut found: BTreeSet<Txid> =
            spends.filter_map(|it| self.pooled_spender(it)).map(|(txid, _)| *txid).collect();
        loop {
            let is_child = |it: &Pooled| {
                it.transaction.input.iter().any(|it| found.contains(&it.previous_output.txid))
            };
            let children: Vec<Txid> = self
                .pool
                .iter()
                .filter(|(txid, it)| !found.contains(*txid) && is_child(it))
                .map(|(txid, _)| *txid)
                .collect();
            if children.is_empty() {
                return found;
            }
            found.extend(children);
        }
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
