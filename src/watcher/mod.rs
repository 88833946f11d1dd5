//! The watcher: follows the chain, and does what channels need done there.
//!
//! It is the middleware's [`Node`] too: it tells the time, looks contracts up, and attends to a
//! channel at once when a client waits for it. Every duty is repeated until the chain shows that
//! it is done, so a crash or a lost node costs time only.

mod duty;
mod follow;
mod sightings;
mod wall;

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use bitcoin::{BlockHash, Network, OutPoint, Transaction, TxOut};
use farebox_chain::{Chain, ChainError, Tip, Wallet};
use farebox_channel::gateway::Gateway;
use farebox_channel::{ChainTime, Clock, Keyring, Payout, Sat, Terms, Timestamp};
use farebox_ledger::{Cursor, Ledger, LedgerError};
use farebox_middleware::{Node, NodeError};
use thiserror::Error;
use tokio::sync::{Mutex as AsyncMutex, Semaphore};

use crate::config::FeeConfig;
use duty::Attempt;
use sightings::Sightings;
pub use wall::Wall;

/// How often the node is asked for news.
const POLL_INTERVAL: Duration = Duration::from_millis(500);
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
    #[error("bitcoind does not know block {0}, which was followed before: it is another chain")]
    OtherChain(BlockHash),
}

/// A node that the gateway does not work with.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Unfit {
    /// The node is on another network.
    #[error(
        "bitcoind is on network `{}`, and `network` in the configuration is `{}`",
        found.to_core_arg(),
        wanted.to_core_arg()
    )]
    OtherNetwork {
        /// The node's network.
        found: Network,
        /// The gateway's network.
        wanted: Network,
    },
    /// The node does not enforce the rules of version 3 transactions (`BIP-0431`).
    #[error(
        "bitcoind's truc_policy is `{0}`, so settlements could be pinned: set `mempooltruc=enforce` \
         in bitcoin.conf, or `bitcoind.any_truc_policy = true` here"
    )]
    TrucPolicy(String),
}

/// What a watcher works with.
#[derive(Debug)]
struct Post<B> {
    node: B,
    gateway: Gateway,
    ledger: Ledger,
    payout: Option<Payout>,
    fees: FeeConfig,
    any_truc_policy: bool,
    wall: Wall,
    /// How far the chain is followed. Whoever holds it sees no reorg half done.
    followed: AsyncMutex<Option<Cursor>>,
    /// An address of the wallet that no saved settlement pays yet.
    spare_payout: Mutex<Option<Payout>>,
    /// The newest tip that the node has told, while it answers.
    tip: RwLock<Option<Tip>>,
    /// The median time past that was told last, also while the node is away.
    median_time_past: RwLock<Timestamp>,
    openings: Semaphore,
    /// The channels that are being attended to, so that no two settlements are built at once.
    attended: Mutex<BTreeSet<OutPoint>>,
    /// What was done for each channel last.
    attempts: Mutex<HashMap<OutPoint, Attempt>>,
    sightings: Mutex<Sightings>,
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
    /// Makes a watcher. Without a `payout` the gateway's share goes to the node's wallet.
    #[must_use]
    pub fn new(
        node: B,
        keyring: Keyring,
        ledger: Ledger,
        payout: Option<Payout>,
        fees: FeeConfig,
        any_truc_policy: bool,
    ) -> Self {
        Self::with_wall(Wall::system(), node, keyring, ledger, payout, fees, any_truc_policy)
    }

    /// Makes a watcher whose own clock is `wall`.
    #[must_use]
    pub fn with_wall(
        wall: Wall,
        node: B,
        keyring: Keyring,
        ledger: Ledger,
        payout: Option<Payout>,
        fees: FeeConfig,
        any_truc_policy: bool,
    ) -> Self {
        let followed = ledger.resumed_at();
        let gateway = Gateway { keyring, rules: ledger.rules().clone() };
        Self(Arc::new(Post {
            node,
            gateway,
            ledger,
            payout,
            fees,
            any_truc_policy,
            wall,
            followed: AsyncMutex::new(followed),
            spare_payout: Mutex::default(),
            tip: RwLock::new(None),
            median_time_past: RwLock::new(Timestamp::new(0)),
            openings: Semaphore::new(OPENINGS_MAX),
            attended: Mutex::default(),
            attempts: Mutex::default(),
            sightings: Mutex::default(),
        }))
    }

    /// Follows the chain until the task is dropped. Failures are logged once and tried again.
    pub async fn run(self) {
        let mut last_failure = None;
        loop {
            match self.round().await {
                Ok(()) => {
                    if last_failure.take().is_some() {
                        tracing::info!("the chain is followed again");
                    }
                }
                Err(error) => {
                    let failure = error.to_string();
                    if last_failure.as_ref() != Some(&failure) {
                        tracing::error!(
                            error = %failure,
                            "the chain cannot be followed: no channel opens or settles until it can"
                        );
                    }
                    last_failure = Some(failure);
                }
            }
            tokio::time::sleep(POLL_INTERVAL).await;
        }
    }

    /// Asks the node for news once, follows the chain to its tip, and does what is due.
    ///
    /// # Errors
    /// [`WatchError`] when the node or the ledger fails. Until the next round succeeds, the node
    /// counts as away.
    pub async fn round(&self) -> Result<(), WatchError> {
        let followed = self.step().await;
        if followed.is_err() {
            *write(&self.0.tip) = None;
        }
        followed
    }

    /// Returns the tip while the node answers.
    fn tip(&self) -> Option<Tip> {
        *self.0.tip.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the tip, or words for why nothing can be looked up.
    fn ready_tip(&self) -> Result<Tip, NodeError> {
        let tip = self.tip().ok_or_else(|| NodeError::Away("it does not answer".to_owned()))?;
        if tip.is_initial_download && tip.network == Network::Bitcoin {
            return Err(NodeError::Away("it is in its initial download".to_owned()));
        }
        Ok(tip)
    }
}

/// Asks a node where it stands, and whether it is the right one and can take the gateway's share.
///
/// # Errors
/// [`WatchError`] when it does not answer or is unfit.
pub async fn check_node<B: Chain + Wallet>(
    node: &B,
    wanted: Network,
    has_payout: bool,
    any_truc_policy: bool,
) -> Result<Tip, WatchError> {
    let tip = node.tip().await?;
    if tip.network != wanted {
        return Err(Unfit::OtherNetwork { found: tip.network, wanted }.into());
    }
    if !has_payout {
        node.check_wallet().await?;
    }
    let policy = node.relay_policy().await?;
    match policy.truc {
        Some(truc) if truc != "enforce" && !any_truc_policy => Err(Unfit::TrucPolicy(truc).into()),
        Some(_) | None => Ok(tip),
    }
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
        let told = self.0.median_time_past.read().unwrap_or_else(PoisonError::into_inner);
        Clock { median_time_past: *told, wall }
    }

    fn chain_time(&self) -> Option<ChainTime> {
        let tip = self.tip()?;
        let median_time_past = u32::try_from(tip.median_time_past).unwrap_or(u32::MAX);
        Some(ChainTime { height: tip.height, median_time_past })
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
        let (Ok(tip), Some(channel)) = (self.ready_tip(), self.0.ledger.channel(outpoint)) else {
            return;
        };
        let _reached = self.attend_at(&tip, &channel).await;
    }
}
