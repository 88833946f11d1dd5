//! Tests of the whole text.

use farebox_ledger::Totals;

use super::super::record::{Figures, sample};
use super::*;

fn metrics() -> Metrics {
    Metrics::new(Arc::new(|| Money {
        totals: Totals {
            pending: 1,
            open: 7,
            closing: 2,
            open_capacity_sat: 700_000,
            ..Totals::default()
        },
        next_mark_secs: Some(60),
        alarms: vec!["node"],
        commits: 42,
        ..Money::default()
    }))
}

/// Tells whether a line stands in a text.
fn has(text: &str, line: &str) -> bool {
    text.lines().any(|it| it == line)
}

#[test]
fn two_workers_add_up_to_one_route() {
    let metrics = metrics();
    let (one, other) = (metrics.route(0, "forecast"), metrics.route(1, "forecast"));
    metrics.record(&one, &sample().figures);
    metrics.record(&other, &sample().figures);
    metrics.record(&metrics.route(1, "forecast"), &sample().figures);
    let text = metrics.scrape();
    let requests = "farebox_requests_total{route=\"forecast\",status=\"2xx\",outcome=\"paid\"} 3";
    assert!(has(&text, requests), "{text}");
    assert!(has(&text, "farebox_charged_msat_total{route=\"forecast\"} 4500"), "{text}");
    assert!(has(&text, "farebox_request_duration_seconds_count{route=\"forecast\"} 3"), "{text}");
    let bucket = "farebox_first_byte_seconds_bucket{le=\"0.0025\",route=\"forecast\"} 3";
    assert!(has(&text, bucket), "{text}");
    assert!(text.ends_with("# EOF\n"));
}

#[test]
fn a_refusal_is_counted_by_its_problem() {
    let metrics = metrics();
    let route = metrics.route(0, NO_ROUTE);
    for refusal in [ProblemKind::PaymentRequired, ProblemKind::WrongPass] {
        metrics.record(&route, &Figures { refusal: Some(refusal), ..sample().figures });
    }
    let text = metrics.scrape();
    assert!(has(&text, "farebox_refusals_total{problem=\"wrong-pass\"} 1"), "{text}");
    assert!(has(&text, "farebox_unpaid_total{route=\"-\"} 1"), "{text}");
}

#[test]
fn what_is_under_way_is_counted_until_it_ends() {
    let metrics = metrics();
    let (connection, request) = (metrics.connection(), metrics.request());
    assert!(has(&metrics.scrape(), "farebox_connections_open 1"));
    assert!(has(&metrics.scrape(), "farebox_requests_in_flight 1"));
    drop((connection, request));
    assert!(has(&metrics.scrape(), "farebox_connections_open 0"));
    assert!(has(&metrics.scrape(), "farebox_requests_in_flight 0"));
}

#[test]
fn money_is_read_when_it_is_asked_for() {
    let text = metrics().scrape();
    for line in [
        "farebox_channels{state=\"open\"} 7",
        "farebox_channels{state=\"late\"} 0",
        "farebox_capacity_open_sat 700000",
        "farebox_next_mark_seconds 60",
        "farebox_ledger_commits_total 42",
        "farebox_node_away 0",
        "farebox_alarms{alarm=\"node\"} 1",
        "farebox_alarms{alarm=\"emergency\"} 0",
        "farebox_alarms{alarm=\"unconfirmed\"} 0",
    ] {
        assert!(has(&text, line), "{line} in {text}");
    }
    // What nobody knows is left out, rather than told as zero.
    assert!(!text.contains("farebox_chain_height"), "{text}");
}

#[test]
fn what_has_not_happened_yet_is_told_as_zero() {
    let text = metrics().scrape();
    for limit in ["connections", "requests", "openings", "unpaid"] {
        assert!(has(&text, &format!("farebox_limited_total{{limit=\"{limit}\"}} 0")), "{text}");
    }
    for problem in ProblemKind::ALL.map(ProblemKind::name) {
        assert!(
            has(&text, &format!("farebox_refusals_total{{problem=\"{problem}\"}} 0")),
            "{text}"
        );
    }
}

#[test]
fn services_limits_and_reloads_are_counted_by_their_names() {
    let metrics = metrics();
    let upstream = metrics.upstream("127.0.0.1:3000");
    upstream.asked();
    upstream.failed();
    upstream.set_healthy(false);
    metrics.limited(Limit::Unpaid);
    metrics.limited(Limit::Unpaid);
    metrics.reloaded(true);
    metrics.dropped_lines().fetch_add(3, Ordering::Relaxed);
    metrics.dropped_spans().fetch_add(4, Ordering::Relaxed);
    let text = metrics.scrape();
    for line in [
        "farebox_upstream_requests_total{upstream=\"127.0.0.1:3000\"} 1",
        "farebox_upstream_failures_total{upstream=\"127.0.0.1:3000\"} 1",
        "farebox_upstream_healthy{upstream=\"127.0.0.1:3000\"} 0",
        "farebox_limited_total{limit=\"unpaid\"} 2",
        "farebox_reloads_total{result=\"taken\"} 1",
        "farebox_reloads_total{result=\"refused\"} 0",
        "farebox_access_log_dropped_total 3",
        "farebox_log_dropped_total 0",
        "farebox_spans_dropped_total 4",
    ] {
        assert!(has(&text, line), "{line} in {text}");
    }
}

#[test]
fn a_name_of_the_configuration_cannot_break_its_line() {
    let metrics = metrics();
    let route = metrics.route(0, "a\"b\\c\nd");
    metrics.record(&route, &sample().figures);
    let text = metrics.scrape();
    assert!(has(&text, r#"farebox_charges_total{route="a\"b\\c\nd"} 1"#), "{text}");
}
