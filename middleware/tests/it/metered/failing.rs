//! Uploads that fail: through the client, or through the service.

use std::time::Duration;

use farebox_middleware::{ClientFault, PaidBody, Rates, ReleasePolicy};
use http::Response;
use http_body::Frame;
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};

use super::stream::{Fed, Given, layer, msat, rate, rates};
use super::taker::{Uploading, on_record, pass, pay, rest, spent, summary};
use crate::support::{Desk, PRICE_MSAT};

const KEY: [(&str, &str); 1] = [("idempotency-key", "\"a-name-of-an-upload\"")];

/// Rates by which bytes of a request cost one each, and a request seven besides.
fn by_bytes() -> Rates {
    Rates { request_bytes: rate(1, 1), answer: msat(7), ..rates() }
}

#[tokio::test]
async fn a_named_upload_that_its_client_breaks_off_can_be_asked_again_though_it_was_answered_502() {
    for server_error in [true, false] {
        let desk = Desk::open().await;
        let release = ReleasePolicy { server_error, ..ReleasePolicy::default() };
        let layer = layer(&desk, by_bytes()).release(release);
        let mut broken = Uploading::begin(&desk, layer.clone(), &KEY, u64::MAX);
        broken.give(vec![b'x'; 3_000]);
        broken.taken(3_000).await;
        broken.break_off().await;
        assert_eq!(broken.told(502).await, (502, 3_007, false));
        assert_eq!(on_record(&desk), 3_007);

        let mut again = Uploading::begin(&desk, layer, &KEY, u64::MAX);
        again.give(vec![b'x'; 5_000]);
        again.taken(5_000).await;
        again.end().await;

        assert_eq!(again.told(200).await, (200, 5_007, false), "charged anew");
        assert_eq!(spent(&desk).await, 3_007 + 5_007);
    }
}

#[tokio::test]
async fn a_named_request_of_one_price_that_its_client_breaks_off_is_asked_again_for_the_same_charge()
 {
    let desk = Desk::open().await;
    let mut broken = Uploading::begin(&desk, desk.layer(), &KEY, u64::MAX);
    broken.give(vec![b'x'; 3_000]);
    broken.taken(3_000).await;
    broken.break_off().await;
    let (_, body) = unbounded_channel();
    let mut told = Response::builder().status(502).body(Fed(body)).unwrap();
    let fault = ClientFault::default();
    fault.set();
    told.extensions_mut().insert(fault);
    let failed = summary(&broken.answer(Ok(told)).await.unwrap());
    assert_eq!(failed, (502, PRICE_MSAT, false));

    let mut again = Uploading::begin(&desk, desk.layer(), &KEY, u64::MAX);
    assert_eq!(again.told(200).await, (200, PRICE_MSAT, false));
    assert_eq!(on_record(&desk), PRICE_MSAT);
    let third = Uploading::begin(&desk, desk.layer(), &KEY, u64::MAX);
    assert_eq!(third.refused().await, 409, "it is answered by now");
}

#[tokio::test]
async fn a_client_that_is_told_what_is_wrong_with_its_upload_has_its_answer() {
    for status in [408, 413] {
        let desk = Desk::open().await;
        let mut refused = Uploading::begin(&desk, layer(&desk, by_bytes()), &KEY, u64::MAX);
        refused.give(vec![b'x'; 3_000]);
        refused.taken(3_000).await;
        refused.break_off().await;
        assert_eq!(refused.told(status).await, (status, 3_007, false));

        let again = Uploading::begin(&desk, layer(&desk, by_bytes()), &KEY, u64::MAX);
        assert_eq!(again.refused().await, 409);
    }
}

#[tokio::test]
async fn a_piece_that_is_too_long_is_neither_passed_on_nor_charged() {
    let desk = Desk::open().await;
    let mut long = Uploading::begin(&desk, layer(&desk, by_bytes()), &[], 5_000);
    long.give(vec![b'x'; 3_000]);
    long.taken(3_000).await;
    long.give(vec![b'x'; 3_000]);
    long.taken(3_000).await;
    long.end().await;

    assert_eq!(long.told(413).await, (413, 3_007, false));
    assert_eq!(spent(&desk).await, 3_007);
}

#[tokio::test]
async fn a_service_that_fails_gives_an_upload_back_unless_its_client_has_made_it_wait() {
    let secs = Duration::from_secs;
    for (waits, charged) in [
        (&[][..], 0),
        (&[secs(2), secs(2)], 0),
        (&[secs(6)], 1_007),
        (&[secs(2), secs(2), secs(2)], 3_007),
    ] {
        let desk = Desk::open().await;
        let mut upload = Uploading::begin(&desk, layer(&desk, by_bytes()), &[], u64::MAX);
        for (at, wait) in (1..).zip(waits) {
            upload.give(vec![b'x'; 1_000]);
            upload.taken(at * 1_000).await;
            pass(*wait).await;
        }

        let failed = upload.told(502).await;

        assert_eq!(failed, (502, charged, charged == 0), "{waits:?}");
        assert_eq!(spent(&desk).await, charged);
    }
}

#[tokio::test]
async fn an_upload_that_is_given_back_does_not_break_off_before_the_failure_has_come() {
    let desk = Desk::open().await;
    let mut upload = Uploading::begin(&desk, layer(&desk, by_bytes()), &[], u64::MAX);
    upload.give(vec![b'x'; 3_000]);
    upload.taken(3_000).await;
    let (_give, body) = unbounded_channel();
    let told = Response::builder().status(500).body(Fed(body)).unwrap();
    let answer = upload.answer(Ok(told)).await.unwrap();
    assert_eq!(summary(&answer), (500, 0, true));

    upload.give(vec![b'x'; 3_000]);
    upload.pauses().await;
    drop(answer);

    upload.is_over().await;
    upload.taken(3_000).await;
    assert_eq!(spent(&desk).await, 0);
}

