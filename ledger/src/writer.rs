//! The one thread that changes channels: it takes all that waits, and commits it at once.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, PoisonError};

use bitcoin::OutPoint;
use farebox_channel::gateway::{Attempt, Channel, Event, Input, Rules};
use farebox_channel::message::{Memo, Receipt};
use farebox_channel::{Clock, Msat};
use tokio::sync::{broadcast, mpsc, oneshot};

use crate::ledger::{Charge, Committed};
use crate::store::Changes;
use crate::{AttemptId, Cursor, LedgerError, Store, StoreError};

/// The greatest number of inputs in one commit.
const BATCH_MAX: usize = 1_024;

/// What the writer is asked to do.
pub(crate) enum Order {
    /// Record a channel.
    Create(Channel),
    /// Apply an input to a channel.
    Apply {
        /// The channel.
        outpoint: OutPoint,
        /// The time.
        clock: Clock,
        /// The input.
        input: Box<Input>,
    },
    /// Take a payment and charge a request, at most once for its name.
    Pay {
        /// The channel.
        outpoint: OutPoint,
        /// The time.
        clock: Clock,
        /// What is paid and charged.
        charge: Charge,
    },
    /// Note that an answer is begun, and take back what of its charge was not used.
    Answer {
        /// The channel.
        outpoint: OutPoint,
        /// The time.
        clock: Clock,
        /// What was not used.
        unused: Msat,
        /// The receipt of the charge.
        receipt: Receipt,
        /// The request's name, if it has one.
        id: Option<AttemptId>,
    },
    /// Take the charge of a request back, and forget its name.
    Release {
        /// The channel.
        outpoint: OutPoint,
        /// The time.
        clock: Clock,
        /// What was charged.
        charge: Msat,
        /// The request's name, if it has one.
        id: Option<AttemptId>,
    },
    /// Apply inputs to channels, all or none, and record how far the chain is followed.
    Tell {
        /// The time.
        clock: Clock,
        /// The inputs.
        inputs: Vec<(OutPoint, Input)>,
        /// How far the chain is followed, if that changes.
        cursor: Option<Cursor>,
    },
}

/// What an order has done.
#[derive(Debug, Default)]
pub(crate) struct Done {
    /// The channel as the order left it, if there is one.
    pub(crate) channel: Option<Channel>,
    /// The receipt of a charge, where it does not follow from the channel.
    pub(crate) receipt: Option<Receipt>,
}

impl From<Channel> for Done {
    fn from(channel: Channel) -> Self {
        Self { channel: Some(channel), receipt: None }
    }
}

/// What the writer answers.
type Answer = Result<Done, LedgerError>;

/// What is sent to the writer.
#[expect(clippy::large_enum_variant, reason = "all commands but the last are orders")]
pub(crate) enum Command {
    /// An order, and where its answer goes.
    Order(Order, oneshot::Sender<Answer>),
    /// Close the store, and tell when that is done.
    Close(oneshot::Sender<()>),
}

/// The owner of the store.
pub(crate) struct Writer<S> {
    store: S,
    rules: Arc<Rules>,
    committed: Arc<Committed>,
    commands: mpsc::Receiver<Command>,
    events: broadcast::Sender<Event>,
}

impl<S: Store> Writer<S> {
    pub(crate) const fn new(
        store: S,
        rules: Arc<Rules>,
        committed: Arc<Committed>,
        commands: mpsc::Receiver<Command>,
        events: broadcast::Sender<Event>,
    ) -> Self {
        Self { store, rules, committed, commands, events }
    }

    /// Works until it is closed, or every handle of the ledger is gone.
    pub(crate) fn run(mut self) {
        let mut batch = Vec::new();
        while let Some(first) = self.commands.blocking_recv() {
            let mut next = Some(first);
            let mut closing = None;
            while let Some(command) = next {
                match command {
                    Command::Order(order, reply) => batch.push((order, reply)),
                    Command::Close(closed) => closing = Some(closed),
                }
                let is_full = batch.len() >= BATCH_MAX || closing.is_some();
                next = if is_full { None } else { self.commands.try_recv().ok() };
            }
            self.commit(&mut batch);
            if let Some(closed) = closing {
                drop(self);
                // Whoever has stopped waiting does not mind.
                let _told = closed.send(());
                return;
            }
        }
    }

    /// Applies a batch in order, saves what changed, and only then answers.
    fn commit(&mut self, batch: &mut Vec<(Order, oneshot::Sender<Answer>)>) {
        let mut head = Head::new(&mut self.store, &self.committed);
        let answers: Vec<_> =
            batch.drain(..).map(|(order, reply)| (reply, head.apply(order, &self.rules))).collect();
        let Head { changed, cursor, attempts, events, .. } = head;
        let is_unchanged = changed.is_empty() && cursor.is_none() && attempts.is_empty();
        let attempts = attempts.into_iter().collect();
        let channels = changed.values().collect();
        let changes = Changes { channels, cursor, attempts, restored: None };
        let saved = if is_unchanged { Ok(()) } else { self.store.commit(&changes) };
        if saved.is_ok() {
            self.committed
                .write()
                .unwrap_or_else(PoisonError::into_inner)
                .put(changed.into_values());
            for event in events {
                // Nobody has to be listening.
                let _heard = self.events.send(event);
            }
        }
        for (reply, answer) in answers {
            // A refusal too was judged by a head that is gone when the commit failed.
            let answer = saved.clone().map_err(LedgerError::Store).and(answer);
            // Whoever has stopped waiting will find the outcome on record.
            let _gone = reply.send(answer);
        }
    }
}

