//! How long a service may take, and what is kept open to it.

use std::time::Instant;

use farebox_channel::Kind;

use super::service::{Act, Service, ok};
use super::{Front, curl, payment, spent, world_behind};
use crate::support::{PRICE_MSAT, until};

#[tokio::test]
async fn a_service_that_does_not_begin_its_answer_in_time_is_given_up_and_costs_nothing() {
    let service = Service::start(|_| Act::Hang(String::new())).await;
    let world = world_behind(service.url() + "answer_secs = 1\nretries = 3").await;
    let mut buyer = world.buyer_with_channel(Kind::Cltv).await;
    let (paid, field) = payment(&mut buyer);

    let began = Instant::now();
    let (status, told) = curl(&["-i", "-H", &field, &world.gateway.url("/paid/x")]).await;

    assert_eq!(status, 502);
    assert!((1..3).contains(&began.elapsed().as_secs()), "{:?}", began.elapsed());
    assert!(told.contains("price=0"), "a receipt tells it: {told}");
    assert_eq!(service.hits(), 1, "nobody waits twice");
    assert_eq!(spent(&buyer, &paid).await, 0);
    until("its connection is closed", async || service.open() == 0).await;
}

#[tokio::test]
async fn the_time_for_an_answer_begins_when_the_request_has_been_sent() {
    let service = Service::start(|seen| ok(&seen.body.len().to_string())).await;
    let front = Front::start(&(service.url() + "answer_secs = 1"), "").await;

    // The body takes three times as long as the answer may.
    let url = front.gateway.url("/x");
    let command = format!(
        "(for i in 1 2 3 4 5 6; do echo piece; sleep 0.5; done) | \
         curl -s -X POST -H 'Expect:' -H 'Transfer-Encoding: chunked' -T - {url}"
    );
    let ended = super::run("sh", &["-c", &command]).await;

    assert_eq!(String::from_utf8(ended.stdout).unwrap(), "36");
}

#[tokio::test]
async fn a_service_that_pauses_for_too_long_breaks_the_answer_and_the_charge_comes_back() {
    let service = Service::start(|_| {
        Act::Hang("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nbegun".to_owned())
    })
    .await;
    let world = world_behind(service.url() + "pause_secs = 1").await;
    let mut buyer = world.buyer_with_channel(Kind::Cltv).await;
    let (paid, field) = payment(&mut buyer);

    let url = world.gateway.url("/paid/x");
    let ended = super::run("curl", &["--silent", "--max-time", "20", "-H", &field, &url]).await;

    assert_eq!(ended.status.code(), Some(18), "{ended:?}");
    assert_eq!(ended.stdout, b"begun");
    until("the charge comes back", async || spent(&buyer, &paid).await == 0).await;
    until("its connection is closed", async || service.open() == 0).await;
}

#[tokio::test]
async fn a_service_that_takes_no_connection_in_time_is_given_up() {
    // Nobody takes what is in the queue, and a full queue takes nothing more.
    let queue = socket_that_never_accepts();
    let address = queue.local_addr().unwrap();
    let mut filling = Vec::new();
    for _ in 0..8 {
        let connecting = tokio::net::TcpStream::connect(address);
        let taken = tokio::time::timeout(std::time::Duration::from_millis(200), connecting).await;
        filling.push(taken);
    }
    let keys = format!("url = \"http://{address}\"\nconnect_secs = 1\nretries = 0");
    let front = Front::start(&keys, "").await;

    let began = Instant::now();
    let (status, _) = front.get("/x").await;

    assert_eq!(status, 502);
    assert!((1..3).contains(&began.elapsed().as_secs()), "{:?}", began.elapsed());
    front.logged("no connection in time").await;
}

/// Returns a socket with the shortest queue there is.
fn socket_that_never_accepts() -> tokio::net::TcpListener {
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    socket.listen(0).unwrap()
}

#[tokio::test]
async fn connections_to_a_service_are_used_again_and_closed_once_they_are_idle() {
    let service = Service::start(|_| ok("ok")).await;
    let front = Front::start(&service.url(), "").await;
    let url = front.gateway.url("/x");

    // All over one connection, so by one worker.
    let many = vec![url.as_str(); 10];
    assert_eq!(curl(&many).await.0, 200);
    assert_eq!((service.hits(), service.connections(), service.open()), (10, 1, 1));

    let began = Instant::now();
    let deadline = tokio::time::Instant::now() + std::time::Duration::from_secs(45);
    while service.open() > 0 {
        assert!(tokio::time::Instant::now() < deadline, "it is never closed");
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    assert!((28..35).contains(&began.elapsed().as_secs()), "{:?}", began.elapsed());
}

#[tokio::test]
async fn a_service_that_stops_taking_a_body_is_given_up() {
    let stuck = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = stuck.local_addr().unwrap();
    let keys = format!("url = \"http://{address}\"\nanswer_secs = 1\nretries = 0");
    // It takes connections and never reads.
    let taking = tokio::spawn(async move {
        let mut all = Vec::new();
        loop {
            all.push(stuck.accept().await.unwrap());
        }
    });
    let front = Front::start(&keys, "[limits]\nbody_secs = 1\n").await;
    let large = front.file("large");
    std::fs::write(&large, vec![0; 32 << 20]).unwrap();

    let data = format!("@{}", large.display());
    let (status, _) = curl(&["--data-binary", &data, &front.gateway.url("/x")]).await;

    assert_eq!(status, 502);
    taking.abort();
}

#[tokio::test]
async fn a_charge_that_a_broken_answer_gives_back_is_not_lost_when_the_gateway_stops() {
    let service = Service::start(|_| {
        Act::Hang("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nbegun".to_owned())
    })
    .await;
    let mut world = world_behind(service.url() + "pause_secs = 2").await;
    let mut buyer = world.buyer_with_channel(Kind::Cltv).await;
    let (paid, field) = payment(&mut buyer);
    let url = world.gateway.url("/paid/x");
    let asking = tokio::spawn(async move { super::run("curl", &["-s", "-H", &field, &url]).await });
    until("it is under way", async || service.hits() == 1).await;
    assert_eq!(spent(&buyer, &paid).await, PRICE_MSAT);

    // The answer breaks while the gateway waits for it, as the last thing that it does.
    assert!(world.gateway.terminate());
    world.gateway.restart();
    world.until_the_node_is_followed().await;

    assert_eq!(asking.await.unwrap().status.code(), Some(18));
    assert_eq!(spent(&buyer, &paid).await, 0);
}
