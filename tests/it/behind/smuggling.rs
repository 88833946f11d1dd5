//! Requests that two readers could read as different ones: the service never gets one that was not
//! priced.

use super::Front;
use super::service::{Service, ok};

/// Says something to a gateway, and returns the answers and the lines that the service has seen.
async fn said(front: &Front, service: &Service, said: &str) -> (String, Vec<String>) {
    let before = service.hits();
    let told = front.speak(said.replace("HOST", front.host()).as_bytes()).await;
    let seen = service.seen().into_iter().skip(before);
    (told, seen.map(|seen| seen.line().to_owned()).collect())
}

#[tokio::test]
async fn a_head_that_could_be_read_in_two_ways_is_refused() {
    let service = Service::start(|_| ok("ok")).await;
    let front = Front::start(&service.url(), "[limits]\nidle_secs = 2\nheader_secs = 2\n").await;
    let hidden = "GET /paid/hidden HTTP/1.1\r\nHost: HOST\r\n\r\n";

    for (name, head) in [
        (
            "two lengths",
            "POST /x HTTP/1.1\r\nHost: HOST\r\nContent-Length: 0\r\nContent-Length: 57\r\n\r\n",
        ),
        ("a list of lengths", "POST /x HTTP/1.1\r\nHost: HOST\r\nContent-Length: 0, 57\r\n\r\n"),
        ("a signed length", "POST /x HTTP/1.1\r\nHost: HOST\r\nContent-Length: +0\r\n\r\n"),
        ("folding", "POST /x HTTP/1.1\r\nHost: HOST\r\nX-A: b\r\n Content-Length: 57\r\n\r\n"),
        (
            "a space before the colon",
            "POST /x HTTP/1.1\r\nHost: HOST\r\nTransfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
        ),
        (
            "another encoding",
            "POST /x HTTP/1.1\r\nHost: HOST\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
        ),
        (
            "encodings in the wrong order",
            "POST /x HTTP/1.1\r\nHost: HOST\r\nTransfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
        ),
        (
            "a bare carriage return",
            "POST /x HTTP/1.1\r\nHost: HOST\r\nX-A: b\rContent-Length: 57\r\n\r\n",
        ),
        (
            "a chunked body of HTTP/1.0",
            "POST /x HTTP/1.0\r\nHost: HOST\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        ),
        ("two hosts", "GET /x HTTP/1.1\r\nHost: HOST\r\nHost: other\r\nConnection: close\r\n\r\n"),
        ("no host", "GET /x HTTP/1.1\r\nConnection: close\r\n\r\n"),
        (
            "a tunnel",
            "CONNECT other.example.com:443 HTTP/1.1\r\nHost: other.example.com:443\r\nConnection: close\r\n\r\n",
        ),
    ] {
        let (told, seen) = said(&front, &service, &format!("{head}{hidden}")).await;
        assert!(told.starts_with("HTTP/1.1 4") || told.starts_with("HTTP/1.0 4"), "{name}: {told}");
        assert_eq!(seen, [""; 0], "{name}: {told}");
    }
}

#[tokio::test]
async fn a_body_holds_no_second_request() {
    let service = Service::start(|_| ok("ok")).await;
    let front = Front::start(&service.url(), "[limits]\nidle_secs = 2\nheader_secs = 2\n").await;
    let hidden = "GET /paid/hidden HTTP/1.1\r\nHost: HOST\r\n\r\n";
    let length = hidden.replace("HOST", front.host()).len();

    for (name, request) in [
        (
            "a length and chunks",
            format!(
                "POST /x HTTP/1.1\r\nHost: HOST\r\nContent-Length: {length}\r\n\
                 Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n{hidden}"
            ),
        ),
        (
            "a whole request as a body",
            format!(
                "POST /x HTTP/1.1\r\nHost: HOST\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{hidden}"
            ),
        ),
        (
            "extensions of chunks",
            format!(
                "POST /x HTTP/1.1\r\nHost: HOST\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n\
                 {length:x};a=\"b\"\r\n{hidden}\r\n0;c\r\n\r\n"
            ),
        ),
        (
            "a body of a GET",
            format!(
                "GET /x HTTP/1.1\r\nHost: HOST\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{hidden}"
            ),
        ),
        (
            "bare line feeds in chunks",
            format!(
                "POST /x HTTP/1.1\r\nHost: HOST\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n\
                 {length:x};\n{hidden}\r\n0\r\n\r\n"
            ),
        ),
    ] {
        let (told, seen) = said(&front, &service, &request).await;
        // The request with both marks may be refused, and what follows it may be priced.
        assert!(seen.iter().all(|line| line.ends_with(" /x")), "{name}: {seen:?} {told}");
        assert!(seen.len() <= 1, "{name}: {seen:?}");
        assert_eq!(service.seen().iter().filter(|it| it.head.contains("hidden")).count(), 0);
    }
}

#[tokio::test]
async fn a_second_request_on_a_connection_is_priced_like_the_first() {
    let service = Service::start(|_| ok("ok")).await;
    let front = Front::start(&service.url(), "").await;

    let (told, seen) = said(
        &front,
        &service,
        "GET /x HTTP/1.1\r\nHost: HOST\r\n\r\nGET /paid/x HTTP/1.1\r\nHost: HOST\r\n\
         Connection: close\r\n\r\n",
    )
    .await;

    assert!(told.starts_with("HTTP/1.1 200 ") && told.contains("HTTP/1.1 402 "), "{told}");
    assert_eq!(seen, ["GET /x"]);
}

#[tokio::test]
async fn an_absolute_target_names_the_host_and_a_trace_is_a_request_like_others() {
    let service = Service::start(|_| ok("ok")).await;
    let front = Front::start(&service.url(), "").await;

    let request =
        "GET http://real.example.com/x HTTP/1.1\r\nHost: other\r\nConnection: close\r\n\r\n";
    let (told, _) = said(&front, &service, request).await;
    assert!(told.starts_with("HTTP/1.1 200 "), "{told}");
    let seen = service.seen().remove(0);
    assert_eq!((seen.line(), seen.field("x-forwarded-host")), ("GET /x", Some("real.example.com")));

    let request = "TRACE /paid/x HTTP/1.1\r\nHost: HOST\r\nConnection: close\r\n\r\n";
    let (told, seen) = said(&front, &service, request).await;
    assert!(told.starts_with("HTTP/1.1 402 ") && seen.is_empty(), "{told} {seen:?}");
}
