//! The `Payment-Channel-*` fields of requests and answers.

use farebox_channel::Msat;
use farebox_channel::wire::{Fault, Field, Malformed, PREFIX, Step};
use http::header::{CACHE_CONTROL, HeaderName};
use http::{HeaderMap, HeaderValue};

/// Says that a browser fetches ahead, without a person having asked for it.
const SEC_PURPOSE: &str = "sec-purpose";

/// Takes the step out of a request's fields, with every other payment field.
///
/// None of them reaches the service behind, whatever it holds.
///
/// # Errors
/// [`Malformed`] when a field cannot be read, or a request asks for two steps.
pub(crate) fn take_step(headers: &mut HeaderMap) -> Result<Option<Step>, Malformed> {
    let step = read_step(headers);
    strip(headers);
    step
}

fn read_step(headers: &HeaderMap) -> Result<Option<Step>, Malformed> {
    let mut step = None;
    for name in Step::NAMES {
        for value in headers.get_all(name) {
            if step.is_some() {
                return Err(Malformed { name, fault: Fault::Repeated });
            }
            step = Step::decode(name, value.as_bytes())?;
        }
    }
    Ok(step)
}

/// Removes every payment field.
pub(crate) fn strip(headers: &mut HeaderMap) {
    let is_ours = |name: &&HeaderName| name.as_str().starts_with(PREFIX);
    let ours: Vec<HeaderName> = headers.keys().filter(is_ours).cloned().collect();
    for name in ours {
        headers.remove(name);
    }
}

/// Tells whether a browser fetches ahead: such a request is never charged.
pub(crate) fn is_prefetch(headers: &HeaderMap) -> bool {
    headers
        .get_all(SEC_PURPOSE)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .any(|value| value.contains("prefetch") || value.contains("prerender"))
}

/// Returns what a service says that its answer has used, in millisatoshi.
pub(crate) fn usage(headers: &HeaderMap, field: &HeaderName) -> Option<Msat> {
    let used = headers.get(field)?.to_str().ok()?.trim();
    let is_number = !used.is_empty() && used.bytes().all(|digit| digit.is_ascii_digit());
    let used = Some(used).filter(|_| is_number).and_then(|used| Msat::new(used.parse().ok()?).ok());
    if used.is_none() {
        tracing::warn!(field = %field, "the service reports a usage that is no amount in msat");
    }
    used
}

/// Sets the field of a message. An empty list has no field (RFC 9651 §4.1).
pub(crate) fn insert<F: Field>(headers: &mut HeaderMap, message: &F) {
    let value = message.encode();
    if let Ok(value) = HeaderValue::from_str(&value)
        && !value.is_empty()
    {
        headers.insert(HeaderName::from_static(F::NAME), value);
    }
}

/// Makes sure that no shared cache keeps a paid answer (RFC 9111 §5.2.2.7).
pub(crate) fn make_private(headers: &mut HeaderMap) {
    let is_private = |directive: &str| {
        let directive = directive.trim().to_ascii_lowercase();
        directive == "private" || directive == "no-store"
    };
    let keeps =
        |value: &HeaderValue| value.to_str().is_ok_and(|value| value.split(',').any(is_private));
    if !headers.get_all(CACHE_CONTROL).iter().any(keeps) {
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("private"));
    }
}
