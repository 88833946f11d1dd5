//! What is to be settled, with whom, and for which fee.
//!
//! The plan follows from what is on record and from what a node tells of its mempool. It is made
//! anew each time, so nothing is lost when a step fails, a process ends or a block is undone.

use std::collections::BTreeMap;
use std::sync::Arc;

use bitcoin::{FeeRate, OutPoint, Txid};

use super::mempool::{cost, just_above, rate_of, replaced, replacement_fee};
use super::{Cause, Closing, Market, Mempool, Rival, Rules, Spender};
use crate::payout::{DUST_MAX, Payout};
use crate::settlement::{Fee, Member, Settlement, carry, fitting};
use crate::units::{Expiry, Sat, Timestamp};

/// How long after its time a settlement lingers, in seconds, before it is bumped to the fee rate of
/// the next blocks.
const LINGER_SECS: u64 = 60 * 60;
/// By how much a fee rises at least when a settlement is replaced, in percent of the old one.
const BUMP_PERCENT: u64 = 125;
/// The size of a transaction with nothing but the gateway's own output, in virtual bytes, rounded up.
const BASE_VSIZE: u64 = 54;

/// Something to do for the settlement of channels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Build a settlement, save it, and hand it to the node.
    Build(Draft),
    /// Hand a settlement that is on record to the node.
    Broadcast(Arc<Settlement>),
    /// Give a channel up.
    WriteOff(OutPoint),
}

/// A settlement to be built.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Draft {
    /// The channels to settle.
    pub members: Vec<OutPoint>,
    /// Channels of the settlement that it takes the place of, which go their own way from here.
    pub dropped: Vec<OutPoint>,
    /// What it pays.
    pub fee: Fee,
    /// Where the share of the settlement goes that it takes the place of.
    pub payout: Option<Payout>,
    /// Whether its channel is given up if the fee is more than what it brings.
    pub is_last_chance: bool,
}

/// All that is to be done for closing channels, the nearest expiry first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan(pub Vec<Step>);

impl Plan {
    /// Plans for channels that are closing.
    #[must_use]
    pub fn new(
        channels: &[&Closing],
        mempool: &Mempool,
        market: &Market,
        rules: &Rules,
        now: Timestamp,
    ) -> Self {
        let mut planner = Planner { mempool, market, rules, now, steps: Vec::new() };
        let mut groups = BTreeMap::<Txid, (&Arc<Settlement>, Vec<&Closing>)>::new();
        let mut waiting = Vec::new();
        for channel in channels.iter().copied().filter(|channel| channel.is_claimed()) {
            match &channel.settlement {
                Some(settlement) => {
                    let group = groups.entry(settlement.txid());
                    group.or_insert_with(|| (settlement, Vec::new())).1.push(channel);
                }
                None => waiting.push(channel),
            }
        }
        for (settlement, members) in groups.into_values() {
            planner.pursue(settlement, &members);
        }
        planner.begin(waiting);
        planner.steps.sort_by_key(|(expiry, _)| *expiry);
        Self(planner.steps.into_iter().map(|(_, step)| step).collect())
    }
}

struct Planner<'a> {
    mempool: &'a Mempool,
    market: &'a Market,
    rules: &'a Rules,
    now: Timestamp,
    steps: Vec<(Expiry, Step)>,
}

