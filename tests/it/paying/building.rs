//! Requests built as with `reqwest`, on a client of the user's making.

use std::time::Duration;

use bytes::Bytes;
use farebox_channel::{Kind, Msat};
use farebox_client::{ChannelFile, PayError, PayingClient, Policy};
use futures_util::{StreamExt, stream};
use reqwest::Body;
use reqwest::header::{HeaderMap, HeaderValue};
use serde_json::json;

use super::middleman::Fate;
use super::{Stand, purses};
use crate::support::{PRICE_MSAT, World};

#[tokio::test]
async fn a_request_is_built_as_with_reqwest_and_paid_when_it_is_sent() {
    let world = World::start().await;
    let _mining = world.keep_mining();
    let file = ChannelFile::open(&world.file("client.sqlite")).unwrap();
    let mut fields = HeaderMap::new();
    fields.insert("x-of-all", HeaderValue::from_static("all"));
    let http = reqwest::Client::builder().default_headers(fields).user_agent("a reader");
    let policy = Policy::new(Kind::Cltv);
    let client = PayingClient::with_http(http, world.wallet(), file, policy).unwrap();
    let url = world.gateway.url("/paid/echo");

    let asked = client.post(&url).query(&[("q", "1")]).header("x-of-one", "one");
    let answer = asked.json(&json!({"wish": "sun"})).send().await.unwrap();

    assert_eq!(answer.json::<serde_json::Value>().await.unwrap(), json!({"wish": "sun"}));
    let asked = world.api.asked().remove(0);
    assert_eq!((asked.method.as_str(), asked.path.as_str()), ("POST", "/paid/echo?q=1"));
    for (name, value) in [
        ("x-of-all", "all"),
        ("x-of-one", "one"),
        ("user-agent", "a reader"),
        ("content-type", "application/json"),
    ] {
        assert_eq!(asked.headers[name], value);
    }
}

#[tokio::test]
async fn a_client_of_the_users_making_follows_no_redirect_and_sends_nothing_twice() {
    let world = World::start().await;
    let _mining = world.keep_mining();
    let elsewhere = crate::support::Api::start().await;
    let file = ChannelFile::open(&world.file("client.sqlite")).unwrap();
    let again = reqwest::retry::for_host("127.0.0.1").classify_fn(|answer| {
        if answer.status().is_some_and(|status| status == 500) {
            answer.retryable()
        } else {
            answer.success()
        }
    });
    let http =
        reqwest::Client::builder().redirect(reqwest::redirect::Policy::limited(5)).retry(again);
    let policy = Policy::new(Kind::Cltv);
    let client = PayingClient::with_http(http, world.wallet(), file, policy).unwrap();
    let moved = world.gateway.url(&format!("/paid/moved?http://{}/x", elsewhere.address));

    assert_eq!(client.get(&moved).await.unwrap().status(), 307);
    assert_eq!(client.get(world.gateway.url("/paid/fail")).await.unwrap().status(), 500);

    assert_eq!((world.api.hits(), elsewhere.hits()), (2, 0));
    let plain = client.get("http://example.com/x").await.unwrap_err();
    assert!(matches!(plain, PayError::Insecure(_)), "{plain}");
}

#[tokio::test]
async fn a_paid_call_is_one_request_once_the_channel_is_open() {
    let stand = Stand::start().await;
    stand.middleman.rule(|_| Fate::Pass);

    for _ in 0..20 {
        stand.client.get(stand.middleman.url("/paid/x")).await.unwrap();
    }

    assert_eq!(stand.middleman.heads().len(), 20, "nothing else was asked");
    assert_eq!(stand.world.api.hits(), 21);
}

#[tokio::test]
async fn what_is_paid_ahead_is_repeated_until_it_is_used() {
    // Ten calls, and the one that signs for them.
    let credit = Msat::new(10 * PRICE_MSAT).unwrap();
    let stand = Stand::with(Policy { credit, ..Policy::new(Kind::Cltv) }).await;
    // The first payment of the channel is used up after 266 calls.
    for _ in 1..266 {
        stand.client.get(stand.middleman.url("/paid/x")).await.unwrap();
    }
    stand.middleman.rule(|_| Fate::Pass);
    for _ in 0..22 {
        stand.client.get(stand.middleman.url("/paid/x")).await.unwrap();
    }

    let mut payments = stand.middleman.payments();
    assert_eq!(payments.len(), 22);
    payments.dedup();
    assert_eq!(payments.len(), 2, "each is sent eleven times");
    let [purse] = purses(&stand.client).try_into().unwrap();
    assert_eq!(purse.spent.get(), 288 * PRICE_MSAT);
    assert!(purse.payment.paid.to_msat().get() <= 288 * PRICE_MSAT + 1_000, "no more is signed");
    let closing = stand.client.close(&stand.middleman.url("/")).await.unwrap();
    assert_eq!(closing.paid.get(), 288 * PRICE_MSAT / 1_000);
}

/// A body that can be sent once.
fn once(pieces: &'static [&'static str]) -> Body {
    let pieces = pieces.iter().map(|piece| Ok::<_, std::io::Error>(Bytes::from(*piece)));
    Body::wrap_stream(stream::iter(pieces))
}

#[tokio::test]
async fn a_body_that_streams_may_take_longer_than_an_answer_may() {
    let world = World::start().await;
    let _mining = world.keep_mining();
    let answer_patience = Duration::from_millis(500);
    let client =
        world.client("client.sqlite", Policy { answer_patience, ..Policy::new(Kind::Cltv) });
    let slow = move || {
        let pieces = stream::iter(["a", "b", "c", "d"]).then(move |piece| async move {
            tokio::time::sleep(answer_patience / 2).await;
            Ok::<_, std::io::Error>(piece)
        });
        Body::wrap_stream(pieces)
    };

    for _ in 0..2 {
        let answer = client.post(world.gateway.url("/paid/length")).body(slow()).send().await;
        assert_eq!(answer.unwrap().text().await.unwrap(), "4");
    }
}

#[tokio::test]
async fn a_body_that_streams_is_sent_once_although_its_price_was_not_known() {
    let world = World::start().await;
    let _mining = world.keep_mining();
    let client = world.client("client.sqlite", Policy::new(Kind::Cltv));

    for path in ["/paid/echo", "/paid/echo", "/paid/echo?other", "/free/echo"] {
        let asked = client.post(world.gateway.url(path)).body(once(&["one ", "two"]));
        let answer = asked.send().await.unwrap();
        assert_eq!(
            (answer.status().as_u16(), answer.text().await.unwrap().as_str()),
            (200, "one two")
        );
    }

    assert_eq!(world.api.hits(), 4);
    assert_eq!(purses(&client)[0].spent.get(), 3 * PRICE_MSAT);
}
