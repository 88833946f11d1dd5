//! Taking back what has expired: refunds are broadcast, and their fee grows until they are mined.

use std::time::Duration;

use bitcoin::{Amount, FeeRate, OutPoint, Transaction, Txid, Weight};
use farebox_chain::{Chain, ChainError, Tip, Wallet};
use farebox_channel::Contract;
use tokio::time::sleep;

use crate::error::PayError;
use crate::event::Event;
use crate::paying::PayingClient;
use crate::record::{Record, Stage};

/// After so many blocks in the mempool, a refund is replaced by one that offers three for two.
const BLOCKS: u32 = 6;
const MORE: u64 = 3;
const THAN: u64 = 2;
/// The part of the contract that its fee may take, as a divisor.
const FEE_PART: u64 = 2;
/// How long to wait for a block before the mempool is looked at again.
const BLOCK_PATIENCE: Duration = Duration::from_secs(10);
/// How long to wait for a node that is away.
const AWAY_PAUSE: Duration = Duration::from_secs(1);

/// A refund that is on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refunding {
    /// The channel.
    pub channel: OutPoint,
    /// The refund as it was broadcast last.
    pub txid: Txid,
    /// What it pays to the miners.
    pub fee: Amount,
}

impl<B: Chain + Wallet> PayingClient<B> {
    /// Takes back the coins of all channels that have expired and that nothing has spent: their
    /// refunds are broadcast, or replaced by dearer ones. Returns those that wait for a block.
    ///
    /// Call it again with each new block, or use [`PayingClient::refund_all`].
    ///
    /// # Errors
    /// [`PayError`] when the file cannot be read, or the node does not answer, or has pruned blocks in which
    /// a contract may have been paid and that were not looked at. What can be refunded is, in any case.
    pub async fn refund_due(&self) -> Result<Vec<Refunding>, PayError> {
        let tip = self.node.tip().await?;
        let mut failed = self.take_expired(tip.median_time_past).await?.map(PayError::Chain);
        self.free_expired(tip.median_time_past).await?;
        let mut waiting = Vec::new();
        for record in self.file.channels()?.iter().filter(|record| is_due(record, tip)) {
            match self.refund(record, tip).await {
                Ok(refunding) => waiting.extend(refunding),
                // One that is worth nothing must not keep the others.
                Err(PayError::Refund(_)) => {}
                Err(error) => failed = Some(error),
            }
        }
        match failed {
            Some(error) if waiting.is_empty() => Err(error),
            Some(_) | None => Ok(waiting),
        }
    }

    /// Does the same with each new block, until no refund waits for one. A node that goes away meanwhile is
    /// waited for.
    ///
    /// # Errors
    /// [`PayError`] as [`PayingClient::refund_due`], and when the node is away at first.
    pub async fn refund_all(&self) -> Result<(), PayError> {
        self.node.tip().await?;
        loop {
            match self.refund_and_wait().await {
                Ok(true) => return Ok(()),
                Ok(false) => {}
                Err(PayError::Chain(error)) if is_away(&error) => sleep(AWAY_PAUSE).await,
                Err(error) => return Err(error),
            }
        }
    }

    /// Takes back what has expired. Tells whether nothing waits for a block, or waits for the next one.
    async fn refund_and_wait(&self) -> Result<bool, PayError> {
        let next = self.node.tip().await?.height.saturating_add(1);
        if self.refund_due().await?.is_empty() {
            return Ok(true);
        }
        self.node.wait_for_height(next, BLOCK_PATIENCE).await?;
        Ok(false)
    }

    /// Lets the wallet spend the coins again that it keeps for contracts that have expired, and that
    /// were never broadcast. Those that were, or will be, are refunded.
    async fn free_expired(&self, median_time_past: u64) -> Result<(), PayError> {
        for mut record in self.file.channels()? {
            let Stage::Funded(funded) = record.stage else { continue };
            if u64::from(funded.contract.terms.expiry.get()) >= median_time_past {
                continue;
            }
            match funded.clone().hold(None) {
                // Whoever has signed it elsewhere may have sent it.
                Ok(held) => {
                    record.stage = Stage::Held(held);
                    self.file.save(&record)?;
                    self.file.unreserve(&record.outpoint())?;
                }
                // Nobody has seen it.
                Err(_) if self.node.release(funded.transaction).await.is_ok() => {
                    self.file.forget(&funded.contract.outpoint)?;
                }
                // Another wallet keeps its coins, and is asked once it is there.
                Err(_) => self.file.unreserve(&funded.contract.outpoint)?,
            }
        }
        for (channel, contract) in self.file.expired_contracts(median_time_past)? {
            // A wallet that is not there now is asked another time.
            if self.is_free(contract).await {
                self.file.drop_contract(&channel)?;
            }
        }
        Ok(())
    }

