//! Where every coin is: in the wallet, with the gateway, or with the miners.

use std::collections::{BTreeMap, BTreeSet};

use bitcoin::consensus::encode::deserialize_hex;
use bitcoin::{Address, Amount, Network, OutPoint, Transaction, TxOut};
use farebox_chain::Chain;
use farebox_channel::Kind;
use farebox_channel::message::StateName;
use farebox_client::{ChannelFile, OwnWallet, Passphrase, Record};
use serde_json::{Value, json};

use super::stage::{Funding, PRICE_SAT, Stage};
use crate::support::until;

impl Stage {
    /// Returns all that the wallet has.
    pub(super) async fn wealth(&self) -> Amount {
        if self.funding == Funding::Own {
            let balance = self.own().balance().await.unwrap();
            return balance.free + balance.locked + balance.immature;
        }
        let told: Value = self.world.wallet().call("getbalances", json!([])).await.unwrap();
        let part = |name: &str| Amount::from_btc(told["mine"][name].as_f64().unwrap()).unwrap();
        part("trusted") + part("untrusted_pending") + part("immature")
    }

    /// Returns how many coins the wallet keeps from being spent, or how many satoshi.
    pub(super) async fn locked(&self) -> u64 {
        if self.funding == Funding::Own {
            return self.own().balance().await.unwrap().locked.to_sat();
        }
        let locked: Vec<Value> =
            self.world.wallet().call("listlockunspent", json!([])).await.unwrap();
        u64::try_from(locked.len()).unwrap()
    }

    fn own(&self) -> OwnWallet<farebox_chain::Bitcoind> {
        let file = ChannelFile::open(&self.world.file("channels.sqlite")).unwrap();
        let ask = || Ok(Passphrase::new("right"));
        OwnWallet::open(self.world.node.node(None), file, ask).unwrap()
    }

    /// Checks that each contract in the mempool has a file that gets its coins back without anybody.
    pub(super) async fn check_what_was_sent(&self, what: &str) {
        let node = self.world.node.node(None);
        for txid in node.mempool().await.unwrap() {
            let Some(sent) = node.mempool_transaction(txid).await.unwrap() else { continue };
            for (output, vout) in sent.output.iter().zip(0..) {
                if !output.script_pubkey.is_p2wsh() {
                    continue;
                }
                let contract = OutPoint { txid, vout };
                let recovery = self.recovery(output);
                let refunds = recovery["refunds"].as_array().unwrap();
                let spends = |refund: &Value| {
                    let refund: Transaction =
                        deserialize_hex(refund["transaction"].as_str().unwrap()).unwrap();
                    refund.input[0].previous_output == contract
                };
                assert!(refunds.iter().all(spends), "{what}: {recovery}");
                let is_enough = !refunds.is_empty() || recovery["descriptor"].is_string();
                assert!(is_enough, "{what}: {recovery}");
                let needs_both = self.kind == Kind::Refund;
                assert!(!(needs_both && refunds.is_empty()), "{what}: {recovery}");
            }
        }
    }

    /// Reads the file that was made before a contract was shown.
    fn recovery(&self, output: &TxOut) -> Value {
        let address = Address::from_script(&output.script_pubkey, Network::Regtest).unwrap();
        let path = self.world.file("channels.sqlite.recovery").join(format!("{address}.json"));
        serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
    }

    /// Checks that the gateway settles each of these channels.
    pub(super) async fn check_that_all_closes(&self, records: &[Record], what: &str) {
        let mut buyer = self.world.buyer();
        buyer.host = self.host();
        for record in records {
            let told = buyer.told(record.outpoint(), &record.key).await;
            let is_over = matches!(told.state, StateName::Closing | StateName::Settled);
            assert!(is_over, "{what}: {told:?}");
        }
    }

    /// Mines until every channel is settled, and counts all coins.
    pub(super) async fn audit(&self) {
        let records = self.records();
        let node = self.world.node.node(None);
        until("every channel is settled", async || {
            self.world.node.mine_what_waits().await.unwrap();
            let mut left = 0;
            for record in &records {
                left += usize::from(node.unspent(record.outpoint()).await.unwrap().is_some());
            }
            left == 0 && node.mempool().await.unwrap().is_empty()
        })
        .await;

        let (contracts, fees) = self.contracts().await;
        let known: BTreeSet<_> = records.iter().map(Record::outpoint).collect();
        assert_eq!(contracts, known, "each contract is on record, and each one was broadcast");
        let bought = Amount::from_sat(PRICE_SAT * u64::try_from(self.bought).unwrap());
        assert_eq!(self.wealth().await + bought + fees, self.coins, "every coin is accounted for");
        assert_eq!(self.locked().await, 0);
    }

    /// Returns all contracts of the chain, and the fees of what has made them.
    async fn contracts(&self) -> (BTreeSet<OutPoint>, Amount) {
        let node = self.world.node.node(None);
        let (mut contracts, mut fees) = (BTreeSet::new(), Amount::ZERO);
        let mut coins = BTreeMap::<OutPoint, Amount>::new();
        for height in 1..=node.tip().await.unwrap().height {
            let hash = node.block_hash(height).await.unwrap().unwrap();
            for transaction in node.block(hash).await.unwrap().txdata {
                let (txid, before) = (transaction.compute_txid(), contracts.len());
                let spent: Amount = transaction
                    .input
                    .iter()
                    .filter_map(|input| coins.get(&input.previous_output).copied())
                    .sum();
                for (output, vout) in transaction.output.iter().zip(0..) {
                    let outpoint = OutPoint { txid, vout };
                    coins.insert(outpoint, output.value);
                    // The commitment of a block is no output with coins.
                    if output.script_pubkey.is_p2wsh() {
                        contracts.insert(outpoint);
                    }
                }
                if contracts.len() > before {
                    let made = transaction.output.iter().map(|output| output.value).sum::<Amount>();
                    fees += spent - made;
                }
            }
        }
        (contracts, fees)
    }
}
