//! The laws of settlements: what each of them pays, how often one is built, and when a channel is
//! given up.

use std::collections::BTreeMap;

use bitcoin::{OutPoint, Txid};
use farebox_channel::Settlement;
use farebox_channel::gateway::{Channel, Closing, Ended, Rules};

use super::{Law, change};
use crate::books::Truth;
use crate::disk::Written;

/// The most settlements that are built for one channel in a calm world.
const BUILT_IN_CALM_MAX: usize = 60;

/// The dust limit of the gateway's own output, in satoshi.
const OWN_DUST: u64 = 294;
/// The size of the gateway's own output, in vB.
const OWN_VSIZE: u64 = 31;

/// What a node asks for when a settlement is built.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Weather {
    /// The later of the chain's and the own clock, in Unix seconds.
    pub(crate) now: u64,
    /// The highest fee rate that was lately the least that is relayed, in sat/vB.
    pub(crate) floor: u64,
    /// Whether a refund was lately in the mempool.
    pub(crate) has_refunds: bool,
}

/// What the gateway has built to settle each channel, oldest first: the ids and fees.
#[derive(Debug, Default)]
pub(crate) struct Docket {
    built: BTreeMap<OutPoint, Vec<(Txid, u64)>>,
    /// How many settlements each channel had when the calm began.
    before_calm: Option<BTreeMap<OutPoint, usize>>,
}

impl Docket {
    /// Notes that nothing goes wrong any more.
    pub(crate) fn begin_calm(&mut self) {
        let counts = self.built.iter().map(|(channel, built)| (*channel, built.len()));
        self.before_calm = Some(counts.collect());
    }

    /// Returns the ids of what was built for a channel, oldest first.
    pub(crate) fn of(&self, channel: OutPoint) -> Vec<Txid> {
        self.built.get(&channel).into_iter().flatten().map(|(txid, _)| *txid).collect()
    }

    /// Checks what a commit says of a channel's settlement.
    pub(crate) fn check(
        &mut self,
        written: &Written,
        truth: &Truth,
        rules: &Rules,
        weather: Weather,
    ) -> Law {
        nothing_is_given_up_too_soon(written, rules, weather)?;
        let (Channel::Closing(Closing { settlement: Some(settlement), .. })
        | Channel::Ended(Ended { settlement: Some(settlement), .. })) = &written.after
        else {
            return Ok(());
        };
        every_satoshi_is_accounted_for(settlement, truth)?;
        if let Some(mined) = written.after.mined() {
            if mined.txid == settlement.txid() {
                return Ok(());
            }
            return Err(format!("of a channel that {} has spent, none else is kept", mined.txid));
        }
        each_is_settled_for_what_is_paid(&written.after, settlement, truth)?;
        let channel = written.after.contract().outpoint;
        let txid = settlement.txid();
        if self.of(channel).contains(&txid) {
            return Ok(());
        }
        self.a_replacement_is_worth_its_fee(settlement, truth, rules, weather)?;
        if let Some(Channel::Closing(Closing { settlement: Some(before), .. })) = &written.before {
            a_bump_is_a_quarter(before, settlement, weather)?;
        }
        let built = self.built.entry(channel).or_default();
        built.push((txid, settlement.fee.get()));
        let before = self.before_calm.as_ref().map(|counts| counts.get(&channel).copied());
        match before.map(|before| built.len() - before.unwrap_or(0)) {
            Some(count) if count > BUILT_IN_CALM_MAX => {
                Err(format!("a calm world comes to rest: {count} settlements of {channel}"))
            }
            _ => Ok(()),
        }
    }

