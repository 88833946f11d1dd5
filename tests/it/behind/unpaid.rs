//! Floods of what nobody pays for: they are slowed down, and whoever pays beside them is not.

use farebox_channel::message::PayRequest;
use farebox_channel::{Kind, Pass};

use super::service::{Service, ok};
use super::{curl, payment};
use crate::support::{World, header};

/// Starts a world in which little may be asked without a payment.
async fn frugal(service: &Service) -> World {
    let change = super::behind(service.url());
    World::start_with(|config| {
        change(config)
            .replacen("unpaid_per_sec = 100_000", "unpaid_per_sec = 1", 1)
            .replacen("unpaid_burst = 100_000", "unpaid_burst = 20", 1)
            .replacen("openings_per_sec = 100_000", "openings_per_sec = 1", 1)
            .replacen("openings_burst = 100_000", "openings_burst = 20", 1)
    })
    .await
}

/// Asks 100 times, and asserts that the address is told to come back later.
async fn flood(world: &World, path: &str, field: &str) {
    let url = world.gateway.url(path);
    let _flood = super::run("h2load", &["--h1", "-n", "100", "-c", "5", "-H", field, &url]).await;
    let (status, told) = curl(&["-i", "-H", field, &url]).await;
    assert_eq!(status, 429, "{field}: {told}");
    assert!(told.to_ascii_lowercase().contains("retry-after: "), "{told}");
}

#[tokio::test]
async fn a_flood_of_false_payments_is_slowed_down_and_takes_nothing_from_whoever_shares_the_address()
 {
    let service = Service::start(|_| ok("ok")).await;
    let world = frugal(&service).await;
    let mut buyer = world.buyer_with_channel(Kind::Cltv).await;
    let url = world.gateway.url("/paid/x");
    let (paid, _) = payment(&mut buyer);
    let (name, wrong) = header(&PayRequest { pass: Pass::new([7; 16]), ..paid });

    flood(&world, "/paid/x", "Payment-Channel-Pay: nonsense").await;
    flood(&world, "/paid/x", &format!("{name}: {wrong}")).await;
    flood(&world, "/.well-known/payment-channel", &format!("{name}: {wrong}")).await;
    flood(&world, "/paid/x", "Payment-Channel-Open: nonsense").await;

    for _ in 0..10 {
        let (_, field) = payment(&mut buyer);
        assert_eq!(curl(&["-H", &field, &url]).await.0, 200);
    }
    let (PayRequest { payment: old, .. }, _) = payment(&mut buyer);
    let dear = PayRequest { payment: old, price_max: farebox_channel::Msat::new(1).ok(), ..paid };
    let (name, dear) = header(&dear);
    let (status, told) = curl(&["-H", &format!("{name}: {dear}"), &url]).await;
    assert_eq!(status, 402, "whoever has a channel is told what is wrong: {told}");
    assert!(told.contains("urn:farebox:problem:price-raised"), "{told}");
    assert_eq!(curl(&[&url]).await.0, 402, "and others are offered a channel");
}

#[tokio::test]
async fn a_flood_of_questions_for_the_prices_is_slowed_down() {
    let service = Service::start(|_| ok("ok")).await;
    let world = frugal(&service).await;
    let path = "/.well-known/payment-channel";
    assert_eq!(curl(&[&world.gateway.url(path)]).await.0, 200);

    flood(&world, path, "Accept: text/html").await;
}
