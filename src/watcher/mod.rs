//! The watcher: follows the chain, and does what channels need done there.
//!
//! It is the middleware's [`Node`] too: it tells the time, looks contracts up, and attends to a
//! channel at once when a client waits for it. What is to be done is planned anew until
//! the chain shows that it is done, so a crash or a lost node costs time only.

mod alarm;
mod desk;
mod fitness;
mod follow;
mod look;
mod seen;
mod settle;
mod sightings;
mod wall;

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::{Duration, Instant};

use bitcoin::{BlockHash, OutPoint, Transaction, TxOut, Txid};
use farebox_chain::{Chain, ChainError, Tip, Wallet};
use farebox_channel::gateway::Channel;
use farebox_channel::{ChainTime, Clock, Keyring, Payout, Sat, Seconds, Terms, Timestamp};
use farebox_ledger::{Cursor, Ledger, LedgerError};
use farebox_middleware::{Node, NodeError};
use thiserror::Error;
use tokio::sync::{Mutex as AsyncMutex, Notify, Semaphore};

use crate::config::FeeConfig;
pub use alarm::{Alarm, Stakes};
pub(crate) use fitness::is_downloading;
pub use fitness::{Checkpoint, Fitness, Unfit};
use look::Look;
pub(crate) use seen::Seen;
use settle::{Quote, Refused};
use sightings::Sightings;
pub use wall::Wall;

/// How often the node is asked for news, when it has told none by itself.
const POLL_INTERVAL: Duration = Duration::from_millis(500);
/// How many times as long as a round took the watcher rests after it, unless there is news.
const REST_FACTOR: u32 = 3;
/// The longest rest.
const REST_MAX: Duration = Duration::from_secs(10);
/// How long the node may hold back its answer to whether there is a new block.
const LONG_POLL: Duration = Duration::from_secs(10);
/// How long a round may take before the node is asked again whether there is a new block.
const LISTEN_PAUSE: Duration = Duration::from_millis(100);
/// How long to wait after something has failed, in seconds.
const RETRY_INTERVAL_SECS: u64 = 5;
/// The greatest number of openings that may ask the node at the same time.
const OPENINGS_MAX: usize = 8;

/// Why the watcher cannot do its work now. It tries again.
#[derive(Debug, Error)]
pub enum WatchError {
    /// The node failed.
    #[error(transparent)]
    Chain(#[from] ChainError),
    /// The ledger failed.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// The node is not the one that the gateway is set up for.
    #[error(transparent)]
    Unfit(#[from] Unfit),
    /// The node does not know the block that was followed last.
    #[error(
        "bitcoind does not know block {0}, nor any that was followed before: it is another chain"
    )]
    OtherChain(BlockHash),
}

/// How a watcher is set up.
#[derive(Clone, Debug)]
pub struct Setup {
    /// What is asked of the node.
    pub fitness: Fitness,
    /// Where the gateway's share goes; nothing means a fresh address of the node's wallet.
    pub payout: Option<Payout>,
    /// What settlements cost.
    pub fees: FeeConfig,
}

/// What a watcher works with.
#[derive(Debug)]
struct Post<B> {
    node: B,
    keyring: Keyring,
    ledger: Ledger,
    setup: Setup,
    wall: Wall,
    /// How far the chain is followed. Whoever holds it sees no reorg half done.
    followed: AsyncMutex<Option<Cursor>>,
    /// The blocks that were followed last.
    trail: Mutex<Vec<Cursor>>,
    /// Held while settlements are planned and built, so that no two are built for one channel.
    settling: AsyncMutex<()>,
    /// An address of the wallet that no saved settlement pays yet.
    spare_payout: Mutex<Option<Payout>>,
    /// The newest tip that the node has told, while it answers.
    tip: RwLock<Option<Tip>>,
    /// The median time past that was told last, also while the node is away.
    median_time_past: AtomicU64,
    /// Why the node counts as away, while it does.
    failure: Mutex<Option<String>>,
    openings: Semaphore,
    /// What came of looking contracts up.
    looks: Mutex<HashMap<OutPoint, Look>>,
    quote: Mutex<Option<Quote>>,
    refused: Mutex<HashMap<Txid, Refused>>,
    complaints: Mutex<HashMap<OutPoint, String>>,
    alarms: Mutex<Vec<Alarm>>,
    sightings: Mutex<Sightings>,
    /// How often a settlement was handed to the node.
    broadcasts: AtomicU64,
    /// Somebody waits for the next round.
    news: Notify,
}

