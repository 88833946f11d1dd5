//! The one thread that changes channels: it takes all that waits, and commits it at once.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, PoisonError};

use bitcoin::OutPoint;
use farebox_channel::Clock;
use farebox_channel::gateway::{Channel, Input, Rules};
use tokio::sync::{mpsc, oneshot};

use crate::ledger::Committed;
use crate::store::Changes;
use crate::{Cursor, LedgerError, Store};

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
    /// Record how far the chain is followed.
    Follow(Cursor),
}

/// What the writer answers: the channel as this order left it.
type Answer = Result<Option<Channel>, LedgerError>;

/// An order, and where its answer goes.
pub(crate) struct Command {
    pub(crate) order: Order,
    pub(crate) reply: oneshot::Sender<Answer>,
}

/// The owner of the store.
pub(crate) struct Writer<S> {
    store: S,
    rules: Rules,
    committed: Arc<Committed>,
    commands: mpsc::Receiver<Command>,
}

impl<S: Store> Writer<S> {
    pub(crate) const fn new(
        store: S,
        rules: Rules,
        committed: Arc<Committed>,
        commands: mpsc::Receiver<Command>,
    ) -> Self {
        Self { store, rules, committed, commands }
    }

    /// Works until every handle of the ledger is gone.
    pub(crate) fn run(mut self) {
        let mut batch = Vec::new();
        while let Some(first) = self.commands.blocking_recv() {
            batch.push(first);
            while batch.len() < BATCH_MAX
                && let Ok(next) = self.commands.try_recv()
            {
                batch.push(next);
            }
            self.commit(&mut batch);
        }
    }

    /// Applies a batch in order, saves what changed, and only then answers.
    fn commit(&mut self, batch: &mut Vec<Command>) {
        let mut head = Head { committed: &self.committed, changed: HashMap::new(), cursor: None };
        let answers: Vec<_> = batch
            .drain(..)
            .map(|Command { order, reply }| (reply, head.apply(order, &self.rules)))
            .collect();
        let Head { changed, cursor, .. } = head;
        let changes = Changes { channels: changed.values().collect(), cursor };
        let saved = if changes.channels.is_empty() && cursor.is_none() {
            Ok(())
        } else {
            self.store.commit(&changes)
        };
        if saved.is_ok() {
            self.committed
                .write()
                .unwrap_or_else(PoisonError::into_inner)
                .put(changed.into_values());
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
struct Head<'a> {
    committed: &'a Committed,
    changed: HashMap<OutPoint, Channel>,
    cursor: Option<Cursor>,
}

impl Head<'_> {
    fn apply(&mut self, order: Order, rules: &Rules) -> Answer {
        match order {
            Order::Create(channel) => {
                let outpoint = channel.contract().outpoint;
                if let Some(known) = self.channel(outpoint) {
                    return Ok(Some(known));
                }
                self.changed.insert(outpoint, channel.clone());
                Ok(Some(channel))
            }
            Order::Apply { outpoint, clock, input } => {
                let Some(channel) = self.channel(outpoint) else {
                    return Ok(None);
                };
                let next = channel.handle(clock, rules, *input)?;
                self.change(outpoint, &channel, next.clone());
                Ok(Some(next))
            }
            Order::Follow(cursor) => {
                self.cursor = Some(cursor);
                Ok(None)
            }
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
