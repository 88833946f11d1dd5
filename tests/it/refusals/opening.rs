//! What is refused before a channel is open.

use bitcoin::absolute::LockTime;
use bitcoin::{Amount, FeeRate, OutPoint, Transaction, Txid};
use farebox_chain::{Chain, Wallet};
use farebox_channel::client::{Draft, Held};
use farebox_channel::message::{
    ContractRequest, OpenRequest, RefundReply, RefundRequest, StateName, WatchRequest,
};
use farebox_channel::wire::Field;
use farebox_channel::{Expiry, Kind, Payment, Sat, Seconds};
use secp256k1::{SECP256K1, SecretKey};
use serde_json::{Value, json};

use super::{refusal, sat, stranger};
use crate::support::{Buyer, CAPACITY_SAT, FIRST_SAT, World, header, wall};

#[tokio::test]
async fn terms_outside_the_offer_are_refused() {
    let world =
        World::start_with(|config| config.replace("[offer]", "[offer]\nkinds = [\"cltv\"]")).await;
    let buyer = world.buyer();
    let (_, good) = buyer.wish(Kind::Cltv).await;
    let cases = [
        (OpenRequest { kind: Kind::Refund, ..good }, "kind-not-offered"),
        (OpenRequest { capacity: sat(1), ..good }, "capacity-out-of-bounds"),
        (OpenRequest { capacity: Sat::MAX, ..good }, "capacity-out-of-bounds"),
        (OpenRequest { lifetime: Seconds::new(60), ..good }, "expiry-out-of-bounds"),
        (OpenRequest { lifetime: Seconds::new(u32::MAX), ..good }, "expiry-out-of-bounds"),
    ];
    for (request, kind) in cases {
        let answer = buyer.step(&request).await;
        assert_eq!(answer.refusal(), refusal(402, kind));
    }
}

#[tokio::test]
async fn a_refund_or_watch_with_an_expiry_out_of_bounds_is_refused() {
    let world = World::start().await;
    let buyer = world.buyer();
    let draft = buyer.draft(&world, Kind::Refund).await;
    let good = RefundRequest {
        outpoint: OutPoint { txid: "11".repeat(32).parse().unwrap(), vout: 0 },
        capacity: draft.capacity,
        client_key: draft.terms.client_key,
        expiry: draft.terms.expiry,
    };
    assert_eq!(buyer.step(&good).await.status, 200);

    let now = wall().get();
    for (expiry, is_too_far) in
        [(now - 1, false), (now + 3_600, false), (now + 400 * 24 * 3_600, true)]
    {
        let expiry = Expiry::new(expiry).unwrap();
        // A client that has lost its refund may have it signed again until the end.
        let refund = buyer.step(&RefundRequest { expiry, ..good }).await;
        assert_eq!(refund.status, if is_too_far { 402 } else { 200 });
        if is_too_far {
            assert_eq!(refund.refusal(), refusal(402, "expiry-out-of-bounds"));
        }
        let watch = buyer.step(&WatchRequest { client_key: good.client_key, expiry }).await;
        assert_eq!(watch.refusal(), refusal(402, "expiry-out-of-bounds"));
    }
    // A height is no time.
    let height =
        ("payment-channel-refund", good.encode().replace(&good.expiry.get().to_string(), "800000"));
    let answer = buyer.send("/.well-known/payment-channel", &[height]).await;
    assert_eq!(answer.refusal(), refusal(400, "malformed"));
}

/// Shows a contract after a change, and returns the refusal.
async fn shown_otherwise(
    buyer: &Buyer,
    held: &Held,
    change: impl FnOnce(&mut ContractRequest),
) -> (u16, String) {
    let mut shown = held.show(&buyer.key).unwrap();
    change(&mut shown);
    buyer.step(&shown).await.refusal()
}

