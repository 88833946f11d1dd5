//! Who the client is, and what a service is told of it.

use super::Front;
use super::service::{Service, ok};

const FIELDS: &str = "X-Forwarded-For: 9.9.9.9, 8.8.8.8\r\nX-Forwarded-Proto: https\r\n\
                      X-Forwarded-Host: api.example.com\r\nForwarded: for=6.6.6.6\r\n\
                      X_Forwarded_For: 7.7.7.7\r\nX_Real_IP: 5.5.5.5\r\n\
                      X-Real-IP: 5.5.5.5\r\nX-Forwarded-Prefix: /root\r\n\
                      X-Forwarded-User: root\r\n";
/// Those of them that the gateway has nothing to say about.
const OTHERS: [&str; 3] = ["x-real-ip", "x-forwarded-prefix", "x-forwarded-user"];

async fn asked(service: &Service, top: &str) -> (Front, super::service::Seen) {
    let folder = tempfile::TempDir::with_prefix("farebox-behind-").unwrap();
    let front = Front::start_in(folder, top, &service.url(), "").await;
    let said = format!("GET /x HTTP/1.1\r\nHost: plain\r\nConnection: close\r\n{FIELDS}\r\n");
    assert!(front.speak(said.as_bytes()).await.starts_with("HTTP/1.1 200 "));
    let seen = service.seen().pop().unwrap();
    for name in ["forwarded", "x_forwarded_for", "x_real_ip"] {
        assert_eq!(seen.field(name), None, "{name}");
    }
    (front, seen)
}

#[tokio::test]
async fn what_strangers_say_of_their_way_is_not_passed_on() {
    let service = Service::start(|_| ok("ok")).await;

    let (_front, seen) = asked(&service, "").await;

    assert_eq!(seen.field("x-forwarded-for"), Some("127.0.0.1"));
    assert_eq!(seen.field("x-forwarded-proto"), Some("http"));
    assert_eq!(seen.field("x-forwarded-host"), Some("plain"));
    assert_eq!(OTHERS.map(|name| seen.field(name)), [None; 3]);
}

#[tokio::test]
async fn what_a_trusted_proxy_says_is_passed_on_with_its_own_address() {
    let service = Service::start(|_| ok("ok")).await;

    let (_front, seen) = asked(&service, "trusted_proxies = [\"127.0.0.0/8\"]").await;

    assert_eq!(seen.field("x-forwarded-for"), Some("9.9.9.9, 8.8.8.8, 127.0.0.1"));
    assert_eq!(seen.field("x-forwarded-proto"), Some("https"));
    assert_eq!(seen.field("x-forwarded-host"), Some("api.example.com"));
    let others = OTHERS.map(|name| seen.field(name));
    assert_eq!(others, [Some("5.5.5.5"), Some("/root"), Some("root")]);
}

#[tokio::test]
async fn clients_behind_a_trusted_proxy_are_limited_each_alone_and_others_together() {
    let limits = "[limits]\nunpaid_per_sec = 1\nunpaid_burst = 3\n";
    let service = Service::start(|_| ok("ok")).await;
    for (top, is_trusted) in [("trusted_proxies = [\"127.0.0.1\"]", true), ("", false)] {
        let folder = tempfile::TempDir::with_prefix("farebox-behind-").unwrap();
        let front = Front::start_in(folder, top, &service.url(), limits).await;
        let url = front.gateway.url("/paid/x");
        let mut statuses = Vec::new();
        let clients = ["1.1.1.1", "1.1.1.1", "1.1.1.1", "1.1.1.1", "1.1.1.1", "2.2.2.2"];
        for (number, client) in clients.into_iter().enumerate() {
            // What the client itself has said stands before what the proxy saw.
            let field = format!("X-Forwarded-For: 9.9.9.{number}, {client}");
            statuses.push(super::curl(&["-H", &field, &url]).await.0);
        }
        assert!(statuses.contains(&429), "{statuses:?}");
        assert_eq!(statuses.pop().unwrap() == 402, is_trusted, "{statuses:?}");
    }
}
