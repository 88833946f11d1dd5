//! How a line of the access log is written.
//!
//! Whatever comes from a client is escaped, so that no request can begin a line of its own, add a
//! field, or speak to a terminal.

use std::fmt::{Display, Write};
use std::time::{SystemTime, UNIX_EPOCH};

use super::super::metrics::Outcome;
use super::super::record::{Record, micros};

/// The days of 400 years.
const ERA_DAYS: u64 = 146_097;

/// Writes a line for people: what was asked in quotes, the status, and then `name=value`.
pub(crate) fn text(record: &Record, line: &mut String) {
    let host = record.host().unwrap_or("-");
    timestamp(record.began, line);
    add(line, format_args!(" {} \"{} ", record.client, record.method));
    escape_text(host, line);
    escape_text(record.path(), line);
    add(line, format_args!(" HTTP/{}\" {}", record.version_name(), record.figures.status.as_u16()));
    fields(record, &mut |name, value| match value {
        Value::Number(number) => add(line, format_args!(" {name}={number}")),
        Value::Plain(word) => add(line, format_args!(" {name}={word}")),
        Value::Yes => add(line, format_args!(" {name}=true")),
        Value::Foreign(words) => {
            add(line, format_args!(" {name}="));
            escape_text(words, line);
        }
    });
}

/// Writes a line for programs: a JSON object.
pub(crate) fn json(record: &Record, line: &mut String) {
    line.push_str("{\"time\":\"");
    timestamp(record.began, line);
    add(line, format_args!("\",\"client\":\"{}\",\"method\":\"{}\"", record.client, record.method));
    line.push_str(",\"host\":");
    match record.host() {
        Some(host) => escape_json(host, line),
        None => line.push_str("null"),
    }
    line.push_str(",\"path\":");
    escape_json(record.path(), line);
    let (version, status) = (record.version_name(), record.figures.status.as_u16());
    add(line, format_args!(",\"version\":\"{version}\",\"status\":{status}"));
    fields(record, &mut |name, value| {
        add(line, format_args!(",\"{name}\":"));
        match value {
            Value::Number(number) => add(line, format_args!("{number}")),
            Value::Plain(word) => add(line, format_args!("\"{word}\"")),
            Value::Yes => line.push_str("true"),
            Value::Foreign(words) => escape_json(words, line),
        }
    });
    line.push('}');
}

