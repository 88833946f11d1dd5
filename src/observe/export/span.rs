//! A record as a server span, with the attributes of OpenTelemetry's HTTP conventions and our own.

use std::borrow::Cow;

use http::Method;
use opentelemetry::trace::{
    SpanContext, SpanId, SpanKind, Status, TraceFlags, TraceId, TraceState,
};
use opentelemetry::{InstrumentationScope, KeyValue, StringValue, Value};
use opentelemetry_sdk::trace::{SpanData, SpanEvents, SpanLinks};

use super::super::metrics::Outcome;
use super::super::record::{Record, micros};

/// What stands for a method that nobody knows, so that strangers make no new names.
const OTHER_METHOD: &str = "_OTHER";

/// Returns the span of a request, if it is one that is recorded.
pub(super) fn span(record: &Record) -> Option<SpanData> {
    let trace = record.trace.filter(|trace| trace.is_sampled)?;
    let (trace_id, span_id) =
        (TraceId::from_bytes(trace.trace_id), SpanId::from_bytes(trace.span_id));
    let flags = TraceFlags::SAMPLED;
    let is_failure = record.figures.status.is_server_error();
    Some(SpanData {
        span_context: SpanContext::new(trace_id, span_id, flags, false, TraceState::default()),
        parent_span_id: trace.parent_id.map_or(SpanId::INVALID, SpanId::from_bytes),
        parent_span_is_remote: trace.parent_id.is_some(),
        span_kind: SpanKind::Server,
        name: name(record),
        start_time: record.began,
        end_time: record.began.checked_add(record.figures.duration).unwrap_or(record.began),
        attributes: attributes(record),
        dropped_attributes_count: 0,
        events: SpanEvents::default(),
        links: SpanLinks::default(),
        status: if is_failure { Status::error("") } else { Status::Unset },
        instrumentation_scope: InstrumentationScope::builder("farebox")
            .with_version(env!("CARGO_PKG_VERSION"))
            .build(),
    })
}

/// Returns the span's name: the method and the route.
fn name(record: &Record) -> Cow<'static, str> {
    let method = match known(&record.method) {
        OTHER_METHOD => "HTTP",
        method => method,
    };
    match &record.route {
        Some(route) => format!("{method} {route}").into(),
        None => method.into(),
    }
}

/// Returns the method, if it is one that is known.
const fn known(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::DELETE => "DELETE",
        Method::CONNECT => "CONNECT",
        Method::OPTIONS => "OPTIONS",
        Method::TRACE => "TRACE",
        Method::PATCH => "PATCH",
        _ => OTHER_METHOD,
    }
}

/// Returns what is known of the request.
fn attributes(record: &Record) -> Vec<KeyValue> {
    let method = known(&record.method);
    let status = record.figures.status;
    let mut attributes = vec![
        KeyValue::new("http.request.method", method),
        KeyValue::new("url.scheme", record.scheme.as_str()),
        KeyValue::new("url.path", record.path().to_owned()),
        KeyValue::new("http.response.status_code", i64::from(status.as_u16())),
        KeyValue::new("network.protocol.version", record.version_name()),
        KeyValue::new("client.address", record.client.to_string()),
        KeyValue::new("http.request.body.size", integer(record.figures.bytes_in)),
        KeyValue::new("http.response.body.size", integer(record.figures.bytes_out)),
        KeyValue::new("farebox.request_id", record.id.to_string()),
        KeyValue::new("farebox.outcome", Outcome::of(&record.figures).as_str()),
    ];
    let mut add = |name: &'static str, value: Option<Value>| {
        attributes.extend(value.map(|value| KeyValue::new(name, value)));
    };
    let words = |words: String| Value::from(StringValue::from(words));
    let original = (method == OTHER_METHOD).then(|| words(record.method.to_string()));
    add("http.request.method_original", original);
    let is_failure = status.is_server_error();
    add("error.type", is_failure.then(|| words(status.as_u16().to_string())));
    let (host, port) = record.host().map_or((None, None), parted);
    add("server.address", host.map(|host| words(host.to_owned())));
    add("server.port", port.map(|port| i64::from(port).into()));
    add("http.route", record.route.as_deref().map(|route| words(route.to_owned())));
    let upstream = record.upstream.as_deref();
    add("farebox.upstream", upstream.map(|upstream| words(upstream.to_owned())));
    add("farebox.channel", record.channel.map(|channel| words(channel.to_string())));
    let amounts = [
        ("farebox.price_msat", record.figures.price),
        ("farebox.credit_msat", record.credit),
        ("farebox.would_charge_msat", record.figures.would_charge),
    ];
    for (name, amount) in amounts {
        add(name, amount.map(|amount| integer(amount.get()).into()));
    }
    add("farebox.refusal", record.figures.refusal.map(|kind| kind.name().into()));
    add(
        "farebox.first_byte_us",
        record.figures.first_byte.map(|time| integer(micros(time)).into()),
    );
    add("farebox.client_left", record.figures.has_client_left.then_some(Value::Bool(true)));
    attributes
}

