//! What answers cost, to the millisatoshi.

use super::feed::{CHUNKED, EVENTS};
use super::{DRAW_MSAT, Stand};

#[tokio::test]
async fn an_answer_costs_its_bytes_over_each_version_of_http() {
    let mut stand = Stand::start("answer_msat = 7\nbytes = { msat = 3, per = 1_000 }").await;
    let mut spent = 0;
    for version in ["--http1.1", "--http2-prior-knowledge"] {
        let (listener, mut side) = stand.open(50_000, &[version], CHUNKED).await;
        side.chunk(&"x".repeat(10_001)).await;
        side.end().await;

        let (status, answer) = listener.end().await;

        assert!(status.success(), "{version}: {answer}");
        spent += 7 + 31;
        stand.until_spent(spent).await;
        assert!(answer.contains(&"x".repeat(10_001)), "{answer}");
    }
}

#[tokio::test]
async fn an_answer_of_announced_length_costs_its_bytes() {
    let mut stand = Stand::start("bytes = { msat = 2 }").await;
    let head = "HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n";
    let (listener, mut side) = stand.open(50_000, &[], head).await;
    side.say(&"x".repeat(5_000)).await;

    let (status, _) = listener.end().await;

    assert!(status.success());
    stand.until_spent(10_000).await;
}

#[tokio::test]
async fn an_answer_without_a_body_costs_no_bytes() {
    let mut stand = Stand::start("answer_msat = 7\nbytes = { msat = 2 }").await;
    let head = "HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n";
    let (listener, _side) = stand.open(50_000, &["--head"], head).await;

    let (status, answer) = listener.end().await;

    assert!(status.success(), "{answer}");
    stand.until_spent(7).await;
}

#[tokio::test]
async fn events_cost_what_they_are_each_and_comments_nothing() {
    let mut stand = Stand::start("events = { msat = 400 }").await;
    let (mut listener, mut side) = stand.open(50_000, &[], EVENTS).await;
    side.chunk(": hello\n\n").await;
    let head = listener.hear(": hello\n\n").await.to_ascii_lowercase();
    assert!(head.contains(&format!("price={DRAW_MSAT}, running\r\n")), "what is reserved: {head}");
    for event in ["data: 1\n\n", ": still there\n\n", "data: 2\r\n\r\ndata: 3\n\n", "data: 4\n"] {
        side.chunk(event).await;
        assert_eq!(listener.hear(event).await, event, "it passes at once");
    }
    side.end().await;

    let (status, rest) = listener.end().await;

    assert!(status.success());
    assert_eq!(rest, "");
    stand.until_spent(1_600).await;
}

#[tokio::test]
async fn the_receipt_of_the_end_stands_in_the_trailers() {
    let mut stand = Stand::start("bytes = { msat = 2 }").await;
    for asks in
        [["--http1.1", "--header", "TE: trailers"], ["--http2-prior-knowledge", "--header", "A: b"]]
    {
        let (listener, mut side) = stand.open(50_000, &asks, CHUNKED).await;
        side.chunk("hello").await;
        side.end().await;

        let (_, answer) = listener.end().await;

        let answer = answer.to_ascii_lowercase();
        let receipt = "payment-channel-receipt: paid=";
        let (head, rest) = answer.split_once("hello").unwrap();
        assert!(head.contains(receipt), "{answer}");
        assert!(rest.contains(receipt) && rest.contains("price=10\r\n"), "{answer}");
    }
}

#[tokio::test]
async fn time_costs_until_the_answer_ends() {
    let mut stand = Stand::start("secs = { msat = 10_000 }").await;
    let asked = std::time::Instant::now();
    let (mut listener, mut side) = stand.open(5_000_000, &[], EVENTS).await;
    side.chunk("data: 1\n\n").await;
    listener.hear("data: 1\n\n").await;
    let began = std::time::Instant::now();
    // So much that more had to be drawn meanwhile.
    tokio::time::sleep(std::time::Duration::from_millis(400)).await;
    let ran = began.elapsed();
    side.end().await;
    let (status, _) = listener.end().await;
    let took = asked.elapsed();

    assert!(status.success());
    let spent = stand.account().await.spent.get();
    let bounds = ran.as_millis() * 10..=took.as_millis() * 10 + 10;
    assert!(bounds.contains(&u128::from(spent)), "{spent} is not in {bounds:?}");
}
