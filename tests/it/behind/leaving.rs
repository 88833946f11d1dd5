//! What is left of a request whose client has gone.

use farebox_channel::Kind;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use super::service::{Act, Service};
use super::{Front, curl, hear, metric, payment, run, spent, world_behind};
use crate::support::{Operator, PRICE_MSAT, until};

#[tokio::test]
async fn a_client_that_leaves_stays_charged_and_leaves_nothing_behind() {
    for begun in ["", "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nbegun"] {
        let service = Service::start(|_| Act::Hang(begun.to_owned())).await;
        let world = world_behind(service.url()).await;
        let mut buyer = world.buyer_with_channel(Kind::Cltv).await;
        let (paid, field) = payment(&mut buyer);
        let host = &world.gateway.host;
        let mut socket = TcpStream::connect(host).await.unwrap();
        let head = format!("GET /paid/x HTTP/1.1\r\nHost: {host}\r\n{field}\r\n\r\n");
        socket.write_all(head.as_bytes()).await.unwrap();
        if begun.is_empty() {
            until("it is under way", async || service.hits() == 1).await;
        } else {
            hear(&mut socket, "begun").await;
        }

        drop(socket);

        until("the service is left, too", async || service.open() == 0).await;
        let admin = Operator::of(&world).socket.display().to_string();
        until("nothing is left", async || {
            let text = curl(&["--unix-socket", &admin, "http://gateway/metrics"]).await.1;
            metric(&text, "farebox_requests_in_flight") == 0
                && metric(&text, "farebox_connections_open") == 0
        })
        .await;
        assert_eq!(spent(&buyer, &paid).await, PRICE_MSAT);
    }
}

#[tokio::test]
async fn a_stream_that_is_reset_leaves_nothing_behind() {
    let service = Service::start(|_| Act::Hang(String::new())).await;
    let front = Front::start(&service.url(), "").await;
    let url = front.gateway.url("/x");

    let ended = run("nghttp", &["--timeout=1", "--multiply=20", &url]).await;

    assert!(!String::from_utf8_lossy(&ended.stdout).contains("200"), "{ended:?}");
    assert!(service.hits() > 0);
    until("the service is left", async || service.open() == 0).await;
    until("nothing is left", async || {
        front.metric("farebox_requests_in_flight").await == 0
            && front.metric("farebox_connections_open").await == 0
    })
    .await;
}
