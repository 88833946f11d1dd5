//! Clients: their files, their wallets, their next runs, and gateways that answer nonsense.

use std::net::Ipv4Addr;

use axum::Router;
use axum::routing::any;
use farebox_chain::Bitcoind;
use farebox_channel::message::Offer;
use farebox_channel::wire::{Field, WELL_KNOWN};
use farebox_channel::{Kind, Msat, Seconds};
use farebox_client::{ChannelFile, FileError, PayError, PayingClient, Policy, Record, Stage};
use http::StatusCode;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::support::{Api, PRICE_MSAT, World, until, wall};

fn channels(client: &PayingClient<Bitcoind>) -> Vec<Record> {
    client.file().channels().unwrap()
}

fn spent(record: &Record) -> Option<u64> {
    match &record.stage {
        Stage::Open(purse) => Some(purse.spent.get()),
        Stage::Funded(_) | Stage::Held(_) | Stage::Closing(..) => None,
    }
}

/// The coins that the wallet keeps for a contract.
async fn reserved(world: &World) -> usize {
    let locked: Vec<Value> = world.wallet().call("listlockunspent", json!([])).await.unwrap();
    locked.len()
}

#[tokio::test]
async fn a_channel_file_has_one_user_at_a_time() {
    let folder = tempfile::TempDir::with_prefix("farebox-test-").unwrap();
    let path = folder.path().join("channels.sqlite");
    let first = ChannelFile::open(&path).unwrap();
    let clone = first.clone();

    assert!(matches!(ChannelFile::open(&path), Err(FileError::InUse(_))));
    drop(first);
    assert!(matches!(ChannelFile::open(&path), Err(FileError::InUse(_))), "a clone has it");
    drop(clone);
    // A process that another test starts has a copy of every lock for a moment.
    until("the file is free", async || ChannelFile::open(&path).is_ok()).await;
}

#[tokio::test]
async fn a_locked_wallet_funds_nothing_and_keeps_its_coins() {
    let world = World::start().await;
    let _mining = world.keep_mining();
    let wallet = world.wallet();
    let _words: Value = wallet.call("encryptwallet", json!(["secret"])).await.unwrap();
    let client = world.paying_client(Kind::Cltv);
    let url = world.gateway.url("/paid/x");

    let refused = client.get(&url).await.unwrap_err().to_string();

    assert!(refused.contains("passphrase"), "{refused}");
    assert_eq!((reserved(&world).await, channels(&client).len()), (0, 0));
    let _none: Value = wallet.call("walletpassphrase", json!(["secret", 600])).await.unwrap();
    assert_eq!(client.get(&url).await.unwrap().status(), 200);
}

#[tokio::test]
async fn a_client_opens_another_channel_when_the_first_is_empty() {
    let world = World::start().await;
    let _mining = world.keep_mining();
    let dear = Msat::new(5_000_000).unwrap();
    let client = world.client("client", Policy { price_max: dear, ..Policy::new(Kind::Refund) });
    let url = world.gateway.url("/dear/x");

    // The least channel holds 50,000 sat: ten requests.
    for _ in 0..10 {
        assert_eq!(client.get(&url).await.unwrap().status(), 200);
    }
    assert_eq!(channels(&client).len(), 1);
    assert_eq!(client.get(&url).await.unwrap().status(), 200);

    let channels = channels(&client);
    let mut spent: Vec<_> = channels.iter().filter_map(spent).collect();
    spent.sort_unstable();
    assert_eq!(channels.len(), 2);
    assert_eq!(spent.first(), Some(&5_000_000), "of the second channel");
    assert_eq!(world.api.hits(), 11);
}

#[tokio::test]
async fn a_new_run_resumes_the_open_channel_and_keeps_the_closed_one() {
    let world = World::start().await;
    let _mining = world.keep_mining();
    let url = world.gateway.url("/paid/x");
    let first = world.paying_client(Kind::Cltv);
    first.get(&url).await.unwrap();
    let settlement = first.close(&url).await.unwrap().settlement.unwrap();
    first.get(&url).await.unwrap();
    drop(first);

    let second = world.paying_client(Kind::Cltv);
    assert_eq!(second.get(&url).await.unwrap().status(), 200);

    let channels = channels(&second);
    assert_eq!(channels.len(), 2);
    let spent: Vec<_> = channels.iter().filter_map(spent).collect();
    assert_eq!(spent, [2 * PRICE_MSAT]);
    let closed = channels.iter().find(|record| matches!(record.stage, Stage::Closing(..))).unwrap();
    let Stage::Closing(_, told) = &closed.stage else { panic!("{closed:?}") };
    assert_eq!(*told, Some(settlement));
    let mined = world.mine_until_mined(settlement).await;
    assert_eq!(mined.output[0].script_pubkey, *closed.contract().payout.script());
    // Nothing on the chain ties one to the other.
    assert_ne!(channels[0].key, channels[1].key);
    assert_ne!(channels[0].contract().payout, channels[1].contract().payout);
}

