//! The paying client tops its running answers up by itself.

use std::process::Command;
use std::time::Duration;

use farebox_channel::message::{Offer, Receipt};
use farebox_channel::wire::Field;
use farebox_channel::{Msat, Sat, Timestamp};
use farebox_client::{Limit, PayError, Policy};
use reqwest::{Method, Request};

use super::Stand;
use super::feed::{CHUNKED, EVENTS, Side};
use super::payer::{Payer, hear, limit, msat, read, read_bytes};
use crate::support::{PRICE_MSAT, until};

/// Gives so many bytes in pieces, and ends.
fn give(mut side: Side, length: usize) -> tokio::task::JoinHandle<()> {
    tokio::spawn(async move {
        let piece = "x".repeat(50_000);
        for _ in 0..length / piece.len() {
            side.chunk(&piece).await;
        }
        side.end().await;
    })
}

#[tokio::test]
async fn a_long_download_is_topped_up_until_it_is_whole() {
    let stand = Stand::start("answer_msat = 7\nbytes = { msat = 1 }").await;
    let payer = Payer::new(&stand, |_| {}).await;
    let (mut answer, side) = payer.open(&stand, CHUNKED).await;
    assert!(answer.url().path().ends_with("/stream"), "it has kept its address");
    let giving = give(side, 3_000_000);

    let (body, end) = read(&mut answer).await;

    giving.await.unwrap();
    end.unwrap();
    assert_eq!(body.len(), 3_000_000);
    assert!(payer.top_ups() >= 3, "{} top-ups", payer.top_ups());
    assert_eq!(payer.costs(), [3_000_007]);
    payer.agrees(&stand, PRICE_MSAT + 3_000_007).await;
    let paid = payer.purse().payment.paid.get();
    assert!(paid <= 5_000 + 400, "no more than an answer may cost: {paid}");
}

#[tokio::test]
async fn a_download_of_announced_length_is_topped_up_and_its_cost_is_asked_for() {
    let stand = Stand::start("bytes = { msat = 200 }").await;
    let payer = Payer::new(&stand, |_| {}).await;
    let head = "HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n";
    let (mut answer, mut side) = payer.open(&stand, head).await;
    assert_eq!(answer.content_length(), Some(5_000));
    side.say(&"x".repeat(5_000)).await;

    let (body, end) = read(&mut answer).await;

    end.unwrap();
    assert_eq!(body.len(), 5_000);
    assert_eq!(payer.costs(), [1_000_000]);
    payer.agrees(&stand, PRICE_MSAT + 1_000_000).await;
}

#[tokio::test]
async fn the_history_has_what_each_running_answer_has_cost_also_where_that_is_asked_for() {
    let stand = Stand::start("bytes = { msat = 200 }").await;
    let payer = Payer::new(&stand, |_| {}).await;
    let (mut answer, mut side) = payer.open(&stand, CHUNKED).await;
    let open = payer.client.file().history(Timestamp::new(0)).unwrap();
    assert_eq!(open.last().unwrap().cost, None, "it runs yet");
    side.chunk(&"x".repeat(3_000)).await;
    side.end().await;
    read(&mut answer).await.1.unwrap();
    drop(side);
    let head = "HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n";
    let (mut answer, mut side) = payer.open(&stand, head).await;
    side.say(&"x".repeat(500)).await;
    read(&mut answer).await.1.unwrap();

    let rows = payer.client.file().history(Timestamp::new(0)).unwrap();

    let costs: Vec<_> = rows.iter().map(|row| row.cost.map(Msat::get)).collect();
    assert_eq!(costs, [Some(PRICE_MSAT), Some(600_000), Some(100_000)]);
    payer.agrees(&stand, PRICE_MSAT + 700_000).await;
}

