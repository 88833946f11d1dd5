//! A request's place in a trace, as W3C Trace Context (Level 1) writes it.
//!
//! Where requests are traced, a valid `traceparent` becomes the parent of the gateway's own span,
//! and what goes on to the service names that span. One that cannot be read begins a new trace, and
//! its `tracestate` goes, because it belongs to it (§3.3, §4.3). Where requests are not traced,
//! nobody calls this and both fields pass as they are: a gateway that takes no part in a trace must
//! not break it.

use std::fmt;

use http::header::HeaderName;
use http::{HeaderMap, HeaderValue};

use super::id::RequestIds;

/// The field with the trace and the span that has asked.
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
/// The field in which tracing systems keep their own notes.
const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");
/// The length of a `traceparent` of version 00.
const PARENT_LEN: usize = 55;
/// The most members of a `tracestate` (§3.3.1.1).
const STATE_MEMBERS_MAX: usize = 32;
/// The longest `tracestate` that is passed on, in bytes (§3.3.1.5 asks for 512).
const STATE_LEN_MAX: usize = 2_048;
/// The flag that says that the caller records the trace.
const SAMPLED: u8 = 1;

/// A request's place in a trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TraceContext {
    /// The trace.
    pub(crate) trace_id: [u8; 16],
    /// The gateway's own span.
    pub(crate) span_id: [u8; 8],
    /// The span that has asked, if it has said so.
    pub(crate) parent_id: Option<[u8; 8]>,
    /// Whether the gateway's span is recorded.
    pub(crate) is_sampled: bool,
}

/// The share of the requests that is recorded.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Sample(f64);

impl Sample {
    /// Makes a share, from 0 to 1.
    pub(crate) fn new(share: f64) -> Option<Self> {
        (0.0..=1.0).contains(&share).then_some(Self(share))
    }

    /// Tells whether a request with this random number is one of them.
    fn takes(self, number: u64) -> bool {
        /// 2⁵³: so many numbers below 1 a float tells apart evenly.
        const RANGE: f64 = 9_007_199_254_740_992.0;
        let high = u32::try_from(number >> 32).unwrap_or(u32::MAX);
        let low = u32::try_from((number >> 11) & 0x1f_ffff).unwrap_or(0);
        let place = (f64::from(high) * 2_097_152.0 + f64::from(low)) / RANGE;
        place < self.0
    }
}

impl TraceContext {
    /// Begins the gateway's part of a trace.
    ///
    /// A caller that does not record is followed. One that does is recorded as often as any other
    /// request, so that strangers cannot have more recorded than the operator wants.
    pub(crate) fn begin(headers: &HeaderMap, sample: Sample, ids: &RequestIds) -> Self {
        let parent = Parent::of(headers);
        let takes = sample.takes(ids.random());
        let span_id = (ids.random() | 1).to_be_bytes();
        match parent {
            Some(parent) => Self {
                trace_id: parent.trace_id,
                span_id,
                parent_id: Some(parent.span_id),
                is_sampled: parent.is_sampled && takes,
            },
            None => {
                let high = u128::from(ids.random()) << 64;
                let trace_id = (high | u128::from(ids.random() | 1)).to_be_bytes();
                Self { trace_id, span_id, parent_id: None, is_sampled: takes }
            }
        }
    }

    /// Names the gateway's span to the service behind. Notes of other tracing systems pass only
    /// with the trace that they belong to.
    pub(crate) fn hand_over(&self, headers: &mut HeaderMap) {
        if let Ok(value) = HeaderValue::try_from(self.to_string()) {
            headers.insert(TRACEPARENT, value);
        }
        if self.parent_id.is_none() || !is_state(headers) {
            headers.remove(TRACESTATE);
        }
    }
}

impl fmt::Display for TraceContext {
    /// Writes a `traceparent` of version 00.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let trace_id = u128::from_be_bytes(self.trace_id);
        let span_id = u64::from_be_bytes(self.span_id);
        write!(f, "00-{trace_id:032x}-{span_id:016x}-{:02x}", u8::from(self.is_sampled))
    }
}

/// What a caller says of its trace.
struct Parent {
    trace_id: [u8; 16],
    span_id: [u8; 8],
    is_sampled: bool,
}

impl Parent {
    /// Returns what the fields say. Two of them are none (§4.3).
    fn of(headers: &HeaderMap) -> Option<Self> {
        let mut fields = headers.get_all(TRACEPARENT).iter();
        let (field, None) = (fields.next()?, fields.next()) else { return None };
        Self::parse(field.as_bytes())
    }

    /// Reads a field (§3.2.2). A later version is read as far as it begins like this one (§3.2.4).
    fn parse(field: &[u8]) -> Option<Self> {
        let (known, rest) = field.split_at_checked(PARENT_LEN)?;
        let mut parts = known.split(|byte| *byte == b'-');
        let [version] = bytes(parts.next()?)?;
        let trace_id: [u8; 16] = bytes(parts.next()?)?;
        let span_id: [u8; 8] = bytes(parts.next()?)?;
        let [flags] = bytes(parts.next()?)?;
        let is_whole = match version {
            0 => rest.is_empty(),
            0xff => false,
            _ => rest.first().is_none_or(|byte| *byte == b'-'),
        };
        let is_named = trace_id != [0; 16] && span_id != [0; 8] && parts.next().is_none();
        let is_sampled = flags & SAMPLED != 0;
        (is_whole && is_named).then_some(Self { trace_id, span_id, is_sampled })
    }
}

