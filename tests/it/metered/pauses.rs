//! Streams that wait for credit.

use std::time::Duration;

use super::Stand;
use super::feed::{CHUNKED, EVENTS};

#[tokio::test]
async fn a_stream_pauses_at_zero_goes_on_when_it_is_paid_and_loses_nothing() {
    for version in ["--http1.1", "--http2-prior-knowledge"] {
        let mut stand = Stand::start("bytes = { msat = 1 }").await;
        let (mut listener, mut side) = stand.open(1_500_000, &[version], CHUNKED).await;
        let given: String = (0..).map(|at| at.to_string()).take(500_000).collect();
        let mut give = given.clone();
        let giving = tokio::spawn(async move {
            while !give.is_empty() {
                let rest = give.split_off(give.len().min(10_000));
                side.chunk(&give).await;
                give = rest;
            }
            side.end().await;
        });

        listener.hear("\r\n\r\n").await;
        listener.hear_bytes(1_500_000).await;
        assert_eq!(stand.account().await.credit.get(), 0);
        stand.pay(900_000).await;
        listener.hear_bytes(900_000).await;
        stand.pay(2_000_000).await;
        let (status, rest) = listener.end().await;
        giving.await.unwrap();

        assert!(status.success(), "{version}");
        let (body, _trailers) = rest.split_at(given.len() - 2_400_000);
        assert!(body == &given[2_400_000..], "{version}");
        stand.until_spent(given.len().try_into().unwrap()).await;
    }
}

#[tokio::test]
async fn an_answer_of_announced_length_pauses_too_and_is_whole_in_the_end() {
    for version in ["--http1.1", "--http2-prior-knowledge"] {
        let mut stand = Stand::start("bytes = { msat = 200 }").await;
        let head = "HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n";
        let (mut listener, mut side) = stand.open(600_000, &[version], head).await;
        side.say(&"x".repeat(5_000)).await;

        listener.hear("\r\n\r\n").await;
        listener.hear_bytes(3_000).await;
        stand.pay(400_000).await;
        let (status, rest) = listener.end().await;

        assert!(status.success() && rest.len() == 2_000, "{version}: {rest}");
        stand.until_spent(1_000_000).await;
    }
}

#[tokio::test]
async fn an_event_stream_says_that_it_waits_and_what_it_has_cost() {
    let mut stand = Stand::start("events = { msat = 500_000 }").await;
    let (mut listener, mut side) = stand.open(1_000_000, &[], EVENTS).await;
    side.chunk("data: 1\n\ndata: 2\n\ndata: 3\n\n").await;

    let told = listener.hear("\"state\":\"paused\"}\n\n").await;
    stand.pay(500_000).await;
    let rest = listener.hear("data: 3\n\n").await;

    assert!(told.contains("data: 1\n\ndata: 2\n\n"), "{told}");
    assert!(told.contains("event: payment-channel\ndata: {\"cost_msat\":1000000,"), "{told}");
    assert!(!rest.contains("data: 2"), "{rest}");
    stand.until_spent(1_500_000).await;
}

#[tokio::test]
async fn what_another_request_gives_back_lets_a_stream_go_on() {
    let mut stand = Stand::start("events = { msat = 500_500 }").await;
    let (first, mut first_side) = stand.open(1_000_000, &[], EVENTS).await;
    let (mut second, mut second_side) = stand.open(1_000, &[], EVENTS).await;
    second_side.chunk("data: 1\n\ndata: 2\n\n").await;
    second.hear("\"state\":\"paused\"}\n\n").await;

    // It has used nothing of what it has reserved.
    first_side.end().await;
    assert!(first.end().await.0.success());

    assert_eq!(second.hear("data: 2\n\n").await, "data: 2\n\n");
    stand.until_spent(1_001_000).await;
}

#[tokio::test]
async fn a_reload_cuts_no_stream_and_changes_nothing_of_its_rates() {
    let mut stand = Stand::start("events = { msat = 500_000 }").await;
    let (mut listener, mut side) = stand.open(5_000_000, &[], EVENTS).await;
    side.chunk("data: 1\n\n").await;
    listener.hear("data: 1\n\n").await;

    let raised = |config: String| config.replace("{ msat = 500_000 }", "{ msat = 900_000 }");
    stand.reload(raised).await;
    side.chunk("data: 2\n\n").await;
    listener.hear("data: 2\n\n").await;
    side.end().await;

    assert!(listener.end().await.0.success());
    stand.until_spent(1_000_000).await;
}

#[tokio::test]
async fn a_stream_that_waits_holds_nothing_up_and_its_channel_is_served() {
    let mut stand = Stand::start("events = { msat = 500_000 }\nwait_secs = 600").await;
    let (mut listener, mut side) = stand.open(500_000, &[], EVENTS).await;
    side.chunk("data: 1\n\ndata: 2\n\n").await;
    listener.hear("\"state\":\"paused\"}\n\n").await;

    let (other, mut other_side) = stand.open(500_000, &[], EVENTS).await;
    other_side.end().await;

    let ended = tokio::time::timeout(Duration::from_secs(20), other.end()).await;
    assert!(ended.unwrap().0.success());
}