/// The channels as they will be once the batch is saved.
struct Head<'a, S> {
    store: &'a mut S,
    committed: &'a Committed,
    changed: HashMap<OutPoint, Channel>,
    cursor: Option<Cursor>,
    attempts: HashMap<AttemptId, Option<Attempt>>,
    events: Vec<Event>,
}

impl<'a, S: Store> Head<'a, S> {
    fn new(store: &'a mut S, committed: &'a Committed) -> Self {
        let (changed, attempts) = (HashMap::new(), HashMap::new());
        Self { store, committed, changed, cursor: None, attempts, events: Vec::new() }
    }

    fn apply(&mut self, order: Order, rules: &Rules) -> Answer {
        match order {
            Order::Create(channel) => {
                let outpoint = channel.contract().outpoint;
                if let Some(known) = self.channel(outpoint) {
                    return Ok(known.into());
                }
                self.events.extend(Event::between(None, &channel, None));
                self.changed.insert(outpoint, channel.clone());
                Ok(channel.into())
            }
            Order::Apply { outpoint, clock, input } => {
                Ok(self.step(outpoint, clock, rules, *input, None)?.into())
            }
            Order::Pay { outpoint, clock, charge } => {
                let Charge { payment, price, name, memo } = charge;
                let Some(name) = name else {
                    let pay = Input::Pay { payment, price };
                    return Ok(self.step(outpoint, clock, rules, pay, memo)?.into());
                };
                let id = AttemptId { channel: outpoint, key: name.key };
                let known = self.attempt(&id)?;
                let first = match known.filter(|known| !known.is_forgotten(clock.wall)) {
                    Some(known) => Some(known.repeat(&name)?),
                    None => None,
                };
                let pay = match first {
                    Some(_) => Input::Repeat(payment),
                    None => Input::Pay { payment, price },
                };
                let channel = self.step(outpoint, clock, rules, pay, memo)?;
                if first.is_none() {
                    let receipt = channel.account().receipt(price);
                    let (request, at) = (name.request, clock.wall);
                    let attempt = Attempt { request, receipt, is_answered: false, at };
                    self.attempts.insert(id, Some(attempt));
                }
                Ok(Done { channel: Some(channel), receipt: first })
            }
            Order::Answer { outpoint, clock, unused, receipt, id } => {
                let receipt = if unused == Msat::ZERO {
                    receipt
                } else {
                    let back = Input::Release { charge: unused };
                    let channel = self.step(outpoint, clock, rules, back, None)?;
                    let price = receipt.price.checked_sub(unused).unwrap_or_default();
                    channel.account().receipt(price)
                };
                if let Some(id) = id {
                    let attempt = self.attempt(&id)?;
                    let answered = attempt.map(|it| Attempt { is_answered: true, receipt, ..it });
                    self.attempts.insert(id, answered);
                }
                Ok(Done { channel: None, receipt: Some(receipt) })
            }
            Order::Release { outpoint, clock, charge, id } => {
                let release = Input::Release { charge };
                let channel = self.step(outpoint, clock, rules, release, None)?;
                self.attempts.extend(id.map(|id| (id, None)));
                Ok(channel.into())
            }
            Order::Tell { clock, inputs, cursor } => {
                self.tell(clock, rules, inputs)?;
                self.cursor = cursor.or(self.cursor);
                Ok(Done::default())
            }
        }
    }

    /// Applies inputs to channels, all of them or none.
    fn tell(
        &mut self,
        clock: Clock,
        rules: &Rules,
        inputs: Vec<(OutPoint, Input)>,
    ) -> Result<(), LedgerError> {
        let mut told = HashMap::<OutPoint, Channel>::new();
        let mut events = Vec::new();
        for (outpoint, input) in inputs {
            let known = told.get(&outpoint).cloned().or_else(|| self.channel(outpoint));
            let channel = known.ok_or(LedgerError::Unknown)?;
            let next = channel.handle(clock, rules, input)?;
            events.extend(Event::between(Some(&channel), &next, None));
            told.insert(outpoint, next);
        }
        self.events.extend(events);
        for (outpoint, next) in told {
            if let Some(before) = self.channel(outpoint) {
                self.change(outpoint, &before, next);
            }
        }
        Ok(())
    }

    /// Applies an input to a channel, with the memo that came along.
    fn step(
        &mut self,
        outpoint: OutPoint,
        clock: Clock,
        rules: &Rules,
        input: Input,
        memo: Option<Memo>,
    ) -> Result<Channel, LedgerError> {
        let channel = self.channel(outpoint).ok_or(LedgerError::Unknown)?;
        let next = channel.handle(clock, rules, input)?;
        self.events.extend(Event::between(Some(&channel), &next, memo));
        self.change(outpoint, &channel, next.clone());
        Ok(next)
    }

    /// Returns a named request as the orders before left it.
    fn attempt(&mut self, id: &AttemptId) -> Result<Option<Attempt>, StoreError> {
        match self.attempts.get(id) {
            Some(attempt) => Ok(*attempt),
            None => self.store.attempt(id),
        }
    }

    /// Returns a channel as the orders before left it.
    fn channel(&self, outpoint: OutPoint) -> Option<Channel> {
        if let Some(channel) = self.changed.get(&outpoint) {
            return Some(channel.clone());
        }
        let committed = self.committed.read().unwrap_or_else(PoisonError::into_inner);
        committed.get(outpoint).cloned()
    }

    /// Notes a channel's next state, unless it is the same as before.
    fn change(&mut self, outpoint: OutPoint, before: &Channel, next: Channel) {
        match self.changed.entry(outpoint) {
            Entry::Occupied(mut entry) => {
                entry.insert(next);
            }
            Entry::Vacant(entry) if *before != next => {
                entry.insert(next);
            }
            Entry::Vacant(_) => {}
        }
    }
}
