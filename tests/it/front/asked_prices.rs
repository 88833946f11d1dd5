//! Prices that are asked of a service of the seller's.

use axum::response::IntoResponse;
use farebox_channel::Kind;
use serde_json::json;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use super::curl::Curled;
use super::gate::{Gate, payment, with_routes};
use super::price_service::{PriceService, passing, price};
use crate::support::until;

/// The price of the route, where no other one is known.
const USUAL: u64 = 1_500;
/// A route with a price of its own, where channels are opened.
const PAID: &str = "[[route]]\npath = \"/paid\"\nprice_msat = 9\n";

/// Starts a gateway whose prices below `/asked` a service says, with more keys for that route.
async fn before(service: &PriceService, keys: &str) -> Gate {
    let routes = route(service, "/asked", keys) + PAID;
    Gate::start(move |config| with_routes(&config, &routes)).await
}

fn route(service: &PriceService, path: &str, keys: &str) -> String {
    format!("[[route]]\npath = \"{path}\"\nprice_msat = {USUAL}\n{}{keys}\n", service.keys())
}

/// Returns what a receipt says that a request has cost.
fn charged(answer: &Curled) -> Option<u64> {
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.number("payment-channel-receipt", "price")
}

#[tokio::test]
async fn a_price_is_asked_once_for_each_request_told_and_charged_to_the_millisatoshi() {
    let service = PriceService::start(1).await;
    service.say(|path| price(if path == "/asked/a" { 777 } else { 1_001 }));
    let gate = before(&service, "").await;
    let mut buyer = gate.world.buyer_with_channel(Kind::Cltv).await;

    for _ in 0..3 {
        assert_eq!(gate.ask("/asked/a", &[]).await.price(), 777);
        assert_eq!(gate.ask("/asked/b", &[]).await.price(), 1_001);
    }
    assert_eq!(charged(&gate.pay(&mut buyer, 777, "/asked/a", &[]).await), Some(777));
    let last = gate.pay(&mut buyer, 1_001, "/asked/b", &[]).await;

    assert_eq!(charged(&last), Some(1_001));
    assert_eq!(last.number("payment-channel-receipt", "spent"), Some(1_778));
    assert_eq!(service.asked().len(), 2);
    assert_eq!(gate.ask("/asked/a?q", &[]).await.price(), 777);
    assert_eq!(gate.ask("/asked/a", &["--request", "POST"]).await.price(), 777);
    assert_eq!(service.asked().len(), 4, "another query and another method are other requests");
    let metrics = gate.admin("/metrics").await.body;
    for line in [
        "farebox_price_questions_total{route=\"/asked\"} 4",
        "farebox_price_failures_total{route=\"/asked\"} 0",
        "farebox_price_question_seconds_count{route=\"/asked\"} 4",
    ] {
        assert!(metrics.lines().any(|it| it == line), "{line} in {metrics}");
    }
}

#[tokio::test]
async fn nothing_of_a_client_but_its_request_reaches_the_service() {
    let service = PriceService::start(500).await;
    let gate = before(&service, "").await;
    let mut buyer = gate.world.buyer_with_channel(Kind::Refund).await;
    let secret = ["--header", "Cookie: secret", "--header", "X-Any: secret"];
    let body = ["--user", "secret:secret", "--data", "secret"];
    let more = [&secret[..], &body, &["--header", "Host: API.example.com:80"]].concat();

    let answer = gate.pay(&mut buyer, 500, "/asked/%41/%C3%A4?q=%20&'", &more).await;

    assert_eq!(charged(&answer), Some(500));
    let [question] = service.asked().try_into().unwrap();
    assert_eq!((question.method.as_str(), question.path.as_str()), ("POST", "/price/"));
    let document = json!({
        "method": "POST", "host": "api.example.com", "path": "/asked/A/%C3%A4",
        "query": "q=%20&'",
    });
    assert_eq!(question.document, document);
    let mut names: Vec<_> = question.headers.keys().map(|name| name.as_str()).collect();
    names.sort_unstable();
    assert_eq!(names, ["accept", "content-length", "content-type", "host"]);
    assert_eq!(question.headers["host"], service.address.to_string().as_str());
}

