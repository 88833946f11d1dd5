//! What the wallet knows: its public keys, the chain as far as it was followed, its coins. It is saved as
//! it grows.

use bdk_wallet::chain::{BlockId, Merge};
use bdk_wallet::template::Bip84Public;
use bdk_wallet::{ChangeSet, KeychainKind, Update, Wallet};
use bitcoin::{Address, Amount, BlockHash, Network, OutPoint, Transaction};
use farebox_chain::{Chain, ChainError};
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::Balance;
use super::error::WalletError;
use super::seal::{Passphrase, Sealed};
use super::words::Words;
use crate::channel_file::ChannelFile;

/// How many addresses may be unused: fewer than the gap of 20 that wallets look beyond (BIP-0044).
const UNUSED_MAX: usize = 15;
/// How many blocks are followed before that is saved.
const BLOCKS: u32 = 100;

/// A seed at rest, with its network.
#[derive(Debug)]
pub(super) struct SealedSeed {
    pub(super) network: Network,
    sealed: Sealed,
}

impl SealedSeed {
    pub(super) fn new(
        words: &Words,
        network: Network,
        passphrase: &Passphrase,
    ) -> Result<Self, WalletError> {
        let belongs_to = network.to_core_arg().as_bytes();
        Ok(Self { network, sealed: Sealed::new(&words.entropy(), belongs_to, passphrase)? })
    }

    pub(super) fn open(&self, passphrase: &Passphrase) -> Result<Words, WalletError> {
        let belongs_to = self.network.to_core_arg().as_bytes();
        Words::from_entropy(&self.sealed.open(belongs_to, passphrase)?)
    }

    pub(super) fn load(file: &ChannelFile) -> Result<Option<Self>, WalletError> {
        let read = |row: &Row<'_>| {
            let sealed = Sealed {
                salt: row.get("salt")?,
                nonce: row.get("nonce")?,
                bytes: row.get("sealed")?,
            };
            Ok((row.get::<_, String>("network")?, sealed))
        };
        let row = file
            .with(|connection| connection.query_row("SELECT * FROM seed", [], read).optional())?;
        let Some((network, sealed)) = row else { return Ok(None) };
        let network = Network::from_core_arg(&network).map_err(damaged)?;
        Ok(Some(Self { network, sealed }))
    }
}

/// The wallet without its secrets.
#[derive(Debug)]
pub(super) struct Books {
    pub(super) wallet: Wallet,
    file: Option<ChannelFile>,
}

impl Books {
    /// Makes those of a new wallet, which begin with a block.
    pub(super) fn new(
        words: &Words,
        network: Network,
        genesis: BlockHash,
        (height, hash): (u32, BlockHash),
    ) -> Result<Self, WalletError> {
        let (fingerprint, account) = words.account(network)?;
        let keys = |keychain| Bip84Public(account, fingerprint, keychain);
        let wallet = Wallet::create(keys(KeychainKind::External), keys(KeychainKind::Internal))
            .network(network)
            .genesis_hash(genesis);
        let mut wallet = wallet.create_wallet_no_persist().map_err(damaged)?;
        let chain = Some(wallet.latest_checkpoint().insert(BlockId { height, hash }));
        wallet.apply_update(Update { chain, ..Update::default() }).map_err(damaged)?;
        Ok(Self { wallet, file: None })
    }

    /// Saves a new wallet with its seed, both or neither.
    pub(super) fn save_new(
        mut self,
        file: &ChannelFile,
        seed: &SealedSeed,
    ) -> Result<(), WalletError> {
        let change = self.wallet.take_staged().unwrap_or_default();
        let change = serde_json::to_string(&change).map_err(damaged)?;
        let SealedSeed { network, sealed: Sealed { salt, nonce, bytes } } = seed;
        let is_new = file.with(|connection| {
            let transaction = connection.transaction()?;
            let sql = "INSERT INTO seed VALUES (1, ?, ?, ?, ?) ON CONFLICT DO NOTHING";
            let network = network.to_core_arg();
            let rows = transaction.execute(sql, params![network, salt, nonce, bytes])?;
            if rows == 1 {
                insert(&transaction, &change)?;
            }
            transaction.commit()?;
            Ok(rows == 1)
        })?;
        if is_new { Ok(()) } else { Err(WalletError::Exists) }
    }

    /// Reads those of a file.
    pub(super) fn load(file: ChannelFile, network: Network) -> Result<Self, WalletError> {
        let sql = "SELECT change FROM wallet_change ORDER BY number";
        let changes: Vec<String> = file.with(|connection| {
            connection.prepare(sql)?.query_map([], |row| row.get(0))?.collect()
        })?;
        let mut all = ChangeSet::default();
        for change in changes {
            all.merge(serde_json::from_str(&change).map_err(damaged)?);
        }
        let wallet = Wallet::load().check_network(network).load_wallet_no_persist(all);
        let wallet = wallet.map_err(damaged)?.ok_or(WalletError::None)?;
        Ok(Self { wallet, file: Some(file) })
    }

