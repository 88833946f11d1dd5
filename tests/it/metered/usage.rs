//! Answers that cost what their service reports, and the price at most.

use super::feed::{CHUNKED, EVENTS};
use super::{DRAW_MSAT, Stand};

/// Returns an answer that is whole.
fn answer(fields: &str, body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\n{fields}Content-Length: {}\r\n\r\n{body}", body.len())
}

/// Answers one request of such a route, and returns what was charged.
async fn charged(usage: &str, answer: &str) -> u64 {
    let mut stand = Stand::start_with(&format!("[route.usage]\n{usage}")).await;
    let (listener, side) = stand.open(500_000, &[], answer).await;
    let (status, heard) = listener.end().await;
    assert!(status.success(), "{heard}");
    // What is given back may be saved after the end of an answer whose length was announced.
    drop(side);
    assert!(stand.world.gateway.terminate());
    stand.world.gateway.restart();
    stand.account().await.spent.get()
}

#[tokio::test]
async fn a_head_says_what_the_answer_has_used() {
    let usage = "header = \"x-units\"\nunit_msat = 20";
    assert_eq!(charged(usage, &answer("X-Units: 12\r\n", "hello")).await, 240);
    assert_eq!(charged(usage, &answer("X-Units: 12000\r\n", "hello")).await, DRAW_MSAT);
    assert_eq!(charged(usage, &answer("", "hello")).await, DRAW_MSAT, "it is not reported");
}

#[tokio::test]
async fn trailers_say_what_the_answer_has_used() {
    let usage = "trailer = \"x-units\"\nunit_msat = 20";
    let told = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: x-units\r\n\r\n\
                5\r\nhello\r\n0\r\nx-units: 7\r\n\r\n";
    assert_eq!(charged(usage, told).await, 140);
}

#[tokio::test]
async fn a_document_says_what_the_answer_has_used() {
    let usage = "json = \"usage.input + usage.output\"\nunit_msat = 3";
    let body = r#"{"text":"usage","usage":{"input":20,"output":11}}"#;
    assert_eq!(charged(usage, &answer("Content-Type: application/json\r\n", body)).await, 93);
}

#[tokio::test]
async fn the_last_event_says_what_the_stream_has_used() {
    let mut stand =
        Stand::start_with("[route.usage]\nevent = \"usage.total_tokens\"\nunit_msat = 3").await;
    let (mut listener, mut side) = stand.open(500_000, &[], EVENTS).await;
    for event in ["{\"text\":\"a\"}", "{\"text\":\"b\"}"] {
        let event = format!("data: {event}\n\n");
        side.chunk(&event).await;
        assert!(listener.hear(&event).await.ends_with(&event), "it passes at once");
    }
    assert_eq!(stand.account().await.spent.get(), DRAW_MSAT, "it is reserved");
    side.chunk("data: {\"usage\":{\"total_tokens\":30}}\n\ndata: [DONE]\n\n").await;
    side.end().await;

    assert!(listener.end().await.0.success());
    stand.until_spent(90).await;
}

#[tokio::test]
async fn a_client_that_leaves_before_the_usage_is_told_pays_the_price() {
    let mut stand = Stand::start_with("[route.usage]\nevent = \"tokens\"").await;
    let (mut listener, mut side) = stand.open(500_000, &[], EVENTS).await;
    side.chunk("data: {}\n\n").await;
    listener.hear("data: {}\n\n").await;

    drop(listener);

    side.left().await;
    stand.until_spent(DRAW_MSAT).await;
}

#[tokio::test]
async fn a_service_that_breaks_off_before_it_tells_is_paid_nothing() {
    let mut stand = Stand::start_with("[route.usage]\nevent = \"tokens\"").await;
    let (mut listener, mut side) = stand.open(500_000, &[], EVENTS).await;
    side.chunk("data: {}\n\n").await;
    listener.hear("data: {}\n\n").await;

    drop(side);

    assert!(!listener.end().await.0.success());
    stand.until_spent(0).await;
}

#[tokio::test]
async fn a_service_whose_body_is_read_is_asked_for_a_plain_one() {
    let mut stand = Stand::start_with("[route.usage]\njson = \"tokens\"").await;
    let fields = ["--header", "Accept-Encoding: gzip"];
    let (listener, side) = stand.open(500_000, &fields, CHUNKED).await;

    let asked = side.head().to_ascii_lowercase();

    assert!(asked.contains("accept-encoding: identity\r\n"), "{asked}");
    assert_eq!(asked.matches("accept-encoding").count(), 1, "{asked}");
    drop((listener, side));
}
