//! Looking contracts up: whether they are confirmed, and whether one that is not may be trusted.
//!
//! Each contract is looked up once, when it is shown or the gateway starts. From then on the blocks
//! tell what becomes of it.

use std::collections::BTreeSet;

use bitcoin::{BlockHash, OutPoint};
use farebox_chain::{Chain, ChainError, Tip, Unspent, Wallet};
use farebox_channel::Timestamp;
use farebox_channel::gateway::{Channel, Closing, Input, Mined};
use farebox_ledger::Cursor;
use tokio::sync::MutexGuard;

use super::{RETRY_INTERVAL_SECS, WatchError, Watcher, lock};

/// The greatest number of coins in an unconfirmed contract that is trusted.
const TRUSTED_COINS_MAX: usize = 20;

/// What came of looking a contract up last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Look {
    /// What there is to know is known.
    Done,
    /// It was looked up at a tip, and is worth a look at the next one.
    At(BlockHash),
    /// It failed.
    Failed(Timestamp),
}

impl<B: Chain + Wallet> Watcher<B> {
    /// Looks up the contracts that were not looked up yet.
    pub(super) async fn look_for_all(&self, tip: &Tip) -> Result<(), WatchError> {
        let is_sought = |channel: &Channel| channel.height().is_none();
        let mut sought = self.0.ledger.waiting();
        sought.extend(self.0.ledger.closing());
        sought.retain(is_sought);
        let outpoints: BTreeSet<OutPoint> =
            sought.iter().map(|it| it.contract().outpoint).collect();
        lock(&self.0.looks).retain(|outpoint, _| outpoints.contains(outpoint));
        for outpoint in outpoints {
            let is_fresh = match lock(&self.0.looks).get(&outpoint) {
                None => false,
                Some(Look::Done) => true,
                Some(Look::At(at)) => *at == tip.hash,
                Some(Look::Failed(at)) => at.distance(self.0.wall.now()) <= RETRY_INTERVAL_SECS,
            };
            if !is_fresh {
                self.look_for(outpoint).await?;
            }
        }
        Ok(())
    }

    /// Looks a contract up, and tells its channel what is known of it.
    pub(super) async fn look_for(&self, outpoint: OutPoint) -> Result<(), WatchError> {
        let looked = self.look_at(outpoint).await;
        let look = match &looked {
            Ok(Some(look)) => *look,
            Ok(None) => return Ok(()),
            Err(_) => Look::Failed(self.0.wall.now()),
        };
        lock(&self.0.looks).insert(outpoint, look);
        looked.map(|_| ())
    }

    /// Returns nothing when newer blocks are still to be followed: then nothing was learnt.
    async fn look_at(&self, outpoint: OutPoint) -> Result<Option<Look>, WatchError> {
        // While blocks are followed, a reorg could pass between the look and the note of it.
        let Ok(followed) = self.0.followed.try_lock() else { return Ok(None) };
        let Some(unspent) = self.0.node.unspent(outpoint).await? else {
            // It may still come, and then a block tells.
            return Ok(Some(Look::Done));
        };
        let Some(tip) = followed.filter(|followed| followed.hash == unspent.tip) else {
            return Ok(None);
        };
        // What cannot be spent yet could not be settled.
        if unspent.is_immature {
            return Ok(Some(Look::At(tip.hash)));
        }
        if unspent.confirmations == 0 {
            self.trust(&followed, outpoint).await?;
            return Ok(Some(Look::Done));
        }
        self.tell(outpoint, confirmed(tip, &unspent)).await?;
        Ok(Some(Look::Done))
    }

    /// Has an unconfirmed contract served, where that is offered and there is a place for it.
    ///
    /// Its coins must be confirmed: then one look at each block tells whether they were spent
    /// otherwise.
    async fn trust(
        &self,
        _followed: &MutexGuard<'_, Option<Cursor>>,
        outpoint: OutPoint,
    ) -> Result<(), WatchError> {
        let rules = self.0.ledger.rules();
        let Some(unconfirmed) = rules.unconfirmed.filter(|_| rules.confirmations == 0) else {
            return Ok(());
        };
        // One that has left the mempool keeps its place until it is mined or lost for good: else a
        // client would be served anew each time it takes its contracts back.
        let taken = u64::try_from(self.0.ledger.exposed()).unwrap_or(u64::MAX);
        if taken >= unconfirmed.places() {
            return Ok(());
        }
        let Some(contract) = self.0.node.mempool_transaction(outpoint.txid).await? else {
            return Ok(());
        };
        let coins: Vec<OutPoint> = contract.input.iter().map(|it| it.previous_output).collect();
        if coins.len() > TRUSTED_COINS_MAX {
            return Ok(());
        }
        for coin in &coins {
            if self.0.node.confirmed(*coin).await?.is_none() {
                return Ok(());
            }
        }
        self.tell(outpoint, Input::Seen(coins)).await
    }