#[tokio::test]
async fn a_contract_of_another_script_or_value_is_refused() {
    let world = World::start().await;
    let buyer = world.buyer();
    let held = buyer.held(&world, Kind::Cltv).await;
    let contract = held.refund.contract().clone();
    let resign = |contract: &farebox_channel::Contract, key: &SecretKey| {
        Payment::sign(contract, sat(FIRST_SAT), key).unwrap()
    };

    // Another key than the one that the script was made for.
    let other_key = shown_otherwise(&buyer, &held, |shown| {
        shown.client_key = stranger().public_key(SECP256K1);
    });
    assert_eq!(other_key.await, refusal(402, "contract-mismatch"));
    // Another expiry.
    let other_expiry = shown_otherwise(&buyer, &held, |shown| {
        shown.expiry = Expiry::new(u64::from(shown.expiry.get()) + 1).unwrap();
    });
    assert_eq!(other_expiry.await, refusal(402, "contract-mismatch"));
    // The other kind.
    let other_kind = shown_otherwise(&buyer, &held, |shown| shown.kind = Kind::Refund);
    assert_eq!(other_kind.await, refusal(402, "contract-mismatch"));
    // Another output of the same transaction.
    let change = shown_otherwise(&buyer, &held, |shown| shown.outpoint.vout = 1);
    assert_eq!(change.await, refusal(402, "contract-mismatch"));
    let nothing = shown_otherwise(&buyer, &held, |shown| shown.outpoint.vout = 7);
    assert_eq!(nothing.await, refusal(402, "contract-mismatch"));
    // Another transaction.
    let other = shown_otherwise(&buyer, &held, |shown| {
        shown.outpoint.txid = "11".repeat(32).parse().unwrap();
    });
    assert_eq!(other.await, refusal(402, "contract-mismatch"));
    // More than the output holds, with a payment that says so too.
    let more = shown_otherwise(&buyer, &held, |shown| {
        let mut claimed = contract.clone();
        claimed.capacity = sat(CAPACITY_SAT + 1);
        shown.capacity = claimed.capacity;
        shown.payment = resign(&claimed, &buyer.key);
    });
    assert_eq!(more.await, refusal(402, "contract-mismatch"));
    assert!(world.node.node(None).mempool().await.unwrap().is_empty(), "nothing was broadcast");
}

#[tokio::test]
async fn a_first_payment_that_is_wrong_or_too_small_is_refused() {
    let world = World::start().await;
    let buyer = world.buyer();
    let held = buyer.held(&world, Kind::Refund).await;
    let contract = held.refund.contract().clone();
    let sign = |paid, key: &SecretKey| Payment::sign(&contract, sat(paid), key).unwrap();

    let small = shown_otherwise(&buyer, &held, |shown| {
        shown.payment = sign(FIRST_SAT - 1, &buyer.key);
    });
    assert_eq!(small.await, refusal(402, "first-payment"));
    let forged = shown_otherwise(&buyer, &held, |shown| {
        shown.payment = sign(FIRST_SAT, &stranger());
    });
    assert_eq!(forged.await, refusal(402, "signature-invalid"));
    assert!(world.node.node(None).mempool().await.unwrap().is_empty(), "nothing was broadcast");
}

/// Builds a contract transaction with a lock time.
async fn contract_at(world: &World, draft: &Draft, lock_time: u32) -> Transaction {
    let wallet = world.wallet();
    let script = draft.terms.script_pubkey();
    let rate = FeeRate::from_sat_per_vb_u32(2);
    let mut contract = wallet.fund(script, draft.capacity.get(), rate).await.unwrap();
    contract.lock_time = LockTime::from_consensus(lock_time);
    let hex = bitcoin::consensus::encode::serialize_hex(&contract);
    let signed: Value = wallet.call("signrawtransactionwithwallet", json!([hex])).await.unwrap();
    bitcoin::consensus::encode::deserialize_hex(signed["hex"].as_str().unwrap()).unwrap()
}

#[tokio::test]
async fn a_contract_that_may_not_be_mined_yet_is_refused() {
    let world = World::start().await;
    let buyer = world.buyer();
    let height = world.node.node(None).tip().await.unwrap().height;
    for lock_time in [height + 1, u32::try_from(wall().get()).unwrap() + 3_600] {
        let draft = buyer.draft(&world, Kind::Cltv).await;
        let contract = contract_at(&world, &draft, lock_time).await;
        let held = buyer.hold(&world, draft, contract).await;
        let answer = shown_otherwise(&buyer, &held, |_| {}).await;
        assert_eq!(answer, refusal(402, "contract-not-final"));
    }
    let draft = buyer.draft(&world, Kind::Cltv).await;
    let contract = contract_at(&world, &draft, height).await;
    let held = buyer.hold(&world, draft, contract).await;
    assert_eq!(buyer.step(&held.show(&buyer.key).unwrap()).await.status, 200);
}

