//! A wallet of its own, for whoever has a node and no wallet in it.
//!
//! Its keys come from twelve words (`BIP-0039`), by the paths of native segwit wallets
//! (`BIP-0084`), so any other wallet takes its coins over with nothing but the words. They rest in the
//! channel file, sealed with a passphrase. What the wallet owns it learns from the blocks of a
//! [`Chain`], from its birthday on.

mod books;
mod error;
mod funding;
mod seal;
mod words;

use std::sync::Arc;

use bitcoin::{Address, Amount, FeeRate, Network, ScriptBuf, Transaction};
use farebox_chain::{Chain, ChainError, Wallet};
use tokio::sync::Mutex;
use tokio::task::spawn_blocking;

use crate::channel_file::ChannelFile;
use crate::opening::wall;
use books::{Books, SealedSeed};
pub use error::WalletError;
pub use seal::Passphrase;
pub use words::Words;

/// How many blocks a new wallet begins below the tip, so that no reorg takes its first block away.
const REORG_BLOCKS: u32 = 100;

/// Asks somebody for the passphrase, who may take a while.
pub type AskPassphrase = dyn Fn() -> Result<Passphrase, String> + Send + Sync;

/// What a wallet has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Balance {
    /// What it can spend.
    pub free: Amount,
    /// What is in contracts that are not mined yet.
    pub locked: Amount,
    /// What was mined, and cannot be spent for 100 blocks.
    pub immature: Amount,
}

/// A wallet whose seed is in the channel file. Clones share it.
#[derive(Clone)]
pub struct OwnWallet<C> {
    chain: C,
    seed: Arc<SealedSeed>,
    ask: Arc<AskPassphrase>,
    books: Arc<Mutex<Books>>,
}

impl<C: Chain> OwnWallet<C> {
    /// Makes a wallet in a file that has none. It looks for coins from block `birthday` on, or
    /// from now on.
    ///
    /// # Errors
    /// [`WalletError`] when there is one already, or it cannot be saved.
    pub async fn create(
        chain: C,
        file: ChannelFile,
        words: Words,
        passphrase: Passphrase,
        birthday: Option<u32>,
    ) -> Result<(), WalletError> {
        let tip = chain.tip().await?;
        // The block that it begins with counts as looked at: the one before the birthday.
        let begin = birthday.map(|birthday| birthday.saturating_sub(1));
        let height = begin.unwrap_or_else(|| tip.height.saturating_sub(REORG_BLOCKS));
        let height = height.min(tip.height);
        let block = chain.block_hash(height).await?.zip(chain.block_hash(0).await?);
        let (hash, genesis) = block.ok_or_else(|| WalletError::Damaged("no block".to_owned()))?;
        let network = tip.network;
        let books = Books::new(&words, network, genesis, (height, hash))?;
        let seal = move || SealedSeed::new(&words, network, &passphrase);
        let seed = blocking(seal).await?;
        books.save_new(&file, &seed)
    }

    /// Opens the wallet of a file. The passphrase is asked for when it is needed: before coins
    /// move, and not before.
    ///
    /// # Errors
    /// [`WalletError`] when there is none, or it cannot be read.
    pub fn open(
        chain: C,
        file: ChannelFile,
        ask: impl Fn() -> Result<Passphrase, String> + Send + Sync + 'static,
    ) -> Result<Self, WalletError> {
        let seed = SealedSeed::load(&file)?.ok_or(WalletError::None)?;
        let needed = file.contracts(wall().get())?;
        let mut books = Books::load(file, seed.network)?;
        books.unlock_all_but(&needed)?;
        let books = Arc::new(Mutex::new(books));
        Ok(Self { chain, seed: Arc::new(seed), ask: Arc::new(ask), books })
    }

    /// Returns the network of the wallet.
    #[must_use]
    pub fn network(&self) -> Network {
        self.seed.network
    }

    /// Returns what the wallet has, once it has followed the chain to its tip.
    ///
    /// # Errors
    /// [`WalletError`] when the node does not answer, or the file does not take it.
    pub async fn balance(&self) -> Result<Balance, WalletError> {
        let mut books = self.books.lock().await;
        books.follow(&self.chain).await?;
        Ok(books.balance())
    }

    /// Has somebody tell the passphrase, and opens the seed.
    async fn words(&self) -> Result<Words, WalletError> {
        let (seed, ask) = (Arc::clone(&self.seed), Arc::clone(&self.ask));
        blocking(move || seed.open(&ask().map_err(WalletError::NoPassphrase)?)).await
    }
}

impl<C> std::fmt::Debug for OwnWallet<C> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OwnWallet").field("network", &self.seed.network).finish_non_exhaustive()
    }
}

impl<C: Chain> Wallet for OwnWallet<C> {
    async fn check_wallet(&self) -> Result<(), ChainError> {
        let (wallet, node) = (self.seed.network, self.chain.tip().await?.network);
        if wallet != node {
            return Err(WalletError::OtherNetwork { wallet, node }.into());
        }
        Ok(())
    }

    async fn fresh_address(&self) -> Result<Address, ChainError> {
        Ok(self.books.lock().await.fresh_address()?)
    }

    async fn fund(
        &self,
        script: ScriptBuf,
        amount_sat: u64,
        rate: FeeRate,
    ) -> Result<Transaction, ChainError> {
        self.check_wallet().await?;
        let mut books = self.books.lock().await;
        books.follow(&self.chain).await?;
        let unsigned = books.build(script, amount_sat, rate)?;
        let words = self.words().await?;
        Ok(books.sign_and_lock(unsigned, &words)?)
    }

    async fn release(&self, transaction: Transaction) -> Result<(), ChainError> {
        Ok(self.books.lock().await.unlock(&transaction)?)
    }
}

/// Does what takes a while, where it holds up nobody.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, WalletError> + Send + 'static,
) -> Result<T, WalletError> {
    spawn_blocking(work).await.map_err(|error| WalletError::Damaged(error.to_string()))?
}
