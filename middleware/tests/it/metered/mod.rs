//! Answers that cost what passes: bytes, events, messages, time.

mod borders;
mod failing;
mod stream;
mod taker;
mod tried;
mod uploads;

use std::future::poll_fn;
use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::time::{Duration, Instant};

use farebox_channel::Msat;
use farebox_channel::message::Receipt;
use farebox_channel::wire::Field;
use farebox_middleware::{BodyError, ProblemKind, Rates, RunningBill};
use http::{HeaderMap, Request};
use http_body::{Body, Frame};
use http_body_util::Full;
use tokio::sync::mpsc::unbounded_channel;
use tower_layer::Layer;
use tower_service::Service;

use stream::{Api, Fed, Stream, layer, msat, rate, rates};

use crate::support::{Desk, header};

#[tokio::test]
async fn an_answer_costs_its_bytes_and_the_rest_comes_back() {
    let rates = Rates { answer: msat(5), bytes: rate(3, 1_024), ..rates() };
    let mut stream = Stream::open("text/plain", rates).await;
    let head = stream.head.get(Receipt::NAME).unwrap();
    assert_eq!(Receipt::decode(head.as_bytes()).unwrap().price, msat(1_000), "what is reserved");

    stream.give(vec![b'x'; 10_000]);
    stream.end();
    let (body, receipt) = stream.rest().await;

    assert_eq!(body.len(), 10_000);
    assert_eq!(receipt.price, msat(5 + 30), "30,000 by 1,024, rounded up");
    assert_eq!(receipt.credit, msat(1_000_000 - 35));
    assert_eq!(stream.bill.cost(), msat(35));
    assert_eq!(stream.spent().await, 35);
}

#[tokio::test]
async fn a_stream_pauses_at_zero_and_goes_on_once_it_is_paid() {
    let rates = Rates { bytes: rate(1, 1), ..rates() };
    let mut stream = Stream::open("application/octet-stream", rates).await;
    let given: Vec<u8> = (0..1_500_000_u32).map(|at| at.to_le_bytes()[1]).collect();
    given.chunks(7_000).for_each(|piece| stream.give(piece.to_vec()));
    stream.end();

    let first = stream.exactly(1_000_000).await;
    stream.pay(1_400).await;
    let second = stream.exactly(400_000).await;
    stream.pay(2_000).await;
    let (last, receipt) = stream.rest().await;

    assert_eq!([first, second, last].concat(), given, "nothing is lost or changed");
    assert_eq!(receipt.price, msat(1_500_000));
    assert_eq!(stream.spent().await, 1_500_000);
}

#[tokio::test]
async fn a_fast_stream_leaves_credit_for_others_of_its_channel() {
    let mut stream = Stream::open("text/plain", Rates { bytes: rate(1, 1), ..rates() }).await;
    for _ in 0..600 {
        stream.give(vec![b'x'; 1_000]);
        stream.exactly(1_000).await;
    }
    let channel = stream.desk.ledger.channel(stream.desk.contract.outpoint).unwrap();
    let credit = channel.account().credit().get();

    assert!(credit >= 100_000, "{credit} of 400,000 are left");
    assert_eq!(stream.spent().await, 600_000);
}

#[tokio::test]
async fn a_stream_that_is_not_paid_in_time_ends_and_costs_what_was_delivered() {
    let patience = Duration::from_millis(1);
    let rates = Rates { bytes: rate(3, 1), answer: msat(1), patience, ..rates() };
    let mut stream = Stream::open("application/octet-stream", rates).await;
    stream.give(vec![b'x'; 400_000]);

    stream.exactly(333_333).await;
    let error = stream.error().await;

    assert!(matches!(error, BodyError::Unpaid(ProblemKind::Underpaid)), "{error}");
    assert_eq!(stream.spent().await, 333_333 * 3 + 1);
}

#[tokio::test]
async fn what_lets_nothing_go_on_buys_no_time() {
    let patience = Duration::from_millis(400);
    let rates = Rates { events: rate(1_000_000, 1), patience, ..rates() };
    let mut stream = Stream::open("text/event-stream", rates).await;
    stream.give("data: 1\n\ndata: 2\n\n");
    while !stream.piece().await.ends_with(b"\"state\":\"paused\"}\n\n") {}

    // A satoshi now and then, of the thousand that the next event costs.
    let mut paid = 1_000;
    let ended = loop {
        let next = tokio::time::timeout(patience / 4, stream.piece()).await;
        if let Ok(told) = next {
            break told;
        }
        paid += 1;
        assert!(paid < 1_100, "it waits for ever");
        stream.pay(paid).await;
    };

    assert!(ended.ends_with(b"\"state\":\"ended\"}\n\n"), "{ended:?}");
    assert_eq!(stream.settled(1_000_000).await, 1_000_000);
}

