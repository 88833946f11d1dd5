//! The price list of a running gateway.

use super::gate::{Gate, with_routes};

const LIST: &str = "/.well-known/payment-channel";
const ROUTES: &str = r#"
[[route]]
host = "*.example.com"
path = "/users/{id}/**"
methods = ["GET"]
price_msat = 2_500
free_requests = 10
free_secs = 3_600

[[route]]
path = "/shown"
price_sat = 3
shadow = true

[[route]]
path = "/paid"
price_sat = 4

[[route]]
path = "/"
free = true
"#;

#[tokio::test]
async fn programs_get_a_document_and_browsers_a_page() {
    let gate = Gate::start(|config| with_routes(&config, ROUTES)).await;

    let document = gate.ask(LIST, &[]).await;
    let page = gate.ask(LIST, &["--header", "Accept: text/html,*/*;q=0.8"]).await;

    assert_eq!((document.status, document.field("content-type")), (200, "application/json"));
    let told = document.json();
    assert_eq!(told["price_secs"], 60);
    let prices = told["prices"].as_array().unwrap();
    assert_eq!(prices.len(), 4);
    let first = serde_json::json!({
        "path": "/users/{id}/**", "host": "*.example.com", "methods": ["GET", "HEAD"],
        "price_msat": 2_500, "free": false, "asked": false,
        "free_allowance": { "requests": 10, "span_secs": 3_600 }, "shadow": false,
        "unit_msat": null, "rates": null,
    });
    assert_eq!(prices[0], first);
    assert_eq!((&prices[1]["shadow"], &prices[3]["free"]), (&true.into(), &true.into()));
    assert_eq!((page.status, page.field("content-type")), (200, "text/html; charset=utf-8"));
    for words in
        ["/users/{id}/**", "2.5 sat (2,500 msat)", "10 free every 1 hour", "1 minute", "How to pay"]
    {
        assert!(page.body.contains(words), "{words} in {}", page.body);
    }
    assert_eq!(page.field("vary"), "accept");
    let asked = gate.ask(&format!("{LIST}?format=json"), &["--header", "Accept: text/html"]).await;
    assert_eq!(asked.field("content-type"), "application/json");
    assert_eq!(gate.world.api.hits(), 0);
}

#[tokio::test]
async fn the_list_is_that_of_the_configuration_in_force() {
    let gate = Gate::start(|config| with_routes(&config, ROUTES)).await;

    gate.reload(|config| config.replace("price_sat = 4", "price_sat = 5")).await;

    let told = gate.ask(LIST, &[]).await.json();
    assert_eq!(told["prices"][2]["price_msat"], 5_000);
    let page = gate.ask(LIST, &["--header", "Accept: text/html"]).await;
    assert!(page.body.contains("5 sat (5,000 msat)"), "{}", page.body);
}

#[tokio::test]
async fn its_head_can_be_asked_for_alone() {
    let gate = Gate::start(|config| config).await;
    let whole = gate.ask(LIST, &[]).await;

    let head = gate.ask(LIST, &["--head"]).await;

    assert_eq!((head.status, head.body.as_str()), (200, ""));
    assert_eq!(head.field("content-type"), "application/json");
    assert_eq!(head.field("content-length"), whole.body.len().to_string());
}
