//! Following the chain block by block. A reorg is blocks taken away and others put in their place.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bitcoin::{Block, OutPoint, Transaction};
use farebox_chain::{Chain, ChainError, Tip, Wallet};
use farebox_channel::gateway::{Channel, Input, Mined};
use farebox_channel::{Contract, Settlement};
use farebox_ledger::{Cursor, Touch, Touched};
use farebox_middleware::Node;

use super::{WatchError, Watcher, lock, write};

/// Where the chain is followed to next, and what that tells of channels. Both are one write.
type Next = (Cursor, Vec<(OutPoint, Input)>);

impl<B: Chain + Wallet> Watcher<B> {
    /// Follows the chain to its tip, and does what is due.
    pub(super) async fn step(&self) -> Result<(), WatchError> {
        let tip = match self.tip() {
            Some(_) => self.0.node.tip().await?,
            None => self.0.setup.fitness.check(&self.0.node).await?,
        };
        self.0.median_time_past.store(tip.median_time_past, Ordering::Relaxed);
        *write(&self.0.tip) = Some(tip);
        let mut followed = self.0.followed.lock().await;
        while let Some((next, inputs)) = self.next(*followed, &tip).await? {
            self.tell_some(Some(next), inputs).await?;
            *followed = Some(next);
            next.extend(&mut lock(&self.0.trail));
        }
        drop(followed);
        self.freeze().await?;
        // Money comes first: what others wait for is looked at afterwards.
        self.close_due().await?;
        self.settle_all().await?;
        self.look_for_all(&tip).await?;
        if let Err(error) = self.scan_mempool().await {
            tracing::warn!(error = %error, "the mempool is not looked through for addresses");
        }
        Ok(())
    }

    /// Takes one block away or puts one in.
    async fn next(&self, cursor: Option<Cursor>, tip: &Tip) -> Result<Option<Next>, WatchError> {
        let Some(cursor) = cursor else {
            // Nothing is on record from before, so there is nothing to catch up with.
            return Ok(Some((Cursor { height: tip.height, hash: tip.hash }, Vec::new())));
        };
        if cursor.hash == tip.hash {
            return Ok(None);
        }
        let place = self.0.node.block_place(cursor.hash).await?;
        let Some(place) = place else { return self.rewind(cursor).await.map(Some) };
        if !place.is_active {
            tracing::warn!(block.height = cursor.height, "a block is no longer in the chain");
            let height = cursor.height.saturating_sub(1);
            let hash = place.previous.ok_or(WatchError::OtherChain(cursor.hash))?;
            return Ok(Some((Cursor { height, hash }, self.undone(cursor.height))));
        }
        let height = cursor.height.saturating_add(1);
        let Some(hash) = self.0.node.block_hash(height).await? else {
            return Ok(None);
        };
        let block = match self.0.node.block(hash).await {
            Err(ChainError::Pruned { .. }) => return self.leap(cursor, tip).await,
            block => block?,
        };
        if block.header.prev_blockhash != cursor.hash {
            return Ok(None); // A reorg between two calls: the next step sees it.
        }
        Ok(Some((Cursor { height, hash }, self.done(&block, height))))
    }

    /// Goes back to the newest block that the node knows too: another node may never have seen one
    /// that has lost its place in the chain.
    async fn rewind(&self, cursor: Cursor) -> Result<Next, WatchError> {
        let trail = lock(&self.0.trail).clone();
        for block in trail.into_iter().rev().filter(|block| block.height < cursor.height) {
            if self.0.node.block_place(block.hash).await?.is_some() {
                tracing::warn!(
                    from = cursor.height,
                    to = block.height,
                    "bitcoind does not know the blocks that were followed last"
                );
                return Ok((block, self.undone(block.height.saturating_add(1))));
            }
        }
        Err(WatchError::OtherChain(cursor.hash))
    }

    /// Returns what a new block does to channels.
    fn done(&self, block: &Block, height: u32) -> Vec<(OutPoint, Input)> {
        for transaction in &block.txdata {
            lock(&self.0.sightings).look_at(transaction);
        }
        let ledger = &self.0.ledger;
        let touched = ledger.touched(block).into_iter();
        let mut inputs: Vec<_> = touched.flat_map(|touch| self.touch(touch, height)).collect();
        for channel in ledger.waiting() {
            if let Some(mined) = channel.height() {
                let confirmations = height.saturating_add(1).saturating_sub(mined);
                let told = Input::Confirmed { height: mined, confirmations };
                inputs.push((channel.contract().outpoint, told));
            }
        }
        let spent = ledger.spent();
        let deepened = spent.iter().map(|it| (it.contract().outpoint, Input::Deepened { height }));
        inputs.extend(deepened);
        inputs
    }

