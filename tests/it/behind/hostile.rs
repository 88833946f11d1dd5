//! Slow and hostile clients with HTTP/1.1: the gateway stands, and free routes are served in time.

use std::time::{Duration, Instant};

use farebox_channel::Kind;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

use super::service::{Act, Service, ok};
use super::{Front, SOON, curl, heard, payment};
use crate::support::{World, until};

/// The answer of a service that is larger than all buffers on the way.
fn large() -> Act {
    let body = "x".repeat(32 << 20);
    Act::Say(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len()))
}

/// Asserts that a free route is served, and quickly.
async fn is_served(front: &Front) {
    let began = Instant::now();
    assert_eq!(front.get("/free").await, (200, "ok".to_owned()));
    assert!(began.elapsed() < SOON, "{:?}", began.elapsed());
}

#[tokio::test]
async fn two_thousand_half_sent_heads_hold_nobody_up_and_are_closed() {
    rlimit::increase_nofile_limit(10_000).unwrap();
    let service = Service::start(|_| ok("ok")).await;
    let front =
        Front::start(&service.url(), "[limits]\nconnections_per_client = 5000\nheader_secs = 20\n")
            .await;
    let began = Instant::now();
    let mut slow = Vec::new();
    for _ in 0..2_000 {
        let mut socket = TcpStream::connect(front.host()).await.unwrap();
        socket.write_all(b"GET /free HTTP/1.1\r\nHost: x\r\nX-A: ").await.unwrap();
        slow.push(socket);
    }
    until("all are there", async || {
        is_served(&front).await;
        front.metric("farebox_connections_open").await >= 1_990
    })
    .await;

    // A byte now and then gives no more time.
    for socket in &mut slow {
        let _closed = socket.write_all(b"a").await;
    }
    for mut socket in slow {
        assert_eq!(heard(&mut socket).await, "");
    }

    assert!((20..40).contains(&began.elapsed().as_secs()), "{:?}", began.elapsed());
    is_served(&front).await;
    until("they are forgotten", async || front.metric("farebox_connections_open").await == 0).await;
}

