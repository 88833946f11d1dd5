//! The chain as Farebox sees it: a node that tells the time, shows blocks and outputs, and
//! broadcasts transactions.
//!
//! [`Chain`] is what the gateway and a client need to know; [`Wallet`] is what they need to move
//! coins. [`Bitcoind`] is both. This crate has no rule about channels.

mod answers;
mod joined;
mod node;
mod rpc;
mod wallet;

use std::future::Future;
use std::path::PathBuf;
use std::time::Duration;

use bitcoin::{
    Address, Block, BlockHash, FeeRate, Network, OutPoint, ScriptBuf, Transaction, TxOut, Txid,
};
use thiserror::Error;

pub use joined::Joined;
pub use rpc::{Access, Bitcoind};

/// A node did not do what it was asked.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ChainError {
    /// Nobody answers, or nobody that speaks RPC.
    #[error("bitcoind does not answer at {url}: {reason}")]
    Unreachable {
        /// Where it was asked.
        url: String,
        /// What went wrong.
        reason: String,
    },
    /// The cookie file cannot be read. The node writes it at its start.
    #[error("the cookie file {path} cannot be read ({reason}): is bitcoind running?")]
    NoCookie {
        /// The file.
        path: PathBuf,
        /// What went wrong.
        reason: String,
    },
    /// The node does not let this program in.
    #[error("bitcoind at {url} refuses the cookie or password")]
    Unauthorized {
        /// Where it was asked.
        url: String,
    },
    /// The node is still starting.
    #[error("bitcoind is starting: {0}")]
    Starting(String),
    /// The node refuses the call.
    #[error("bitcoind says: {message} (code {code})")]
    Refused {
        /// The error's code.
        code: i32,
        /// The node's words.
        message: String,
    },
    /// The node's answer makes no sense here.
    #[error("bitcoind's answer to `{method}` is not understood: {reason}")]
    Unexpected {
        /// The method that was called.
        method: String,
        /// What is wrong with the answer.
        reason: String,
    },
    /// The node has thrown the block away to save space.
    #[error(
        "bitcoind has pruned block {hash} of height {height}: only a node that keeps it has it"
    )]
    Pruned {
        /// The block.
        hash: BlockHash,
        /// Its height.
        height: u32,
    },
    /// There is no such wallet, or it is not loaded.
    #[error("bitcoind has no such wallet loaded: {0}")]
    NoWallet(String),
    /// The wallet cannot pay.
    #[error(
        "the wallet has {available_sat} sat in confirmed native segwit coins, and {needed_sat} sat are needed"
    )]
    TooFewCoins {
        /// What it has.
        available_sat: u64,
        /// What is needed, with the fee.
        needed_sat: u64,
    },
    /// The wallet does not do what it was asked.
    #[error("{0}")]
    Wallet(String),
}

/// Where the chain stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tip {
    /// The node's network.
    pub network: Network,
    /// The height of the newest block.
    pub height: u32,
    /// The hash of the newest block.
    pub hash: BlockHash,
    /// The height of the newest header: more than `height` while the node catches up.
    pub headers: u32,
    /// The newest block's own time, in Unix seconds, as its header says it.
    pub time: u64,
    /// The median time of the eleven newest blocks, in Unix seconds (`BIP-0113`).
    pub median_time_past: u64,
    /// The lowest height whose block the node still has, where it prunes.
    pub oldest: Option<u32>,
    /// Whether the node is still in its initial download.
    pub is_initial_download: bool,
}

/// What the node relays.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RelayPolicy {
    /// How the node treats version 3 transactions, where it says so.
    pub truc: Option<String>,
    /// The least fee rate that it takes now.
    pub least: FeeRate,
    /// What a replacement pays more than all it replaces, for each vB of its own: at least
    /// 1 sat/vB.
    pub increment: FeeRate,
}

/// Where a block stands in the chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockPlace {
    /// Its height.
    pub height: u32,
    /// The block before it.
    pub previous: Option<BlockHash>,
    /// Whether it is in the active chain.
    pub is_active: bool,
}

/// An unspent output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unspent {
    /// The output.
    pub output: TxOut,
    /// Its confirmations: zero in the mempool.
    pub confirmations: u32,
    /// Whether it is a coinbase's that cannot be spent yet.
    pub is_immature: bool,
    /// The tip that the confirmations are counted from.
    pub tip: BlockHash,
}

/// What a transaction of the mempool pays, alone and with all that spends it there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pooled {
    /// Its own fee.
    pub fee_sat: u64,
    /// Its own size in vB.
    pub vsize: u64,
    /// Its fee and its descendants': what a replacement has to beat. An operator who moves a
    /// priority by hand (`prioritisetransaction`) moves this too.
    pub family_fee_sat: u64,
    /// Its size and its descendants', in vB.
    pub family_vsize: u64,
    /// The height of the chain when it came.
    pub height: u32,
}