/// Follows the chain for a gateway. Clones share it.
#[derive(Debug)]
pub struct Watcher<B>(Arc<Post<B>>);

impl<B> Clone for Watcher<B> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<B: Chain + Wallet> Watcher<B> {
    /// Makes a watcher.
    #[must_use]
    pub fn new(node: B, keyring: Keyring, ledger: Ledger, setup: Setup) -> Self {
        Self::with_wall(Wall::system(), node, keyring, ledger, setup)
    }

    /// Makes a watcher whose own clock is `wall`.
    #[must_use]
    pub fn with_wall(wall: Wall, node: B, keyring: Keyring, ledger: Ledger, setup: Setup) -> Self {
        let (followed, trail) = (ledger.resumed_at(), ledger.trail().to_vec());
        Self(Arc::new(Post {
            node,
            keyring,
            ledger,
            setup,
            wall,
            followed: AsyncMutex::new(followed),
            trail: Mutex::new(trail),
            settling: AsyncMutex::default(),
            spare_payout: Mutex::default(),
            tip: RwLock::new(None),
            median_time_past: AtomicU64::new(0),
            failure: Mutex::default(),
            openings: Semaphore::new(OPENINGS_MAX),
            looks: Mutex::default(),
            quote: Mutex::default(),
            refused: Mutex::default(),
            complaints: Mutex::default(),
            alarms: Mutex::default(),
            sightings: Mutex::default(),
            broadcasts: AtomicU64::new(0),
            news: Notify::new(),
        }))
    }

    /// Follows the chain until the task is dropped. Failures are logged once and tried again.
    pub async fn run(self) {
        tokio::join!(self.follow(), self.listen());
    }

    /// Looks around when there is news, and every now and then.
    async fn follow(&self) {
        let mut last_failure = None;
        loop {
            let began = Instant::now();
            let failure = self.round().await.err().map(|error| error.to_string());
            match &failure {
                Some(failure) if last_failure.as_ref() != Some(failure) => tracing::error!(
                    error = %failure,
                    "the chain cannot be followed: no channel opens or settles until it can"
                ),
                None if last_failure.is_some() => tracing::info!("the chain is followed again"),
                Some(_) | None => {}
            }
            self.raise_alarms();
            // A round that has much to ask leaves the node time for others.
            let rest = began.elapsed().saturating_mul(REST_FACTOR).min(REST_MAX);
            let pause = if failure.is_none() { POLL_INTERVAL.max(rest) } else { POLL_INTERVAL };
            last_failure = failure;
            let _news = tokio::time::timeout(pause, self.0.news.notified()).await;
        }
    }

    /// Waits for new blocks.
    async fn listen(&self) {
        loop {
            let next = self.tip().map(|tip| tip.height.saturating_add(1));
            let waited = match next {
                Some(next) => self.0.node.wait_for_height(next, LONG_POLL).await.is_ok(),
                None => false,
            };
            if waited {
                self.0.news.notify_one();
            }
            // The round that this has begun tells the next height to wait for.
            tokio::time::sleep(if waited { LISTEN_PAUSE } else { POLL_INTERVAL }).await;
        }
    }

    /// Asks the node for news once, follows the chain to its tip, and does what is due.
    ///
    /// # Errors
    /// [`WatchError`] when the node or the ledger fails. Until the next round succeeds, the node
    /// counts as away.
    pub async fn round(&self) -> Result<(), WatchError> {
        let followed = self.step().await;
        *lock(&self.0.failure) = followed.as_ref().err().map(ToString::to_string);
        if followed.is_err() {
            *write(&self.0.tip) = None;
            // What needs no node is done all the same.
            self.close_due().await?;
        }
        followed
    }

