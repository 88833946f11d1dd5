//! The laws of the end: once a world is calm, every satoshi is where it belongs, and the records
//! say so.

use std::collections::{BTreeMap, BTreeSet};

use bitcoin::transaction::Version;
use bitcoin::{OutPoint, Transaction};
use farebox_channel::gateway::{Channel, Closing, Ended, Spender};
use farebox_channel::message::StateName;
use farebox_channel::{Sat, Settlement};

use super::{Law, change};
use crate::books::{Page, Truth};
use crate::chain::{ToyChain, is_gateways};

/// What is on record.
type Records = BTreeMap<OutPoint, Channel>;

/// In the end every contract that was mined is spent, and what was served is settled.
pub(crate) fn all_is_settled(truth: &Truth, chain: &ToyChain, calm_since: u64) -> Law {
    for page in truth.pages.values() {
        let outpoint = page.contract.outpoint;
        let is_lost = page.is_restored || page.is_client_restored;
        if is_lost || !chain.is_confirmed(outpoint) {
            continue;
        }
        let Some((transaction, _)) = chain.mined_spender(outpoint) else {
            return Err(format!("in the end every contract is spent, and {outpoint} is not"));
        };
        let has_had_time = u64::from(page.contract.terms.expiry.get()) > calm_since + 14_400;
        if has_had_time && page.served_msat() > 0 && transaction.version != Version(3) {
            return Err(format!("in the end what was served is settled, and {outpoint} is not"));
        }
    }
    Ok(())
}

/// In the end the records say what the chain says, of every channel that no restore has met.
pub(crate) fn the_records_tell_the_truth(
    records: &Records,
    truth: &Truth,
    chain: &ToyChain,
) -> Law {
    for (outpoint, channel) in records {
        let page = &truth.pages[outpoint];
        if page.is_restored {
            continue;
        }
        if let Err(why) = the_record_tells_the_truth(channel, page, chain) {
            let name = channel.name();
            return Err(format!("in the end the record of {outpoint}, {name}, is true: {why}"));
        }
    }
    Ok(())
}

fn the_record_tells_the_truth(channel: &Channel, page: &Page, chain: &ToyChain) -> Law {
    let paid = channel.account().payment.paid();
    let account = channel.account();
    let is_served = account.spent.get() > 0 || account.is_stale;
    let at_risk = if is_served { paid } else { Sat::ZERO };
    let spender = chain.mined_spender(page.contract.outpoint);
    let mined = channel.mined();
    let lost = match (spender, mined) {
        (Some((transaction, height)), Some(mined)) => {
            let is_same = transaction.compute_txid() == mined.txid && height == mined.height;
            if !is_same {
                return Err(format!("{mined:?} is not what has spent it at {height}"));
            }
            let is_settlement = transaction.version == Version(3);
            if is_settlement != (mined.by == Spender::Settlement) {
                return Err(format!("it was not spent by a {:?}", mined.by));
            }
            let settled = page.contract.capacity.get() - change(page, transaction);
            if is_settlement && (settled != paid.get() || mined.settled != paid) {
                return Err(format!("{paid} paid, {settled} sat settled, {mined:?}"));
            }
            if is_settlement && settlement_of(channel).map(Settlement::txid) != Some(mined.txid) {
                return Err("its settlement is not on record".to_owned());
            }
            if is_settlement { Sat::ZERO } else { at_risk }
        }
        (Some((transaction, _)), None) => {
            return Err(format!("{} has spent it", transaction.compute_txid()));
        }
        (None, Some(mined)) if mined.by == Spender::DoubleSpend => at_risk,
        (None, Some(mined)) => return Err(format!("{mined:?} is in no block")),
        (None, None) if channel.name() == StateName::WrittenOff => at_risk,
        (None, None) => Sat::ZERO,
    };
    if channel.lost() == lost {
        return Ok(());
    }
    Err(format!("{} lost, and not {}", lost, channel.lost()))
}

/// Returns the settlement that is on record.
fn settlement_of(channel: &Channel) -> Option<&Settlement> {
    match channel {
        Channel::Closing(Closing { settlement, .. }) | Channel::Ended(Ended { settlement, .. }) => {
            settlement.as_deref()
        }
        _ => None,
    }
}

/// In the end what the gateway has got, and the fees that it has paid, make what the records say is
/// settled, to the satoshi.
pub(crate) fn the_settlements_balance(records: &Records, truth: &Truth, chain: &ToyChain) -> Law {
    let spenders = truth.pages.keys().filter_map(|contract| chain.mined_spender(*contract));
    let settlements: BTreeMap<_, &Transaction> = spenders
        .filter(|(transaction, _)| transaction.version == Version(3))
        .map(|(transaction, _)| (transaction.compute_txid(), transaction))
        .collect();
    for (txid, transaction) in settlements {
        let members: Vec<OutPoint> =
            transaction.input.iter().map(|input| input.previous_output).collect();
        if members.iter().any(|member| truth.pages[member].is_restored) {
            continue;
        }
        let capacity: u64 =
            members.iter().map(|member| truth.pages[member].contract.capacity.get()).sum();
        let given: u64 = transaction.output.iter().map(|output| output.value.to_sat()).sum();
        let own: Vec<u64> = transaction
            .output
            .iter()
            .filter(|output| is_gateways(&output.script_pubkey))
            .map(|output| output.value.to_sat())
            .collect();
        let settled = |member| records.get(member).and_then(Channel::mined).map(|it| it.settled);
        let settled: u64 = members.iter().filter_map(settled).map(Sat::get).sum();
        let fee = capacity.checked_sub(given).ok_or("a settlement makes no money")?;
        if own.len() > 1 || own.iter().sum::<u64>() + fee != settled {
            return Err(format!(
                "in the end share + fee = settled: {own:?} and {fee}, and {settled}, in {txid}"
            ));
        }
    }
    Ok(())
}

/// In the end nothing is left in the middle: who is still closing waits for a contract that is in
/// no block, or was given up.
pub(crate) fn nothing_is_left_closing(records: &Records, truth: &Truth, chain: &ToyChain) -> Law {
    let mut live = BTreeMap::new();
    for (outpoint, channel) in records {
        let Channel::Closing(closing) = channel else { continue };
        if truth.pages[outpoint].is_restored || closing.mined.is_some() || closing.is_written_off {
            continue;
        }
        if chain.is_confirmed(*outpoint) {
            return Err(format!("in the end nothing is left closing, and {outpoint} is"));
        }
        if let Some(settlement) = &closing.settlement {
            for member in settlement.members() {
                live.entry(member).or_insert_with(BTreeSet::new).insert(settlement.txid());
            }
        }
    }
    match live.iter().find(|(_, settlements)| settlements.len() > 1) {
        Some((member, settlements)) => {
            Err(format!("no channel is in two settlements: {member} is in {settlements:?}"))
        }
        None => Ok(()),
    }
}
