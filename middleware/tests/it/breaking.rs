//! Answers that break off: as the last thing that a runtime sees, and after a client that was slow.

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use farebox_channel::Msat;
use farebox_middleware::{Billing, PaidUpload, Pricing, Usage, UsageSource};
use http::header::HeaderName;
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body::{Body, Frame};
use http_body_util::{BodyExt, Full};
use tower_layer::Layer;
use tower_service::Service;

use crate::support::{Desk, PRICE_MSAT, header};

/// A service whose answers break off after so many pieces.
#[derive(Clone)]
struct Breaking(usize);

/// A body that breaks off after so many pieces.
struct Broken(usize);

impl Body for Broken {
    type Data = Bytes;
    type Error = &'static str;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, &'static str>>> {
        Poll::Ready(Some(match self.0.checked_sub(1) {
            Some(rest) => {
                self.0 = rest;
                Ok(Frame::data(Bytes::from("a piece\n")))
            }
            None => Err("broken off"),
        }))
    }
}

impl Service<Request<PaidUpload<Full<Bytes>>>> for Breaking {
    type Response = Response<Broken>;
    type Error = Infallible;
    type Future = Ready<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Request<PaidUpload<Full<Bytes>>>) -> Self::Future {
        ready(Ok(Response::new(Broken(self.0))))
    }
}

#[test]
fn a_broken_answers_charge_comes_back_although_the_runtime_ends_with_it() {
    let runtime = || tokio::runtime::Builder::new_current_thread().build().unwrap();
    let outer = runtime();
    let desk = outer.block_on(Desk::open());
    let (name, value) = header(&desk.pay(1_000));
    let request = Request::get("/x").header(name, value).body(Full::default()).unwrap();
    let mut paywall = desk.layer().layer(Breaking(0));

    // Nothing runs on this runtime once the body was read.
    runtime().block_on(async {
        let answer = paywall.call(request).await.unwrap();
        assert!(answer.into_body().collect().await.is_err());
    });

    outer.block_on(desk.ledger.close());
    let channel = desk.ledger.channel(desk.contract.outpoint).unwrap();
    assert_eq!(channel.account().receipt(Msat::ZERO).spent, Msat::ZERO);
}

/// Charges the same price for everything, billed so.
#[derive(Clone)]
struct Priced(Billing);

impl Pricing for Priced {
    fn price(&self, _: &Parts) -> Option<Msat> {
        Msat::new(PRICE_MSAT).ok()
    }

    fn billing(&self, _: &Parts) -> Billing {
        self.0.clone()
    }
}

/// Returns what stays charged where a client lets each of so many pieces wait before the answer
/// breaks off.
async fn charge_after(pieces: usize, wait: Duration) -> u64 {
    charge_of(Billing::Flat, HeaderMap::new(), pieces, wait).await
}

/// The same of an answer that is billed so, to a request with these fields.
async fn charge_of(billing: Billing, fields: HeaderMap, pieces: usize, wait: Duration) -> u64 {
    let desk = Desk::open().await;
    let (name, value) = header(&desk.pay(1_000));
    let mut request = Request::get("/x").header(name, value).body(Full::default()).unwrap();
    request.headers_mut().extend(fields);
    let mut paywall = desk.layer_for(Priced(billing)).layer(Breaking(pieces));
    let answer = paywall.call(request).await.unwrap();
    let mut body = answer.into_body();
    while body.frame().await.unwrap().is_ok() {
        tokio::time::advance(wait).await;
    }
    desk.ledger.close().await;
    let channel = desk.ledger.channel(desk.contract.outpoint).unwrap();
    channel.account().receipt(Msat::ZERO).spent.get()
}

#[tokio::test(start_paused = true)]
async fn a_client_that_is_slow_all_along_does_not_get_a_broken_answers_charge_back() {
    let secs = Duration::from_secs;
    assert_eq!(charge_after(1, secs(6)).await, PRICE_MSAT);
    assert_eq!(charge_after(4, secs(2)).await, PRICE_MSAT);
    assert_eq!(charge_after(100, secs(5) / 100).await, 0, "a quick reader gets it back");
}

#[tokio::test(start_paused = true)]
async fn a_client_whose_deadline_may_break_a_call_off_pays_once_it_has_got_something() {
    let source = UsageSource::Trailer(HeaderName::from_static("x-units"));
    let usage = Usage { sources: vec![source], unit: Msat::ONE };
    let deadline = [(HeaderName::from_static("grpc-timeout"), HeaderValue::from_static("30S"))];
    for billing in [Billing::Flat, Billing::Reported(Arc::new(usage))] {
        for (fields, pieces, charged) in
            [(&deadline[..], 3, PRICE_MSAT), (&deadline, 0, 0), (&[], 3, 0)]
        {
            let fields = fields.iter().cloned().collect();
            let spent = charge_of(billing.clone(), fields, pieces, Duration::ZERO).await;
            assert_eq!(spent, charged, "{billing:?} after {pieces} pieces");
        }
    }
}
