//! The ledger: what the rest of the program sees of the channels.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::io;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::thread;

use bitcoin::{Block, OutPoint};
use farebox_channel::gateway::{Channel, Event, Input, Refusal, RequestName, Rules};
use farebox_channel::message::{Memo, Receipt};
use farebox_channel::{Clock, Msat, Settlement, Timestamp, VerifiedPayment};
use secp256k1::PublicKey;
use thiserror::Error;
use tokio::sync::{broadcast, mpsc, oneshot};

use crate::events::{EVENTS_MAX, Events};
use crate::index::{Channels, Touch};
use crate::writer::{Command, Done, Order, Writer};
use crate::{AttemptId, Cursor, Store, StoreError};

/// The greatest number of inputs that wait for a commit.
const QUEUE_MAX: usize = 8_192;

/// Why an input was not applied. Then nothing has changed.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum LedgerError {
    /// The channel does not take the input.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// No such channel is on record.
    #[error("no such channel is on record")]
    Unknown,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The ledger has stopped.
    #[error("the ledger has stopped")]
    Stopped,
}

/// The channels as of the last commit, shared with the writer.
pub(crate) type Committed = RwLock<Channels>;

/// All channels of a gateway, kept in memory and on disk. Clones share them.
#[derive(Clone, Debug)]
pub struct Ledger {
    committed: Arc<Committed>,
    queue: mpsc::Sender<Command>,
    holds: Arc<Holds>,
    /// The writer has the strong one, so that subscribers see the end when it stops.
    events: broadcast::WeakSender<Event>,
    rules: Arc<Rules>,
    resumed_at: Option<Cursor>,
    trail: Arc<[Cursor]>,
}

/// How many requests each channel has under way.
type Holds = Mutex<HashMap<OutPoint, usize>>;

/// What a client pays, and what it is charged for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Charge {
    /// The payment, verified.
    pub payment: VerifiedPayment,
    /// The price to charge.
    pub price: Msat,
    /// The request's name, if it has one.
    pub name: Option<RequestName>,
    /// What the client has sent along.
    pub memo: Option<Memo>,
}

/// A charge on record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Paid {
    /// The receipt of the charge, the first one where a request was named before.
    pub receipt: Receipt,
    /// The request's name, if it has one.
    pub id: Option<AttemptId>,
}

/// A request under way, for as long as this value lives.
#[derive(Debug)]
pub struct Hold {
    holds: Arc<Holds>,
    outpoint: OutPoint,
}

impl Drop for Hold {
    fn drop(&mut self) {
        let mut holds = self.holds.lock().unwrap_or_else(PoisonError::into_inner);
        if let Entry::Occupied(mut entry) = holds.entry(self.outpoint) {
            *entry.get_mut() = entry.get().saturating_sub(1);
            if *entry.get() == 0 {
                entry.remove();
            }
        }
    }
}

impl Ledger {
    /// Loads all channels of a store and starts the thread that writes to it.
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot be read or no thread can be had.
    pub fn open(mut store: impl Store, rules: Rules) -> Result<Self, StoreError> {
        let loaded = store.load()?;
        let rules = Arc::new(Rules { restored: loaded.restored, ..rules });
        let mut channels = Channels::new(Arc::clone(&rules));
        channels.put(loaded.channels);
        let committed = Arc::new(RwLock::new(channels));
        let (queue, orders) = mpsc::channel(QUEUE_MAX);
        let (events, _) = broadcast::channel(EVENTS_MAX);
        let shared = Arc::clone(&committed);
        let weak = events.downgrade();
        let writer = Writer::new(store, Arc::clone(&rules), shared, orders, events);
        thread::Builder::new()
            .name("farebox-ledger".to_owned())
            .spawn(move || writer.run())
            .map_err(|error: io::Error| StoreError::Failed(error.to_string()))?;
        Ok(Self {
            committed,
            queue,
            holds: Arc::default(),
            events: weak,
            rules,
            resumed_at: loaded.cursor,
            trail: loaded.trail.into(),
        })
    }

    /// Returns how far the chain was followed when the ledger was opened.
    #[must_use]
    pub const fn resumed_at(&self) -> Option<Cursor> {
        self.resumed_at
    }

    /// Returns the blocks that were followed before that, the newest last.
    #[must_use]
    pub fn trail(&self) -> &[Cursor] {
        &self.trail
    }

    /// Returns the rules that inputs are judged by: those that the ledger was opened with, and
    /// what the store says of its last restore.
    #[must_use]
    pub fn rules(&self) -> &Rules {
        &self.rules
    }

