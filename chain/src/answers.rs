//! What bitcoind answers, as far as it matters here.

use std::str::FromStr;

use bitcoin::{Amount, BlockHash, ScriptBuf, Txid};
use serde::Deserialize;

/// `getblockchaininfo`, as far as it matters here.
#[derive(Deserialize)]
pub(crate) struct ChainInfo {
    pub(crate) chain: String,
    pub(crate) blocks: u32,
    pub(crate) headers: u32,
    pub(crate) bestblockhash: BlockHash,
    pub(crate) time: Option<u64>,
    pub(crate) mediantime: u64,
    pub(crate) pruneheight: Option<u32>,
    pub(crate) initialblockdownload: bool,
}

/// `getmempoolinfo`, as far as it matters here.
#[derive(Deserialize)]
pub(crate) struct MempoolInfo {
    pub(crate) truc_policy: Option<String>,
    #[serde(deserialize_with = "amount")]
    pub(crate) mempoolminfee: Amount,
    #[serde(deserialize_with = "amount")]
    pub(crate) minrelaytxfee: Amount,
    #[serde(default, deserialize_with = "optional_amount")]
    pub(crate) incrementalrelayfee: Option<Amount>,
}

/// `getnetworkinfo`, as far as it matters here.
#[derive(Deserialize)]
pub(crate) struct NetworkInfo {
    #[serde(deserialize_with = "amount")]
    pub(crate) incrementalfee: Amount,
}

/// `getmempoolentry`, as far as it matters here.
#[derive(Deserialize)]
pub(crate) struct EntryInfo {
    pub(crate) vsize: u64,
    pub(crate) descendantsize: u64,
    pub(crate) height: u32,
    pub(crate) fees: EntryFees,
}

/// The fees of a `getmempoolentry`.
#[derive(Deserialize)]
pub(crate) struct EntryFees {
    #[serde(deserialize_with = "amount")]
    pub(crate) base: Amount,
    #[serde(deserialize_with = "amount")]
    pub(crate) descendant: Amount,
}

/// An entry of `gettxspendingprevout`, as far as it matters here.
#[derive(Deserialize)]
pub(crate) struct SpendingInfo {
    pub(crate) txid: Txid,
    pub(crate) vout: u32,
    pub(crate) spendingtxid: Option<Txid>,
}

/// `getblockheader`, as far as it matters here.
#[derive(Deserialize)]
pub(crate) struct HeaderInfo {
    pub(crate) height: u32,
    pub(crate) confirmations: i64,
    pub(crate) time: u64,
    pub(crate) previousblockhash: Option<BlockHash>,
}

/// `gettxout`, as far as it matters here.
#[derive(Deserialize)]
pub(crate) struct OutputInfo {
    pub(crate) bestblock: BlockHash,
    pub(crate) confirmations: u32,
    pub(crate) coinbase: bool,
    #[serde(deserialize_with = "amount")]
    pub(crate) value: Amount,
    #[serde(rename = "scriptPubKey")]
    pub(crate) script: ScriptInfo,
}

/// A script in an answer.
#[derive(Deserialize)]
pub(crate) struct ScriptInfo {
    pub(crate) hex: ScriptBuf,
}

/// `estimatesmartfee`, as far as it matters here.
#[derive(Deserialize)]
pub(crate) struct FeeInfo {
    #[serde(default, deserialize_with = "optional_amount")]
    pub(crate) feerate: Option<Amount>,
}

/// An entry of `listunspent`, as far as it matters here.
#[derive(Deserialize)]
pub(crate) struct Coin {
    pub(crate) txid: Txid,
    pub(crate) vout: u32,
    #[serde(deserialize_with = "amount")]
    pub(crate) amount: Amount,
    #[serde(rename = "scriptPubKey")]
    pub(crate) script: ScriptBuf,
    pub(crate) spendable: bool,
    pub(crate) safe: bool,
}

/// `getaddressinfo`, as far as it matters here.
#[derive(Deserialize)]
pub(crate) struct AddressInfo {
    pub(crate) ismine: bool,
}

/// `fundrawtransaction` and `signrawtransactionwithwallet`, as far as they matter here.
#[derive(Deserialize)]
pub(crate) struct RawTransaction {
    pub(crate) hex: String,
    pub(crate) complete: Option<bool>,
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

/// Reads a number of bitcoins that may be absent.
fn optional_amount<'de, D: serde::Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Amount>, D::Error> {
    amount(deserializer).map(Some)
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

    #[test]
    fn an_older_nodes_answers_lack_what_newer_ones_say() {
        let mempool = r#"{"mempoolminfee": 0.00001000, "minrelaytxfee": 0.00001000}"#;
        let mempool: MempoolInfo = serde_json::from_str(mempool).unwrap();
        assert_eq!((mempool.truc_policy, mempool.incrementalrelayfee), (None, None));

        let hash = "00".repeat(32);
        let chain = format!(
            r#"{{"chain": "main", "blocks": 7, "headers": 8, "bestblockhash": "{hash}",
                "mediantime": 9, "initialblockdownload": false}}"#
        );
        let chain: ChainInfo = serde_json::from_str(&chain).unwrap();
        assert_eq!((chain.time, chain.pruneheight), (None, None));
    }

    #[test]
    fn an_output_that_nothing_spends_is_listed_without_a_spender() {
        let txid = "11".repeat(32);
        let free = format!(r#"{{"txid": "{txid}", "vout": 1}}"#);
        let spent = format!(r#"{{"txid": "{txid}", "vout": 2, "spendingtxid": "{txid}"}}"#);
        let list: Vec<SpendingInfo> = serde_json::from_str(&format!("[{free}, {spent}]")).unwrap();
        let spenders: Vec<_> = list.iter().map(|it| (it.vout, it.spendingtxid)).collect();
        let txid = txid.parse().unwrap();
        assert_eq!(spenders, [(1, None), (2, Some(txid))]);
    }
}
