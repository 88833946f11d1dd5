//! Coins that come back without the gateway: by the program, or by a node and a file.

use std::time::Duration;

use bitcoin::consensus::encode::deserialize_hex;
use bitcoin::{OutPoint, Transaction, Txid};
use farebox_chain::{Access, Bitcoind, Chain};
use farebox_channel::Kind;
use farebox_client::{ChannelFile, PayingClient, Policy, Record};
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::program::{client, run, text};
use crate::support::{World, set_median_time_past, until};

/// A world without its gateway, whose client has a channel that has paid.
async fn deserted(kind: Kind) -> (World, PayingClient<Bitcoind>, Record) {
    let mut world = World::start().await;
    let mining = world.keep_mining();
    let client = world.paying_client(kind);
    assert_eq!(client.get(world.gateway.url("/paid/x")).await.unwrap().status(), 200);
    drop(mining);
    world.gateway.kill();
    let record = client.file().channels().unwrap().remove(0);
    (world, client, record)
}

/// Moves the median time past so far beyond the expiry.
async fn expire(world: &World, record: &Record, seconds: u64) {
    let expiry = u64::from(record.contract().terms.expiry.get());
    set_median_time_past(&world.node, expiry + seconds).await;
}

/// Does the same with blocks that take nothing from the mempool.
async fn wait_in_vain(world: &World, record: &Record, seconds: u64) {
    let node = world.node.node(None);
    let time = u64::from(record.contract().terms.expiry.get()) + seconds;
    let _none: Value = node.call("setmocktime", json!([time])).await.unwrap();
    for _ in 0..6 {
        let _hash: Value = node.call("generateblock", json!(["raw(51)", []])).await.unwrap();
    }
}

async fn spender(world: &World, contract: OutPoint) -> Option<Txid> {
    world.node.node(None).spenders(vec![contract]).await.unwrap().remove(0)
}

/// The whole contract less a fee has come back to the client.
async fn is_mined(world: &World, record: &Record, txid: Txid) {
    world.node.mine(1).await.unwrap();
    let mined = world.node.mined(txid).await.unwrap();
    assert_eq!(mined.input[0].previous_output, record.outpoint());
    assert_eq!(mined.output.len(), 1);
    assert_eq!(mined.output[0].script_pubkey, *record.contract().payout.script());
}

#[tokio::test]
async fn a_refund_is_broadcast_by_itself_once_the_median_time_past_allows_it() {
    for kind in Kind::ALL {
        let (world, client, record) = deserted(kind).await;

        expire(&world, &record, 0).await;
        assert_eq!(client.refund_due().await.unwrap(), [], "at T itself it is not final");
        expire(&world, &record, 1).await;
        let refunds = client.refund_due().await.unwrap();

        assert_eq!(refunds.len(), 1, "{kind}");
        assert_eq!(spender(&world, record.outpoint()).await, Some(refunds[0].txid));
        is_mined(&world, &record, refunds[0].txid).await;
        assert_eq!(client.refund_due().await.unwrap(), [], "it is back");
    }
}

#[tokio::test]
async fn a_refund_that_is_not_mined_is_replaced_by_a_dearer_one_and_not_more_often() {
    let (world, client, record) = deserted(Kind::Refund).await;
    expire(&world, &record, 1).await;
    let first = client.refund_due().await.unwrap()[0];
    assert_eq!(client.refund_due().await.unwrap(), [first], "nothing has changed");

    wait_in_vain(&world, &record, 600).await;
    let second = client.refund_due().await.unwrap()[0];

    assert!(second.fee * 2 >= first.fee * 3, "{first:?} {second:?}");
    assert_eq!(spender(&world, record.outpoint()).await, Some(second.txid));
    let mut last = second;
    for hours in 1..20 {
        wait_in_vain(&world, &record, hours * 3_600).await;
        last = client.refund_due().await.unwrap()[0];
    }
    let capacity = record.contract().capacity.to_amount();
    assert!(last.fee > second.fee && last.fee <= capacity / 2, "{last:?}");
    is_mined(&world, &record, last.txid).await;
}

#[tokio::test]
async fn a_late_refund_offers_no_more_than_a_block_costs() {
    let (world, client, record) = deserted(Kind::Cltv).await;
    expire(&world, &record, 30 * 24 * 60 * 60).await;

    let refund = client.refund_due().await.unwrap()[0];

    assert!(refund.fee.to_sat() < 1_000, "{refund:?}");
}