    /// Saves what is new.
    pub(super) fn save(&mut self) -> Result<(), WalletError> {
        let (Some(file), Some(change)) = (&self.file, self.wallet.staged()) else { return Ok(()) };
        let change = serde_json::to_string(change).map_err(damaged)?;
        file.with(|connection| insert(connection, &change))?;
        self.wallet.take_staged();
        Ok(())
    }

    /// Follows the chain to its tip. Blocks that are gone count until others have taken their place.
    pub(super) async fn follow(&mut self, chain: &impl Chain) -> Result<(), WalletError> {
        let mut last = self.agreed(chain).await?;
        let mut ahead = 0;
        while let Some(hash) = chain.block_hash(last.height.saturating_add(1)).await? {
            let block = match chain.block(hash).await {
                Err(ChainError::Pruned { height, .. }) => return Err(pruned(height)),
                block => block?,
            };
            if block.header.prev_blockhash != last.hash {
                // The chain has changed meanwhile.
                last = self.agreed(chain).await?;
                continue;
            }
            let height = last.height.saturating_add(1);
            self.wallet.apply_block_connected_to(&block, height, last).map_err(damaged)?;
            last = BlockId { height, hash };
            ahead += 1;
            if ahead % BLOCKS == 0 {
                self.save()?;
            }
        }
        self.save()
    }

    /// Returns the newest block that the wallet and the chain agree on.
    async fn agreed(&self, chain: &impl Chain) -> Result<BlockId, WalletError> {
        for known in self.wallet.checkpoints() {
            if chain.block_hash(known.height()).await? == Some(known.hash()) {
                return Ok(known.block_id());
            }
        }
        Err(WalletError::Damaged("the node follows another chain".to_owned()))
    }

    /// Returns what there is.
    pub(super) fn balance(&self) -> Balance {
        let all = self.wallet.balance();
        let outputs = self.wallet.list_unspent();
        let locked = outputs.filter(|output| self.wallet.is_outpoint_locked(output.outpoint));
        let locked = locked.map(|output| output.txout.value).sum::<Amount>();
        let free = all.confirmed.checked_sub(locked).unwrap_or_default();
        Balance { free, locked, immature: all.immature }
    }

    /// Returns an address that was never told before. Once too many of them are unused, it is the newest
    /// of those: a wallet that is restored looks no further than the gap of other wallets.
    pub(super) fn fresh_address(&mut self) -> Result<Address, WalletError> {
        let unused: Vec<_> = self.wallet.list_unused_addresses(KeychainKind::External).collect();
        let address = match unused.last() {
            Some(newest) if unused.len() >= UNUSED_MAX => newest.address.clone(),
            _ => self.wallet.reveal_next_address(KeychainKind::External).address,
        };
        self.save()?;
        Ok(address)
    }

    /// Lets coins be spent again that are locked for nothing: what was cut off before its contract was on
    /// record, and channels that have expired.
    pub(super) fn unlock_all_but(&mut self, needed: &[Transaction]) -> Result<(), WalletError> {
        let locked: Vec<_> = self.wallet.list_locked_outpoints().collect();
        for coin in locked {
            if !needed.iter().flat_map(coins).any(|kept| kept == coin) {
                self.wallet.unlock_outpoint(coin);
            }
        }
        self.save()
    }

    /// Lets the coins of a transaction be spent again, if they are the wallet's.
    pub(super) fn unlock(&mut self, transaction: &Transaction) -> Result<(), WalletError> {
        if !coins(transaction).all(|coin| self.owns(coin)) {
            let other = "the contract's coins are another wallet's".to_owned();
            return Err(ChainError::Wallet(other).into());
        }
        for coin in coins(transaction) {
            self.wallet.unlock_outpoint(coin);
        }
        self.save()
    }

    /// Tells whether a coin is the wallet's, or was.
    fn owns(&self, coin: OutPoint) -> bool {
        let known = self.wallet.get_tx(coin.txid);
        let vout = usize::try_from(coin.vout).ok();
        let output = known.as_ref().zip(vout).and_then(|(tx, vout)| tx.tx_node.output.get(vout));
        output.is_some_and(|output| self.wallet.is_mine(output.script_pubkey.clone()))
    }
}

/// Returns what a transaction spends.
pub(super) fn coins(transaction: &Transaction) -> impl Iterator<Item = OutPoint> + '_ {
    transaction.input.iter().map(|input| input.previous_output)
}

fn insert(connection: &Connection, change: &str) -> rusqlite::Result<()> {
    let sql = "INSERT INTO wallet_change (change) VALUES (?)";
    connection.execute(sql, [change]).map(|_| ())
}

fn pruned(height: u32) -> WalletError {
    WalletError::Damaged(format!("the node has pruned block {height}, which it has not seen yet"))
}

/// Makes words of what does not fit together.
pub(super) fn damaged(error: impl ToString) -> WalletError {
    WalletError::Damaged(error.to_string())
}
