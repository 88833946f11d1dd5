//! For how long an asked price holds, and what is charged while none is given.

use std::net::TcpListener;
use std::thread;
use std::time::{Duration, Instant};

use axum::response::IntoResponse;
use farebox_channel::Kind;
use http::StatusCode;

use super::curl::Curled;
use super::gate::{Gate, free_address, payment, with_routes};
use super::price_service::{PriceService, passing, price};
use crate::support::until;

/// The price of the routes, where no other one is known.
const USUAL: u64 = 1_500;
/// For how long a price holds here, in seconds.
const HOLDS: u64 = 8;

fn route(path: &str, ask: &str) -> String {
    format!("[[route]]\npath = \"{path}\"\nprice_msat = {USUAL}\n{ask}\n")
}

fn charged(answer: &Curled) -> Option<u64> {
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.number("payment-channel-receipt", "price")
}

/// Starts a gateway with these routes, whose prices hold for so long.
async fn holding(secs: u64, routes: String) -> Gate {
    // Channels are opened there.
    let routes = routes + &route("/paid", "");
    let change =
        move |config: String| format!("quote_secs = {secs}\n{}", with_routes(&config, &routes));
    Gate::start(change).await
}

#[tokio::test]
async fn a_price_that_was_told_is_charged_although_the_service_says_more_or_nothing() {
    let service = PriceService::start(500).await;
    let ask = service.keys() + "ask.when_down = \"refuse\"\n";
    let gate = holding(HOLDS, route("/asked", &ask)).await;
    let mut buyer = gate.world.buyer_with_channel(Kind::Cltv).await;
    assert_eq!(gate.ask("/asked/x", &[]).await.price(), 500);
    let told_at = Instant::now();

    service.say(|_| passing(900));
    assert_eq!(gate.ask("/asked/x", &[]).await.price(), 900, "a new client is told the new price");
    assert_eq!(charged(&gate.pay(&mut buyer, 500, "/asked/x", &[]).await), Some(500));
    service.say(|_| StatusCode::NOT_FOUND.into_response());
    assert_eq!(charged(&gate.pay(&mut buyer, 500, "/asked/x", &[]).await), Some(500));
    assert_eq!(gate.ask("/asked/y", &[]).await.status, 503, "nobody was told a price there");
    assert!(told_at.elapsed() < Duration::from_secs(HOLDS), "this machine is too slow");

    service.say(|_| passing(900));
    let payment = payment(&mut buyer, 500);
    let mut refused = None;
    until("the old price holds no longer", async || {
        let answer = gate.ask("/asked/x", &["--header", &payment]).await;
        let is_refused = answer.status == 402;
        refused = Some(answer);
        is_refused
    })
    .await;
    assert!(told_at.elapsed() > Duration::from_secs(HOLDS));
    let refused = refused.unwrap();
    assert_eq!((refused.problem().as_str(), refused.price()), ("price-raised", 900));
    assert_eq!(charged(&gate.pay(&mut buyer, 900, "/asked/x", &[]).await), Some(900));
}

#[tokio::test]
async fn a_lower_price_is_charged_as_soon_as_the_service_says_it() {
    let service = PriceService::start(900).await;
    let gate = holding(3_600, route("/asked", &service.keys())).await;
    let mut buyer = gate.world.buyer_with_channel(Kind::Refund).await;
    assert_eq!(gate.ask("/asked/x", &[]).await.price(), 900);

    service.say(|_| passing(300));

    assert_eq!(charged(&gate.pay(&mut buyer, 900, "/asked/x", &[]).await), Some(300));
}

#[tokio::test]
async fn an_asked_price_is_honoured_after_a_reload_that_asks_no_more_and_the_other_way_round() {
    let service = PriceService::start(500).await;
    let routes = route("/asked", &service.keys()) + &route("/fixed", "");
    let gate = holding(3_600, routes).await;
    let mut buyer = gate.world.buyer_with_channel(Kind::Cltv).await;
    assert_eq!(gate.ask("/asked/x", &[]).await.price(), 500);
    assert_eq!(gate.ask("/fixed/x", &[]).await.price(), USUAL);

    service.say(|_| passing(9_000));
    let keys = service.keys();
    gate.reload(|config| {
        let (before, _) = config.split_once("[[route]]").unwrap();
        let routes = [route("/asked", ""), route("/fixed", &keys), route("/paid", "")];
        before.to_owned() + &routes.concat()
    })
    .await;

    assert_eq!(gate.ask("/asked/x", &[]).await.price(), USUAL);
    assert_eq!(charged(&gate.pay(&mut buyer, USUAL, "/asked/x", &[]).await), Some(500));
    let other = gate.pay(&mut buyer, USUAL, "/asked/y", &[]).await;
    assert_eq!(charged(&other), Some(USUAL), "nobody was told another price there");
    assert_eq!(gate.ask("/fixed/x", &[]).await.price(), 9_000);
    assert_eq!(charged(&gate.pay(&mut buyer, USUAL, "/fixed/x", &[]).await), Some(USUAL));
}

