//! Gateways that are asked to stop while something runs that costs what passes.

use std::process::Command;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::feed::{CHUNKED, EVENTS};
use super::listener::Listener;
use super::{DRAW_MSAT, Stand};
use crate::support::{PRICE_MSAT, until};

/// For how long the gateways of these tests let requests end.
const DRAIN: &str = "[limits]\ndrain_secs = 1\n";
/// What a stop may take at most that lets requests end for so long.
const STOP_MAX: Duration = Duration::from_secs(12);

/// Starts a stand whose gateway is not patient with what runs when it stops.
async fn stand(rates: &str) -> Stand {
    let rates = format!("[route.rates]\n{rates}");
    Stand::start_changed(&rates, |config| config.replace("[limits]\n", DRAIN)).await
}

impl Stand {
    fn signal(&self, name: &str) {
        let pid = self.world.gateway.pid().to_string();
        assert!(Command::new("kill").args([name, &pid]).status().unwrap().success());
    }

    /// Waits until the gateway has ended that was asked to, and returns what is spent then.
    async fn spent_after_the_stop(&mut self) -> u64 {
        let began = Instant::now();
        assert!(self.world.gateway.wait(), "the gateway ends well");
        assert!(began.elapsed() < STOP_MAX, "{:?}", began.elapsed());
        self.world.gateway.restart();
        self.account().await.spent.get()
    }

    /// Returns a figure of the last request of the metered route that was logged.
    fn logged(&self, name: &str) -> u64 {
        let log = std::fs::read_to_string(self.world.file("log")).unwrap();
        let line = log.lines().rfind(|line| line.contains("/stream HTTP/")).unwrap();
        let (_, figure) = line.split_once(&format!(" {name}=")).unwrap();
        figure.split(' ').next().unwrap().parse().unwrap()
    }
}

#[tokio::test]
async fn a_download_that_a_stop_cuts_off_costs_what_was_delivered_however_often_it_is_asked_for() {
    for version in ["--http1.1", "--http2-prior-knowledge"] {
        let mut stand = stand("bytes = { msat = 1 }").await;
        let (mut listener, mut side) = stand.open(900_000, &[version], CHUNKED).await;
        side.chunk(&"x".repeat(12_345)).await;
        listener.hear("\r\n\r\n").await;
        listener.hear_bytes(12_345).await;

        for name in ["-TERM", "-INT", "-TERM"] {
            stand.signal(name);
        }

        let (status, rest) = listener.end().await;
        assert!(!status.success() && rest.is_empty(), "{version}: it is not whole: {rest}");
        assert_eq!(stand.spent_after_the_stop().await, 12_345, "{version}");
    }
}

#[tokio::test]
async fn an_event_stream_that_a_stop_cuts_off_says_why_and_what_it_has_cost() {
    for rates in ["events = { msat = 300 }", "secs = { msat = 9_999 }"] {
        let mut stand = stand(rates).await;
        let (mut listener, mut side) = stand.open(900_000, &["--http1.1"], EVENTS).await;
        side.chunk("data: 1\n\ndata: 2\n\ndata: 3\n\ndata: 4\n\n").await;
        listener.hear("data: 4\n\n").await;

        stand.signal("-TERM");

        let told = listener.hear("\"reason\":\"stopping\",\"state\":\"ended\"}\n\n").await;
        let (status, _) = listener.end().await;
        assert!(status.success(), "events end as they should");
        let (_, cost) = told.split_once("\"cost_msat\":").unwrap();
        let cost: u64 = cost.split(',').next().unwrap().parse().unwrap();
        assert_eq!(stand.spent_after_the_stop().await, cost, "{rates}");
        if rates.starts_with("events") {
            assert_eq!(cost, 1_200);
        }
    }
}

