//! The client among the middlewares of `reqwest-middleware`.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use farebox_channel::Kind;
use farebox_client::{PayError, Policy};
use http::Extensions;
use reqwest::{Request, Response};
use reqwest_middleware::{ClientBuilder, Error, Middleware, Next};

use super::{purses, records};
use crate::support::{Api, PRICE_MSAT, World};

/// Counts what passes.
#[derive(Clone, Default)]
struct Counter(Arc<AtomicUsize>);

impl Counter {
    fn count(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

#[async_trait]
impl Middleware for Counter {
    async fn handle(
        &self,
        request: Request,
        extensions: &mut Extensions,
        next: Next<'_>,
    ) -> Result<Response, Error> {
        self.0.fetch_add(1, Ordering::Relaxed);
        next.run(request, extensions).await
    }
}

#[tokio::test]
async fn the_client_pays_in_a_chain_of_middlewares() {
    let world = World::start().await;
    let _mining = world.keep_mining();
    let paying = world.client("client.sqlite", Policy::new(Kind::Cltv));
    let (before, behind) = (Counter::default(), Counter::default());
    let http = ClientBuilder::new(paying.http().clone());
    let http = http.with(before.clone()).with(paying.clone()).with(behind.clone()).build();

    for _ in 0..3 {
        let answer = http.get(world.gateway.url("/paid/x")).send().await.unwrap();
        assert_eq!(answer.text().await.unwrap(), "hello\n");
    }

    // The first was sent without a payment, and once more with one.
    assert_eq!((before.count(), behind.count(), world.api.hits()), (3, 4, 3));
    assert_eq!(purses(&paying)[0].spent.get(), 3 * PRICE_MSAT);
    let plain = http.get("http://example.com/").send().await.unwrap_err();
    let Error::Middleware(plain) = plain else { panic!("{plain}") };
    assert!(matches!(plain.downcast_ref(), Some(PayError::Insecure(_))), "{plain}");
}

#[tokio::test]
async fn a_chain_that_follows_redirects_is_refused() {
    let world = World::start().await;
    let elsewhere = Api::start().await;
    let paying = world.client("client.sqlite", Policy::new(Kind::Cltv));
    let http = ClientBuilder::new(reqwest::Client::new()).with(paying.clone()).build();

    let moved = world.gateway.url(&format!("/free/moved?http://{}/x", elsewhere.address));
    let refused = http.get(moved).send().await.unwrap_err();

    let Error::Middleware(refused) = refused else { panic!("{refused}") };
    assert!(matches!(refused.downcast_ref(), Some(PayError::Redirected(_))), "{refused}");
    assert!(records(&paying).is_empty());
}
