//! Channels one after the other with the same server: used up, renewed, and closed.

use farebox_chain::Bitcoind;
use farebox_channel::{Kind, Msat, Sat, Seconds};
use farebox_client::{Limit, PayError, PayingClient, Policy, Record, Stage};
use futures_util::future::join_all;

use super::{purses, records};
use crate::support::{PRICE_MSAT, World, until, wall};

/// What everything below `/dear` costs.
const DEAR_MSAT: u64 = 5_000_000;

/// A policy for dear things, with a channel that can pay four.
fn dear(kind: Kind) -> Policy {
    let capacity = Sat::new(22_000).ok();
    Policy { price_max: Msat::new(DEAR_MSAT).unwrap(), capacity, ..Policy::new(kind) }
}

fn is_settled(stage: &Stage) -> bool {
    matches!(stage, Stage::Closing(_, Some(_)))
}

#[tokio::test]
async fn a_channel_that_is_used_up_is_replaced_and_closed_and_no_call_fails() {
    let world =
        World::start_with(|config| config.replace("[offer]", "[offer]\ncapacity_min_sat = 20_000"))
            .await;
    let _mining = world.keep_mining();
    let client = world.client("client.sqlite", dear(Kind::Cltv));
    let url = world.gateway.url("/dear/x");

    for _ in 0..5 {
        assert_eq!(client.get(&url).await.unwrap().status(), 200);
    }

    assert_eq!(world.api.hits(), 5);
    until("the first one is closed", async || {
        records(&client).iter().any(|record| is_settled(&record.stage))
    })
    .await;
    let all = records(&client);
    assert_eq!(all.len(), 2);
    let used_up = all.iter().find(|record| is_settled(&record.stage)).unwrap();
    let Stage::Closing(purse, Some(settlement)) = &used_up.stage else { panic!("{used_up:?}") };
    assert_eq!(purse.final_amount().get(), 20_000, "the change comes back");
    world.mine_until_mined(*settlement).await;
    let [newest] = purses(&client).try_into().unwrap();
    assert_eq!(newest.spent.get(), DEAR_MSAT);
}

#[tokio::test]
async fn answers_that_still_come_on_a_channel_that_is_used_up_are_paid_by_it() {
    let world =
        World::start_with(|config| config.replace("[offer]", "[offer]\ncapacity_min_sat = 20_000"))
            .await;
    let _mining = world.keep_mining();
    let client = world.client("client.sqlite", dear(Kind::Refund));
    client.get(world.gateway.url("/dear/slow")).await.unwrap();

    // Three go on the first channel, and the rest need another one.
    let calls = (0..6).map(|_| client.get(world.gateway.url("/dear/slow")).send());
    for answer in join_all(calls).await {
        assert_eq!(answer.unwrap().status(), 200);
    }
    until("the first is closed", async || {
        client.get(world.gateway.url("/free/x")).await.unwrap();
        client.get(world.gateway.url("/paid/x")).await.unwrap();
        records(&client).iter().any(|record| is_settled(&record.stage))
    })
    .await;

    let all = records(&client);
    assert_eq!(all.len(), 2);
    let Some(Stage::Closing(purse, _)) = all.iter().map(|it| &it.stage).find(|it| is_settled(it))
    else {
        panic!("{all:?}")
    };
    assert_eq!(purse.spent.get(), 4 * DEAR_MSAT);
    let replies = client.close(&world.gateway.url("/")).await.unwrap();
    assert!(replies.paid.get() >= 15_000);
    assert!(purses(&client).is_empty());
}

/// A client whose channel is almost used up, so that another one is on its way to the same server, and
/// no block is found.
async fn renewing() -> (World, PayingClient<Bitcoind>, String) {
    let world =
        World::start_with(|config| config.replace("[offer]", "[offer]\ncapacity_min_sat = 20_000"))
            .await;
    let renew_below = Msat::new(2 * DEAR_MSAT).unwrap();
    let client = world.client("client.sqlite", Policy { renew_below, ..dear(Kind::Cltv) });
    let url = world.gateway.url("/dear/x");
    let mining = world.keep_mining();
    client.get(&url).await.unwrap();
    drop(mining);
    // 7,000 sat are left after the third.
    for _ in 0..3 {
        client.get(&url).await.unwrap();
    }
    until("another one is on its way", async || records(&client).len() == 2).await;
    (world, client, url)
}

