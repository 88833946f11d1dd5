//! Whose coins pay: those of bitcoind's wallet, or of one that this program keeps itself.

use std::error::Error;

use bitcoin::{Address, FeeRate, ScriptBuf, Transaction};
use clap::Args;
use farebox_chain::{Bitcoind, ChainError, Joined, Wallet};
use farebox_client::{ChannelFile, OwnWallet, WalletError};

use super::node::NodeArguments;
use super::passphrase::PassphraseArguments;

/// A node, and the wallet that pays.
pub(super) type Node = Joined<Bitcoind, Funds>;

/// The wallet that pays.
#[derive(Clone, Debug)]
pub(super) enum Funds {
    /// One of bitcoind's.
    Node(Bitcoind),
    /// The one in the channel file.
    Own(OwnWallet<Bitcoind>),
}

impl Wallet for Funds {
    async fn check_wallet(&self) -> Result<(), ChainError> {
        match self {
            Self::Node(wallet) => wallet.check_wallet().await,
            Self::Own(wallet) => wallet.check_wallet().await,
        }
    }

    async fn fresh_address(&self) -> Result<Address, ChainError> {
        match self {
            Self::Node(wallet) => wallet.fresh_address().await,
            Self::Own(wallet) => wallet.fresh_address().await,
        }
    }

    async fn fund(
        &self,
        script: ScriptBuf,
        amount_sat: u64,
        rate: FeeRate,
    ) -> Result<Transaction, ChainError> {
        match self {
            Self::Node(wallet) => wallet.fund(script, amount_sat, rate).await,
            Self::Own(wallet) => wallet.fund(script, amount_sat, rate).await,
        }
    }

    async fn release(&self, transaction: Transaction) -> Result<(), ChainError> {
        match self {
            Self::Node(wallet) => wallet.release(transaction).await,
            Self::Own(wallet) => wallet.release(transaction).await,
        }
    }
}

/// Where coins come from.
#[derive(Debug, Args)]
pub(super) struct FundsArguments {
    #[command(flatten)]
    pub(super) node: NodeArguments,
    #[command(flatten)]
    pub(super) passphrase: PassphraseArguments,
}

impl FundsArguments {
    /// Returns the node, with bitcoind's wallet where one is named or the file has none.
    pub(super) fn node(&self, file: &ChannelFile) -> Result<Node, Box<dyn Error>> {
        let chain = self.node.node()?;
        let wallet = match self.own(file) {
            _ if self.node.wallet.is_some() => Funds::Node(chain.clone()),
            Err(WalletError::None) => Funds::Node(chain.clone()),
            own => Funds::Own(own?),
        };
        Ok(Joined { chain, wallet })
    }

    /// Returns the wallet of the file.
    pub(super) fn own(&self, file: &ChannelFile) -> Result<OwnWallet<Bitcoind>, WalletError> {
        let (chain, passphrase) = (self.node.node(), self.passphrase.clone());
        let chain = chain.map_err(|error| WalletError::NoNode(error.to_string()))?;
        OwnWallet::open(chain, file.clone(), move || passphrase.ask())
    }
}
