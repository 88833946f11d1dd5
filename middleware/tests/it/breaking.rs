//! An answer that breaks off as the last thing that a runtime sees.

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use farebox_channel::Msat;
use http::{Request, Response};
use http_body::{Body, Frame};
use http_body_util::{BodyExt, Full};
use tower_layer::Layer;
use tower_service::Service;

use crate::support::{Desk, header};

/// A service whose answers break off.
#[derive(Clone)]
struct Breaking;

/// A body that breaks off.
struct Broken;

impl Body for Broken {
    type Data = Bytes;
    type Error = &'static str;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, &'static str>>> {
        Poll::Ready(Some(Err("broken off")))
    }
}

impl Service<Request<Full<Bytes>>> for Breaking {
    type Response = Response<Broken>;
    type Error = Infallible;
    type Future = Ready<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Request<Full<Bytes>>) -> Self::Future {
        ready(Ok(Response::new(Broken)))
    }
}

#[test]
fn a_broken_answers_charge_comes_back_although_the_runtime_ends_with_it() {
    let runtime = || tokio::runtime::Builder::new_current_thread().build().unwrap();
    let outer = runtime();
    let desk = outer.block_on(Desk::open());
    let (name, value) = header(&desk.pay(1_000));
    let request = Request::get("/x").header(name, value).body(Full::default()).unwrap();
    let mut paywall = desk.layer().layer(Breaking);

    // Nothing runs on this runtime once the body was read.
    runtime().block_on(async {
        let answer = paywall.call(request).await.unwrap();
        assert!(answer.into_body().collect().await.is_err());
    });

    outer.block_on(desk.ledger.close());
    let channel = desk.ledger.channel(desk.contract.outpoint).unwrap();
    assert_eq!(channel.account().receipt(Msat::ZERO).spent, Msat::ZERO);
}