#[tokio::test]
async fn another_channel_is_opened_ahead_of_time_so_that_no_call_waits_for_a_block() {
    let (world, client, url) = renewing().await;
    // Nor does one wait whose price is not known yet.
    client.get(world.gateway.url("/paid/x")).await.unwrap();
    assert_eq!(purses(&client)[0].spent.get(), 4 * DEAR_MSAT + PRICE_MSAT);
    let _mining = world.keep_mining();
    until("the first is closed for what it has paid", async || {
        records(&client).iter().any(|record| is_settled(&record.stage))
    })
    .await;
    client.get(&url).await.unwrap();

    let [newest] = purses(&client).try_into().unwrap();
    assert_eq!(newest.spent.get(), DEAR_MSAT);
    assert_eq!(records(&client).len(), 2);
}

#[tokio::test]
async fn a_channel_that_is_opened_ahead_of_time_is_closed_where_all_were_meanwhile() {
    let (world, client, url) = renewing().await;

    client.close(&url).await.unwrap();
    let _mining = world.keep_mining();

    until("both are closed", async || {
        records(&client).iter().all(|record| is_settled(&record.stage))
    })
    .await;
    assert_eq!(records(&client).len(), 2);
}

#[tokio::test]
async fn a_channel_that_ends_soon_is_renewed_while_it_still_pays() {
    let world = World::start().await;
    let _mining = world.keep_mining();
    let url = world.gateway.url("/paid/x");
    let first = world.client("client.sqlite", Policy::new(Kind::Cltv));
    first.get(&url).await.unwrap();
    drop(first);

    // It has two days left, and the next run wishes for three.
    let three_days = Seconds::new(3 * 24 * 60 * 60);
    let lifetime = Some(Seconds::new(20 * 24 * 60 * 60));
    let policy = Policy { lifetime, renew_before: three_days, ..Policy::new(Kind::Cltv) };
    let client = world.client("client.sqlite", policy);
    assert_eq!(client.get(&url).await.unwrap().status(), 200);
    until("the first one is closed", async || {
        records(&client).iter().any(|record| is_settled(&record.stage))
    })
    .await;
    client.get(&url).await.unwrap();

    let [newest] = purses(&client).try_into().unwrap();
    let left = newest.contract().terms.expiry.timestamp().get() - wall().get();
    assert!(left > 19 * 24 * 60 * 60, "{left} s");
    assert_eq!(newest.spent.get(), PRICE_MSAT);
    assert_eq!(records(&client).len(), 2, "and once only");
}

#[tokio::test]
async fn a_channel_that_the_gateway_serves_no_more_is_closed_by_its_client_and_replaced() {
    let world = World::start().await;
    // It has paid far more ahead than it has spent, and that is not the gateway's.
    let credit = Msat::new(50_000_000).unwrap();
    let policy = Policy { credit, renew_before: Seconds::new(0), ..Policy::new(Kind::Cltv) };
    let client = world.client("client.sqlite", policy);
    let mining = world.keep_mining();
    client.get(world.gateway.url("/paid/x")).await.unwrap();
    drop(mining);
    let [record] = records(&client).try_into().unwrap();
    // Payments stop 12 hours before the expiry, and the gateway closes 2 hours later.
    let expiry = record.contract().terms.expiry.timestamp().get();
    world.set_median_time_past(expiry - 43_200 + 60).await;
    let _mining = world.keep_mining();

    // An answer to HEAD has no document that would say why.
    let answer = client.head(world.gateway.url("/paid/x")).await.unwrap();

    assert_eq!(answer.status(), 200);
    let first = records(&client).into_iter().find(|it| it.outpoint() == record.outpoint()).unwrap();
    assert!(is_settled(&first.stage), "{first:?}");
    assert_eq!(purses(&client).len(), 1);
}

