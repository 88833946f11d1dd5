//! The proxy: what passes through it, and what does not.

use bytes::Bytes;
use farebox::regtest::Regtest;
use farebox_channel::Kind;
use farebox_channel::Msat;
use futures_util::StreamExt;
use http::header::HOST;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::{Api, Gateway, PRICE_MSAT, World, gateway_configuration, header};

#[tokio::test]
async fn free_routes_are_free_and_unknown_ones_are_not_served() {
    let world = World::start().await;
    let buyer = world.buyer();

    assert_eq!(buyer.send("/free/x", &[]).await.body, "hello\n");
    assert_eq!(buyer.send("/nothing", &[]).await.refusal(), (404, "not-found".to_owned()));

    assert_eq!(world.api.hits(), 1);
}

#[tokio::test]
async fn a_priced_path_has_no_free_spelling() {
    let world = World::start().await;
    let host = world.gateway.host.clone();

    for path in ["/free/../paid/x", "/free/%2e%2e/paid/x", "//paid/x", "/%70aid/x", "/PAID"] {
        let request = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
        let answer = speak(&host, &request).await;
        assert!(answer.starts_with("HTTP/1.1 402 "), "{path}: {answer}");
    }
    for path in ["/free/..;/paid", "/free/%2e%2e%2fpaid", "/free\\..\\paid", "/free/%252e"] {
        let request = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
        let answer = speak(&host, &request).await;
        assert!(answer.starts_with("HTTP/1.1 400 "), "{path}: {answer}");
        assert!(answer.contains("urn:farebox:problem:bad-path"), "{path}: {answer}");
    }

    assert_eq!(world.api.hits(), 0);
}

#[tokio::test]
async fn the_service_behind_gets_the_path_that_was_matched() {
    let world = World::start().await;
    let host = world.gateway.host.clone();

    let path = "/paid/..//%66ree/./x%2dy/caf%c3%a9/?a=%2F..//b";
    let request = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    let answer = speak(&host, &request).await;

    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    let asked = world.api.asked().remove(0);
    assert_eq!(asked.path, "/free/x-y/caf%C3%A9/?a=%2F..//b");
}

#[tokio::test]
async fn the_service_behind_is_told_the_host_that_was_priced() {
    let world = World::start_with(|config| {
        config.replacen("path = \"/free\"", "path = \"/free\"\nhost = \"open.example.com\"", 1)
    })
    .await;
    let host = world.gateway.host.clone();
    let ask = |target: &str, host: &str| {
        format!("GET {target} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n")
    };

    let target = "http://open.example.com/free/x";
    let open = speak(&host, &ask(target, "other.example.com")).await;
    let shut = speak(&host, &ask("/free/x", "other.example.com")).await;

    assert!(open.starts_with("HTTP/1.1 200 "), "{open}");
    assert!(shut.starts_with("HTTP/1.1 404 "), "{shut}");
    assert_eq!(world.api.asked().remove(0).headers["x-forwarded-host"], "open.example.com");
}

#[tokio::test]
async fn another_method_than_those_of_a_path_is_told_which_there_are() {
    let world = World::start_with(|config| {
        config.replacen("path = \"/free\"", "path = \"/free\"\nmethods = [\"POST\"]", 1)
    })
    .await;

    let answer = world.buyer().send("/free/x", &[]).await;

    assert_eq!(answer.headers["allow"], "POST");
    assert_eq!(answer.refusal(), (405, "method-not-allowed".to_owned()));
}

#[tokio::test]
async fn fields_of_one_connection_and_of_payments_stay_at_the_gateway() {
    let world = World::start().await;
    let fields = [
        ("connection", "x-secret".to_owned()),
        ("x-secret", "1".to_owned()),
        ("te", "trailers".to_owned()),
        ("proxy-authorization", "Basic eDp5".to_owned()),
        ("payment-channel-nonsense", "1".to_owned()),
        ("x-forwarded-for", "6.6.6.6".to_owned()),
        ("forwarded", "for=6.6.6.6".to_owned()),
        ("x-mine", "kept".to_owned()),
    ];

    world.buyer().send("/free/x", &fields).await;

    let asked = world.api.asked().remove(0);
    for gone in [
        "connection",
        "x-secret",
        "te",
        "proxy-authorization",
        "payment-channel-nonsense",
        "forwarded",
    ] {
        assert!(!asked.headers.contains_key(gone), "{gone}: {:?}", asked.headers);
    }
    assert_eq!(asked.headers["x-mine"], "kept");
    assert_eq!(asked.headers["x-forwarded-for"], "127.0.0.1");
    assert_eq!(asked.headers["x-forwarded-host"], world.gateway.host.as_str());
    assert_eq!(asked.headers[HOST], world.api.address.to_string());
}

#[tokio::test]
async fn payment_fields_of_the_api_are_removed_and_its_answer_is_private() {
    let world = World::start().await;
    let mut buyer = world.buyer_with_channel(Kind::Cltv).await;

    let paid = buyer.pay("/paid/forged").await;
    let free = buyer.send("/free/forged", &[]).await;

    assert_eq!(paid.receipt().spent.get(), PRICE_MSAT);
    assert_eq!(paid.headers.get_all("payment-channel-receipt").iter().count(), 1);
    assert!(!paid.headers.contains_key("payment-channel-anything"));
    assert_eq!(paid.headers["cache-control"], "private");
    assert!(!free.headers.contains_key("payment-channel-receipt"));
    assert_eq!(free.headers["cache-control"], "public, max-age=600");
}

