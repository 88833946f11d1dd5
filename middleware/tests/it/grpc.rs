//! Clients and services that speak gRPC, before and behind the paywall.

use std::convert::Infallible;
use std::future::{Future, Ready, ready};
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use farebox_channel::Msat;
use farebox_channel::message::{Offer, OpenRequest, PayRequest, Receipt, TermsReply};
use farebox_channel::wire::Field;
use farebox_channel::{Kind, Pass, Sat, Seconds};
use farebox_middleware::{PaidUpload, ReleasePolicy};
use http::header::{CONTENT_TYPE, HeaderName};
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body::{Body, Frame};
use http_body_util::{BodyExt, Full};
use secp256k1::SECP256K1;
use tonic::metadata::MetadataKey;
use tonic::{Code, Status};
use tower_layer::Layer;
use tower_service::Service;

use crate::support::{Answer, Api, Desk, PRICE_MSAT, WELL_KNOWN, ask, header};

/// Sends a call with one more field.
async fn call(desk: &Desk, field: (&str, String)) -> Answer {
    let grpc = ("content-type", "application/grpc+proto".to_owned());
    desk.send("/shop.Shop/Buy", &[grpc, field]).await
}

/// Returns the value of a field, or nothing where there is none.
fn field<'a>(answer: &'a Answer, name: &str) -> &'a str {
    answer.headers.get(name).map_or("", |value| value.to_str().unwrap())
}

/// Returns the status and the problem that are told to a client of gRPC, in an answer that has no
/// more than fields.
fn told(answer: &Answer) -> (&str, &str) {
    assert_eq!((answer.status, answer.body.as_str()), (200, ""), "{answer:?}");
    assert_eq!(field(answer, "content-type"), "application/grpc");
    assert!(!answer.headers.contains_key("content-length"));
    assert_ne!(field(answer, "grpc-message"), "");
    (field(answer, "grpc-status"), field(answer, "payment-channel-problem"))
}

#[tokio::test]
async fn a_client_of_grpc_is_told_a_problem_in_fields_alone() {
    let desk = Desk::open().await;

    let unpaid = call(&desk, ("x-other", "1".to_owned())).await;
    let problem = r#"type="urn:farebox:problem:payment-required", status=402"#;
    assert_eq!(told(&unpaid), ("9", problem));
    let words = "this request costs 1500 msat; see the Payment-Channel-Offer field";
    assert_eq!(field(&unpaid, "grpc-message"), words);
    assert_eq!(unpaid.message::<Offer>().price.get(), PRICE_MSAT);
    assert_eq!(field(&unpaid, "cache-control"), "no-store");

    let dear = PayRequest { price_max: Msat::new(1).ok(), ..desk.pay(2_000) };
    let dear = call(&desk, header(&dear)).await;
    let problem = r#"type="urn:farebox:problem:price-raised", status=402, price=1500"#;
    assert_eq!(told(&dear), ("9", problem));
    let wrong = PayRequest { pass: Pass::new([7; 16]), ..desk.pay(2_000) };
    let problem = r#"type="urn:farebox:problem:wrong-pass", status=402"#;
    assert_eq!(told(&call(&desk, header(&wrong)).await), ("9", problem));
    let nonsense = call(&desk, (PayRequest::NAME, "nonsense".to_owned())).await;
    let problem = r#"type="urn:farebox:problem:malformed", status=400"#;
    assert_eq!(told(&nonsense), ("3", problem));

    let plain = desk.send("/shop.Shop/Buy", &[]).await;
    assert_eq!((plain.status, field(&plain, "content-type")), (402, "application/problem+json"));
    let problem = r#"type="urn:farebox:problem:payment-required", status=402"#;
    assert_eq!(
        field(&plain, "payment-channel-problem"),
        problem,
        "an answer to HEAD has only that"
    );
}

#[tokio::test]
async fn a_step_on_the_url_of_a_call_is_answered_beside_its_problem() {
    let desk = Desk::open().await;
    let open = OpenRequest {
        kind: Kind::Cltv,
        client_key: desk.key.public_key(SECP256K1),
        capacity: Sat::new(50_000).unwrap(),
        lifetime: Seconds::new(172_800),
    };

    let answer = call(&desk, header(&open)).await;

    assert_eq!(told(&answer).0, "9");
    assert_eq!(answer.message::<TermsReply>().kind, Kind::Cltv);
    assert_eq!(answer.message::<Offer>().price.get(), PRICE_MSAT);
}

#[tokio::test]
async fn what_is_not_possible_now_says_to_a_client_of_grpc_when_to_ask_again() {
    let desk = Desk::open().await;
    desk.ledger.close().await;

    let answer = call(&desk, header(&desk.pay(2_000))).await;

    let problem = r#"type="urn:farebox:problem:store-unavailable", status=503"#;
    assert_eq!(told(&answer), ("14", problem));
    assert_eq!(field(&answer, "retry-after"), "5");
    assert_eq!(field(&answer, "grpc-retry-pushback-ms"), "5000");
    let grpc = ("content-type", "application/grpc".to_owned());
    let topped_up = desk.send(WELL_KNOWN, &[grpc, header(&desk.pay(2_000))]).await;
    assert_eq!(told(&topped_up), ("14", problem), "on the well-known path too");
}