#[tokio::test]
async fn a_reload_keeps_what_is_known_where_it_asks_alike() {
    let service = PriceService::start(1).await;
    service.say(|_| price(500));
    let gate = holding(0, route("/asked", &service.keys())).await;
    assert_eq!(gate.ask("/asked/x", &[]).await.price(), 500);
    service.say(|_| price(600));

    gate.reload(|config| config.replace("price_msat = 1500", "price_msat = 1600")).await;
    assert_eq!(gate.ask("/asked/x", &[]).await.price(), 500);
    assert_eq!(service.asked().len(), 1);

    gate.reload(|config| config.replace("1_000_000\n", "2_000_000\n")).await;
    assert_eq!(gate.ask("/asked/x", &[]).await.price(), 600);
}

/// Listens where every connection is closed at once.
fn hanging_up() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    thread::spawn(move || listener.incoming().for_each(drop));
    address
}

/// Asks for a path on a route of each behaviour, and looks at what it costs.
async fn costs_what_when_down_says(gate: &Gate, what: &str) {
    assert_eq!(gate.ask(&format!("/route/{what}"), &[]).await.price(), USUAL, "{what}");
    assert_eq!(gate.ask(&format!("/last/{what}"), &[]).await.price(), 700, "{what}");
    let refused = gate.ask(&format!("/refuse/{what}"), &[]).await;
    assert_eq!((refused.status, refused.problem().as_str()), (503, "price-unavailable"), "{what}");
    assert_eq!(refused.field("retry-after"), "5");
}

#[tokio::test]
async fn while_no_price_is_given_a_request_costs_what_when_down_says() {
    let service = PriceService::start(700).await;
    let ask = |when| service.keys() + &format!("ask.timeout_secs = 1\nask.when_down = \"{when}\"");
    let ways = ["route", "last", "refuse"];
    let routes = ways.map(|when| route(&format!("/{when}"), &ask(when))).concat();
    let gate = holding(0, routes).await;
    let elsewhere = format!("http://{}/moved", gate.world.api.address);
    let failures =
        ["status", "empty", "garbage", "dear", "zero", "both", "long", "moved", "created", "slow"];
    for what in failures {
        for way in ways {
            assert_eq!(gate.ask(&format!("/{way}/{what}"), &[]).await.price(), 700);
        }
    }

    service.say(move |path| match path.rsplit('/').next().unwrap() {
        "status" => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
        "empty" => "".into_response(),
        "garbage" => "{\"price_msat\": \"much\"}".into_response(),
        "dear" => price(1_000_001),
        "zero" => price(0),
        "both" => "{\"price_msat\": 5, \"free\": true}".into_response(),
        "long" => format!("{}{{\"price_msat\": 5}}", " ".repeat(4_096)).into_response(),
        "created" => (StatusCode::CREATED, "{\"price_msat\": 5}").into_response(),
        _ => (StatusCode::TEMPORARY_REDIRECT, [("location", elsewhere.clone())]).into_response(),
    });
    for what in failures.into_iter().filter(|what| *what != "slow") {
        costs_what_when_down_says(&gate, what).await;
    }
    service.open(false);
    costs_what_when_down_says(&gate, "slow").await;

    assert_eq!(gate.world.api.hits(), 0, "no redirect is followed");
    let warned = gate.log().matches("a price was asked and not given").count();
    assert!((3..=6).contains(&warned), "each route says so, and not each time: {}", gate.log());
    assert_eq!(gate.admin("/readyz").await.status, 200);
    let metrics = gate.admin("/metrics").await.body;
    let line = "farebox_price_failures_total{route=\"/refuse\"} 10";
    assert!(metrics.lines().any(|it| it == line), "{metrics}");
}

#[tokio::test]
async fn a_service_that_is_not_there_or_hangs_up_gives_no_price() {
    for address in [free_address(), hanging_up()] {
        let ask = format!("ask.url = \"http://{address}\"\nask.max_msat = 9\n");
        let gate = holding(0, route("/route", &ask)).await;

        assert_eq!(gate.ask("/route/x", &[]).await.price(), USUAL, "{address}");

        gate.logged(&["WARN", "a price was asked and not given", &address]).await;
    }
}

#[tokio::test]
async fn a_request_that_got_no_price_is_not_asked_again_at_once() {
    let service = PriceService::start(1).await;
    service.say(|_| StatusCode::NOT_FOUND.into_response());
    let gate = holding(0, route("/asked", &service.keys())).await;
    let began = Instant::now();
    assert_eq!(gate.ask("/asked/x", &[]).await.price(), USUAL);
    service.say(|_| price(800));

    until("it is asked again", async || gate.ask("/asked/x", &[]).await.price() == 800).await;

    assert!(began.elapsed() >= Duration::from_secs(1));
    assert_eq!(service.asked().len(), 2);
}
