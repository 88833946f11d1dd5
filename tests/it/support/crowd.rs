//! Many channels at once, and what became of them on the chain.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use bitcoin::consensus::encode::deserialize_hex;
use bitcoin::{Amount, FeeRate, OutPoint, Transaction, Txid};
use farebox_chain::{Chain, Wallet};
use farebox_channel::client::{Draft, Limits};
use farebox_channel::gateway::{Channel, Spender};
use farebox_channel::message::{
    CloseRequest, ContractRequest, PayRequest, StateName, StateReply, TermsReply,
};
use farebox_channel::{
    Clock, Contract, Kind, Msat, Pass, Payment, Payout, Proof, Refund, Sat, Seconds, Settlement,
    Subject, Timestamp,
};
use farebox_ledger::{SqliteStore, Store};
use secp256k1::SecretKey;
use serde_json::{Value, json};

use super::{Answer, Buyer, CAPACITY_SAT, FIRST_SAT, World, header, until, wall};

/// One of many channels.
pub(crate) struct Member {
    pub(crate) contract: Contract,
    pub(crate) key: SecretKey,
    pub(crate) shown: ContractRequest,
    pass: Pass,
}

/// Many open channels, and a client that speaks for all of them.
pub(crate) struct Crowd {
    pub(crate) buyer: Buyer,
    pub(crate) members: Vec<Member>,
}

impl Crowd {
    /// Opens a channel of each kind given, all of them paid by one transaction.
    pub(crate) async fn open(world: &World, kinds: &[Kind]) -> Self {
        let lasting: Vec<_> = kinds.iter().map(|kind| (*kind, 0)).collect();
        let crowd = Self::show(world, &lasting).await;
        crowd.confirm(world).await;
        crowd
    }

    /// Opens such channels, each for so many seconds longer than the shortest that is offered.
    pub(crate) async fn open_for(world: &World, lasting: &[(Kind, u32)]) -> Self {
        let crowd = Self::show(world, lasting).await;
        crowd.confirm(world).await;
        crowd
    }

    async fn confirm(&self, world: &World) {
        world.mine(1).await;
        for member in &self.members {
            self.buyer.until_state(&member.shown, StateName::Open).await;
        }
    }

    /// Shows such channels. No block has them yet.
    pub(crate) async fn show(world: &World, lasting: &[(Kind, u32)]) -> Self {
        let buyer = world.buyer();
        let mut drafts = Vec::new();
        for (kind, longer) in lasting {
            drafts.push(draft(world, &buyer, *kind, *longer).await);
        }
        let wallet = world.wallet();
        let funding = fund(world, drafts.iter().map(|(draft, _)| draft)).await;
        let payout = Payout::try_from(&wallet.fresh_address().await.unwrap()).unwrap();
        let mut members = Vec::new();
        for (draft, key) in drafts {
            let script = draft.terms.script_pubkey();
            let pays = |output: &bitcoin::TxOut| output.script_pubkey == script;
            let vout = funding.output.iter().position(pays).unwrap();
            let outpoint =
                OutPoint { txid: funding.compute_txid(), vout: u32::try_from(vout).unwrap() };
            let (terms, capacity) = (draft.terms, draft.capacity);
            let contract = Contract { terms, outpoint, capacity, payout: payout.clone() };
            let first = Payment::sign(&contract, Sat::new(FIRST_SAT).unwrap(), &key).unwrap();
            let shown = ContractRequest {
                outpoint,
                transaction: None,
                capacity: contract.capacity,
                kind: contract.terms.kind,
                client_key: contract.terms.client_key,
                expiry: contract.terms.expiry,
                payout: contract.payout.clone(),
                payment: first,
            };
            let reply: StateReply = buyer.ask(&shown).await;
            members.push(Member { contract, key, shown, pass: reply.pass });
        }
        Self { buyer, members }
    }

    /// Has a channel pay so much in all, for one request.
    pub(crate) async fn pay(&self, index: usize, paid_sat: u64) -> Answer {
        self.buyer.send("/paid/x", &[self.payment(index, paid_sat)]).await
    }

    /// Returns the field with which a channel pays so much in all.
    pub(crate) fn payment(&self, index: usize, paid_sat: u64) -> (&'static str, String) {
        self.payment_up_to(index, paid_sat, None)
    }

