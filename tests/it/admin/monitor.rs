//! Health and metrics of a running gateway: on the admin socket, and on an address of their own.

use std::net::TcpListener;

use farebox_channel::{Kind, Msat};

use crate::support::{CAPACITY_SAT, FIRST_SAT, Operator, PRICE_MSAT, World};

/// Asks on the admin socket.
async fn asked(operator: &Operator, path: &str) -> (u16, String) {
    // Nothing is encrypted on a socket of this machine, but the library wants a provider.
    let _installed = rustls::crypto::ring::default_provider().install_default();
    let http = reqwest::Client::builder().unix_socket(operator.socket.as_path()).build().unwrap();
    let answer = http.get(format!("http://gateway{path}")).send().await.unwrap();
    (answer.status().as_u16(), answer.text().await.unwrap())
}

#[tokio::test]
async fn the_metrics_of_a_running_gateway_tell_its_money() {
    let world = World::start().await;
    let operator = Operator::of(&world);
    let mut buyer = world.buyer_with_channel(Kind::Cltv).await;
    assert_eq!(buyer.pay("/paid/x").await.status, 200);

    let (status, text) = asked(&operator, "/metrics").await;

    assert_eq!(status, 200);
    let credit = FIRST_SAT * 1_000 - PRICE_MSAT;
    for line in [
        "farebox_channels{state=\"open\"} 1".to_owned(),
        format!("farebox_capacity_open_sat {CAPACITY_SAT}"),
        format!("farebox_paid_open_sat {FIRST_SAT}"),
        format!("farebox_credit_open_msat {credit}"),
        format!("farebox_at_risk_sat {FIRST_SAT}"),
        "farebox_unsettled_sat 0".to_owned(),
        "farebox_node_away 0".to_owned(),
    ] {
        assert!(text.lines().any(|it| it == line), "{line} in {text}");
    }
    assert!(text.contains("farebox_next_mark_seconds "), "{text}");
    assert!(text.contains("farebox_chain_height "), "{text}");
}

#[tokio::test]
async fn an_answer_that_used_nothing_is_no_charge_that_was_taken_back() {
    let world = World::start_with(|config| {
        config.replace("[upstream]", "[upstream]\nusage_header = \"X-Cost-Msat\"")
    })
    .await;
    let operator = Operator::of(&world);
    let mut buyer = world.buyer_with_channel(Kind::Cltv).await;

    assert_eq!(buyer.pay("/paid/unused").await.receipt().price, Msat::ZERO);
    assert_eq!(buyer.pay("/paid/fail").await.receipt().price, Msat::ZERO);

    for line in [
        "farebox_requests_total{route=\"/paid\",status=\"2xx\",outcome=\"free\"} 1",
        "farebox_requests_total{route=\"/paid\",status=\"5xx\",outcome=\"released\"} 1",
        "farebox_releases_total{route=\"/paid\"} 1",
        "farebox_charges_total{route=\"/paid\"} 0",
    ] {
        operator.until_told(line).await;
    }
}

#[tokio::test]
async fn health_is_told_on_both_addresses() {
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let monitor = format!("\n[monitor]\nlisten = \"{free}\"\n");
    let world = World::start_with(|config| config + &monitor).await;
    let operator = Operator::of(&world);
    assert_eq!(asked(&operator, "/healthz").await, (200, "{\"alive\":true}\n".to_owned()));
    let (status, ready) = asked(&operator, "/readyz").await;
    assert_eq!(status, 200, "{ready}");
    let ready: serde_json::Value = serde_json::from_str(&ready).unwrap();
    assert_eq!((&ready["ready"], &ready["draining"]), (&true.into(), &false.into()));

    let answer = reqwest::get(format!("http://{free}/readyz")).await.unwrap();

    assert_eq!(answer.status().as_u16(), 200);
}
