//! Whether the gateway lives and can serve, and what it has counted.
//!
//! The same answers are given on the admin socket, on an address of their own (`listener.rs`), and
//! in short to everybody: strangers learn whether the gateway is ready, not why it is not.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderValue, Method, Response, StatusCode};
use serde::Serialize;
use serde_json::json;

use super::metrics::{self, Metrics};

/// Where it is told whether the process lives.
pub(crate) const LIVE_PATH: &str = "/healthz";
/// Where it is told whether requests can be served.
pub(crate) const READY_PATH: &str = "/readyz";
/// Where the metrics are.
pub(crate) const METRICS_PATH: &str = "/metrics";
/// The type of documents.
const JSON: &str = "application/json";

/// What the gateway is made of, as it looks now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct State {
    /// Whether payments can be recorded.
    pub(crate) is_ledger_running: bool,
    /// Whether the chain is followed, or tried to.
    pub(crate) is_watcher_running: bool,
    /// The node.
    pub(crate) node: NodeState,
    /// The services behind.
    pub(crate) upstreams: Vec<UpstreamState>,
}

/// How the node looks. A gateway whose node is away still serves what is open.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct NodeState {
    /// Whether it counts as away.
    pub(crate) is_away: bool,
    /// Why it counts as away.
    pub(crate) reason: Option<String>,
    /// The height of the newest block.
    pub(crate) height: Option<u32>,
}

/// How one service behind looks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct UpstreamState {
    /// Its address.
    pub(crate) address: String,
    /// Whether it is taken for healthy.
    pub(crate) is_healthy: bool,
}

/// Looks at the parts of the gateway.
pub(crate) type StateSource = Arc<dyn Fn() -> State + Send + Sync>;

/// Tells how the gateway is. Clones share it.
#[derive(Clone)]
pub(crate) struct Monitor {
    metrics: Metrics,
    look: StateSource,
    is_draining: Arc<AtomicBool>,
}

impl fmt::Debug for Monitor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Monitor").field("is_draining", &self.is_draining).finish_non_exhaustive()
    }
}

impl Monitor {
    /// Makes a monitor that looks at the gateway with `look` each time it is asked.
    pub(crate) fn new(metrics: Metrics, look: StateSource) -> Self {
        Self { metrics, look, is_draining: Arc::default() }
    }

    /// Returns the metrics.
    pub(crate) const fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// Says from now on that the gateway is not ready, so that no more clients are sent to it.
    pub(crate) fn drain(&self) {
        self.is_draining.store(true, Ordering::Release);
    }

    /// Answers an operator, with everything that is known.
    pub(crate) fn answer(&self, method: &Method, path: &str) -> Response<Bytes> {
        if !matches!(path, LIVE_PATH | READY_PATH | METRICS_PATH) {
            return told(StatusCode::NOT_FOUND, &json!({ "detail": "there is nothing here" }));
        }
        if !matches!(*method, Method::GET | Method::HEAD) {
            let detail = json!({ "detail": "this is only read" });
            let mut response = told(StatusCode::METHOD_NOT_ALLOWED, &detail);
            response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
            return response;
        }
        match path {
            METRICS_PATH => {
                text(StatusCode::OK, metrics::CONTENT_TYPE, self.metrics.scrape().into())
            }
            READY_PATH => self.readiness(),
            _ => live(),
        }
    }

    /// Answers anybody who asks for [`LIVE_PATH`] or [`READY_PATH`], in short.
    pub(crate) fn probe(&self, path: &str) -> Option<Response<Bytes>> {
        match path {
            LIVE_PATH => Some(live()),
            READY_PATH => {
                let (is_ready, ..) = self.ready();
                Some(told(status(is_ready), &json!({ "ready": is_ready })))
            }
            _ => None,
        }
    }

    /// Says whether the gateway is ready, and how its parts are.
    fn readiness(&self) -> Response<Bytes> {
        let (is_ready, is_draining, state) = self.ready();
        let document = json!({
            "ready": is_ready,
            "draining": is_draining,
            "ledger": { "is_running": state.is_ledger_running },
            "watcher": { "is_running": state.is_watcher_running },
            "node": state.node,
            "upstreams": state.upstreams,
        });
        told(status(is_ready), &document)
    }

