//! Whose coins pay: those of bitcoind's wallet, of one that this program keeps itself, or of one
//! elsewhere.

use std::error::Error;
use std::fs;
use std::io::{self, IsTerminal};

use bitcoin::address::NetworkUnchecked;
use bitcoin::{Address, FeeRate, Psbt, ScriptBuf, Transaction};
use clap::Args;
use farebox_chain::{Bitcoind, Chain, ChainError, Joined, Wallet};
use farebox_client::{ChannelFile, Invoice, OutsideWallet, OwnWallet};
use qrcode::QrCode;
use qrcode::render::unicode::Dense1x2;
use qrcode::types::QrError;

use super::exit::{Exit, Failure};
use super::node::{NodeArguments, WalletArguments};
use super::passphrase::PassphraseArguments;
use super::say;

/// A node, and the wallet that pays.
pub(super) type Node = Joined<Bitcoind, Funds>;

/// The wallet that pays.
#[derive(Clone, Debug)]
pub(super) enum Funds {
    /// One of bitcoind's.
    Node(Bitcoind),
    /// The one in the channel file.
    Own(OwnWallet<Bitcoind>),
    /// One that a person brings.
    Outside(OutsideWallet),
}

impl Wallet for Funds {
    async fn check_wallet(&self) -> Result<(), ChainError> {
        match self {
            Self::Node(wallet) => wallet.check_wallet().await,
            Self::Own(wallet) => wallet.check_wallet().await,
            Self::Outside(wallet) => wallet.check_wallet().await,
        }
    }

    async fn fresh_address(&self) -> Result<Address, ChainError> {
        match self {
            Self::Node(wallet) => wallet.fresh_address().await,
            Self::Own(wallet) => wallet.fresh_address().await,
            Self::Outside(wallet) => wallet.fresh_address().await,
        }
    }

    fn asks(&self) -> bool {
        matches!(self, Self::Outside(wallet) if wallet.asks())
    }

    fn shows(&self) -> bool {
        matches!(self, Self::Outside(wallet) if wallet.shows())
    }

    fn ask(&self, address: Address, amount_sat: u64) {
        if let Self::Outside(wallet) = self {
            wallet.ask(address, amount_sat);
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
            Self::Outside(wallet) => wallet.fund(script, amount_sat, rate).await,
        }
    }

    async fn reserve(&self, transaction: Transaction) -> Result<(), ChainError> {
        match self {
            Self::Node(wallet) => wallet.reserve(transaction).await,
            Self::Own(wallet) => wallet.reserve(transaction).await,
            Self::Outside(wallet) => wallet.reserve(transaction).await,
        }
    }

    async fn release(&self, transaction: Transaction) -> Result<(), ChainError> {
        match self {
            Self::Node(wallet) => wallet.release(transaction).await,
            Self::Own(wallet) => wallet.release(transaction).await,
            Self::Outside(wallet) => wallet.release(transaction).await,
        }
    }
}

/// Where a wallet of one's own is.
#[derive(Debug, Args)]
pub(super) struct FundsArguments {
    #[command(flatten)]
    pub(super) node: NodeArguments,
    #[command(flatten)]
    pub(super) passphrase: PassphraseArguments,
}

/// Where the coins of a new channel come from.
#[derive(Debug, Args)]
pub(super) struct PayerArguments {
    #[command(flatten)]
    funds: FundsArguments,
    #[command(flatten)]
    bitcoind: WalletArguments,
    /// Pay from a wallet elsewhere: you are shown what to pay. Change and refunds go to this
    /// address of it
    #[arg(long, value_name = "ADDRESS", conflicts_with = "wallet")]
    outside: Option<Address<NetworkUnchecked>>,
    /// Hand the contract over as a signed PSBT that was not sent, instead of paying its address.
    /// Contracts of kind `refund` need that
    #[arg(long, requires = "outside")]
    psbt: bool,
}

impl PayerArguments {
    /// Tells whether the coins are in a wallet elsewhere.
    pub(super) const fn is_outside(&self) -> bool {
        self.outside.is_some()
    }

    /// Returns the node, with the wallet that pays: bitcoind's where one is named or the file has none.
    pub(super) async fn node(&self, file: &ChannelFile) -> Result<Node, Box<dyn Error>> {
        let named = self.bitcoind.name().filter(|_| !self.is_outside());
        let chain = self.funds.node.node(named.as_deref())?;
        let Some(payout) = &self.outside else {
            let is_own = named.is_none() && file.has_wallet()?;
            let wallet =
                if is_own { Funds::Own(self.funds.own(file)?) } else { Funds::Node(chain.clone()) };
            return Ok(Joined { chain, wallet });
        };
        let network = chain.tip().await?.network;
        let payout = payout.clone().require_network(network);
        let payout = payout.map_err(|error| Failure::new(Exit::Usage, error.to_string()))?;
        let wallet = match self.psbt {
            true => OutsideWallet::by_psbt(network, payout, sign),
            false => OutsideWallet::by_address(network, payout, show),
        };
        Ok(Joined { chain, wallet: Funds::Outside(wallet) })
    }
}

/// Shows an invoice to a person.
fn show(invoice: &Invoice) {
    let Invoice { address, amount } = invoice;
    say(&format!("farebox: pay exactly {} sat to {address}", amount.to_sat()));
    let uri = invoice.uri();
    say(&uri);
    let code = code(&uri).ok().filter(|_| io::stderr().is_terminal());
    if let Some(code) = code {
        say(&code);
    }
}

/// Draws a URI as something to scan.
pub(super) fn code(uri: &str) -> Result<String, QrError> {
    Ok(QrCode::new(uri)?.render::<Dense1x2>().build())
}

/// Asks a person for a signed transaction, or for the name of the file with it. There is nothing to scan:
/// a wallet that scans an address pays it.
fn sign(invoice: &Invoice) -> Result<String, String> {
    let Invoice { address, amount } = invoice;
    let amount = amount.to_sat();
    say(&format!("farebox: sign a transaction that pays exactly {amount} sat to {address}"));
    say(
        "farebox: do NOT send it: it is sent once its refund is held. Give the PSBT, or the name of \
         its file:",
    );
    let mut line = String::new();
    io::stdin().read_line(&mut line).map_err(|error| error.to_string())?;
    let line = line.trim();
    match fs::read(line) {
        // A PSBT may be in a file as it is, without base64.
        Ok(bytes) => Ok(match Psbt::deserialize(&bytes) {
            Ok(psbt) => psbt.to_string(),
            Err(_) => String::from_utf8_lossy(&bytes).into_owned(),
        }),
        Err(_) => Ok(line.to_owned()),
    }
}

impl FundsArguments {
    /// Returns the wallet of the file.
    pub(super) fn own(&self, file: &ChannelFile) -> Result<OwnWallet<Bitcoind>, Box<dyn Error>> {
        let (chain, passphrase) = (self.node.node(None)?, self.passphrase.clone());
        Ok(OwnWallet::open(chain, file.clone(), move || passphrase.ask())?)
    }
}