#[tokio::test]
async fn an_upload_that_a_stop_cuts_off_is_answered_with_what_it_has_cost() {
    let mut stand = stand("answer_msat = 7\nrequest_bytes = { msat = 2 }").await;
    let (mut socket, _side) = stand.begin(900_000, 5_000).await;

    stand.signal("-TERM");

    let mut answer = String::new();
    socket.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
    assert!(answer.contains("urn:farebox:problem:stopping"), "{answer}");
    assert!(answer.contains("price=10007\r\n"), "{answer}");
    assert_eq!(stand.spent_after_the_stop().await, 10_007);
}

#[tokio::test]
async fn what_has_no_answer_when_the_gateway_stops_costs_nothing_but_for_a_name() {
    let mut stand = stand("bytes = { msat = 1 }").await;
    let mut asked = Vec::new();
    for path in ["/stream", "/paid/x"] {
        for version in ["--http1.1", "--http2-prior-knowledge"] {
            let (payment, url) = (stand.payment(5_000), stand.world.gateway.url(path));
            let listener = Listener::start(&[version, "--header", &payment, &url]);
            asked.push((listener, stand.feed.asked().await));
        }
    }
    assert_eq!(stand.account().await.spent.get(), 2 * (DRAW_MSAT + PRICE_MSAT));

    let (payment, url) = (stand.payment(5_000), stand.world.gateway.url("/paid/x"));
    let named = "Idempotency-Key: one";
    asked.push((
        Listener::start(&["--header", &payment, "--header", named, &url]),
        stand.feed.asked().await,
    ));

    stand.signal("-TERM");

    for (listener, _side) in asked {
        let (status, answer) = listener.end().await;
        assert!(!status.success(), "there is no answer: {answer}");
    }
    assert_eq!(stand.spent_after_the_stop().await, PRICE_MSAT, "the name buys its answer later");
}

#[tokio::test]
async fn a_client_that_does_not_read_holds_up_no_stop_and_pays_what_was_handed_over() {
    let mut stand = stand("bytes = { msat = 1 }").await;
    let (payment, host) = (stand.payment(90_000_000), stand.world.gateway.host.clone());
    let mut socket = TcpStream::connect(&host).await.unwrap();
    let head = format!("GET /stream HTTP/1.1\r\nHost: {host}\r\n{payment}\r\n\r\n");
    socket.write_all(head.as_bytes()).await.unwrap();
    let mut side = stand.feed.asked().await;
    side.say("HTTP/1.1 200 OK\r\nContent-Length: 80000000\r\n\r\n").await;
    let sending = tokio::spawn(async move {
        side.send(&vec![b'x'; 80_000_000]).await;
    });
    let mut drawn = 0;
    until("nothing moves any more", async || {
        let before = std::mem::replace(&mut drawn, stand.account().await.spent.get());
        drawn > 1_000_000 && before == drawn
    })
    .await;

    stand.signal("-TERM");

    let spent = stand.spent_after_the_stop().await;
    assert_eq!((stand.logged("price_msat"), stand.logged("bytes_out")), (spent, spent));
    assert!(spent < drawn, "{spent} of {drawn} were delivered");
    sending.abort();
}

#[tokio::test]
async fn a_draw_under_way_comes_back_although_its_client_leaves_and_the_gateway_stops() {
    let mut stand = Stand::start_slow("bytes = { msat = 1 }", Duration::from_millis(700)).await;
    let (mut listener, mut side) = stand.open(900_000, &[], CHUNKED).await;
    side.chunk(&"x".repeat(500)).await;
    listener.hear("\r\n\r\n").await;
    listener.hear_bytes(500).await;
    let trace = stand.world.file("trace");
    let written = || std::fs::read_to_string(&trace).unwrap().matches("pwrite64(").count();
    let before = written();
    side.chunk(&"x".repeat(5_000)).await;
    until("a draw is being saved", async || written() > before).await;

    drop(listener);
    side.left().await;
    stand.signal("-TERM");

    assert_eq!(stand.spent_after_the_stop().await, 500);
}
