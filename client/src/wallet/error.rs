//! What can go wrong with a wallet.

use bitcoin::Network;
use farebox_chain::ChainError;
use thiserror::Error;

use crate::error::FileError;

/// Why a wallet cannot do what it was asked.
#[derive(Debug, Error)]
pub enum WalletError {
    /// The file does not do its work.
    #[error(transparent)]
    File(#[from] FileError),
    /// There is a wallet in the file already.
    #[error("the file holds a wallet already")]
    Exists,
    /// There is no wallet in the file.
    #[error("the file holds no wallet: make one with `farebox wallet new`")]
    None,
    /// The wallet is of another network than the node.
    #[error("the wallet is of network {wallet}, and the node of {node}")]
    OtherNetwork {
        /// The wallet's network.
        wallet: Network,
        /// The node's network.
        node: Network,
    },
    /// The words are no seed.
    #[error("these are not the words of a seed: {0}")]
    NoWords(String),
    /// The passphrase does not open the seed.
    #[error("the passphrase is wrong")]
    WrongPassphrase,
    /// Nobody has told the passphrase.
    #[error("the passphrase is not known: {0}")]
    NoPassphrase(String),
    /// The operating system gives no random numbers.
    #[error("the operating system gives no random numbers: {0}")]
    Random(#[from] getrandom::Error),
    /// The node does not do what it was asked.
    #[error(transparent)]
    Chain(#[from] ChainError),
    /// What is on record does not fit together.
    #[error("the wallet does not fit together: {0}")]
    Damaged(String),
}

impl From<WalletError> for ChainError {
    fn from(error: WalletError) -> Self {
        match error {
            WalletError::Chain(error) => error,
            error => Self::Wallet(error.to_string()),
        }
    }
}