    /// Tells whether no wallet keeps coins for a contract any more: the one that is there has let them go,
    /// or all of them are spent in blocks.
    async fn is_free(&self, contract: Transaction) -> bool {
        let coins: Vec<_> = contract.input.iter().map(|input| input.previous_output).collect();
        if self.node.release(contract).await.is_ok() {
            return true;
        }
        for coin in coins {
            if !matches!(self.node.confirmed(coin).await, Ok(None)) {
                return false;
            }
        }
        true
    }

    /// Broadcasts a refund, unless the contract is spent, the refund is in the mempool for as much, or
    /// the gateway's settlement is there.
    async fn refund(&self, record: &Record, tip: Tip) -> Result<Option<Refunding>, PayError> {
        let channel = record.outpoint();
        if self.node.confirmed(channel).await?.is_none() {
            return Ok(None);
        }
        let spender = self.node.spenders(vec![channel]).await?.pop().flatten();
        let known = match spender {
            Some(txid) => self.node.mempool_transaction(txid).await?,
            None => None,
        };
        if known.as_ref().is_some_and(|known| !is_refund(known, record.contract())) {
            return Ok(None);
        }
        let rate = self.rate(spender, tip).await?;
        let refund = Self::affordable(record, rate)?;
        let increment = self.node.relay_policy().await?.increment;
        let newest = match known {
            Some(known) if !is_dearer(&refund, &known, increment) => known,
            _ => {
                self.node.broadcast(refund.clone()).await?;
                self.observer.tell(&Event::Refunding(channel, refund.compute_txid()));
                refund
            }
        };
        let capacity = record.contract().capacity.to_amount();
        let fee = capacity.checked_sub(paid(&newest)).unwrap_or_default();
        Ok(Some(Refunding { channel, txid: newest.compute_txid(), fee }))
    }

    /// Returns what a refund offers now: what a block costs, and more than the one before it offered
    /// where that has waited for too long.
    async fn rate(&self, before: Option<Txid>, tip: Tip) -> Result<FeeRate, PayError> {
        let rate = self.fee_rate().await?;
        let Some(before) = before else { return Ok(rate) };
        let Some(pooled) = self.node.in_mempool(before).await? else { return Ok(rate) };
        if tip.height.saturating_sub(pooled.height) < BLOCKS {
            return Ok(rate);
        }
        let offered = Amount::from_sat(pooled.fee_sat) / Weight::from_vb_unchecked(pooled.vsize);
        let more = offered.to_sat_per_kwu().saturating_mul(MORE).div_ceil(THAN);
        Ok(rate.max(FeeRate::from_sat_per_kwu(more)))
    }

    /// Returns the refund at this rate, or at the greatest whose fee is no more than half of it.
    fn affordable(record: &Record, rate: FeeRate) -> Result<Transaction, PayError> {
        let free = record.refund_transaction(FeeRate::ZERO)?;
        // The fee is reckoned by whole virtual bytes, with a signature that may be a byte longer.
        let vsize = u64::try_from(free.vsize()).unwrap_or(u64::MAX).saturating_add(1);
        let weight = Weight::from_vb(vsize).unwrap_or(Weight::MAX);
        let most = record.contract().capacity.to_amount() / FEE_PART / weight;
        Ok(record.refund_transaction(rate.min(most))?)
    }
}

/// Tells whether a node may come back by itself.
const fn is_away(error: &ChainError) -> bool {
    matches!(
        error,
        ChainError::Unreachable { .. } | ChainError::NoCookie { .. } | ChainError::Starting(_)
    )
}

/// Tells whether a refund is held and a block may take it: the median time past is beyond T.
fn is_due(record: &Record, tip: Tip) -> bool {
    let expiry = u64::from(record.contract().terms.expiry.get());
    record.refund().is_some() && tip.median_time_past > expiry
}

/// Tells whether a transaction is a refund of the client's: all of it goes to the client.
fn is_refund(transaction: &Transaction, contract: &Contract) -> bool {
    let is_ours = |output: &bitcoin::TxOut| output.script_pubkey == *contract.payout.script();
    transaction.lock_time.to_consensus_u32() == contract.terms.expiry.get()
        && transaction.output.iter().all(is_ours)
}

/// Tells whether a refund pays enough to replace another one of the same contract.
fn is_dearer(refund: &Transaction, known: &Transaction, increment: FeeRate) -> bool {
    let increment = increment * refund.weight();
    paid(refund).checked_add(increment).is_some_and(|least| least <= paid(known))
}

fn paid(transaction: &Transaction) -> Amount {
    transaction.output.iter().map(|output| output.value).sum()
}