#[tokio::test]
async fn a_client_that_breaks_its_upload_off_or_stalls_has_nothing_back_where_there_is_no_answer() {
    for is_broken in [true, false] {
        let desk = Desk::open().await;
        let mut upload = Uploading::begin(&desk, layer(&desk, by_bytes()), &[], u64::MAX);
        upload.give(vec![b'x'; 3_000]);
        upload.taken(3_000).await;
        if is_broken {
            upload.break_off().await;
        } else {
            pass(Duration::from_secs(6)).await;
        }

        assert_eq!(upload.answer(Err("it has died")).await.err(), Some("it has died"));

        assert_eq!(spent(&desk).await, 3_007);
    }
}

#[tokio::test]
async fn an_upload_that_has_paused_for_want_of_credit_is_charged_although_the_service_fails() {
    let desk = Desk::open().await;
    let rates = Rates { request_bytes: rate(400, 1), ..rates() };
    let mut upload = Uploading::begin(&desk, layer(&desk, rates), &[], u64::MAX);
    upload.give(vec![b'x'; 3_000]);
    upload.taken(2_500).await;
    pay(&desk, 2_000).await;
    upload.taken(3_000).await;

    assert_eq!(upload.told(500).await, (500, 1_200_000, false));

    assert_eq!(spent(&desk).await, 1_200_000);
}

#[tokio::test]
async fn a_call_that_its_client_may_have_made_fail_is_charged_for_what_it_has_sent() {
    for (status, charged) in [("13", 400), ("4", 400), ("14", 0)] {
        let desk = Desk::open().await;
        let rates = Rates { request_messages: rate(400, 1), ..rates() };
        let grpc = ("content-type", "application/grpc");
        let mut call = Uploading::begin(&desk, layer(&desk, rates), &[grpc], u64::MAX);
        call.give(MESSAGE);
        call.taken(8).await;
        let (_, body) = unbounded_channel();
        let told = Response::builder().header(grpc.0, grpc.1).header("grpc-status", status);

        let answer = call.answer(Ok(told.body(Fed(body)).unwrap())).await.unwrap();

        assert_eq!(summary(&answer).2, charged == 0, "{status}");
        drop(answer);
        assert_eq!(spent(&desk).await, charged);
    }
}

#[tokio::test]
async fn a_service_that_breaks_its_answer_off_before_the_first_byte_is_paid_for_the_upload() {
    let desk = Desk::open().await;
    let mut upload = Uploading::begin(&desk, layer(&desk, by_bytes()), &[], u64::MAX);
    upload.give(vec![b'x'; 3_000]);
    upload.taken(3_000).await;
    upload.end().await;
    let (give, body) = unbounded_channel();
    let answer = upload.answer(Ok(Response::new(Fed(body)))).await.unwrap();

    give.send(Err("broken off")).unwrap();

    assert!(rest(answer.into_body()).await.is_err());
    assert_eq!(spent(&desk).await, 3_007);
}

/// A message of gRPC.
const MESSAGE: &[u8] = &[0, 0, 0, 0, 3, b'a', b'b', b'c'];

/// Begins a call with a message, and a second one that waits for credit, and lets the service answer.
/// What is left of what was charged is four hundred thousand.
async fn in_pause(desk: &Desk, rates: Rates) -> (Uploading, UnboundedSender<Given>, PaidBody<Fed>) {
    let rates = Rates { request_messages: rate(600_000, 1), ..rates };
    let grpc = ("content-type", "application/grpc");
    let mut call = Uploading::begin(desk, layer(desk, rates), &[grpc], u64::MAX);
    call.give(MESSAGE);
    call.taken(8).await;
    call.give(MESSAGE);
    call.pauses().await;
    let (give, body) = unbounded_channel();
    let answer = call.answer(Ok(Response::new(Fed(body)))).await.unwrap();
    (call, give, answer.into_body())
}

#[tokio::test]
async fn an_answer_that_begins_while_the_upload_pauses_costs_no_time_until_it_goes_on() {
    let desk = Desk::open().await;
    let rates = Rates { millis: rate(100, 1), ..rates() };
    let (mut call, give, answer) = in_pause(&desk, rates).await;
    pass(Duration::from_secs(20)).await;
    pay(&desk, 10_000).await;
    call.taken(16).await;
    drop(give);

    let price = rest(answer).await.unwrap().price.get();

    assert!((1_200_000..2_200_000).contains(&price), "{price}");
    assert_eq!(spent(&desk).await, price);
}

#[tokio::test]
async fn time_costs_again_once_a_service_wants_no_more_of_an_upload_that_pauses() {
    let desk = Desk::open().await;
    let rates = Rates { millis: rate(100, 1), ..rates() };
    let (call, give, answer) = in_pause(&desk, rates).await;
    call.leave().await;
    pass(Duration::from_secs(2)).await;
    drop(give);

    let price = rest(answer).await.unwrap().price.get();

    assert!((800_000..=1_000_000).contains(&price), "{price}");
    assert_eq!(spent(&desk).await, price);
}

#[tokio::test]
async fn an_answer_is_not_ended_for_an_upload_that_its_service_wants_no_more_of() {
    let desk = Desk::open().await;
    let (call, give, answer) = in_pause(&desk, rates()).await;
    call.leave().await;
    pass(rates().patience + Duration::from_secs(1)).await;
    give.send(Ok(Frame::data("the answer".into()))).unwrap();
    drop(give);

    assert_eq!(rest(answer).await.unwrap().price, msat(600_000));
    assert_eq!(spent(&desk).await, 600_000);
}