#[tokio::test]
async fn an_answer_is_kept_for_its_time_and_no_longer_than_it_says() {
    let service = PriceService::start(1).await;
    service.say(|path| match path {
        "/asked/short" => ([("cache-control", "max-age=1")], price(5)).into_response(),
        "/asked/none" => passing(6),
        _ => price(7),
    });
    let gate = before(&service, "ask.keep_secs = 2\n").await;
    let ask = async |path: &str| gate.ask(path, &[]).await.price();

    for _ in 0..3 {
        assert_eq!(ask("/asked/none").await, 6);
    }
    assert_eq!(service.times("/asked/none"), 3);
    for (path, price) in [("/asked/short", 5), ("/asked/long", 7)] {
        until("it is asked again", async || {
            assert_eq!(ask(path).await, price);
            service.times(path) > 1
        })
        .await;
    }
    let asked = service.times("/asked/short");
    assert!(asked < 20, "{asked}: it is kept");
}

#[tokio::test]
async fn fifty_requests_at_once_are_one_question() {
    let service = PriceService::start(1).await;
    service.say(|_| price(900));
    let gate = before(&service, "ask.timeout_secs = 60\n").await;
    service.open(false);

    let url = gate.world.gateway.url("/asked/x");
    let asking: Vec<_> = (0..50)
        .map(|_| {
            let url = url.clone();
            tokio::spawn(async move { super::curl::ask(&url, &[]).await })
        })
        .collect();
    until_under_way(&gate, 50).await;
    service.open(true);

    for answer in asking {
        assert_eq!(answer.await.unwrap().price(), 900);
    }
    assert_eq!(service.asked().len(), 1);
}

/// Waits until so many requests are under way.
async fn until_under_way(gate: &Gate, count: usize) {
    until("all requests are under way", async || {
        let metrics = gate.admin("/metrics").await.body;
        let level = |line: &str| line.strip_prefix("farebox_requests_in_flight ")?.parse().ok();
        metrics.lines().find_map(level) == Some(count)
    })
    .await;
}

#[tokio::test]
async fn a_flood_of_different_requests_is_no_flood_for_the_service() {
    let service = PriceService::start(1).await;
    service.say(|_| price(900));
    let gate = before(&service, "ask.timeout_secs = 60\n").await;
    service.open(false);

    let asking: Vec<_> = (0..80)
        .map(|number| {
            let url = gate.world.gateway.url(&format!("/asked/{number}"));
            tokio::spawn(async move { super::curl::ask(&url, &[]).await })
        })
        .collect();
    until_under_way(&gate, 80).await;
    until("as many are asked as are at once", async || service.asked().len() >= 64).await;
    assert_eq!(service.asked().len(), 64);
    service.open(true);

    for answer in asking {
        assert_eq!(answer.await.unwrap().price(), 900);
    }
    assert_eq!(service.asked().len(), 80);
}

#[tokio::test]
async fn whoever_asks_too_often_has_no_more_prices_asked() {
    let service = PriceService::start(500).await;
    let routes = route(&service, "/asked", "");
    let gate = Gate::start(move |config| {
        let config = config.replace("unpaid_per_sec = 100_000", "unpaid_per_sec = 1");
        with_routes(&config.replace("unpaid_burst = 100_000", "unpaid_burst = 5"), &routes)
    })
    .await;

    let mut refused = 0;
    for number in 0..20 {
        let answer = gate.ask(&format!("/asked/{number}"), &[]).await;
        refused += usize::from(answer.status == 429);
        let pass = "Payment-Channel-Pay: nonsense";
        let paying = gate.ask(&format!("/asked/paid-{number}"), &["--header", pass]).await;
        assert!(matches!(paying.status, 400 | 429), "{paying:?}");
    }

    assert!(refused >= 10, "{refused}");
    let asked = service.asked().len();
    assert!(asked <= 2 * (20 - refused) + 5, "{asked} questions, {refused} refused");
}