#[tokio::test]
async fn a_client_that_never_reads_its_answer_is_left() {
    let service =
        Service::start(|seen| if seen.line() == "GET /large" { large() } else { ok("ok") }).await;
    let front = Front::start(&service.url(), "[limits]\nwrite_secs = 2\n").await;
    let mut deaf = Vec::new();
    for _ in 0..4 {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(4_096).unwrap();
        let mut socket = socket.connect(front.host().parse().unwrap()).await.unwrap();
        socket.write_all(b"GET /large HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
        deaf.push(socket);
    }
    until("all are asked", async || service.hits() == 4).await;
    let began = Instant::now();

    is_served(&front).await;
    until("they are left", async || {
        front.metric("farebox_connections_open").await == 0
            && front.metric("farebox_requests_in_flight").await == 0
    })
    .await;

    assert!((1..8).contains(&began.elapsed().as_secs()), "{:?}", began.elapsed());
    drop(deaf);
}

#[tokio::test]
async fn an_idle_connection_is_closed_and_a_used_one_is_not() {
    let service = Service::start(|_| ok("ok")).await;
    let front = Front::start(&service.url(), "[limits]\nidle_secs = 2\n").await;
    let mut socket = TcpStream::connect(front.host()).await.unwrap();
    for _ in 0..4 {
        socket.write_all(b"GET /free HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
        super::hear(&mut socket, "\r\n\r\nok").await;
        tokio::time::sleep(Duration::from_secs(1)).await;
    }

    let began = Instant::now();
    assert_eq!(heard(&mut socket).await, "");

    assert!((0..4).contains(&began.elapsed().as_secs()), "{:?}", began.elapsed());
}

#[tokio::test]
async fn heads_that_are_too_large_are_refused() {
    let service = Service::start(|_| ok("ok")).await;
    let front = Front::start(&service.url(), "[limits]\nheader_bytes = 16384\n").await;
    let fields = |count: usize, length: usize| {
        let value = "x".repeat(length);
        (0..count).map(|at| format!("X-{at}: {value}\r\n")).collect::<String>()
    };
    let head = |fields: String| {
        format!("GET /free HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{fields}\r\n")
    };

    let fine = front.speak(head(fields(90, 100)).as_bytes()).await;
    assert!(fine.starts_with("HTTP/1.1 200 "), "{fine}");
    for large in [fields(101, 1), fields(1, 17_000), fields(20, 1_000)] {
        let told = front.speak(head(large).as_bytes()).await;
        assert!(told.starts_with("HTTP/1.1 431 "), "{told}");
    }
    for more in [vec![("X-A", 17_000)], vec![("X-A", 9_000), ("X-B", 9_000)]] {
        let url = front.gateway.url("/free");
        let fields = more.iter().map(|(name, length)| format!("{name}: {}", "x".repeat(*length)));
        let fields: Vec<_> = fields.collect();
        let mut all = vec!["--http2-prior-knowledge"];
        all.extend(fields.iter().flat_map(|field| ["-H", field]));
        all.push(&url);
        assert_eq!(curl(&all).await.0, 431);
    }

    assert_eq!(service.hits(), 1);
}

#[tokio::test]
async fn a_flood_of_unpaid_requests_is_slowed_down_and_a_payer_beside_it_is_not() {
    let service = Service::start(|_| ok("ok")).await;
    let change = super::behind(service.url());
    let world = World::start_with(|config| {
        change(config).replacen("unpaid_per_sec = 100_000", "unpaid_per_sec = 5", 1).replacen(
            "unpaid_burst = 100_000",
            "unpaid_burst = 20",
            1,
        )
    })
    .await;
    let mut buyer = world.buyer_with_channel(Kind::Cltv).await;
    let url = world.gateway.url("/paid/x");

    let flood = super::run("h2load", &["--h1", "-n", "500", "-c", "5", &url]).await;

    let told = String::from_utf8(flood.stdout).unwrap();
    assert!(told.contains("500 4xx"), "{told}");
    let (status, told) = curl(&["-i", &url]).await;
    assert_eq!(status, 429, "{told}");
    assert!(told.to_ascii_lowercase().contains("retry-after: "), "{told}");
    for _ in 0..10 {
        let (_, field) = payment(&mut buyer);
        assert_eq!(curl(&["-H", &field, &url]).await.0, 200);
    }
    assert_eq!(curl(&[&world.gateway.url("/free/x")]).await.0, 200);
}

#[tokio::test]
async fn a_flood_of_openings_is_slowed_down_and_a_payer_beside_it_is_not() {
    let service = Service::start(|_| ok("ok")).await;
    let change = super::behind(service.url());
    let world =
        World::start_with(|config| {
            change(config)
                .replacen("openings_per_sec = 100_000", "openings_per_sec = 1", 1)
                .replacen("openings_burst = 100_000", "openings_burst = 20", 1)
        })
        .await;
    let mut buyer = world.buyer_with_channel(Kind::Cltv).await;
    let (url, step) = (world.gateway.url("/paid/x"), "Payment-Channel-Open: nonsense");

    // As many as it takes: on a busy machine places come back meanwhile.
    let mut tries = 0;
    let told = loop {
        let (status, told) = curl(&["-i", "-H", step, &url]).await;
        if status == 429 {
            break told;
        }
        tries += 1;
        assert!(tries < 500, "{told}");
    };

    assert!(tries >= 10, "only {tries} were taken, beside those of the buyer");
    assert!(told.to_ascii_lowercase().contains("retry-after: "), "{told}");
    for _ in 0..10 {
        let (_, field) = payment(&mut buyer);
        assert_eq!(curl(&["-H", &field, &url]).await.0, 200);
    }
}

#[tokio::test]
async fn requests_under_way_are_limited_and_free_themselves() {
    let service = Service::start(|seen| {
        if seen.line() == "GET /wait" { Act::Hang(String::new()) } else { ok("ok") }
    })
    .await;
    for (limit, status) in [
        ("requests = 100\nrequests_per_client = 3\n", 429),
        ("requests = 3\nrequests_per_client = 3\n", 429),
    ] {
        let front = Front::start(&service.url(), &format!("[limits]\n{limit}")).await;
        let mut waiting = Vec::new();
        let before = service.hits();
        for _ in 0..3 {
            let mut socket = TcpStream::connect(front.host()).await.unwrap();
            socket.write_all(b"GET /wait HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
            waiting.push(socket);
        }
        until("they are under way", async || service.hits() == before + 3).await;

        assert_eq!(front.get("/free").await.0, status);
        drop(waiting);
        until("they are free again", async || front.get("/free").await.0 == 200).await;
    }
}

#[tokio::test]
async fn requests_of_all_clients_together_are_limited() {
    let service = Service::start(|seen| {
        if seen.line() == "GET /wait" { Act::Hang(String::new()) } else { ok("ok") }
    })
    .await;
    let folder = tempfile::TempDir::with_prefix("farebox-behind-").unwrap();
    let (top, limits) =
        ("trusted_proxies = [\"127.0.0.1\"]", "[limits]\nrequests = 3\nrequests_per_client = 1\n");
    let front = Front::start_in(folder, top, &service.url(), limits).await;
    let mut waiting = Vec::new();
    for client in 1..=3 {
        let mut socket = TcpStream::connect(front.host()).await.unwrap();
        let head =
            format!("GET /wait HTTP/1.1\r\nHost: x\r\nX-Forwarded-For: 1.1.1.{client}\r\n\r\n");
        socket.write_all(head.as_bytes()).await.unwrap();
        waiting.push(socket);
    }
    until("they are under way", async || service.hits() == 3).await;

    assert_eq!(front.get("/free").await.0, 503);
    let url = front.gateway.url("/free");
    assert_eq!(curl(&["-H", "X-Forwarded-For: 1.1.1.1", &url]).await.0, 429);
    drop(waiting);
    until("they are free again", async || front.get("/free").await.0 == 200).await;
}

#[tokio::test]
async fn requests_of_one_channel_are_limited_and_free_themselves() {
    let service = Service::start(|seen| {
        if seen.line() == "GET /paid/wait" { Act::Hang(String::new()) } else { ok("ok") }
    })
    .await;
    let change = super::behind(service.url());
    let world = World::start_with(|config| {
        change(config).replacen("requests_per_channel = 4_096", "requests_per_channel = 2", 1)
    })
    .await;
    let mut buyer = world.buyer_with_channel(Kind::Cltv).await;
    let mut waiting = Vec::new();
    for _ in 0..2 {
        let (_, field) = payment(&mut buyer);
        let mut socket = TcpStream::connect(&world.gateway.host).await.unwrap();
        let head = format!("GET /paid/wait HTTP/1.1\r\nHost: x\r\n{field}\r\n\r\n");
        socket.write_all(head.as_bytes()).await.unwrap();
        waiting.push(socket);
    }
    until("they are under way", async || service.hits() == 2).await;
    let (_, field) = payment(&mut buyer);
    let url = world.gateway.url("/paid/x");

    assert_eq!(curl(&["-H", &field, &url]).await.0, 429);
    let socket = world.file("farebox.sock").display().to_string();
    let metrics = curl(&["--unix-socket", &socket, "http://gateway/metrics"]).await.1;
    let counted = "farebox_limited_total{limit=\"channel_requests\"} 1";
    assert!(metrics.lines().any(|line| line == counted), "{metrics}");
    drop(waiting);
    until("they are free again", async || curl(&["-H", &field, &url]).await.0 == 200).await;
}

#[tokio::test]
async fn connections_of_one_client_are_limited_and_free_themselves() {
    let service = Service::start(|_| ok("ok")).await;
    let front = Front::start(&service.url(), "[limits]\nconnections_per_client = 5\n").await;
    let mut open = Vec::new();
    for _ in 0..5 {
        let mut socket = TcpStream::connect(front.host()).await.unwrap();
        socket.write_all(b"GET /free HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
        super::hear(&mut socket, "\r\n\r\nok").await;
        open.push(socket);
    }

    let mut sixth = TcpStream::connect(front.host()).await.unwrap();
    let closing = tokio::time::timeout(Duration::from_secs(3), sixth.read(&mut [0; 1])).await;
    assert_eq!(closing.expect("it is closed at once").unwrap_or(0), 0, "and without a word");
    drop(open);
    until("they are free again", async || front.get("/free").await.0 == 200).await;
}
