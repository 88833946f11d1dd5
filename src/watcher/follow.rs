//! Following the chain block by block. A reorg is blocks taken away and others put in their place.

use bitcoin::{Block, OutPoint};
use farebox_chain::{Chain, Tip, Wallet};
use farebox_channel::Timestamp;
use farebox_channel::gateway::{Channel, Input, Mined};
use farebox_ledger::Cursor;
use farebox_middleware::Node;

use super::{Post, WatchError, Watcher, check_node, lock, write};

impl<B: Chain + Wallet> Watcher<B> {
    /// Follows the chain to its tip, and does what is due.
    pub(super) async fn step(&self) -> Result<(), WatchError> {
        let tip = match self.tip() {
            Some(_) => self.0.node.tip().await?,
            None => {
                let Post { node, gateway, payout, any_truc_policy, .. } = &*self.0;
                check_node(node, gateway.network(), payout.is_some(), *any_truc_policy).await?
            }
        };
        *write(&self.0.median_time_past) = Timestamp::new(tip.median_time_past);
        *write(&self.0.tip) = Some(tip);
        let mut followed = self.0.followed.lock().await;
        while let Some(next) = self.next_cursor(*followed, &tip).await? {
            self.0.ledger.follow(next).await?;
            *followed = Some(next);
        }
        drop(followed);
        self.attend_to_all().await;
        // Money comes first: what strangers wait for is looked at afterwards.
        self.scan_mempool().await
    }

    /// Takes one block away or puts one in, and returns where the chain is followed to then.
    async fn next_cursor(
        &self,
        cursor: Option<Cursor>,
        tip: &Tip,
    ) -> Result<Option<Cursor>, WatchError> {
        let Some(cursor) = cursor else {
            // Nothing is on record from before, so there is nothing to catch up with.
            return Ok(Some(Cursor { height: tip.height, hash: tip.hash }));
        };
        if cursor.hash == tip.hash {
            return Ok(None);
        }
        let place = self.0.node.block_place(cursor.hash).await?;
        let place = place.ok_or(WatchError::OtherChain(cursor.hash))?;
        if !place.is_active {
            self.disconnect(cursor.height).await?;
            let height = cursor.height.saturating_sub(1);
            let hash = place.previous.ok_or(WatchError::OtherChain(cursor.hash))?;
            return Ok(Some(Cursor { height, hash }));
        }
        let height = cursor.height.saturating_add(1);
        let Some(hash) = self.0.node.block_hash(height).await? else {
            return Ok(None);
        };
        let block = self.0.node.block(hash).await?;
        if block.header.prev_blockhash != cursor.hash {
            return Ok(None); // A reorg between two calls: the next step sees it.
        }
        // A step that failed or was cut short may have told of another block at this height, which
        // no reorg takes back since it was never followed.
        self.undo(height).await?;
        self.connect(&block, height).await?;
        Ok(Some(Cursor { height, hash }))
    }

    /// Tells the channels what a new block does to them.
    async fn connect(&self, block: &Block, height: u32) -> Result<(), WatchError> {
        for transaction in &block.txdata {
            lock(&self.0.sightings).look_at(transaction);
            for input in &transaction.input {
                let Some(channel) = self.0.ledger.channel(input.previous_output) else {
                    continue;
                };
                if let Some(mined) = Mined::recognise(channel.contract(), transaction, height) {
                    self.tell(input.previous_output, Input::Spent(mined)).await?;
                }
            }
        }
        for channel in self.0.ledger.select(is_mined) {
            self.tell(channel.contract().outpoint, Input::Deepened { height }).await?;
        }
        Ok(())
    }

    /// Takes back what the block at `height` has done.
    async fn disconnect(&self, height: u32) -> Result<(), WatchError> {
        tracing::warn!(block.height = height, "a block is no longer in the chain");
        self.undo(height).await
    }

    /// Tells channels to forget what has happened to them from the block at `height` on.
    async fn undo(&self, height: u32) -> Result<(), WatchError> {
        for (outpoint, input) in self.undone(height) {
            self.tell(outpoint, input).await?;
        }
        Ok(())
    }

    /// Returns the channels that the block at `height` had changed, and what they are told.
    fn undone(&self, height: u32) -> Vec<(OutPoint, Input)> {
        let undo = |channel: &Channel| match channel {
            Channel::Open(open) if open.height >= height => Some(Input::Unconfirmed),
            Channel::Late(late) if late.height.is_some_and(|at| at >= height) => {
                Some(Input::Unconfirmed)
            }
            Channel::Closing(closing) => {
                let mined = closing.mined.filter(|mined| mined.height >= height);
                mined.map(|_| Input::Unspent)
            }
            Channel::Open(_) | Channel::Late(_) | Channel::Pending(_) | Channel::Ended(_) => None,
        };
        let changed = self.0.ledger.select(|channel| undo(channel).is_some());
        let told = |channel: &Channel| Some((channel.contract().outpoint, undo(channel)?));
        changed.iter().filter_map(told).collect()
    }

    /// Tells a channel what has happened, and logs what became of it.
    pub(super) async fn tell(&self, outpoint: OutPoint, input: Input) -> Result<(), WatchError> {
        let before = self.0.ledger.channel(outpoint).map(|channel| channel.name());
        let channel = self.0.ledger.apply(outpoint, self.clock(), input).await?;
        if before != Some(channel.name()) {
            tracing::info!(
                channel.id = %outpoint,
                channel.state = %channel.name(),
                channel.paid_sat = channel.account().payment.paid().get(),
                "a channel has changed its state"
            );
        }
        Ok(())
    }
}

/// Tells whether a channel's contract was spent in a block that is not deep yet.
fn is_mined(channel: &Channel) -> bool {
    matches!(channel, Channel::Closing(closing) if closing.mined.is_some())
}
