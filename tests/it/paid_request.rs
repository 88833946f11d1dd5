//! The main job: a 402, a channel, paid requests, a close, a settlement in a block.

use std::collections::BTreeSet;

use bitcoin::Amount;
use farebox_channel::client::Purse;
use farebox_channel::message::{PayRequest, Receipt, StateName, StateReply};
use farebox_channel::{Kind, Msat, Sat};
use farebox_client::{ChannelFile, PayingClient, Policy, Stage};
use http::Version;

use crate::support::{Buyer, CAPACITY_SAT, FIRST_SAT, PRICE_MSAT, World, header, until};

#[tokio::test]
async fn an_unpaid_request_is_told_the_price_and_never_reaches_the_api() {
    let world = World::start().await;

    let answer = world.buyer().send("/paid/x", &[]).await;

    assert_eq!(answer.refusal(), (402, "payment-required".to_owned()));
    let offer: farebox_channel::message::Offer = answer.message();
    assert_eq!(offer.price.get(), PRICE_MSAT);
    assert_eq!(offer.first_payment.get(), FIRST_SAT);
    assert_eq!(offer.kinds, Kind::ALL);
    assert_eq!(world.api.hits(), 0);
}

async fn a_client_pays_for_requests_and_the_settlement_is_mined(kind: Kind) {
    let world = World::start().await;
    let mining = world.keep_mining();
    let client = world.paying_client(kind);
    let url = world.gateway.url("/paid/hello?q=1");

    for _ in 0..7 {
        let answer = client.get(&url).await.unwrap();
        assert_eq!(answer.status(), 200);
        assert_eq!(answer.headers()["cache-control"], "private");
        assert_eq!(answer.text().await.unwrap(), "hello\n");
    }
    let closing = client.close(&url).await.unwrap();

    // 7 × 1,500 msat are 10,500 msat: less than the first payment, which is then the least.
    assert_eq!(closing.paid.get(), FIRST_SAT);
    let settlement = closing.settlement.expect("the contract is confirmed, so it is settled");
    until("the settlement is mined", async || world.node.mined(settlement).await.is_ok()).await;
    let settlement = world.node.mined(settlement).await.unwrap();
    drop(mining);
    let record = client.file().channels().unwrap().remove(0);
    let change = settlement.output.first().unwrap();
    assert_eq!(change.script_pubkey, *record.contract().payout.script());
    let locked = record.contract().capacity.get();
    assert_eq!(change.value.to_sat(), locked - FIRST_SAT);
    let outputs: Amount = settlement.output.iter().map(|output| output.value).sum();
    assert!(outputs.to_sat() < locked && outputs.to_sat() >= locked - FIRST_SAT);
    assert_eq!(settlement.version.0, 3);
    assert!(matches!(record.stage, Stage::Closing(_, Some(_))));
    assert_eq!(world.api.hits(), 7);
    for asked in world.api.asked() {
        assert_eq!((asked.method.as_str(), asked.path.as_str()), ("GET", "/paid/hello?q=1"));
        let ours = |name: &http::HeaderName| name.as_str().starts_with("payment-channel-");
        assert!(!asked.headers.keys().any(ours), "{:?}", asked.headers);
    }
}

#[tokio::test]
async fn a_client_pays_through_a_refund_channel() {
    a_client_pays_for_requests_and_the_settlement_is_mined(Kind::Refund).await;
}

#[tokio::test]
async fn a_client_pays_through_a_cltv_channel() {
    a_client_pays_for_requests_and_the_settlement_is_mined(Kind::Cltv).await;
}

#[tokio::test]
async fn prices_below_a_satoshi_add_up_exactly_and_each_receipt_says_so() {
    let world = World::start().await;
    let mut buyer = world.buyer_with_channel(Kind::Cltv).await;

    for request in 1..=300_u64 {
        let receipt = buyer.pay("/paid/x").await.receipt();
        let spent = request * PRICE_MSAT;
        let paid = spent.div_ceil(1_000).max(FIRST_SAT);
        assert_eq!(
            receipt,
            Receipt {
                paid: Sat::new(paid).unwrap(),
                spent: Msat::new(spent).unwrap(),
                credit: Msat::new(paid * 1_000 - spent).unwrap(),
                price: Msat::new(PRICE_MSAT).unwrap(),
                is_running: false,
            }
        );
    }
    let closing = buyer.close().await;

    assert_eq!(closing.paid.get(), 450);
}

