//! Refunds without the gateway, and without this program.

use bitcoin::consensus::encode::deserialize_hex;
use bitcoin::{Amount, NetworkKind, PrivateKey, Transaction};
use farebox_chain::{Chain, Wallet};
use farebox_channel::Kind;
use serde_json::{Value, json};

use crate::chain::{expiry, refund, verdict};
use crate::support::{CAPACITY_SAT, World, set_median_time_past};

#[tokio::test]
async fn a_refund_waits_for_the_median_time_past_and_not_for_the_clock() {
    for kind in Kind::ALL {
        let mut world = World::start().await;
        let buyer = world.buyer_with_channel(kind).await;
        let refund = refund(&world, &buyer).await;
        world.gateway.kill();
        let node = world.node.node(None);

        // The clock is an hour beyond T, but only five of eleven blocks know it.
        let an_hour_later = expiry(&buyer) + 3_600;
        let _none: Value = node.call("setmocktime", json!([an_hour_later])).await.unwrap();
        world.node.mine(5).await.unwrap();
        assert!(node.tip().await.unwrap().median_time_past < expiry(&buyer));
        assert_eq!(verdict(&world.node, &refund).await, Err("non-final".to_owned()));

        world.node.mine(1).await.unwrap();
        assert_eq!(node.tip().await.unwrap().median_time_past, an_hour_later);
        assert_eq!(verdict(&world.node, &refund).await, Ok(()), "{kind}");
    }
}

#[tokio::test]
async fn bitcoind_alone_refunds_a_cltv_channel_from_its_descriptor() {
    let mut world = World::start().await;
    let buyer = world.buyer_with_channel(Kind::Cltv).await;
    world.gateway.kill();
    let node = world.node.node(None);
    let (terms, outpoint) = (buyer.purse().contract().terms, buyer.channel());
    let key = PrivateKey::new(buyer.key, NetworkKind::Test);
    let (s, t) = (terms.gateway_key, terms.expiry.get());
    let descriptor = format!("wsh(and_v(or_c(pk({s}),v:after({t})),pk({key})))");

    let told: Value = node.call("getdescriptorinfo", json!([descriptor])).await.unwrap();
    let checked = format!("{descriptor}#{}", told["checksum"].as_str().unwrap());
    let _made: Value = node.call("createwallet", json!(["rescue", false, true])).await.unwrap();
    let rescue = world.node.node(Some("rescue"));
    let import = json!([[{ "desc": checked, "timestamp": 0 }]]);
    let imported: Value = rescue.call("importdescriptors", import).await.unwrap();
    assert_eq!(imported[0]["success"], true, "{imported}");
    set_median_time_past(&world.node, expiry(&buyer) + 1).await;
    let input = json!([{
        "txid": outpoint.txid, "vout": outpoint.vout, "sequence": 0xffff_fffd_u32
    }]);
    let back = world.wallet().fresh_address().await.unwrap();
    let value = Amount::from_sat(CAPACITY_SAT - 1_000);
    let output = json!([{ back.to_string(): value.to_btc() }]);
    let psbt: String = rescue.call("createpsbt", json!([input, output, t])).await.unwrap();
    let signed: Value = rescue.call("walletprocesspsbt", json!([psbt])).await.unwrap();
    assert_eq!(signed["complete"], true, "{signed}");
    let refund: Transaction = deserialize_hex(signed["hex"].as_str().unwrap()).unwrap();
    node.broadcast(refund.clone()).await.unwrap();
    world.node.mine(1).await.unwrap();

    let mined = world.node.mined(refund.compute_txid()).await.unwrap();
    assert_eq!(mined.output[0].value, value);
    assert_eq!(mined.output[0].script_pubkey, back.script_pubkey());
}