impl Planner<'_> {
    /// Brings a settlement that was built into a block: as it is, with a greater fee, or without
    /// the channels that it cannot settle any more.
    fn pursue(&mut self, settlement: &Arc<Settlement>, members: &[&Closing]) {
        let is_blocked = |channel: &&Closing| {
            self.mempool.spender(channel).is_some_and(|(_, rival)| rival.by != Spender::Settlement)
        };
        let is_complete = members.len() == settlement.transaction.input.len();
        let (blocked, rest): (Vec<&Closing>, Vec<&Closing>) =
            members.iter().copied().partition(is_blocked);
        let (free, unmined): (Vec<_>, Vec<_>) =
            rest.into_iter().partition(|channel| channel.height.is_some());
        for channel in &unmined {
            self.give_up(channel);
        }
        let is_mined = members.iter().all(|channel| channel.height.is_some());
        // Nobody has to be left out of a settlement of one: it stands against what blocks it.
        if is_complete && is_mined && (blocked.is_empty() || members.len() == 1) {
            return self.maintain(settlement, members);
        }
        // A contract that a reorg has taken out of its block is soon in another one.
        let can_wait = is_complete && blocked.is_empty() && !self.is_pressed(&free);
        if can_wait {
            return;
        }
        self.rescue(settlement, &blocked, &unmined, free);
    }

    /// Settles the channels of a settlement that cannot be mined any more: those that are free
    /// together, as far as they are worth it, and the others each alone.
    fn rescue(
        &mut self,
        settlement: &Arc<Settlement>,
        blocked: &[&Closing],
        unmined: &[&Closing],
        free: Vec<&Closing>,
    ) {
        let (mut rest, mut poor): (Vec<_>, Vec<_>) =
            free.into_iter().partition(|channel| self.is_economic(channel));
        if !self.is_carried(&rest) {
            poor.append(&mut rest);
        }
        let mut left = unmined.to_vec();
        left.extend(blocked.iter().copied().filter(|channel| !self.contest(channel)));
        let (late, waiting): (Vec<_>, Vec<_>) =
            poor.into_iter().partition(|channel| self.is_late(channel));
        for channel in late {
            self.settle_alone(channel);
        }
        left.extend(waiting);
        if !rest.is_empty() {
            let dropped = left.into_iter().map(outpoint).collect();
            let fee = self.fee(&rest, &self.mempool.rivals_of(&rest));
            self.build(&rest, fee, settlement.payout(), dropped);
        }
    }

    /// Keeps a settlement in the mempool, and its fee up with the time.
    fn maintain(&mut self, settlement: &Arc<Settlement>, members: &[&Closing]) {
        let rivals = self.mempool.rivals_of(members);
        let (vsize, old) = (settlement.vsize(), settlement.fee.get());
        let is_pooled = rivals.contains_key(&settlement.txid());
        let fee = self.bump(members, &rivals, vsize);
        let wanted = fee.least.get();
        let needed = replacement_fee(&rivals, self.market.increment, vsize);
        let is_raised = wanted.saturating_mul(100) >= old.saturating_mul(BUMP_PERCENT)
            && self.is_pressed(members);
        let is_above = |rate: FeeRate| rivals.values().all(|rival| rate > rival.rate());
        if is_pooled || !rivals.is_empty() {
            let can_replace = old >= needed && is_above(rate_of(settlement.fee, vsize));
            let is_better =
                self.is_pressed(members) && wanted >= needed && is_above(rate_of(fee.least, vsize));
            if is_raised && is_better {
                self.build(members, fee, settlement.payout(), Vec::new());
            } else if can_replace {
                self.push(members, Step::Broadcast(Arc::clone(settlement)));
            } else if !is_pooled && is_better {
                // What is there costs little more than what was built against it before.
                self.build(members, fee, settlement.payout(), Vec::new());
            }
        } else if is_raised || old < cost(self.market.floor, vsize) {
            self.build(members, fee, settlement.payout(), Vec::new());
        } else {
            self.push(members, Step::Broadcast(Arc::clone(settlement)));
        }
    }

    /// Gives a channel up once its contract is in no block at its expiry.
    fn give_up(&mut self, channel: &Closing) {
        if self.now >= channel.account.contract.terms.expiry.timestamp() {
            self.push(&[channel], Step::WriteOff(outpoint(channel)));
        }
    }

    /// Begins to settle channels that no settlement was built for.
    fn begin(&mut self, waiting: Vec<&Closing>) {
        let mut ready = Vec::new();
        for channel in waiting {
            if channel.height.is_none() {
                self.give_up(channel);
            } else if self.mempool.spender(channel).is_some() {
                self.contest(channel);
            } else if self.is_late(channel) {
                self.settle_alone(channel);
            } else if self.is_economic(channel) {
                ready.push(channel);
            }
        }
        let wait = self.rules.settling.wait;
        // An operator who closes does not want to wait.
        let has_waited = ready.iter().any(|channel| {
            channel.cause == Cause::Operator || self.now >= channel.since.after(wait)
        });
        if !has_waited && ready.len() < self.rules.settling.most {
            return;
        }
        ready.sort_by_key(|channel| channel.account.contract.terms.expiry);
        let mut rest = ready.as_slice();
        while !rest.is_empty() {
            let members: Vec<Member<'_>> =
                rest.iter().map(|channel| channel.account.member()).collect();
            let (batch, later) = rest.split_at(fitting(&members).clamp(1, rest.len()));
            if self.is_carried(batch) {
                let fee = self.fee(batch, &BTreeMap::new());
                self.build(batch, fee, None, Vec::new());
            }
            rest = later;
        }
    }

    /// Settles a channel although the mempool has something else for its contract, if that is worth
    /// the fee of replacing it. Tells whether it is.
    fn contest(&mut self, channel: &Closing) -> bool {
        let members = [channel];
        let rivals = self.mempool.rivals_of(&members);
        let vsize = estimate(&members);
        let fee = self.bump(&members, &rivals, vsize);
        let is_above = rivals.values().all(|rival| rate_of(fee.least, vsize) > rival.rate());
        let is_enough = fee.least.get() >= replacement_fee(&rivals, self.market.increment, vsize);
        let is_worth = is_above && is_enough && fee.least <= paid(channel);
        let is_contested = is_worth && self.is_pressed(&members) && channel.height.is_some();
        if is_contested {
            self.build(&members, fee, None, Vec::new());
        }
        is_contested
    }

    /// Settles a channel at its mark, or gives it up there.
    fn settle_alone(&mut self, channel: &Closing) {
        let fee = self.fee(&[channel], &self.mempool.rivals_of(&[channel]));
        let (members, dropped) = (vec![outpoint(channel)], Vec::new());
        let draft = Draft { members, dropped, fee, payout: None, is_last_chance: true };
        self.push(&[channel], Step::Build(draft));
    }

    /// Returns the fee of a first settlement, or of one that has lost a member.
    fn fee(&self, members: &[&Closing], rivals: &BTreeMap<Txid, &Rival>) -> Fee {
        let above = rivals.values().map(|rival| just_above(rate_of(rival.fee, rival.vsize)));
        Fee {
            rate: above.fold(self.affordable(members), FeeRate::max),
            least: self.stake(members),
            increment: self.market.increment,
            replaced: replaced(rivals),
        }
    }

    /// Returns the fee that is worth a replacement of `vsize` virtual bytes: what it costs to be
    /// mined, up to a part of what it brings; and near the expiry what is at stake.
    fn bump(&self, members: &[&Closing], rivals: &BTreeMap<Txid, &Rival>, vsize: u64) -> Fee {
        let base = cost(self.base(members).max(self.market.floor), vsize).min(self.most(members));
        let floor = cost(self.market.floor, vsize);
        let least = base.max(self.stake(members).get()).max(floor);
        Fee {
            rate: self.market.floor,
            least: Sat::saturating(least),
            increment: self.market.increment,
            replaced: replaced(rivals),
        }
    }

    /// Returns what it costs to be mined in time, up to a part of what that brings. A settlement may
    /// cost more only as far as one that has time would.
    fn affordable(&self, members: &[&Closing]) -> FeeRate {
        let part = rate_of(Sat::saturating(self.most(members)), estimate(members));
        self.base(members).min(part.max(self.market.relaxed)).max(self.market.floor)
    }

    /// Returns the most that a fee takes of what is paid. A fee that leaves no output could not be
    /// paid by a channel that returns nothing.
    fn most(&self, members: &[&Closing]) -> u64 {
        let paid: u64 = members.iter().map(|channel| paid(channel).get()).sum();
        let part = paid.saturating_mul(self.rules.settling.stake_percent.into()) / 100;
        part.min(paid.saturating_sub(DUST_MAX.get()))
    }

    /// Returns what it costs to be mined in time.
    fn base(&self, members: &[&Closing]) -> FeeRate {
        if self.is_pressed(members) { self.market.urgent } else { self.market.relaxed }
    }

    /// Returns what the fee may take of what is at stake, because the expiry is near.
    fn stake(&self, members: &[&Closing]) -> Sat {
        let part = |channel: &&Closing| {
            let expiry = channel.account.contract.terms.expiry;
            self.rules.stake_at(paid(channel), expiry, self.now)
        };
        let add = |sum: Sat, part| sum.checked_add(part).unwrap_or(sum);
        members.iter().map(part).fold(Sat::ZERO, add)
    }

    /// Tells whether a settlement of these channels is past a mark, or has lingered.
    fn is_pressed(&self, members: &[&Closing]) -> bool {
        let wait = self.rules.settling.wait;
        let has_lingered = |channel: &&Closing| {
            self.now.get() >= channel.since.after(wait).get().saturating_add(LINGER_SECS)
        };
        members.iter().any(|channel| self.is_late(channel) || has_lingered(channel))
    }

    /// Tells whether a channel is past the mark at which its settlement goes out.
    fn is_late(&self, channel: &Closing) -> bool {
        self.rules.is_overdue(channel.account.contract.terms.expiry, self.now)
    }

    /// Tells whether a channel pays for what it adds to a settlement.
    fn is_economic(&self, channel: &Closing) -> bool {
        let rate = self.market.relaxed.max(self.market.floor);
        let marginal = channel.account.member().marginal_vsize();
        marginal.is_some_and(|vsize| paid(channel).get() >= cost(rate, vsize))
    }

    /// Tells whether channels pay together for a settlement that has time.
    fn is_carried(&self, channels: &[&Closing]) -> bool {
        let members: Vec<Member<'_>> =
            channels.iter().map(|channel| channel.account.member()).collect();
        carry(&members, self.market.relaxed.max(self.market.floor))
    }

    fn build(
        &mut self,
        channels: &[&Closing],
        fee: Fee,
        payout: Option<Payout>,
        dropped: Vec<OutPoint>,
    ) {
        let members = channels.iter().map(|channel| outpoint(channel)).collect();
        let draft = Draft { members, dropped, fee, payout, is_last_chance: false };
        self.push(channels, Step::Build(draft));
    }

    fn push(&mut self, channels: &[&Closing], step: Step) {
        let expiries = channels.iter().map(|channel| channel.account.contract.terms.expiry);
        if let Some(expiry) = expiries.min() {
            self.steps.push((expiry, step));
        }
    }
}

/// Returns the size of a settlement of channels in virtual bytes: that, or little less.
fn estimate(channels: &[&Closing]) -> u64 {
    let marginal = channels.iter().filter_map(|channel| channel.account.member().marginal_vsize());
    marginal.sum::<u64>().saturating_add(BASE_VSIZE)
}

fn outpoint(channel: &Closing) -> OutPoint {
    channel.account.contract.outpoint
}

fn paid(channel: &Closing) -> Sat {
    channel.account.payment.paid()
}