    /// Tells whether the gateway is ready, whether it drains, and how its parts are. A node that is
    /// away does not count, and neither do services: what they cannot do is answered one by one.
    fn ready(&self) -> (bool, bool, State) {
        let (is_draining, state) = (self.is_draining.load(Ordering::Acquire), (self.look)());
        let is_ready = !is_draining && state.is_ledger_running && state.is_watcher_running;
        (is_ready, is_draining, state)
    }
}

/// Says that the process lives.
fn live() -> Response<Bytes> {
    told(StatusCode::OK, &json!({ "alive": true }))
}

/// Returns the status of readiness.
const fn status(is_ready: bool) -> StatusCode {
    if is_ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }
}

/// Returns a document.
fn told(status: StatusCode, document: &serde_json::Value) -> Response<Bytes> {
    text(status, JSON, format!("{document}\n").into())
}

/// Returns an answer that nobody keeps.
fn text(status: StatusCode, content_type: &'static str, body: Bytes) -> Response<Bytes> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::metrics::Money;
    use super::*;

    pub(in super::super) fn monitor(is_ledger_running: bool) -> Monitor {
        let metrics = Metrics::new(Arc::new(Money::default));
        Monitor::new(
            metrics,
            Arc::new(move || State {
                is_ledger_running,
                is_watcher_running: true,
                node: NodeState {
                    is_away: true,
                    reason: Some("it does not answer".to_owned()),
                    height: None,
                },
                upstreams: vec![UpstreamState {
                    address: "10.0.0.7:3000".to_owned(),
                    is_healthy: true,
                }],
            }),
        )
    }

    fn body(response: &Response<Bytes>) -> String {
        String::from_utf8(response.body().to_vec()).unwrap()
    }

    #[test]
    fn a_gateway_without_its_node_is_ready_and_says_so() {
        let response = monitor(true).answer(&Method::GET, READY_PATH);
        assert_eq!(response.status(), StatusCode::OK);
        let document: serde_json::Value = serde_json::from_slice(response.body()).unwrap();
        assert_eq!(document["ready"], true);
        assert_eq!(document["draining"], false);
        assert_eq!(document["node"]["reason"], "it does not answer");
        assert_eq!(document["upstreams"][0]["address"], "10.0.0.7:3000");
    }

    #[test]
    fn a_gateway_that_drains_is_alive_and_not_ready() {
        let monitor = monitor(true);
        monitor.drain();
        let ready = monitor.answer(&Method::GET, READY_PATH);
        assert_eq!(ready.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(monitor.answer(&Method::GET, LIVE_PATH).status(), StatusCode::OK);
        let probed = monitor.probe(READY_PATH).unwrap();
        assert_eq!(probed.status(), StatusCode::SERVICE_UNAVAILABLE);
    }

    #[test]
    fn a_gateway_without_its_ledger_is_not_ready() {
        let response = monitor(false).answer(&Method::GET, READY_PATH);
        assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
    }

    #[test]
    fn strangers_learn_no_addresses_and_no_reasons() {
        let monitor = monitor(true);
        assert_eq!(body(&monitor.probe(READY_PATH).unwrap()), "{\"ready\":true}\n");
        assert_eq!(body(&monitor.probe(LIVE_PATH).unwrap()), "{\"alive\":true}\n");
        assert!(monitor.probe(METRICS_PATH).is_none());
        assert!(monitor.probe("/readyz/").is_none());
    }

    #[test]
    fn nothing_can_be_changed_through_it() {
        let response = monitor(true).answer(&Method::POST, READY_PATH);
        assert_eq!(response.status(), StatusCode::METHOD_NOT_ALLOWED);
        assert_eq!(response.headers().get(ALLOW).unwrap(), "GET, HEAD");
        let response = monitor(true).answer(&Method::GET, "/channels");
        assert_eq!(response.status(), StatusCode::NOT_FOUND);
    }

    #[test]
    fn metrics_are_told_as_open_metrics() {
        let response = monitor(true).answer(&Method::GET, METRICS_PATH);
        assert_eq!(response.headers().get(CONTENT_TYPE).unwrap(), metrics::CONTENT_TYPE);
        assert!(body(&response).contains("farebox_build_info{version="));
    }
}
