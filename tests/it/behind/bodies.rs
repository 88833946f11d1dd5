//! Bodies and trailers, over both versions of HTTP on both sides.

use farebox_channel::Kind;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use super::modern::Modern;
use super::service::{Service, ok};
use super::{Front, curl, hear, heard, payment, run, spent, world_behind};
use crate::support::{PRICE_MSAT, World};

/// The versions that a client speaks, and those of the service.
const FOUR: [(&str, &str); 4] = [
    ("--http1.1", "1.1"),
    ("--http1.1", "2"),
    ("--http2-prior-knowledge", "1.1"),
    ("--http2-prior-knowledge", "2"),
];

async fn before(service: &Modern, http: &str) -> Front {
    let keys = format!("url = \"http://{}\"\nhttp = \"{http}\"\n", service.address);
    Front::start(&keys, "").await
}

#[tokio::test]
async fn large_bodies_pass_both_ways_over_all_versions() {
    let service = Modern::start(None).await;
    for (client, http) in FOUR {
        let front = before(&service, http).await;
        let (sent, back) = (front.file("sent"), front.file("back"));
        let bytes: Vec<u8> =
            (0..5_000_000_u32).map(|at| at.to_le_bytes()[at as usize % 3]).collect();
        std::fs::write(&sent, &bytes).unwrap();

        let url = front.gateway.url("/echo");
        for encoding in ["Expect:", "Transfer-Encoding: chunked"] {
            let encoding = if client == "--http1.1" { encoding } else { "Expect:" };
            let data = format!("@{}", sent.display());
            let to = back.display().to_string();
            let all = [client, "-H", encoding, "--data-binary", &data, "-o", &to, &url];
            assert_eq!(curl(&all).await.0, 200, "{client} {http}");
            assert!(std::fs::read(&back).unwrap() == bytes, "{client} {http} {encoding}");
        }
    }
}

#[tokio::test]
async fn trailers_of_an_answer_pass_over_all_versions() {
    let modern = Modern::start(None).await;
    let plain = Service::start(|_| {
        super::service::Act::Say(
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: x-sum\r\n\r\n\
             8\r\ncounted\n\r\n0\r\nx-sum: 42\r\n\r\n"
                .to_owned(),
        )
    })
    .await;
    for (client, http) in FOUR {
        let front = match http {
            "2" => before(&modern, http).await,
            _ => Front::start(&plain.url(), "").await,
        };
        let url = front.gateway.url("/trailers");

        let told = run("curl", &["-sv", "--raw", client, "-H", "TE: trailers", &url]).await;

        let words = [told.stdout, told.stderr].concat();
        let words = String::from_utf8_lossy(&words).to_ascii_lowercase();
        assert!(words.contains("counted\n"), "{words}");
        assert_eq!(words.matches("x-sum: 42").count(), 1, "{client} {http}: {words}");
    }
}

#[tokio::test]
async fn trailers_of_a_request_stay_at_the_gateway() {
    let service = Modern::start(None).await;
    for http in ["1.1", "2"] {
        let front = before(&service, http).await;
        let sent = front.file("sent").display().to_string();
        std::fs::write(&sent, "12345678").unwrap();
        let url = front.gateway.url("/count");
        let mut all = vec!["-d", &sent, "--no-content-length"];
        for trailer in ["payment-channel-pay: x", "farebox-price: 1", "x-user: root"] {
            all.extend(["--trailer", trailer]);
        }
        all.push(&url);

        let told = run("nghttp", &all).await;

        assert_eq!(String::from_utf8_lossy(&told.stdout), "8 bytes, 0 trailers", "{http}");
    }
}

#[tokio::test]
async fn answers_without_a_body_leave_the_connection_usable() {
    let service = Service::start(|seen| {
        let status = match seen.line() {
            "GET /none" => "204 No Content\r\n",
            "GET /same" => "304 Not Modified\r\nETag: \"a\"\r\n",
            _ => "200 OK\r\nContent-Length: 100\r\n",
        };
        super::service::Act::Say(format!("HTTP/1.1 {status}\r\n"))
    })
    .await;
    let front = Front::start(&service.url(), "").await;
    let mut socket = TcpStream::connect(front.host()).await.unwrap();

    for (line, told) in [("GET /none", "204"), ("GET /same", "304"), ("HEAD /x", "200")].repeat(3) {
        let request = format!("{line} HTTP/1.1\r\nHost: {}\r\n\r\n", front.host());
        socket.write_all(request.as_bytes()).await.unwrap();
        let answer = hear(&mut socket, "\r\n\r\n").await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {told} ")), "{line}: {answer}");
        assert!(answer.ends_with("\r\n\r\n"), "{answer}");
        let has_length = answer.to_ascii_lowercase().contains("content-length: 100");
        assert_eq!(has_length, line == "HEAD /x", "{answer}");
    }

    assert_eq!((service.hits(), service.connections()), (9, 1));
}

