//! The toy chain as the node of one gateway process.

use std::time::Duration;

use bitcoin::hashes::Hash;
use bitcoin::{
    Address, Block, BlockHash, FeeRate, Network, OutPoint, ScriptBuf, Transaction, Txid,
    WPubkeyHash,
};
use farebox_chain::{BlockPlace, Chain, ChainError, Pooled, RelayPolicy, Tip, Unspent, Wallet};

use super::mempool::INCREMENT_SAT_PER_VB;
use super::{Rejected, SharedChain, ToyChain};
use crate::life::Life;

/// What ends the hashes of the addresses of the gateway's wallet.
const OWN_HASH: u8 = 4;
/// What the hash of the gateway's configured address is made of.
pub(crate) const CONFIGURED_HASH: u8 = 9;
/// The blocks in which who is in a hurry wants to be mined.
const HURRY_BLOCKS: u16 = 2;

/// A node with a wallet. It does not answer while it is away, nor a dead process.
#[derive(Clone, Debug)]
pub(crate) struct ToyNode {
    chain: SharedChain,
    life: Life,
}

impl ToyNode {
    /// Makes the node of one process.
    pub(crate) const fn new(chain: SharedChain, life: Life) -> Self {
        Self { chain, life }
    }

    /// Asks the node something.
    fn ask<T>(&self, answer: impl FnOnce(&mut ToyChain) -> T) -> Result<T, ChainError> {
        let mut chain = self.chain.look();
        if chain.is_away || !self.life.is_alive() {
            let (url, reason) = ("the toy node".to_owned(), "it is away".to_owned());
            return Err(ChainError::Unreachable { url, reason });
        }
        Ok(answer(&mut chain))
    }
}

/// Makes a fee rate of whole satoshi.
fn rate(sat_per_vb: u64) -> FeeRate {
    FeeRate::from_sat_per_vb(sat_per_vb).unwrap()
}

impl Chain for ToyNode {
    async fn tip(&self) -> Result<Tip, ChainError> {
        self.ask(|chain| Tip {
            network: Network::Regtest,
            height: chain.height(),
            hash: chain.tip_hash(),
            headers: chain.height(),
            time: chain.tip_time(),
            median_time_past: chain.median_time_past(),
            oldest: None,
            is_initial_download: false,
        })
    }

    async fn relay_policy(&self) -> Result<RelayPolicy, ChainError> {
        self.ask(|chain| {
            chain.told_floor = chain.floor;
            RelayPolicy {
                truc: Some("enforce".to_owned()),
                least: rate(chain.floor),
                increment: rate(INCREMENT_SAT_PER_VB),
            }
        })
    }

    async fn block_hash(&self, height: u32) -> Result<Option<BlockHash>, ChainError> {
        let height = usize::try_from(height).unwrap();
        self.ask(|chain| chain.active.get(height).map(|sheet| sheet.hash))
    }

    async fn block_place(&self, hash: BlockHash) -> Result<Option<BlockPlace>, ChainError> {
        self.ask(|chain| {
            let active = chain.active.iter().find(|sheet| sheet.hash == hash);
            let sheet = active.or_else(|| chain.stale.get(&hash))?;
            Some(BlockPlace {
                height: sheet.height,
                previous: Some(sheet.block.header.prev_blockhash),
                is_active: active.is_some(),
            })
        })
    }

    async fn block(&self, hash: BlockHash) -> Result<Block, ChainError> {
        let block = self.ask(|chain| {
            let active = chain.active.iter().find(|sheet| sheet.hash == hash);
            active.or_else(|| chain.stale.get(&hash)).map(|sheet| sheet.block.clone())
        })?;
        block.ok_or_else(|| ChainError::Refused { code: -5, message: "no such block".to_owned() })
    }

    async fn unspent(&self, outpoint: OutPoint) -> Result<Option<Unspent>, ChainError> {
        self.ask(|chain| {
            if chain.pooled_spender(outpoint).is_some() {
                return None;
            }
            chain.shown(outpoint)
        })
    }

    async fn confirmed(&self, outpoint: OutPoint) -> Result<Option<Unspent>, ChainError> {
        self.ask(|chain| chain.shown(outpoint).filter(|unspent| unspent.confirmations > 0))
    }

    async fn spenders(&self, outpoints: Vec<OutPoint>) -> Result<Vec<Option<Txid>>, ChainError> {
        self.ask(|chain| {
            let spender = |it: &OutPoint| chain.pooled_spender(*it).map(|(txid, _)| *txid);
            outpoints.iter().map(spender).collect()
        })
    }

