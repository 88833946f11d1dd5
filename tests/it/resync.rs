//! The paying client after a loss: of the gateway's record, or of its own.

use std::fs;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::Request;
use axum::routing::any;
use farebox_chain::Bitcoind;
use farebox_channel::client::{Distrust, Purse};
use farebox_channel::message::{
    ChannelStatus, Offer, PayRequest, Receipt, StateName, StatusReply, StatusRequest,
};
use farebox_channel::wire::Field;
use farebox_channel::{Kind, Msat};
use farebox_client::{ChannelFile, Event, Observer, PayError, PayingClient, Policy, Record, Stage};
use http::{HeaderMap, HeaderName, StatusCode};
use tokio::net::TcpListener;

use crate::restored::{back_up, lose_store, restore, restore_unseen, start_restored};
use crate::support::{PRICE_MSAT, World, set_median_time_past, until};

/// Makes requests that are all paid for.
async fn get(client: &PayingClient<Bitcoind>, world: &World, times: u32) {
    for _ in 0..times {
        let answer = client.get(world.gateway.url("/paid/x")).await.unwrap();
        assert_eq!(answer.status(), 200);
    }
}

fn record(client: &PayingClient<Bitcoind>) -> Record {
    let [record] = client.file().channels().unwrap().try_into().unwrap();
    record
}

fn purse(client: &PayingClient<Bitcoind>) -> Purse {
    let Stage::Open(purse) = record(client).stage else { panic!("it is open") };
    purse
}

/// A gateway that was restored from a backup of three requests, after some more. Returns the
/// client's record from the time of the backup too.
async fn restored_after(more: u32) -> (World, Record) {
    let mut world = World::start().await;
    let mining = world.keep_mining();
    let client = world.paying_client(Kind::Cltv);
    get(&client, &world, 3).await;
    let backed_up = record(&client);
    drop(client);
    back_up(&mut world);
    let client = world.paying_client(Kind::Cltv);
    get(&client, &world, more).await;
    drop((client, mining));
    restore(&mut world).await;
    (world, backed_up)
}

