//! Uploads that cost what passes, to a service that only takes them.

use std::convert::Infallible;
use std::future::{pending, poll_fn};
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use farebox_channel::Msat;
use farebox_channel::message::Receipt;
use farebox_channel::wire::Field;
use farebox_middleware::{PaidBody, PaidUpload, Rates};
use http::{HeaderMap, Request, Response};
use http_body_util::{BodyExt, Full};
use tower_layer::Layer;
use tower_service::Service;

use super::stream::{layer, msat, rate, rates};
use crate::support::{Desk, header};

/// A service that takes a body, and may answer then.
#[derive(Clone, Default)]
struct Sink {
    answers: bool,
    taken: Arc<Mutex<usize>>,
}

impl Service<Request<PaidUpload<Full<Bytes>>>> for Sink {
    type Response = Response<Full<Bytes>>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<PaidUpload<Full<Bytes>>>) -> Self::Future {
        let Self { answers, taken } = self.clone();
        Box::pin(async move {
            let mut body = request.into_body();
            while let Some(Ok(frame)) = body.frame().await {
                *taken.lock().unwrap() += frame.into_data().unwrap().len();
            }
            if !answers {
                pending::<()>().await;
            }
            Ok(Response::default())
        })
    }
}

type Answering = Pin<Box<dyn Future<Output = Response<PaidBody<Full<Bytes>>>>>>;

/// Uploads so much with a payment of a thousand satoshi.
fn upload(
    desk: &Desk,
    sink: &Sink,
    rates: Rates,
    fields: &[(&'static str, &str)],
    body: Vec<u8>,
) -> Answering {
    let (name, value) = header(&desk.pay(1_000));
    let mut request = Request::post("/x").header(name, value).body(Full::from(body)).unwrap();
    for (name, value) in fields {
        request.headers_mut().insert(*name, value.parse().unwrap());
    }
    let mut paywall = layer(desk, rates).layer(sink.clone());
    Box::pin(async move { paywall.call(request).await.unwrap() })
}

/// Waits until so much is spent.
async fn settled(desk: &Desk, spent: u64) {
    let mut credited = desk.ledger.credited(desk.contract.outpoint);
    let on_record = || {
        let channel = desk.ledger.channel(desk.contract.outpoint).unwrap();
        channel.account().spent
    };
    let settling = async {
        while on_record() != msat(spent) {
            credited.again().await;
        }
    };
    let _late = tokio::time::timeout(Duration::from_secs(10), settling).await;
    assert_eq!(on_record(), msat(spent));
}

fn receipt(headers: &HeaderMap) -> Msat {
    Receipt::decode(headers[Receipt::NAME].as_bytes()).unwrap().price
}

#[tokio::test]
async fn a_named_upload_without_an_answer_is_charged_for_what_has_passed_and_anew_when_it_is_asked_again()
 {
    let desk = Desk::open().await;
    let rates = Rates { request_bytes: rate(1, 1), ..rates() };
    let key = [("idempotency-key", "\"a-name-of-an-upload\"")];
    for (length, charged) in [(5_000, 5_000), (300, 5_300), (5_000, 10_300)] {
        let sink = Sink::default();
        let mut answering = upload(&desk, &sink, rates.clone(), &key, vec![b'x'; length]);
        poll_fn(|context| {
            assert!(answering.as_mut().poll(context).is_pending());
            if *sink.taken.lock().unwrap() == length { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
        drop(answering);
        settled(&desk, charged).await;
    }

    let sink = Sink { answers: true, ..Sink::default() };
    let answer = upload(&desk, &sink, rates, &key, vec![b'x'; 5_000]).await;

    assert_eq!((answer.status().as_u16(), receipt(answer.headers())), (200, msat(5_000)));
    drop(answer);
    settled(&desk, 15_300).await;
}

#[tokio::test]
async fn the_messages_of_a_call_cost_and_one_that_is_not_paid_ends_with_its_status() {
    let desk = Desk::open().await;
    let patience = Duration::from_millis(1);
    let rates = Rates { request_messages: rate(400_000, 1), answer: msat(7), patience, ..rates() };
    let message = [&[0, 0, 0, 0, 3][..], b"abc"].concat();
    let grpc = [("content-type", "application/grpc")];

    let sink = Sink { answers: true, ..Sink::default() };
    let answer = upload(&desk, &sink, rates.clone(), &grpc, message.repeat(3)).await;

    assert_eq!(answer.headers()["grpc-status"], "9", "{:?}", answer.headers());
    assert_eq!(receipt(answer.headers()), msat(800_007));
    assert_eq!(*sink.taken.lock().unwrap(), 2 * 8, "it ends between two messages");
    settled(&desk, 800_007).await;
}

#[tokio::test]
async fn a_body_of_another_form_costs_the_price_where_only_messages_cost() {
    let desk = Desk::open().await;
    let rates = Rates { request_messages: rate(400_000, 1), ..rates() };
    let sink = Sink { answers: true, ..Sink::default() };

    let answer = pin!(upload(&desk, &sink, rates, &[], vec![b'x'; 5_000])).await;

    assert_eq!(receipt(answer.headers()), msat(1_000));
    drop(answer);
    settled(&desk, 1_000).await;
}
