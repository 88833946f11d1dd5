//! What Prometheus gets when it asks.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use farebox_middleware::ProblemKind;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;

use super::route::{CLASSES, RouteTotal};
use super::text::{Rows, counter, gauge, histogram};
use super::{Counters, Limit, MoneySource, Outcome, lock};
use crate::observe::program;

/// Writes everything that is counted.
pub(super) struct Scraped {
    pub(super) counters: Arc<Counters>,
    pub(super) money: MoneySource,
}

impl fmt::Debug for Scraped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scraped").field("counters", &self.counters).finish_non_exhaustive()
    }
}

impl Collector for Scraped {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let encoder = &mut encoder;
        let version = [(vec![("version", env!("CARGO_PKG_VERSION"))], 1)];
        gauge(encoder, "build_info", "The version of the program", &version)?;
        self.counters.encode_routes(encoder)?;
        self.counters.encode_upstreams(encoder)?;
        self.counters.encode_asks(encoder)?;
        self.counters.encode_server(encoder)?;
        (self.money)().encode(encoder)
    }
}

/// A route by its name, with what was counted of it.
type Named = (Arc<str>, RouteTotal);

impl Counters {
    /// Writes what was counted of routes.
    fn encode_routes(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let routes: Vec<Named> = lock(&self.routes)
            .iter()
            .map(|(name, workers)| (Arc::clone(name), RouteTotal::of(workers.values())))
            .collect();
        encode_requests(encoder, &routes)?;
        for (name, help, of) in COUNTERS {
            let rows: Rows<'_> = routes
                .iter()
                .map(|(route, total)| (vec![("route", &**route)], of(total)))
                .collect();
            counter(encoder, name, help, &rows)?;
        }
        let help = "The time until an answer had ended, by route";
        let rows = routes.iter().map(|(route, total)| (vec![("route", &**route)], &total.total));
        histogram(encoder, "request_duration_seconds", help, rows)?;
        let help = "The time until the head of an answer was there, by route";
        let rows =
            routes.iter().map(|(route, total)| (vec![("route", &**route)], &total.first_byte));
        histogram(encoder, "first_byte_seconds", help, rows)
    }

    /// Writes what was counted of the services behind.
    fn encode_upstreams(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let upstreams = lock(&self.upstreams).clone();
        let rows = |of: fn(&super::UpstreamMetrics) -> u64| -> Rows<'_> {
            let labelled = upstreams.iter();
            labelled.map(|(address, it)| (vec![("upstream", &**address)], of(it))).collect()
        };
        let asked = rows(|it| it.requests.load(Ordering::Relaxed));
        counter(encoder, "upstream_requests", "Requests to the services behind", &asked)?;
        let failed = rows(|it| it.failures.load(Ordering::Relaxed));
        counter(encoder, "upstream_failures", "Requests that failed there", &failed)?;
        let healthy = rows(|it| u64::from(it.is_healthy.load(Ordering::Relaxed)));
        gauge(encoder, "upstream_healthy", "Whether a service is taken for healthy", &healthy)
    }

    /// Writes what was counted of the prices that are asked.
    fn encode_asks(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let asks = lock(&self.asks).clone();
        let rows = |of: fn(&super::AskMetrics) -> u64| -> Rows<'_> {
            asks.iter().map(|(route, it)| (vec![("route", &**route)], of(it))).collect()
        };
        let asked = rows(super::AskMetrics::questions);
        counter(encoder, "price_questions", "Prices that were asked, by route", &asked)?;
        let failed = rows(super::AskMetrics::failures);
        counter(encoder, "price_failures", "Prices that were asked and not given", &failed)?;
        let help = "The time until a price was given, by route";
        let took: Vec<_> = asks.iter().map(|(route, it)| (&**route, it.seconds())).collect();
        let rows = took.iter().map(|(route, it)| (vec![("route", *route)], it));
        histogram(encoder, "price_question_seconds", help, rows)
    }

    /// Writes what was counted of the program itself.
    fn encode_server(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let refusals: Rows<'_> = ProblemKind::ALL
            .iter()
            .zip(&self.refusals.0)
            .map(|(kind, count)| (vec![("problem", kind.name())], read(count)))
            .collect();
        counter(encoder, "refusals", "Answers that are problems, by problem type", &refusals)?;
        let row = |limit: Limit| (vec![("limit", limit.as_str())], read(self.rejected.by(limit)));
        let limits: Rows<'_> = Limit::ALL.into_iter().map(row).collect();
        counter(encoder, "limited", "Requests that a limit has rejected", &limits)?;
        let open = read(&self.connections);
        gauge(encoder, "connections_open", "Connections of clients", &[(vec![], open)])?;
        let under_way = read(&self.requests);
        gauge(encoder, "requests_in_flight", "Requests under way", &[(vec![], under_way)])?;
        let reloads = [
            (vec![("result", "taken")], read(&self.reloads)),
            (vec![("result", "refused")], read(&self.failed_reloads)),
        ];
        counter(encoder, "reloads", "Reloads of the configuration", &reloads)?;
        let help = "Lines that the access log has dropped";
        counter(encoder, "access_log_dropped", help, &[(vec![], read(&self.dropped_lines))])?;
        let help = "Lines of the program's own log that were dropped";
        counter(encoder, "log_dropped", help, &[(vec![], program::dropped())])?;
        let help = "Spans that were not sent to the collector";
        counter(encoder, "spans_dropped", help, &[(vec![], read(&self.dropped_spans))])
    }
}

/// A counter of a route: its name, what it means, and where it stands.
type RouteCounter = (&'static str, &'static str, fn(&RouteTotal) -> u64);

/// The counters that each route has.
const COUNTERS: [RouteCounter; 8] = [
    ("received_bytes", "Bytes in the bodies of requests", |it| it.received_bytes),
    ("sent_bytes", "Bytes in the bodies of answers", |it| it.sent_bytes),
    ("charges", "Requests that were charged", |it| it.charges),
    ("charged_msat", "What requests were charged", |it| it.charged_msat),
    ("releases", "Charges that were taken back", |it| it.releases),
    ("shadow_msat", "What requests would have been charged", |it| it.shadow_msat),
    ("unpaid", "Requests without a payment, answered 402", |it| it.unpaid),
    ("clients_left", "Requests whose client left before the end", |it| it.left),
];

/// Writes the requests by route, class of status and outcome: those that there were.
fn encode_requests(encoder: &mut DescriptorEncoder<'_>, routes: &[Named]) -> fmt::Result {
    let mut rows: Rows<'_> = Vec::new();
    for (route, total) in routes {
        for (class, outcomes) in CLASSES.iter().zip(&total.requests) {
            for (outcome, count) in Outcome::ALL.iter().zip(outcomes) {
                let labels =
                    vec![("route", &**route), ("status", *class), ("outcome", outcome.as_str())];
                rows.extend((*count > 0).then_some((labels, *count)));
            }
        }
    }
    counter(encoder, "requests", "Requests by route, class of status and outcome", &rows)
}
