//! What a node's mempool has of the contracts, and what it costs to take its place.

use std::collections::BTreeMap;

use bitcoin::{Amount, FeeRate, OutPoint, Txid};

use super::{Closing, Spender};
use crate::units::Sat;

/// What it costs to be mined.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Market {
    /// The fee rate of a settlement that has time.
    pub relaxed: FeeRate,
    /// The fee rate of a settlement that shall be in the next blocks.
    pub urgent: FeeRate,
    /// The least fee rate that is relayed.
    pub floor: FeeRate,
    /// What a replacement pays on its own size on top of all fees that it replaces (`BIP-0125`).
    pub increment: FeeRate,
}

/// A transaction of the mempool that spends a contract.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rival {
    /// What it is.
    pub by: Spender,
    /// Its fee.
    pub fee: Sat,
    /// Its size in virtual bytes.
    pub vsize: u64,
    /// Its fee and that of its descendants.
    pub family_fee: Sat,
    /// Its size and that of its descendants, in virtual bytes.
    pub family_vsize: u64,
}

impl Rival {
    /// Returns the fee rate at which it will be mined: children may pay for it.
    pub(super) fn rate(&self) -> FeeRate {
        rate_of(self.fee, self.vsize).max(rate_of(self.family_fee, self.family_vsize))
    }
}

/// What a mempool has of the contracts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mempool {
    /// Which transaction spends which contract.
    pub spenders: BTreeMap<OutPoint, Txid>,
    /// Those transactions.
    pub rivals: BTreeMap<Txid, Rival>,
}

impl Mempool {
    /// Returns what spends a contract.
    pub(super) fn spender(&self, channel: &Closing) -> Option<(Txid, &Rival)> {
        let txid = self.spenders.get(&channel.account.contract.outpoint)?;
        Some((*txid, self.rivals.get(txid)?))
    }

    /// Returns what spends any of some contracts, each once.
    pub(super) fn rivals_of(&self, channels: &[&Closing]) -> BTreeMap<Txid, &Rival> {
        channels.iter().filter_map(|channel| self.spender(channel)).collect()
    }
}

/// Returns what a rate costs for a size.
pub(super) fn cost(rate: FeeRate, vsize: u64) -> u64 {
    rate.fee_vb(vsize).map_or(u64::MAX, Amount::to_sat)
}

/// Returns the rate of a fee, rounded down.
pub(super) fn rate_of(fee: Sat, vsize: u64) -> FeeRate {
    let weight = vsize.saturating_mul(4).max(1);
    let sat_per_kwu = fee.get().saturating_mul(1_000).checked_div(weight).unwrap_or(0);
    FeeRate::from_sat_per_kwu(sat_per_kwu)
}

/// Returns a rate that is surely more.
pub(super) fn just_above(rate: FeeRate) -> FeeRate {
    FeeRate::from_sat_per_kwu(rate.to_sat_per_kwu().saturating_add(25)) // a tenth of a sat/vB
}

/// Returns what has to be paid for what is evicted.
pub(super) fn replaced(rivals: &BTreeMap<Txid, &Rival>) -> Sat {
    let add = |sum: Sat, rival: &&Rival| sum.checked_add(rival.family_fee).unwrap_or(Sat::MAX);
    rivals.values().fold(Sat::ZERO, add)
}

/// Returns the least fee of a transaction that replaces these (`BIP-0125`).
pub(super) fn replacement_fee(
    rivals: &BTreeMap<Txid, &Rival>,
    increment: FeeRate,
    vsize: u64,
) -> u64 {
    if rivals.is_empty() {
        return 0;
    }
    replaced(rivals).get().saturating_add(cost(increment, vsize))
}
