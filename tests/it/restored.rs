//! Old copies: a gateway that was restored from a backup, and a client with an old file or none.

use std::fs;

use farebox_channel::Kind;
use farebox_channel::message::{PayRequest, Receipt, StateName};
use farebox_client::{ChannelFile, PayError, PayingClient, Policy, Record, Stage};

use crate::support::{Buyer, FIRST_SAT, PRICE_MSAT, World, header, set_median_time_past, until};

/// Takes a backup of the gateway's store, while it is stopped.
fn back_up(world: &mut World) {
    assert!(world.gateway.terminate());
    fs::copy(world.file("farebox.sqlite"), world.file("backup.sqlite")).unwrap();
    world.gateway.restart();
}

/// Puts the backup in the place of the store, and starts the gateway as restored.
async fn restore(world: &mut World) {
    lose_store(world);
    fs::copy(world.file("backup.sqlite"), world.file("farebox.sqlite")).unwrap();
    start_restored(world).await;
}

fn lose_store(world: &mut World) {
    world.gateway.kill();
    for name in ["farebox.sqlite", "farebox.sqlite-wal", "farebox.sqlite-shm"] {
        let _gone = fs::remove_file(world.file(name));
    }
}

/// Starts the gateway as restored, and mines until the restore is deep.
async fn start_restored(world: &mut World) {
    world.gateway.restart_with(&["--restored"]);
    world.until_the_node_is_followed().await;
    world.mine(6).await;
}

/// Asks until the channel has been looked up again.
async fn until_open(buyer: &Buyer) {
    buyer.until_state(buyer.shown.as_ref().unwrap(), StateName::Open).await;
}

/// Sends the newest payment of a buyer to the well-known path.
async fn top_up(buyer: &Buyer) -> Receipt {
    buyer.ask(&buyer.purse().top_up()).await
}

#[tokio::test]
async fn a_restored_gateway_takes_the_newer_payment_and_grants_nothing_twice() {
    let mut world = World::start().await;
    let mut buyer = world.buyer_with_channel(Kind::Cltv).await;
    assert_eq!(buyer.pay("/paid/x").await.status, 200);
    back_up(&mut world);
    // All of the first payment is spent after the backup, and 2 sat more.
    for _ in 0..267 {
        assert_eq!(buyer.pay("/paid/x").await.status, 200);
    }
    let (paid, hits) = (buyer.purse().payment.paid.get(), world.api.hits());
    assert_eq!((paid, hits), (FIRST_SAT + 2, 268));

    restore(&mut world).await;
    let old = buyer.shown.clone().unwrap().payment;
    let old = PayRequest { payment: old, ..buyer.purse().top_up() };
    until("the contract is looked up again", async || {
        buyer.send("/paid/x", &[header(&old)]).await.refusal() != (503, "channel-pending".into())
    })
    .await;
    let refused = buyer.send("/paid/x", &[header(&old)]).await;
    assert_eq!(refused.refusal(), (402, "channel-restored".to_owned()));
    let caught_up = top_up(&buyer).await;

    assert_eq!((caught_up.paid.get(), caught_up.spent.get()), (402, 402_000));
    assert_eq!(caught_up.credit.get(), 0);
    let again = buyer.send("/paid/x", &[header(&old)]).await;
    assert_eq!(again.refusal(), (402, "underpaid".to_owned()));
    assert_eq!(world.api.hits(), hits, "nothing was granted twice");
    buyer.purse = Some(buyer.purse().catch_up(&caught_up).unwrap());
    assert_eq!(buyer.pay("/paid/x").await.receipt().paid.get(), FIRST_SAT + 4);

    let closing = buyer.close().await;
    let settlement = world.mine_until_mined(buyer.until_settlement().await).await;
    assert_eq!(closing.paid.get(), FIRST_SAT + 4);
    assert_eq!(settlement.output[0].value.to_sat(), 100_000 - FIRST_SAT - 4);
}

#[tokio::test]
async fn a_client_that_shows_its_contract_again_goes_on_with_a_gateway_that_lost_its_store() {
    let mut world = World::start().await;
    let mut buyer = world.buyer_with_channel(Kind::Refund).await;
    for _ in 0..300 {
        assert_eq!(buyer.pay("/paid/x").await.status, 200);
    }

    lose_store(&mut world);
    start_restored(&mut world).await;
    let unknown = buyer.pay("/paid/x").await;
    assert_eq!(unknown.refusal(), (410, "channel-unknown".to_owned()));
    let mut shown = buyer.shown.clone().unwrap();
    (shown.payment, shown.transaction) = (buyer.purse().payment, None);
    buyer.shown = Some(shown);
    until_open(&buyer).await;
    let caught_up = top_up(&buyer).await;
    buyer.purse = Some(buyer.purse().catch_up(&caught_up).unwrap());

    assert_eq!(caught_up.spent, caught_up.paid.to_msat());
    assert_eq!(buyer.pay("/paid/x").await.status, 200);
    // A channel that is opened from now on keeps its first payment as credit.
    let other = world.buyer_with_channel(Kind::Cltv).await;
    let receipt = top_up(&other).await;
    assert_eq!(receipt.credit.get(), FIRST_SAT * 1_000);
    assert_eq!(receipt.spent.get(), 0);
}

