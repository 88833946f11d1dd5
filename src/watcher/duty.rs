//! What channels need done on chain: looked up, closed, settled, broadcast.

use std::mem::{self, Discriminant};
use std::time::{Duration, Instant};

use bitcoin::{BlockHash, FeeRate, OutPoint};
use farebox_chain::{Chain, ChainError, Tip, Wallet};
use farebox_channel::gateway::{Channel, Duty, Input};
use farebox_channel::{Member, Payout, Settlement, SettlementError, UnusualScript};
use farebox_middleware::Node;
use thiserror::Error;

use super::{WatchError, Watcher, lock};

/// The blocks in which a settlement shall be mined.
const SETTLE_BLOCKS: u16 = 6;
/// The duties that follow each other in one go: close, settle, broadcast, and one to spare.
const DUTIES_MAX: usize = 4;

/// How long to wait after a duty has failed.
const RETRY_INTERVAL: Duration = Duration::from_secs(5);

/// Why a channel's duty could not be done now.
#[derive(Debug, Error)]
pub(super) enum DutyError {
    #[error(transparent)]
    Watch(#[from] WatchError),
    #[error("its settlement waits: {0}")]
    Settlement(#[from] SettlementError),
    #[error("its contract is not confirmed")]
    Unconfirmed,
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
    failed_at: Option<Instant>,
}

impl Attempt {
    /// Tells whether the same duty is to be tried again: once per block, and a while after it
    /// failed.
    fn is_stale(&self, duty: &Duty, tip: &BlockHash) -> bool {
        self.duty != mem::discriminant(duty)
            || self.tip != *tip
            || self
                .failed_at
                .is_some_and(|failed_at| failed_at.elapsed() > RETRY_INTERVAL)
    }
}

impl<B: Chain + Wallet> Watcher<B> {
    /// Does what is due of every channel.
    pub(super) async fn attend_to_all(&self) {
        let Some(tip) = self.tip() else { return };
        let (clock, rules) = (self.clock(), &self.0.gateway.rules);
        for channel in self
            .0
            .ledger
            .select(|channel| channel.due(clock, rules).is_some())
        {
            self.attend_at(&tip, &channel).await;
        }
        lock(&self.0.attempts).retain(|_, attempt| attempt.tip == tip.hash);
    }

    /// Does what is due of a channel, unless that was tried for this block already.
    pub(super) async fn attend_at(&self, tip: &Tip, channel: &Channel) {
        let outpoint = channel.contract().outpoint;
        let Some(duty) = channel.due(self.clock(), &self.0.gateway.rules) else {
            return;
        };
        let is_fresh = |attempt: &Attempt| !attempt.is_stale(&duty, &tip.hash);
        if lock(&self.0.attempts).get(&outpoint).is_some_and(is_fresh) {
            return;
        }
        let attended = self.attend_now(outpoint).await;
        if let Err(error) = &attended {
            tracing::warn!(channel.id = %outpoint, error = %error, "a channel has to wait");
        }
        let failed_at = attended.is_err().then(Instant::now);
        let attempt = Attempt {
            duty: mem::discriminant(&duty),
            tip: tip.hash,
            failed_at,
        };
        lock(&self.0.attempts).insert(outpoint, attempt);
    }

    /// Does what is due of one channel, unless somebody is at it already.
    async fn attend_now(&self, outpoint: OutPoint) -> Result<(), DutyError> {
        if !lock(&self.0.attended).insert(outpoint) {
            return Ok(());
        }
        let _done = Done {
            watcher: self,
            outpoint,
        };
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
                Duty::Broadcast(transaction) => {
                    self.check_confirmed(outpoint).await?;
                    self.0.node.broadcast(transaction).await?;
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    /// Looks whether a contract is confirmed.
    async fn look_up(&self, outpoint: OutPoint) -> Result<(), DutyError> {
        let Some(unspent) = self.0.node.unspent(outpoint).await? else {
            // It may still come back, from a reorg or a mempool that was full.
            return Ok(());
        };
        let tip = self.0.node.tip().await?;
        let confirmations = unspent.confirmations;
        if confirmations == 0 {
            return Ok(());
        }
        let height = tip.height.saturating_add(1).saturating_sub(confirmations);
        Ok(self
            .tell(
                outpoint,
                Input::Confirmed {
                    height,
                    confirmations,
                },
            )
            .await?)
    }

    /// Builds a settlement and saves it. It is broadcast from there.
    async fn settle(&self, channel: &Channel) -> Result<(), DutyError> {
        let contract = channel.contract();
        self.check_confirmed(contract.outpoint).await?;
        let payout = match &self.0.payout {
            Some(payout) => payout.clone(),
            None => Payout::try_from(&self.0.node.fresh_address().await?)?,
        };
        let member = Member {
            contract,
            payment: &channel.account().payment,
        };
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
        Ok(self
            .tell(contract.outpoint, Input::Settle(settlement))
            .await?)
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
        let least = self
            .0
            .node
            .relay_policy()
            .await?
            .least
            .max(FeeRate::BROADCAST_MIN);
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