async fn parallel_requests_are_all_served_and_charged_once_each(http: Option<reqwest::Client>) {
    let world = World::start().await;
    let mut buyer = world.buyer_with_channel(Kind::Cltv).await;
    let version = if http.is_some() { Version::HTTP_2 } else { Version::HTTP_11 };
    buyer.http = http.unwrap_or(buyer.http);
    let price = Msat::new(PRICE_MSAT).unwrap();
    let mut purse = buyer.purse().clone();
    let mut requests = Vec::new();
    for _ in 0..300 {
        let (next, request) = purse.pay(price, &buyer.key).unwrap();
        purse = next;
        requests.push(request);
    }
    // The greatest amount goes first, so that all others arrive late.
    requests.reverse();

    let sent = requests.iter().map(|request| buyer.send_owned("/paid/x", header(request)));
    let answers = futures_util::future::join_all(sent).await;

    assert!(answers.iter().all(|answer| answer.status == 200 && answer.version == version));
    let spent: BTreeSet<_> = answers.iter().map(|answer| answer.receipt().spent.get()).collect();
    let each: BTreeSet<_> = (1..=300).map(|count| count * PRICE_MSAT).collect();
    assert_eq!(spent, each, "each request has its own place on the account");
    assert_eq!(world.api.hits(), 300);
}

#[tokio::test]
async fn parallel_requests_on_one_channel_are_all_served_and_charged_once_each() {
    parallel_requests_are_all_served_and_charged_once_each(None).await;
}

#[tokio::test]
async fn streams_of_one_http2_connection_share_a_channel_as_connections_do() {
    let http = reqwest::Client::builder().http2_prior_knowledge().build().unwrap();
    parallel_requests_are_all_served_and_charged_once_each(Some(http)).await;
}

#[tokio::test]
async fn the_latest_payment_again_is_judged_by_the_credit() {
    let world = World::start().await;
    let mut buyer = world.buyer_with_channel(Kind::Cltv).await;
    let shown = buyer.shown.clone().unwrap();
    let purse = buyer.purse().clone();
    let again = PayRequest { payment: shown.payment, ..purse.top_up() };

    // 400 sat at first pay for 266 requests of 1.5 sat and leave one sat.
    for _ in 0..266 {
        assert_eq!(buyer.send("/paid/x", &[header(&again)]).await.status, 200);
    }
    let refused = buyer.send("/paid/x", &[header(&again)]).await;

    assert_eq!(refused.refusal(), (402, "underpaid".to_owned()));
    let document: serde_json::Value = serde_json::from_str(&refused.body).unwrap();
    assert_eq!(document["credit"], 1_000);
    assert_eq!(document["price"], PRICE_MSAT);
    assert_eq!(world.api.hits(), 266);
    buyer.purse = Some(purse);
}

#[tokio::test]
async fn a_request_that_fails_behind_the_gateway_is_not_charged() {
    let world = World::start().await;
    let mut buyer = world.buyer_with_channel(Kind::Refund).await;

    let failed = buyer.pay("/paid/fail").await;

    assert_eq!(failed.status, 500);
    assert_eq!(failed.receipt().spent, Msat::ZERO);
    assert_eq!(failed.receipt().price, Msat::ZERO);
    // An answer that says that something does not exist is an answer.
    let missing = buyer.pay("/paid/missing").await;
    assert_eq!(missing.status, 404);
    assert_eq!(missing.receipt().spent.get(), PRICE_MSAT);
}

#[tokio::test]
async fn an_answer_that_breaks_off_is_not_charged() {
    let world = World::start().await;
    let mut buyer = world.buyer_with_channel(Kind::Cltv).await;

    let broken = buyer.pay("/paid/broken").await;

    assert!(broken.body.starts_with("broken off"), "{broken:?}");
    // The charge comes back once the break was seen; a top-up of nothing tells the account.
    let purse = buyer.purse().clone();
    let top_up = purse.top_up();
    until("the charge is released", async || {
        buyer.ask::<_, Receipt>(&top_up).await.spent == Msat::ZERO
    })
    .await;
}

