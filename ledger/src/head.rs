//! The channels as they will be once a batch is saved.

use std::sync::{PoisonError, RwLockReadGuard};

use bitcoin::OutPoint;
use farebox_channel::gateway::{
    Account, Attempt, Cause, Channel, Event, Input, Refusal, RequestName,
};
use farebox_channel::message::Memo;
use farebox_channel::{Clock, Msat};
use foldhash::fast::RandomState;

use crate::charge::Charge;
use crate::hold::Holds;
use crate::index::Channels;
use crate::ledger::Committed;
use crate::order::{Answer, Done, Order};
use crate::store::Changes;
use crate::{AttemptId, Cursor, LedgerError, Store, StoreError, Table};

/// A channel that orders have changed.
pub(crate) struct Drafted {
    pub(crate) channel: Channel,
    /// Whether more has changed than its account, or it is not on record yet.
    is_whole: bool,
}

/// What orders have changed, and no commit has saved.
#[derive(Default)]
pub(crate) struct Draft {
    pub(crate) channels: Table<OutPoint, Drafted>,
    cursor: Option<Cursor>,
    attempts: Table<AttemptId, Option<Attempt>>,
    pub(crate) events: Vec<Event>,
}

impl Draft {
    /// Makes an empty draft for so many orders.
    pub(crate) fn with_room(orders: usize) -> Self {
        let channels = Table::with_capacity_and_hasher(orders, RandomState::default());
        Self { channels, ..Self::default() }
    }

    /// Tells whether there is nothing to save.
    pub(crate) fn is_empty(&self) -> bool {
        self.channels.is_empty() && self.cursor.is_none() && self.attempts.is_empty()
    }

    /// Returns what a store writes.
    pub(crate) fn changes(&self) -> Changes<'_> {
        let mut changes = Changes {
            accounts: Vec::with_capacity(self.channels.len()),
            cursor: self.cursor,
            attempts: self.attempts.iter().map(|(id, attempt)| (*id, *attempt)).collect(),
            ..Changes::default()
        };
        for drafted in self.channels.values() {
            match &drafted.channel {
                Channel::Open(open) if !drafted.is_whole => changes.accounts.push(open),
                channel => changes.channels.push(channel),
            }
        }
        changes
    }

    /// Takes down what a channel has become, and whether all of it is to be written.
    fn put(&mut self, outpoint: OutPoint, channel: Channel, is_whole: bool) {
        self.channels.insert(outpoint, Drafted { channel, is_whole });
    }
}

/// A draft over what is committed. It is there while orders are applied, and no longer.
pub(crate) struct Head<'a, S> {
    draft: &'a mut Draft,
    committed: RwLockReadGuard<'a, Channels>,
    store: &'a mut S,
    holds: &'a Holds,
}

impl<'a, S: Store> Head<'a, S> {
    pub(crate) fn new(
        draft: &'a mut Draft,
        committed: &'a Committed,
        store: &'a mut S,
        holds: &'a Holds,
    ) -> Self {
        let committed = committed.read().unwrap_or_else(PoisonError::into_inner);
        Self { draft, committed, store, holds }
    }

    /// Applies an order. What it answers is true once the draft is saved.
    pub(crate) fn apply(&mut self, order: Order) -> Answer {
        match order {
            Order::Create(channel) => {
                let outpoint = channel.contract().outpoint;
                if let Some(known) = self.channel(outpoint) {
                    return Ok(known.clone().into());
                }
                self.draft.events.extend(Event::between(None, &channel, None));
                self.draft.put(outpoint, Channel::clone(&channel), true);
                Ok(Done::Channel(channel))
            }
            Order::Apply { outpoint, clock, input } => {
                Ok(self.step(outpoint, clock, *input, None)?.clone().into())
            }
            Order::Pay { outpoint, clock, charge } => self.pay(outpoint, clock, charge),
            Order::Draw { outpoint, clock, least, most } => {
                let channel = self.channel(outpoint).ok_or(LedgerError::Unknown)?;
                let payment = channel.account().payment;
                let price = most.min(channel.chargeable(self.committed.rules())).max(least);
                let channel = self.step(outpoint, clock, Input::Pay { payment, price }, None)?;
                Ok(Done::Receipt(channel.account().receipt(price)))
            }
            Order::Answer { outpoint, clock, unused, receipt, id } => {
                // What may fail comes before what changes the draft.
                let attempt = match id {
                    Some(id) => self.attempt(&id)?.map(|attempt| (id, attempt)),
                    None => None,
                };
                let receipt = if unused == Msat::ZERO {
                    receipt
                } else {
                    let back = Input::Release { charge: unused };
                    let channel = self.step(outpoint, clock, back, None)?;
                    let price = receipt.price.checked_sub(unused).unwrap_or_default();
                    channel.account().receipt(price)
                };
                if let Some((id, attempt)) = attempt {
                    let answered = Attempt { is_answered: true, receipt, ..attempt };
                    self.draft.attempts.insert(id, Some(answered));
                }
                Ok(Done::Receipt(receipt))
            }
            Order::Release { outpoint, clock, charge, id } => {
                let release = Input::Release { charge };
                let channel = self.step(outpoint, clock, release, None)?.clone();
                self.draft.attempts.extend(id.map(|id| (id, None)));
                Ok(channel.into())
            }
            Order::Tell { clock, inputs, cursor } => {
                self.tell(clock, inputs)?;
                self.draft.cursor = cursor.or(self.draft.cursor);
                Ok(Done::All)
            }
        }
    }