/// The value of a field.
enum Value<'v> {
    /// A number.
    Number(u64),
    /// Letters, digits and hyphens of our own.
    Plain(&'v dyn Display),
    /// Something is true.
    Yes,
    /// Words that somebody else has chosen.
    Foreign(&'v str),
}

/// Tells the fields that both kinds of lines have, in their order. What is not there is left out.
fn fields(record: &Record, tell: &mut dyn FnMut(&str, Value<'_>)) {
    tell("outcome", Value::Plain(&Outcome::of(&record.figures).as_str()));
    tell("duration_us", Value::Number(micros(record.figures.duration)));
    if let Some(first_byte) = record.figures.first_byte {
        tell("first_byte_us", Value::Number(micros(first_byte)));
    }
    tell("bytes_in", Value::Number(record.figures.bytes_in));
    tell("bytes_out", Value::Number(record.figures.bytes_out));
    if let Some((received, sent)) = record.messages {
        tell("messages_in", Value::Number(received));
        tell("messages_out", Value::Number(sent));
    }
    if let Some(route) = &record.route {
        tell("route", Value::Foreign(route));
    }
    if let Some(upstream) = &record.upstream {
        tell("upstream", Value::Foreign(upstream));
    }
    if let Some(channel) = &record.channel {
        tell("channel", Value::Plain(channel));
    }
    let amounts = [
        ("price_msat", record.figures.price),
        ("credit_msat", record.credit),
        ("would_charge_msat", record.figures.would_charge),
    ];
    for (name, amount) in amounts {
        if let Some(amount) = amount {
            tell(name, Value::Number(amount.get()));
        }
    }
    if let Some(refusal) = record.figures.refusal {
        tell("refusal", Value::Foreign(refusal.name()));
    }
    if record.figures.has_client_left {
        tell("client_left", Value::Yes);
    }
    tell("request_id", Value::Plain(&record.id));
    if let Some(trace) = &record.trace {
        tell("trace_id", Value::Foreign(&format!("{:032x}", u128::from_be_bytes(trace.trace_id))));
    }
}

/// Adds to a line. Writing to a string does not fail.
fn add(line: &mut String, words: std::fmt::Arguments<'_>) {
    let _written = line.write_fmt(words);
}

/// Adds what somebody else has chosen: visible ASCII as it is, every other byte as `\xNN`.
fn escape_text(words: &str, line: &mut String) {
    for byte in words.bytes() {
        match byte {
            b'"' | b'\\' | ..=0x20 | 0x7f.. => add(line, format_args!("\\x{byte:02x}")),
            _ => line.push(char::from(byte)),
        }
    }
}

/// Adds a JSON string (RFC 8259 §7) of ASCII only, so that it says nothing to a terminal.
fn escape_json(words: &str, line: &mut String) {
    line.push('"');
    for letter in words.chars() {
        match letter {
            '"' | '\\' => line.extend(['\\', letter]),
            ' '..='~' => line.push(letter),
            _ => {
                for unit in letter.encode_utf16(&mut [0; 2]) {
                    add(line, format_args!("\\u{unit:04x}"));
                }
            }
        }
    }
    line.push('"');
}

/// Adds a time in UTC with milliseconds (RFC 3339).
pub(crate) fn timestamp(time: SystemTime, line: &mut String) {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    let (seconds, millis) = (since.as_secs(), since.subsec_millis());
    // Years are counted from March, so that a leap day is the last of its year (days since
    // 0000-03-01; Howard Hinnant, "chrono-compatible low-level date algorithms").
    let days = (seconds / 86_400).saturating_add(719_468);
    let (era, day_of_era) = (days / ERA_DAYS, days % ERA_DAYS);
    let leaps = day_of_era / 1_460 + day_of_era / (ERA_DAYS - 1);
    let year_of_era = (day_of_era + day_of_era / 36_524).saturating_sub(leaps) / 365;
    let before = 365 * year_of_era + year_of_era / 4;
    let day_of_year = (day_of_era + year_of_era / 100).saturating_sub(before);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year.saturating_sub((153 * shifted + 2) / 5) + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted.saturating_sub(9) };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    let (hour, minute, second) = (seconds / 3_600 % 24, seconds / 60 % 60, seconds % 60);
    add(
        line,
        format_args!(
            "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{millis:03}Z"
        ),
    );
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;
    use std::time::Duration;

    use farebox_channel::Msat;
    use farebox_middleware::ProblemKind;
    use http::uri::PathAndQuery;
    use http::{HeaderMap, HeaderValue, Method, StatusCode};

    use super::super::super::id::RequestIds;
    use super::super::super::record::{Figures, sample};
    use super::super::super::trace::{Sample, TraceContext};
    use super::*;

    fn written(format: fn(&Record, &mut String), record: &Record) -> String {
        let mut line = String::new();
        format(record, &mut line);
        line
    }

    fn refused() -> Record {
        let figures = Figures {
            status: StatusCode::PAYMENT_REQUIRED,
            bytes_in: 7,
            first_byte: None,
            price: None,
            refusal: Some(ProblemKind::PaymentRequired),
            would_charge: Msat::new(2_000).ok(),
            has_client_left: true,
            ..sample().figures
        };
        Record {
            method: Method::POST,
            host: None,
            client: IpAddr::from([0, 0, 0, 0, 0, 0, 0, 1]),
            route: None,
            upstream: None,
            channel: None,
            credit: None,
            figures,
            ..sample()
        }
    }

    #[test]
    fn a_paid_request_is_one_line_for_people() {
        assert_eq!(
            written(text, &sample()),
            "2026-11-18T11:06:40.123Z 203.0.113.7 \"GET api.example.com/forecast/today HTTP/1.1\" \
             200 outcome=paid duration_us=2345 first_byte_us=1200 bytes_in=0 bytes_out=512 \
             route=forecast upstream=127.0.0.1:3000 channel=00010203040506ff price_msat=1500 \
             credit_msat=98500 request_id=11111111111111111111111111111111"
        );
    }

    #[test]
    fn a_refused_request_is_one_line_for_people() {
        assert_eq!(
            written(text, &refused()),
            "2026-11-18T11:06:40.123Z ::1 \"POST -/forecast/today HTTP/1.1\" 402 outcome=refused \
             duration_us=2345 bytes_in=7 bytes_out=512 would_charge_msat=2000 \
             refusal=payment-required client_left=true request_id=11111111111111111111111111111111"
        );
    }

    #[test]
    fn a_paid_request_is_one_object_for_programs() {
        assert_eq!(
            written(json, &sample()),
            "{\"time\":\"2026-11-18T11:06:40.123Z\",\"client\":\"203.0.113.7\",\"method\":\"GET\",\
             \"host\":\"api.example.com\",\"path\":\"/forecast/today\",\"version\":\"1.1\",\
             \"status\":200,\"outcome\":\"paid\",\"duration_us\":2345,\"first_byte_us\":1200,\
             \"bytes_in\":0,\"bytes_out\":512,\"route\":\"forecast\",\
             \"upstream\":\"127.0.0.1:3000\",\"channel\":\"00010203040506ff\",\
             \"price_msat\":1500,\"credit_msat\":98500,\
             \"request_id\":\"11111111111111111111111111111111\"}"
        );
    }

    #[test]
    fn a_request_without_a_host_is_an_object_too() {
        let object: serde_json::Value = serde_json::from_str(&written(json, &refused())).unwrap();
        assert!(object["host"].is_null());
        assert_eq!(object["client_left"], true);
        assert_eq!(object["would_charge_msat"], 2_000);
    }

    #[test]
    fn no_request_can_begin_a_line_or_add_a_field() {
        let path = "/a\"200\u{9b}é\\";
        let host = HeaderValue::from_static("x\ty price_msat=0\"");
        let target = PathAndQuery::from_maybe_shared(path).unwrap();
        let record = Record { target, host: Some(host), ..sample() };
        let line = written(text, &record);
        assert!(line.bytes().all(|byte| (0x20..0x7f).contains(&byte)), "{line}");
        assert_eq!(line.matches("price_msat=").count(), 2);
        assert!(line.contains("\\x20price_msat=0\\x22"), "{line}");
        assert!(line.contains("/a\\x22200\\xc2\\x9b"), "{line}");
        assert_eq!(line.matches('"').count(), 2);
        let line = written(json, &record);
        assert!(line.bytes().all(|byte| (0x20..0x7f).contains(&byte)), "{line}");
        let object: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(object["path"], path);
        assert_eq!(object["price_msat"], 1_500);
    }

    #[test]
    fn a_traced_request_names_its_trace() {
        let trace =
            TraceContext::begin(&HeaderMap::new(), Sample::new(1.0).unwrap(), &RequestIds::new(0));
        let line = written(text, &Record { trace: Some(trace), ..sample() });
        let (_, trace_id) = line.rsplit_once(" trace_id=").unwrap();
        assert!(trace.to_string().starts_with(&format!("00-{trace_id}-")));
    }

    #[test]
    fn times_are_those_of_the_calendar() {
        for (seconds, time) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_399, "2000-02-28T23:59:59.000Z"),
            (951_782_400, "2000-02-29T00:00:00.000Z"),
            (951_868_800, "2000-03-01T00:00:00.000Z"),
            (1_735_689_599, "2024-12-31T23:59:59.000Z"),
            (4_107_542_400, "2100-03-01T00:00:00.000Z"),
        ] {
            let mut line = String::new();
            timestamp(UNIX_EPOCH + Duration::from_secs(seconds), &mut line);
            assert_eq!(line, time);
        }
    }
}