#[tokio::test]
async fn a_stream_of_slow_events_goes_on_as_long_as_it_is_read() {
    let stand = Stand::start("events = { msat = 150_000 }").await;
    let payer = Payer::new(&stand, |_| {}).await;
    let (mut answer, mut side) = payer.open(&stand, EVENTS).await;

    for event in 1..=8 {
        let event = format!("data: {event}\n\n");
        side.chunk(&event).await;
        hear(&mut answer, &event).await;
    }
    side.end().await;
    let (_, end) = read(&mut answer).await;

    end.unwrap();
    assert!(payer.top_ups() >= 3);
    assert_eq!(payer.costs(), [1_200_000]);
    payer.agrees(&stand, PRICE_MSAT + 1_200_000).await;
}

#[tokio::test]
async fn two_streams_and_requests_at_a_price_share_one_channel() {
    let stand = Stand::start("bytes = { msat = 1 }").await;
    let payer = Payer::new(&stand, |_| {}).await;
    let (mut first, first_side) = payer.open(&stand, CHUNKED).await;
    let (mut second, second_side) = payer.open(&stand, CHUNKED).await;
    let giving = [give(first_side, 1_500_000), give(second_side, 2_000_000)];

    let calls = async {
        for _ in 0..20 {
            payer.flat(&stand).await;
        }
    };
    let ((first, first_end), (second, second_end), ()) =
        tokio::join!(read(&mut first), read(&mut second), calls);

    for giving in giving {
        giving.await.unwrap();
    }
    first_end.unwrap();
    second_end.unwrap();
    assert_eq!((first.len(), second.len()), (1_500_000, 2_000_000));
    payer.agrees(&stand, 21 * PRICE_MSAT + 3_500_000).await;
}

#[tokio::test]
async fn what_an_answer_may_cost_is_not_exceeded_and_the_body_says_so() {
    let stand = Stand::start("bytes = { msat = 1 }\nwait_secs = 1").await;
    let payer = Payer::new(&stand, |policy| policy.answer_max = msat(700_000)).await;
    let (mut answer, side) = payer.open(&stand, CHUNKED).await;
    let giving = give(side, 2_000_000);

    let (body, end) = read(&mut answer).await;

    assert_eq!(limit(&end.unwrap_err()), Limit::Answer(msat(700_000)));
    giving.abort();
    let cost = u64::try_from(body.len()).unwrap();
    assert!((699_000..=700_000).contains(&cost), "{cost}");
    assert_eq!(payer.costs(), [cost]);
    payer.agrees(&stand, PRICE_MSAT + cost).await;
}

#[tokio::test]
async fn a_stream_that_may_cost_no_more_ends_with_the_reason_and_an_error() {
    let stand = Stand::start("events = { msat = 300_000 }\nwait_secs = 1").await;
    let payer = Payer::new(&stand, |policy| policy.answer_max = msat(700_000)).await;
    let (mut answer, mut side) = payer.open(&stand, EVENTS).await;
    side.chunk("data: 1\n\ndata: 2\n\ndata: 3\n\n").await;

    let (body, end) = read(&mut answer).await;

    let body = String::from_utf8(body).unwrap();
    assert!(body.contains("data: 2\n\n") && !body.contains("data: 3"), "{body}");
    assert!(body.contains("\"reason\":\"underpaid\",\"state\":\"ended\""), "{body}");
    assert_eq!(limit(&end.unwrap_err()), Limit::Answer(msat(700_000)));
    payer.agrees(&stand, PRICE_MSAT + 600_000).await;
}

#[tokio::test]
async fn a_stream_is_paid_to_the_last_satoshi_of_a_budget_and_ends_with_the_reason() {
    let stand = Stand::start("events = { msat = 150_000 }\nwait_secs = 1").await;
    let most = Sat::new(1_000).unwrap();
    let payer = Payer::new(&stand, |policy| policy.total_max = Some(most.to_msat())).await;
    let (mut answer, mut side) = payer.open(&stand, EVENTS).await;
    side.chunk(&"data: 1\n\n".repeat(9)).await;

    let (body, end) = read(&mut answer).await;

    let events = String::from_utf8(body).unwrap().matches("data: 1\n\n").count();
    assert_eq!(events, 6, "998.5 sat were left for 150 sat each");
    let limit = limit(&end.unwrap_err());
    assert!(matches!(limit, Limit::Total { most: it, .. } if it == most.to_msat()), "{limit}");
    assert_eq!(payer.purse().payment.paid, most);
    payer.agrees(&stand, PRICE_MSAT + 900_000).await;
}