#[tokio::test]
async fn an_api_that_is_down_costs_nothing() {
    let world = World::start_with(|config| {
        let (before, _) = config.split_once("[upstream]").unwrap();
        // Port 1 is nobody's.
        format!(
            "{before}[upstream]\nurl = \"http://127.0.0.1:1\"\n\
             [[route]]\npath = \"/paid\"\nprice_msat = {PRICE_MSAT}\n"
        )
    })
    .await;
    let mut buyer = world.buyer_with_channel(Kind::Cltv).await;

    let answer = buyer.pay("/paid/x").await;

    assert_eq!(answer.refusal(), (502, "upstream-unavailable".to_owned()));
    assert_eq!(answer.receipt().spent, Msat::ZERO);
}

#[tokio::test]
async fn a_browser_that_fetches_ahead_is_never_charged() {
    let world = World::start().await;
    let buyer = world.buyer_with_channel(Kind::Cltv).await;
    let price = Msat::new(PRICE_MSAT).unwrap();
    let (_, request) = buyer.purse().pay(price, &buyer.key).unwrap();

    for purpose in ["prefetch", "prefetch;prerender"] {
        let ahead = ("sec-purpose", purpose.to_owned());
        let answer = buyer.send("/paid/x", &[header(&request), ahead]).await;
        assert_eq!(answer.refusal(), (402, "payment-required".to_owned()));
    }

    assert_eq!(world.api.hits(), 0);
    assert_eq!(buyer.send("/paid/x", &[header(&request)]).await.receipt().spent, price);
}

#[tokio::test]
async fn a_client_closes_for_what_is_spent_and_unspent_credit_goes_back() {
    let world = World::start().await;
    let mut buyer = world.buyer_with_channel(Kind::Refund).await;
    let ahead = Msat::new(50_000_000).unwrap();
    let (purse, request) = buyer.purse().pay(ahead, &buyer.key).unwrap();
    let top_up: Receipt = buyer.ask(&request).await;
    assert_eq!(top_up.credit, ahead);
    buyer.purse = Some(Purse { spent: Msat::ZERO, ..purse });
    buyer.pay("/paid/x").await;

    let closing = buyer.close().await;

    assert_eq!((closing.state, closing.paid.get()), (StateName::Closing, FIRST_SAT));
    world.mine(1).await;
    let settlement = world.node.mined(closing.settlement.unwrap()).await.unwrap();
    assert_eq!(settlement.output[0].value.to_sat(), CAPACITY_SAT - FIRST_SAT);
}

#[tokio::test]
async fn a_settled_channel_is_recognised_once_it_is_deep() {
    let world = World::start().await;
    let buyer = world.buyer_with_channel(Kind::Cltv).await;
    let closing = buyer.close().await;
    let shown = buyer.shown.clone().unwrap();

    world.mine(5).await;
    let five_deep: StateReply = buyer.ask(&shown).await;
    world.mine(1).await;
    buyer.until_state(&shown, StateName::Settled).await;

    assert_eq!(five_deep.state, StateName::Closing);
    let settled: StateReply = buyer.ask(&shown).await;
    assert_eq!(settled.settlement, closing.settlement);
}

#[tokio::test]
async fn a_channel_is_used_again_by_the_next_run_of_a_client() {
    let world = World::start().await;
    let _mining = world.keep_mining();
    let url = world.gateway.url("/paid/x");
    let first = world.paying_client(Kind::Cltv);
    first.get(&url).await.unwrap();
    drop(first);

    let second = world.paying_client(Kind::Cltv);
    let answer = second.get(&url).await.unwrap();

    assert_eq!(answer.status(), 200);
    let channels = second.file().channels().unwrap();
    assert_eq!(channels.len(), 1);
    let Stage::Open(purse) = &channels[0].stage else { panic!("{channels:?}") };
    assert_eq!(purse.spent.get(), 2 * PRICE_MSAT);
}

#[tokio::test]
async fn an_exhausted_channel_is_settled_by_the_gateway() {
    let world = World::start().await;
    let mut buyer: Buyer = world.buyer_with_channel(Kind::Refund).await;
    let dear = Msat::new(5_000_000).unwrap();
    for _ in 0..20 {
        let (purse, request) = buyer.purse().pay(dear, &buyer.key).unwrap();
        buyer.purse = Some(purse);
        assert_eq!(buyer.send("/dear/x", &[header(&request)]).await.status, 200);
    }
    assert_eq!(buyer.purse().left(), Msat::ZERO);

    let shown = buyer.shown.clone().unwrap();
    buyer.until_state(&shown, StateName::Closing).await;
    let settlement = buyer.until_settlement().await;

    let settlement = world.mine_until_mined(settlement).await;
    assert_eq!(settlement.output.len(), 1, "all of it is the gateway's");
}

