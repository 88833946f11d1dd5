//! The laws of a watcher that has just looked around, with a node that answers and a disk that is
//! good: what is late is on its way, and costs what it is worth.

use std::collections::BTreeMap;

use bitcoin::OutPoint;
use bitcoin::transaction::Version;
use farebox_channel::gateway::{Channel, Closing, Rules};

use super::Law;
use super::settling::Weather;
use crate::chain::ToyChain;

/// More than the size of a settlement of one channel, in vB.
const ALONE_VSIZE: u64 = 300;
/// By how much what is at stake has to be more than the fee of a refund that is certainly beaten.
const BEATEN: u64 = 3;

/// Checks every closing channel that is past its mark.
pub(crate) fn what_is_late_is_on_its_way(
    records: &BTreeMap<OutPoint, Channel>,
    chain: &ToyChain,
    rules: &Rules,
    weather: Weather,
) -> Law {
    for channel in records.values() {
        let Channel::Closing(closing) = channel else { continue };
        let expiry = closing.account.contract.terms.expiry;
        let is_late = weather.now >= expiry.before(rules.settle).get();
        if !is_late || !closing.is_claimed() || closing.height.is_none() {
            continue;
        }
        of_late(closing, records, chain, rules, weather)?;
    }
    Ok(())
}

fn of_late(
    closing: &Closing,
    records: &BTreeMap<OutPoint, Channel>,
    chain: &ToyChain,
    rules: &Rules,
    weather: Weather,
) -> Law {
    let outpoint = closing.account.contract.outpoint;
    let paid = closing.account.payment.paid().get();
    let Some((rival, family_fee)) = chain.rival(outpoint) else {
        if weather.floor * ALONE_VSIZE * 2 > paid {
            return Ok(()); // It does not pay.
        }
        return Err(format!("what is late is on its way, and {outpoint} is not"));
    };
    let own_stake = stake(closing, rules, weather.now);
    if rival.version != Version(3) {
        if own_stake < BEATEN * (family_fee + ALONE_VSIZE) {
            return Ok(());
        }
        return Err(format!(
            "a refund is beaten where that is worth it: {own_stake} sat at stake, fee {family_fee} sat"
        ));
    }
    let members = rival.input.iter().filter_map(|input| records.get(&input.previous_output));
    let stakes = members.map(|member| match member {
        Channel::Closing(member) if member.is_claimed() => stake(member, rules, weather.now),
        _ => 0,
    });
    let stakes: u64 = stakes.sum();
    let vsize = u64::try_from(rival.vsize()).unwrap();
    // What is bumped pays a quarter more, and for its own way; and less than the floor never helps.
    if family_fee * 5 / 4 + 2 * vsize >= stakes || weather.floor * vsize > stakes {
        return Ok(());
    }
    Err(format!(
        "a late settlement costs what is at stake: {} costs {family_fee} sat, of {stakes} sat",
        rival.compute_txid()
    ))
}

/// Returns how much of what is paid a fee takes now, in satoshi.
fn stake(closing: &Closing, rules: &Rules, now: u64) -> u64 {
    let span = u64::from(rules.settling.emergency.get());
    let mark = closing.account.contract.terms.expiry.before(rules.settling.emergency).get();
    let gone = now.saturating_sub(mark).min(span);
    let most = closing.account.payment.paid().get() * u64::from(rules.settling.stake_percent);
    most * gone / (span * 100)
}