#[tokio::test]
async fn a_settlement_of_the_gateway_is_left_to_be_mined() {
    let mut world = World::start().await;
    let mining = world.keep_mining();
    let client = world.paying_client(Kind::Cltv);
    let url = world.gateway.url("/paid/x");
    assert_eq!(client.get(&url).await.unwrap().status(), 200);
    drop(mining);
    let settlement = client.close(&url).await.unwrap().settlement.unwrap();
    world.gateway.kill();
    let record = client.file().channels().unwrap().remove(0);

    wait_in_vain(&world, &record, 1).await;

    assert_eq!(client.refund_due().await.unwrap(), []);
    assert_eq!(spender(&world, record.outpoint()).await, Some(settlement));
}

#[tokio::test]
async fn the_file_that_is_made_before_a_contract_is_shown_needs_a_node_alone() {
    for kind in Kind::ALL {
        let (world, client, record) = deserted(kind).await;
        let name = format!("{}.json", record.contract().terms.address());
        let file = std::fs::read_to_string(client.file().recovery_folder().join(name)).unwrap();
        let recovery: Value = serde_json::from_str(&file).unwrap();
        assert_eq!(recovery["valid_after"], record.contract().terms.expiry.get());
        expire(&world, &record, 1).await;
        let node = world.node.node(None);

        let refunds: Vec<Transaction> = recovery["refunds"]
            .as_array()
            .unwrap()
            .iter()
            .map(|refund| deserialize_hex(refund["transaction"].as_str().unwrap()).unwrap())
            .collect();
        for (refund, told) in refunds.iter().zip(recovery["refunds"].as_array().unwrap()) {
            let sent =
                node.call::<Txid>("sendrawtransaction", json!([told["transaction"], 0])).await;
            assert_eq!(sent.unwrap(), refund.compute_txid(), "each one replaces the one before");
        }
        let is_there = recovery["descriptor"].is_string();
        assert_eq!(is_there, kind == Kind::Cltv, "{recovery}");
        is_mined(&world, &record, refunds.last().unwrap().compute_txid()).await;
    }
}

#[tokio::test]
async fn the_command_takes_everything_back_and_waits_until_it_is_mined() {
    let (world, paying, record) = deserted(Kind::Cltv).await;
    drop(paying);
    let channels = world.file("cltv.sqlite");
    let farebox = |arguments: &[&str]| {
        let mut program = client(&world, arguments);
        program.env("FAREBOX_CHANNELS", &channels);
        run(program)
    };
    let early = farebox(&["wallet", "refund"]).await;
    assert_eq!(text(&early.stdout), "nothing has expired that is not spent\n", "{early:?}");
    let exported = farebox(&["wallet", "export", &record.outpoint().to_string()]).await;
    let exported: Value = serde_json::from_slice(&exported.stdout).unwrap();
    assert_eq!(exported["contract"], record.outpoint().to_string());

    expire(&world, &record, 1).await;
    let mining = world.keep_mining();
    let refunded = farebox(&["wallet", "refund", "--wait"]).await;
    drop(mining);

    let told = text(&refunded.stdout).to_owned();
    assert!(told.starts_with(&format!("{} is refunded with ", record.outpoint())), "{told}");
    let contract = world.node.node(None).confirmed(record.outpoint()).await.unwrap();
    assert_eq!(contract, None, "it is spent in a block");
}

#[tokio::test]
async fn a_refund_that_is_waited_for_outlasts_a_node_that_goes_away() {
    let (world, client, record) = deserted(Kind::Cltv).await;
    drop(client);
    expire(&world, &record, 1).await;
    let cookie = world.file("cookie");
    std::fs::copy(world.node.cookie_file(), &cookie).unwrap();
    let node = Bitcoind::new(&world.node.url(), Some("client"), Access::Cookie(cookie.clone()));
    let file = ChannelFile::open(&world.file("cltv.sqlite")).unwrap();
    let client = PayingClient::new(node, file, Policy::new(Kind::Cltv)).unwrap();
    let mut refunding = tokio::spawn(async move { client.refund_all().await });
    until("the refund is broadcast", async || spender(&world, record.outpoint()).await.is_some())
        .await;

    let away = world.file("away");
    std::fs::rename(&cookie, &away).unwrap();
    world.node.mine(1).await.unwrap();
    let ended = timeout(Duration::from_secs(2), &mut refunding).await;
    assert!(ended.is_err(), "it waits until the node lets it in again: {ended:?}");
    std::fs::rename(&away, &cookie).unwrap();

    refunding.await.unwrap().unwrap();
}