    /// Tells from now on what happens to channels, each time once it is on record.
    #[must_use]
    pub fn subscribe(&self) -> Events {
        let events = self.events.upgrade();
        Events(events.map_or_else(|| broadcast::channel(1).1, |events| events.subscribe()))
    }

    /// Returns a channel as of the last commit.
    #[must_use]
    pub fn channel(&self, outpoint: OutPoint) -> Option<Channel> {
        self.read(|channels| channels.get(outpoint).cloned())
    }

    /// Returns the channels that `is_wanted`, as of the last commit, in the order of their
    /// outpoints.
    #[must_use]
    pub fn select(&self, is_wanted: impl Fn(&Channel) -> bool) -> Vec<Channel> {
        let mut selected: Vec<_> = self.read(|channels| {
            channels.all().filter(|channel| is_wanted(channel)).cloned().collect()
        });
        selected.sort_by_key(|channel| channel.contract().outpoint);
        selected
    }

    /// Returns the channels of a client's key.
    #[must_use]
    pub fn channels_of(&self, client_key: &PublicKey) -> Vec<Channel> {
        self.read(|channels| channels.of_client(client_key))
    }

    /// Returns the channels that are to be closed by `now`, the most urgent first.
    #[must_use]
    pub fn due(&self, now: Timestamp) -> Vec<Channel> {
        self.read(|channels| channels.due(now))
    }

    /// Returns the channels that are closing, and whose contract no block has spent.
    #[must_use]
    pub fn closing(&self) -> Vec<Channel> {
        self.read(|channels| channels.listed(&channels.closing))
    }

    /// Returns the channels that wait for confirmations.
    #[must_use]
    pub fn waiting(&self) -> Vec<Channel> {
        self.read(|channels| channels.listed(&channels.pending))
    }

    /// Returns the channels that are served although their contract is in no block.
    #[must_use]
    pub fn trusted(&self) -> Vec<Channel> {
        self.read(|channels| channels.listed(&channels.trusted))
    }

    /// Returns how many channels were served on a contract that is in no block.
    #[must_use]
    pub fn exposed(&self) -> usize {
        self.read(|channels| channels.exposed.len())
    }

    /// Returns the channels whose contract was spent in a block that is not deep yet.
    #[must_use]
    pub fn spent(&self) -> Vec<Channel> {
        self.read(|channels| channels.listed(&channels.spent))
    }

    /// Returns the channels whose contract is made or spent in a block at `height` or above.
    #[must_use]
    pub fn changed_from(&self, height: u32) -> Vec<Channel> {
        self.read(|channels| channels.changed_from(height))
    }

