//! What channels do on the chain: refunds, settlements, reorgs, sightings.

use bitcoin::consensus::encode::serialize_hex;
use bitcoin::{
    Address, Amount, CompressedPublicKey, FeeRate, Network, OutPoint, Transaction, Txid,
};
use farebox::regtest::Regtest;
use farebox_chain::{Chain, Wallet};
use farebox_channel::message::{
    ContractRequest, PayRequest, StateName, StateReply, WatchReply, WatchRequest,
};
use farebox_channel::{Fee, Kind, Member, Msat, Payment, Payout, Sat, Settlement};
use secp256k1::{SECP256K1, SecretKey};
use serde_json::{Value, json};

use crate::support::{Buyer, FIRST_SAT, PRICE_MSAT, World, header, set_median_time_past, until};

/// Half a day, and the ten hours before an expiry at which a settlement goes out.
const STOP_SECS: u64 = 12 * 60 * 60;
const SETTLE_SECS: u64 = 10 * 60 * 60;

pub(crate) fn payment(buyer: &Buyer) -> PayRequest {
    let price = Msat::new(PRICE_MSAT).unwrap();
    buyer.purse().pay(price, &buyer.key).unwrap().1
}

pub(crate) fn expiry(buyer: &Buyer) -> u64 {
    u64::from(buyer.purse().contract().terms.expiry.get())
}

/// Returns the signed refund of a buyer's channel, to a fresh address of its wallet.
pub(crate) async fn refund(world: &World, buyer: &Buyer) -> Transaction {
    let address = world.wallet().fresh_address().await.unwrap();
    let payout = Payout::try_from(&address).unwrap();
    let rate = FeeRate::from_sat_per_vb_u32(2);
    buyer.purse().refund.transaction(&payout, rate, &buyer.key).unwrap()
}

/// Tells whether the node would take a transaction, and why not.
pub(crate) async fn verdict(node: &Regtest, transaction: &Transaction) -> Result<(), String> {
    let hex = serialize_hex(transaction);
    let told: Value = node.node(None).call("testmempoolaccept", json!([[hex]])).await.unwrap();
    match told[0]["reject-reason"].as_str() {
        Some(reason) => Err(reason.to_owned()),
        None => Ok(()),
    }
}

async fn a_client_gets_its_money_back_alone_once_the_expiry_has_passed(kind: Kind) {
    let mut world = World::start().await;
    let buyer = world.buyer_with_channel(kind).await;
    let refund = refund(&world, &buyer).await;
    world.gateway.kill();

    set_median_time_past(&world.node, expiry(&buyer)).await;
    assert_eq!(verdict(&world.node, &refund).await, Err("non-final".to_owned()));
    set_median_time_past(&world.node, expiry(&buyer) + 1).await;
    world.node.node(None).broadcast(refund.clone()).await.unwrap();
    world.node.mine(1).await.unwrap();

    let mined = world.node.mined(refund.compute_txid()).await.unwrap();
    assert_eq!(mined, refund);
    // A gateway that comes back too late finds out, and says what it is.
    world.gateway.restart();
    world.mine(6).await;
    let shown = buyer.shown.clone().unwrap();
    buyer.until_state(&shown, StateName::Lost).await;
    let answer = buyer.send("/paid/x", &[header(&payment(&buyer))]).await;
    assert_eq!(answer.refusal(), (410, "channel-ended".to_owned()));
}

#[tokio::test]
async fn the_refund_of_a_refund_channel_needs_no_gateway() {
    a_client_gets_its_money_back_alone_once_the_expiry_has_passed(Kind::Refund).await;
}

#[tokio::test]
async fn the_refund_of_a_cltv_channel_needs_no_gateway() {
    a_client_gets_its_money_back_alone_once_the_expiry_has_passed(Kind::Cltv).await;
}

#[tokio::test]
async fn a_gateways_refund_signature_is_worth_nothing_before_the_expiry() {
    let world = World::start().await;
    let buyer = world.buyer_with_channel(Kind::Refund).await;
    let mut early = refund(&world, &buyer).await;

    assert_eq!(verdict(&world.node, &early).await, Err("non-final".to_owned()));
    // Whatever would make it valid now breaks the gateway's signature.
    for (lock_time, sequence) in
        [(early.lock_time, 0xffff_ffff), (bitcoin::absolute::LockTime::ZERO, 0xffff_fffd)]
    {
        early.lock_time = lock_time;
        early.input[0].sequence = bitcoin::Sequence(sequence);
        let verdict = verdict(&world.node, &early).await.unwrap_err();
        assert!(verdict.contains("script-verify"), "{verdict}");
    }
}