    /// Takes a payment and charges a request, once for its name. What is charged already is no
    /// more than the client has agreed to, whatever the price is now.
    fn pay(&mut self, outpoint: OutPoint, clock: Clock, charge: Charge) -> Answer {
        let Charge { payment, price, price_max, name, memo } = charge;
        let named = name.map(|name| (AttemptId { channel: outpoint, key: name.key }, name));
        if let Some((id, name)) = &named
            && let Some(known) = self.attempt(id)?.filter(|it| !it.is_forgotten(clock.wall))
        {
            let first = known.repeat(name)?;
            self.step(outpoint, clock, Input::Repeat(payment), memo)?;
            return Ok(Done::Receipt(first));
        }
        if let Some(most) = price_max.filter(|most| price > *most) {
            return Err(Refusal::PriceRaised { price, most }.into());
        }
        let channel = self.step(outpoint, clock, Input::Pay { payment, price }, memo)?;
        let receipt = channel.account().receipt(price);
        if let Some((id, RequestName { request, .. })) = named {
            let attempt = Attempt { request, receipt, is_answered: false, at: clock.wall };
            self.draft.attempts.insert(id, Some(attempt));
        }
        Ok(Done::Receipt(receipt))
    }

    /// Applies inputs to channels, all of them or none.
    fn tell(&mut self, clock: Clock, inputs: Vec<(OutPoint, Input)>) -> Result<(), LedgerError> {
        let mut told = Table::<OutPoint, Channel>::default();
        let mut events = Vec::new();
        for (outpoint, input) in inputs {
            let known = told.get(&outpoint).or_else(|| self.channel(outpoint));
            let channel = known.ok_or(LedgerError::Unknown)?;
            let next = self.next(channel, clock, input)?;
            events.extend(Event::between(Some(channel), &next, None));
            told.insert(outpoint, next);
        }
        self.draft.events.extend(events);
        for (outpoint, next) in told {
            if self.channel(outpoint) != Some(&next) {
                self.draft.put(outpoint, next, true);
            }
        }
        Ok(())
    }

    /// Applies an input to a channel, with the memo that came along, and returns what it became.
    fn step(
        &mut self,
        outpoint: OutPoint,
        clock: Clock,
        input: Input,
        memo: Option<Memo>,
    ) -> Result<&Channel, LedgerError> {
        let drafted = self.draft.channels.get(&outpoint);
        let before = match drafted {
            Some(drafted) => &drafted.channel,
            None => self.committed.get(outpoint).ok_or(LedgerError::Unknown)?,
        };
        let next = self.next(before, clock, input)?;
        let event = Event::between(Some(before), &next, memo);
        let is_changed = *before != next;
        let is_whole = drafted.is_some_and(|it| it.is_whole) || !is_payment(before, &next);
        self.draft.events.extend(event);
        if is_changed {
            self.draft.put(outpoint, next, is_whole);
        }
        self.channel(outpoint).ok_or(LedgerError::Unknown)
    }

    /// Returns a channel after an input, by the rules of now.
    ///
    /// One that may wait is not closed while requests are under way, whose charges may still be
    /// released. A request holds its channel from before its charge until after its release, so none
    /// is missed.
    fn next(&self, channel: &Channel, clock: Clock, input: Input) -> Result<Channel, Refusal> {
        let may_wait = matches!(input, Input::Expire(Cause::Exhausted | Cause::Idle));
        if may_wait && self.holds.has(channel.contract().outpoint) {
            return Ok(channel.clone());
        }
        channel.handle(clock, self.committed.rules(), input)
    }

    /// Returns a named request as the orders before left it.
    fn attempt(&mut self, id: &AttemptId) -> Result<Option<Attempt>, StoreError> {
        match self.draft.attempts.get(id) {
            Some(attempt) => Ok(*attempt),
            None => self.store.attempt(id),
        }
    }

    /// Returns a channel as the orders before left it.
    fn channel(&self, outpoint: OutPoint) -> Option<&Channel> {
        let drafted = self.draft.channels.get(&outpoint).map(|it| &it.channel);
        drafted.or_else(|| self.committed.get(outpoint))
    }
}

/// Tells whether nothing differs between two states of a channel but its newest payment, what is spent,
/// and when it was used.
fn is_payment(before: &Channel, after: &Channel) -> bool {
    let (Channel::Open(before), Channel::Open(after)) = (before, after) else { return false };
    let Account { contract: _, payment: _, spent: _, least, is_stale, used_at: _, coins } =
        &before.account;
    let same = &after.account;
    before.height == after.height
        && *least == same.least
        && *is_stale == same.is_stale
        && *coins == same.coins
}
