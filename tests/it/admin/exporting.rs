//! Settlements that others broadcast.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use bitcoin::consensus::encode::deserialize_hex;
use bitcoin::{OutPoint, Transaction};
use farebox_channel::Kind;
use farebox_channel::message::StateName;
use serde_json::{Value, json};

use super::{paid_to, pay_dear};
use crate::support::{Buyer, CAPACITY_SAT, FIRST_SAT, Operator, World};

/// Calls the node as a standby does that has nothing else.
async fn call(world: &World, method: &'static str, arguments: Value) -> Value {
    world.node.node(None).call(method, arguments).await.unwrap()
}

/// Broadcasts the settlement of a channel that has the middle fee rate, and mines it.
async fn settle_as_a_standby(
    world: &World,
    exported: &Value,
    channel: OutPoint,
) -> (Value, Transaction) {
    let exported = exported.as_array().unwrap().iter();
    let settlements: Vec<&Value> =
        exported.filter(|it| it["channel"] == channel.to_string()).collect();
    let rates: Vec<u64> =
        settlements.iter().map(|it| it["fee_rate_sat_per_vb"].as_u64().unwrap()).collect();
    assert_eq!(rates, [2, 10, 50]);
    for it in &settlements {
        let judged = call(world, "testmempoolaccept", json!([[it["transaction"]]])).await;
        assert_eq!(judged[0]["allowed"], true, "{judged}");
    }
    let middle = settlements[1];
    let txid = call(world, "sendrawtransaction", json!([middle["transaction"]])).await;
    assert_eq!(txid, middle["txid"]);
    world.node.mine(1).await.unwrap();
    let mined = world.node.mined(txid.as_str().unwrap().parse().unwrap()).await.unwrap();
    let hex = middle["transaction"].as_str().unwrap();
    assert_eq!(mined, deserialize_hex::<Transaction>(hex).unwrap());
    (middle.clone(), mined)
}

/// Checks to the satoshi who gets what of a settlement at 10 sat/vB.
async fn check_amounts(world: &World, buyer: &Buyer, told: &Value, mined: &Transaction) {
    let (contract, paid_sat) = (buyer.purse().contract(), buyer.purse().payment.paid.get());
    assert_eq!(mined.input.len(), 1);
    assert_eq!(told["paid_sat"], paid_sat);
    assert_eq!(told["expiry"], contract.terms.expiry.get());
    let sat = |name: &str| told[name].as_u64().unwrap();
    assert_eq!(sat("fee_sat") + sat("share_sat"), paid_sat);
    let vsize = u64::try_from(mined.vsize()).unwrap();
    // A signature may be a byte shorter than it was taken to be.
    assert!((vsize * 10..vsize * 10 + 30).contains(&sat("fee_sat")), "{told} for {vsize} vB");
    assert_eq!(paid_to(mined, contract.payout.script()), CAPACITY_SAT - paid_sat);
    let own = mined.output.last().unwrap();
    assert_eq!(own.value.to_sat(), sat("share_sat"));
    let address = bitcoin::Address::from_script(&own.script_pubkey, contract.terms.network);
    let wallet = world.node.node(Some("gateway"));
    let arguments = json!([address.unwrap().to_string()]);
    let info: Value = wallet.call("getaddressinfo", arguments).await.unwrap();
    assert_eq!(info["ismine"], true);
}

#[tokio::test]
async fn exported_settlements_settle_without_the_gateway() {
    let mut world = World::start().await;
    let operator = Operator::of(&world);
    let mut buyers = Vec::new();
    for kind in [Kind::Cltv, Kind::Refund] {
        let mut buyer = world.buyer_with_channel(kind).await;
        pay_dear(&mut buyer, 3).await;
        buyers.push(buyer);
    }
    let before = operator.json(&["channels", "--json"]).await["channels"].clone();

    let file = world.file("settlements.json");
    let words = operator.ok(&["export-settlements", "-o", file.to_str().unwrap()]).await;

    assert_eq!(words, format!("6 settlements in {}, 0 not worth their fee\n", file.display()));
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    let after = operator.json(&["channels", "--json"]).await["channels"].clone();
    for (before, after) in before.as_array().unwrap().iter().zip(after.as_array().unwrap()) {
        for name in ["channel", "state", "paid_sat", "spent_msat", "settlement_txid"] {
            assert_eq!(before[name], after[name]);
        }
    }
    // The gateway is gone, and its keys with it.
    world.gateway.kill();
    let exported: Value = serde_json::from_str(&fs::read_to_string(&file).unwrap()).unwrap();
    for buyer in &buyers {
        let (middle, mined) = settle_as_a_standby(&world, &exported, buyer.channel()).await;
        check_amounts(&world, buyer, &middle, &mined).await;
    }

    // The gateway is back, and sees what was done in its place.
    world.node.mine(6).await.unwrap();
    world.gateway.restart();
    for buyer in &buyers {
        buyer.until_state(buyer.shown.as_ref().unwrap(), StateName::Settled).await;
    }
    assert_eq!(operator.json(&["export-settlements"]).await, json!([]));
}

#[tokio::test]
async fn a_settlement_that_is_not_worth_its_fee_is_exported_with_the_reason() {
    let world = World::start().await;
    let operator = Operator::of(&world);
    let buyer = world.buyer_with_channel(Kind::Cltv).await;
    let mut pending = world.buyer();
    pending.show(&world, Kind::Cltv).await;

    let rates = ["--fee-rate", "50", "--fee-rate", "2", "--fee-rate", "50"];
    let told = operator.json(&[&["export-settlements"][..], &rates].concat()).await;

    assert_eq!(told.as_array().unwrap().len(), 2, "each rate once, and no pending channel");
    assert_eq!(told[0]["channel"], buyer.channel().to_string());
    assert!(told[0]["transaction"].is_string(), "{told}");
    let dear = &told[1];
    assert_eq!((&dear["fee_rate_sat_per_vb"], &dear["paid_sat"]), (&json!(50), &json!(FIRST_SAT)));
    assert!(dear.get("transaction").is_none() && dear.get("fee_sat").is_none(), "{dear}");
    assert!(dear["reason"].as_str().unwrap().contains("leaves nothing"), "{dear}");
}

#[tokio::test]
async fn a_closing_channel_is_exported_until_its_contract_is_spent() {
    let world = World::start().await;
    let operator = Operator::of(&world);
    let buyer = world.buyer_with_channel(Kind::Refund).await;
    let closing = buyer.close().await;

    let told = operator.json(&["export-settlements", "--fee-rate", "2"]).await;
    assert_eq!(told[0]["channel"], buyer.channel().to_string());
    assert_eq!(told[0]["paid_sat"], closing.paid.get());

    world.mine_until_mined(closing.settlement.unwrap()).await;
    let told = operator.json(&["channels", "--json"]).await;
    assert_eq!(told["channels"][0]["state"], "closing", "one confirmation is not deep");
    assert_eq!(told["total"]["at_stake_sat"], closing.paid.get());
    assert_eq!(operator.json(&["export-settlements"]).await, json!([]));
}