#[tokio::test]
async fn a_channel_that_holds_no_more_ends_a_stream_with_an_error() {
    let stand = Stand::start("events = { msat = 1_000_000 }\nwait_secs = 1").await;
    let lock = |policy: &mut Policy| {
        policy.capacity = None;
        policy.answer_max = msat(100_000_000);
        policy.ahead = msat(20_000_000);
    };
    let payer = Payer::new(&stand, lock).await;
    let (mut answer, mut side) = payer.open(&stand, EVENTS).await;
    side.chunk(&"data: 1\n\n".repeat(60)).await;

    let (body, end) = read(&mut answer).await;

    let events = String::from_utf8(body).unwrap().matches("data: 1\n\n").count();
    assert_eq!(events, 49, "less than what the channel holds was left");
    assert_eq!(limit(&end.unwrap_err()), Limit::Channel(Sat::new(50_000).unwrap()));
    payer.agrees(&stand, PRICE_MSAT + 49_000_000).await;
}

#[tokio::test]
async fn what_a_reader_leaves_comes_back_to_the_credit() {
    let stand = Stand::start("events = { msat = 50_000 }").await;
    let payer = Payer::new(&stand, |_| {}).await;
    let (mut answer, mut side) = payer.open(&stand, EVENTS).await;
    side.chunk("data: 1\n\ndata: 2\n\n").await;
    hear(&mut answer, "data: 2\n\n").await;
    assert_eq!(payer.purse().spent, payer.purse().payment.paid.to_msat(), "it may be drawn");

    drop(answer);
    side.left().await;
    payer.until_spent(&stand, PRICE_MSAT + 100_000).await;
    payer.flat(&stand).await;

    payer.agrees(&stand, 2 * PRICE_MSAT + 100_000).await;
    assert_eq!(payer.costs(), [100_000], "it is told by then");
}

#[tokio::test]
async fn a_reader_who_does_not_read_pays_nothing_more() {
    let stand = Stand::start("bytes = { msat = 1 }").await;
    let payer = Payer::new(&stand, |_| {}).await;
    let (mut answer, side) = payer.open(&stand, CHUNKED).await;
    let giving = give(side, 2_000_000);
    let mut body = read_bytes(&mut answer, 100_000).await;
    let paid = payer.account(&stand).await.payment.paid;

    // So long as would be enough for many top-ups.
    tokio::time::sleep(Duration::from_millis(600)).await;
    assert_eq!(payer.account(&stand).await.payment.paid, paid);

    let (rest, end) = read(&mut answer).await;
    end.unwrap();
    giving.await.unwrap();
    body.extend(rest);
    assert_eq!(body.len(), 2_000_000);
    payer.agrees(&stand, PRICE_MSAT + 2_000_000).await;
}

/// Puts a configuration in force that has this at its end too.
async fn reload(stand: &Stand, billing: &str) {
    let path = stand.world.file("farebox.toml");
    let config = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, config + billing).unwrap();
    let pid = stand.world.gateway.pid().to_string();
    assert!(Command::new("kill").args(["-HUP", &pid]).status().unwrap().success());
    until("the rates are in force", async || {
        stand.buyer.send("/stream", &[]).await.message::<Offer>().rates.is_some()
    })
    .await;
}