    /// Serves nothing more on unconfirmed contracts that have left the mempool.
    pub(super) async fn freeze(&self) -> Result<(), WatchError> {
        for channel in self.0.ledger.trusted() {
            let outpoint = channel.contract().outpoint;
            // While blocks are followed, it could be on its way from the mempool into one. Clients
            // who have contracts looked up may not keep this from being done, so it waits for them.
            let _followed = self.0.followed.lock().await;
            if self.0.node.unspent(outpoint).await?.is_none() {
                tracing::error!(
                    channel.id = %outpoint,
                    channel.spent_msat = channel.account().spent.get(),
                    "an unconfirmed contract has left the mempool: nothing more is served on it"
                );
                self.tell(outpoint, Input::Unconfirmed).await?;
            }
        }
        Ok(())
    }

    /// Looks whether contracts are unspent in the blocks, whatever the mempool says, and tells those
    /// that are not.
    pub(super) async fn recheck(&self, outpoints: Vec<OutPoint>) -> Result<(), WatchError> {
        let followed = self.0.followed.lock().await;
        for outpoint in outpoints {
            let known = self.0.ledger.channel(outpoint);
            let is_spent = known.is_none_or(|channel| channel.mined().is_some());
            if is_spent || self.0.node.confirmed(outpoint).await?.is_some() {
                continue;
            }
            // Else a block that is not followed yet will tell more.
            if followed.map(|followed| followed.hash) == Some(self.0.node.tip().await?.hash) {
                tracing::error!(channel.id = %outpoint, "a contract is in no block any more");
                lock(&self.0.looks).remove(&outpoint);
                self.tell(outpoint, Input::Unconfirmed).await?;
            }
        }
        Ok(())
    }

    /// Goes on where the node has pruned the next block: what contracts are unspent is still known.
    ///
    /// Returns where the chain is followed to then, or nothing when it has grown meanwhile.
    pub(super) async fn leap(
        &self,
        from: Cursor,
        tip: &Tip,
    ) -> Result<Option<(Cursor, Vec<(OutPoint, Input)>)>, WatchError> {
        let is_live = |channel: &Channel| !matches!(channel, Channel::Ended(_));
        let mut inputs = Vec::new();
        let mut unknown = Vec::new();
        for channel in self.0.ledger.select(is_live) {
            let outpoint = channel.contract().outpoint;
            if let Some(unspent) = self.0.node.confirmed(outpoint).await? {
                let at = Cursor { height: tip.height, hash: tip.hash };
                if unspent.tip != tip.hash {
                    return Ok(None);
                }
                // What cannot be spent yet could not be settled.
                if !unspent.is_immature {
                    inputs.push((outpoint, confirmed(at, &unspent)));
                }
            } else if let Some(told) = self.settled_unseen(&channel, tip).await? {
                inputs.extend(told.into_iter().map(|input| (outpoint, input)));
            } else if channel.height().is_some() && channel.mined().is_none() {
                unknown.push(outpoint.to_string());
                inputs.push((outpoint, Input::Unconfirmed));
            }
        }
        if self.0.node.tip().await?.hash != tip.hash {
            return Ok(None);
        }
        tracing::error!(
            from = from.height.saturating_add(1),
            to = tip.height,
            unknown = %unknown.join(" "),
            "bitcoind has pruned blocks that were not followed: contracts that are unspent go on, \
             and what has spent the unknown ones has to be looked up elsewhere"
        );
        Ok(Some((Cursor { height: tip.height, hash: tip.hash }, inputs)))
    }

    /// Returns what a channel is told when its newest settlement is in a block that was not seen:
    /// one of its outputs is unspent.
    async fn settled_unseen(
        &self,
        channel: &Channel,
        tip: &Tip,
    ) -> Result<Option<Vec<Input>>, ChainError> {
        let Channel::Closing(Closing { settlement: Some(settlement), .. }) = channel else {
            return Ok(None);
        };
        let txid = settlement.txid();
        for vout in (0..u32::try_from(settlement.transaction.output.len()).unwrap_or(0)).rev() {
            let output = OutPoint { txid, vout };
            let Some(unspent) = self.0.node.confirmed(output).await? else { continue };
            let height = tip.height.saturating_add(1).saturating_sub(unspent.confirmations);
            let mined = Mined::recognise(channel.contract(), &settlement.transaction, height);
            // It may be deep by now, and the next block may be long in coming.
            let deepened = Input::Deepened { height: tip.height };
            return Ok(mined.map(|mined| vec![Input::Spent(mined), deepened]));
        }
        Ok(None)
    }
}

/// Returns what a channel is told of a contract that is unspent at a tip.
fn confirmed(tip: Cursor, unspent: &Unspent) -> Input {
    let confirmations = unspent.confirmations;
    let height = tip.height.saturating_add(1).saturating_sub(confirmations);
    Input::Confirmed { height, confirmations }
}