#[tokio::test]
async fn payments_stop_and_the_settlement_goes_out_before_the_expiry() {
    let world = World::start().await;
    let buyer = world.buyer_with_channel(Kind::Cltv).await;
    let shown = buyer.shown.clone().unwrap();

    world.set_median_time_past(expiry(&buyer) - STOP_SECS - 1).await;
    assert_eq!(buyer.send("/paid/x", &[header(&payment(&buyer))]).await.status, 200);
    world.set_median_time_past(expiry(&buyer) - STOP_SECS).await;
    let late = buyer.send("/paid/x", &[header(&payment(&buyer))]).await;
    assert_eq!(late.refusal(), (409, "channel-expiring".to_owned()));
    world.set_median_time_past(expiry(&buyer) - SETTLE_SECS).await;

    let settlement = buyer.until_settlement().await;
    let settlement = world.mine_until_mined(settlement).await;
    world.mine(5).await;
    buyer.until_state(&shown, StateName::Settled).await;
    let change = settlement.output[0].value;
    assert_eq!(change, Amount::from_sat(100_000 - FIRST_SAT));
}

#[tokio::test]
async fn a_contract_that_confirms_too_late_is_never_served() {
    let world = World::start().await;
    let mut buyer = world.buyer();
    let shown = buyer.show(&world, Kind::Cltv).await;
    let node = world.node.node(None);
    let late = expiry(&buyer) - STOP_SECS;
    let _none: Value = node.call("setmocktime", json!([late])).await.unwrap();
    for _ in 0..6 {
        // Blocks without the contract.
        let _hash: Value = node.call("generateblock", json!(["raw(51)", []])).await.unwrap();
    }
    world.until_the_node_is_followed().await;
    buyer.until_state(&shown, StateName::Late).await;

    world.mine(1).await;

    let contract = shown.outpoint.txid;
    assert!(world.node.mined(contract).await.is_ok());
    assert_eq!(buyer.ask::<_, StateReply>(&shown).await.state, StateName::Late);
    let answer = buyer.send("/paid/x", &[header(&payment(&buyer))]).await;
    assert_eq!(answer.refusal(), (409, "channel-late".to_owned()));
}

#[tokio::test]
async fn a_reorg_of_the_contract_stops_the_service_until_it_is_mined_again() {
    let world = World::start().await;
    let buyer = world.buyer_with_channel(Kind::Refund).await;
    let shown = buyer.shown.clone().unwrap();

    world.unmine_tip().await;
    buyer.until_state(&shown, StateName::Pending).await;
    let answer = buyer.send("/paid/x", &[header(&payment(&buyer))]).await;
    assert_eq!(answer.refusal(), (503, "channel-pending".to_owned()));

    world.mine(1).await;
    buyer.until_state(&shown, StateName::Open).await;
    assert_eq!(buyer.send("/paid/x", &[header(&payment(&buyer))]).await.status, 200);
}

#[tokio::test]
async fn a_reorg_of_the_settlement_brings_back_the_watching_and_never_the_service() {
    let world = World::start().await;
    let buyer = world.buyer_with_channel(Kind::Cltv).await;
    let shown = buyer.shown.clone().unwrap();
    let closing = buyer.close().await;
    world.mine(1).await;

    world.unmine_tip().await;
    let answer = buyer.send("/paid/x", &[header(&payment(&buyer))]).await;
    assert_eq!(answer.refusal(), (409, "channel-closing".to_owned()));

    world.mine(6).await;
    buyer.until_state(&shown, StateName::Settled).await;
    assert_eq!(buyer.ask::<_, StateReply>(&shown).await.settlement, closing.settlement);
}

#[tokio::test]
async fn a_cltv_contract_that_any_wallet_has_paid_is_found_by_its_address() {
    let world = World::start().await;
    let buyer = world.buyer();
    let draft = buyer.draft(&world, Kind::Cltv).await;
    let watch = WatchRequest { client_key: draft.terms.client_key, expiry: draft.terms.expiry };
    assert_eq!(buyer.ask::<_, WatchReply>(&watch).await.seen, None);

    let btc = draft.capacity.to_amount().to_btc();
    let address = draft.terms.address().to_string();
    let wallet = world.wallet();
    let _txid: Txid = wallet.call("sendtoaddress", json!([address, btc])).await.unwrap();
    let mut seen = None;
    until("the payment is seen in the mempool", async || {
        seen = buyer.ask::<_, WatchReply>(&watch).await.seen;
        seen.is_some()
    })
    .await;

    let (outpoint, capacity) = seen.unwrap();
    assert_eq!(capacity, draft.capacity);
    let payout = Payout::try_from(&wallet.fresh_address().await.unwrap()).unwrap();
    let contract = farebox_channel::Contract { terms: draft.terms, outpoint, capacity, payout };
    let first = Sat::new(FIRST_SAT).unwrap();
    let shown = ContractRequest {
        outpoint,
        transaction: None,
        capacity,
        kind: Kind::Cltv,
        client_key: draft.terms.client_key,
        expiry: draft.terms.expiry,
        payout: contract.payout.clone(),
        payment: Payment::sign(&contract, first, &buyer.key).unwrap(),
    };
    assert_eq!(buyer.ask::<_, StateReply>(&shown).await.state, StateName::Pending);
    world.mine(1).await;
    buyer.until_state(&shown, StateName::Open).await;
}