#[tokio::test]
async fn a_price_is_told_before_a_body_is_asked_for() {
    let service = Service::start(|_| ok("ok")).await;
    let world = world_behind(service.url()).await;
    let head = |path: &str| {
        let host = &world.gateway.host;
        format!(
            "POST {path} HTTP/1.1\r\nHost: {host}\r\nExpect: 100-continue\r\n\
             Content-Length: 4\r\n\r\n"
        )
    };

    let mut unpaid = TcpStream::connect(&world.gateway.host).await.unwrap();
    unpaid.write_all(head("/paid/x").as_bytes()).await.unwrap();
    let told = hear(&mut unpaid, "\r\n\r\n").await;
    assert!(told.starts_with("HTTP/1.1 402 "), "{told}");

    let mut free = TcpStream::connect(&world.gateway.host).await.unwrap();
    free.write_all(head("/free/x").as_bytes()).await.unwrap();
    let told = hear(&mut free, "\r\n\r\n").await;
    assert_eq!(told, "HTTP/1.1 100 Continue\r\n\r\n");
    free.write_all(b"body").await.unwrap();
    let told = hear(&mut free, "\r\n\r\nok").await;
    assert!(told.starts_with("HTTP/1.1 200 "), "{told}");
    assert_eq!(service.seen()[0].body, b"body");
}

/// Starts a world with small limits of bodies.
async fn small(service: &str) -> World {
    let change = super::behind(service.to_owned());
    World::start_with(|config| {
        change(config).replacen("[limits]\n", "[limits]\nbody_bytes = 1000\nbody_secs = 1\n", 1)
    })
    .await
}

#[tokio::test]
async fn a_body_that_is_too_long_is_refused_free_of_charge_where_it_is_announced() {
    let service = Service::start(|_| ok("ok")).await;
    let world = small(&service.url()).await;
    let mut buyer = world.buyer_with_channel(Kind::Cltv).await;
    let (paid, field) = payment(&mut buyer);
    let (url, long) = (world.gateway.url("/paid/x"), "x".repeat(1_001));

    let (status, told) = curl(&["-H", &field, "--data", &long, &url]).await;

    assert_eq!(status, 413);
    assert!(told.contains("urn:farebox:problem:body-too-large"), "{told}");
    assert_eq!(service.hits(), 0);
    // The payment was not taken at all: it still pays for a request.
    assert_eq!(curl(&["-H", &field, "--data", &long[1..], &url]).await.0, 200);
    assert_eq!(spent(&buyer, &paid).await, PRICE_MSAT);
}

#[tokio::test]
async fn a_body_that_turns_out_too_long_or_stalls_stays_charged_over_all_versions() {
    for http in ["1.1", "2"] {
        let service = Modern::start(None).await;
        let world =
            small(&format!("url = \"http://{}\"\nhttp = \"{http}\"\n", service.address)).await;
        let mut buyer = world.buyer_with_channel(Kind::Cltv).await;
        let host = world.gateway.host.clone();
        let (long, field) = payment(&mut buyer);
        let head = |field: &str| {
            format!(
                "POST /paid/slow HTTP/1.1\r\nHost: {host}\r\n{field}\r\n\
                 Transfer-Encoding: chunked\r\n\r\n"
            )
        };
        let piece = format!("{:x}\r\n{}\r\n", 600, "x".repeat(600));

        let said = format!("{}{piece}{piece}", head(&field));
        let mut socket = TcpStream::connect(&host).await.unwrap();
        socket.write_all(said.as_bytes()).await.unwrap();
        let told = hear(&mut socket, "\r\n\r\n").await;
        assert!(told.starts_with("HTTP/1.1 413 "), "{http}: {told}");
        assert_eq!(spent(&buyer, &long).await, PRICE_MSAT);

        let (stalled, field) = payment(&mut buyer);
        let mut socket = TcpStream::connect(&host).await.unwrap();
        socket.write_all(format!("{}{piece}", head(&field)).as_bytes()).await.unwrap();
        let told = heard(&mut socket).await;
        assert!(told.starts_with("HTTP/1.1 408 "), "{http}: {told}");
        assert_eq!(spent(&buyer, &stalled).await, 2 * PRICE_MSAT);
        let operator = crate::support::Operator::of(&world);
        let socket = operator.socket.display().to_string();
        let text = curl(&["--unix-socket", &socket, "http://gateway/metrics"]).await.1;
        let failures =
            format!("farebox_upstream_failures_total{{upstream=\"http://{}\"}}", service.address);
        assert_eq!(super::metric(&text, &failures), 0, "the service has done nothing wrong");
    }
}

#[tokio::test]
async fn what_concerns_the_connection_to_a_service_stays_there() {
    let service = Service::start(|_| {
        super::service::Act::Last(
            "HTTP/1.1 200 OK\r\nConnection: close, x-inner\r\nKeep-Alive: timeout=5\r\n\
             X-Inner: 1\r\nX-Outer: 1\r\nContent-Length: 2\r\n\r\nok"
                .to_owned(),
        )
    })
    .await;
    let front = Front::start(&service.url(), "").await;
    let url = front.gateway.url("/x");

    let told = run("curl", &["-sv", &url, &url]).await;

    let words = String::from_utf8_lossy(&told.stderr).to_ascii_lowercase();
    assert_eq!(words.matches("< x-outer: 1").count(), 2, "{words}");
    assert!(!words.contains("< connection: close") && !words.contains("< x-inner"), "{words}");
    assert!(!words.contains("< keep-alive"), "{words}");
    assert!(words.contains("re-using existing connection"), "{words}");
}
