//! Traces that go through the gateway.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use bitcoin::hex::FromHex;

use super::gate::Gate;

/// How long the collector waits for spans.
const PATIENCE: Duration = Duration::from_secs(30);
const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const PARENT: &str = "b7ad6b7169203331";

/// Starts a collector, and returns its address and what it is sent.
fn collector() -> (String, Receiver<(String, Vec<u8>)>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let (told, sent) = channel();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut head = BufReader::new(stream.try_clone().unwrap());
            let mut lines = Vec::new();
            while lines.last().is_none_or(|line: &String| !line.is_empty()) {
                let mut line = String::new();
                head.read_line(&mut line).unwrap();
                lines.push(line.trim_end().to_lowercase());
            }
            let length = lines.iter().find_map(|line| line.strip_prefix("content-length: "));
            let mut body = vec![0; length.unwrap().parse().unwrap()];
            head.read_exact(&mut body).unwrap();
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").unwrap();
            if told.send((lines.swap_remove(0), body)).is_err() {
                return;
            }
        }
    });
    (address, sent)
}

fn traced(more: &str) -> [String; 4] {
    let parent = format!("traceparent: 00-{TRACE}-{PARENT}-01{more}");
    ["--header".to_owned(), parent, "--header".to_owned(), "tracestate: vendor=1".to_owned()]
}

#[tokio::test]
async fn without_a_collector_a_trace_passes_as_it_came() {
    let gate = Gate::start(|config| config).await;
    let fields = traced("");
    let fields: Vec<&str> = fields.iter().map(String::as_str).collect();

    assert_eq!(gate.ask("/free/x", &fields).await.status, 200);
    let nonsense = ["--header", "traceparent: nonsense"];
    assert_eq!(gate.ask("/free/y", &nonsense).await.status, 200);

    let asked = gate.world.api.asked();
    assert_eq!(asked[0].headers["traceparent"], format!("00-{TRACE}-{PARENT}-01"));
    assert_eq!(asked[0].headers["tracestate"], "vendor=1");
    assert_eq!(asked[1].headers["traceparent"], "nonsense");
}

#[tokio::test]
async fn with_a_collector_a_trace_is_continued_and_its_span_arrives() {
    let (address, sent) = collector();
    let trace = format!(
        "\n[trace]\notlp = \"http://{address}\"\nsample = 1.0\nservice_name = \"front-gate\"\n"
    );
    let gate = Gate::start(|config| config + &trace).await;
    let fields = traced("");
    let fields: Vec<&str> = fields.iter().map(String::as_str).collect();

    assert_eq!(gate.ask("/free/traced", &fields).await.status, 200);

    let asked = gate.world.api.asked().remove(0).headers;
    let handed = asked["traceparent"].to_str().unwrap();
    let parts: Vec<&str> = handed.split('-').collect();
    assert_eq!((parts.len(), parts[0], parts[1], parts[3]), (4, "00", TRACE, "01"), "{handed}");
    assert_ne!(parts[2], PARENT, "the gateway has a span of its own");
    assert_eq!(asked["tracestate"], "vendor=1");
    let holds = |body: &[u8], part: &[u8]| body.windows(part.len()).any(|it| it == part);
    let span = Vec::<u8>::from_hex(parts[2]).unwrap();
    let (line, body) = tokio::task::spawn_blocking(move || {
        // Other requests of this test are traced too.
        loop {
            let (line, body) = sent.recv_timeout(PATIENCE).unwrap();
            if holds(&body, &span) {
                return (line, body);
            }
        }
    })
    .await
    .unwrap();
    assert_eq!(line, "post /v1/traces http/1.1");
    let trace = Vec::<u8>::from_hex(TRACE).unwrap();
    let parent = Vec::<u8>::from_hex(PARENT).unwrap();
    let id = asked["farebox-request-id"].as_bytes();
    for part in [trace.as_slice(), &parent, b"front-gate", b"/free/traced", id] {
        assert!(holds(&body, part), "{}", String::from_utf8_lossy(part));
    }
}
