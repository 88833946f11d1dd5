//! Requests in shadow: free, and it is told what they would cost.

use std::sync::Arc;

use farebox_channel::Msat;
use farebox_middleware::{Billing, PaywallLayer, Pricing, Rates, RunningBill, Usage, UsageSource};
use http::Response;
use http::header::HeaderName;
use http::request::Parts;
use http_body::Frame;
use http_body_util::BodyExt;
use tokio::sync::mpsc::unbounded_channel;

use super::stream::{Fed, Given, msat, rate, rates};
use super::taker::Uploading;
use crate::support::{Desk, Quiet};

/// Charges nothing, and tells what a price of a thousand would that is billed so.
#[derive(Clone)]
struct Shadow(Billing);

impl Pricing for Shadow {
    fn price(&self, _: &Parts) -> Option<Msat> {
        None
    }

    fn trial(&self, _: &Parts) -> Option<Msat> {
        Some(msat(1_000))
    }

    fn billing(&self, _: &Parts) -> Billing {
        self.0.clone()
    }
}

fn layer(desk: &Desk) -> PaywallLayer<Quiet, Shadow> {
    let rates = Rates { answer: msat(7), request_bytes: rate(2, 1), bytes: rate(3, 1), ..rates() };
    desk.layer_for(Shadow(Billing::Running(Arc::new(rates))))
}

#[tokio::test]
async fn an_upload_in_shadow_is_free_and_it_is_told_what_it_would_cost_with_its_answer() {
    let desk = Desk::open().await;
    let mut upload = Uploading::begin(&desk, layer(&desk), &[], u64::MAX);
    upload.give(vec![b'x'; 5_000]);
    upload.taken(5_000).await;
    upload.end().await;
    let (give, body) = unbounded_channel();
    give.send(Ok(Frame::data("0123456789".into()))).unwrap();
    drop(give);

    let answer = upload.answer(Ok(Response::new(Fed(body)))).await.unwrap();
    let bill = answer.extensions().get::<RunningBill>().unwrap().clone();
    let body = answer.into_body().collect().await.unwrap();

    assert!(body.trailers().is_none_or(|trailers| trailers.is_empty()), "it tells no receipt");
    assert_eq!(body.to_bytes(), "0123456789");
    assert_eq!(bill.cost(), msat(7 + 10_000 + 30));
    desk.ledger.close().await;
    let channel = desk.ledger.channel(desk.contract.outpoint).unwrap();
    assert_eq!(channel.account().spent, Msat::ZERO);
}

#[tokio::test]
async fn an_upload_in_shadow_would_be_given_back_where_its_service_fails() {
    for (is_broken, cost) in [(false, 0), (true, 7 + 10_000)] {
        let desk = Desk::open().await;
        let mut upload = Uploading::begin(&desk, layer(&desk), &[], u64::MAX);
        upload.give(vec![b'x'; 5_000]);
        upload.taken(5_000).await;
        if is_broken {
            upload.break_off().await;
        }
        let (_give, body) = unbounded_channel();
        let told = Response::builder().status(502).body(Fed(body)).unwrap();

        let answer = upload.answer(Ok(told)).await.unwrap();
        if !is_broken {
            // It is free, and goes on while the answer comes.
            upload.give(vec![b'x'; 1_000]);
            upload.taken(6_000).await;
        }
        let bill = answer.extensions().get::<RunningBill>().unwrap().clone();
        drop(answer);

        assert_eq!(bill.cost(), msat(cost));
    }
}

/// Returns what is told that an answer would cost which is billed so.
async fn told(
    billing: &Billing,
    status: u16,
    pieces: &[Result<&'static str, &'static str>],
) -> Msat {
    let desk = Desk::open().await;
    let mut asking =
        Uploading::begin(&desk, desk.layer_for(Shadow(billing.clone())), &[], u64::MAX);
    let (give, body) = unbounded_channel::<Given>();
    for piece in pieces {
        give.send(piece.map(|data| Frame::data(data.into()))).unwrap();
    }
    drop(give);
    let answer = Response::builder().status(status).body(Fed(body)).unwrap();
    let answer = asking.answer(Ok(answer)).await.unwrap();
    let bill = answer.extensions().get::<RunningBill>().unwrap().clone();
    let _broken = answer.into_body().collect().await;
    bill.cost()
}

#[tokio::test]
async fn what_a_service_fails_or_breaks_off_in_shadow_would_cost_nothing() {
    let sources = vec![UsageSource::Trailer(HeaderName::from_static("x-units"))];
    let usage = Billing::Reported(Arc::new(Usage { sources, unit: msat(1) }));
    let bytes = Billing::Running(Arc::new(Rates { bytes: rate(3, 1), ..rates() }));
    for (billing, whole, broken) in [(Billing::Flat, 1_000, 0), (usage, 1_000, 0), (bytes, 12, 12)]
    {
        assert_eq!(told(&billing, 200, &[Ok("data")]).await, msat(whole), "{billing:?}");
        assert_eq!(told(&billing, 503, &[Ok("sorry")]).await, Msat::ZERO, "{billing:?}");
        let told = told(&billing, 200, &[Ok("data"), Err("broken off")]).await;
        assert_eq!(told, msat(broken), "{billing:?}");
    }
}
