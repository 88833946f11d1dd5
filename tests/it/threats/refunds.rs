//! Refunds without the gateway, and without this program.

use bitcoin::consensus::encode::deserialize_hex;
use bitcoin::{Amount, NetworkKind, PrivateKey, Transaction};
use farebox_chain::{Chain, Joined, Wallet};
use farebox_channel::Kind;
use farebox_client::{
    ChannelFile, OutsideWallet, OwnWallet, Passphrase, PayingClient, Policy, Words,
};
use serde_json::{Value, json};

use super::liar::Fate;
use super::scene::{Scene, locked};
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

/// Takes back what has expired with the coins of a wallet.
async fn refund_with(wallet: impl Wallet, scene: &Scene, file: &ChannelFile) {
    let node = Joined { chain: scene.world.node.node(None), wallet };
    let client = PayingClient::new(node, file.clone(), Policy::new(Kind::Cltv)).unwrap();
    assert_eq!(client.refund_due().await.unwrap(), []);
}

#[tokio::test]
async fn coins_that_a_wallet_keeps_for_a_contract_are_given_up_by_no_other_one() {
    let mut scene = Scene::set().await;
    let client = scene.client(Kind::Refund);
    scene.liar.lie(|step, _| if step == "refund" { Fate::Lose } else { Fate::Pass });
    scene.get(&client).await.unwrap_err();
    let records = client.file().channels().unwrap();
    assert_eq!((records.len(), locked(&scene.world).await), (1, 1));
    let expiry = u64::from(records[0].contract().terms.expiry.get());
    set_median_time_past(&scene.world.node, expiry + 1).await;
    let (file, node) = (client.file(), &scene.world.node);

    let address = scene.world.wallet().fresh_address().await.unwrap();
    let network = bitcoin::Network::Regtest;
    let outside = OutsideWallet::by_address(network, address, |_| {});
    refund_with(outside, &scene, file).await;
    refund_with(node.node(Some("gateway")), &scene, file).await;
    let (chain, words) = (node.node(None), Words::random().unwrap());
    let passphrase = Passphrase::new("right");
    OwnWallet::create(chain.clone(), file.clone(), words, passphrase, None).await.unwrap();
    let own = OwnWallet::open(chain, file.clone(), || Ok(Passphrase::new("right"))).unwrap();
    refund_with(own, &scene, file).await;

    assert_eq!((file.channels().unwrap(), locked(&scene.world).await), (records, 1));
    refund_with(scene.world.wallet(), &scene, file).await;
    scene.nothing_moved(&client, "the wallet that keeps them has given them up").await;
}