#[tokio::test]
async fn a_channel_is_large_enough_for_the_request_that_it_is_opened_for() {
    let world =
        World::start_with(|config| config.replace("price_sat = 5_000", "price_sat = 60_000")).await;
    let _mining = world.keep_mining();
    let price_max = Sat::new(100_000).unwrap().to_msat();
    let policy = Policy { price_max, ..Policy::new(Kind::Cltv) };
    let small = Policy { capacity: Sat::new(59_999).ok(), ..policy.clone() };
    let url = world.gateway.url("/dear/x");

    let refused = world.client("small.sqlite", small).get(&url).await.unwrap_err();
    let client = world.client("client.sqlite", policy);
    let answer = client.get(&url).await.unwrap();

    let asked = Sat::new(60_000).unwrap();
    let is_told =
        matches!(refused, PayError::Limit(Limit::Capacity { asked: told, .. }) if told == asked);
    assert!(is_told, "{refused}");
    assert_eq!(answer.status(), 200);
    let [purse] = purses(&client).try_into().unwrap();
    assert_eq!(purse.spent, asked.to_msat());
}

#[tokio::test]
async fn a_channel_that_many_requests_find_over_is_closed_for_what_was_spent() {
    let world = World::start().await;
    let credit = Msat::new(40_000_000).unwrap();
    let price_max = Msat::new(DEAR_MSAT).unwrap();
    let none = Seconds::new(0);
    let policy = Policy { credit, price_max, renew_before: none, ..Policy::new(Kind::Cltv) };
    let client = world.client("client.sqlite", policy);
    let url = world.gateway.url("/dear/x");
    let mining = world.keep_mining();
    client.get(&url).await.unwrap();
    drop(mining);
    let [record] = records(&client).try_into().unwrap();
    let expiry = record.contract().terms.expiry.timestamp().get();
    world.set_median_time_past(expiry - 43_200 + 60).await;
    let _mining = world.keep_mining();

    let calls = (0..8).map(|_| client.get(&url).send());
    for answer in join_all(calls).await {
        assert_eq!(answer.unwrap().status(), 200);
    }
    client.get(&url).await.unwrap();

    let first =
        || records(&client).into_iter().find(|it| it.outpoint() == record.outpoint()).unwrap();
    until("the first one is closed", async || is_settled(&first().stage)).await;
    let Stage::Closing(purse, _) = first().stage else { panic!("{:?}", first()) };
    assert_eq!(purse.final_amount().get() * 1_000, DEAR_MSAT, "what was refused costs nothing");
}

#[tokio::test]
async fn all_channels_with_a_server_are_closed_at_once() {
    let world = World::start().await;
    let _mining = world.keep_mining();
    let url = world.gateway.url("/paid/x");
    let client = world.client("client.sqlite", Policy::new(Kind::Cltv));
    client.get(&url).await.unwrap();
    let [first] = purses(&client).try_into().unwrap();
    // Another run of the client has opened a second one, whose expiry is later.
    let lifetime = Some(Seconds::new(300_000));
    let other = world.client("other.sqlite", Policy { lifetime, ..Policy::new(Kind::Cltv) });
    other.get(&url).await.unwrap();
    let [second] = records(&other).try_into().unwrap();
    client.file().save(&second).unwrap();

    let closing = client.close(&url).await.unwrap();

    assert_eq!(closing.channel, first.contract().outpoint, "the one in use is told");
    let is_closing = |record: &Record| matches!(record.stage, Stage::Closing(..));
    assert_eq!(records(&client).iter().filter(|record| is_closing(record)).count(), 2);
    until("a close that is asked for again tells the settlement", async || {
        client.close(&url).await.unwrap().settlement.is_some()
    })
    .await;
}

#[tokio::test]
async fn a_channel_pays_and_is_closed_whatever_kind_new_ones_are_of() {
    let world = World::start().await;
    let _mining = world.keep_mining();
    let url = world.gateway.url("/paid/x");
    let client = world.client("client.sqlite", Policy::new(Kind::Refund));
    assert_eq!(client.get(&url).await.unwrap().status(), 200);
    drop(client);

    let client = world.client("client.sqlite", Policy::new(Kind::Cltv));
    assert_eq!(client.get(&url).await.unwrap().status(), 200);

    let [purse] = purses(&client).try_into().unwrap();
    assert_eq!(purse.contract().terms.kind, Kind::Refund);
    assert_eq!(purse.spent.get(), 2 * PRICE_MSAT);
    client.close(&url).await.unwrap();
    assert_eq!(purses(&client), []);
}
