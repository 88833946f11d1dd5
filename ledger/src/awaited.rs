//! Who waits for credit.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bitcoin::OutPoint;
use farebox_channel::Msat;
use farebox_channel::gateway::{Channel, Rules};
use tokio::sync::watch;

use crate::Table;

/// The channels whose credit somebody waits for. Clones share them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Awaited(Arc<Mutex<Table<OutPoint, watch::Sender<()>>>>);

/// Tells when a channel may have credit again, or can have none any more. One that waits costs a few
/// words of memory and nothing else.
#[derive(Debug)]
pub struct Credited {
    awaited: Awaited,
    outpoint: OutPoint,
    /// Something for as long as it waits.
    told: Option<watch::Receiver<()>>,
}

impl Awaited {
    /// Waits for a channel's credit from now on.
    pub(crate) fn wait(&self, outpoint: OutPoint) -> Credited {
        let told = self.lock().entry(outpoint).or_insert_with(|| watch::channel(()).0).subscribe();
        Credited { awaited: self.clone(), outpoint, told: Some(told) }
    }

    /// Returns those of the channels that somebody is to be told of.
    pub(crate) fn among<'c>(
        &self,
        channels: impl Iterator<Item = &'c Channel>,
        rules: &Rules,
    ) -> Vec<OutPoint> {
        let awaited = self.lock();
        if awaited.is_empty() {
            return Vec::new();
        }
        let is_news = |channel: &&Channel| match channel {
            Channel::Pending(_) => false,
            Channel::Open(_) => channel.chargeable(rules) > Msat::ZERO,
            Channel::Late(_) | Channel::Closing(_) | Channel::Ended(_) => true,
        };
        let news = channels.filter(is_news).map(|channel| channel.contract().outpoint);
        news.filter(|outpoint| awaited.contains_key(outpoint)).collect()
    }

    /// Tells all who wait for these channels.
    pub(crate) fn tell(&self, channels: &[OutPoint]) {
        if channels.is_empty() {
            return;
        }
        let awaited = self.lock();
        for sender in channels.iter().filter_map(|outpoint| awaited.get(outpoint)) {
            sender.send_replace(());
        }
    }

    /// Nobody panics with the lock in hand, so a poisoned one is still good.
    fn lock(&self) -> MutexGuard<'_, Table<OutPoint, watch::Sender<()>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Credited {
    /// Waits until something was told since the last time, or since the waiting began.
    pub async fn again(&mut self) {
        if let Some(told) = &mut self.told {
            // The other side lives for as long as this one.
            let _told = told.changed().await;
        }
    }
}

impl Drop for Credited {
    fn drop(&mut self) {
        let mut awaited = self.awaited.lock();
        // The last one sees that no other is left, also when several end at once.
        self.told = None;
        if awaited.get(&self.outpoint).is_some_and(|sender| sender.receiver_count() == 0) {
            awaited.remove(&self.outpoint);
        }
    }
}
