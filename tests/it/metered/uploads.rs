//! Requests that cost what their bodies are.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::feed::{CHUNKED, EVENTS};
use super::{DRAW_MSAT, Stand, hear};
use crate::support::Operator;

/// What a service says that has got what it wanted.
const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

#[tokio::test]
async fn an_upload_costs_its_bytes_with_a_length_and_without_over_each_version_of_http() {
    let rates = "answer_msat = 7\nrequest_bytes = { msat = 3, per = 1_000 }";
    let mut stand = Stand::start(rates).await;
    let mut spent = 0;
    for arguments in [
        &["--http1.1"][..],
        &["--http1.1", "--header", "Transfer-Encoding: chunked"],
        &["--http2-prior-knowledge"],
    ] {
        let (listener, mut side, given) = stand.upload(50_000, arguments, 10_001).await;
        assert!(side.read(10_001).await == given, "{arguments:?}");
        side.say(OK).await;

        let (status, answer) = listener.end().await;

        assert!(status.success() && answer.ends_with("ok"), "{arguments:?}: {answer}");
        spent += 7 + 31;
        stand.until_spent(spent).await;
    }
    stand.until_logged(" price_msat=38 ").await;
}

#[tokio::test]
async fn an_upload_pauses_at_zero_and_goes_on_when_it_is_paid() {
    for arguments in [
        &["--http1.1"][..],
        &["--http1.1", "--header", "Transfer-Encoding: chunked"],
        &["--http2-prior-knowledge"],
    ] {
        let mut stand = Stand::start("request_bytes = { msat = 1 }").await;
        let (listener, mut side, given) = stand.upload(600_000, arguments, 1_500_000).await;

        let first = side.read(600_000).await;
        side.hears_nothing().await;
        assert_eq!(stand.account().await.credit.get(), 0);
        stand.pay(400_000).await;
        let second = side.read(400_000).await;
        side.hears_nothing().await;
        stand.pay(2_000_000).await;
        let last = side.read(500_000).await;
        side.say(OK).await;

        assert!([first, second, last].concat() == given, "{arguments:?}");
        assert!(listener.end().await.0.success(), "{arguments:?}");
        stand.until_spent(1_500_000).await;
    }
}

#[tokio::test]
async fn a_pause_for_want_of_credit_is_not_taken_for_one_of_the_client_or_the_service() {
    let mut stand = Stand::start_changed("[route.rates]\nrequest_bytes = { msat = 1 }", |config| {
        config
            .replace("[limits]\n", "[limits]\nbody_secs = 1\n")
            .replace("[upstream]\n", "[upstream]\nanswer_secs = 1\n")
    })
    .await;
    let (listener, mut side, _) = stand.upload(600_000, &[], 700_000).await;
    side.read(600_000).await;

    tokio::time::sleep(Duration::from_millis(4_500)).await; // Twice as long as all limits together.
    stand.pay(2_000_000).await;
    side.read(100_000).await;
    side.say(OK).await;

    let (_, answer) = listener.end().await;
    assert!(answer.ends_with("ok"), "{answer}");
    stand.until_spent(700_000).await;
}

#[tokio::test]
async fn an_upload_that_is_not_paid_in_time_is_answered_with_what_it_has_cost() {
    let rates = "answer_msat = 7_000\nrequest_bytes = { msat = 1 }\nwait_secs = 0";
    let mut stand = Stand::start(rates).await;
    let (listener, mut side, _) = stand.upload(507_000, &["--http1.1"], 900_000).await;
    side.read(500_000).await;

    let (_, answer) = listener.end().await;
    let answer = answer.to_ascii_lowercase();

    assert!(answer.contains(" 402"), "{answer}");
    assert!(answer.contains(":underpaid\""), "{answer}");
    assert!(answer.contains("price=507000"), "{answer}");
    side.left().await;
    stand.until_spent(507_000).await;
    stand.until_logged("\" 402 ").await;
    stand.until_logged(" price_msat=507000 ").await;
}