    /// Returns the tip while the node answers.
    fn tip(&self) -> Option<Tip> {
        *self.0.tip.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the tip, or words for why nothing can be looked up.
    fn ready_tip(&self) -> Result<Tip, NodeError> {
        match (self.tip(), self.away()) {
            (Some(tip), None) => Ok(tip),
            (_, reason) => Err(NodeError::Away(reason.unwrap_or_default())),
        }
    }
}

/// Returns where the chain stands at a tip.
fn chain_time(tip: &Tip) -> ChainTime {
    let median_time_past = u32::try_from(tip.median_time_past).unwrap_or(u32::MAX);
    ChainTime { height: tip.height, median_time_past }
}

/// Locks a value that no holder can leave half changed.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Locks a value for writing, likewise.
fn write<T>(lock: &RwLock<T>) -> std::sync::RwLockWriteGuard<'_, T> {
    lock.write().unwrap_or_else(PoisonError::into_inner)
}

impl<B: Chain + Wallet> Node for Watcher<B> {
    fn clock(&self) -> Clock {
        let wall = self.0.wall.now();
        let told = self.0.median_time_past.load(Ordering::Relaxed);
        Clock { median_time_past: Timestamp::new(told), wall }
    }

    fn chain_time(&self) -> Option<ChainTime> {
        self.tip().as_ref().map(chain_time)
    }

    fn ready(&self) -> Result<ChainTime, NodeError> {
        self.ready_tip().as_ref().map(chain_time).map_err(Clone::clone)
    }

    async fn find(
        &self,
        outpoint: OutPoint,
        transaction: Option<Transaction>,
    ) -> Result<TxOut, NodeError> {
        let _place = self.0.openings.try_acquire().map_err(|_| NodeError::Busy)?;
        self.ready_tip()?;
        let away = |error: ChainError| NodeError::Away(error.to_string());
        let coins: Vec<OutPoint> =
            transaction.iter().flat_map(|tx| &tx.input).map(|it| it.previous_output).collect();
        let refused = match transaction.map(|transaction| self.0.node.broadcast(transaction)) {
            Some(broadcast) => match broadcast.await {
                Ok(()) => None,
                // It may be in a block by now, so the output decides.
                Err(ChainError::Refused { message, .. }) => Some(message),
                Err(error) => return Err(away(error)),
            },
            None => None,
        };
        if let Some(unspent) = self.0.node.unspent(outpoint).await.map_err(away)? {
            return Ok(unspent.output);
        }
        let missing = || NodeError::Missing("the node does not have it, or it is spent".to_owned());
        let refused = refused.ok_or_else(missing)?;
        for coin in coins {
            if self.0.node.unspent(coin).await.map_err(away)?.is_none() {
                return Err(NodeError::Missing(refused));
            }
        }
        Err(NodeError::Refused(refused))
    }

    async fn watch(&self, terms: Terms) -> Result<Option<(OutPoint, Sat)>, NodeError> {
        self.ready_tip()?;
        let now = self.clock().now();
        Ok(lock(&self.0.sightings).watch(terms, now))
    }

    async fn attend(&self, outpoint: OutPoint) {
        let Some(channel) = self.0.ledger.channel(outpoint) else { return };
        let attended = match channel {
            _ if self.ready_tip().is_err() => Ok(()),
            Channel::Pending(_) => self.look_for(outpoint).await,
            // What waits for others is settled by a later round.
            Channel::Closing(_) if self.0.ledger.rules().settling.wait == Seconds::new(0) => {
                self.settle_first(outpoint).await
            }
            Channel::Closing(_) | Channel::Late(_) | Channel::Open(_) | Channel::Ended(_) => Ok(()),
        };
        if let Err(error) = attended {
            tracing::warn!(channel.id = %outpoint, error = %error, "a channel has to wait");
        }
    }
}
