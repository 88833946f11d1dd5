//! Pages of other origins.

use farebox_channel::Kind;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::curl::{Curled, read};
use super::gate::{Gate, free_address};
use crate::support::until;

const ORIGIN: &str = "Origin: https://app.example.com";
const CORS: &str = "\n[cors]\norigins = [\"https://app.example.com\"]\n";

fn is_readable(answer: &Curled) {
    assert_eq!(answer.field("access-control-allow-origin"), "https://app.example.com");
    let exposed = answer.field("access-control-expose-headers");
    for name in ["payment-channel-offer", "payment-channel-receipt", "retry-after"] {
        assert!(exposed.split(", ").any(|it| it == name), "{name}: {answer:?}");
    }
    let vary = answer.all("vary").join(", ").to_ascii_lowercase();
    assert_eq!(vary.matches("origin").count(), 1, "{answer:?}");
}

#[tokio::test]
async fn a_preflight_on_a_priced_route_is_answered_and_free() {
    let gate = Gate::start(|config| config + CORS).await;
    let mut wish = vec!["--request", "OPTIONS", "--header", ORIGIN];
    wish.extend(["--header", "Access-Control-Request-Method: PUT"]);
    wish.extend(["--header", "Access-Control-Request-Headers: payment-channel-pay"]);

    let answer = gate.ask("/paid/x", &wish).await;

    assert_eq!((answer.status, answer.body.as_str()), (204, ""));
    assert_eq!(answer.field("access-control-allow-origin"), "https://app.example.com");
    assert!(answer.field("access-control-allow-methods").contains("PUT"));
    assert!(answer.field("access-control-allow-headers").contains("payment-channel-pay"));
    assert!(answer.all("payment-channel-offer").is_empty());
    wish[3] = "Origin: https://evil.example.com";
    let answer = gate.ask("/paid/x", &wish).await;
    assert_eq!((answer.status, answer.all("access-control-allow-origin").len()), (204, 0));
    assert_eq!(gate.world.api.hits(), 0);
}

#[tokio::test]
async fn every_answer_says_who_may_read_it() {
    let gate = Gate::start(|config| config + CORS).await;
    let mut buyer = gate.world.buyer_with_channel(Kind::Cltv).await;
    let origin = ["--header", ORIGIN];

    let paid = gate.pay(&mut buyer, 1_500, "/paid/x", &origin).await;

    assert_eq!(paid.status, 200);
    assert!(!paid.all("payment-channel-receipt").is_empty());
    is_readable(&paid);
    gate.reload(|config| config + ONLY).await;
    for (path, status) in [
        ("/paid/x", 402),
        ("/free/x", 200),
        ("/nothing", 404),
        ("/only", 405),
        ("/free/%2f", 400),
        ("/healthz", 200),
        ("/.well-known/payment-channel", 200),
    ] {
        let answer = gate.ask(path, &origin).await;
        assert_eq!(answer.status, status, "{path}");
        is_readable(&answer);
    }
    gate.reload(|config| {
        config.replace(
            "unpaid_per_sec = 100_000\nunpaid_burst = 100_000",
            "unpaid_per_sec = 1\nunpaid_burst = 1",
        )
    })
    .await;
    let mut answer = gate.ask("/paid/x", &origin).await;
    for _ in 0..5 {
        answer = gate.ask("/paid/x", &origin).await;
        if answer.status == 429 {
            break;
        }
    }
    assert_eq!((answer.status, answer.problem().as_str()), (429, "too-many-requests"));
    is_readable(&answer);
}

const ONLY: &str = "\n[[route]]\npath = \"/only\"\nmethods = [\"PUT\"]\nfree = true\n";

#[tokio::test]
async fn what_the_gateway_gives_up_with_is_readable_too() {
    let dead = free_address();
    let gate = Gate::start(|config| {
        let limits = "[limits]\nrequests = 2\nbody_bytes = 1_000\nbody_secs = 5\n";
        let config = config.replace("_per_client = 4_096", "_per_client = 1");
        let config = config.replace("_per_channel = 4_096", "_per_channel = 1");
        let dead = format!(
            "[upstreams.dead]\nurl = \"http://{dead}\"\n\n[[route]]\npath = \"/dead\"\n\
             upstream = \"dead\"\nfree = true\n"
        );
        let config = config.replacen("[limits]\n", limits, 1) + CORS + &dead;
        "trusted_proxies = [\"127.0.0.1\"]\n".to_owned() + &config
    })
    .await;
    let long = "x".repeat(1_001);

    let failed = gate.ask("/dead/x", &["--header", ORIGIN]).await;
    let refused = gate.ask("/free/x", &["--header", ORIGIN, "--data", &long]).await;
    // Two stalled requests are all that is taken at once.
    let stalled = [stall(&gate, "203.0.113.1").await, stall(&gate, "203.0.113.2").await];
    let mut busy = None;
    until("both are under way", async || {
        let answer = gate.ask("/free/x", &["--header", ORIGIN]).await;
        busy = (answer.status != 200).then_some(answer);
        busy.is_some()
    })
    .await;

    for (answer, status) in [(failed, 502), (refused, 413), (busy.unwrap(), 503)] {
        assert_eq!(answer.status, status, "{answer:?}");
        is_readable(&answer);
    }
    for mut socket in stalled {
        let mut told = String::new();
        socket.read_to_string(&mut told).await.unwrap();
        assert!(told.starts_with("HTTP/1.1 408 "), "{told}");
        is_readable(&read(&told));
    }
}

/// Begins a body of a client that does not go on.
async fn stall(gate: &Gate, client: &str) -> TcpStream {
    let host = &gate.world.gateway.host;
    let mut socket = TcpStream::connect(host).await.unwrap();
    let head = format!(
        "POST /free/length HTTP/1.1\r\nHost: {host}\r\n{ORIGIN}\r\n\
         X-Forwarded-For: {client}\r\nContent-Length: 9\r\n\r\nx"
    );
    socket.write_all(head.as_bytes()).await.unwrap();
    socket
}

#[tokio::test]
async fn what_the_api_says_of_origins_is_not_doubled() {
    let gate = Gate::start(|config| config + CORS).await;

    let answer = gate.ask("/free/shared", &["--header", ORIGIN]).await;

    is_readable(&answer);
    assert!(answer.all("access-control-allow-credentials").is_empty(), "{answer:?}");
    assert_eq!(answer.all("vary"), ["Origin"]);
}

#[tokio::test]
async fn without_cors_nothing_is_said_and_nothing_is_changed() {
    let gate = Gate::start(|config| config).await;
    let origin = ["--header", ORIGIN];
    for path in ["/paid/x", "/nothing", "/.well-known/payment-channel"] {
        let answer = gate.ask(path, &origin).await;
        let said = |(name, _): &&(String, String)| name.starts_with("access-control-");
        assert_eq!(answer.fields.iter().find(said), None, "{path}");
    }
    let mut wish = vec!["--request", "OPTIONS", "--header", ORIGIN];
    wish.extend(["--header", "Access-Control-Request-Method: PUT"]);
    assert_eq!(gate.ask("/paid/x", &wish).await.price(), 1_500);

    let answer = gate.ask("/free/shared", &origin).await;

    assert_eq!(answer.field("access-control-allow-origin"), "*");
    assert_eq!(answer.field("access-control-allow-credentials"), "true");
}