#[tokio::test]
async fn a_refund_contract_that_spends_legacy_coins_is_refused() {
    let world = World::start().await;
    let wallet = world.wallet();
    let legacy: String = wallet.call("getnewaddress", json!(["", "legacy"])).await.unwrap();
    let _txid: Txid = wallet.call("sendtoaddress", json!([legacy, 1])).await.unwrap();
    world.mine(1).await;
    let coins: Vec<Value> =
        wallet.call("listunspent", json!([1, 9_999_999, [legacy]])).await.unwrap();
    let buyer = world.buyer();
    let draft = buyer.draft(&world, Kind::Refund).await;
    let address = draft.terms.address().to_string();
    let value = Amount::from_sat(CAPACITY_SAT).to_btc();
    let coin = json!({ "txid": coins[0]["txid"], "vout": coins[0]["vout"] });
    let raw: String =
        wallet.call("createrawtransaction", json!([[coin], { address: value }])).await.unwrap();
    let options = json!({ "changePosition": 1, "add_inputs": false });
    let funded: Value = wallet.call("fundrawtransaction", json!([raw, options])).await.unwrap();
    let signed: Value =
        wallet.call("signrawtransactionwithwallet", json!([funded["hex"]])).await.unwrap();
    let hex = signed["hex"].as_str().unwrap();
    let contract: Transaction = bitcoin::consensus::encode::deserialize_hex(hex).unwrap();
    assert!(!contract.input[0].script_sig.is_empty());

    let outpoint = OutPoint { txid: contract.compute_txid(), vout: 0 };
    let payout = wallet.fresh_address().await.unwrap();
    let claimed = farebox_channel::Contract {
        terms: draft.terms,
        outpoint,
        capacity: draft.capacity,
        payout: farebox_channel::Payout::try_from(&payout).unwrap(),
    };
    let shown = ContractRequest {
        outpoint,
        transaction: Some(contract),
        capacity: draft.capacity,
        kind: Kind::Refund,
        client_key: draft.terms.client_key,
        expiry: draft.terms.expiry,
        payout: claimed.payout.clone(),
        payment: Payment::sign(&claimed, sat(FIRST_SAT), &buyer.key).unwrap(),
    };

    assert_eq!(buyer.step(&shown).await.refusal(), refusal(402, "contract-not-segwit"));
    // Once it is in a block its id is settled, and it is taken by its outpoint.
    let _sent: Txid = wallet.call("sendrawtransaction", json!([hex])).await.unwrap();
    world.mine(1).await;
    let by_outpoint = ContractRequest { transaction: None, ..shown };
    buyer.until_state(&by_outpoint, StateName::Open).await;
}

#[tokio::test]
async fn a_contract_that_is_double_spent_is_refused() {
    let world = World::start().await;
    let buyer = world.buyer();
    let held = buyer.held(&world, Kind::Refund).await;
    let contract = held.transaction.clone().unwrap();
    // The same coins go back to the wallet instead.
    let wallet = world.wallet();
    let coin = contract.input[0].previous_output;
    let back = wallet.fresh_address().await.unwrap().to_string();
    let inputs = json!([{ "txid": coin.txid, "vout": coin.vout }]);
    let raw: String =
        wallet.call("createrawtransaction", json!([inputs, { back: 1.0 }])).await.unwrap();
    let options = json!({ "add_inputs": false });
    let funded: Value = wallet.call("fundrawtransaction", json!([raw, options])).await.unwrap();
    let signed: Value =
        wallet.call("signrawtransactionwithwallet", json!([funded["hex"]])).await.unwrap();
    let _sent: Txid = wallet.call("sendrawtransaction", json!([signed["hex"]])).await.unwrap();
    world.mine(1).await;

    let shown = held.show(&buyer.key).unwrap();
    assert_eq!(buyer.step(&shown).await.refusal(), refusal(402, "contract-spent"));
    let by_outpoint = ContractRequest { transaction: None, ..shown };
    assert_eq!(buyer.step(&by_outpoint).await.refusal(), refusal(402, "contract-spent"));
}

#[tokio::test]
async fn a_channel_shown_again_with_another_payout_is_refused() {
    let world = World::start().await;
    let buyer = world.buyer_with_channel(Kind::Cltv).await;
    let mut shown = buyer.shown.clone().unwrap();
    let elsewhere = world.wallet().fresh_address().await.unwrap();
    shown.payout = farebox_channel::Payout::try_from(&elsewhere).unwrap();

    // Only whoever holds the channel's key learns that it is on record at all.
    let contract = farebox_channel::Contract {
        payout: shown.payout.clone(),
        ..buyer.purse().contract().clone()
    };
    shown.payment = Payment::sign(&contract, sat(FIRST_SAT), &buyer.key).unwrap();
    let own = buyer.step(&shown).await;
    shown.payment = Payment::sign(&contract, sat(FIRST_SAT), &stranger()).unwrap();
    let strangers = buyer.step(&shown).await;

    assert_eq!(own.refusal(), refusal(402, "contract-mismatch"));
    assert_eq!(strangers.refusal(), refusal(402, "signature-invalid"));
}

#[tokio::test]
async fn a_step_on_a_priced_url_is_done_and_the_request_is_still_to_be_paid() {
    let world = World::start().await;
    let buyer = world.buyer();
    let draft = buyer.draft(&world, Kind::Refund).await;
    let request = RefundRequest {
        outpoint: OutPoint { txid: "11".repeat(32).parse().unwrap(), vout: 0 },
        capacity: draft.capacity,
        client_key: draft.terms.client_key,
        expiry: draft.terms.expiry,
    };

    let answer = buyer.send("/paid/x", &[header(&request)]).await;

    assert_eq!(answer.refusal(), refusal(402, "payment-required"));
    let _signed: RefundReply = answer.message();
    assert!(answer.headers.contains_key("payment-channel-offer"));
    assert_eq!(world.api.hits(), 0);
}
