//! Traces: one span for each request that is recorded, sent to a collector (OTLP over HTTP).
//!
//! A worker hands its record over and goes on. A thread with a runtime of its own gathers spans and
//! sends them; while the collector is slow or away, spans are dropped and counted, and no request
//! waits. Where no collector is set, there is no [`Tracing`], and a request costs nothing for it.

mod collector;
mod span;

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::thread;
use std::time::{Duration, Instant};

use http::HeaderMap;
use opentelemetry_otlp::{ExporterBuildError, Protocol, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{SpanData, SpanExporter as _};
use thiserror::Error;
use tokio::runtime::Runtime;

use super::id::RequestIds;
use super::record::Record;
use super::trace::{Sample, TraceContext};
use crate::config::TraceConfig;
use collector::Collector;
use span::span;

/// The path to which spans are sent (OTLP 1.x, "OTLP/HTTP Request").
const TRACES_PATH: &str = "/v1/traces";
/// The greatest number of records that wait to be sent.
const QUEUE_MAX: usize = 2_048;
/// The most spans that are sent together.
const BATCH_MAX: usize = 512;
/// How long the first span of a batch waits for others.
const BATCH_DELAY: Duration = Duration::from_secs(1);
/// How long the collector may take.
const SEND_TIMEOUT: Duration = Duration::from_secs(3);
/// How long the end waits for what is still to be sent.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

/// Why no traces can be sent.
#[derive(Debug, Error)]
pub enum TraceError {
    /// The address of the collector cannot be used.
    #[error("traces cannot be sent: {0}")]
    Exporter(#[from] ExporterBuildError),
    /// The system has no thread or no runtime for it.
    #[error("traces cannot be sent: {0}")]
    Io(#[from] io::Error),
}

/// Takes records of requests that are traced. Clones share the thread that sends them.
#[derive(Clone, Debug)]
pub(crate) struct Tracing {
    sample: Sample,
    queue: SyncSender<Order>,
    dropped: Arc<AtomicU64>,
}

/// What the thread is to do.
#[derive(Debug)]
enum Order {
    /// Send a span.
    Send(Box<Record>),
    /// Send what waits, say so, and end.
    End(SyncSender<()>),
}

impl Tracing {
    /// Starts the thread that sends spans. What is not sent is counted in `dropped`.
    ///
    /// # Errors
    /// [`TraceError`] when nothing can be sent at all. A collector that is away is no error.
    pub(crate) fn start(config: &TraceConfig, dropped: Arc<AtomicU64>) -> Result<Self, TraceError> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let endpoint = config.otlp.to_string();
        let mut exporter = opentelemetry_otlp::SpanExporter::builder()
            .with_http()
            .with_http_client(Collector::new())
            .with_protocol(Protocol::HttpBinary)
            .with_endpoint(format!("{}{TRACES_PATH}", endpoint.trim_end_matches('/')))
            .with_timeout(SEND_TIMEOUT)
            .build()?;
        let name = config.service_name.clone();
        exporter.set_resource(&Resource::builder_empty().with_service_name(name).build());
        let (queue, orders) = mpsc::sync_channel(QUEUE_MAX);
        let sender = Sender { exporter, runtime, dropped: Arc::clone(&dropped), has_failed: false };
        thread::Builder::new()
            .name("farebox-traces".to_owned())
            .spawn(move || sender.run(&orders))?;
        // The configuration has checked the share.
        let sample = Sample::new(config.sample).unwrap_or_default();
        Ok(Self { sample, queue, dropped })
    }

    /// Begins the gateway's part of a trace.
    pub(crate) fn begin(&self, headers: &HeaderMap, ids: &RequestIds) -> TraceContext {
        TraceContext::begin(headers, self.sample, ids)
    }

    /// Has a request's span sent, if it is one that is recorded.
    pub(crate) fn record(&self, record: &Record) {
        if !record.trace.is_some_and(|trace| trace.is_sampled) {
            return;
        }
        if self.queue.try_send(Order::Send(Box::new(record.clone()))).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Waits a while until everything is sent. It blocks, so it stands at the program's end.
    pub(crate) fn close(&self) {
        let (ended, waiting) = mpsc::sync_channel(1);
        // A thread that does not get on is not waited for: the program ends all the same.
        if self.queue.try_send(Order::End(ended)).is_ok() {
            let _ended = waiting.recv_timeout(CLOSE_TIMEOUT);
        }
    }
}

/// Sends spans.
struct Sender {
    exporter: opentelemetry_otlp::SpanExporter,
    runtime: Runtime,
    dropped: Arc<AtomicU64>,
    has_failed: bool,
}

impl Sender {
    /// Sends batches until the end.
    fn run(mut self, orders: &Receiver<Order>) {
        while let Ok(first) = orders.recv() {
            let (batch, ended) = gather(first, orders);
            self.send(batch);
            if let Some(ended) = ended {
                let _told = ended.try_send(());
                return;
            }
        }
    }

    /// Sends a batch, and says once when the collector does not take it.
    fn send(&mut self, batch: Vec<SpanData>) {
        if batch.is_empty() {
            return;
        }
        let spans = u64::try_from(batch.len()).unwrap_or(u64::MAX);
        match self.runtime.block_on(self.exporter.export(batch)) {
            Ok(()) if self.has_failed => tracing::info!("the collector takes traces again"),
            Ok(()) => {}
            Err(error) => {
                self.dropped.fetch_add(spans, Ordering::Relaxed);
                if !self.has_failed {
                    tracing::warn!(error = %error, "the collector does not take traces");
                }
                self.has_failed = true;
                return;
            }
        }
        self.has_failed = false;
    }
}

/// Gathers a batch: what comes soon after its first span, up to the end if that comes.
fn gather(first: Order, orders: &Receiver<Order>) -> (Vec<SpanData>, Option<SyncSender<()>>) {
    let (mut batch, mut next) = (Vec::new(), Some(first));
    let began = Instant::now();
    while let Some(order) = next.take() {
        match order {
            Order::Send(record) => batch.extend(span(&record)),
            Order::End(ended) => return (batch, Some(ended)),
        }
        if batch.len() < BATCH_MAX {
            next = orders.recv_timeout(BATCH_DELAY.saturating_sub(began.elapsed())).ok();
        }
    }
    (batch, None)
}

#[cfg(test)]
mod tests;
