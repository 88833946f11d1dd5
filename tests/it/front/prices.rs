//! What requests cost: by route and method, with something free, and in shadow.

use farebox_channel::Kind;

use super::curl::Curled;
use super::gate::{Gate, with_routes};
use crate::support::until;

/// What a receipt says that a request has cost, in millisatoshi.
fn charged(answer: &Curled) -> Option<u64> {
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.number("payment-channel-receipt", "price")
}

#[tokio::test]
async fn each_method_of_a_path_has_its_own_price() {
    let routes = "[[route]]\nname = \"read\"\npath = \"/paid\"\nmethods = [\"GET\"]\n\
                  price_msat = 1_000\n\n[[route]]\npath = \"/paid\"\nprice_sat = 7\n";
    let gate = Gate::start(|config| with_routes(&config, routes)).await;
    let mut buyer = gate.world.buyer_with_channel(Kind::Refund).await;
    let post = ["--request", "POST"];
    assert_eq!(gate.ask("/paid/x", &[]).await.price(), 1_000);
    assert_eq!(gate.ask("/paid/x", &post).await.price(), 7_000);

    assert_eq!(charged(&gate.pay(&mut buyer, 1_000, "/paid/x", &[]).await), Some(1_000));
    let last = gate.pay(&mut buyer, 7_000, "/paid/x", &post).await;

    assert_eq!(charged(&last), Some(7_000));
    assert_eq!(last.number("payment-channel-receipt", "spent"), Some(8_000));
}

#[tokio::test]
async fn what_is_free_is_used_up_and_comes_back() {
    let routes = "[[route]]\npath = \"/paid\"\nprice_msat = 1_500\nfree_requests = 3\n\
                  free_secs = 4\n";
    let gate = Gate::start(|config| with_routes(&config, routes)).await;
    let free = async || {
        let answer = gate.ask("/paid/x", &[]).await;
        let is_free = answer.status == 200;
        assert!(is_free || answer.price() == 1_500, "{answer:?}");
        is_free
    };
    until("the allowance is used up", async || !free().await).await;

    until("there is something free again", async || free().await).await;

    // No more than two spans' allowances can have been used between two spans' ends.
    let mut more = 0;
    until("the allowance is used up again", async || {
        let is_free = free().await;
        more += usize::from(is_free);
        !is_free
    })
    .await;
    assert!(more <= 5, "{more} more were free");
}

#[tokio::test]
async fn each_client_has_something_free_once_whatever_is_reloaded() {
    let routes = "[[route]]\npath = \"/paid\"\nprice_msat = 1_500\nfree_requests = 2\n\
                  free_secs = 86_400\n";
    let gate = Gate::start(|config| {
        "trusted_proxies = [\"127.0.0.1\"]\n".to_owned() + &with_routes(&config, routes)
    })
    .await;
    let statuses = async |client: &str| {
        let field = format!("X-Forwarded-For: {client}");
        let mut told = Vec::new();
        for _ in 0..3 {
            told.push(gate.ask("/paid/x", &["--header", &field]).await.status);
        }
        told
    };

    assert_eq!(statuses("203.0.113.1").await, [200, 200, 402]);
    assert_eq!(statuses("203.0.113.2").await, [200, 200, 402]);
    gate.reload(|config| config.replace("1_500", "1_600")).await;
    assert_eq!(statuses("203.0.113.1").await, [402, 402, 402]);
    assert_eq!(statuses("203.0.113.3").await, [200, 200, 402]);
}

#[tokio::test]
async fn whoever_pays_is_charged_even_where_something_is_free() {
    let routes = "[[route]]\npath = \"/paid\"\nprice_msat = 1_500\nfree_requests = 2\n\
                  free_secs = 86_400\n";
    let plain = "[[route]]\npath = \"/paid\"\nprice_msat = 1_500\n";
    let gate = Gate::start(|config| with_routes(&config, plain)).await;
    let mut buyer = gate.world.buyer_with_channel(Kind::Cltv).await;
    gate.reload(|config| with_routes(&config, routes)).await;

    assert_eq!(charged(&gate.pay(&mut buyer, 1_500, "/paid/x", &[]).await), Some(1_500));

    for _ in 0..2 {
        let free = gate.ask("/paid/x", &[]).await;
        assert_eq!((free.status, free.all("payment-channel-receipt").len()), (200, 0));
    }
    assert_eq!(gate.ask("/paid/x", &[]).await.price(), 1_500);
    assert_eq!(charged(&gate.pay(&mut buyer, 1_500, "/paid/x", &[]).await), Some(1_500));
}

/// Puts `/paid` in shadow, asks twice there, and looks at what is told of it.
async fn is_served_and_told(gate: &Gate, shadow: impl FnOnce(String) -> String) {
    let mut buyer = gate.world.buyer_with_channel(Kind::Cltv).await;
    gate.reload(shadow).await;

    let unpaid = gate.ask("/paid/x", &[]).await;
    let paid = gate.pay(&mut buyer, 1_500, "/paid/x", &[]).await;

    for answer in [&unpaid, &paid] {
        assert_eq!((answer.status, answer.all("payment-channel-receipt").len()), (200, 0));
    }
    let asked = gate.world.api.asked();
    assert_eq!(asked.len(), 2);
    assert!(asked.iter().all(|it| !it.headers.contains_key("farebox-price")));
    let line = gate.logged(&["\"path\":\"/paid/x\"", "\"would_charge_msat\":1500"]).await;
    assert!(line.contains("\"outcome\":\"shadow\""), "{line}");
    let metrics = gate.admin("/metrics").await.body;
    for line in [
        "farebox_shadow_msat_total{route=\"/paid\"} 3000",
        "farebox_charged_msat_total{route=\"/paid\"} 0",
    ] {
        assert!(metrics.lines().any(|it| it == line), "{line} in {metrics}");
    }
}

/// Has a line written for each request.
fn logging(config: String) -> String {
    config + "\n[log]\naccess = \"json\"\n"
}

#[tokio::test]
async fn a_route_in_shadow_charges_nothing_and_says_what_it_would_have() {
    let gate = Gate::start(logging).await;
    let shadow = "price_msat = 1500\nshadow = true";
    is_served_and_told(&gate, |config| config.replace("price_msat = 1500", shadow)).await;
    assert_eq!(gate.ask("/dear", &[]).await.price(), 5_000_000);
}

#[tokio::test]
async fn with_shadow_for_all_nothing_is_charged_at_all() {
    let gate = Gate::start(logging).await;
    is_served_and_told(&gate, |config| format!("shadow = true\n{config}")).await;
    assert_eq!(gate.ask("/dear", &[]).await.status, 200);
}
