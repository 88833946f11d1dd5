//! A node and a wallet that is not its own.

use std::time::Duration;

use bitcoin::{Address, Block, BlockHash, FeeRate, OutPoint, ScriptBuf, Transaction, Txid};

use crate::{BlockPlace, Chain, ChainError, Pooled, RelayPolicy, Tip, Unspent, Wallet};

/// A node, and a wallet from elsewhere.
#[derive(Clone, Debug)]
pub struct Joined<C, W> {
    /// Who follows the chain.
    pub chain: C,
    /// Who has coins.
    pub wallet: W,
}

impl<C: Chain, W: Clone + Send + Sync + 'static> Chain for Joined<C, W> {
    async fn tip(&self) -> Result<Tip, ChainError> {
        self.chain.tip().await
    }

    async fn relay_policy(&self) -> Result<RelayPolicy, ChainError> {
        self.chain.relay_policy().await
    }

    async fn block_hash(&self, height: u32) -> Result<Option<BlockHash>, ChainError> {
        self.chain.block_hash(height).await
    }

    async fn block_place(&self, hash: BlockHash) -> Result<Option<BlockPlace>, ChainError> {
        self.chain.block_place(hash).await
    }

    async fn block(&self, hash: BlockHash) -> Result<Block, ChainError> {
        self.chain.block(hash).await
    }

    async fn unspent(&self, outpoint: OutPoint) -> Result<Option<Unspent>, ChainError> {
        self.chain.unspent(outpoint).await
    }

    async fn confirmed(&self, outpoint: OutPoint) -> Result<Option<Unspent>, ChainError> {
        self.chain.confirmed(outpoint).await
    }

    async fn spenders(&self, outpoints: Vec<OutPoint>) -> Result<Vec<Option<Txid>>, ChainError> {
        self.chain.spenders(outpoints).await
    }

    async fn broadcast(&self, transaction: Transaction) -> Result<(), ChainError> {
        self.chain.broadcast(transaction).await
    }

    async fn mempool(&self) -> Result<Vec<Txid>, ChainError> {
        self.chain.mempool().await
    }

    async fn mempool_transaction(&self, txid: Txid) -> Result<Option<Transaction>, ChainError> {
        self.chain.mempool_transaction(txid).await
    }

    async fn in_mempool(&self, txid: Txid) -> Result<Option<Pooled>, ChainError> {
        self.chain.in_mempool(txid).await
    }

    async fn wait_for_height(&self, height: u32, at_most: Duration) -> Result<(), ChainError> {
        self.chain.wait_for_height(height, at_most).await
    }

    async fn fee_rate(&self, blocks: u16) -> Result<Option<FeeRate>, ChainError> {
        self.chain.fee_rate(blocks).await
    }
}

impl<C: Clone + Send + Sync + 'static, W: Wallet> Wallet for Joined<C, W> {
    async fn check_wallet(&self) -> Result<(), ChainError> {
        self.wallet.check_wallet().await
    }

    async fn fresh_address(&self) -> Result<Address, ChainError> {
        self.wallet.fresh_address().await
    }

    fn asks(&self) -> bool {
        self.wallet.asks()
    }

    fn shows(&self) -> bool {
        self.wallet.shows()
    }

    fn ask(&self, address: Address, amount_sat: u64) {
        self.wallet.ask(address, amount_sat);
    }

    async fn fund(
        &self,
        script: ScriptBuf,
        amount_sat: u64,
        rate: FeeRate,
    ) -> Result<Transaction, ChainError> {
        self.wallet.fund(script, amount_sat, rate).await
    }

    async fn reserve(&self, transaction: Transaction) -> Result<(), ChainError> {
        self.wallet.reserve(transaction).await
    }

    async fn release(&self, transaction: Transaction) -> Result<(), ChainError> {
        self.wallet.release(transaction).await
    }
}
