//! Closing channels in time, and bringing their settlements into blocks.
//!
//! What is to be done is planned anew each time from what is on record and what the node tells
//! (`farebox_channel::gateway::Plan`). Here the node is asked, and the plan is carried out: a
//! settlement is saved before it is handed to the node.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bitcoin::{BlockHash, FeeRate, OutPoint, Txid};
use farebox_chain::{Chain, ChainError, Wallet};
use farebox_channel::gateway::{
    Channel, Closing, Draft, Input, Market, Mempool, Mined, Plan, Rival, Spender, Step,
};
use farebox_channel::{Member, Payout, Sat, Settlement, SettlementError, Timestamp, UnusualScript};
use farebox_middleware::Node;
use thiserror::Error;

use super::{RETRY_INTERVAL_SECS, WatchError, Watcher, lock};

/// The blocks in which a settlement that has time shall be mined.
const RELAXED_BLOCKS: u16 = 6;
/// The blocks in which a settlement that is late shall be mined.
const URGENT_BLOCKS: u16 = 2;
/// The greatest number of channels that are closed in one write.
const CLOSES_MAX: usize = 500;
/// How long what the node says of fees is good for, in seconds.
const MARKET_SECS: u64 = 10;

/// Why a step of the plan could not be done now.
#[derive(Debug, Error)]
pub(super) enum StepError {
    #[error(transparent)]
    Watch(#[from] WatchError),
    #[error(transparent)]
    Settlement(#[from] SettlementError),
    #[error("the wallet's address is of no use: {0}")]
    Payout(#[from] UnusualScript),
}

impl From<ChainError> for StepError {
    fn from(error: ChainError) -> Self {
        Self::Watch(error.into())
    }
}

/// What the node said of fees last.
#[derive(Clone, Copy, Debug)]
pub(super) struct Quote {
    tip: BlockHash,
    at: Timestamp,
    market: Market,
}

/// A settlement that the node has refused.
#[derive(Clone, Copy, Debug)]
pub(super) struct Refused {
    tip: BlockHash,
    at: Timestamp,
}

impl<B: Chain + Wallet> Watcher<B> {
    /// Closes the channels whose time has come.
    pub(super) async fn close_due(&self) -> Result<(), WatchError> {
        let (clock, rules) = (self.clock(), self.0.ledger.rules());
        let due = |channel: &Channel| {
            let cause = channel.due(clock, &rules)?;
            Some((channel.contract().outpoint, Input::Expire(cause)))
        };
        let closing: Vec<_> = self.0.ledger.due(clock.now()).iter().filter_map(due).collect();
        for some in closing.chunks(CLOSES_MAX) {
            self.tell_some(None, some.to_vec()).await?;
        }
        Ok(())
    }

    /// Does what is to be done for the settlement of all closing channels.
    pub(super) async fn settle_all(&self) -> Result<(), WatchError> {
        self.settle(|| self.0.ledger.closing()).await
    }

    /// Builds a channel's first settlement. It costs the same however many others are closing.
    pub(super) async fn settle_first(&self, outpoint: OutPoint) -> Result<(), WatchError> {
        let is_first = |channel: &Channel| {
            claimed(channel).is_some_and(|closing| closing.settlement.is_none())
        };
        self.settle(|| self.0.ledger.channel(outpoint).into_iter().filter(is_first).collect()).await
    }

    /// Does what is to be done for the settlement of channels, which are asked for once nobody
    /// else settles any.
    async fn settle(&self, channels: impl FnOnce() -> Vec<Channel>) -> Result<(), WatchError> {
        let _pass = self.0.settling.lock().await;
        let Some(tip) = self.tip() else { return Ok(()) };
        let channels = channels();
        let closing: Vec<&Closing> = channels.iter().filter_map(claimed).collect();
        if closing.is_empty() || !self.is_up_to_date().await? {
            return Ok(());
        }
        self.drop_complaints();
        let mempool = self.mempool_of(&closing).await?;
        let market = self.market(tip.hash).await?;
        let plan =
            Plan::new(&closing, &mempool, &market, &self.0.ledger.rules(), self.clock().now());
        for step in plan.0 {
            let first = first_of(&step);
            match self.take(step, tip.hash).await {
                Ok(()) => {}
                Err(StepError::Watch(WatchError::Chain(
                    error @ ChainError::Unreachable { .. },
                ))) => {
                    return Err(error.into());
                }
                Err(error) => self.complain(first, &error.to_string()),
            }
        }
        Ok(())
    }

    /// Tells whether the chain is followed to the node's tip. Else a reorg may have taken a contract
    /// out of its block, and its settlement would not be relayed; the next round settles then.
    async fn is_up_to_date(&self) -> Result<bool, WatchError> {
        let followed = self.0.followed.lock().await;
        let tip = self.0.node.tip().await?;
        Ok(followed.is_some_and(|followed| followed.hash == tip.hash))
    }

    async fn take(&self, step: Step, tip: BlockHash) -> Result<(), StepError> {
        match step {
            Step::Build(draft) => self.build(draft, tip).await,
            Step::Broadcast(settlement) => self.broadcast(&settlement, tip).await,
            Step::WriteOff(outpoint) => Ok(self.tell(outpoint, Input::WriteOff).await?),
        }
    }

    /// Builds a settlement, saves it, and hands it to the node.
    async fn build(&self, draft: Draft, tip: BlockHash) -> Result<(), StepError> {
        let channels: Vec<Channel> =
            draft.members.iter().filter_map(|member| self.0.ledger.channel(*member)).collect();
        let members: Vec<Member<'_>> =
            channels.iter().map(|channel| channel.account().member()).collect();
        let payout = match draft.payout {
            Some(payout) => payout,
            None => self.own_payout().await?,
        };
        let keyring = &self.0.keyring;
        let settlement = match Settlement::build(&members, keyring, &payout, draft.fee) {
            Err(SettlementError::Uneconomic { .. }) if draft.is_last_chance => {
                for member in draft.members {
                    self.tell(member, Input::WriteOff).await?;
                }
                return Ok(());
            }
            settlement => settlement?,
        };
        tracing::info!(
            settlement.txid = %settlement.txid(),
            settlement.channels = members.len(),
            settlement.fee_sat = settlement.fee.get(),
            settlement.share_sat = settlement.share.get(),
            "a settlement is built"
        );
        let clock = self.clock();
        self.0
            .ledger
            .settle(clock, settlement.clone(), &draft.dropped)
            .await
            .map_err(WatchError::from)?;
        lock(&self.0.spare_payout).take_if(|spare| *spare == payout);
        self.broadcast(&settlement, tip).await
    }

    /// Hands a settlement to the node. One that was refused is tried again after a while.
    async fn broadcast(&self, settlement: &Settlement, tip: BlockHash) -> Result<(), StepError> {
        let (txid, now) = (settlement.txid(), self.0.wall.now());
        let is_fresh = |it: &Refused| it.tip == tip && it.at.distance(now) <= RETRY_INTERVAL_SECS;
        if lock(&self.0.refused).get(&txid).is_some_and(is_fresh) {
            return Ok(());
        }
        let sent = self.0.node.broadcast(settlement.transaction.clone()).await;
        self.0.broadcasts.fetch_add(1, Ordering::Relaxed);
        lock(&self.0.refused).retain(|_, refused| refused.tip == tip);
        let Err(error) = sent else { return Ok(()) };
        lock(&self.0.refused).insert(txid, Refused { tip, at: now });
        if matches!(error, ChainError::Refused { .. }) {
            self.recheck(settlement.members().collect()).await?;
        }
        Err(error.into())
    }

    /// Asks the node what its mempool has of the contracts.
    async fn mempool_of(&self, closing: &[&Closing]) -> Result<Mempool, ChainError> {
        let contracts: Vec<OutPoint> =
            closing.iter().map(|it| it.account.contract.outpoint).collect();
        let found = self.0.node.spenders(contracts.clone()).await?;
        let spenders: BTreeMap<OutPoint, Txid> = contracts
            .into_iter()
            .zip(found)
            .filter_map(|(contract, spender)| Some((contract, spender?)))
            .collect();
        let own = |it: &&Closing| it.settlement.as_ref().map(|settlement| settlement.txid());
        let own: BTreeSet<Txid> = closing.iter().filter_map(own).collect();
        let mut rivals = BTreeMap::new();
        for (contract, txid) in &spenders {
            if rivals.contains_key(txid) {
                continue;
            }
            let by = if own.contains(txid) {
                Some(Spender::Settlement)
            } else {
                self.rival(*contract, *txid).await?
            };
            let (Some(pooled), Some(by)) = (self.0.node.in_mempool(*txid).await?, by) else {
                continue; // It has left the mempool meanwhile.
            };
            let rival = Rival {
                by,
                fee: Sat::saturating(pooled.fee_sat),
                vsize: pooled.vsize,
                family_fee: Sat::saturating(pooled.family_fee_sat),
                family_vsize: pooled.family_vsize,
            };
            rivals.insert(*txid, rival);
        }
        Ok(Mempool { spenders, rivals })
    }

    /// Returns what a transaction of the mempool is to a contract, if it is still there.
    async fn rival(&self, contract: OutPoint, txid: Txid) -> Result<Option<Spender>, ChainError> {
        let transaction = self.0.node.mempool_transaction(txid).await?;
        let channel = self.0.ledger.channel(contract);
        Ok(transaction.zip(channel).and_then(|(transaction, channel)| {
            Some(Mined::recognise(channel.contract(), &transaction, 0)?.by)
        }))
    }

    /// Returns what it costs to be mined, as the node said it a few seconds ago at most.
    async fn market(&self, tip: BlockHash) -> Result<Market, ChainError> {
        let now = self.0.wall.now();
        let is_fresh = |it: &Quote| it.tip == tip && it.at.distance(now) < MARKET_SECS;
        if let Some(quote) = lock(&self.0.quote).filter(is_fresh) {
            return Ok(quote.market);
        }
        let policy = self.0.node.relay_policy().await?;
        let floor = policy.least.max(FeeRate::BROADCAST_MIN);
        let fees = &self.0.setup.fees;
        let wanted = async |blocks| -> Result<FeeRate, ChainError> {
            let estimate = self.0.node.fee_rate(blocks).await?.unwrap_or(fees.fallback);
            Ok(estimate.max(fees.floor).min(fees.ceiling).max(floor))
        };
        let relaxed = wanted(RELAXED_BLOCKS).await?;
        let urgent = wanted(URGENT_BLOCKS).await?.max(relaxed);
        let market = Market { relaxed, urgent, floor, increment: policy.increment };
        *lock(&self.0.quote) = Some(Quote { tip, at: now, market });
        Ok(market)
    }

    /// Returns where the gateway's share goes. A fresh address is asked for only once the last
    /// one stands in a saved settlement.
    pub(super) async fn own_payout(&self) -> Result<Payout, StepError> {
        let spare = lock(&self.0.spare_payout).clone();
        if let Some(payout) = self.0.setup.payout.clone().or(spare) {
            return Ok(payout);
        }
        let payout = Payout::try_from(&self.0.node.fresh_address().await?)?;
        *lock(&self.0.spare_payout) = Some(payout.clone());
        Ok(payout)
    }

    /// Logs why a channel's settlement has to wait, once for each reason.
    fn complain(&self, outpoint: Option<OutPoint>, reason: &str) {
        let Some(outpoint) = outpoint else { return };
        let mut complaints = lock(&self.0.complaints);
        if complaints.insert(outpoint, reason.to_owned()).as_deref() != Some(reason) {
            tracing::warn!(channel.id = %outpoint, error = reason, "a settlement has to wait");
        }
    }

    /// Forgets the complaints about channels that are closing no more.
    fn drop_complaints(&self) {
        let is_closing = |outpoint: &OutPoint| {
            matches!(self.0.ledger.channel(*outpoint), Some(Channel::Closing(_)))
        };
        lock(&self.0.complaints).retain(|outpoint, _| is_closing(outpoint));
    }
}

/// Returns a closing channel whose settlement is to be built or brought into a block.
fn claimed(channel: &Channel) -> Option<&Closing> {
    match channel {
        Channel::Closing(closing) => Some(closing).filter(|closing| closing.is_claimed()),
        Channel::Pending(_) | Channel::Late(_) | Channel::Open(_) | Channel::Ended(_) => None,
    }
}

/// Returns the first channel that a step is about.
fn first_of(step: &Step) -> Option<OutPoint> {
    match step {
        Step::Build(draft) => draft.members.first().copied(),
        Step::Broadcast(settlement) => Arc::as_ref(settlement).members().next(),
        Step::WriteOff(outpoint) => Some(*outpoint),
    }
}