#[tokio::test]
async fn an_upload_whose_answer_has_begun_ends_as_the_answer_does() {
    let rates = "request_bytes = { msat = 100 }\nwait_secs = 0";
    let mut stand = Stand::start(rates).await;
    let (mut socket, mut side) = stand.begin(500_000, 5_000).await;
    side.say(EVENTS).await;
    side.chunk("data: 1\n\n").await;
    let told = hear(&mut socket, "data: 1\n\n").await;
    assert!(told.contains("price=500000, running\r\n"), "what is charged by then: {told}");

    socket.write_all(b"more").await.unwrap();

    let told = hear(&mut socket, "\"reason\":\"underpaid\",\"state\":\"ended\"}\n\n").await;
    assert!(told.contains("\"cost_msat\":500000,"), "{told}");
    side.left().await;
    stand.until_spent(500_000).await;
}

#[tokio::test]
async fn a_client_that_leaves_pays_for_what_it_has_uploaded() {
    let mut stand = Stand::start("answer_msat = 7\nrequest_bytes = { msat = 2 }").await;
    let (socket, side) = stand.begin(900_000, 5_000).await;

    drop(socket);

    side.left().await;
    stand.until_spent(10_007).await;
    stand.until_logged(" price_msat=10007 ").await;
}

#[tokio::test]
async fn a_named_upload_that_breaks_off_before_an_answer_is_asked_again() {
    let rates = "[route.rates]\nanswer_msat = 7\nrequest_bytes = { msat = 2 }";
    for (billing, once, in_all) in [("", DRAW_MSAT, DRAW_MSAT), (rates, 10_007, 210_014)] {
        let mut stand = Stand::start_with(billing).await;
        let name = "Idempotency-Key: \"a-name-of-an-upload\"\r\n";
        let (socket, side) = stand.begin_with(name, 900_000, 5_000).await;
        drop(socket);
        side.left().await;
        stand.until_spent(once).await;
        stand.until_logged(&format!(" price_msat={once} ")).await;

        let (mut socket, mut side) = stand.begin_with(name, 1_000, 5_000).await;
        socket.write_all(&[b'x'; 95_000]).await.unwrap();
        side.read(95_000).await;
        side.say(OK).await;

        hear(&mut socket, "ok").await;
        stand.until_spent(in_all).await;
    }
}

#[tokio::test]
async fn an_upload_in_shadow_is_free_and_it_is_told_what_it_would_cost() {
    let rates = "[route.rates]\nanswer_msat = 7\nrequest_bytes = { msat = 2 }";
    let mut stand = Stand::start_with(&format!("shadow = true\n\n{rates}")).await;
    let (impatient, mut side, _) = stand.upload(1_000, &[], 5_000).await;
    side.read(5_000).await;
    drop(impatient);
    side.left().await;
    stand.until_logged(" would_charge_msat=10007 ").await;

    let (listener, mut side, given) = stand.upload(1_000, &[], 2_000).await;
    assert!(side.read(2_000).await == given);
    side.say(OK).await;
    let (status, answer) = listener.end().await;
    assert!(status.success() && !answer.to_ascii_lowercase().contains("payment-channel"));

    stand.until_logged(" would_charge_msat=4007 ").await;
    let metrics = Operator::of(&stand.world).metrics().await;
    let line = "farebox_shadow_msat_total{route=\"/stream\"} 14014";
    assert!(metrics.lines().any(|it| it == line), "{metrics}");
}

#[tokio::test]
async fn a_service_that_answers_early_is_paid_for_what_it_was_given() {
    let mut stand = Stand::start("answer_msat = 7\nrequest_bytes = { msat = 2 }").await;
    let (mut socket, mut side) = stand.begin(900_000, 5_000).await;
    side.say(OK).await;

    hear(&mut socket, "ok").await;
    stand.until_spent(10_007).await;

    // Nothing more passes, and nothing more is charged.
    let _gone = socket.write_all(&[b'x'; 95_000]).await;
    side.left().await;
    assert_eq!(stand.account().await.spent.get(), 10_007);
}