#[tokio::test]
async fn a_client_that_leaves_pays_what_it_was_given() {
    let mut stream = Stream::open("text/plain", Rates { bytes: rate(1, 1), ..rates() }).await;
    stream.give(vec![b'x'; 5_000]);
    stream.exactly(5_000).await;
    stream.give(vec![b'x'; 5_000]);

    assert_eq!(stream.spent().await, 5_000);
}

#[tokio::test]
async fn what_is_drawn_while_the_client_leaves_comes_back() {
    let mut stream = Stream::open("text/plain", Rates { bytes: rate(1, 1), ..rates() }).await;
    stream.give(vec![b'x'; 1_000]);
    stream.exactly(1_000).await;
    stream.give(vec![b'x'; 5_000]);
    // The draw is made, and nobody has asked what came of it.
    let polled = poll_fn(|context| Poll::Ready(stream.body.as_mut().poll_frame(context))).await;
    assert!(polled.is_pending());
    let (ledger, channel) = (stream.desk.ledger.clone(), stream.desk.contract.outpoint);
    let mut credited = ledger.credited(channel);
    while ledger.channel(channel).unwrap().account().spent == msat(1_000) {
        credited.again().await;
    }

    assert_eq!(stream.settled(1_000).await, 1_000);
}

#[tokio::test]
async fn a_service_that_breaks_off_is_paid_for_what_it_has_given() {
    let mut stream = Stream::open("text/plain", Rates { bytes: rate(1, 1), ..rates() }).await;
    stream.give(vec![b'x'; 700]);
    stream.give.as_ref().unwrap().send(Err("broken off")).unwrap();
    stream.exactly(700).await;

    assert_eq!(stream.error().await.to_string(), "broken off");
    assert_eq!(stream.bill.cost(), msat(700));
    assert_eq!(stream.spent().await, 700);
}

#[tokio::test]
async fn a_service_that_gives_nothing_and_breaks_off_is_paid_nothing() {
    let rates = Rates { answer: msat(9), bytes: rate(1, 1), ..rates() };
    let mut stream = Stream::open("text/plain", rates).await;
    stream.give.as_ref().unwrap().send(Err("broken off")).unwrap();

    assert_eq!(stream.error().await.to_string(), "broken off");
    assert_eq!(stream.bill.cost(), Msat::ZERO);
    assert_eq!(stream.spent().await, 0);
}

