//! gRPC: what its clients read of an answer, and how its services say that they have failed.
//!
//! A client of gRPC acts on `grpc-status` and reads no document. So a problem is told to it in fields
//! alone, by an answer that has no body: `Trailers-Only` (gRPC over HTTP/2, "Responses").

use http::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderName};
use http::{HeaderMap, HeaderValue, Response, StatusCode};

use crate::problem::Problem;

/// The content type of gRPC; what follows says how messages are written.
const TYPE: &str = "application/grpc";
const STATUS: HeaderName = HeaderName::from_static("grpc-status");
const MESSAGE: HeaderName = HeaderName::from_static("grpc-message");
/// How long a client gives a call.
const TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");
/// When to try again, for clients that do so by themselves (gRFC A6).
const PUSHBACK: HeaderName = HeaderName::from_static("grpc-retry-pushback-ms");

const UNKNOWN: u16 = 2;
const INVALID_ARGUMENT: u16 = 3;
const DEADLINE_EXCEEDED: u16 = 4;
const RESOURCE_EXHAUSTED: u16 = 8;
const FAILED_PRECONDITION: u16 = 9;
const ABORTED: u16 = 10;
const UNIMPLEMENTED: u16 = 12;
const INTERNAL: u16 = 13;
const UNAVAILABLE: u16 = 14;
const DATA_LOSS: u16 = 15;

/// Tells whether a message is one of gRPC. What pages send (`application/grpc-web`) is not: it has
/// no fields but those of the head.
#[must_use]
pub fn is_grpc(headers: &HeaderMap) -> bool {
    let content_type = headers.get(CONTENT_TYPE).map_or(&b""[..], HeaderValue::as_bytes);
    let Some((name, rest)) = content_type.split_at_checked(TYPE.len()) else { return false };
    name.eq_ignore_ascii_case(TYPE.as_bytes()) && matches!(rest.first(), None | Some(b'+' | b';'))
}

/// Tells whether a client has set a deadline, by the head of its request.
pub(crate) fn has_deadline(headers: &HeaderMap) -> bool {
    headers.contains_key(TIMEOUT)
}

/// Makes of an answer that tells a [`Problem`] one that clients of gRPC read: with status 200, the
/// same fields, and the problem in fields in the place of the document. Any other answer stays as it
/// is.
#[must_use]
pub fn in_grpc<B>(mut response: Response<B>, empty: B) -> Response<B> {
    let Some(problem) = response.extensions_mut().remove::<Problem>() else { return response };
    *response.status_mut() = StatusCode::OK;
    let headers = response.headers_mut();
    headers.remove(CONTENT_LENGTH);
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(TYPE));
    tell(&problem, headers);
    response.map(|_document| empty)
}

/// Puts a problem among the fields of a head, or of trailers.
pub(crate) fn tell(problem: &Problem, fields: &mut HeaderMap) {
    fields.insert(STATUS, code(problem.kind.status()).into());
    if let Ok(message) = HeaderValue::try_from(escaped(&problem.detail)) {
        fields.insert(MESSAGE, message);
    }
    problem.put_field(fields);
    if let Some(secs) = problem.retry_after_secs() {
        let millis = u64::from(secs.get()).saturating_mul(1_000);
        fields.insert(PUSHBACK, i32::try_from(millis).unwrap_or(i32::MAX).into());
    }
}

/// Tells whether a service says in these fields, of a head or of trailers, that it has failed: what
/// it would say by 5xx if it did not speak gRPC.
pub(crate) fn has_failed(fields: &HeaderMap) -> bool {
    let told = fields.get(STATUS).and_then(|code| code.to_str().ok()?.parse().ok());
    told.is_some_and(|code: u16| {
        matches!(
            code,
            UNKNOWN | DEADLINE_EXCEEDED | UNIMPLEMENTED | INTERNAL | UNAVAILABLE | DATA_LOSS
        )
    })
}

/// Tells whether a service says by the head of its answer that it could do nothing: by 5xx, or where it
/// speaks gRPC by the one status that a client cannot bring about by what it sends, or by its deadline.
pub(crate) fn could_do_nothing<B>(response: &Response<B>) -> bool {
    response.status().is_server_error() || is_unavailable(response.headers())
}

fn is_unavailable(fields: &HeaderMap) -> bool {
    let told = fields.get(STATUS).and_then(|code| code.to_str().ok()?.parse().ok());
    told.is_some_and(|code: u16| code == UNAVAILABLE)
}

/// Returns the status of gRPC that has a client do what the status of a problem does.
fn code(status: StatusCode) -> u16 {
    match status {
        StatusCode::BAD_REQUEST | StatusCode::UNPROCESSABLE_ENTITY => INVALID_ARGUMENT,
        // Something is to be put right before it is asked again: to pay, or to open a channel.
        StatusCode::PAYMENT_REQUIRED | StatusCode::GONE => FAILED_PRECONDITION,
        StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED => UNIMPLEMENTED,
        StatusCode::REQUEST_TIMEOUT | StatusCode::GATEWAY_TIMEOUT => DEADLINE_EXCEEDED,
        StatusCode::CONFLICT => ABORTED,
        StatusCode::PAYLOAD_TOO_LARGE
        | StatusCode::TOO_MANY_REQUESTS
        | StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE => RESOURCE_EXHAUSTED,
        // Clients ask again by themselves.
        StatusCode::BAD_GATEWAY | StatusCode::SERVICE_UNAVAILABLE => UNAVAILABLE,
        _ => INTERNAL,
    }
}

/// Writes a message as its field has it (gRPC over HTTP/2, "Percent-Encoded").
fn escaped(message: &str) -> String {
    let escape = |byte: u8| match byte {
        b' '..=b'~' if byte != b'%' => char::from(byte).to_string(),
        _ => format!("%{byte:02X}"),
    };
    message.bytes().map(escape).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::problem::ProblemKind;

    fn asks(content_type: &'static str) -> bool {
        let value = HeaderValue::from_static(content_type);
        is_grpc(&HeaderMap::from_iter([(CONTENT_TYPE, value)]))
    }

    #[test]
    fn grpc_is_told_by_its_content_type() {
        for grpc in ["application/grpc", "application/grpc+proto", "Application/gRPC;x=y"] {
            assert!(asks(grpc), "{grpc}");
        }
        for other in ["application/grpc-web", "application/grpc-web+proto", "application/grp", ""] {
            assert!(!asks(other), "{other}");
        }
        assert!(!is_grpc(&HeaderMap::new()));
    }

    #[test]
    fn messages_are_percent_encoded() {
        assert_eq!(escaped("1 sat: 100% of it~"), "1 sat: 100%25 of it~");
        assert_eq!(escaped("a\nb\u{7f}ü"), "a%0Ab%7F%C3%BC");
    }

    #[test]
    fn no_problem_is_told_as_if_the_gateway_were_broken() {
        for kind in ProblemKind::ALL {
            assert_ne!(code(kind.status()), INTERNAL, "{kind:?}");
        }
    }
}
