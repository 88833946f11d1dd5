//! What a client pays at most: nothing beyond a limit is signed, and no coin moves for it.

use std::time::Duration;

use farebox_chain::{Bitcoind, Chain};
use farebox_channel::{Kind, Msat, Sat, Seconds};
use farebox_client::{Limit, PayError, PayingClient, Policy};

use crate::program::{client, run, text};
use crate::support::{FIRST_SAT, World};

/// What `/dear` costs.
const DEAR_SAT: u64 = 5_000;

fn sat(sat: u64) -> Sat {
    Sat::new(sat).unwrap()
}

fn msat(amount: u64) -> Msat {
    sat(amount).to_msat()
}

fn paying(world: &World, change: impl FnOnce(&mut Policy)) -> PayingClient<Bitcoind> {
    let mut policy = Policy::new(Kind::Cltv);
    policy.capacity = Some(sat(100_000));
    policy.price_max = msat(10_000);
    policy.patience = Duration::from_secs(10);
    change(&mut policy);
    world.client("channels.sqlite", policy)
}

/// Sets the budget that a limit names.
fn set(policy: &mut Policy, limit: Limit) {
    match limit {
        Limit::Host { most, .. } => policy.host_max = Some(most),
        Limit::Day { most, .. } => policy.day_max = Some(most),
        Limit::Total { most, .. } => policy.total_max = Some(most),
        other => panic!("{other} is no budget"),
    }
}

/// Asks, and returns which limit does not allow it.
async fn limit(client: &PayingClient<Bitcoind>, url: &str) -> Limit {
    match client.get(url).await {
        Err(PayError::Limit(limit)) => limit,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_budget_holds_over_fifty_parallel_calls_and_over_a_restart() {
    let world = World::start().await;
    let mining = world.keep_mining();
    let url = world.gateway.url("/dear/x");
    let budget = |policy: &mut Policy| policy.total_max = Some(msat(22_000));
    let client = paying(&world, budget);

    let answers = futures_util::future::join_all((0..50).map(|_| client.get(&url).send())).await;

    drop(mining);
    let served = answers.iter().filter(|answer| answer.is_ok()).count();
    assert_eq!(served, 4, "four times {DEAR_SAT} sat");
    let over = Limit::Total { asked: msat(25_000), most: msat(22_000) };
    for refused in answers.into_iter().filter_map(Result::err) {
        assert!(matches!(refused, PayError::Limit(limit) if limit == over), "{refused}");
    }
    drop(client);
    let client = paying(&world, budget);
    assert_eq!(limit(&client, &url).await, over);
    // What fits is still paid.
    assert_eq!(client.get(world.gateway.url("/paid/x")).await.unwrap().status(), 200);
    let record = client.file().channels().unwrap().remove(0);
    let told = world.buyer().told(record.outpoint(), &record.key).await;
    assert_eq!((told.payment.paid, told.spent.get()), (sat(20_002), 20_001_500));
    assert_eq!(world.api.hits(), 5);
}

#[tokio::test]
async fn no_coin_moves_for_a_channel_whose_first_payment_is_over_a_budget() {
    let world = World::start().await;
    let url = world.gateway.url("/paid/x");
    let (asked, most) = (msat(FIRST_SAT), msat(FIRST_SAT - 1));
    let budgets =
        [Limit::Host { asked, most }, Limit::Day { asked, most }, Limit::Total { asked, most }];

    for expected in budgets {
        let client = paying(&world, |policy| set(policy, expected));
        assert_eq!(limit(&client, &url).await, expected);
        assert!(client.file().channels().unwrap().is_empty());
    }
    // Nor where only the request would be over it.
    let client = paying(&world, |policy| policy.day_max = Some(msat(DEAR_SAT - 1)));
    let dear = limit(&client, &world.gateway.url("/dear/x")).await;
    assert_eq!(dear, Limit::Day { asked: msat(DEAR_SAT), most: msat(DEAR_SAT - 1) });

    assert!(client.file().channels().unwrap().is_empty());
    assert!(world.node.node(None).mempool().await.unwrap().is_empty(), "no coin has moved");
    assert_eq!(world.api.hits(), 0);
}

#[tokio::test]
async fn each_budget_ends_where_what_was_signed_would_be_beyond_it() {
    let world = World::start().await;
    let _mining = world.keep_mining();
    let url = world.gateway.url("/dear/x");
    let (asked, most) = (msat(10_000), msat(9_999));
    let client = paying(&world, |_| {});
    assert_eq!(client.get(&url).await.unwrap().status(), 200);
    let before = client.file().channels().unwrap();
    drop(client);

    for expected in [Limit::Host { asked, most }, Limit::Day { asked, most }] {
        let client = paying(&world, |policy| set(policy, expected));
        assert_eq!(limit(&client, &url).await, expected);
        assert_eq!(client.file().channels().unwrap(), before, "nothing has changed");
    }
    assert_eq!(world.api.hits(), 1);
}

#[tokio::test]
async fn a_limit_of_a_channel_is_told_with_what_was_asked_for() {
    let world = World::start().await;
    let url = world.gateway.url("/paid/x");
    let least = |policy: &mut Policy| (policy.capacity, policy.lifetime) = (None, None);
    let offer = world.buyer().offer().await;
    let (capacity, lifetime) = (*offer.capacity.start(), *offer.lifetime.start());

    let client = paying(&world, |policy| {
        least(policy);
        policy.capacity_max = sat(capacity.get() - 1);
    });
    let most = sat(capacity.get() - 1);
    assert_eq!(limit(&client, &url).await, Limit::Capacity { asked: capacity, most });
    drop(client);
    let client = paying(&world, |policy| {
        least(policy);
        policy.lifetime_max = Seconds::new(lifetime.get() - 1);
    });
    let most = Seconds::new(lifetime.get() - 1);
    assert_eq!(limit(&client, &url).await, Limit::Lifetime { asked: lifetime, most });
    drop(client);
    let client = paying(&world, |policy| policy.first_payment_max = sat(FIRST_SAT - 1));
    let (asked, most) = (sat(FIRST_SAT), sat(FIRST_SAT - 1));
    assert_eq!(limit(&client, &url).await, Limit::FirstPayment { asked, most });
    drop(client);
    let client = paying(&world, |policy| policy.price_max = Msat::new(1_499).unwrap());
    let (asked, most) = (Msat::new(1_500).unwrap(), Msat::new(1_499).unwrap());
    assert_eq!(limit(&client, &url).await, Limit::Price { asked, most });
    assert!(world.node.node(None).mempool().await.unwrap().is_empty(), "no coin has moved");
}

#[tokio::test]
async fn a_budget_that_was_set_once_in_the_environment_holds_from_run_to_run() {
    let world = World::start().await;
    let _mining = world.keep_mining();
    let url = world.gateway.url("/dear/x");
    let arguments = ["pay", &url, "--yes", "--max-price", "5000"];
    let pay = || {
        let mut program = client(&world, &arguments);
        program.env("FAREBOX_BUDGET", "9999");
        run(program)
    };

    let (first, second) = (pay().await, pay().await);

    assert!(first.status.success(), "{first:?}");
    assert!(!second.status.success(), "{second:?}");
    let words = "farebox: 10000000 msat would be paid in all by then, and at most 9999000 msat";
    assert!(text(&second.stderr).contains(words), "{second:?}");
}