    /// Returns the same, for a request that may cost so much.
    pub(crate) fn payment_up_to(
        &self,
        index: usize,
        paid_sat: u64,
        price_max: Option<Msat>,
    ) -> (&'static str, String) {
        let member = &self.members[index];
        let payment =
            Payment::sign(&member.contract, Sat::new(paid_sat).unwrap(), &member.key).unwrap();
        let (channel, pass) = (member.contract.outpoint, member.pass);
        header(&PayRequest { channel, pass, payment, price_max })
    }

    /// Closes a channel for so much.
    pub(crate) async fn close(&self, index: usize, paid_sat: u64) -> StateReply {
        let member = &self.members[index];
        let channel = member.contract.outpoint;
        let payment =
            Payment::sign(&member.contract, Sat::new(paid_sat).unwrap(), &member.key).unwrap();
        let place = self.buyer.place();
        let proof = Proof::sign(&Subject::Close(channel), place, wall(), &member.key);
        self.buyer.ask(&CloseRequest { channel, proof, payment }).await
    }

    /// Returns the refund of a `cltv` channel, which pays so much for each vB.
    pub(crate) fn refund(&self, index: usize, sat_per_vb: u32) -> Transaction {
        let member = &self.members[index];
        let refund = Refund::new(member.contract.clone(), None).unwrap();
        let rate = FeeRate::from_sat_per_vb_u32(sat_per_vb);
        refund.transaction(&member.contract.payout, rate, &member.key).unwrap()
    }

    /// Returns where a channel stands.
    pub(crate) async fn state(&self, index: usize) -> StateReply {
        self.buyer.ask(&self.members[index].shown).await
    }

    /// Waits until a channel has a state.
    pub(crate) async fn until_state(&self, index: usize, state: StateName) {
        self.buyer.until_state(&self.members[index].shown, state).await;
    }

    /// Returns the outpoints of all channels.
    pub(crate) fn outpoints(&self) -> Vec<OutPoint> {
        self.members.iter().map(|member| member.contract.outpoint).collect()
    }

    /// Returns the expiry of the first channel.
    pub(crate) fn expiry(&self) -> u64 {
        u64::from(self.members[0].contract.terms.expiry.get())
    }

    /// Waits until all channels are spent in the mempool, and returns by what.
    pub(crate) async fn until_broadcast(&self, world: &World) -> BTreeMap<OutPoint, Txid> {
        let mut found = BTreeMap::new();
        until("all settlements are broadcast", async || {
            found = spenders(world, self.outpoints()).await;
            found.len() == self.members.len()
        })
        .await;
        found
    }
}

/// Returns what spends outputs in the mempool.
pub(crate) async fn spenders(world: &World, outputs: Vec<OutPoint>) -> BTreeMap<OutPoint, Txid> {
    let found = world.node.node(None).spenders(outputs.clone()).await.unwrap();
    outputs.into_iter().zip(found).filter_map(|(output, txid)| Some((output, txid?))).collect()
}

async fn draft(world: &World, buyer: &Buyer, kind: Kind, longer: u32) -> (Draft, SecretKey) {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).unwrap();
    let key = SecretKey::from_slice(&bytes).unwrap();
    let offer = buyer.offer().await;
    let limits = Limits {
        network: bitcoin::Network::Regtest,
        kind,
        capacity: Sat::new(CAPACITY_SAT).unwrap(),
        lifetime: Seconds::new(offer.lifetime.start().get() + longer),
        first_payment_max: Sat::new(CAPACITY_SAT).unwrap(),
    };
    let request = limits.request(&offer, &key).unwrap();
    let reply: TermsReply = buyer.ask(&request).await;
    let told = world.node.node(None).tip().await.unwrap().median_time_past;
    let clock = Clock { median_time_past: Timestamp::new(told), wall: wall() };
    (Draft::accept(&offer, &request, &reply, clock).unwrap(), key)
}

/// Broadcasts one transaction that pays all contracts.
async fn fund(world: &World, drafts: impl Iterator<Item = &Draft>) -> Transaction {
    let wallet = world.wallet();
    let btc = |draft: &Draft| draft.capacity.to_amount().to_btc();
    let amounts: serde_json::Map<String, Value> =
        drafts.map(|draft| (draft.terms.address().to_string(), json!(btc(draft)))).collect();
    let txid: Txid = wallet.call("sendmany", json!(["", amounts])).await.unwrap();
    let known: Value = wallet.call("gettransaction", json!([txid])).await.unwrap();
    let raw = known["hex"].as_str().unwrap();
    // A wallet says nothing when its node does not take a transaction at once.
    let _txid: Txid = wallet.call("sendrawtransaction", json!([raw])).await.unwrap();
    deserialize_hex(raw).unwrap()
}