/// Pays for an answer of a content type with a status of gRPC in its head, and returns the receipt.
async fn receipt(desk: &Desk, content_type: &'static str, status: u16) -> Receipt {
    let answers = HeaderMap::from_iter([
        (CONTENT_TYPE, HeaderValue::from_static(content_type)),
        (HeaderName::from_static("grpc-status"), status.into()),
        (HeaderName::from_static("payment-channel-problem"), HeaderValue::from_static("forged")),
    ]);
    let mut paywall = desk.layer().layer(Api { answers, ..Api::default() });
    let grpc = ("content-type", "application/grpc".to_owned());
    let answer = ask(&mut paywall, "/shop.Shop/Buy", &[grpc, header(&desk.pay(2_000))]).await;
    assert_eq!(field(&answer, "grpc-status"), status.to_string(), "it is passed on");
    assert!(!answer.headers.contains_key("payment-channel-problem"), "nobody else sets it");
    answer.message()
}

#[tokio::test]
async fn a_failure_that_a_service_tells_by_grpc_gives_the_charge_back() {
    let desk = Desk::open().await;
    let mut released = Vec::new();
    for status in 0..=16 {
        let price = receipt(&desk, "application/grpc+proto", status).await.price.get();
        assert!(price == 0 || price == PRICE_MSAT, "{price}");
        if price == 0 {
            released.push(status);
        }
    }
    assert_eq!(released, [2, 4, 12, 13, 14, 15]);
    let last = receipt(&desk, "text/plain", 14).await;
    assert_eq!(last.price.get(), PRICE_MSAT, "another service may mean something else by it");
    assert_eq!(last.spent.get(), 12 * PRICE_MSAT);
}

/// A service whose call ends with a status after so many messages.
#[derive(Clone, Copy)]
struct Call {
    messages: u16,
    status: Option<u16>,
}

impl Body for Call {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if let Some(left) = self.messages.checked_sub(1) {
            self.messages = left;
            return Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(&[0; 5])))));
        }
        let trailers =
            |status: u16| [(HeaderName::from_static("grpc-status"), status.into())].into_iter();
        let status = self.status.take();
        Poll::Ready(status.map(|status| Ok(Frame::trailers(trailers(status).collect()))))
    }
}

impl Service<Request<PaidUpload<Full<Bytes>>>> for Call {
    type Response = Response<Self>;
    type Error = Infallible;
    type Future = Ready<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Request<PaidUpload<Full<Bytes>>>) -> Self::Future {
        ready(Ok(Response::new(*self)))
    }
}

/// Returns what stays charged for a call that ends so.
async fn charge_after(messages: u16, status: u16, broken_answer: bool) -> u64 {
    let desk = Desk::open().await;
    let (name, value) = header(&desk.pay(1_000));
    let request = Request::post("/shop.Shop/Buy").header(name, value).body(Full::default());
    let layer = desk.layer().release(ReleasePolicy { server_error: false, broken_answer });
    let call = Call { messages, status: Some(status) };
    let answer = layer.layer(call).call(request.unwrap()).await.unwrap();
    let trailers = answer.into_body().collect().await.unwrap().trailers().cloned();
    assert_eq!(trailers.unwrap()["grpc-status"], status.to_string());
    desk.ledger.close().await;
    let channel = desk.ledger.channel(desk.contract.outpoint).unwrap();
    channel.account().receipt(Msat::ZERO).spent.get()
}

#[tokio::test]
async fn a_call_that_fails_at_its_end_without_a_message_counts_as_broken_off() {
    assert_eq!(charge_after(0, 14, true).await, 0);
    assert_eq!(charge_after(0, 14, false).await, PRICE_MSAT, "where that gives nothing back");
    assert_eq!(charge_after(1, 14, true).await, PRICE_MSAT, "something was delivered");
    for other in [0, 5, 9] {
        assert_eq!(charge_after(0, other, true).await, PRICE_MSAT, "{other} is no failure");
    }
}

/// A service of tonic that says back what it hears.
#[derive(Clone)]
struct Echo;

type Codec = tonic_prost::ProstCodec<String, String>;
type Messages = tonic::body::Body;

impl tonic::server::UnaryService<String> for Echo {
    type Response = String;
    type Future = Ready<Result<tonic::Response<String>, Status>>;

    fn call(&mut self, request: tonic::Request<String>) -> Self::Future {
        ready(Ok(tonic::Response::new(request.into_inner())))
    }
}

impl Service<Request<PaidUpload<Messages>>> for Echo {
    type Response = Response<Messages>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<PaidUpload<Messages>>) -> Self::Future {
        Box::pin(async {
            let mut grpc = tonic::server::Grpc::new(Codec::default());
            Ok(grpc.unary(Self, request).await)
        })
    }
}

#[tokio::test]
async fn a_client_of_tonic_pays_a_service_of_tonic_behind_the_layer() {
    let desk = Desk::open().await;
    let mut client = tonic::client::Grpc::new(desk.layer().layer(Echo));
    let path = || PathAndQuery::from_static("/shop.Shop/Buy");

    let unpaid = tonic::Request::new("hello".to_owned());
    let refused = client.unary(unpaid, path(), Codec::default()).await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition);
    let offer = refused.metadata().get(Offer::NAME).unwrap().as_encoded_bytes();
    assert_eq!(Offer::decode(offer).unwrap().price.get(), PRICE_MSAT);

    let mut paid = tonic::Request::new("hello".to_owned());
    let (name, value) = header(&desk.pay(2_000));
    paid.metadata_mut().insert(MetadataKey::from_static(name), value.parse().unwrap());
    let answered = client.unary(paid, path(), Codec::default()).await.unwrap();
    let receipt = answered.metadata().get(Receipt::NAME).unwrap().as_encoded_bytes();
    assert_eq!(Receipt::decode(receipt).unwrap().price.get(), PRICE_MSAT);
    assert_eq!(answered.into_inner(), "hello");
}