#[tokio::test]
async fn an_exhausted_channel_is_not_closed_while_its_last_request_may_still_fail() {
    let world = World::start().await;
    let mut buyer = world.buyer_with_channel(Kind::Cltv).await;
    let all = Msat::new(CAPACITY_SAT * 1_000).unwrap();
    let price = Msat::new(PRICE_MSAT).unwrap();
    let (purse, rest) = buyer.purse().pay(all, &buyer.key).unwrap();
    let _topped_up: Receipt = buyer.ask(&rest).await;
    // All but the last request is spent on answers that come at once.
    let dear = Msat::new(5_000_000).unwrap();
    buyer.purse = Some(Purse { spent: Msat::ZERO, ..purse });
    for _ in 0..19 {
        let (purse, request) = buyer.purse().pay(dear, &buyer.key).unwrap();
        buyer.purse = Some(purse);
        assert_eq!(buyer.send("/dear/x", &[header(&request)]).await.status, 200);
    }

    let (_, last) = buyer.purse().pay(dear, &buyer.key).unwrap();
    let failed = buyer.send("/dear/slowly-fail", &[header(&last)]).await;

    assert_eq!(failed.status, 503);
    assert_eq!(failed.receipt().credit, dear, "the charge came back");
    assert_eq!(buyer.send("/paid/x", &[header(&last)]).await.receipt().price, price);
}

#[tokio::test]
async fn a_client_opens_another_channel_when_the_first_is_over() {
    let world = World::start().await;
    let _mining = world.keep_mining();
    let client = world.paying_client(Kind::Cltv);
    let url = world.gateway.url("/paid/x");
    client.get(&url).await.unwrap();
    let first = client.file().channels().unwrap().remove(0);
    // The gateway closes it behind the client's back.
    let host = &world.gateway.host;
    let place = farebox_channel::Place { network: bitcoin::Network::Regtest, host };
    let Stage::Open(purse) = &first.stage else { panic!("{first:?}") };
    let close = purse.close(place, crate::support::wall(), &first.key).unwrap();
    let _closing: StateReply = world.buyer().ask(&close).await;

    let answer = client.get(&url).await.unwrap();

    assert_eq!(answer.status(), 200);
    let channels = client.file().channels().unwrap();
    let open = channels.iter().filter(|record| matches!(record.stage, Stage::Open(_))).count();
    assert_eq!((channels.len(), open), (2, 1));
}

#[tokio::test]
async fn a_close_that_the_gateway_refuses_leaves_the_channel_open() {
    let world = World::start_with(|config| format!("host = \"api.example.com\"\n{config}")).await;
    let _mining = world.keep_mining();
    let client = world.paying_client(Kind::Refund);
    let url = world.gateway.url("/paid/x");
    client.get(&url).await.unwrap();

    let refused = client.close(&url).await.unwrap_err().to_string();

    assert!(refused.contains("api.example.com"), "{refused}");
    assert!(matches!(client.file().channels().unwrap()[0].stage, Stage::Open(_)));
    assert_eq!(client.get(&url).await.unwrap().status(), 200);
}

#[tokio::test]
async fn a_client_closes_for_no_more_than_the_gateway_has_charged() {
    let world = World::start().await;
    let _mining = world.keep_mining();
    let file = ChannelFile::open(&world.file("client.sqlite")).unwrap();
    let policy = Policy { price_max: Msat::new(5_000_000).unwrap(), ..Policy::new(Kind::Cltv) };
    let client = PayingClient::new(world.wallet(), file, policy).unwrap();
    let url = world.gateway.url("/dear/broken");
    let broken = client.get(&url).await.unwrap();
    assert!(broken.text().await.is_err());

    let record = client.file().channels().unwrap().remove(0);
    let buyer = world.buyer();
    until("the charge is released", async || {
        buyer.told(record.outpoint(), &record.key).await.spent == Msat::ZERO
    })
    .await;
    let closing = client.close(&url).await.unwrap();

    assert_eq!(closing.paid.get(), FIRST_SAT);
}
