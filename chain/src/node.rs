//! bitcoind as a node that follows the chain.

use std::collections::BTreeMap;
use std::time::Duration;

use bitcoin::consensus::encode::{deserialize_hex, serialize_hex};
use bitcoin::constants::COINBASE_MATURITY;
use bitcoin::{Amount, Block, BlockHash, FeeRate, Network, OutPoint, Transaction, TxOut, Txid};
use serde_json::{Value, json};

use crate::answers::{
    ChainInfo, EntryInfo, FeeInfo, HeaderInfo, MempoolInfo, NetworkInfo, OutputInfo, SpendingInfo,
};
use crate::rpc::Bitcoind;
use crate::{BlockPlace, Chain, ChainError, Pooled, RelayPolicy, Tip, Unspent};

/// RPC error: something else is wrong (`RPC_MISC_ERROR`), such as a block that was pruned.
const CODE_OTHER: i32 = -1;
/// RPC error: the arguments name nothing (`RPC_INVALID_ADDRESS_OR_KEY`).
pub(crate) const CODE_NOT_FOUND: i32 = -5;
/// RPC error: a number is out of range (`RPC_INVALID_PARAMETER`).
const CODE_OUT_OF_RANGE: i32 = -8;
/// RPC error: the transaction is in a block already (`RPC_VERIFY_ALREADY_IN_UTXO_SET`).
const CODE_ALREADY_MINED: i32 = -27;
/// The most outputs that one call asks about.
const OUTPOINTS_MAX: usize = 500;
/// The longest wait for a block: the RPC client gives up on an answer after 15 s.
const WAIT_MAX: Duration = Duration::from_secs(10);
/// The shortest: to the node, zero is for ever.
const WAIT_MIN: Duration = Duration::from_millis(1);
/// The least that a replacement pays more for each vB, whatever the node says: other nodes relay
/// it too.
const INCREMENT_MIN: FeeRate = FeeRate::from_sat_per_vb_u32(1);

impl Chain for Bitcoind {
    async fn tip(&self) -> Result<Tip, ChainError> {
        let info: ChainInfo = self.call("getblockchaininfo", json!([])).await?;
        let network = Network::from_core_arg(&info.chain).map_err(|error| {
            let method = "getblockchaininfo".to_owned();
            ChainError::Unexpected { method, reason: error.to_string() }
        })?;
        let time = match info.time {
            Some(time) => time,
            None => self.header(info.bestblockhash).await?.time,
        };
        Ok(Tip {
            network,
            height: info.blocks,
            headers: info.headers,
            hash: info.bestblockhash,
            time,
            median_time_past: info.mediantime,
            oldest: info.pruneheight,
            is_initial_download: info.initialblockdownload,
        })
    }

    async fn relay_policy(&self) -> Result<RelayPolicy, ChainError> {
        let info: MempoolInfo = self.call("getmempoolinfo", json!([])).await?;
        let least = rate_of_kvb(info.mempoolminfee.max(info.minrelaytxfee));
        let increment = match info.incrementalrelayfee {
            Some(increment) => increment,
            None => self.call::<NetworkInfo>("getnetworkinfo", json!([])).await?.incrementalfee,
        };
        let increment = rate_of_kvb(increment).max(INCREMENT_MIN);
        Ok(RelayPolicy { truc: info.truc_policy, least, increment })
    }

    async fn block_hash(&self, height: u32) -> Result<Option<BlockHash>, ChainError> {
        unless(self.call("getblockhash", json!([height])).await, CODE_OUT_OF_RANGE)
    }

    async fn block_place(&self, hash: BlockHash) -> Result<Option<BlockPlace>, ChainError> {
        let info = self.header(hash).await;
        Ok(unless(info, CODE_NOT_FOUND)?.map(|info| BlockPlace {
            height: info.height,
            previous: info.previousblockhash,
            is_active: info.confirmations >= 0,
        }))
    }

    async fn block(&self, hash: BlockHash) -> Result<Block, ChainError> {
        let hex: String = match self.call("getblock", json!([hash, 0])).await {
            Err(error) => return Err(self.why_no_block(hash, error).await),
            Ok(hex) => hex,
        };
        deserialize_hex(&hex).map_err(|error| ChainError::Unexpected {
            method: "getblock".to_owned(),
            reason: error.to_string(),
        })
    }

    async fn unspent(&self, outpoint: OutPoint) -> Result<Option<Unspent>, ChainError> {
        self.output(outpoint, true).await
    }

    async fn confirmed(&self, outpoint: OutPoint) -> Result<Option<Unspent>, ChainError> {
        self.output(outpoint, false).await
    }