#[tokio::test]
async fn a_service_that_fails_gives_back_all_that_an_upload_has_cost() {
    let mut stand = Stand::start("answer_msat = 7\nrequest_bytes = { msat = 1 }").await;
    let (listener, mut side, _) = stand.upload(900_000, &[], 700_000).await;
    side.read(700_000).await;
    assert_eq!(stand.account().await.spent.get() / 700_000, 1, "it was charged before it passed");
    side.say("HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\n\r\n").await;

    let (_, answer) = listener.end().await;

    assert!(answer.contains(" 500 ") && answer.contains("price=0\r\n"), "{answer}");
    stand.until_spent(0).await;
}

#[tokio::test]
async fn a_failure_is_heard_to_its_end_although_the_upload_goes_on() {
    let rates = "[route.rates]\nanswer_msat = 7\nrequest_bytes = { msat = 1 }";
    for shadow in ["", "shadow = true\n\n"] {
        let mut stand = Stand::start_with(&format!("{shadow}{rates}")).await;
        let (mut socket, mut side) = stand.begin(900_000, 5_000).await;
        side.say("HTTP/1.1 500 Internal Server Error\r\nContent-Length: 10\r\n\r\nsorry").await;
        hear(&mut socket, "sorry").await;
        socket.write_all(&[b'x'; 5_000]).await.unwrap();

        side.say(", all").await;

        hear(&mut socket, ", all").await;
        stand.until_spent(0).await;
        stand.until_logged("\" 500 ").await;
        if !shadow.is_empty() {
            stand.until_logged(" would_charge_msat=0 ").await;
        }
        side.left().await;
    }
}

#[tokio::test]
async fn a_service_that_dies_in_the_middle_of_an_upload_is_paid_nothing() {
    let mut stand = Stand::start("answer_msat = 7\nrequest_bytes = { msat = 1 }").await;
    let (mut socket, side) = stand.begin(900_000, 5_000).await;

    drop(side);

    hear(&mut socket, "HTTP/1.1 502").await;
    stand.until_spent(0).await;
}

#[tokio::test]
async fn an_upload_and_its_answer_are_charged_to_one_account_at_once() {
    let rates = "answer_msat = 7\nbytes = { msat = 20 }\nrequest_bytes = { msat = 10 }";
    let mut stand = Stand::start(rates).await;
    let (socket, mut side) = stand.begin(1_500_000, 5_000).await;
    let (mut hear, mut tell) = socket.into_split();
    let telling = tokio::spawn(async move { tell.write_all(&[b'x'; 95_000]).await.map(|()| tell) });
    let hearing = tokio::spawn(async move {
        let mut heard = Vec::new();
        while !heard.ends_with(b"\r\n0\r\n\r\n") {
            hear.read_buf(&mut heard).await.unwrap();
        }
        heard
    });

    side.say(CHUNKED).await;
    side.chunk(&"y".repeat(5_000)).await;
    for at in 1..20 {
        // Whichever way is faster, there is not enough for all of both.
        if at == 8 {
            stand.pay(2_000_000).await;
        }
        side.read(5_000).await;
        side.chunk(&"y".repeat(5_000)).await;
    }
    side.end().await;

    let heard = String::from_utf8(hearing.await.unwrap()).unwrap();
    let _open = telling.await.unwrap().unwrap();
    let (_head, body) = heard.split_once("\r\n\r\n").unwrap();
    assert_eq!(body.matches('y').count(), 100_000);
    stand.until_spent(3_000_007).await;
}

#[tokio::test]
async fn a_request_without_a_body_costs_no_bytes() {
    let mut stand = Stand::start("answer_msat = 7\nrequest_bytes = { msat = 2 }").await;
    let head = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";
    let (listener, _side) = stand.open(50_000, &[], head).await;

    assert!(listener.end().await.0.success());

    stand.until_spent(7).await;
}