#[tokio::test]
async fn rates_since_a_price_was_remembered_are_agreed_to_before_more_than_that_is_paid() {
    let stand = Stand::start_changed("", |config| format!("quote_secs = 0\n{config}")).await;
    let payer = Payer::new(&stand, |_| {}).await;
    let (mut answer, mut side) = payer.open(&stand, CHUNKED).await;
    side.chunk("flat").await;
    side.end().await;
    assert_eq!(read(&mut answer).await.0, b"flat");
    drop(side);
    reload(&stand, "[route.rates]\nbytes = { msat = 1 }\n").await;

    let (mut answer, mut side) = payer.open(&stand, CHUNKED).await;
    let receipt = Receipt::decode(answer.headers()[Receipt::NAME].as_bytes()).unwrap();
    assert!(receipt.is_running);
    side.chunk(&"x".repeat(500)).await;
    side.end().await;
    assert_eq!(read(&mut answer).await.0.len(), 500, "it costs no more than the price");
    drop(side);
    let (mut answer, side) = payer.open(&stand, CHUNKED).await;
    let giving = give(side, 1_000_000);
    let (body, end) = read(&mut answer).await;

    end.unwrap();
    giving.await.unwrap();
    assert_eq!(body.len(), 1_000_000);
    payer.agrees(&stand, PRICE_MSAT + super::DRAW_MSAT + 500 + 1_000_000).await;
}

#[tokio::test]
async fn a_close_while_a_stream_runs_settles_what_is_spent() {
    let stand = Stand::start("events = { msat = 250_000 }").await;
    let payer = Payer::new(&stand, |_| {}).await;
    let (mut answer, mut side) = payer.open(&stand, EVENTS).await;
    for event in ["data: 1\n\n", "data: 2\n\n"] {
        side.chunk(event).await;
        hear(&mut answer, event).await;
    }
    let signed = payer.purse().payment.paid;

    let closing = payer.client.close(&stand.world.gateway.url("/")).await.unwrap();

    let spent = (PRICE_MSAT + 500_000).div_ceil(1_000);
    assert!((spent..spent + 2).contains(&closing.paid.get()), "{closing:?}");
    assert!(signed > closing.paid, "what was ahead goes back");
    side.chunk("data: 3\n\ndata: 4\n\n").await;
    let (rest, _) = read(&mut answer).await;
    assert!(!String::from_utf8(rest).unwrap().contains("data: 4\n\n"));
    assert!(matches!(payer.record().stage, farebox_client::Stage::Closing(..)));
}

/// A service that takes so much of an upload and then says so.
async fn take(stand: &Stand, length: usize) -> Side {
    let mut side = stand.feed.asked().await;
    side.read(length).await;
    side.say("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok").await;
    side
}

#[tokio::test]
async fn an_upload_is_topped_up_until_it_is_whole() {
    let stand = Stand::start("answer_msat = 7\nrequest_bytes = { msat = 10 }").await;
    let payer = Payer::new(&stand, |_| {}).await;
    let upload = || {
        let mut request =
            Request::new(Method::POST, stand.world.gateway.url("/stream").parse().unwrap());
        *request.body_mut() = Some(vec![b'x'; 200_000].into());
        payer.client.execute(request)
    };

    for _ in 0..2 {
        let (answer, _side) = tokio::join!(upload(), take(&stand, 200_000));
        assert_eq!(answer.unwrap().text().await.unwrap(), "ok");
    }

    assert!(payer.top_ups() >= 4, "{} top-ups", payer.top_ups());
    payer.agrees(&stand, PRICE_MSAT + 2 * 2_000_007).await;
}

#[tokio::test]
async fn an_upload_that_may_cost_no_more_ends_with_an_error_and_is_not_sent_again() {
    let stand = Stand::start("request_bytes = { msat = 10 }\nwait_secs = 4").await;
    let payer = Payer::new(&stand, |policy| policy.answer_max = msat(700_000)).await;
    let mut request =
        Request::new(Method::POST, stand.world.gateway.url("/stream").parse().unwrap());
    *request.body_mut() = Some(vec![b'x'; 200_000].into());

    let (answer, side) = tokio::join!(payer.client.execute(request), stand.feed.asked());

    let error = answer.unwrap_err();
    assert!(matches!(error, PayError::Limit(Limit::Answer(_))), "{error}");
    side.left().await;
    let spent = payer.account(&stand).await.spent.get();
    assert!((600_000..=PRICE_MSAT + 700_000).contains(&spent), "{spent}");
    payer.agrees(&stand, spent).await;
    let again = tokio::time::timeout(Duration::from_millis(300), stand.feed.asked()).await;
    assert!(again.is_err(), "it is not asked again");
}
