//! What can be read of the channels, as of the last commit.

use std::sync::{Arc, PoisonError};

use bitcoin::{Block, OutPoint};
use farebox_channel::gateway::{Channel, Rules};
use farebox_channel::{Contract, Timestamp, VerifiedPayment};
use secp256k1::PublicKey;

use crate::index::{Channels, Touch};
use crate::{Ledger, Totals};

impl Ledger {
    /// Returns the rules that inputs are judged by: those that the ledger was opened with, and
    /// what the store says of its last restore.
    #[must_use]
    pub fn rules(&self) -> Arc<Rules> {
        self.read(|channels| Arc::clone(channels.rules()))
    }

    /// Returns a channel as of the last commit.
    #[must_use]
    pub fn channel(&self, outpoint: OutPoint) -> Option<Channel> {
        self.read(|channels| channels.get(outpoint).cloned())
    }

    /// Returns a channel's contract and its latest payment as of the last commit, which are less to copy
    /// than the channel.
    #[must_use]
    pub fn latest(&self, outpoint: OutPoint) -> Option<(Arc<Contract>, VerifiedPayment)> {
        self.read(|channels| {
            let channel = channels.get(outpoint)?;
            Some((Arc::clone(channel.contract()), channel.account().payment))
        })
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

    /// Returns how many channels there are and what they hold, as of the last commit. It costs the
    /// same, however many there are.
    #[must_use]
    pub fn totals(&self) -> Totals {
        self.read(Channels::totals)
    }

    /// Returns when the next channel is to be closed, if nothing happens to it before.
    #[must_use]
    pub fn next_mark(&self) -> Option<Timestamp> {
        self.read(Channels::next_mark)
    }

    fn read<T>(&self, read: impl FnOnce(&Channels) -> T) -> T {
        // A reader cannot leave the map half changed, so a poisoned lock is still good.
        read(&self.committed.read().unwrap_or_else(PoisonError::into_inner))
    }
}