#[tokio::test]
async fn a_payment_is_never_logged_however_much_is() {
    let node = Regtest::start().await.unwrap();
    node.create_wallets().await.unwrap();
    let api = Api::start().await;
    let folder = tempfile::TempDir::with_prefix("farebox-test-").unwrap();
    let log = folder.path().join("log");
    let mut verbose = std::process::Command::new("env");
    verbose.env("FAREBOX_LOG", "trace").stderr(std::fs::File::create(&log).unwrap());
    let config = gateway_configuration(&node, &api);
    let gateway = Gateway::start_below(&folder, &config, verbose);
    let mut world = World { gateway, api, node: node.into(), folder };
    world.until_the_node_is_followed().await;
    let mut buyer = world.buyer_with_channel(Kind::Cltv).await;
    let price = Msat::new(PRICE_MSAT).unwrap();
    let (_, value) = header(&buyer.purse().pay(price, &buyer.key).unwrap().1);
    assert_eq!(buyer.pay("/paid/x").await.status, 200);
    assert_eq!(buyer.pay("/paid/fail").await.status, 500);
    assert!(world.gateway.terminate());

    let log = std::fs::read_to_string(log).unwrap();
    assert!(log.contains("a channel has changed its state"));
    let secrets: Vec<&str> = value.split(':').filter(|part| part.ends_with("==")).collect();
    assert_eq!(secrets.len(), 2, "the pass and the signature of {value}");
    for secret in secrets {
        assert!(!log.contains(secret), "{secret}");
    }
}

#[tokio::test]
async fn bodies_are_streamed_both_ways() {
    let world = World::start().await;
    let buyer = world.buyer_with_channel(Kind::Cltv).await;
    let price = Msat::new(PRICE_MSAT).unwrap();
    let (_, payment) = buyer.purse().pay(price, &buyer.key).unwrap();
    let (sender, pieces) = tokio::sync::mpsc::channel::<Bytes>(1);
    let body = futures_util::stream::unfold(pieces, async |mut pieces| {
        let piece = pieces.recv().await?;
        Some((Ok::<_, std::io::Error>(piece), pieces))
    });
    let (name, value) = header(&payment);
    let request = buyer
        .http
        .post(world.gateway.url("/paid/echo"))
        .header(name, value)
        .body(reqwest::Body::wrap_stream(body));
    let sent = tokio::spawn(request.send());

    // Each piece comes back before the next one is sent, so nothing waits for the whole body.
    sender.send(Bytes::from("first")).await.unwrap();
    let answer = sent.await.unwrap().unwrap();
    assert_eq!(answer.status(), 200);
    let mut pieces = answer.bytes_stream();
    assert_eq!(pieces.next().await.unwrap().unwrap(), "first");
    sender.send(Bytes::from("second")).await.unwrap();
    assert_eq!(pieces.next().await.unwrap().unwrap(), "second");
    drop(sender);
    assert!(pieces.next().await.is_none());
}

#[tokio::test]
async fn a_large_upload_is_refused_before_it_is_read() {
    let world = World::start().await;
    let endless = futures_util::stream::repeat_with(|| {
        Ok::<_, std::io::Error>(Bytes::from_static(&[0; 16 * 1024]))
    });
    let request = reqwest::Client::new()
        .post(world.gateway.url("/paid/echo"))
        .body(reqwest::Body::wrap_stream(endless));

    let answer = tokio::time::timeout(std::time::Duration::from_secs(10), request.send()).await;

    let answer = answer.expect("the answer does not wait for the end of the body");
    // The connection may break while the body is still on its way; what counts is that it ends.
    if let Ok(answer) = answer {
        assert_eq!(answer.status(), 402);
    }
    assert_eq!(world.api.hits(), 0);
}

#[tokio::test]
async fn a_client_that_breaks_its_upload_off_does_not_get_its_charge_back() {
    let world = World::start().await;
    let buyer = world.buyer_with_channel(Kind::Cltv).await;
    let price = Msat::new(PRICE_MSAT).unwrap();
    let (_, payment) = buyer.purse().pay(price, &buyer.key).unwrap();
    let (name, value) = header(&payment);
    let host = &world.gateway.host;

    let mut socket = TcpStream::connect(host).await.unwrap();
    let head = format!(
        "POST /paid/echo HTTP/1.1\r\nHost: {host}\r\n{name}: {value}\r\n\
         Transfer-Encoding: chunked\r\n\r\n6\r\ncopied\r\n"
    );
    socket.write_all(head.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    while !String::from_utf8_lossy(&answer).contains("copied") {
        assert_ne!(socket.read_buf(&mut answer).await.unwrap(), 0);
    }
    // What was wanted has come; now the upload is broken.
    socket.write_all(b"nonsense\r\n").await.unwrap();
    let _broken = socket.read_to_end(&mut answer).await;

    let text = String::from_utf8_lossy(&answer);
    assert!(text.contains(&format!("spent={PRICE_MSAT}")), "{text}");
    // A charge that comes back does so within moments; this one stays.
    for _ in 0..20 {
        let again = buyer.ask::<_, farebox_channel::message::Receipt>(&payment).await;
        assert_eq!(again.spent.get(), PRICE_MSAT);
        tokio::time::sleep(std::time::Duration::from_millis(25)).await;
    }
}

#[tokio::test]
async fn a_get_with_a_body_of_unknown_length_arrives_whole() {
    let world = World::start().await;
    let host = &world.gateway.host;
    let request = format!(
        "GET /free/echo HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\
         Transfer-Encoding: chunked\r\n\r\n5\r\nasked\r\n0\r\n\r\n"
    );

    let answer = speak(host, &request).await;

    assert!(answer.contains("\r\nasked\r\n"), "{answer}");
}

/// Writes a request by hand, because clients tidy up what they send, and reads to the end.
pub(crate) async fn speak(host: &str, request: &str) -> String {
    let mut socket = TcpStream::connect(host).await.unwrap();
    socket.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).await.unwrap();
    answer
}