#[tokio::test]
async fn a_settlement_follows_the_rules_of_version_three_on_a_node_that_enforces_them() {
    let world = World::start().await;
    let policy = world.node.node(None).relay_policy().await.unwrap();
    assert_eq!(policy.truc.as_deref(), Some("enforce"));
    let buyer = world.buyer_with_channel(Kind::Refund).await;
    let closing = buyer.close().await;
    let settlement = closing.settlement.unwrap();

    // Only one unconfirmed child is allowed, and only of version 3: so nobody can pin it.
    let change = OutPoint { txid: settlement, vout: 0 };
    let back = world.wallet().fresh_address().await.unwrap().to_string();
    let inputs = json!([{ "txid": change.txid, "vout": change.vout }]);
    let outputs = json!([{ back: 0.0009 }]);
    let wallet = world.wallet();
    let raw: String = wallet.call("createrawtransaction", json!([inputs, outputs])).await.unwrap();
    let signed: Value = wallet.call("signrawtransactionwithwallet", json!([raw])).await.unwrap();
    let hex = signed["hex"].as_str().unwrap();
    let child: Transaction = bitcoin::consensus::encode::deserialize_hex(hex).unwrap();
    assert!(verdict(&world.node, &child).await.unwrap_err().contains("truc"));

    world.mine(1).await;
    assert_eq!(world.node.mined(settlement).await.unwrap().version.0, 3);
}

#[tokio::test]
async fn channels_of_both_kinds_can_be_settled_together_also_exhausted_ones() {
    let mut world = World::start().await;
    let mut members = Vec::new();
    for (kind, paid) in [
        (Kind::Refund, 100_000),
        (Kind::Cltv, 5_000),
        (Kind::Cltv, 100_000),
        (Kind::Refund, 99_706),
    ] {
        let buyer = world.buyer_with_channel(kind).await;
        let contract = buyer.purse().contract().clone();
        let payment = Payment::sign(&contract, Sat::new(paid).unwrap(), &buyer.key).unwrap();
        let payment = payment.verify(&contract).unwrap();
        members.push((contract, payment));
    }
    let keyring = world.keyring();
    world.gateway.kill();
    let members: Vec<_> =
        members.iter().map(|(contract, payment)| Member { contract, payment }).collect();
    let payout = Payout::try_from(&world.wallet().fresh_address().await.unwrap()).unwrap();
    let rate = FeeRate::from_sat_per_vb_u32(1);

    let settlement = Settlement::build(&members, &keyring, &payout, Fee::at(rate)).unwrap();
    let node = world.node.node(None);
    node.broadcast(settlement.transaction.clone()).await.unwrap();
    world.node.mine(1).await.unwrap();

    let mined = world.node.mined(settlement.transaction.compute_txid()).await.unwrap();
    assert_eq!((mined.input.len(), mined.output.len()), (4, 3));
    let share = Amount::from_sat(304_706) - settlement.fee.to_amount();
    assert_eq!(mined.output[2].value, share);
}

#[tokio::test]
async fn the_gateways_share_goes_to_the_address_of_its_configuration() {
    let key = SecretKey::from_slice(&[5; 32]).unwrap().public_key(SECP256K1);
    let address = Address::p2wpkh(&CompressedPublicKey(key), Network::Regtest);
    let world = World::start_with(|config| {
        let payout = format!("[payout]\naddress = \"{address}\"\n\n[upstream]");
        config.replace("wallet = \"gateway\"\n", "").replace("[upstream]", &payout)
    })
    .await;
    let mut buyer = world.buyer_with_channel(Kind::Refund).await;
    let dear = Msat::new(5_000_000).unwrap();
    let (purse, request) = buyer.purse().pay(dear, &buyer.key).unwrap();
    buyer.purse = Some(purse);
    assert_eq!(buyer.send("/dear/x", &[header(&request)]).await.status, 200);

    let closing = buyer.close().await;

    let settlement = world.mine_until_mined(closing.settlement.unwrap()).await;
    assert_eq!(settlement.output[1].script_pubkey, address.script_pubkey());
    let fee = 5_000 - settlement.output[1].value.to_sat();
    assert!((336..=340).contains(&fee), "2 sat/vB for 168 vB, and not {fee} sat");
}
