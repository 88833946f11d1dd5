//! When a request is sent again, and when it is not.

use farebox_channel::Kind;

use super::service::{Act, Seen, Service, ok};
use super::{Front, behind, curl, payment, spent, world_behind};
use crate::support::{PRICE_MSAT, World, until};

/// Returns the keys of a service that is gone and one that is there.
async fn gone_and(there: &Service) -> String {
    let gone = Service::start(|_| ok("gone")).await.address;
    format!("urls = [\"http://{gone}\", \"http://{}\"]\nbalance = \"round-robin\"\n", there.address)
}

/// Breaks each first request on a connection that is kept, and each one on a path.
fn breaks(seen: &Seen) -> Act {
    if seen.line().ends_with("/break") { Act::HangUp } else { ok("there") }
}

/// Returns the fields of a request, in an order of their own.
fn fields(seen: &Seen) -> Vec<String> {
    let mut fields: Vec<_> = seen.head.lines().skip(1).map(str::to_owned).collect();
    fields.sort_unstable();
    fields
}

#[tokio::test]
async fn a_post_that_cannot_be_sent_goes_to_another_address() {
    let there = Service::start(|_| ok("there")).await;
    let front = Front::start(&gone_and(&there).await, "").await;

    for _ in 0..4 {
        let url = front.gateway.url("/x");
        assert_eq!(curl(&["--data", "once", &url]).await, (200, "there".to_owned()));
    }

    let bodies: Vec<_> = there.seen().into_iter().map(|seen| seen.body).collect();
    assert_eq!(bodies, vec![b"once".to_vec(); 4]);
}

#[tokio::test]
async fn a_connection_that_the_service_has_closed_is_not_used_for_a_post() {
    // It hangs up after each answer without having said so.
    let service =
        Service::start(|_| Act::Last("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok".to_owned()))
            .await;
    let front = Front::start(&(service.url() + "retries = 0"), "").await;
    let url = front.gateway.url("/x");

    for _ in 0..20 {
        assert_eq!(curl(&["--data", "once", &url]).await, (200, "ok".to_owned()));
        until("it has hung up", async || service.open() == 0).await;
    }

    assert_eq!((service.hits(), service.connections()), (20, 20));
    let failures =
        format!("farebox_upstream_failures_total{{upstream=\"http://{}\"}}", service.address);
    assert_eq!(front.metric(&failures).await, 0);
}

#[tokio::test]
async fn a_post_whose_connection_breaks_is_not_sent_again_and_its_charge_comes_back() {
    let service = Service::start(breaks).await;
    let world = world_behind(service.url() + "retries = 5").await;
    let mut buyer = world.buyer_with_channel(Kind::Cltv).await;
    let (paid, field) = payment(&mut buyer);

    let (status, told) =
        curl(&["-i", "-H", &field, "--data", "x", &world.gateway.url("/paid/break")]).await;

    assert_eq!(status, 502);
    assert!(told.contains("urn:farebox:problem:upstream-unavailable"), "{told}");
    assert!(told.to_ascii_lowercase().contains("price=0"), "a receipt tells it: {told}");
    assert_eq!(service.hits(), 1);
    assert_eq!(spent(&buyer, &paid).await, 0);
}

#[tokio::test]
async fn a_get_whose_connection_breaks_is_sent_again_as_often_as_is_allowed_and_charged_once() {
    let service =
        Service::start(|seen| if seen.number < 2 { Act::HangUp } else { ok("at last") }).await;
    let world = world_behind(service.url() + "retries = 2").await;
    let mut buyer = world.buyer_with_channel(Kind::Cltv).await;
    let (paid, field) = payment(&mut buyer);

    let own = "x-own: kept";
    let answer = curl(&["-H", &field, "-H", own, &world.gateway.url("/paid/x")]).await;

    assert_eq!(answer, (200, "at last".to_owned()));
    assert_eq!(service.hits(), 3);
    assert_eq!(spent(&buyer, &paid).await, PRICE_MSAT);
    let heads: Vec<_> = service.seen().iter().map(fields).collect();
    assert_eq!(heads, vec![heads[0].clone(); 3], "each time it is told the same");
    let price = format!("farebox-price: {PRICE_MSAT}");
    assert!(heads[0].contains(&price) && heads[0].contains(&own.to_owned()), "{heads:?}");
}

#[tokio::test]
async fn a_get_is_sent_again_once_and_no_more_by_default() {
    let service = Service::start(breaks).await;
    let front = Front::start(&service.url(), "").await;

    assert_eq!(front.get("/break").await.0, 502);

    assert_eq!(service.hits(), 2);
}

#[tokio::test]
async fn nothing_is_sent_again_once_an_answer_has_begun() {
    let service = Service::start(|_| {
        Act::Last("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nbegun".to_owned())
    })
    .await;
    let world = World::start_with(behind(service.url() + "retries = 5")).await;
    let mut buyer = world.buyer_with_channel(Kind::Cltv).await;
    let (paid, field) = payment(&mut buyer);

    let url = world.gateway.url("/paid/x");
    let ended = super::run("curl", &["--silent", "-H", &field, &url]).await;

    assert_eq!(ended.status.code(), Some(18), "curl sees that the answer is broken: {ended:?}");
    assert_eq!(ended.stdout, b"begun");
    assert_eq!(service.hits(), 1);
    until("the charge comes back", async || spent(&buyer, &paid).await == 0).await;
}
