//! bitcoind over RPC: the only file that names `bitcoincore-rpc`.
//!
//! That client is synchronous, so each call runs on a blocking thread. Its own types for answers
//! follow particular releases; the few fields that matter here are read by types of this file.

use std::fs;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;

use bitcoin::address::NetworkUnchecked;
use bitcoin::consensus::encode::{deserialize_hex, serialize_hex};
use bitcoin::{
    Address, Amount, Block, BlockHash, FeeRate, Network, OutPoint, ScriptBuf, Transaction, TxOut,
    Txid,
};
use bitcoincore_rpc::jsonrpc::{self, simple_http};
use bitcoincore_rpc::{Auth, Client, RpcApi};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::sync::Mutex;

use crate::{BlockPlace, Chain, ChainError, RelayPolicy, Tip, Unspent, Wallet};

/// RPC error: the arguments name nothing (`RPC_INVALID_ADDRESS_OR_KEY`).
const CODE_NOT_FOUND: i32 = -5;
/// RPC error: a number is out of range (`RPC_INVALID_PARAMETER`).
const CODE_OUT_OF_RANGE: i32 = -8;
/// RPC error: the transaction is in a block already (`RPC_VERIFY_ALREADY_IN_UTXO_SET`).
const CODE_ALREADY_MINED: i32 = -27;
/// RPC error: there is no wallet of that name (`RPC_WALLET_NOT_FOUND`).
const CODE_NO_WALLET: i32 = -18;
/// RPC error: there are several wallets and none is named (`RPC_WALLET_NOT_SPECIFIED`).
const CODE_UNCLEAR_WALLET: i32 = -19;
/// RPC error: the node is starting (`RPC_IN_WARMUP`).
const CODE_STARTING: i32 = -28;
/// An upper bound of an input's size in vB, for guessing how many coins are needed.
const INPUT_VSIZE: u64 = 69;
/// An upper bound of all else in a funding transaction.
const OVERHEAD_VSIZE: u64 = 140;
/// The greatest number of coins in a funding transaction, so that it fits a header field.
const INPUTS_MAX: usize = 20;

/// How a node lets this program in.
#[derive(Clone)]
pub enum Access {
    /// By the cookie file that the node writes at each start.
    Cookie(PathBuf),
    /// By name and password.
    Password {
        /// The name.
        user: String,
        /// The password.
        password: String,
    },
}

impl std::fmt::Debug for Access {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Cookie(path) => f.debug_tuple("Cookie").field(path).finish(),
            Self::Password { user, .. } => {
                f.debug_struct("Password").field("user", user).finish_non_exhaustive()
            }
        }
    }
}

/// A bitcoind, and one of its wallets.
#[derive(Clone, Debug)]
pub struct Bitcoind {
    url: Arc<str>,
    access: Access,
    /// Held while coins are picked, so that two fundings do not pick the same.
    picking: Arc<Mutex<()>>,
}

impl Bitcoind {
    /// Makes a client of the node at `url`, such as `http://127.0.0.1:8332`. Nothing is sent yet.
    ///
    /// With `wallet`, calls about coins go to the wallet of that name.
    #[must_use]
    pub fn new(url: &str, wallet: Option<&str>, access: Access) -> Self {
        let url = url.trim_end_matches('/');
        let url = wallet.map_or_else(|| url.to_owned(), |name| format!("{url}/wallet/{name}"));
        Self { url: url.into(), access, picking: Arc::default() }
    }

    /// Calls any method of the node.
    ///
    /// # Errors
    /// [`ChainError`] when the node does not answer, refuses, or answers otherwise.
    pub async fn call<T: DeserializeOwned + Send + 'static>(
        &self,
        method: &'static str,
        arguments: Value,
    ) -> Result<T, ChainError> {
        let (url, access) = (Arc::clone(&self.url), self.access.clone());
        let unexpected =
            |reason: String| ChainError::Unexpected { method: method.to_owned(), reason };
        let called = tokio::task::spawn_blocking(move || call(&url, access, method, arguments));
        let answer = called.await.map_err(|error| unexpected(error.to_string()))??;
        serde_json::from_value(answer).map_err(|error| unexpected(error.to_string()))
    }
}

/// Calls a method of the node at `url`. The cookie is read each time: a restart changes it.
fn call(url: &str, access: Access, method: &str, arguments: Value) -> Result<Value, ChainError> {
    let unreachable = |reason: String| ChainError::Unreachable { url: url.to_owned(), reason };
    let (user, password) = credentials(access)?;
    let auth = Auth::UserPass(user, password);
    let client = Client::new(url, auth).map_err(|error| unreachable(error.to_string()))?;
    let Value::Array(arguments) = arguments else {
        return Err(unreachable("arguments are a list".to_owned()));
    };
    client.call(method, &arguments).map_err(|error| explain(url, method, error))
}