    async fn broadcast(&self, transaction: Transaction) -> Result<(), ChainError> {
        let taken = self.ask(|chain| chain.hand_out(&transaction))?;
        taken.map_err(|why| ChainError::Refused { code: -26, message: format!("{why:?}") })
    }

    async fn mempool(&self) -> Result<Vec<Txid>, ChainError> {
        self.ask(|chain| chain.pool_txids())
    }

    async fn mempool_transaction(&self, txid: Txid) -> Result<Option<Transaction>, ChainError> {
        self.ask(|chain| chain.pooled(txid))
    }

    async fn in_mempool(&self, txid: Txid) -> Result<Option<Pooled>, ChainError> {
        self.ask(|chain| {
            let [(fee_sat, vsize), (family_fee_sat, family_vsize)] = chain.pooled_fees(txid)?;
            Some(Pooled { fee_sat, vsize, family_fee_sat, family_vsize, height: 0 })
        })
    }

    async fn wait_for_height(&self, _height: u32, _at_most: Duration) -> Result<(), ChainError> {
        // Nobody's time passes here while somebody waits.
        self.ask(|_| ())
    }

    async fn fee_rate(&self, blocks: u16) -> Result<Option<FeeRate>, ChainError> {
        let hurry = if blocks <= HURRY_BLOCKS { 2 } else { 1 };
        self.ask(|chain| chain.estimate.map(|estimate| rate(estimate * hurry)))
    }
}

impl Wallet for ToyNode {
    async fn check_wallet(&self) -> Result<(), ChainError> {
        self.ask(|_| ())
    }

    async fn fresh_address(&self) -> Result<Address, ChainError> {
        self.ask(|chain| {
            chain.addresses += 1;
            let mut hash = [OWN_HASH; 20];
            hash[..8].copy_from_slice(&chain.addresses.to_be_bytes());
            let script = ScriptBuf::new_p2wpkh(&WPubkeyHash::from_byte_array(hash));
            Address::from_script(&script, Network::Regtest).unwrap()
        })
    }

    async fn fund(&self, _: ScriptBuf, _: u64, _: FeeRate) -> Result<Transaction, ChainError> {
        Err(ChainError::TooFewCoins { available_sat: 0, needed_sat: 1 })
    }

    async fn release(&self, _: Transaction) -> Result<(), ChainError> {
        Ok(())
    }
}

impl ToyChain {
    /// Shows an output that no block spends as the node does.
    fn shown(&self, outpoint: OutPoint) -> Option<Unspent> {
        let output = self.unspent_output(outpoint)?.clone();
        let mined = self.coin_height(outpoint);
        let confirmations = mined.map_or(0, |height| self.height() + 1 - height);
        Some(Unspent { output, confirmations, is_immature: false, tip: self.tip_hash() })
    }

    /// Takes a transaction from the gateway. Its settlements are noted, and those that no network
    /// would relay.
    fn hand_out(&mut self, transaction: &Transaction) -> Result<(), Rejected> {
        let is_settlement = transaction.version == bitcoin::transaction::Version(3);
        if is_settlement {
            self.handed.extend(transaction.input.iter().map(|input| input.previous_output));
        }
        let is_new = !self.has(transaction.compute_txid());
        let direct = self.direct_conflicts(transaction);
        let all = self.conflicts(transaction);
        let has_refund =
            direct.iter().filter_map(|txid| self.pooled(*txid)).any(|it| is_refund(&it));
        let taken = self.accept(transaction);
        if taken.is_ok() && is_new && is_settlement {
            let has_child = all.len() > direct.len();
            self.events.extend(has_child.then_some("child counted in a replacement"));
            self.events.extend(has_refund.then_some("refund beaten by a settlement"));
        }
        match taken {
            // What was spent meanwhile, and fees that have risen, are nobody's fault.
            Ok(_) | Err(Rejected::Missing) => {}
            Err(Rejected::Fee) if self.floor > self.told_floor => {}
            Err(why) if is_settlement => {
                self.unrelayable.push(format!("{}: {why:?}", transaction.compute_txid()));
            }
            Err(_) => {}
        }
        taken.map(|_| ())
    }
}

/// Tells whether a transaction of the mempool is a client's refund.
fn is_refund(transaction: &Transaction) -> bool {
    transaction.lock_time != bitcoin::absolute::LockTime::ZERO
}

/// Tells whether an output is the gateway's own: of its wallet, or of its configuration.
pub(crate) fn is_gateways(script: &bitcoin::Script) -> bool {
    let is_hash = |byte| script.as_bytes()[2..].ends_with(&[byte; 12]);
    script.is_p2wpkh() && (is_hash(OWN_HASH) || is_hash(CONFIGURED_HASH))
}
