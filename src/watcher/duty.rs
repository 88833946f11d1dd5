//! What channels need done on chain: looked up, closed, settled, broadcast.

use std::mem::{self, Discriminant};
use std::ops::ControlFlow;

use bitcoin::{BlockHash, FeeRate, OutPoint, Transaction};
use farebox_chain::{Chain, ChainError, Tip, Wallet};
use farebox_channel::gateway::{Cause, Channel, Closing, Duty, Input};
use farebox_channel::{Member, Payout, Settlement, SettlementError, Timestamp, UnusualScript};
use farebox_middleware::Node;
use thiserror::Error;

use super::{WatchError, Watcher, lock};

/// The blocks in which a settlement shall be mined.
const SETTLE_BLOCKS: u16 = 6;
/// The duties that follow each other in one go: close, settle, broadcast, and one to spare.
const DUTIES_MAX: usize = 4;

/// How long to wait after a duty has failed.
const RETRY_INTERVAL_SECS: u64 = 5;

/// Why a channel's duty could not be done now.
#[derive(Debug, Error)]
pub(super) enum DutyError {
    #[error(transparent)]
    Watch(#[from] WatchError),
    #[error("its settlement waits: {0}")]
    Settlement(#[from] SettlementError),
    #[error("its contract is not confirmed")]
    Unconfirmed,
    #[error("somebody is at it, or newer blocks are still to be followed")]
    NotYet,
    #[error("the wallet's address is of no use: {0}")]
    Payout(#[from] UnusualScript),
}

impl From<ChainError> for DutyError {
    fn from(error: ChainError) -> Self {
        Self::Watch(error.into())
    }
}

/// When a duty was tried last.
#[derive(Debug)]
pub(super) struct Attempt {
    duty: Discriminant<Duty>,
    tip: BlockHash,
    failed_at: Option<Timestamp>,
}

impl Attempt {
    /// Tells whether the same duty is to be tried again: once per block, and a while after it
    /// failed.
    fn is_stale(&self, duty: &Duty, tip: &BlockHash, wall: Timestamp) -> bool {
        self.duty != mem::discriminant(duty)
            || self.tip != *tip
            || self.failed_at.is_some_and(|at| at.distance(wall) > RETRY_INTERVAL_SECS)
    }
}

impl<B: Chain + Wallet> Watcher<B> {
    /// Does what is due of every channel.
    pub(super) async fn attend_to_all(&self) {
        let Some(tip) = self.tip() else { return };
        let (clock, rules) = (self.clock(), &self.0.gateway.rules);
        for channel in self.0.ledger.select(|channel| channel.due(clock, rules).is_some()) {
            if self.attend_at(&tip, &channel).await.is_break() {
                break;
            }
        }
        lock(&self.0.attempts).retain(|_, attempt| attempt.tip == tip.hash);
    }

    /// Does what is due of a channel, unless that was tried for this block already.
    ///
    /// Breaks when the node does not answer: then there is no use in asking for other channels.
    pub(super) async fn attend_at(&self, tip: &Tip, channel: &Channel) -> ControlFlow<()> {
        let outpoint = channel.contract().outpoint;
        let next = ControlFlow::Continue(());
        let Some(duty) = channel.due(self.clock(), &self.0.gateway.rules) else { return next };
        let is_fresh = |attempt: &Attempt| !attempt.is_stale(&duty, &tip.hash, self.0.wall.now());
        if lock(&self.0.attempts).get(&outpoint).is_some_and(is_fresh) {
            return next;
        }
        // Charges of requests that are under way may still be released.
        if duty == Duty::Close(Cause::Exhausted) && self.0.ledger.is_held(outpoint) {
            return next;
        }
        let attended = self.attend_now(outpoint).await;
        match &attended {
            Err(DutyError::NotYet) => return next,
            Err(error) => {
                tracing::warn!(channel.id = %outpoint, error = %error, "a channel has to wait");
            }
            Ok(()) => {}
        }
        let failed_at = attended.is_err().then(|| self.0.wall.now());
        let attempt = Attempt { duty: mem::discriminant(&duty), tip: tip.hash, failed_at };
        lock(&self.0.attempts).insert(outpoint, attempt);
        match attended {
            Err(DutyError::Watch(WatchError::Chain(ChainError::Unreachable { .. }))) => {
                ControlFlow::Break(())
            }
            Ok(()) | Err(_) => next,
        }
    }

    /// Does what is due of one channel, unless somebody is at it already.
    async fn attend_now(&self, outpoint: OutPoint) -> Result<(), DutyError> {
        if !lock(&self.0.attended).insert(outpoint) {
            return Err(DutyError::NotYet);
        }
        let _done = Done { watcher: self, outpoint };
        for _ in 0..DUTIES_MAX {
            let Some(channel) = self.0.ledger.channel(outpoint) else {
                return Ok(());
            };
            let Some(duty) = channel.due(self.clock(), &self.0.gateway.rules) else {
                return Ok(());
            };
            match duty {
                Duty::LookUp(outpoint) => return self.look_up(outpoint).await,
                Duty::Close(cause) => self.tell(outpoint, Input::Expire(cause)).await?,
                Duty::Settle => self.settle(&channel).await?,
                Duty::Broadcast(settlement) => return self.broadcast(&channel, settlement).await,
            }
        }
        Ok(())
    }

    /// Hands a settlement to the node, and builds another one where its fee is too low by now.
    async fn broadcast(&self, channel: &Channel, settlement: Transaction) -> Result<(), DutyError> {
        self.check_confirmed(channel.contract().outpoint).await?;
        match self.0.node.broadcast(settlement).await {
            Err(ChainError::Refused { .. }) if self.pays_too_little(channel).await? => {
                // It is saved, and goes out the next time.
                self.settle(channel).await
            }
            sent => Ok(sent?),
        }
    }

    /// Tells whether a saved settlement pays less than the node takes now.
    async fn pays_too_little(&self, channel: &Channel) -> Result<bool, ChainError> {
        let Channel::Closing(Closing { settlement: Some(settlement), .. }) = channel else {
            return Ok(false);
        };
        let least = self.0.node.relay_policy().await?.least;
        let vsize = u64::try_from(settlement.transaction.vsize()).unwrap_or(u64::MAX);
        Ok(least.fee_vb(vsize).is_none_or(|needed| settlement.fee.to_amount() < needed))
    }

    /// Looks whether a contract is confirmed.
    async fn look_up(&self, outpoint: OutPoint) -> Result<(), DutyError> {
        // While blocks are followed, a reorg could pass between the look and the note of it.
        let followed = self.0.followed.try_lock().map_err(|_| DutyError::NotYet)?;
        let Some(unspent) = self.0.node.unspent(outpoint).await? else {
            // It may still come back, from a reorg or a mempool that was full.
            return Ok(());
        };
        let tip = followed.filter(|followed| followed.hash == unspent.tip);
        let tip = tip.ok_or(DutyError::NotYet)?;
        let confirmations = unspent.confirmations;
        // What cannot be spent yet could not be settled.
        if confirmations == 0 || unspent.is_immature {
            return Ok(());
        }
        let height = tip.height.saturating_add(1).saturating_sub(confirmations);
        Ok(self.tell(outpoint, Input::Confirmed { height, confirmations }).await?)
    }

    /// Builds a settlement and saves it. It is broadcast from there.
    async fn settle(&self, channel: &Channel) -> Result<(), DutyError> {
        let contract = channel.contract();
        self.check_confirmed(contract.outpoint).await?;
        let payout = self.own_payout().await?;
        let member = Member { contract, payment: &channel.account().payment };
        let rate = self.fee_rate().await?;
        let keyring = &self.0.gateway.keyring;
        let settlement = Settlement::build(&[member], keyring, &payout, rate)?;
        tracing::info!(
            channel.id = %contract.outpoint,
            settlement.txid = %settlement.transaction.compute_txid(),
            settlement.fee_sat = settlement.fee.get(),
            settlement.share_sat = settlement.share.get(),
            "a channel is settled"
        );
        self.tell(contract.outpoint, Input::Settle(settlement)).await?;
        lock(&self.0.spare_payout).take_if(|spare| *spare == payout);
        Ok(())
    }

    /// Returns where the gateway's share goes. A fresh address is asked for only once the last
    /// one stands in a saved settlement.
    async fn own_payout(&self) -> Result<Payout, DutyError> {
        let spare = lock(&self.0.spare_payout).clone();
        if let Some(payout) = self.0.payout.clone().or(spare) {
            return Ok(payout);
        }
        let payout = Payout::try_from(&self.0.node.fresh_address().await?)?;
        *lock(&self.0.spare_payout) = Some(payout.clone());
        Ok(payout)
    }

    /// A version 3 transaction may not spend an unconfirmed version 2 output (`BIP-0431`).
    async fn check_confirmed(&self, outpoint: OutPoint) -> Result<(), DutyError> {
        match self.0.node.unspent(outpoint).await? {
            Some(unspent) if unspent.confirmations == 0 => Err(DutyError::Unconfirmed),
            // Spent in the mempool: by the settlement that is broadcast once more.
            Some(_) | None => Ok(()),
        }
    }

    /// Returns the fee rate of a settlement.
    async fn fee_rate(&self) -> Result<FeeRate, ChainError> {
        let least = self.0.node.relay_policy().await?.least.max(FeeRate::BROADCAST_MIN);
        let estimate = self.0.node.fee_rate(SETTLE_BLOCKS).await?;
        let wanted = estimate.unwrap_or(self.0.fees.fallback);
        Ok(wanted.min(self.0.fees.ceiling).max(least))
    }
}

/// Lets go of a channel, whatever happens while it is attended to.
struct Done<'a, B> {
    watcher: &'a Watcher<B>,
    outpoint: OutPoint,
}

impl<B> Drop for Done<'_, B> {
    fn drop(&mut self) {
        lock(&self.watcher.0.attended).remove(&self.outpoint);
    }
}
