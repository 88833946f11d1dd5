//! What the paid path needs of a node.

use std::future::Future;

use bitcoin::{OutPoint, Transaction, TxOut};
use farebox_channel::{ChainTime, Clock, Sat, Terms};
use thiserror::Error;

/// Why a node has no answer.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum NodeError {
    /// The node does not answer, or not usefully.
    #[error("the node is away: {0}")]
    Away(String),
    /// Too much is asked of the node at once.
    #[error("too many openings are under way")]
    Busy,
    /// The output, or a coin that makes it, is spent or was never there.
    #[error("{0}")]
    Missing(String),
    /// The node does not take the transaction, for another reason.
    #[error("{0}")]
    Refused(String),
}

/// The node behind a gateway: it tells the time and knows what is locked in contracts.
pub trait Node: Clone + Send + Sync + 'static {
    /// Returns the time. While the node is away, its part is what it was last.
    fn clock(&self) -> Clock;

    /// Returns where the chain stands, once the node has told.
    fn chain_time(&self) -> Option<ChainTime>;

    /// Returns where the chain stands, or why no channel can be opened now.
    ///
    /// # Errors
    /// [`NodeError`] while the node does not answer, or does not know the newest blocks.
    fn ready(&self) -> Result<ChainTime, NodeError> {
        self.chain_time().ok_or_else(|| NodeError::Away("it does not tell the time".to_owned()))
    }

    /// Returns the output that a contract is said to be, after broadcasting the transaction if it
    /// was shown.
    fn find(
        &self,
        outpoint: OutPoint,
        transaction: Option<Transaction>,
    ) -> impl Future<Output = Result<TxOut, NodeError>> + Send;

    /// Watches the address of `terms`, and returns an output that pays it once one is seen.
    fn watch(
        &self,
        terms: Terms,
    ) -> impl Future<Output = Result<Option<(OutPoint, Sat)>, NodeError>> + Send;

    /// Does now what a channel needs done on chain, as far as that is possible.
    fn attend(&self, outpoint: OutPoint) -> impl Future<Output = ()> + Send;
}
