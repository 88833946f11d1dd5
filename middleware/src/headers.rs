//! The `Payment-Channel-*` fields of requests and answers.

use farebox_channel::Msat;
use farebox_channel::message::Memo;
use farebox_channel::wire::{Fault, Field, Malformed, PREFIX, REQUEST_LEN_MAX, Step};
use http::header::{CACHE_CONTROL, HeaderName};
use http::{HeaderMap, HeaderValue};

/// Says that a browser fetches ahead, without a person having asked for it.
const SEC_PURPOSE: &str = "sec-purpose";

/// What the payment fields of a request say.
#[derive(Debug, Default)]
pub(crate) struct Asked {
    /// The step, if the request asks for one.
    pub(crate) step: Option<Step>,
    /// What the client has sent along.
    pub(crate) memo: Option<Memo>,
}

/// Takes the payment fields out of a request.
///
/// None of them reaches the service behind, whatever it holds.
///
/// # Errors
/// [`Malformed`] when a field cannot be read, a request asks for two steps, or all fields
/// together are too long.
pub(crate) fn take(headers: &mut HeaderMap) -> Result<Asked, Malformed> {
    let names = names(headers);
    let asked = read(headers, &names);
    for name in names {
        headers.remove(name);
    }
    asked
}

/// Returns the names of the payment fields.
fn names(headers: &HeaderMap) -> Vec<HeaderName> {
    headers.keys().filter(|name| is_ours(name)).cloned().collect()
}

fn read(headers: &HeaderMap, names: &[HeaderName]) -> Result<Asked, Malformed> {
    let ours = || {
        let values = |name| headers.get_all(name).iter().map(move |value| (name, value));
        names.iter().flat_map(values)
    };
    let length = |(name, value): (&HeaderName, &HeaderValue)| {
        name.as_str().len().saturating_add(value.len())
    };
    if ours().map(length).sum::<usize>() > REQUEST_LEN_MAX {
        return Err(Malformed { name: "payment-channel-*", fault: Fault::TooLongTogether });
    }
    let mut asked = Asked::default();
    for (name, value) in ours() {
        if name.as_str() == Memo::NAME {
            if asked.memo.is_some() {
                return Err(Malformed { name: Memo::NAME, fault: Fault::Repeated });
            }
            asked.memo = Some(Memo::decode(value.as_bytes())?);
        } else if let Some(name) = Step::NAMES.into_iter().find(|step| *step == name.as_str()) {
            if asked.step.is_some() {
                return Err(Malformed { name, fault: Fault::Repeated });
            }
            asked.step = Step::decode(name, value.as_bytes())?;
        }
    }
    Ok(asked)
}

/// Removes every payment field.
pub(crate) fn strip(headers: &mut HeaderMap) {
    for name in names(headers) {
        headers.remove(name);
    }
}

/// Removes a field, however it is spelt.
pub(crate) fn remove(headers: &mut HeaderMap, field: &HeaderName) {
    let length = field.as_str().len();
    let is_it = |name: &&HeaderName| name.as_str().len() == length && begins(name, field.as_str());
    let spelt: Vec<HeaderName> = headers.keys().filter(is_it).cloned().collect();
    for name in spelt {
        headers.remove(name);
    }
}

/// Tells whether a field is one of the payment's.
fn is_ours(name: &HeaderName) -> bool {
    begins(name, PREFIX)
}

/// Tells whether a field's name begins so, in lower case and with hyphens. Many services take an
/// underscore for a hyphen (RFC 3875 §4.1.18).
#[must_use]
pub fn begins(name: &HeaderName, beginning: &str) -> bool {
    let name = name.as_str().bytes().map(|byte| if byte == b'_' { b'-' } else { byte });
    name.take(beginning.len()).eq(beginning.bytes())
}

/// Puts a client's memo into the field where the service reads it.
pub(crate) fn hand_over(headers: &mut HeaderMap, field: &HeaderName, memo: &Memo) {
    if let Ok(value) = HeaderValue::try_from(memo.encode()) {
        headers.insert(field, value);
    }
}

/// Takes the service's memo out of its answer.
pub(crate) fn take_memo(headers: &mut HeaderMap, field: &HeaderName) -> Option<Memo> {
    let value = headers.remove(field)?;
    let memo = Memo::decode(value.as_bytes());
    if let Err(error) = &memo {
        tracing::warn!(field = %field, error = %error, "the service sends a memo that is none");
    }
    memo.ok()
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
    if let Ok(value) = HeaderValue::try_from(message.encode())
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
