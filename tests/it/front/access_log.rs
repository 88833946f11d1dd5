//! The line that is written for each request.

use farebox_channel::Kind;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::gate::{Gate, payment};
use crate::support::{FIRST_SAT, until};

fn logging(config: &str, style: &str) -> String {
    format!("{config}\n[log]\naccess = \"{style}\"\n")
}

/// Waits until so many requests with a path are logged, and returns their lines.
async fn lines(gate: &Gate, path: &str, count: usize) -> Vec<Value> {
    let wanted = |line: &str| {
        let line: Value = serde_json::from_str(line).ok()?;
        (line["path"] == path).then_some(line)
    };
    let mut lines = Vec::new();
    until(&format!("{count} requests of {path} are logged"), async || {
        lines = gate.log().lines().filter_map(wanted).collect();
        lines.len() >= count
    })
    .await;
    assert_eq!(lines.len(), count, "{lines:?}");
    lines
}

#[tokio::test]
async fn each_request_is_one_line_for_programs() {
    let gate = Gate::start(|config| logging(&config, "json")).await;
    let mut buyer = gate.world.buyer_with_channel(Kind::Cltv).await;

    let body = ["--request", "POST", "--data", "12345"];
    let answer = gate.pay(&mut buyer, 1_500, "/paid/echo?secret=1", &body).await;
    assert_eq!((answer.status, answer.body.as_str()), (200, "12345"));
    gate.ask("/paid/unpaid", &[]).await;
    gate.ask("/free/head", &["--head"]).await;
    gate.ask("/free/missing", &[]).await;

    let line = &lines(&gate, "/paid/echo", 1).await[0];
    let asked = &gate.world.api.asked()[0].headers;
    assert_eq!(line["request_id"], asked["farebox-request-id"].to_str().unwrap());
    assert_eq!(line["channel"], asked["farebox-channel"].to_str().unwrap());
    for (name, value) in [
        ("method", "POST".into()),
        ("host", gate.world.gateway.host.clone().into()),
        ("client", "127.0.0.1".into()),
        ("status", 200.into()),
        ("outcome", "paid".into()),
        ("route", "/paid".into()),
        ("bytes_in", 5.into()),
        ("bytes_out", 5.into()),
        ("price_msat", 1_500.into()),
        ("credit_msat", (FIRST_SAT * 1_000 - 1_500).into()),
        ("upstream", format!("http://{}", gate.world.api.address).into()),
    ] {
        assert_eq!(line[name], Value::clone(&value), "{name}: {line}");
    }
    assert!(line["duration_us"].as_u64() >= line["first_byte_us"].as_u64(), "{line}");
    assert!(line["client_left"].is_null(), "{line}");
    let line = &lines(&gate, "/paid/unpaid", 1).await[0];
    assert_eq!((&line["status"], &line["refusal"]), (&402.into(), &"payment-required".into()));
    // Nobody has left only because an answer has no body.
    for path in ["/free/head", "/free/missing"] {
        let line = &lines(&gate, path, 1).await[0];
        assert_eq!((&line["outcome"], &line["bytes_out"]), (&"free".into(), &0.into()), "{line}");
        assert!(line["client_left"].is_null(), "{line}");
    }
    assert!(
        !gate
            .admin("/metrics")
            .await
            .body
            .contains("farebox_clients_left_total{route=\"/free\"} 1")
    );
}

#[tokio::test]
async fn no_payment_pass_or_signature_is_logged() {
    for style in ["json", "text"] {
        let gate = Gate::start(|config| logging(&config, style)).await;
        let mut buyer = gate.world.buyer_with_channel(Kind::Refund).await;
        let paid = payment(&mut buyer, 1_500);
        assert_eq!(gate.ask("/paid/x?token=abc", &["--header", &paid]).await.status, 200);
        let forged = paid.replace("pass=:", "pass=:AAAA");
        assert_eq!(gate.ask("/paid/x", &["--header", &forged]).await.status / 100, 4);

        gate.logged(&["/paid/x", "paid"]).await;
        gate.logged(&["/paid/x", "refused"]).await;

        let log = gate.log();
        let secrets = paid.split(':').filter(|part| part.len() > 20);
        assert!(secrets.clone().count() >= 2, "the pass and the signature: {paid}");
        for secret in secrets.chain(["token", "payment-channel-pay"]) {
            assert!(!log.contains(secret), "{secret} in {log}");
        }
        let channel = buyer.channel().txid.to_string();
        let requests = log.lines().filter(|line| line.contains("/paid/x"));
        assert!(requests.clone().all(|line| !line.contains(&channel)), "{log}");
    }
}

#[tokio::test]
async fn the_text_form_has_the_same_fields_on_one_line() {
    let gate = Gate::start(|config| logging(&config, "text")).await;
    let mut buyer = gate.world.buyer_with_channel(Kind::Cltv).await;
    assert_eq!(gate.pay(&mut buyer, 1_500, "/paid/x", &[]).await.status, 200);

    let line = gate.logged(&["/paid/x"]).await;

    let request = format!(" 127.0.0.1 \"GET {}/paid/x HTTP/1.1\" 200 ", gate.world.gateway.host);
    assert!(line.contains(&request), "{line}");
    let asked = &gate.world.api.asked()[0].headers;
    let id = format!("request_id={}", asked["farebox-request-id"].to_str().unwrap());
    for field in ["outcome=paid", "price_msat=1500", "credit_msat=398500", "bytes_out=6", &id] {
        assert!(line.split(' ').any(|it| it == field), "{field} in {line}");
    }
}

#[tokio::test]
async fn no_request_can_add_a_line_or_a_field() {
    for style in ["json", "text"] {
        let gate = Gate::start(|config| logging(&config, style)).await;
        let marked = b"GET /free/mark\"\xc2\x9b2J HTTP/1.1\r\nHost: a\tb\" price_msat=7 \x9b\r\n\
                       Connection: close\r\n\r\n";
        let mut socket = TcpStream::connect(&gate.world.gateway.host).await.unwrap();
        socket.write_all(marked).await.unwrap();
        let mut answer = Vec::new();
        socket.read_to_end(&mut answer).await.unwrap();
        let injected = "/free/mark%0a%1b[2J%22200";
        assert_eq!(gate.ask(injected, &[]).await.problem(), "bad-path");
        let header = ["--header", "Host: mark\" 200 price_msat=7", "--request", "MARK"];
        gate.ask("/free/mark", &header).await;

        gate.logged(&["MARK"]).await;

        let log = gate.log();
        for line in log.lines().filter(|line| line.contains("mark")) {
            assert!(line.bytes().all(|byte| (0x20..0x7f).contains(&byte)), "{line}");
            assert_eq!(line.matches("request_id").count(), 1, "{line}");
            if style == "json" {
                let line: Value = serde_json::from_str(line).unwrap();
                assert!(line["price_msat"].is_null(), "{line}");
            } else {
                assert!(!line.contains(" price_msat=7"), "{line}");
                assert_eq!(line.matches('"').count(), 2, "{line}");
            }
        }
    }
}