#[tokio::test]
async fn the_paying_client_goes_on_by_itself_when_the_gateway_was_restored() {
    let (mut world, _) = restored_after(300).await;
    let client = world.paying_client(Kind::Cltv);
    until("the contract is looked up again", async || {
        client.get(world.gateway.url("/paid/x")).await.is_ok()
    })
    .await;
    get(&client, &world, 2).await;
    drop(client);
    lose_store(&mut world);
    start_restored(&mut world).await;
    let client = world.paying_client(Kind::Cltv);
    until("the contract is looked up again", async || {
        client.get(world.gateway.url("/paid/x")).await.is_ok()
    })
    .await;
    get(&client, &world, 1).await;

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

#[tokio::test]
async fn an_old_copy_from_within_the_first_payment_loses_no_answer() {
    let world = World::start().await;
    let mining = world.keep_mining();
    let client = world.paying_client(Kind::Cltv);
    get(&client, &world, 3).await;
    drop((client, mining));
    let (file, copy) = (world.file("cltv.sqlite"), world.file("copy.sqlite"));
    fs::copy(&file, &copy).unwrap();
    let client = world.paying_client(Kind::Cltv);
    get(&client, &world, 20).await;
    drop(client);

    fs::rename(&copy, &file).unwrap();
    let client = world.paying_client(Kind::Cltv);
    get(&client, &world, 2).await;

    assert_eq!(purse(&client).spent.get(), 25 * PRICE_MSAT);
    assert_eq!(world.api.hits(), 25);
}

#[tokio::test]
async fn a_close_right_after_a_restore_pays_for_what_was_served_since_the_backup() {
    let (world, _) = restored_after(400).await;
    let client = world.paying_client(Kind::Cltv);
    assert_eq!(close(&client, &world).await, 605, "403 requests of 1.5 sat");

    let Stage::Closing(purse, Some(settlement)) = record(&client).stage else {
        panic!("it is closing")
    };
    let settlement = world.mine_until_mined(settlement).await;
    let change = settlement.output[0].value.to_sat();
    assert_eq!(purse.payment.paid.get(), 605, "no more was signed");
    assert_eq!(change, 100_000.min(purse.contract().capacity.get()) - 605);
}

/// Returns a client that pays for some requests ahead.
fn thrifty_client(world: &World) -> PayingClient<Bitcoind> {
    let credit = Msat::new(100_000).unwrap();
    world.client("thrifty.sqlite", Policy { credit, ..Policy::new(Kind::Cltv) })
}

/// A client that has paid for 280 requests, and for some ahead, and has asked for its close too early:
/// the gateway was restored from a backup of `since` requests less, and looked the contract up.
async fn asked_to_close_too_early(since: u32) -> (World, PayingClient<Bitcoind>) {
    let mut world = World::start().await;
    let mining = world.keep_mining();
    get(&thrifty_client(&world), &world, 280 - since).await;
    back_up(&mut world);
    get(&thrifty_client(&world), &world, since).await;
    drop(mining);
    restore_unseen(&mut world).await;

    let client = thrifty_client(&world);
    let early = client.close(&world.gateway.url("/")).await;
    assert!(matches!(early, Err(PayError::NotNow(_))), "{early:?}");
    assert_eq!(refused_purse(&client).spent.get(), 280 * PRICE_MSAT, "no other sum is believed");

    world.mine(6).await;
    (world, client)
}

/// Returns the purse of a channel whose close was not taken yet.
fn refused_purse(client: &PayingClient<Bitcoind>) -> Purse {
    let Stage::Closing(purse, None) = record(client).stage else { panic!("it is to be closed") };
    purse
}

/// Closes once the contract is looked up again, and returns what is paid.
async fn close(client: &PayingClient<Bitcoind>, world: &World) -> u64 {
    let mut paid = None;
    until("the contract is looked up again", async || {
        match client.close(&world.gateway.url("/")).await {
            Ok(reply) => paid = Some(reply.paid.get()),
            Err(refused) => assert!(matches!(refused, PayError::NotNow(_)), "{refused}"),
        }
        paid.is_some()
    })
    .await;
    paid.unwrap()
}

#[tokio::test]
async fn a_close_while_a_restored_gateway_looks_the_contract_up_is_not_for_too_little_later() {
    let (world, client) = asked_to_close_too_early(277).await;
    assert_eq!(close(&client, &world).await, 420, "280 requests of 1.5 sat");
}

#[tokio::test]
async fn a_close_that_was_not_taken_is_for_what_a_restored_gateway_counts_as_spent() {
    let (world, client) = asked_to_close_too_early(3).await;
    let paid = refused_purse(&client).payment.paid.get();
    assert!(paid > 420, "some is paid ahead");
    assert_eq!(close(&client, &world).await, paid);
}

#[tokio::test]
async fn a_payment_that_was_lost_on_its_way_is_not_closed_for() {
    let mut world = World::start().await;
    let mining = world.keep_mining();
    let client = world.paying_client(Kind::Cltv);
    get(&client, &world, 268).await;
    drop(mining);
    world.gateway.kill();
    for _ in 0..4 {
        assert!(client.get(world.gateway.url("/paid/x")).await.is_err());
    }
    assert!(purse(&client).payment.paid.get() > 402, "more was signed than ever arrived");
    drop(client);
    world.gateway.restart();
    world.until_the_node_is_followed().await;

    let client = world.paying_client(Kind::Cltv);
    let closing = client.close(&world.gateway.url("/")).await.unwrap();

    assert_eq!(closing.paid.get(), 402, "268 requests of 1.5 sat");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn requests_in_parallel_get_in_step_once_for_all() {
    let (world, Record { key, stage, .. }) = restored_after(300).await;
    let Stage::Open(purse) = stage else { panic!("it is open") };
    let (buyer, channel) = (world.buyer(), purse.contract().outpoint);
    until("the contract is looked up again", async || {
        buyer.told(channel, &key).await.state == StateName::Open
    })
    .await;

    let counted = Arc::new(Mutex::new(0));
    let counting = Arc::clone(&counted);
    let client = world.paying_client(Kind::Cltv).observed_by(Observer::new(move |event| {
        if let Event::Resynchronised { .. } = event {
            *counting.lock().unwrap() += 1;
        }
    }));
    let url = world.gateway.url("/paid/x");
    let requests = (0..40).map(|_| client.get(&url).send());
    let answers = futures_util::future::join_all(requests).await;

    for answer in answers {
        assert_eq!(answer.unwrap().status(), 200);
    }
    assert_eq!(*counted.lock().unwrap(), 1, "once for all");
    let own = self::purse(&client);
    assert_eq!(own.spent, buyer.told(channel, &key).await.spent, "both sides agree");
}

#[tokio::test]
async fn a_client_waits_while_a_restored_gateway_looks_its_contract_up() {
    let mut world = World::start().await;
    let mining = world.keep_mining();
    let client = world.paying_client(Kind::Cltv);
    get(&client, &world, 3).await;
    drop((client, mining));
    lose_store(&mut world);
    // The restore is not deep before six more blocks.
    world.gateway.restart_with(&["--restored"]);
    world.until_the_node_is_followed().await;

    let client = world.paying_client(Kind::Cltv);
    let waits = client.get(world.gateway.url("/paid/x")).await;
    assert!(matches!(waits, Err(PayError::NotNow(_))), "{waits:?}");
    world.mine(6).await;
    until("the channel is served again", async || {
        client.get(world.gateway.url("/paid/x")).await.is_ok()
    })
    .await;
    assert_eq!(client.file().channels().unwrap().len(), 1, "no second channel was opened");
}

/// A gateway that takes every payment, serves nothing, and says that all of it is spent.
async fn greedy(address: SocketAddr, offer: Offer, honest: ChannelStatus) {
    let listener = TcpListener::bind(address).await.unwrap();
    let taken = Arc::new(Mutex::new(honest));
    let answer = move |request: Request| {
        let (offer, taken) = (offer.clone(), Arc::clone(&taken));
        async move {
            let mut headers = HeaderMap::new();
            let mut set = |name, value: String| {
                headers.insert(HeaderName::from_static(name), value.parse().unwrap());
            };
            let mut told = taken.lock().unwrap();
            if let Some(pay) = request.headers().get(PayRequest::NAME) {
                told.payment = PayRequest::decode(pay.as_bytes()).unwrap().payment;
                told.spent = told.payment.paid.to_msat();
            }
            if request.headers().contains_key(StatusRequest::NAME) {
                set(StatusReply::NAME, StatusReply { channels: vec![told.clone()] }.encode());
                return (StatusCode::OK, headers, String::new());
            }
            if request.uri().path() != "/paid/x" {
                let (paid, spent) = (told.payment.paid, told.spent);
                let (credit, price, is_running) = Default::default();
                set(Receipt::NAME, Receipt { paid, spent, credit, price, is_running }.encode());
                return (StatusCode::OK, headers, String::new());
            }
            set(Offer::NAME, offer.encode());
            set("content-type", "application/problem+json".to_owned());
            let problem = r#"{"type": "urn:farebox:problem:underpaid"}"#.to_owned();
            (StatusCode::PAYMENT_REQUIRED, headers, problem)
        }
    };
    let router = Router::new().fallback(any(answer));
    tokio::spawn(async move { axum::serve(listener, router).await });
}

#[tokio::test]
async fn a_gateway_that_says_time_and_again_that_all_is_spent_is_believed_once_over_all_runs() {
    let mut world = World::start().await;
    let mining = world.keep_mining();
    let client = world.paying_client(Kind::Cltv);
    get(&client, &world, 3).await;
    let (buyer, record) = (world.buyer(), record(&client));
    let (offer, honest) = (buyer.offer().await, buyer.told(record.outpoint(), &record.key).await);
    drop((client, mining));
    world.gateway.kill();
    greedy(world.gateway.host.parse().unwrap(), offer, honest).await;

    let client = world.paying_client(Kind::Cltv);
    let url = world.gateway.url("/paid/x");
    let first = client.get(&url).await.unwrap_err();
    assert!(matches!(first, PayError::Refused { .. }), "{first}");
    let signed = purse(&client).payment.paid;
    let second = client.get(&url).await.unwrap_err();
    assert!(matches!(second, PayError::Distrust(Distrust::Overcharged { .. })), "{second}");
    let mut client = client;
    for _ in 0..3 {
        drop(client);
        client = world.paying_client(Kind::Cltv);
        let next = client.get(&url).await.unwrap_err();
        assert!(matches!(next, PayError::Distrust(Distrust::Overcharged { .. })), "{next}");
    }

    let lost = purse(&client).payment.paid.get() - signed.get();
    assert!(lost <= 2, "{lost} sat were signed for nothing");
}
