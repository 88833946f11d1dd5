//! WebSockets that are paid for, once for each.

use farebox_channel::Kind;
use farebox_channel::message::Receipt;
use farebox_channel::wire::Field;
use futures_util::SinkExt;
use tokio_tungstenite::tungstenite::Message;

use super::super::service::{Act, Service};
use super::super::{behind, payment, spent, world_behind};
use super::sockets::{Sockets, ask, close_of, echo};
use crate::support::{PRICE_MSAT, World, until};

#[tokio::test]
async fn a_websocket_is_paid_for_before_it_begins_and_its_channel_is_busy_until_it_ends() {
    let service = Sockets::start().await;
    let change = behind(service.url());
    let world = World::start_with(|config| {
        change(config).replace("requests_per_channel = 4_096", "requests_per_channel = 1")
    })
    .await;
    let mut buyer = world.buyer_with_channel(Kind::Cltv).await;
    let host = &world.gateway.host;

    let (status, fields) = ask(host, "/paid/x", "").await.unwrap_err();
    assert!(status == 402 && fields.contains_key("payment-channel-offer"), "{status} {fields:?}");
    assert!(service.seen().is_empty(), "nobody is asked without a payment");

    let (paid, field) = payment(&mut buyer);
    let (mut socket, fields) = ask(host, "/paid/x", &field).await.unwrap();
    let receipt = Receipt::decode(fields[Receipt::NAME].as_bytes()).unwrap();
    assert_eq!(receipt.price.get(), PRICE_MSAT);
    let seen = service.seen().remove(0);
    assert!(seen.keys().all(|name| !name.as_str().starts_with("payment-channel-")), "{seen:?}");
    assert_eq!(seen["farebox-price"], PRICE_MSAT.to_string().as_str());
    echo(&mut socket, "paid").await;

    let (_, other) = payment(&mut buyer);
    assert_eq!(ask(host, "/paid/x", &other).await.unwrap_err().0, 429, "one is under way");
    echo(&mut socket, "still here").await;
    socket.close(None).await.unwrap();
    assert_eq!(close_of(&mut socket).await, None);
    until("the channel is free", async || ask(host, "/paid/x", &other).await.is_ok()).await;
    until("it is left", async || service.open() == 0).await;
    assert_eq!(spent(&buyer, &paid).await, 2 * PRICE_MSAT);
}

#[tokio::test]
async fn a_websocket_that_breaks_off_stays_charged() {
    let service = Sockets::start().await;
    let world = world_behind(service.url()).await;
    let mut buyer = world.buyer_with_channel(Kind::Cltv).await;
    let (paid, field) = payment(&mut buyer);
    let (mut socket, _) = ask(&world.gateway.host, "/paid/x", &field).await.unwrap();

    socket.send(Message::text("drop")).await.unwrap();

    assert_eq!(close_of(&mut socket).await, None);
    until("it is left", async || service.open() == 0).await;
    assert_eq!(spent(&buyer, &paid).await, PRICE_MSAT);
}

#[tokio::test]
async fn a_service_that_fails_to_agree_costs_nothing_and_one_that_refuses_does() {
    let service = Sockets::start().await;
    let world = world_behind(service.url() + "retries = 0").await;
    let mut buyer = world.buyer_with_channel(Kind::Cltv).await;
    let host = &world.gateway.host;
    for (path, charged) in [("/paid/500", 0), ("/paid/403", PRICE_MSAT)] {
        let (paid, field) = payment(&mut buyer);
        let (status, _) = ask(host, path, &field).await.unwrap_err();
        assert!(path.ends_with(&status.to_string()), "{path}: {status}");
        assert_eq!(spent(&buyer, &paid).await, charged, "{path}");
    }
    let (paid, field) = payment(&mut buyer);
    drop(service);
    assert_eq!(ask(host, "/paid/x", &field).await.unwrap_err().0, 502);
    assert_eq!(spent(&buyer, &paid).await, PRICE_MSAT, "as much as before");
}

#[tokio::test]
async fn a_service_that_never_answers_or_answers_something_else_costs_nothing() {
    let other = super::AGREED.replace("websocket", "h2c");
    for words in [String::new(), other] {
        let service = Service::start(move |_| Act::Hang(words.clone())).await;
        let world = world_behind(service.url() + "answer_secs = 1\nretries = 0").await;
        let mut buyer = world.buyer_with_channel(Kind::Cltv).await;
        let (paid, field) = payment(&mut buyer);

        let (status, fields) = ask(&world.gateway.host, "/paid/x", &field).await.unwrap_err();

        assert_eq!(status, 502);
        let receipt = Receipt::decode(fields[Receipt::NAME].as_bytes()).unwrap();
        assert_eq!(receipt.price.get(), 0);
        assert_eq!(spent(&buyer, &paid).await, 0);
        until("it is left", async || service.open() == 0).await;
    }
}