/// Reads lower-case hexadecimal digits, exactly as many as there are bytes.
fn bytes<const N: usize>(digits: &[u8]) -> Option<[u8; N]> {
    let mut bytes = [0; N];
    if digits.len() != N.checked_mul(2)? {
        return None;
    }
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        let [high, low] = pair else { return None };
        *byte = (digit(*high)? << 4) | digit(*low)?;
    }
    Some(bytes)
}

/// Reads one lower-case hexadecimal digit.
const fn digit(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit.wrapping_sub(b'0')),
        b'a'..=b'f' => Some(digit.wrapping_sub(b'a').wrapping_add(10)),
        _ => None,
    }
}

/// Tells whether the `tracestate` can be read as a list (§3.3.1). One that cannot is not passed on.
fn is_state(headers: &HeaderMap) -> bool {
    let (mut members, mut length) = (0_usize, 0_usize);
    for field in headers.get_all(TRACESTATE) {
        let Ok(text) = field.to_str() else { return false };
        length = length.saturating_add(text.len());
        for member in text.split(',').map(|member| member.trim_matches([' ', '\t'])) {
            if member.is_empty() {
                continue;
            }
            members = members.saturating_add(1);
            if !is_member(member) {
                return false;
            }
        }
    }
    (1..=STATE_MEMBERS_MAX).contains(&members) && length <= STATE_LEN_MAX
}

/// Tells whether a member is a key and a value (§3.3.1.3).
fn is_member(member: &str) -> bool {
    let Some((key, value)) = member.split_once('=') else { return false };
    let is_key = key.len() <= 256
        && key.starts_with(|first: char| first.is_ascii_lowercase() || first.is_ascii_digit())
        && key.bytes().all(|byte| {
            byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"_-*/@".contains(&byte)
        });
    let is_value = (1..=256).contains(&value.len())
        && !value.contains('=')
        && value.bytes().all(|byte| (0x20..=0x7e).contains(&byte));
    is_key && is_value
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    fn headers(parent: &str, state: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(TRACEPARENT, HeaderValue::from_str(parent).unwrap());
        headers.insert(TRACESTATE, HeaderValue::from_str(state).unwrap());
        headers
    }

    fn begun(headers: &HeaderMap, share: f64) -> TraceContext {
        TraceContext::begin(headers, Sample::new(share).unwrap(), &RequestIds::new(0))
    }

    #[test]
    fn a_caller_is_the_parent_and_the_service_is_told_the_own_span() {
        let mut headers = headers(GOOD, "vendor=note, other@x=1");
        let context = begun(&headers, 1.0);
        assert_eq!(context.parent_id, Some([0xb7, 0xad, 0x6b, 0x71, 0x69, 0x20, 0x33, 0x31]));
        context.hand_over(&mut headers);
        let told = headers.get(TRACEPARENT).unwrap().to_str().unwrap();
        assert!(told.starts_with("00-0af7651916cd43dd8448eb211c80319c-"), "{told}");
        assert!(!told.contains("b7ad6b7169203331") && told.ends_with("-01"), "{told}");
        assert_eq!(headers.get(TRACESTATE).unwrap(), "vendor=note, other@x=1");
    }

    #[test]
    fn a_field_that_cannot_be_read_begins_a_new_trace_without_its_state() {
        for bad in [
            "00-0AF7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-0",
            "00-0af7651916cd43dd8448eb211c80319c0b7ad6b7169203331-01",
            "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "01-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01x",
            "0g-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "",
        ] {
            let mut headers = headers(bad, "vendor=note");
            let context = begun(&headers, 1.0);
            assert_eq!(context.parent_id, None, "{bad}");
            context.hand_over(&mut headers);
            assert!(!headers.contains_key(TRACESTATE), "{bad}");
            let told = headers.get(TRACEPARENT).unwrap().to_str().unwrap();
            assert!(Parent::parse(told.as_bytes()).is_some(), "{told}");
        }
    }

    #[test]
    fn two_parents_are_none() {
        let mut headers = headers(GOOD, "vendor=note");
        headers.append(TRACEPARENT, HeaderValue::from_static(GOOD));
        assert_eq!(begun(&headers, 1.0).parent_id, None);
    }

    #[test]
    fn a_later_version_is_read_as_far_as_it_is_known() {
        let later = "cc-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-what";
        let context = begun(&headers(later, "vendor=note"), 1.0);
        assert!(context.parent_id.is_some());
        assert!(context.to_string().starts_with("00-0af7651916cd43dd8448eb211c80319c-"));
    }

    #[test]
    fn notes_that_cannot_be_read_go_and_the_trace_stays() {
        for bad in ["vendor", "Vendor=x", "vendor=a=b", "=x", "vendor=", ","] {
            let mut headers = headers(GOOD, bad);
            begun(&headers, 1.0).hand_over(&mut headers);
            assert!(!headers.contains_key(TRACESTATE), "{bad}");
            assert!(headers.contains_key(TRACEPARENT), "{bad}");
        }
    }

    #[test]
    fn a_caller_that_does_not_record_is_followed_and_one_that_does_gets_no_more_than_the_share() {
        let unrecorded = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00";
        assert!(!begun(&headers(unrecorded, "a=b"), 1.0).is_sampled);
        assert!(!begun(&headers(GOOD, "a=b"), 0.0).is_sampled);
        let ids = RequestIds::new(0);
        let sample = Sample::new(0.25).unwrap();
        let headers = HeaderMap::new();
        let sampled =
            (0..10_000).filter(|_| TraceContext::begin(&headers, sample, &ids).is_sampled).count();
        assert!((2_200..2_800).contains(&sampled), "{sampled}");
    }

    #[test]
    fn a_share_is_between_none_and_all() {
        assert!(Sample::new(1.1).is_none() && Sample::new(-0.1).is_none());
        assert!(Sample::new(f64::NAN).is_none());
    }
}
