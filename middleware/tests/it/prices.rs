//! The price list: what costs what, for programs and for people.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use farebox_channel::message::Offer;
use farebox_channel::{Msat, Seconds};
use farebox_middleware::{Billing, Cashier, FreeAllowance, PaywallLayer, PricedRoute, Pricing};
use http::request::Parts;
use tower_layer::Layer;

use crate::support::{Answer, Api, Desk, HOST, Quiet, WELL_KNOWN, ask};

const BROWSER: &str = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8";

/// A list that can change while the gateway runs.
#[derive(Clone, Default)]
struct Listed(Arc<Mutex<Arc<[PricedRoute]>>>);

impl Pricing for Listed {
    fn price(&self, _: &Parts) -> Option<Msat> {
        None
    }

    fn prices(&self) -> Arc<[PricedRoute]> {
        Arc::clone(&self.0.lock().unwrap())
    }
}

/// Asks a gateway with this list, as a client that accepts these types.
async fn told(listed: &Listed, path: &str, accept: &str) -> Answer {
    let desk = Desk::open().await;
    let (keyring, ledger) = (desk.gateway.keyring.clone(), desk.ledger.clone());
    let cashier = Cashier::new(keyring, ledger, Quiet, vec![HOST.to_owned()]);
    let mut paywall = PaywallLayer::new(cashier, listed.clone()).layer(Api::default());
    ask(&mut paywall, path, &[("accept", accept.to_owned())]).await
}

fn listed() -> Listed {
    let listed = Listed::default();
    *listed.0.lock().unwrap() = Arc::from([
        PricedRoute {
            path: "/forecast".to_owned(),
            host: Some("api.example.com".to_owned()),
            methods: vec!["GET".to_owned(), "POST".to_owned()],
            price: Msat::new(1_500).ok(),
            allowance: Some(FreeAllowance { requests: 10, span: Seconds::new(86_400) }),
            billing: Billing::Flat,
            is_asked: false,
            is_shadow: true,
        },
        PricedRoute { path: "/<b>".to_owned(), ..PricedRoute::default() },
    ]);
    listed
}

#[tokio::test]
async fn a_program_is_told_what_costs_what() {
    let answer = told(&listed(), WELL_KNOWN, "*/*").await;
    assert_eq!(answer.headers.get("content-type").unwrap(), "application/json");
    assert_eq!(answer.headers.get("vary").unwrap(), "accept");
    let document: serde_json::Value = serde_json::from_str(&answer.body).unwrap();
    let expected = serde_json::json!([
        {
            "path": "/forecast", "host": "api.example.com", "methods": ["GET", "POST"],
            "price_msat": 1500, "free": false, "asked": false,
            "free_allowance": {"requests": 10, "span_secs": 86400}, "shadow": true,
            "unit_msat": null, "rates": null,
        },
        {
            "path": "/<b>", "host": null, "methods": [], "price_msat": 0, "free": true,
            "asked": false, "free_allowance": null, "shadow": false, "unit_msat": null,
            "rates": null,
        },
    ]);
    assert_eq!(document["prices"], expected);
    assert_eq!(document["network"], "regtest");
}

#[tokio::test]
async fn a_person_is_shown_a_page_without_scripts() {
    let answer = told(&listed(), WELL_KNOWN, BROWSER).await;
    assert_eq!(answer.headers.get("content-type").unwrap(), "text/html; charset=utf-8");
    assert_eq!(answer.headers.get("vary").unwrap(), "accept");
    assert!(answer.headers.contains_key("content-security-policy"));
    for words in [
        "<code>api.example.com/forecast</code>",
        "1.5 sat (1,500 msat)",
        "<code>/&lt;b&gt;</code></td><td>all</td><td>free</td>",
        "<a href=\"/.well-known/payment-channel?format=json\">",
        "10,000 to 1,000,000 sat",
    ] {
        assert!(answer.body.contains(words), "{words} in {}", answer.body);
    }
    assert!(!answer.body.contains("<script") && !answer.body.contains("<b>"), "{}", answer.body);
}

#[tokio::test]
async fn the_link_of_the_page_leads_a_browser_to_the_document() {
    let path = format!("{WELL_KNOWN}?format=json");
    let answer = told(&listed(), &path, BROWSER).await;
    assert_eq!(answer.headers.get("content-type").unwrap(), "application/json");
}

#[tokio::test]
async fn the_list_follows_a_change_of_prices() {
    let listed = listed();
    assert!(told(&listed, WELL_KNOWN, BROWSER).await.body.contains("/forecast"));
    *listed.0.lock().unwrap() = Arc::default();
    let answer = told(&listed, WELL_KNOWN, BROWSER).await;
    assert!(!answer.body.contains("/forecast"), "{}", answer.body);
    assert!(answer.body.contains("says what its request costs"), "{}", answer.body);
}

#[tokio::test]
async fn an_offer_says_for_how_long_its_price_holds_where_that_is_promised() {
    for (millis, holds) in [(90_000, Some(Seconds::new(90))), (900, None), (0, None)] {
        let desk = Desk::open().await;
        let (keyring, ledger) = (desk.gateway.keyring.clone(), desk.ledger.clone());
        let cashier = Cashier::new(keyring, ledger, Quiet, vec![HOST.to_owned()]);
        let layer = PaywallLayer::new(cashier, |_: &Parts| Msat::new(5).ok());
        let mut paywall = layer.quote(Duration::from_millis(millis)).layer(Api::default());

        let offer: Offer = ask(&mut paywall, "/paid", &[]).await.message();

        assert_eq!((offer.price.get(), offer.price_holds), (5, holds));
        let told = ask(&mut paywall, WELL_KNOWN, &[]).await.body;
        let told: serde_json::Value = serde_json::from_str(&told).unwrap();
        assert_eq!(told["price_secs"].as_u64(), holds.map(|holds| holds.get().into()));
    }
}