    async fn spenders(&self, outpoints: Vec<OutPoint>) -> Result<Vec<Option<Txid>>, ChainError> {
        let mut spenders = BTreeMap::new();
        // The node reads the index as a signed number, and refuses the whole call for one beyond.
        let is_readable = |it: &&OutPoint| i32::try_from(it.vout).is_ok();
        let readable: Vec<_> = outpoints.iter().filter(is_readable).collect();
        for some in readable.chunks(OUTPOINTS_MAX) {
            let some: Vec<_> =
                some.iter().map(|it| json!({ "txid": it.txid, "vout": it.vout })).collect();
            let told: Vec<SpendingInfo> = self.call("gettxspendingprevout", json!([some])).await?;
            spenders.extend(told.into_iter().filter_map(|it| {
                Some((OutPoint { txid: it.txid, vout: it.vout }, it.spendingtxid?))
            }));
        }
        Ok(outpoints.iter().map(|outpoint| spenders.get(outpoint).copied()).collect())
    }

    async fn broadcast(&self, transaction: Transaction) -> Result<(), ChainError> {
        let arguments = json!([serialize_hex(&transaction)]);
        let sent = self.call::<Txid>("sendrawtransaction", arguments).await;
        unless(sent, CODE_ALREADY_MINED).map(|_| ())
    }

    async fn mempool(&self) -> Result<Vec<Txid>, ChainError> {
        self.call("getrawmempool", json!([])).await
    }

    async fn mempool_transaction(&self, txid: Txid) -> Result<Option<Transaction>, ChainError> {
        let method = "getrawtransaction";
        let hex: Option<String> = unless(self.call(method, json!([txid])).await, CODE_NOT_FOUND)?;
        hex.map(|hex| deserialize_hex(&hex)).transpose().map_err(|error| ChainError::Unexpected {
            method: method.to_owned(),
            reason: error.to_string(),
        })
    }

    async fn in_mempool(&self, txid: Txid) -> Result<Option<Pooled>, ChainError> {
        let info = self.call::<EntryInfo>("getmempoolentry", json!([txid])).await;
        Ok(unless(info, CODE_NOT_FOUND)?.map(|info| Pooled {
            fee_sat: info.fees.base.to_sat(),
            vsize: info.vsize,
            family_fee_sat: info.fees.descendant.to_sat(),
            family_vsize: info.descendantsize,
            height: info.height,
        }))
    }

    async fn wait_for_height(&self, height: u32, at_most: Duration) -> Result<(), ChainError> {
        let millis = at_most.clamp(WAIT_MIN, WAIT_MAX).as_millis();
        self.call::<Value>("waitforblockheight", json!([height, millis])).await.map(|_| ())
    }

    async fn fee_rate(&self, blocks: u16) -> Result<Option<FeeRate>, ChainError> {
        let info: FeeInfo = self.call("estimatesmartfee", json!([blocks])).await?;
        Ok(info.feerate.map(rate_of_kvb))
    }
}

impl Bitcoind {
    /// Returns a block's header.
    async fn header(&self, hash: BlockHash) -> Result<HeaderInfo, ChainError> {
        self.call("getblockheader", json!([hash])).await
    }

    /// Returns an unspent output, with the mempool's doings or without.
    async fn output(
        &self,
        outpoint: OutPoint,
        with_mempool: bool,
    ) -> Result<Option<Unspent>, ChainError> {
        let arguments = json!([outpoint.txid, outpoint.vout, with_mempool]);
        let info: Option<OutputInfo> = self.call("gettxout", arguments).await?;
        Ok(info.map(|info| Unspent {
            output: TxOut { value: info.value, script_pubkey: info.script.hex },
            confirmations: info.confirmations,
            is_immature: info.coinbase && info.confirmations < COINBASE_MATURITY,
            tip: info.bestblock,
        }))
    }

    /// Tells a block that was pruned from one that the node refuses for another reason.
    ///
    /// The code is that of any other failure and the words differ between versions, so the heights
    /// are compared too.
    async fn why_no_block(&self, hash: BlockHash, error: ChainError) -> ChainError {
        let ChainError::Refused { code: CODE_OTHER, message } = &error else { return error };
        let Ok(HeaderInfo { height, .. }) = self.header(hash).await else { return error };
        let is_below = |tip: Tip| tip.oldest.is_some_and(|oldest| height < oldest);
        if message.contains("pruned") || self.tip().await.is_ok_and(is_below) {
            return ChainError::Pruned { hash, height };
        }
        error
    }
}

/// Turns one code of refusal into nothing.
pub(crate) fn unless<T>(
    answer: Result<T, ChainError>,
    absent: i32,
) -> Result<Option<T>, ChainError> {
    match answer {
        Ok(value) => Ok(Some(value)),
        Err(ChainError::Refused { code, .. }) if code == absent => Ok(None),
        Err(error) => Err(error),
    }
}

/// Turns bitcoins for 1,000 vB into a fee rate, rounded up to whole sat/vB.
fn rate_of_kvb(amount: Amount) -> FeeRate {
    FeeRate::from_sat_per_vb(amount.to_sat().div_ceil(1_000)).unwrap_or(FeeRate::MAX)
}