#[tokio::test]
async fn a_client_asks_for_the_shortest_lifetime_or_for_its_own() {
    let world = World::start().await;
    let _mining = world.keep_mining();
    let url = world.gateway.url("/paid/x");
    for (name, lifetime, expected) in
        [("short", None, 172_800), ("own", Some(Seconds::new(250_000)), 250_000)]
    {
        let policy = Policy { lifetime, ..Policy::new(Kind::Cltv) };
        let client = world.client(name, policy);
        client.get(&url).await.unwrap();
        let expiry = channels(&client)[0].contract().terms.expiry.timestamp();
        // Blocks that come fast run a little ahead of the clock.
        let left = expiry.get() - wall().get();
        assert!(left.abs_diff(expected) < 120, "{left} s");
    }
}

#[tokio::test]
async fn a_request_whose_gateway_dies_ends_and_the_next_one_is_served() {
    let mut world = World::start().await;
    let mining = world.keep_mining();
    let client = world.paying_client(Kind::Cltv);
    client.get(world.gateway.url("/paid/x")).await.unwrap();
    drop(mining);
    let (slow, url) = (client.clone(), world.gateway.url("/paid/slow"));
    let running = tokio::spawn(async move { slow.get(&url).await });
    until("the request is under way", async || world.api.hits() == 2).await;

    world.gateway.kill();
    let ended = running.await.unwrap();
    assert!(matches!(ended, Err(PayError::Http(_))), "{ended:?}");
    assert_eq!(spent(&channels(&client)[0]), Some(2 * PRICE_MSAT), "it may be charged");
    world.gateway.restart();

    let answer = client.get(world.gateway.url("/paid/x")).await.unwrap();
    assert_eq!(answer.status(), 200);
    assert_eq!(spent(&channels(&client)[0]), Some(3 * PRICE_MSAT));
}

#[tokio::test]
async fn a_client_does_not_follow_a_redirect_with_its_payment() {
    let world = World::start().await;
    let _mining = world.keep_mining();
    let elsewhere = Api::start().await;
    let client = world.paying_client(Kind::Cltv);
    let url = world.gateway.url(&format!("/paid/moved?http://{}/x", elsewhere.address));

    let answer = client.get(&url).await.unwrap();

    assert_eq!(answer.status(), 307);
    assert!(answer.headers().contains_key("location"));
    assert_eq!((world.api.hits(), elsewhere.hits()), (1, 0));
}

/// A server that makes an offer and answers every step with the same fields.
async fn impostor(offer: Option<Offer>, reply: (&'static str, String)) -> String {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let url = format!("http://{}/x", listener.local_addr().unwrap());
    let offered = move || {
        let offer = offer.as_ref().map(|offer| (Offer::NAME, offer.encode()));
        let fields: Vec<_> = offer.into_iter().collect();
        async move { (StatusCode::PAYMENT_REQUIRED, fields_of(fields), "pay\n") }
    };
    let replied = move || {
        let fields = vec![reply.clone()];
        async move { (StatusCode::OK, fields_of(fields)) }
    };
    let router = Router::new().route(WELL_KNOWN, any(replied)).fallback(any(offered));
    tokio::spawn(async move { axum::serve(listener, router).await });
    url
}

fn fields_of(fields: Vec<(&'static str, String)>) -> http::HeaderMap {
    let field = |(name, value): (&'static str, String)| {
        (http::HeaderName::from_static(name), value.parse().unwrap())
    };
    fields.into_iter().map(field).collect()
}

#[tokio::test]
async fn an_answer_without_the_field_that_belongs_there_is_an_error() {
    let world = World::start().await;
    let offer = world.buyer().offer().await;
    let client = world.paying_client(Kind::Refund);
    let state = format!(
        "channel=\"{}:0\", state=open, pass=:{}==:, paid=1",
        "11".repeat(32),
        "A".repeat(22)
    );
    let other_step = ("payment-channel-state", state);
    let nonsense = ("payment-channel-terms", "kind=refund".to_owned());
    let cases = [
        (Some(offer.clone()), other_step.clone(), "has no payment-channel-terms"),
        (Some(offer), nonsense, "payment-channel-terms: "),
        (None, other_step, "without a Payment-Channel-Offer"),
    ];
    for (offer, reply, expected) in cases {
        let url = impostor(offer, reply).await;
        let refused = client.get(&url).await.unwrap_err().to_string();
        assert!(refused.contains(expected), "{refused}");
    }
    assert_eq!((reserved(&world).await, channels(&client).len()), (0, 0));
}

#[tokio::test]
async fn a_raised_price_is_agreed_to_before_it_is_charged() {
    let mut world = World::start().await;
    let _mining = world.keep_mining();
    let client = world.paying_client(Kind::Cltv);
    client.get(world.gateway.url("/paid/x")).await.unwrap();
    let config = world.file("farebox.toml");
    let dearer = std::fs::read_to_string(&config).unwrap();
    std::fs::write(&config, dearer.replace("price_msat = 1500", "price_msat = 2500")).unwrap();
    world.gateway.kill();
    world.gateway.restart();
    // The connection from before is of no use any more.
    let _broken = client.get(world.gateway.url("/free/x")).await;

    let answer = client.get(world.gateway.url("/paid/x")).await;

    assert_eq!(answer.map(|answer| answer.status().as_u16()).map_err(|e| e.to_string()), Ok(200));
    assert_eq!(spent(&channels(&client)[0]), Some(4_000));
    let closing = client.close(&world.gateway.url("/paid/x")).await.unwrap();
    assert_eq!(closing.paid.get(), 400);
}
