//! For how long a price holds that a client was told.

use std::time::{Duration, Instant};

use farebox_channel::Kind;
use farebox_channel::message::StateName;

use super::gate::{Gate, payment, with_routes};
use crate::support::{CAPACITY_SAT, until};

/// For how long a price holds here, in seconds.
const HOLDS: u64 = 8;
const OLD: u64 = 1_500;
const NEW: u64 = 2_500;

fn quoting(config: &str, secs: u64) -> String {
    format!("quote_secs = {secs}\n{config}")
}

fn raised(config: &str) -> String {
    config.replace("price_msat = 1500", "price_msat = 2500")
}

#[tokio::test]
async fn a_price_that_was_told_is_honoured_for_its_time_and_then_the_new_one_holds() {
    let gate = Gate::start(|config| quoting(&config, HOLDS)).await;
    let mut buyer = gate.world.buyer_with_channel(Kind::Cltv).await;
    let told = gate.ask("/paid/x", &[]).await;
    let (told_at, price) = (Instant::now(), told.price());
    let holds = told.number("payment-channel-offer", "price-secs").unwrap();
    assert_eq!((price, holds), (OLD, HOLDS));

    gate.reload(|config| raised(&config)).await;
    let raised_at = Instant::now();

    let offer = gate.ask("/paid/x", &[]).await;
    assert_eq!(offer.price(), NEW, "a new client is told the new price");
    let spent = |answer: &super::curl::Curled| answer.number("payment-channel-receipt", "price");
    let old = gate.pay(&mut buyer, OLD, "/paid/x", &[]).await;
    assert!(told_at.elapsed() < Duration::from_secs(HOLDS), "this machine is too slow");
    assert_eq!((old.status, spent(&old)), (200, Some(OLD)), "{old:?}");

    // The payment agrees to the old price, and is refused once that holds no longer.
    let payment = payment(&mut buyer, OLD);
    let mut refused = None;
    until("the old price holds no longer", async || {
        let answer = gate.ask("/paid/x", &["--header", &payment]).await;
        let is_refused = answer.status == 402;
        refused = Some(answer);
        is_refused
    })
    .await;
    assert!(raised_at.elapsed() + Duration::from_secs(1) > Duration::from_secs(HOLDS));
    let refused = refused.unwrap();
    assert_eq!((refused.problem().as_str(), refused.price()), ("price-raised", NEW));
    let new = gate.pay(&mut buyer, NEW, "/paid/x", &[]).await;
    assert_eq!((new.status, spent(&new)), (200, Some(NEW)), "{new:?}");
}

#[tokio::test]
async fn a_full_channel_closes_once_the_last_price_that_it_could_pay_holds_no_longer() {
    let routes = "[[route]]\npath = \"/most\"\nprice_sat = 90_000\n\n\
                  [[route]]\npath = \"/paid\"\nprice_sat = 10\n";
    let gate = Gate::start(|config| with_routes(&quoting(&config, 1), routes)).await;
    let mut buyer = gate.world.buyer_with_channel(Kind::Cltv).await;
    let most = gate.pay(&mut buyer, 90_000_000, "/most/x", &[]).await;
    assert_eq!(most.status, 200, "{most:?}");
    let rest = CAPACITY_SAT * 1_000 - 90_000_000;
    let last = gate.pay(&mut buyer, rest, "/paid/x", &[]).await;
    let left = last.number("payment-channel-receipt", "credit");
    assert_eq!((last.status, left), (200, Some(rest - 10_000)), "{last:?}");

    gate.reload(|config| config.replace("price_sat = 10\n", "price_sat = 20_000\n")).await;

    let shown = buyer.shown.clone().unwrap();
    buyer.until_state(&shown, StateName::Closing).await;
}

#[tokio::test]
async fn a_lower_price_is_charged_at_once() {
    let gate = Gate::start(|config| raised(&quoting(&config, 3_600))).await;
    let mut buyer = gate.world.buyer_with_channel(Kind::Refund).await;
    assert_eq!(gate.ask("/paid", &[]).await.price(), NEW);

    gate.reload(|config| config.replace("price_msat = 2500", "price_msat = 1500")).await;

    let answer = gate.pay(&mut buyer, NEW, "/paid", &[]).await;
    assert_eq!(answer.number("payment-channel-receipt", "price"), Some(OLD), "{answer:?}");
    assert_eq!(gate.ask("/paid", &[]).await.price(), OLD);
}

#[tokio::test]
async fn where_no_price_is_held_nothing_is_said_of_it() {
    let gate = Gate::start(|config| quoting(&config, 0)).await;
    let offer = gate.ask("/paid", &[]).await;
    assert_eq!(offer.number("payment-channel-offer", "price-secs"), None, "{offer:?}");
    let told = gate.ask("/.well-known/payment-channel", &[]).await.json();
    assert!(told["price_secs"].is_null(), "{told}");

    gate.reload(|config| config.replace("quote_secs = 0", "quote_secs = 90")).await;

    let offer = gate.ask("/paid", &[]).await;
    assert_eq!(offer.number("payment-channel-offer", "price-secs"), Some(90), "{offer:?}");
    let told = gate.ask("/.well-known/payment-channel", &[]).await.json();
    assert_eq!(told["price_secs"], 90);
}
