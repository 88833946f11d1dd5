//! HTTP/2 on both sides.

use std::sync::Arc;

use farebox_channel::Kind;

use super::modern::Modern;
use super::service::{Service, ok};
use super::{Front, curl, payment, run, spent, world_behind};
use crate::support::{PRICE_MSAT, until};

const PRIOR: &str = "--http2-prior-knowledge";

#[tokio::test]
async fn clients_speak_http2_with_prior_knowledge() {
    let service = Service::start(|_| ok("ok")).await;
    let front = Front::start(&service.url(), "").await;
    let url = front.gateway.url("/x");

    let told = curl(&[PRIOR, "-w", "%{http_version} %{http_code}", &url]).await.1;
    assert_eq!(told.trim_end(), "ok2");
    let told = run("nghttp", &["--verbose", "--multiply=3", &url]).await;
    let told = String::from_utf8(told.stdout).unwrap();
    assert_eq!(told.matches(":status: 200").count(), 3, "{told}");
}

#[tokio::test]
async fn a_hundred_streams_at_once_are_all_answered() {
    let service = Service::start(|_| ok("ok")).await;
    let front = Front::start(&service.url(), "").await;
    let url = front.gateway.url("/x");

    let told = run("h2load", &["-n", "5000", "-c", "2", "-m", "100", &url]).await;

    let told = String::from_utf8(told.stdout).unwrap();
    assert!(told.contains("status codes: 5000 2xx"), "{told}");
    assert_eq!(service.hits(), 5_000);
}

#[tokio::test]
async fn a_request_is_paid_over_http2() {
    let service = Service::start(|_| ok("bought")).await;
    let world = world_behind(service.url()).await;
    let mut buyer = world.buyer_with_channel(Kind::Cltv).await;
    let (paid, field) = payment(&mut buyer);

    let told = curl(&[PRIOR, "-i", "-H", &field, &world.gateway.url("/paid/x")]).await;

    assert_eq!(told.0, 200);
    assert!(told.1.starts_with("HTTP/2 200"), "{}", told.1);
    assert!(told.1.contains("payment-channel-receipt: "), "{}", told.1);
    assert_eq!(spent(&buyer, &paid).await, PRICE_MSAT);
}

#[tokio::test]
async fn many_requests_share_one_connection_to_a_service_with_http2() {
    let service = Modern::start(None).await;
    let keys = format!("url = \"http://{}\"\nhttp = \"2\"\n", service.address);
    let front = Front::start(&keys, "").await;

    // One connection of a client is served by one worker; nothing was open before.
    let url = front.gateway.url("/x");
    let told = run("h2load", &["-n", "2000", "-c", "1", "-m", "50", &url]).await;

    let told = String::from_utf8(told.stdout).unwrap();
    assert!(told.contains("status codes: 2000 2xx"), "{told}");
    assert_eq!((service.hits(), service.connections()), (2_000, 1));
    assert_eq!(curl(&[&url]).await.1, "over 2");
}

#[tokio::test]
async fn a_service_that_says_goaway_loses_no_request() {
    let service = Arc::new(Modern::start(None).await);
    let keys = format!("url = \"http://{}\"\nhttp = \"2\"\n", service.address);
    let front = Front::start(&keys, "").await;
    let (slow, quick) = (front.gateway.url("/slow"), front.gateway.url("/x"));
    assert_eq!(curl(&["--data", "x", &quick]).await.0, 200);
    let under_way = tokio::spawn(async move { curl(&[&slow]).await });
    until("it is under way", async || service.hits() == 2).await;

    for _ in 0..5 {
        service.leave();
        for _ in 0..5 {
            assert_eq!(curl(&["--data", "x", &quick]).await, (200, "over 2".to_owned()));
        }
    }

    assert_eq!(under_way.await.unwrap(), (200, "at last".to_owned()));
    assert_eq!(service.hits(), 27, "none was sent twice");
    assert!(service.connections() > 1);
}

#[tokio::test]
async fn requests_under_way_are_answered_when_the_gateway_stops() {
    for version in [PRIOR, "--http1.1"] {
        let service = Modern::start(None).await;
        let front = Front::start(&format!("url = \"http://{}\"\n", service.address), "").await;
        // Another connection that is idle does not hold the gateway up.
        let mut idle = tokio::net::TcpStream::connect(front.host()).await.unwrap();
        let request = b"GET /x HTTP/1.1\r\nHost: x\r\n\r\n";
        tokio::io::AsyncWriteExt::write_all(&mut idle, request).await.unwrap();
        super::hear(&mut idle, "over 1.1").await;
        let url = front.gateway.url("/slow");
        let asking = tokio::spawn(async move { curl(&[version, &url]).await });
        until("it is under way", async || service.hits() == 2).await;

        let began = std::time::Instant::now();
        let mut gateway = front.gateway;
        let stopping = tokio::task::spawn_blocking(move || gateway.terminate());

        assert_eq!(asking.await.unwrap(), (200, "at last".to_owned()), "{version}");
        assert!(stopping.await.unwrap());
        assert!(began.elapsed().as_secs() < 5, "{version}: {:?}", began.elapsed());
    }
}
