//! bitcoind as a node that follows the chain.

use bitcoin::consensus::encode::{deserialize_hex, serialize_hex};
use bitcoin::constants::COINBASE_MATURITY;
use bitcoin::{Amount, Block, BlockHash, FeeRate, Network, OutPoint, Transaction, TxOut, Txid};
use serde_json::json;

use crate::answers::{ChainInfo, FeeInfo, HeaderInfo, MempoolInfo, OutputInfo};
use crate::rpc::Bitcoind;
use crate::{BlockPlace, Chain, ChainError, RelayPolicy, Tip, Unspent};

/// RPC error: the arguments name nothing (`RPC_INVALID_ADDRESS_OR_KEY`).
const CODE_NOT_FOUND: i32 = -5;
/// RPC error: a number is out of range (`RPC_INVALID_PARAMETER`).
const CODE_OUT_OF_RANGE: i32 = -8;
/// RPC error: the transaction is in a block already (`RPC_VERIFY_ALREADY_IN_UTXO_SET`).
const CODE_ALREADY_MINED: i32 = -27;

impl Chain for Bitcoind {
    async fn tip(&self) -> Result<Tip, ChainError> {
        let info: ChainInfo = self.call("getblockchaininfo", json!([])).await?;
        let network = Network::from_core_arg(&info.chain).map_err(|error| {
            let method = "getblockchaininfo".to_owned();
            ChainError::Unexpected { method, reason: error.to_string() }
        })?;
        Ok(Tip {
            network,
            height: info.blocks,
            headers: info.headers,
            hash: info.bestblockhash,
            median_time_past: info.mediantime,
            is_initial_download: info.initialblockdownload,
        })
    }

    async fn relay_policy(&self) -> Result<RelayPolicy, ChainError> {
        let info: MempoolInfo = self.call("getmempoolinfo", json!([])).await?;
        let least = rate_of_kvb(info.mempoolminfee.max(info.minrelaytxfee));
        Ok(RelayPolicy { truc: info.truc_policy, least })
    }

    async fn block_hash(&self, height: u32) -> Result<Option<BlockHash>, ChainError> {
        unless(self.call("getblockhash", json!([height])).await, CODE_OUT_OF_RANGE)
    }

    async fn block_place(&self, hash: BlockHash) -> Result<Option<BlockPlace>, ChainError> {
        let info = self.call::<HeaderInfo>("getblockheader", json!([hash])).await;
        Ok(unless(info, CODE_NOT_FOUND)?.map(|info| BlockPlace {
            height: info.height,
            previous: info.previousblockhash,
            is_active: info.confirmations >= 0,
        }))
    }

    async fn block(&self, hash: BlockHash) -> Result<Block, ChainError> {
        let hex: String = self.call("getblock", json!([hash, 0])).await?;
        deserialize_hex(&hex).map_err(|error| ChainError::Unexpected {
            method: "getblock".to_owned(),
            reason: error.to_string(),
        })
    }

    async fn unspent(&self, outpoint: OutPoint) -> Result<Option<Unspent>, ChainError> {
        let arguments = json!([outpoint.txid, outpoint.vout, true]);
        let info: Option<OutputInfo> = self.call("gettxout", arguments).await?;
        Ok(info.map(|info| Unspent {
            output: TxOut { value: info.value, script_pubkey: info.script.hex },
            confirmations: info.confirmations,
            is_immature: info.coinbase && info.confirmations < COINBASE_MATURITY,
            tip: info.bestblock,
        }))
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

    async fn fee_rate(&self, blocks: u16) -> Result<Option<FeeRate>, ChainError> {
        let info: FeeInfo = self.call("estimatesmartfee", json!([blocks])).await?;
        Ok(info.feerate.map(rate_of_kvb))
    }
}

/// Turns one code of refusal into nothing.
fn unless<T>(answer: Result<T, ChainError>, absent: i32) -> Result<Option<T>, ChainError> {
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