/// A node that follows the chain.
pub trait Chain: Clone + Send + Sync + 'static {
    /// Returns where the chain stands.
    fn tip(&self) -> impl Future<Output = Result<Tip, ChainError>> + Send;

    /// Returns what the node relays.
    fn relay_policy(&self) -> impl Future<Output = Result<RelayPolicy, ChainError>> + Send;

    /// Returns the hash of the block at `height` in the active chain, if there is one.
    fn block_hash(
        &self,
        height: u32,
    ) -> impl Future<Output = Result<Option<BlockHash>, ChainError>> + Send;

    /// Returns where a block stands, if the node knows it.
    fn block_place(
        &self,
        hash: BlockHash,
    ) -> impl Future<Output = Result<Option<BlockPlace>, ChainError>> + Send;

    /// Returns a block, or [`ChainError::Pruned`] where the node had it once.
    fn block(&self, hash: BlockHash) -> impl Future<Output = Result<Block, ChainError>> + Send;

    /// Returns an output that no block and no transaction in the mempool spends.
    fn unspent(
        &self,
        outpoint: OutPoint,
    ) -> impl Future<Output = Result<Option<Unspent>, ChainError>> + Send;

    /// Returns an output that no block spends, whatever the mempool spends. One that no block has
    /// is none.
    fn confirmed(
        &self,
        outpoint: OutPoint,
    ) -> impl Future<Output = Result<Option<Unspent>, ChainError>> + Send;

    /// Returns for each output, in the same order, the transaction of the mempool that spends it.
    fn spenders(
        &self,
        outpoints: Vec<OutPoint>,
    ) -> impl Future<Output = Result<Vec<Option<Txid>>, ChainError>> + Send;

    /// Hands a transaction to the node. One that the node has already is no error.
    fn broadcast(
        &self,
        transaction: Transaction,
    ) -> impl Future<Output = Result<(), ChainError>> + Send;

    /// Returns the ids of the transactions in the mempool.
    fn mempool(&self) -> impl Future<Output = Result<Vec<Txid>, ChainError>> + Send;

    /// Returns a transaction of the mempool, if it is still there.
    fn mempool_transaction(
        &self,
        txid: Txid,
    ) -> impl Future<Output = Result<Option<Transaction>, ChainError>> + Send;

    /// Returns what a transaction of the mempool pays, if it is still there.
    fn in_mempool(
        &self,
        txid: Txid,
    ) -> impl Future<Output = Result<Option<Pooled>, ChainError>> + Send;

    /// Returns once the tip has a height or more, or after a time, whichever is first.
    ///
    /// Ten seconds are the longest, whatever is asked for. A reorg to a lower tip ends no wait.
    fn wait_for_height(
        &self,
        height: u32,
        at_most: Duration,
    ) -> impl Future<Output = Result<(), ChainError>> + Send;

    /// Estimates the fee rate to be mined within `blocks`, where the node can.
    fn fee_rate(
        &self,
        blocks: u16,
    ) -> impl Future<Output = Result<Option<FeeRate>, ChainError>> + Send;
}

/// A node's wallet.
pub trait Wallet: Clone + Send + Sync + 'static {
    /// Checks that there is such a wallet.
    fn check_wallet(&self) -> impl Future<Output = Result<(), ChainError>> + Send;

    /// Returns a fresh native segwit address.
    fn fresh_address(&self) -> impl Future<Output = Result<Address, ChainError>> + Send;

    /// Tells whether somebody has to be asked to pay, because the coins are in a wallet that this
    /// program cannot reach. A wallet that signs asks nobody.
    fn asks(&self) -> bool {
        false
    }

    /// Tells whether [`Wallet::fund`] shows the script to somebody, who may pay it by themselves: then
    /// what spends it is saved before.
    fn shows(&self) -> bool {
        false
    }

    /// Asks somebody to pay `amount_sat` to `address`. It does not wait until that was done.
    fn ask(&self, _address: Address, _amount_sat: u64) {}

    /// Builds and signs a transaction that pays `amount_sat` to `script`, and keeps it.
    ///
    /// It spends confirmed native segwit coins only, so its id cannot change. Save it, and then
    /// [`Wallet::reserve`] its coins: a lock that nobody knows of would outlast a crash.
    fn fund(
        &self,
        script: ScriptBuf,
        amount_sat: u64,
        rate: FeeRate,
    ) -> impl Future<Output = Result<Transaction, ChainError>> + Send;

    /// Locks the coins of a transaction, so that no other payment of the wallet takes them. A wallet
    /// that forgets its locks by itself may have done so in [`Wallet::fund`].
    fn reserve(
        &self,
        _transaction: Transaction,
    ) -> impl Future<Output = Result<(), ChainError>> + Send {
        std::future::ready(Ok(()))
    }

    /// Unlocks the coins of a transaction that will never be shown. It fails unless the wallet can say
    /// that it keeps none of them: those of another wallet may be locked there.
    fn release(
        &self,
        transaction: Transaction,
    ) -> impl Future<Output = Result<(), ChainError>> + Send;
}