    /// A replacement takes no more of what is paid than the rules say, on top of the first fee,
    /// unless nothing less would be relayed.
    fn a_replacement_is_worth_its_fee(
        &self,
        settlement: &Settlement,
        truth: &Truth,
        rules: &Rules,
        weather: Weather,
    ) -> Law {
        let first = |member| self.built.get(&member).and_then(|built| built.first());
        let Some(first) = settlement.members().filter_map(first).map(|(_, fee)| *fee).max() else {
            return Ok(());
        };
        let paid = settled(settlement, truth).iter().map(|(_, sat)| sat).sum::<u64>();
        let most = paid * u64::from(rules.settling.stake_percent) / 100 + first;
        // Where a share would be dust it goes to the fee, and its output is left out.
        let has_share = settlement.share.get() > 0;
        let (dust, output) = if has_share { (0, 0) } else { (OWN_DUST, OWN_VSIZE) };
        let floor = weather.floor * (settlement.vsize() + output);
        let fee = settlement.fee.get();
        if fee <= most.max(floor) + dust {
            return Ok(());
        }
        Err(format!(
            "a replacement is worth its fee: {fee} sat for {} vB, of {paid} sat, first {first} sat, \
             and {floor} sat would be relayed",
            settlement.vsize()
        ))
    }
}

/// A settlement of the same channels pays a quarter more, unless the one before it is not relayed,
/// or does not beat a refund: then it pays more at least.
fn a_bump_is_a_quarter(before: &Settlement, after: &Settlement, weather: Weather) -> Law {
    let is_same = before.members().eq(after.members());
    let (old, new) = (before.fee.get(), after.fee.get());
    let is_bump = new * 4 >= old * 5 || weather.has_refunds && new > old;
    if !is_same || is_bump || old < weather.floor * before.vsize() {
        return Ok(());
    }
    Err(format!("a bump is a quarter: {old} sat, then {new} sat"))
}

/// Returns the members of a settlement, and what each pays, in satoshi.
fn settled(settlement: &Settlement, truth: &Truth) -> Vec<(OutPoint, u64)> {
    let transaction = &settlement.transaction;
    let paid = |member| {
        let page = &truth.pages[&member];
        page.contract.capacity.get().checked_sub(change(page, transaction)).unwrap()
    };
    settlement.members().map(|member| (member, paid(member))).collect()
}

/// The outputs and the fee of a settlement make the capacities, and the gateway takes what is paid.
fn every_satoshi_is_accounted_for(settlement: &Settlement, truth: &Truth) -> Law {
    let outputs: u64 = settlement.transaction.output.iter().map(|it| it.value.to_sat()).sum();
    let (fee, share) = (settlement.fee.get(), settlement.share.get());
    let capacity: u64 =
        settlement.members().map(|member| truth.pages[&member].contract.capacity.get()).sum();
    let paid: u64 = settled(settlement, truth).iter().map(|(_, sat)| sat).sum();
    if outputs + fee != capacity || share + fee != paid {
        return Err(format!(
            "outputs + fee = capacities: {outputs} + {fee}, and {capacity}; share + fee = paid: \
             {share} + {fee}, and {paid}"
        ));
    }
    Ok(())
}

/// A settlement that is to be mined pays each client its capacity less what is on record.
fn each_is_settled_for_what_is_paid(
    channel: &Channel,
    settlement: &Settlement,
    truth: &Truth,
) -> Law {
    let outpoint = channel.contract().outpoint;
    let paid = channel.account().payment.paid().get();
    match settled(settlement, truth).into_iter().find(|(member, _)| *member == outpoint) {
        Some((_, settled)) if settled == paid => Ok(()),
        Some(_) if truth.pages[&outpoint].is_restored => Ok(()),
        Some((_, settled)) => Err(format!(
            "a channel is settled for what is on record: {settled} sat settled, {paid} sat paid"
        )),
        None => Err(format!("a settlement settles its channel: {outpoint} is not in it")),
    }
}

/// A channel is given up past its mark at the earliest; and one whose contract is in no block, at
/// its expiry.
fn nothing_is_given_up_too_soon(
    Written { before, after }: &Written,
    rules: &Rules,
    weather: Weather,
) -> Law {
    let is_given_up =
        |channel: &Channel| matches!(channel, Channel::Closing(it) if it.is_written_off);
    if !is_given_up(after) || before.as_ref().is_some_and(is_given_up) {
        return Ok(());
    }
    let expiry = u64::from(after.contract().terms.expiry.get());
    let mark = match after.height() {
        Some(_) => expiry - u64::from(rules.settle.get()),
        None => expiry,
    };
    if weather.now >= mark {
        return Ok(());
    }
    Err(format!("nothing is given up before its mark: {} s too soon", mark - weather.now))
}