/// Returns a host's name and its port.
fn parted(host: &str) -> (Option<&str>, Option<u16>) {
    match host.rsplit_once(':') {
        // An IPv6 address without a port ends with a bracket.
        Some((name, port)) if !port.ends_with(']') => (Some(name), port.parse().ok()),
        Some(_) | None => (Some(host), None),
    }
}

/// Returns a number as OpenTelemetry has them.
fn integer(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use http::StatusCode;

    use super::super::super::record::{Figures, sample};
    use super::super::super::trace::TraceContext;
    use super::*;

    fn traced(record: Record) -> Record {
        let trace = TraceContext {
            trace_id: [1; 16],
            span_id: [2; 8],
            parent_id: Some([3; 8]),
            is_sampled: true,
        };
        Record { trace: Some(trace), ..record }
    }

    fn value(span: &SpanData, name: &str) -> Option<String> {
        let found = span.attributes.iter().find(|it| it.key.as_str() == name);
        found.map(|it| it.value.to_string())
    }

    #[test]
    fn a_paid_request_is_a_server_span_below_its_caller() {
        let span = span(&traced(sample())).unwrap();
        assert_eq!(span.name, "GET forecast");
        assert_eq!(span.span_kind, SpanKind::Server);
        assert_eq!(span.span_context.trace_id().to_bytes(), [1; 16]);
        assert_eq!(span.span_context.span_id().to_bytes(), [2; 8]);
        assert_eq!(span.parent_span_id.to_bytes(), [3; 8]);
        assert_eq!(
            span.end_time.duration_since(span.start_time).unwrap(),
            sample().figures.duration
        );
        assert_eq!(span.status, Status::Unset);
        for (name, expected) in [
            ("http.response.status_code", "200"),
            ("server.address", "api.example.com"),
            ("url.scheme", "https"),
            ("url.path", "/forecast/today"),
            ("farebox.price_msat", "1500"),
            ("farebox.channel", "00010203040506ff"),
            ("farebox.outcome", "paid"),
        ] {
            assert_eq!(value(&span, name).as_deref(), Some(expected), "{name}");
        }
        assert_eq!(value(&span, "error.type"), None);
    }

    #[test]
    fn a_request_that_is_not_recorded_has_no_span() {
        assert!(span(&sample()).is_none());
        let mut record = traced(sample());
        record.trace = record.trace.map(|trace| TraceContext { is_sampled: false, ..trace });
        assert!(span(&record).is_none());
    }

    #[test]
    fn a_failure_of_the_service_is_an_error_and_one_of_the_client_is_none() {
        let answered =
            |status| Record { figures: Figures { status, ..sample().figures }, ..sample() };
        let failed = span(&traced(answered(StatusCode::BAD_GATEWAY))).unwrap();
        assert!(matches!(failed.status, Status::Error { .. }));
        assert_eq!(value(&failed, "error.type").as_deref(), Some("502"));
        let refused = answered(StatusCode::PAYMENT_REQUIRED);
        assert_eq!(span(&traced(refused)).unwrap().status, Status::Unset);
    }

    #[test]
    fn a_method_that_nobody_knows_makes_no_new_name() {
        let method = Method::from_bytes(b"PURGE").unwrap();
        let span = span(&traced(Record { method, route: None, ..sample() })).unwrap();
        assert_eq!(span.name, "HTTP");
        assert_eq!(value(&span, "http.request.method").as_deref(), Some("_OTHER"));
        assert_eq!(value(&span, "http.request.method_original").as_deref(), Some("PURGE"));
    }

    #[test]
    fn a_host_is_told_apart_from_its_port() {
        assert_eq!(parted("a:8402"), (Some("a"), Some(8402)));
        assert_eq!(parted("a"), (Some("a"), None));
        assert_eq!(parted("[::1]:80"), (Some("[::1]"), Some(80)));
        assert_eq!(parted("[::1]"), (Some("[::1]"), None));
    }
}
