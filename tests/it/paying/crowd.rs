//! Many calls at once on one channel.

use std::time::Duration;

use farebox_channel::{Kind, Msat};
use farebox_client::{Policy, Stage};
use futures_util::future::join_all;

use super::{purses, records};
use crate::support::{PRICE_MSAT, World};

/// Two hundred calls at once, the first ones of all, and two hundred more.
async fn are_all_answered_on_one_channel(policy: Policy) {
    let world = World::start().await;
    let _mining = world.keep_mining();
    let client = world.client("client.sqlite", policy);

    for rounds in 1..=2 {
        let calls =
            (0..200).map(|call| client.get(world.gateway.url(&format!("/paid/{call}"))).send());
        let answers = tokio::time::timeout(Duration::from_secs(60), join_all(calls)).await.unwrap();
        for answer in answers {
            let answer = answer.unwrap();
            assert_eq!(
                (answer.status().as_u16(), answer.text().await.unwrap().as_str()),
                (200, "hello\n")
            );
        }
        assert_eq!(world.api.hits(), rounds * 200);
    }

    let [purse] = purses(&client).try_into().unwrap();
    assert_eq!(purse.spent.get(), 400 * PRICE_MSAT);
    let [record] = records(&client).try_into().unwrap();
    let told = world.buyer().told(record.outpoint(), &record.key).await;
    assert_eq!(told.spent, purse.spent);
    let closing = client.close(&world.gateway.url("/")).await.unwrap();
    assert_eq!(closing.paid.get(), 600);
    assert!(matches!(records(&client)[0].stage, Stage::Closing(_, Some(_))));
}

#[tokio::test]
async fn two_hundred_calls_at_once_are_all_answered_on_one_channel() {
    are_all_answered_on_one_channel(Policy::new(Kind::Cltv)).await;
}

#[tokio::test]
async fn two_hundred_named_calls_at_once_that_are_paid_ahead_are_all_answered_on_one_channel() {
    let credit = Msat::new(50 * PRICE_MSAT).unwrap();
    let policy = Policy { credit, names_requests: true, ..Policy::new(Kind::Refund) };
    are_all_answered_on_one_channel(policy).await;
}