/// Returns the name and password that let this program in.
fn credentials(access: Access) -> Result<(String, String), ChainError> {
    match access {
        Access::Password { user, password } => Ok((user, password)),
        Access::Cookie(path) => {
            let unreadable =
                |path, reason: &str| ChainError::NoCookie { path, reason: reason.to_owned() };
            let cookie = fs::read_to_string(&path)
                .map_err(|error| unreadable(path.clone(), &error.to_string()))?;
            let (user, password) = cookie
                .trim()
                .split_once(':')
                .ok_or_else(|| unreadable(path, "it holds no name and password"))?;
            Ok((user.to_owned(), password.to_owned()))
        }
    }
}

/// Sorts the errors of the RPC client.
fn explain(url: &str, method: &str, error: bitcoincore_rpc::Error) -> ChainError {
    let url = url.to_owned();
    match error {
        bitcoincore_rpc::Error::JsonRpc(jsonrpc::Error::Rpc(refused)) => match refused.code {
            CODE_STARTING => ChainError::Starting(refused.message),
            CODE_NO_WALLET | CODE_UNCLEAR_WALLET => ChainError::NoWallet(refused.message),
            code => ChainError::Refused { code, message: refused.message },
        },
        bitcoincore_rpc::Error::JsonRpc(jsonrpc::Error::Transport(error)) => {
            match error.downcast_ref::<simple_http::Error>() {
                Some(simple_http::Error::HttpErrorCode(401 | 403)) => {
                    ChainError::Unauthorized { url }
                }
                _ => ChainError::Unreachable { url, reason: error.to_string() },
            }
        }
        other => ChainError::Unexpected { method: method.to_owned(), reason: other.to_string() },
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

/// Reads a number of bitcoins as the node writes it, without floating point.
fn amount<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Amount, D::Error> {
    let number = serde_json::Number::deserialize(deserializer)?;
    btc(&number.to_string()).ok_or_else(|| serde::de::Error::custom("not an amount"))
}

/// Reads a decimal number of bitcoins, in scientific notation too.
fn btc(number: &str) -> Option<Amount> {
    let (mantissa, exponent) = number.split_once(['e', 'E']).unwrap_or((number, "0"));
    let exponent = i32::from_str(exponent).ok()?.checked_add(8)?;
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let shift = exponent.checked_sub(i32::try_from(fraction.len()).ok()?)?;
    let digits = format!("{whole}{fraction}").parse::<u64>().ok()?;
    let scale = 10_u64.checked_pow(shift.unsigned_abs())?;
    let sat = if shift >= 0 { digits.checked_mul(scale)? } else { digits.checked_div(scale)? };
    Some(Amount::from_sat(sat))
}

/// Turns bitcoins for 1,000 vB into a fee rate, rounded up to whole sat/vB.
fn rate_of_kvb(amount: Amount) -> FeeRate {
    FeeRate::from_sat_per_vb(amount.to_sat().div_ceil(1_000)).unwrap_or(FeeRate::MAX)
}

/// `getblockchaininfo`, as far as it matters here.
#[derive(Deserialize)]
struct ChainInfo {
    chain: String,
    blocks: u32,
    bestblockhash: BlockHash,
    mediantime: u64,
    initialblockdownload: bool,
}

/// `getmempoolinfo`, as far as it matters here.
#[derive(Deserialize)]
struct MempoolInfo {
    truc_policy: Option<String>,
    #[serde(deserialize_with = "amount")]
    mempoolminfee: Amount,
    #[serde(deserialize_with = "amount")]
    minrelaytxfee: Amount,
}

/// `getblockheader`, as far as it matters here.
#[derive(Deserialize)]
struct HeaderInfo {
    height: u32,
    confirmations: i64,
    previousblockhash: Option<BlockHash>,
}

/// `gettxout`, as far as it matters here.
#[derive(Deserialize)]
struct OutputInfo {
    bestblock: BlockHash,
    confirmations: u32,
    #[serde(deserialize_with = "amount")]
    value: Amount,
    #[serde(rename = "scriptPubKey")]
    script: ScriptInfo,
}

/// A script in an answer.
#[derive(Deserialize)]
struct ScriptInfo {
    hex: ScriptBuf,
}

/// `estimatesmartfee`, as far as it matters here.
#[derive(Deserialize)]
struct FeeInfo {
    #[serde(default, deserialize_with = "optional_amount")]
    feerate: Option<Amount>,
}

/// Reads a number of bitcoins that may be absent.
fn optional_amount<'de, D: serde::Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Amount>, D::Error> {
    amount(deserializer).map(Some)
}

/// An entry of `listunspent`, as far as it matters here.
#[derive(Deserialize)]
struct Coin {
    txid: Txid,
    vout: u32,
    #[serde(deserialize_with = "amount")]
    amount: Amount,
    #[serde(rename = "scriptPubKey")]
    script: ScriptBuf,
    spendable: bool,
    safe: bool,
}

/// `fundrawtransaction` and `signrawtransactionwithwallet`, as far as they matter here.
#[derive(Deserialize)]
struct RawTransaction {
    hex: String,
    complete: Option<bool>,
}

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

impl Wallet for Bitcoind {
    async fn check_wallet(&self) -> Result<(), ChainError> {
        self.call::<Value>("getwalletinfo", json!([])).await.map(|_| ())
    }

    async fn fresh_address(&self) -> Result<Address, ChainError> {
        let tip = self.tip().await?;
        let address: Address<NetworkUnchecked> =
            self.call("getnewaddress", json!(["", "bech32"])).await?;
        address.require_network(tip.network).map_err(|error| ChainError::Unexpected {
            method: "getnewaddress".to_owned(),
            reason: error.to_string(),
        })
    }

    async fn fund(
        &self,
        script: ScriptBuf,
        amount_sat: u64,
        rate: FeeRate,
    ) -> Result<Transaction, ChainError> {
        let _picking = self.picking.lock().await;
        let coins: Vec<Coin> = self.call("listunspent", json!([1])).await?;
        let picked = pick(coins, amount_sat, rate)?;
        let output = TxOut { value: Amount::from_sat(amount_sat), script_pubkey: script };
        let skeleton = skeleton(&picked, output);
        let options = json!({
            "add_inputs": false,
            "changePosition": 1,
            "change_type": "bech32",
            "fee_rate": rate.to_sat_per_vb_ceil(),
            "lockUnspents": true,
            "replaceable": false,
        });
        let funded: RawTransaction =
            self.call("fundrawtransaction", json!([serialize_hex(&skeleton), options])).await?;
        let signed = self.sign(funded.hex).await;
        if signed.is_err() {
            self.unlock(&picked).await?;
        }
        signed
    }

    async fn release(&self, transaction: Transaction) -> Result<(), ChainError> {
        let coins: Vec<_> = transaction.input.iter().map(|input| input.previous_output).collect();
        self.unlock(&coins).await
    }
}

impl Bitcoind {
    /// Has the wallet sign a transaction.
    async fn sign(&self, hex: String) -> Result<Transaction, ChainError> {
        let method = "signrawtransactionwithwallet";
        let signed: RawTransaction = self.call(method, json!([hex])).await?;
        let unexpected =
            |reason: String| ChainError::Unexpected { method: method.to_owned(), reason };
        if signed.complete != Some(true) {
            return Err(unexpected("the wallet cannot sign for its coins".to_owned()));
        }
        deserialize_hex(&signed.hex).map_err(|error| unexpected(error.to_string()))
    }

    /// Lets the wallet spend coins again.
    async fn unlock(&self, coins: &[OutPoint]) -> Result<(), ChainError> {
        let coin = |coin: &OutPoint| json!({ "txid": coin.txid, "vout": coin.vout });
        let coins: Vec<Value> = coins.iter().map(coin).collect();
        self.call::<bool>("lockunspent", json!([true, coins])).await.map(|_| ())
    }
}

/// Picks native segwit coins, greatest first, until they pay the amount and the fee.
fn pick(mut coins: Vec<Coin>, amount_sat: u64, rate: FeeRate) -> Result<Vec<OutPoint>, ChainError> {
    let is_native = |coin: &Coin| coin.spendable && coin.safe && coin.script.is_witness_program();
    coins.retain(is_native);
    coins.sort_by_key(|coin| std::cmp::Reverse(coin.amount));
    let fee_sat = |vsize: u64| rate.fee_vb(vsize).map_or(u64::MAX, Amount::to_sat);
    let mut needed_sat = amount_sat.saturating_add(fee_sat(OVERHEAD_VSIZE));
    let mut available_sat = 0_u64;
    let mut picked = Vec::new();
    for coin in coins.into_iter().take(INPUTS_MAX) {
        available_sat = available_sat.saturating_add(coin.amount.to_sat());
        needed_sat = needed_sat.saturating_add(fee_sat(INPUT_VSIZE));
        picked.push(OutPoint { txid: coin.txid, vout: coin.vout });
        if available_sat >= needed_sat {
            return Ok(picked);
        }
    }
    Err(ChainError::TooFewCoins { available_sat, needed_sat })
}

/// Returns the transaction that the wallet completes with change and fee.
fn skeleton(picked: &[OutPoint], output: TxOut) -> Transaction {
    Transaction {
        version: bitcoin::transaction::Version::TWO,
        lock_time: bitcoin::absolute::LockTime::ZERO,
        input: picked
            .iter()
            .map(|coin| bitcoin::TxIn {
                previous_output: *coin,
                sequence: bitcoin::Sequence::ENABLE_LOCKTIME_NO_RBF,
                ..Default::default()
            })
            .collect(),
        output: vec![output],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nodes_numbers_are_read_without_floating_point() {
        let sat = |number| btc(number).map(Amount::to_sat);
        assert_eq!(sat("0.00001000"), Some(1_000));
        assert_eq!(sat("1e-5"), Some(1_000));
        assert_eq!(sat("1.234e-05"), Some(1_234));
        assert_eq!(sat("20999999.9769"), Some(2_099_999_997_690_000));
        assert_eq!(sat("50"), Some(5_000_000_000));
        assert_eq!(sat("-1"), None);
        assert_eq!(sat("1e30"), None);
    }
}