    /// Returns what a block does to channels, in the order of its transactions. It costs a look-up
    /// for each input, however many channels there are.
    #[must_use]
    pub fn touched<'b>(&self, block: &'b Block) -> Vec<Touch<'b>> {
        self.read(|channels| channels.touched(block))
    }

    /// Returns how many channels wait for their contract's confirmations.
    #[must_use]
    pub fn pending(&self) -> usize {
        self.read(|channels| channels.pending.len())
    }

    /// Notes that a request of a channel is under way, until the value is dropped.
    #[must_use]
    pub fn hold(&self, outpoint: OutPoint) -> Hold {
        let holds = Arc::clone(&self.holds);
        let mut counts = holds.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.entry(outpoint).or_default();
        *count = count.saturating_add(1);
        drop(counts);
        Hold { holds, outpoint }
    }

    /// Tells whether a channel has requests under way, whose charges could still be released.
    #[must_use]
    pub fn is_held(&self, outpoint: OutPoint) -> bool {
        self.holds.lock().unwrap_or_else(PoisonError::into_inner).contains_key(&outpoint)
    }

    /// Records a channel. One that is on record already is left as it is and returned.
    ///
    /// # Errors
    /// [`LedgerError`] when it could not be saved.
    pub async fn create(&self, channel: Channel) -> Result<Channel, LedgerError> {
        self.order(Order::Create(channel)).await?.channel.ok_or(LedgerError::Unknown)
    }

    /// Applies an input to a channel, and returns the channel as this input left it.
    ///
    /// # Errors
    /// [`LedgerError`] when nothing has changed.
    pub async fn apply(
        &self,
        outpoint: OutPoint,
        clock: Clock,
        input: Input,
    ) -> Result<Channel, LedgerError> {
        let order = Order::Apply { outpoint, clock, input: Box::new(input) };
        self.order(order).await?.channel.ok_or(LedgerError::Unknown)
    }

    /// Applies inputs to channels, all of them or none, in one write.
    ///
    /// # Errors
    /// [`LedgerError`] when nothing has changed.
    pub async fn apply_all(
        &self,
        clock: Clock,
        inputs: Vec<(OutPoint, Input)>,
    ) -> Result<(), LedgerError> {
        self.order(Order::Tell { clock, inputs, cursor: None }).await.map(|_| ())
    }

    /// Takes a payment and charges a request. Where the request's name is on record and no answer
    /// was begun, nothing is charged again.
    ///
    /// # Errors
    /// [`LedgerError`] when nothing has changed.
    pub async fn pay(
        &self,
        outpoint: OutPoint,
        clock: Clock,
        charge: Charge,
    ) -> Result<Paid, LedgerError> {
        let (price, name) = (charge.price, charge.name);
        let done = self.order(Order::Pay { outpoint, clock, charge }).await?;
        let channel = done.channel.ok_or(LedgerError::Unknown)?;
        let receipt = done.receipt.unwrap_or_else(|| channel.account().receipt(price));
        Ok(Paid { receipt, id: name.map(|name| AttemptId { channel: outpoint, key: name.key }) })
    }

    /// Notes that the answer to a charged request begins, and takes back what of the charge was
    /// not used. Returns the receipt that goes with the answer.
    ///
    /// # Errors
    /// [`LedgerError`] when it could not be saved; then no answer may begin.
    pub async fn answer(
        &self,
        outpoint: OutPoint,
        clock: Clock,
        paid: Paid,
        unused: Msat,
    ) -> Result<Receipt, LedgerError> {
        let Paid { receipt, id } = paid;
        if id.is_none() && unused == Msat::ZERO {
            return Ok(receipt);
        }
        let order = Order::Answer { outpoint, clock, unused, receipt, id };
        Ok(self.order(order).await?.receipt.unwrap_or(receipt))
    }

    /// Takes the charge of a request back.
    ///
    /// # Errors
    /// [`LedgerError`] when nothing has changed.
    pub async fn release(
        &self,
        outpoint: OutPoint,
        clock: Clock,
        charge: Msat,
        id: Option<AttemptId>,
    ) -> Result<Channel, LedgerError> {
        let order = Order::Release { outpoint, clock, charge, id };
        self.order(order).await?.channel.ok_or(LedgerError::Unknown)
    }

    /// Records how far the chain is followed, and what that has told of channels, in one write.
    ///
    /// # Errors
    /// [`LedgerError`] when nothing has changed.
    pub async fn follow(
        &self,
        cursor: Cursor,
        clock: Clock,
        inputs: Vec<(OutPoint, Input)>,
    ) -> Result<(), LedgerError> {
        self.order(Order::Tell { clock, inputs, cursor: Some(cursor) }).await.map(|_| ())
    }

    /// Records a settlement for all of its channels, and that others are `dropped` from the one
    /// that it takes the place of, in one write.
    ///
    /// # Errors
    /// [`LedgerError`] when nothing has changed.
    pub async fn settle(
        &self,
        clock: Clock,
        settlement: Settlement,
        dropped: &[OutPoint],
    ) -> Result<(), LedgerError> {
        let settlement = Arc::new(settlement);
        let settled = settlement.members().map(|member| (member, Arc::clone(&settlement)));
        let settled = settled.map(|(member, settlement)| (member, Input::Settle(settlement)));
        let dropped = dropped.iter().map(|channel| (*channel, Input::Withdraw));
        let inputs = settled.chain(dropped).collect();
        self.order(Order::Tell { clock, inputs, cursor: None }).await.map(|_| ())
    }

    /// Saves what waits, and closes the store. All that is asked of the ledger afterwards fails.
    pub async fn close(&self) {
        let (closed, waiting) = oneshot::channel();
        // If the writer is gone, the store is closed already.
        if self.queue.send(Command::Close(closed)).await.is_ok() {
            let _closed = waiting.await;
        }
    }

    fn read<T>(&self, read: impl FnOnce(&Channels) -> T) -> T {
        // A reader cannot leave the map half changed, so a poisoned lock is still good.
        read(&self.committed.read().unwrap_or_else(PoisonError::into_inner))
    }

    async fn order(&self, order: Order) -> Result<Done, LedgerError> {
        let (reply, answer) = oneshot::channel();
        self.queue.send(Command::Order(order, reply)).await.map_err(|_| LedgerError::Stopped)?;
        answer.await.map_err(|_| LedgerError::Stopped)?
    }
}
