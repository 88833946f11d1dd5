//! Health and metrics, wherever they are told.

use farebox_channel::Kind;

use super::curl::ask;
use super::gate::{Gate, free_address, payment};
use crate::support::{CAPACITY_SAT, FIRST_SAT, Operator, until};

/// Returns the configuration with an address for health and metrics.
fn monitored(config: &str, address: &str) -> String {
    format!("{config}\n[monitor]\nlisten = \"{address}\"\n")
}

#[tokio::test]
async fn health_is_told_to_clients_in_short_and_to_the_operator_in_full() {
    let address = free_address();
    let gate = Gate::start(|config| monitored(&config, &address)).await;
    for path in ["/healthz", "/readyz"] {
        let short = gate.ask(path, &[]).await;
        assert_eq!((short.status, short.field("cache-control")), (200, "no-store"));
        let head = gate.ask(path, &["--head"]).await;
        assert_eq!((head.status, head.body.as_str()), (200, ""));
        assert_eq!(head.field("content-length"), short.body.len().to_string());
    }
    assert_eq!(gate.ask("/healthz", &[]).await.body, "{\"alive\":true}\n");
    assert_eq!(gate.ask("/readyz", &[]).await.body, "{\"ready\":true}\n");

    let on_socket = gate.admin("/readyz").await;
    let on_address = ask(&format!("http://{address}/readyz"), &[]).await;

    let told = on_socket.json();
    assert_eq!(told, on_address.json());
    assert_eq!(told["node"]["height"], gate.height().await);
    assert_eq!((&told["node"]["is_away"], &told["draining"]), (&false.into(), &false.into()));
    let upstream = format!("http://{}", gate.world.api.address);
    assert_eq!(told["upstreams"][0]["address"], upstream);
    assert_eq!(gate.ask("/metrics", &[]).await.status, 404, "clients are told no money");
    let written = ask(&format!("http://{address}/metrics"), &["--request", "POST"]).await;
    assert_eq!((written.status, written.field("allow")), (405, "GET, HEAD"));
    assert_eq!(gate.world.api.hits(), 0);
}

#[tokio::test]
async fn a_route_of_exactly_that_path_goes_before_the_gateways_own_health() {
    let own = "\n[[route]]\npath = \"/healthz\"\nfree = true\n";
    let gate = Gate::start(|config| config + own).await;

    assert_eq!(gate.ask("/healthz", &[]).await.body, "hello\n");
    assert_eq!(gate.ask("/readyz", &[]).await.body, "{\"ready\":true}\n");

    assert_eq!(gate.world.api.hits(), 1);
}

#[tokio::test]
async fn the_metrics_of_the_money_are_those_of_the_ledger() {
    let address = free_address();
    let gate = Gate::start(|config| monitored(&config, &address)).await;
    let mut buyer = gate.world.buyer_with_channel(Kind::Refund).await;
    for path in ["/paid/x", "/paid/y", "/paid/fail"] {
        gate.pay(&mut buyer, 1_500, path, &[]).await;
    }
    let dearer = payment(&mut buyer, 5_000_000);
    assert_eq!(gate.ask("/dear", &["--header", &dearer]).await.status, 200);
    assert_eq!(gate.ask("/dear", &[]).await.status, 402);

    let answer = ask(&format!("http://{address}/metrics"), &[]).await;

    assert!(answer.field("content-type").starts_with("application/openmetrics-text"));
    assert!(answer.body.ends_with("# EOF\n"));
    let listed = Operator::of(&gate.world).json(&["channels", "--json"]).await;
    let channel = &listed["channels"][0];
    let sat = |name: &str| channel[name].as_u64().unwrap();
    // Two requests of 1,500 msat and one of 5,000 sat; the one that failed costs nothing.
    assert_eq!(sat("spent_msat"), 5_003_000);
    assert_eq!(sat("capacity_sat"), CAPACITY_SAT);
    let paid = sat("paid_sat");
    assert!(paid > FIRST_SAT);
    for line in [
        "farebox_charges_total{route=\"/paid\"} 2".to_owned(),
        "farebox_charged_msat_total{route=\"/paid\"} 3000".to_owned(),
        "farebox_charges_total{route=\"/dear\"} 1".to_owned(),
        "farebox_charged_msat_total{route=\"/dear\"} 5000000".to_owned(),
        "farebox_releases_total{route=\"/paid\"} 1".to_owned(),
        "farebox_unpaid_total{route=\"/dear\"} 1".to_owned(),
        "farebox_channels{state=\"open\"} 1".to_owned(),
        format!("farebox_capacity_open_sat {CAPACITY_SAT}"),
        format!("farebox_paid_open_sat {paid}"),
        format!("farebox_credit_open_msat {}", paid * 1_000 - 5_003_000),
        format!("farebox_at_risk_sat {paid}"),
    ] {
        assert!(answer.body.lines().any(|it| it == line), "{line} in {}", answer.body);
    }
    // The buyer has asked /paid for the offer before.
    for line in [
        "farebox_refusals_total{problem=\"payment-required\"} 2",
        "farebox_request_duration_seconds_count{route=\"/paid\"} 4",
        "farebox_request_duration_seconds_count{route=\"/dear\"} 2",
        "farebox_first_byte_seconds_count{route=\"/dear\"} 2",
    ] {
        let metrics = format!("http://{address}/metrics");
        until(line, async || ask(&metrics, &[]).await.body.lines().any(|it| it == line)).await;
    }
    let mark = answer.body.lines().find_map(|it| it.strip_prefix("farebox_next_mark_seconds "));
    let mark: i64 = mark.unwrap().parse().unwrap();
    // Nothing waits for others in this batch, so the channel closes when it has to be settled.
    let closes = channel["settles_in_secs"].as_i64().unwrap();
    assert!((mark - closes).abs() <= 5, "the next mark is the close: {mark} and {closes}");
}
