//! Streams that end before their time.

use super::feed::{CHUNKED, EVENTS};
use super::{DRAW_MSAT, Stand};

#[tokio::test]
async fn a_client_that_leaves_pays_what_it_was_given() {
    let mut stand = Stand::start("bytes = { msat = 1 }").await;
    let (mut listener, mut side) = stand.open(900_000, &[], CHUNKED).await;
    side.chunk(&"x".repeat(12_345)).await;
    listener.hear("\r\n\r\n").await;
    listener.hear_bytes(12_345).await;

    drop(listener);

    side.left().await;
    stand.until_spent(12_345).await;
}

#[tokio::test]
async fn a_service_that_dies_is_paid_for_what_it_has_given() {
    let mut stand = Stand::start("bytes = { msat = 1 }").await;
    let (mut listener, mut side) = stand.open(900_000, &[], CHUNKED).await;
    side.chunk(&"x".repeat(5_000)).await;
    listener.hear("\r\n\r\n").await;
    listener.hear_bytes(5_000).await;

    drop(side);

    let (status, _) = listener.end().await;
    assert!(!status.success(), "the client sees that it is not whole");
    stand.until_spent(5_000).await;
}

#[tokio::test]
async fn a_stream_that_is_not_paid_in_time_ends_with_the_reason() {
    let mut stand = Stand::start("events = { msat = 500_000 }\nwait_secs = 0").await;
    let (mut listener, mut side) = stand.open(1_000_000, &[], EVENTS).await;
    side.chunk("data: 1\n\ndata: 2\n\ndata: 3\n\n").await;

    listener.hear("\"reason\":\"underpaid\",\"state\":\"ended\"}\n\n").await;

    let (status, _) = listener.end().await;
    assert!(status.success(), "events end as they should");
    side.left().await;
    stand.until_spent(1_000_000).await;
}

#[tokio::test]
async fn a_download_that_is_not_paid_in_time_breaks_off() {
    let mut stand = Stand::start("bytes = { msat = 1 }\nwait_secs = 0").await;
    let (mut listener, mut side) = stand.open(800_000, &[], CHUNKED).await;
    side.chunk(&"x".repeat(900_000)).await;
    listener.hear("\r\n\r\n").await;

    listener.hear_bytes(800_000).await;

    let (status, rest) = listener.end().await;
    assert!(!status.success() && rest.is_empty(), "{rest}");
    stand.until_spent(800_000).await;
}

#[tokio::test]
async fn a_stream_of_a_channel_that_closes_ends_with_the_reason_and_what_stays_charged() {
    let mut stand = Stand::start("events = { msat = 300 }").await;
    let (mut listener, mut side) = stand.open(5_000_000, &[], EVENTS).await;
    side.chunk("data: 1\n\n").await;
    listener.hear("data: 1\n\n").await;

    stand.buyer.close().await;
    side.chunk("data: 2\n\ndata: 3\n\ndata: 4\n\n").await;

    // What is settled is signed, so nothing of the draw comes back.
    let told = listener.hear("\"reason\":\"channel-closing\",\"state\":\"ended\"}\n\n").await;
    assert!(listener.end().await.0.success());
    assert!(told.contains(&format!("data: {{\"cost_msat\":{DRAW_MSAT},")), "{told}");
    stand.until_logged(&format!(" price_msat={DRAW_MSAT} ")).await;
}

#[tokio::test]
async fn after_a_crash_no_more_than_the_last_draw_is_charged_beyond_what_was_delivered() {
    let mut stand = Stand::start("events = { msat = 300 }").await;
    let (mut listener, mut side) = stand.open(5_000_000, &[], EVENTS).await;
    side.chunk("data: 1\n\n").await;
    listener.hear("data: 1\n\n").await;

    stand.world.gateway.kill();
    stand.world.gateway.restart();

    let spent = stand.account().await.spent.get();
    assert_eq!(spent, DRAW_MSAT, "it was drawn at the beginning, and lasted");
}
