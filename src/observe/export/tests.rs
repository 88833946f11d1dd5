//! Spans on their way to a small collector.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::sync::mpsc::channel;

use super::super::record::sample;
use super::*;

/// What a collector was sent.
struct Sent {
    line: String,
    body: Vec<u8>,
}

/// Starts a collector that takes what it is sent, and returns its address.
fn collector() -> (String, Receiver<Sent>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (told, sent) = channel();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut reader = BufReader::new(stream.try_clone().unwrap());
            let mut lines = Vec::new();
            loop {
                let mut line = String::new();
                reader.read_line(&mut line).unwrap();
                let line = line.trim_end().to_lowercase();
                if line.is_empty() {
                    break;
                }
                lines.push(line);
            }
            let length = lines.iter().find_map(|line| line.strip_prefix("content-length: "));
            let mut body = vec![0; length.unwrap().parse().unwrap()];
            reader.read_exact(&mut body).unwrap();
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").unwrap();
            if told.send(Sent { line: lines.swap_remove(0), body }).is_err() {
                return;
            }
        }
    });
    (format!("http://{address}"), sent)
}

fn started(otlp: &str, sample: f64) -> (Tracing, Arc<AtomicU64>) {
    let config = TraceConfig {
        otlp: otlp.parse().unwrap(),
        sample,
        service_name: "weather-gate".to_owned(),
    };
    let dropped = Arc::<AtomicU64>::default();
    (Tracing::start(&config, Arc::clone(&dropped)).unwrap(), dropped)
}

fn traced(tracing: &Tracing) -> Record {
    let trace = tracing.begin(&HeaderMap::new(), &RequestIds::new(0));
    Record { trace: Some(trace), ..sample() }
}

fn holds(body: &[u8], part: &[u8]) -> bool {
    body.windows(part.len()).any(|window| window == part)
}

#[test]
fn a_collector_gets_the_spans_of_requests_that_are_recorded() {
    let (otlp, sent) = collector();
    let (tracing, dropped) = started(&otlp, 1.0);
    let record = traced(&tracing);
    tracing.record(&record);
    tracing.record(&sample());
    tracing.close();
    let Sent { line, body } = sent.recv_timeout(CLOSE_TIMEOUT).unwrap();
    assert_eq!(line, "post /v1/traces http/1.1");
    let trace = record.trace.unwrap();
    for part in [
        trace.trace_id.as_slice(),
        &trace.span_id,
        b"weather-gate",
        b"GET forecast",
        b"farebox.price_msat",
    ] {
        assert!(holds(&body, part), "{}", String::from_utf8_lossy(part));
    }
    assert!(sent.try_recv().is_err(), "one batch, with one span");
    assert_eq!(dropped.load(Ordering::Relaxed), 0);
}

#[test]
fn a_share_of_nothing_sends_nothing() {
    let (otlp, sent) = collector();
    let (tracing, _) = started(&otlp, 0.0);
    for _ in 0..100 {
        tracing.record(&traced(&tracing));
    }
    tracing.close();
    assert!(sent.try_recv().is_err());
}

#[test]
fn a_collector_that_does_not_answer_stops_no_request() {
    // It accepts connections, and says nothing.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let (tracing, dropped) = started(&format!("http://{}", silent.local_addr().unwrap()), 1.0);
    let record = traced(&tracing);
    let began = Instant::now();
    for _ in 0..QUEUE_MAX * 3 {
        tracing.record(&record);
    }
    assert!(began.elapsed() < SEND_TIMEOUT);
    assert!(dropped.load(Ordering::Relaxed) > 0);
}

#[test]
fn spans_for_a_collector_that_is_away_are_counted() {
    let gone = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let (tracing, dropped) = started(&format!("http://{gone}"), 1.0);
    tracing.record(&traced(&tracing));
    tracing.close();
    assert_eq!(dropped.load(Ordering::Relaxed), 1);
}
