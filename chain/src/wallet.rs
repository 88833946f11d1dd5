//! bitcoind as a wallet.

use bitcoin::address::NetworkUnchecked;
use bitcoin::consensus::encode::{deserialize_hex, serialize_hex};
use bitcoin::{Address, Amount, FeeRate, OutPoint, ScriptBuf, Transaction, TxIn, TxOut};
use serde_json::{Value, json};

use crate::answers::{AddressInfo, Coin, RawTransaction};
use crate::node::{CODE_NOT_FOUND, unless};
use crate::rpc::Bitcoind;
use crate::{Chain, ChainError, Wallet};

/// An upper bound of an input's size in vB, for guessing how many coins are needed.
const INPUT_VSIZE: u64 = 69;
/// An upper bound of all else in a funding transaction.
const OVERHEAD_VSIZE: u64 = 140;
/// The greatest number of coins in a funding transaction, so that it fits a header field.
const INPUTS_MAX: usize = 20;
/// RPC error: a coin is not as it would have to be (`RPC_INVALID_PARAMETER`).
const CODE_INVALID_PARAMETER: i32 = -8;

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
            "replaceable": false,
        });
        let funded: RawTransaction =
            self.call("fundrawtransaction", json!([serialize_hex(&skeleton), options])).await?;
        self.sign(funded.hex).await
    }

    async fn reserve(&self, transaction: Transaction) -> Result<(), ChainError> {
        self.lock(false, &transaction.input).await
    }

    async fn release(&self, transaction: Transaction) -> Result<(), ChainError> {
        for coin in &transaction.input {
            match self.lock(true, std::slice::from_ref(coin)).await {
                // It is not locked, or was spent; unless it is another wallet's, which may keep it.
                Err(ChainError::Refused { code: CODE_INVALID_PARAMETER, .. }) => {
                    self.check_owned(coin.previous_output).await?;
                }
                unlocked => unlocked?,
            }
        }
        Ok(())
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

    /// Checks that a coin is the wallet's, or was.
    async fn check_owned(&self, coin: OutPoint) -> Result<(), ChainError> {
        let other = || ChainError::Wallet(format!("the coin {coin} is another wallet's"));
        let method = "gettransaction";
        let unexpected =
            |reason: String| ChainError::Unexpected { method: method.to_owned(), reason };
        let known = self.call::<RawTransaction>(method, json!([coin.txid])).await;
        let known = unless(known, CODE_NOT_FOUND)?.ok_or_else(other)?;
        let known: Transaction =
            deserialize_hex(&known.hex).map_err(|error| unexpected(error.to_string()))?;
        let output = usize::try_from(coin.vout).ok().and_then(|vout| known.output.get(vout));
        let script = &output.ok_or_else(other)?.script_pubkey;
        let address = Address::from_script(script, self.tip().await?.network);
        let address = address.map_err(|error| unexpected(error.to_string()))?;
        let told: AddressInfo = self.call("getaddressinfo", json!([address])).await?;
        if told.ismine { Ok(()) } else { Err(other()) }
    }

    /// Keeps the wallet from spending coins otherwise, or lets it: all or none.
    async fn lock(&self, unlocks: bool, coins: &[TxIn]) -> Result<(), ChainError> {
        let coin = |input: &TxIn| {
            let OutPoint { txid, vout } = input.previous_output;
            json!({ "txid": txid, "vout": vout })
        };
        let coins: Vec<Value> = coins.iter().map(coin).collect();
        self.call::<bool>("lockunspent", json!([unlocks, coins])).await.map(|_| ())
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
    let all_sat = coins.iter().fold(0_u64, |sum, coin| sum.saturating_add(coin.amount.to_sat()));
    for coin in coins.into_iter().take(INPUTS_MAX) {
        available_sat = available_sat.saturating_add(coin.amount.to_sat());
        needed_sat = needed_sat.saturating_add(fee_sat(INPUT_VSIZE));
        picked.push(OutPoint { txid: coin.txid, vout: coin.vout });
        if available_sat >= needed_sat {
            return Ok(picked);
        }
    }
    if all_sat >= needed_sat {
        return Err(ChainError::Wallet(format!(
            "the wallet's {INPUTS_MAX} greatest confirmed native segwit coins have {available_sat} sat, and \
             {needed_sat} sat are needed: a contract spends no more coins, so put some together first"
        )));
    }
    Err(ChainError::TooFewCoins { available_sat: all_sat, needed_sat })
}

/// Returns the transaction that the wallet completes with change and fee.
fn skeleton(picked: &[OutPoint], output: TxOut) -> Transaction {
    Transaction {
        version: bitcoin::transaction::Version::TWO,
        lock_time: bitcoin::absolute::LockTime::ZERO,
        input: picked
            .iter()
            .map(|coin| TxIn {
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

    const RATE: FeeRate = FeeRate::from_sat_per_vb_u32(1);

    /// So many native segwit coins of 1,000 sat each.
    fn coins(number: usize) -> Vec<Coin> {
        let coin = json!({
            "txid": "00".repeat(32), "vout": 0, "amount": 0.00001, "spendable": true, "safe": true,
            "scriptPubKey": format!("0014{}", "00".repeat(20)),
        });
        (0..number).map(|_| serde_json::from_value(coin.clone()).unwrap()).collect()
    }

    #[test]
    fn what_a_wallet_has_is_told_as_a_whole_also_where_one_contract_cannot_spend_it() {
        let few = pick(coins(25), 100_000, RATE).unwrap_err();
        assert!(matches!(few, ChainError::TooFewCoins { available_sat: 25_000, .. }), "{few}");

        let scattered = pick(coins(25), 20_000, RATE).unwrap_err();
        let told = "the wallet's 20 greatest confirmed native segwit coins have 20000 sat, and 21520 \
                    sat are needed";
        assert!(scattered.to_string().starts_with(told), "{scattered}");
        assert_eq!(pick(coins(25), 10_000, RATE).unwrap().len(), 11);
    }
}