#[tokio::test]
async fn an_event_stream_says_that_credit_runs_low_that_it_waits_and_why_it_ends() {
    let patience = Duration::from_millis(300);
    let rates = Rates { events: rate(400_000, 1), draw: msat(400_000), patience, ..rates() };
    let mut stream = Stream::open("text/event-stream", rates).await;
    let told = |data: &str| format!("event: payment-channel\ndata: {data}\n\n");
    // The next draw would be of 800,000, and there is less.
    let low = told(r#"{"cost_msat":400000,"credit_msat":0,"reason":null,"state":"low"}"#);
    let paused = told(r#"{"cost_msat":800000,"credit_msat":0,"reason":null,"state":"paused"}"#);
    let ended =
        told(r#"{"cost_msat":1200000,"credit_msat":0,"reason":"underpaid","state":"ended"}"#);

    stream.give("data: 1\n\n: a comment\n\ndata: 2\n\ndata: 3\n\ndata: 4\n\n");
    assert_eq!(stream.piece().await, low.replace("400000,", "0,"));
    assert_eq!(stream.piece().await, "data: 1\n\n: a comment\n\ndata: 2\n\n");
    assert_eq!(stream.piece().await, paused);
    stream.pay(1_200).await;
    assert_eq!(stream.piece().await, "data: 3\n\n");
    assert_eq!(stream.piece().await, paused.replace("800000", "1200000"));
    let (end, receipt) = stream.rest().await;

    assert_eq!(String::from_utf8(end).unwrap(), ended);
    assert_eq!((receipt.price, receipt.credit), (msat(1_200_000), Msat::ZERO));
    assert_eq!(stream.spent().await, 1_200_000);
}

#[tokio::test]
async fn a_grpc_stream_that_is_not_paid_ends_with_its_status() {
    let patience = Duration::from_millis(1);
    let rates = Rates { messages: rate(600_000, 1), patience, ..rates() };
    let mut stream = Stream::open("application/grpc", rates).await;
    let message = [&[0, 0, 0, 0, 3][..], b"abc"].concat();
    stream.give([message.clone(), message].concat());

    let (body, receipt) = stream.rest().await;

    assert_eq!(body.len(), 8, "it ends between two messages");
    assert_eq!(receipt.price, msat(600_000));
    assert_eq!(stream.spent().await, 600_000);
}

#[tokio::test]
async fn a_call_of_grpc_that_fails_without_a_message_costs_nothing() {
    let rates = Rates { answer: msat(9), messages: rate(600, 1), ..rates() };
    let mut stream = Stream::open("application/grpc", rates).await;
    let trailers = HeaderMap::from_iter([("grpc-status".parse().unwrap(), "14".parse().unwrap())]);
    stream.give.as_ref().unwrap().send(Ok(Frame::trailers(trailers))).unwrap();

    let (_, receipt) = stream.rest().await;

    assert_eq!(receipt.price, Msat::ZERO);
    assert_eq!(stream.spent().await, 0);
}

#[tokio::test]
async fn an_answer_that_has_nothing_to_count_costs_the_price() {
    let rates = Rates { messages: rate(600, 1), ..rates() };
    let desk = Desk::open().await;
    let (_give, fed) = unbounded_channel();
    let api = Api("application/json", Arc::new(Mutex::new(Some(Fed(fed)))));
    let (name, value) = header(&desk.pay(1_000));
    let request = Request::get("/x").header(name, value).body(Full::default()).unwrap();
    let answer = layer(&desk, rates).layer(api).call(request).await.unwrap();

    assert!(answer.extensions().get::<RunningBill>().is_none());
    drop(answer);
    desk.ledger.close().await;
    let channel = desk.ledger.channel(desk.contract.outpoint).unwrap();
    assert_eq!(channel.account().spent, msat(1_000));
}

#[tokio::test]
async fn what_is_given_back_with_the_last_notice_is_not_lost() {
    let patience = Duration::from_millis(1);
    let rates = Rates { events: rate(700_000, 1), patience, ..rates() };
    let mut stream = Stream::open("text/event-stream", rates).await;
    stream.give("data: 1\n\ndata: 2\n\n");
    while !stream.piece().await.ends_with(b"\"state\":\"ended\"}\n\n") {}

    // It leaves before the end.
    assert_eq!(stream.settled(700_000).await, 700_000);
}

#[tokio::test]
async fn time_is_charged_and_a_pause_is_not() {
    let patience = Duration::from_secs(60);
    let rates = Rates { millis: rate(10_000, 1), draw: msat(100_000), patience, ..rates() };
    let mut stream = Stream::open("text/event-stream", rates).await;
    // A hundred milliseconds are paid.
    let began = tokio::time::Instant::now();
    while !stream.piece().await.ends_with(b"\"state\":\"paused\"}\n\n") {}
    let ran = began.elapsed();
    assert!(ran >= Duration::from_millis(99), "{ran:?}");
    tokio::time::sleep(Duration::from_millis(300)).await; // A pause that would cost three times as much.
    stream.pay(1_500).await;
    stream.give("data: 1\n\n");
    stream.end();
    let (_, receipt) = stream.rest().await;

    let cost = receipt.price.get();
    assert!((1_000_000..1_500_000).contains(&cost), "{cost}");
    assert_eq!(stream.spent().await, cost);
}

#[tokio::test]
async fn a_second_pause_lasts_as_long_as_the_first_may() {
    let patience = Duration::from_millis(300);
    let rates = Rates { millis: rate(10_000, 1), patience, ..rates() };
    let mut stream = Stream::open("application/octet-stream", rates).await;
    // It has a tenth of a second, and as much again with the payment.
    let waiting = tokio::time::timeout(Duration::from_millis(250), stream.error()).await;
    assert!(waiting.is_err(), "it pauses");
    stream.pay(2_000).await;
    let began = Instant::now();

    let error = stream.error().await;

    assert!(matches!(error, BodyError::Unpaid(_)), "{error:?}");
    assert!(began.elapsed() >= patience, "{:?}", began.elapsed());
}
