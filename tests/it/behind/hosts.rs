//! Hosts that two readers could read as different ones: a route for a host is never gone round.

use super::service::{Service, ok};
use super::{Front, curl};

/// A route for one host, and below it what is free for all others.
const ROUTES: &str = "[[route]]\nname = \"hosted\"\nhost = \"priced.example.com\"\npath = \"/\"\n\
                      price_msat = 1_500\n";

/// Spellings that some services take for `priced.example.com`, and some do not.
const DOUBTFUL: [&str; 11] = [
    "priced.example.com:80:80",
    "priced.example.com,x",
    "x,priced.example.com",
    "u@priced.example.com",
    "u:p@priced.example.com:80",
    "priced.example.com..",
    "priced.example.com:80x",
    "priced%2eexample.com",
    "priced.example.com:99999",
    "priced.example.com;x",
    "[priced.example.com]",
];

async fn front(service: &Service, top: &str) -> Front {
    let folder = tempfile::TempDir::with_prefix("farebox-behind-").unwrap();
    Front::start_in(folder, top, &service.url(), ROUTES).await
}

/// Says a head, and returns the status.
async fn told(front: &Front, line: &str, fields: &str) -> String {
    let head = format!("{line} HTTP/1.1\r\n{fields}Connection: close\r\n\r\n");
    let told = front.speak(head.as_bytes()).await;
    told.split(' ').nth(1).unwrap_or_default().to_owned()
}

#[tokio::test]
async fn a_host_that_could_be_read_in_two_ways_is_refused_wherever_it_stands() {
    let service = Service::start(|_| ok("ok")).await;
    let front = front(&service, "").await;
    let url = front.gateway.url("/x");

    for host in DOUBTFUL {
        let field = format!("Host: {host}\r\n");
        assert_eq!(told(&front, "GET /x", &field).await, "400", "{host}");
        let line = format!("GET http://{host}/x");
        assert_eq!(told(&front, &line, "Host: other\r\n").await, "400", "{line}");
        // With HTTP/2 the field becomes the authority. Some are no authority for curl or for both.
        let (status, _) = curl(&["--http2-prior-knowledge", "-H", field.trim(), &url]).await;
        assert!(matches!(status, 400 | 0), "{status}: {host}");
    }

    assert_eq!(service.hits(), 0);
}

#[tokio::test]
async fn a_host_is_the_same_in_any_case_and_with_any_port_wherever_it_stands() {
    let service = Service::start(|_| ok("ok")).await;
    let front = front(&service, "").await;
    let url = front.gateway.url("/x");

    for host in ["priced.example.com", "PRICED.Example.com.:8402", "priced.example.com:"] {
        let field = format!("Host: {host}\r\n");
        assert_eq!(told(&front, "GET /x", &field).await, "402", "{host}");
        let line = format!("GET http://{host}/x");
        assert_eq!(told(&front, &line, "Host: other\r\n").await, "402", "{line}");
        let (status, _) = curl(&["--http2-prior-knowledge", "-H", field.trim(), &url]).await;
        assert_eq!(status, 402, "{host}");
    }
    for host in ["other_one.example.com", "[::1]:80", "127.0.0.1", ""] {
        let field = format!("Host: {host}\r\n");
        assert_eq!(told(&front, "GET /x", &field).await, "200", "{host}");
        let seen = service.seen().pop().unwrap();
        assert_eq!(seen.field("x-forwarded-host").unwrap_or_default(), host);
    }
}

#[tokio::test]
async fn a_host_that_a_trusted_proxy_tells_is_read_as_strictly() {
    let service = Service::start(|_| ok("ok")).await;
    let front = front(&service, "trusted_proxies = [\"127.0.0.1\"]").await;

    for host in DOUBTFUL.into_iter().filter(|host| !host.contains(',')) {
        let fields = format!("Host: inner\r\nX-Forwarded-Host: {host}\r\n");
        assert_eq!(told(&front, "GET /x", &fields).await, "400", "{host}");
    }
    assert_eq!(service.hits(), 0);
    let fields = "Host: inner\r\nX-Forwarded-Host: other, priced.example.com:443\r\n";
    assert_eq!(told(&front, "GET /x", fields).await, "402");
}