/// What an audit has found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Audit {
    /// The channels that a settlement has ended.
    pub(crate) settled: usize,
    /// How many transactions that took.
    pub(crate) transactions: usize,
    /// The channels that anything else has ended.
    pub(crate) lost: usize,
    /// What the settled channels have paid.
    pub(crate) paid_sat: u64,
    /// What the network took of that.
    pub(crate) fee_sat: u64,
    /// What was paid on the lost ones.
    pub(crate) lost_sat: u64,
}

impl World {
    /// Stops the gateway, and compares its record with the chain, to the satoshi: what each channel
    /// has paid, what each client got back, and what stands in the gateway's wallet.
    pub(crate) async fn audit(&mut self) -> Audit {
        assert!(self.gateway.terminate());
        let fingerprint = self.keyring().fingerprint();
        let mut store = SqliteStore::open(&self.file("farebox.sqlite"), &fingerprint).unwrap();
        let mut audit = Audit::default();
        let mut settlements = BTreeMap::<Txid, (Transaction, u64)>::new();
        for channel in store.load().unwrap().channels {
            let Channel::Ended(ended) = &channel else { continue };
            let (contract, mined) = (channel.contract(), ended.mined);
            let paid = ended.account.payment.paid();
            if mined.by != Spender::Settlement {
                audit.lost += 1;
                audit.lost_sat += channel.lost().get();
                continue;
            }
            assert_eq!(mined.settled, paid, "a newer payment is on record than was settled");
            let (transaction, paid_sat) = match settlements.entry(mined.txid) {
                Entry::Occupied(entry) => entry.into_mut(),
                Entry::Vacant(entry) => {
                    entry.insert((self.node.mined(mined.txid).await.unwrap(), 0))
                }
            };
            let spends = |it: &bitcoin::TxIn| it.previous_output == contract.outpoint;
            let index = transaction.input.iter().position(spends).unwrap();
            let change = contract.capacity.checked_sub(paid).unwrap();
            if change > Sat::ZERO {
                assert_eq!(transaction.output[index].value, change.to_amount());
                let script = &transaction.output[index].script_pubkey;
                assert_eq!(script, contract.payout.script());
            }
            audit.settled += 1;
            audit.paid_sat += paid.get();
            *paid_sat += paid.get();
            let Some(settlement) = &ended.settlement else { panic!("{ended:?}") };
            let Settlement { transaction: built, .. } = settlement.as_ref();
            assert_eq!(built, transaction, "another settlement is on record than was mined");
        }
        let mut shares = Amount::ZERO;
        audit.transactions = settlements.len();
        for (txid, (transaction, paid_sat)) in settlements {
            let (share, fee) = self.share_of(&transaction).await;
            assert_eq!(share.to_sat() + fee, paid_sat, "{txid} does not add up");
            audit.fee_sat += fee;
            shares += share;
        }
        let wallet = self.node.node(Some("gateway"));
        let balance: f64 = wallet.call("getbalance", json!([])).await.unwrap();
        assert_eq!(Amount::from_btc(balance).unwrap(), shares, "what is in the gateway's wallet");
        audit
    }

    /// Returns what a settlement has given the gateway's wallet, and its fee.
    async fn share_of(&self, transaction: &Transaction) -> (Amount, u64) {
        let wallet = self.node.node(Some("gateway"));
        let mut share = Amount::ZERO;
        let mut given = 0;
        for output in &transaction.output {
            let address =
                bitcoin::Address::from_script(&output.script_pubkey, bitcoin::Network::Regtest);
            let address = json!([address.unwrap().to_string()]);
            let info: Value = wallet.call("getaddressinfo", address).await.unwrap();
            if info["ismine"] == true {
                share += output.value;
            }
            given += output.value.to_sat();
        }
        // Every contract of these tests holds the same.
        let locked = CAPACITY_SAT * u64::try_from(transaction.input.len()).unwrap();
        (share, locked - given)
    }
}