#[tokio::test]
async fn what_was_settled_after_the_backup_is_found_on_the_chain() {
    let mut world = World::start().await;
    let mut buyer = world.buyer_with_channel(Kind::Cltv).await;
    back_up(&mut world);
    assert_eq!(buyer.pay("/paid/x").await.status, 200);
    buyer.close().await;
    world.mine_until_mined(buyer.until_settlement().await).await;
    world.mine(5).await;

    restore(&mut world).await;

    buyer.until_state(buyer.shown.as_ref().unwrap(), StateName::Settled).await;
    let gone = buyer.send("/paid/x", &[header(&buyer.purse().top_up())]).await;
    assert_eq!(gone.refusal(), (410, "channel-ended".to_owned()));
}

/// Makes requests that are all paid for.
async fn get(client: &PayingClient<farebox_chain::Bitcoind>, world: &World, times: u32) {
    for _ in 0..times {
        let answer = client.get(&world.gateway.url("/paid/x")).await.unwrap();
        assert_eq!(answer.status(), 200);
    }
}

fn record(client: &PayingClient<farebox_chain::Bitcoind>) -> Record {
    let [record] = client.file().channels().unwrap().try_into().unwrap();
    record
}

#[tokio::test]
async fn the_paying_client_goes_on_by_itself_when_the_gateway_was_restored() {
    let mut world = World::start().await;
    let mining = world.keep_mining();
    let client = world.paying_client(Kind::Cltv);
    get(&client, &world, 3).await;
    drop(client);
    back_up(&mut world);
    let client = world.paying_client(Kind::Cltv);
    get(&client, &world, 300).await;
    drop((client, mining));

    restore(&mut world).await;
    let client = world.paying_client(Kind::Cltv);
    until("the contract is looked up again", async || {
        client.get(&world.gateway.url("/paid/x")).await.is_ok()
    })
    .await;
    get(&client, &world, 2).await;
    drop(client);
    lose_store(&mut world);
    start_restored(&mut world).await;
    let client = world.paying_client(Kind::Cltv);
    get(&client, &world, 2).await;

    assert_eq!(client.file().channels().unwrap().len(), 1, "no second channel was needed");
    let Stage::Open(purse) = record(&client).stage else { panic!("it is open") };
    let asked = u64::try_from(world.api.hits()).unwrap();
    // Each of the two restores has cost the request that was refused, and less than a satoshi.
    let most = (asked + 2) * PRICE_MSAT / 1_000 + 4;
    assert!(purse.payment.paid.get() <= most, "{} > {most}", purse.payment.paid);
    let closing = client.close(&world.gateway.url("/")).await.unwrap();
    assert!(closing.paid.get() * 1_000 >= asked * PRICE_MSAT);
}

#[tokio::test]
async fn a_client_with_an_old_copy_of_its_file_takes_what_its_own_signature_bears_out() {
    let world = World::start().await;
    let mining = world.keep_mining();
    let client = world.paying_client(Kind::Cltv);
    get(&client, &world, 3).await;
    drop(client);
    let (file, copy) = (world.file("cltv.sqlite"), world.file("copy.sqlite"));
    fs::copy(&file, &copy).unwrap();
    let client = world.paying_client(Kind::Cltv);
    get(&client, &world, 400).await;
    let newest = record(&client);
    drop(client);
    drop(mining);

    fs::rename(&copy, &file).unwrap();
    let client = world.paying_client(Kind::Cltv);
    get(&client, &world, 400).await;

    let (Stage::Open(before), Stage::Open(after)) = (newest.stage, record(&client).stage) else {
        panic!("the channel stays open")
    };
    assert_eq!(before.contract(), after.contract());
    assert_eq!(after.spent.get(), 803 * PRICE_MSAT, "to the millisatoshi");
    assert_eq!(world.api.hits(), 803);
}

#[tokio::test]
async fn a_client_with_nothing_but_its_key_finds_its_channel_and_its_refund_again() {
    for kind in Kind::ALL {
        let world = World::start().await;
        let mining = world.keep_mining();
        let client = world.paying_client(kind);
        get(&client, &world, 5).await;
        let lost = record(&client);
        drop(client);
        drop(mining);

        let file = ChannelFile::open(&world.file("new.sqlite")).unwrap();
        let client = PayingClient::new(world.wallet(), file, Policy::new(kind)).unwrap();
        let found = client.recover(&world.gateway.url("/"), lost.key).await.unwrap();
        assert_eq!(found, [lost.outpoint()]);
        get(&client, &world, 5).await;

        let found = record(&client);
        let Stage::Open(purse) = &found.stage else { panic!("it is open") };
        assert_eq!(purse.contract(), lost.contract());
        assert_eq!(purse.spent.get(), 10 * PRICE_MSAT);
        let refund = found.refund_transaction(bitcoin::FeeRate::from_sat_per_vb_u32(2)).unwrap();
        drop(world.gateway);
        let expiry = u64::from(found.contract().terms.expiry.get());
        set_median_time_past(&world.node, expiry + 1).await;
        farebox_chain::Chain::broadcast(&world.node.node(None), refund.clone()).await.unwrap();
        world.node.mine(1).await.unwrap();
        assert!(world.node.mined(refund.compute_txid()).await.is_ok());
    }
}

#[tokio::test]
async fn a_key_without_channels_recovers_none() {
    let world = World::start().await;
    let client = world.paying_client(Kind::Cltv);
    let key = secp256k1::SecretKey::from_slice(&[5; 32]).unwrap();
    let found = client.recover(&world.gateway.url("/"), key).await;
    assert!(matches!(found, Ok(channels) if channels.is_empty()));
    let nowhere = client.recover("http://192.0.2.1/", key).await;
    assert!(matches!(nowhere, Err(PayError::Insecure(_))));
}
