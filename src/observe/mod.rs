//! What can be seen of a gateway from outside: the access log, metrics, health and traces.
//!
//! The server tells [`Observers`] of each request when its answer has ended: its [`Figures`], which are
//! counted, and a [`Record`], where somebody wants one. None of them waits for anybody, and none of them
//! decides anything.

pub(crate) mod access;
pub(crate) mod export;
pub(crate) mod id;
pub(crate) mod listener;
pub(crate) mod metrics;
pub(crate) mod monitor;
pub(crate) mod program;
pub(crate) mod record;
pub(crate) mod scribe;
pub(crate) mod source;
pub(crate) mod trace;

use std::io;

use http::HeaderMap;

use crate::config::ObserveConfig;
use access::AccessLog;
pub use export::TraceError;
use export::Tracing;
use id::RequestIds;
use metrics::{Limit, Metrics, RouteMetrics};
use record::{Figures, Record};
use trace::TraceContext;

/// Everything that hears of requests. Clones share it.
#[derive(Clone, Debug)]
pub(crate) struct Observers {
    metrics: Metrics,
    access: Option<AccessLog>,
    tracing: Option<Tracing>,
}

impl Observers {
    /// Starts what the configuration asks for; `metrics` are counted in any case.
    ///
    /// # Errors
    /// [`TraceError`] when a thread cannot be had, or the collector's address not be used.
    pub(crate) fn start(config: &ObserveConfig, metrics: Metrics) -> Result<Self, TraceError> {
        let (lines, spans) = (metrics.dropped_lines(), metrics.dropped_spans());
        let access = config.access.map(|style| AccessLog::start(style, lines, io::stderr()));
        let tracing = config.trace.as_ref().map(|trace| Tracing::start(trace, spans));
        Ok(Self { metrics, access: access.transpose()?, tracing: tracing.transpose()? })
    }

    /// Returns the metrics.
    pub(crate) const fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// Begins the gateway's part of a trace, where requests are traced.
    pub(crate) fn trace(&self, headers: &HeaderMap, ids: &RequestIds) -> Option<TraceContext> {
        self.tracing.as_ref().map(|tracing| tracing.begin(headers, ids))
    }

    /// Counts what a limit has rejected.
    pub(crate) fn limited(&self, limit: Limit) {
        self.metrics.limited(limit);
    }

    /// Hears of a request whose answer has ended. It never waits. All that is known of the request is
    /// gathered only where somebody is told of it.
    pub(crate) fn ended(
        &self,
        route: &RouteMetrics,
        figures: Figures,
        record: impl FnOnce(Figures) -> Record,
    ) {
        self.metrics.record(route, &figures);
        if self.tracing.is_none() && self.access.is_none() {
            return;
        }
        let record = record(figures);
        if let Some(tracing) = &self.tracing {
            tracing.record(&record);
        }
        if let Some(access) = &self.access {
            access.log(record);
        }
    }

    /// Waits a while until all lines are written and all spans sent. It blocks, so it stands at the
    /// program's end.
    pub(crate) fn close(&self) {
        if let Some(access) = &self.access {
            access.close();
        }
        if let Some(tracing) = &self.tracing {
            tracing.close();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::metrics::Money;
    use super::record::sample;
    use super::*;

    #[test]
    fn without_a_configuration_requests_are_counted_and_nothing_else_is_done() {
        let metrics = Metrics::new(Arc::new(Money::default));
        let observers = Observers::start(&ObserveConfig::default(), metrics).unwrap();
        let route = observers.metrics().route(0, "forecast");
        assert_eq!(observers.trace(&HeaderMap::new(), &RequestIds::new(0)), None);
        observers.ended(&route, sample().figures, |_| unreachable!("nobody is told"));
        observers.close();
        let text = observers.metrics().scrape();
        assert!(text.contains("farebox_charges_total{route=\"forecast\"} 1\n"), "{text}");
    }
}
