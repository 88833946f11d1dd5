//! What a ledger needs of a database.

use bitcoin::{BlockHash, OutPoint};
use farebox_channel::gateway::{Attempt, Channel, Open};
use thiserror::Error;

/// The database did not do its work.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum StoreError {
    /// The database failed: the disk is full, the file is damaged or locked.
    #[error("the store failed: {0}")]
    Failed(String),
    /// A record cannot be read.
    #[error("the store's record {record} cannot be read: {reason}")]
    Damaged {
        /// The record.
        record: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Another process uses the store.
    #[error("another process uses the store {0}")]
    InUse(String),
    /// The store was made with another seed, or for another network.
    #[error("the store was made with another key file, or for another network")]
    OtherSeed,
    /// The store was made by a newer release.
    #[error("the store has format {found}, and this release reads up to {known}")]
    Newer {
        /// The store's format.
        found: u32,
        /// The newest format known here.
        known: u32,
    },
}

/// The newest block whose transactions are in the channels' states.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cursor {
    /// The block's height.
    pub height: u32,
    /// The block's hash.
    pub hash: BlockHash,
}

impl Cursor {
    /// The greatest number of blocks that a trail has.
    pub const TRAIL_MAX: usize = 100;

    /// Puts this block on a trail, in the place of all at its height and above.
    pub fn extend(self, trail: &mut Vec<Self>) {
        trail.retain(|block| block.height < self.height);
        trail.push(self);
        let excess = trail.len().saturating_sub(Self::TRAIL_MAX);
        trail.drain(..excess);
    }
}

/// Everything that a store holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Loaded {
    /// The channels.
    pub channels: Vec<Channel>,
    /// How far the chain was followed.
    pub cursor: Option<Cursor>,
    /// The blocks that were followed before, the newest last, as far as they are kept.
    pub trail: Vec<Cursor>,
    /// The height of the tip when the store was last restored from a backup, if it ever was.
    pub restored: Option<u32>,
}

/// What one commit writes.
#[derive(Clone, Debug, Default)]
pub struct Changes<'a> {
    /// The newest state of each channel that changed, but for those in `accounts`.
    pub channels: Vec<&'a Channel>,
    /// The newest state of each open channel on record of which nothing has changed but its newest payment,
    /// what is spent, and when it was used.
    pub accounts: Vec<&'a Open>,
    /// How far the chain is followed now, if that changed.
    pub cursor: Option<Cursor>,
    /// The named requests that changed: nothing where a charge was taken back.
    pub attempts: Vec<(AttemptId, Option<Attempt>)>,
    /// The height of the tip, if the store has just been restored from a backup. Every named
    /// request counts as answered then.
    pub restored: Option<u32>,
}

impl Changes<'_> {
    /// Tells whether nothing but accounts has changed.
    pub(crate) fn are_payments(&self) -> bool {
        let Self { channels, accounts: _, cursor, attempts, restored } = self;
        channels.is_empty() && cursor.is_none() && attempts.is_empty() && restored.is_none()
    }
}

/// A named request of a channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct AttemptId {
    /// The channel.
    pub channel: OutPoint,
    /// A hash of the client's key.
    pub key: [u8; 32],
}

/// A database for channels. One thread uses it.
pub trait Store: Send + 'static {
    /// Reads everything.
    ///
    /// # Errors
    /// [`StoreError`] when something cannot be read.
    fn load(&mut self) -> Result<Loaded, StoreError>;

    /// Returns a named request, if it is on record.
    ///
    /// # Errors
    /// [`StoreError`] when it cannot be read.
    fn attempt(&mut self, id: &AttemptId) -> Result<Option<Attempt>, StoreError>;

    /// Writes all of `changes` or nothing. What is written is durable when this returns: it
    /// survives a loss of power.
    ///
    /// # Errors
    /// [`StoreError`] when nothing was written.
    fn commit(&mut self, changes: &Changes<'_>) -> Result<(), StoreError>;

    /// Does what commits have left for later. It is called a second after the first of them, and at
    /// the end.
    ///
    /// # Errors
    /// [`StoreError`] when it is not done. Nothing that is durable is lost then.
    fn tidy(&mut self) -> Result<(), StoreError> {
        Ok(())
    }
}