#[tokio::test]
async fn what_the_service_calls_free_is_served_for_nothing_and_free_allowances_come_first() {
    let service = PriceService::start(700).await;
    service.say(|path| match path {
        "/asked/free" => "{\"free\": true}".into_response(),
        _ => price(700),
    });
    let allowance = route(&service, "/some", "free_requests = 2\nfree_secs = 86_400\n");
    let shadow = route(&service, "/shadow", "shadow = true\nask.when_down = \"refuse\"\n");
    let routes = route(&service, "/asked", "") + &allowance + &shadow;
    let log = "[log]\naccess = \"json\"\n";
    let gate = Gate::start(move |config| with_routes(&config, &(routes + log))).await;
    let free = |answer: Curled| {
        assert_eq!((answer.status, answer.all("payment-channel-receipt").len()), (200, 0));
    };

    free(gate.ask("/asked/free", &[]).await);
    free(gate.ask("/some/x", &[]).await);
    free(gate.ask("/some/y", &[]).await);
    assert_eq!(service.times("/some/x"), 0, "nobody has to know what it would cost");
    assert_eq!(gate.ask("/some/x", &[]).await.price(), 700);

    free(gate.ask("/shadow/x", &[]).await);
    gate.logged(&["\"path\":\"/shadow/x\"", "\"would_charge_msat\":700"]).await;
    service.say(|_| http::StatusCode::BAD_GATEWAY.into_response());
    free(gate.ask("/shadow/down", &[]).await);
    gate.logged(&["\"path\":\"/shadow/down\"", "\"would_charge_msat\":1500"]).await;
}

#[tokio::test]
async fn the_price_list_says_that_a_price_is_asked() {
    let service = PriceService::start(700).await;
    let gate = before(&service, "").await;
    let list = "/.well-known/payment-channel";

    let told = gate.ask(list, &[]).await.json();
    let page = gate.ask(list, &["--header", "Accept: text/html"]).await.body;

    assert_eq!(told["prices"][0]["asked"], true);
    assert_eq!(told["prices"][0]["price_msat"], USUAL);
    assert!(page.contains("or another price, asked for each request"), "{page}");
    assert_eq!(service.asked().len(), 0);
}

#[tokio::test]
async fn a_named_request_is_charged_once_whatever_the_service_says_meanwhile() {
    let service = PriceService::start(500).await;
    let routes = route(&service, "/asked", "") + PAID;
    let change = move |config: String| format!("quote_secs = 0\n{}", with_routes(&config, &routes));
    let gate = Gate::start(change).await;
    let mut buyer = gate.world.buyer_with_channel(Kind::Cltv).await;
    let payment = payment(&mut buyer, 2_000);
    let named = ["--header", &payment, "--header", "Idempotency-Key: \"one\""];
    assert_eq!(charged(&gate.ask("/asked/x", &named).await), Some(500));

    service.say(|_| passing(900));
    let again = gate.ask("/asked/x", &named).await;

    assert_eq!((again.status, again.problem().as_str()), (409, "request-answered"));
    assert_eq!(again.number("payment-channel-receipt", "spent"), Some(500));
}

#[tokio::test]
async fn a_client_that_leaves_while_its_price_is_asked_is_logged_and_the_answer_is_kept() {
    let service = PriceService::start(1).await;
    service.say(|_| price(900));
    let routes = route(&service, "/asked", "ask.timeout_secs = 60\n") + PAID;
    let log = "[log]\naccess = \"json\"\n";
    let gate = Gate::start(move |config| with_routes(&config, &(routes + log))).await;
    service.open(false);
    let mut leaving = TcpStream::connect(&gate.world.gateway.host).await.unwrap();
    leaving.write_all(b"GET /asked/x HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    until("the price is asked", async || service.times("/asked/x") == 1).await;

    drop(leaving);

    let line = gate.logged(&["\"path\":\"/asked/x\"", "\"route\":\"/asked\""]).await;
    assert!(line.contains("\"client_left\":true"), "{line}");
    until_under_way(&gate, 0).await;
    service.open(true);
    let host = ["--header", "Host: a"];
    assert_eq!(gate.ask("/asked/x", &host).await.price(), 900);
    assert_eq!(service.asked().len(), 1);
}