    /// Returns what a transaction of a block at `height` does to a channel.
    fn touch(&self, touch: Touch<'_>, height: u32) -> Vec<(OutPoint, Input)> {
        let Touch { channel: outpoint, how, transaction } = touch;
        let Some(channel) = self.0.ledger.channel(outpoint) else { return Vec::new() };
        let told = match how {
            // What cannot be spent yet could not be settled.
            Touched::Mined if transaction.is_coinbase() => {
                lock(&self.0.looks).remove(&outpoint);
                vec![]
            }
            Touched::Mined => vec![Input::Confirmed { height, confirmations: 1 }],
            Touched::DoubleSpent => vec![Input::Spent(Mined::double_spend(transaction, height))],
            Touched::Spent => {
                let spent = Mined::recognise(channel.contract(), transaction, height);
                // Channels share the one that was built, so it is not told where it is known.
                let settlement = match channel.settlement() {
                    Some(built) if built.transaction == *transaction => None,
                    Some(_) | None => self.settlement(transaction).map(Arc::new),
                };
                let settlement = settlement.map(Input::Settle);
                spent.map(Input::Spent).into_iter().chain(settlement).collect()
            }
        };
        told.into_iter().map(|input| (outpoint, input)).collect()
    }

    /// Recognises a settlement that may be older than the newest one on record, or none of ours.
    fn settlement(&self, transaction: &Transaction) -> Option<Settlement> {
        let contract = |input: &bitcoin::TxIn| self.0.ledger.channel(input.previous_output);
        let channels = transaction.input.iter().filter_map(contract);
        let contracts: Vec<Arc<Contract>> =
            channels.map(|channel| Arc::clone(channel.contract())).collect();
        Settlement::recognise(transaction, &contracts)
    }

    /// Returns what channels are told when the blocks from `height` on are taken back.
    fn undone(&self, height: u32) -> Vec<(OutPoint, Input)> {
        let mut inputs = Vec::new();
        for channel in self.0.ledger.changed_from(height) {
            let outpoint = channel.contract().outpoint;
            if channel.mined().is_some_and(|mined| mined.height >= height) {
                inputs.push((outpoint, Input::Unspent));
            }
            if channel.height().is_some_and(|at| at >= height) {
                inputs.push((outpoint, Input::Unconfirmed));
            }
        }
        inputs
    }

    /// Tells channels what happens to them, and how far the chain is followed then, in one write.
    pub(super) async fn tell_some(
        &self,
        cursor: Option<Cursor>,
        inputs: Vec<(OutPoint, Input)>,
    ) -> Result<(), WatchError> {
        let mut told: Vec<OutPoint> = inputs.iter().map(|(outpoint, _)| *outpoint).collect();
        told.sort_unstable();
        told.dedup();
        let channels = told.iter().filter_map(|outpoint| self.0.ledger.channel(*outpoint));
        let before: Vec<Channel> = channels.collect();
        match cursor {
            Some(cursor) => self.0.ledger.follow(cursor, self.clock(), inputs).await?,
            None => self.0.ledger.apply_all(self.clock(), inputs).await?,
        }
        for before in &before {
            if let Some(after) = self.0.ledger.channel(before.contract().outpoint) {
                report(before, &after);
            }
        }
        Ok(())
    }

    /// Tells a channel what has happened, and logs what became of it.
    pub(super) async fn tell(&self, outpoint: OutPoint, input: Input) -> Result<(), WatchError> {
        let before = self.0.ledger.channel(outpoint);
        let after = self.0.ledger.apply(outpoint, self.clock(), input).await?;
        if let Some(before) = before {
            report(&before, &after);
        }
        Ok(())
    }
}

/// Logs what has become of a channel.
fn report(before: &Channel, after: &Channel) {
    let outpoint = after.contract().outpoint;
    if before.name() != after.name() {
        tracing::info!(
            channel.id = %outpoint,
            channel.state = %after.name(),
            channel.paid_sat = after.account().payment.paid().get(),
            "a channel has changed its state"
        );
    }
    if after.lost() > before.lost() {
        tracing::error!(
            channel.id = %outpoint,
            channel.lost_sat = after.lost().get(),
            spender.txid = after.mined().map(|mined| mined.txid.to_string()),
            "what was paid on a channel is lost"
        );
    }
}
