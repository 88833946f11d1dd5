//! The ledger: what the rest of the program sees of the channels.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::thread;

use bitcoin::OutPoint;
use farebox_channel::gateway::{Channel, Event, Input, Refusal, Rules};
use farebox_channel::message::Receipt;
use farebox_channel::{Clock, Msat, Settlement};
use thiserror::Error;
use tokio::sync::broadcast;

use crate::awaited::{Awaited, Credited};
use crate::charge::{Charge, Paid};
use crate::events::{EVENTS_MAX, Events};
use crate::hold::{Hold, Holds};
use crate::index::Channels;
use crate::order::{Done, Order};
use crate::post::Post;
use crate::queue::{Entrance, Hand, queue};
use crate::writer::Writer;
use crate::{AttemptId, Cursor, Store, StoreError};

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
    /// More inputs wait for a commit than it is good for. It goes better soon.
    #[error("too many inputs wait to be saved")]
    Busy,
    /// The ledger has stopped.
    #[error("the ledger has stopped")]
    Stopped,
}

/// The channels as of the last commit, shared with the writer.
pub(crate) type Committed = RwLock<Channels>;

/// All channels of a gateway, kept in memory and on disk. Clones share them.
#[derive(Clone, Debug)]
pub struct Ledger {
    pub(crate) committed: Arc<Committed>,
    commits: Arc<AtomicU64>,
    queue: Arc<Entrance>,
    holds: Holds,
    awaited: Awaited,
    /// The writer has the strong one, so that subscribers see the end when it stops.
    events: broadcast::WeakSender<Event>,
    resumed_at: Option<Cursor>,
    trail: Arc<[Cursor]>,
    post: Option<Post>,
}

impl Ledger {
    /// Loads all channels of a store and starts the thread that writes to it.
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot be read or no thread can be had.
    pub fn open(mut store: impl Store, rules: Rules) -> Result<Self, StoreError> {
        let loaded = store.load()?;
        let rules = Arc::new(Rules { restored: loaded.restored, ..rules });
        let channels = Channels::new(rules, loaded.channels);
        let committed = Arc::new(RwLock::new(channels));
        let commits = Arc::<AtomicU64>::default();
        let (queue, orders) = queue();
        let (events, _) = broadcast::channel(EVENTS_MAX);
        let shared = Arc::clone(&committed);
        let weak = events.downgrade();
        let counter = Arc::clone(&commits);
        let (holds, awaited) = (Holds::default(), Awaited::default());
        let tables = (holds.clone(), awaited.clone());
        let writer = Writer::new(store, tables, shared, counter, events, orders);
        thread::Builder::new()
            .name("farebox-ledger".to_owned())
            .spawn(move || writer.run())
            .map_err(|error: io::Error| StoreError::Failed(error.to_string()))?;
        Ok(Self {
            committed,
            commits,
            queue: Arc::new(queue),
            holds,
            awaited,
            events: weak,
            resumed_at: loaded.cursor,
            trail: loaded.trail.into(),
            post: None,
        })
    }

    /// Returns a handle whose answers come by `post`: it is for the tasks of the runtime that
    /// carries it.
    #[must_use]
    pub fn by(&self, post: &Post) -> Self {
        Self { post: Some(post.clone()), ..self.clone() }
    }

    /// Returns what tells the ledger when a thread that brings orders rests. Where there is any such
    /// thread, each of them has one.
    #[must_use]
    pub fn hand(&self) -> Hand {
        self.queue.hand()
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

    /// Says from now on which credit buys nothing any more: less than the cheapest price. It costs the
    /// same, however many channels there are.
    pub fn set_cheapest(&self, cheapest: Msat) {
        self.committed.write().unwrap_or_else(PoisonError::into_inner).set_cheapest(cheapest);
    }

    /// Tells from now on what happens to channels, each time once it is on record.
    #[must_use]
    pub fn subscribe(&self) -> Events {
        let events = self.events.upgrade();
        Events(events.map_or_else(|| broadcast::channel(1).1, |events| events.subscribe()))
    }

    /// Returns how many commits there were since the ledger was opened.
    #[must_use]
    pub fn commits(&self) -> u64 {
        self.commits.load(Ordering::Relaxed)
    }

    /// Returns how many inputs wait for a commit to begin.
    #[must_use]
    pub fn queued(&self) -> usize {
        self.queue.waiting()
    }

    /// Tells whether inputs are still taken: the thread that writes them has not ended.
    #[must_use]
    pub fn is_running(&self) -> bool {
        self.queue.is_open()
    }

    /// Notes that a request of a channel is under way, until the value is dropped: its charge could
    /// still be released, so the channel is not closed for being exhausted or idle.
    #[must_use]
    pub fn hold(&self, outpoint: OutPoint) -> Hold {
        self.holds.hold(outpoint)
    }

    /// Tells whether no request of any channel is under way.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.holds.is_empty()
    }

    /// Tells from now on when a channel may have credit again.
    #[must_use]
    pub fn credited(&self, outpoint: OutPoint) -> Credited {
        self.awaited.wait(outpoint)
    }

    /// Records a channel. One that is on record already is left as it is and returned.
    ///
    /// # Errors
    /// [`LedgerError`] when it could not be saved.
    pub async fn create(&self, channel: Channel) -> Result<Channel, LedgerError> {
        self.order(Order::Create(Box::new(channel))).await?.channel().ok_or(LedgerError::Unknown)
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
        self.order(order).await?.channel().ok_or(LedgerError::Unknown)
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
        let id = charge.name.map(|name| AttemptId { channel: outpoint, key: name.key });
        let done = self.order(Order::Pay { outpoint, clock, charge }).await?;
        let receipt = done.receipt().ok_or(LedgerError::Unknown)?;
        Ok(Paid { receipt, id })
    }

    /// Charges a request that is under way for more: `most`, or all that can be charged where that is
    /// less, but not less than `least`. The price of the receipt is what was charged now.
    ///
    /// # Errors
    /// [`LedgerError`] when nothing has changed, because there is less credit, or none is given any
    /// more.
    pub async fn draw(
        &self,
        outpoint: OutPoint,
        clock: Clock,
        least: Msat,
        most: Msat,
    ) -> Result<Receipt, LedgerError> {
        let order = Order::Draw { outpoint, clock, least, most };
        self.order(order).await?.receipt().ok_or(LedgerError::Unknown)
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
        if paid.is_final(unused) {
            return Ok(receipt);
        }
        let order = Order::Answer { outpoint, clock, unused, receipt, id };
        Ok(self.order(order).await?.receipt().unwrap_or(receipt))
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
        self.order(order).await?.channel().ok_or(LedgerError::Unknown)
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
        // It ends by being dropped.
        let _ended = self.queue.close().await;
    }

    async fn order(&self, order: Order) -> Result<Done, LedgerError> {
        let answer = self.queue.put(order, self.post.clone())?;
        answer.await.map_err(|_| LedgerError::Stopped)?
    }
}
