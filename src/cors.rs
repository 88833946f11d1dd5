//! Cross-origin requests from browsers (Fetch standard, "CORS protocol").
//!
//! The gateway answers preflights itself, because a browser sends them without a payment, and says
//! on every answer which origins may read it. All values are made once.
//!
//! `Access-Control-Request-Private-Network` is not answered. Browsers have given that protocol up
//! for a question to the person, and a gateway does not grant a public page the way into a private
//! network on its own.

use farebox_channel::message::{
    Memo, Offer, Receipt, RefundReply, StateReply, StatusReply, TermsReply, WatchReply,
};
use farebox_channel::wire::{Field, PROBLEM, Step};
use http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE,
    ACCESS_CONTROL_REQUEST_METHOD, HeaderName, InvalidHeaderValue, ORIGIN, VARY,
};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode};

/// The beginning of the fields that are the gateway's to set.
const PREFIX: &str = "access-control-";
/// The request fields of payments: the steps, and what goes along with them.
const ALLOWED: [&str; 2] = [Memo::NAME, "idempotency-key"];
/// The answer fields of payments, and when to come back.
const EXPOSED: [&str; 10] = [
    Offer::NAME,
    TermsReply::NAME,
    RefundReply::NAME,
    WatchReply::NAME,
    StateReply::NAME,
    Receipt::NAME,
    Memo::NAME,
    StatusReply::NAME,
    PROBLEM,
    "retry-after",
];
/// What stands for any origin.
const ANY: HeaderValue = HeaderValue::from_static("*");

/// Whose pages may ask, and for what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// The origins.
    pub origins: Origins,
    /// The request fields besides the payment's.
    pub headers: Vec<HeaderName>,
    /// The answer fields besides the payment's.
    pub exposed: Vec<HeaderName>,
    /// The methods.
    pub methods: Vec<Method>,
    /// How long a browser may keep the answer to a preflight, in seconds.
    pub max_age_secs: u32,
    /// Whether cookies and the like may go along. Never with any origin.
    pub credentials: bool,
}

/// Which pages may ask, as browsers spell their origins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origins {
    /// Those of any origin, without credentials.
    Any,
    /// Those of these origins.
    These(Vec<HeaderValue>),
}

/// What is said to browsers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cors {
    origins: Origins,
    headers: HeaderValue,
    exposed: HeaderValue,
    methods: HeaderValue,
    max_age: HeaderValue,
    credentials: bool,
}

impl Cors {
    /// Makes the values of all fields.
    ///
    /// # Errors
    /// [`InvalidHeaderValue`] where a list is no value; it always is.
    pub fn new(policy: Policy) -> Result<Self, InvalidHeaderValue> {
        let named = |names: &[HeaderName], ours: &[&str]| {
            let names = names.iter().map(HeaderName::as_str).chain(ours.iter().copied());
            HeaderValue::try_from(names.collect::<Vec<_>>().join(", "))
        };
        let steps: Vec<&str> = Step::NAMES.into_iter().chain(ALLOWED).collect();
        let methods: Vec<&str> = policy.methods.iter().map(Method::as_str).collect();
        Ok(Self {
            headers: named(&policy.headers, &steps)?,
            exposed: named(&policy.exposed, &EXPOSED)?,
            methods: HeaderValue::try_from(methods.join(", "))?,
            max_age: policy.max_age_secs.into(),
            // Any origin with credentials is refused by browsers, and would be a hole.
            credentials: policy.credentials && policy.origins != Origins::Any,
            origins: policy.origins,
        })
    }

    /// Answers a preflight. Any other request is not answered here.
    ///
    /// The lists are the same for everybody: the browser compares them with what it wants. A page
    /// of another origin is answered without them.
    #[must_use]
    pub fn preflight(&self, head: &Parts) -> Option<Response<()>> {
        let origin = head.headers.get(ORIGIN)?;
        let is_preflight = head.method == Method::OPTIONS
            && head.headers.contains_key(ACCESS_CONTROL_REQUEST_METHOD);
        if !is_preflight {
            return None;
        }
        let mut response = Response::new(());
        *response.status_mut() = StatusCode::NO_CONTENT;
        let headers = response.headers_mut();
        self.vary(headers);
        if let Some(allowed) = self.allowed(Some(origin)) {
            self.allow(allowed, headers);
            headers.insert(ACCESS_CONTROL_ALLOW_METHODS, self.methods.clone());
            headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, self.headers.clone());
            headers.insert(ACCESS_CONTROL_MAX_AGE, self.max_age.clone());
        }
        Some(response)
    }

    /// Says on an answer who may read it, in the place of what the service behind said.
    ///
    /// `origin` is that of the request. Every answer is to pass here, errors too.
    pub fn decorate(&self, origin: Option<&HeaderValue>, headers: &mut HeaderMap) {
        let is_theirs = |name: &&HeaderName| name.as_str().starts_with(PREFIX);
        let theirs: Vec<HeaderName> = headers.keys().filter(is_theirs).cloned().collect();
        for name in theirs {
            headers.remove(name);
        }
        self.vary(headers);
        if let Some(allowed) = self.allowed(origin) {
            self.allow(allowed, headers);
            headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, self.exposed.clone());
        }
    }

    /// Returns the value that allows a request's origin, if it is allowed.
    ///
    /// Origins are compared byte by byte (Fetch standard, "CORS check"). Where any is allowed, it
    /// is said to requests without an origin too, because caches give one answer to both.
    fn allowed(&self, origin: Option<&HeaderValue>) -> Option<HeaderValue> {
        match &self.origins {
            Origins::Any => Some(ANY),
            Origins::These(origins) => {
                let origin = origin?;
                origins.iter().find(|allowed| *allowed == origin).cloned()
            }
        }
    }

    fn allow(&self, allowed: HeaderValue, headers: &mut HeaderMap) {
        headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, allowed);
        if self.credentials {
            headers.insert(ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
        }
    }

    /// Says that the answer depends on the origin, unless it does not, or says so already.
    fn vary(&self, headers: &mut HeaderMap) {
        let is_said = |value: &HeaderValue| {
            let mut names = value.as_bytes().split(|byte| *byte == b',').map(<[u8]>::trim_ascii);
            names.any(|name| name == b"*" || name.eq_ignore_ascii_case(b"origin"))
        };
        if self.origins != Origins::Any && !headers.get_all(VARY).iter().any(is_said) {
            headers.append(VARY, HeaderValue::from_static("origin"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const APP: HeaderValue = HeaderValue::from_static("https://app.example.com");

    fn policy(origins: Origins) -> Policy {
        Policy {
            origins,
            headers: vec![http::header::CONTENT_TYPE],
            exposed: vec![HeaderName::from_static("x-total")],
            methods: vec![Method::GET, Method::POST],
            max_age_secs: 7_200,
            credentials: false,
        }
    }

    fn app() -> Cors {
        Cors::new(policy(Origins::These(vec!["http://localhost:3000".parse().unwrap(), APP])))
            .unwrap()
    }

    fn any() -> Cors {
        Cors::new(policy(Origins::Any)).unwrap()
    }

    fn head(method: &Method, origin: &str) -> Parts {
        let request = http::Request::builder()
            .method(method)
            .uri("/paid")
            .header(ORIGIN, origin)
            .header(ACCESS_CONTROL_REQUEST_METHOD, "POST");
        request.body(()).unwrap().into_parts().0
    }

    fn names(value: &HeaderValue) -> Vec<&str> {
        value.to_str().unwrap().split(", ").collect()
    }

    #[test]
    fn a_preflight_is_answered_with_what_the_page_may_send() {
        let response = app().preflight(&head(&Method::OPTIONS, "https://app.example.com")).unwrap();

        assert_eq!(response.status(), 204);
        let headers = response.headers();
        assert_eq!(headers[ACCESS_CONTROL_ALLOW_ORIGIN], APP);
        assert_eq!(headers[VARY], "origin");
        assert_eq!(headers[ACCESS_CONTROL_MAX_AGE], "7200");
        assert_eq!(headers[ACCESS_CONTROL_ALLOW_METHODS], "GET, POST");
        assert!(!headers.contains_key(ACCESS_CONTROL_ALLOW_CREDENTIALS));
        let allowed = names(&headers[ACCESS_CONTROL_ALLOW_HEADERS]);
        let memo = "payment-channel-memo";
        for name in Step::NAMES.into_iter().chain(["content-type", "idempotency-key", memo]) {
            assert!(allowed.contains(&name), "{name}");
        }
    }

    #[test]
    fn only_a_preflight_is_answered_here() {
        assert!(app().preflight(&head(&Method::GET, "https://app.example.com")).is_none());
        let mut plain = head(&Method::OPTIONS, "https://app.example.com");
        plain.headers.remove(ACCESS_CONTROL_REQUEST_METHOD);
        assert!(app().preflight(&plain).is_none());
        let mut local = head(&Method::OPTIONS, "https://app.example.com");
        local.headers.remove(ORIGIN);
        assert!(app().preflight(&local).is_none());
    }

    #[test]
    fn a_page_of_another_origin_is_allowed_nothing() {
        let strangers = ["https://app.example.com.evil.com", "https://APP.example.com", "null"];
        for origin in strangers.into_iter().chain(["http://app.example.com", "", "*"]) {
            let response = app().preflight(&head(&Method::OPTIONS, origin)).unwrap();
            assert_eq!(response.status(), 204);
            assert_eq!(response.headers().len(), 1, "{origin}");
            assert_eq!(response.headers()[VARY], "origin");

            let mut headers = HeaderMap::new();
            app().decorate(Some(&HeaderValue::from_static(origin)), &mut headers);
            assert_eq!(headers.len(), 1, "{origin}");
        }
    }

    #[test]
    fn every_answer_says_who_may_read_it_and_which_payment_fields() {
        let mut headers = HeaderMap::new();
        app().decorate(Some(&APP), &mut headers);

        assert_eq!(headers[ACCESS_CONTROL_ALLOW_ORIGIN], APP);
        let exposed = names(&headers[ACCESS_CONTROL_EXPOSE_HEADERS]);
        for name in EXPOSED.into_iter().chain(["x-total", "payment-channel-receipt"]) {
            assert!(exposed.contains(&name), "{name}");
        }
    }

    #[test]
    fn what_the_service_says_of_origins_is_replaced_and_nothing_is_doubled() {
        let mut headers = HeaderMap::new();
        for name in ["allow-origin", "allow-credentials", "expose-headers", "anything-new"] {
            let name: HeaderName = format!("access-control-{name}").parse().unwrap();
            headers.append(name.clone(), HeaderValue::from_static("*"));
            headers.append(name, HeaderValue::from_static("true"));
        }
        headers.append(VARY, HeaderValue::from_static("accept-encoding , Origin"));
        app().decorate(Some(&APP), &mut headers);

        assert_eq!(headers.get_all(ACCESS_CONTROL_ALLOW_ORIGIN).iter().count(), 1);
        assert_eq!(headers[ACCESS_CONTROL_ALLOW_ORIGIN], APP);
        assert!(!headers.contains_key(ACCESS_CONTROL_ALLOW_CREDENTIALS));
        assert!(!headers.contains_key("access-control-anything-new"));
        assert_eq!(headers.get_all(VARY).iter().count(), 1);

        headers.insert(VARY, HeaderValue::from_static("accept"));
        app().decorate(None, &mut headers);
        assert_eq!(headers.get_all(VARY).iter().collect::<Vec<_>>(), ["accept", "origin"]);
        assert!(!headers.contains_key(ACCESS_CONTROL_ALLOW_ORIGIN));
    }

    #[test]
    fn where_any_origin_may_ask_the_answer_is_the_same_for_all() {
        let (mut with, mut without) = (HeaderMap::new(), HeaderMap::new());
        any().decorate(Some(&HeaderValue::from_static("null")), &mut with);
        any().decorate(None, &mut without);

        assert_eq!(with, without);
        assert_eq!(with[ACCESS_CONTROL_ALLOW_ORIGIN], "*");
        assert!(!with.contains_key(VARY));
    }

    #[test]
    fn credentials_are_allowed_to_named_origins_and_never_to_any() {
        let policy = |origins| Policy { credentials: true, ..policy(origins) };
        for (origins, allows) in [(Origins::These(vec![APP]), true), (Origins::Any, false)] {
            let cors = Cors::new(policy(origins)).unwrap();
            let mut headers = HeaderMap::new();
            cors.decorate(Some(&APP), &mut headers);
            assert_eq!(headers.contains_key(ACCESS_CONTROL_ALLOW_CREDENTIALS), allows);
            let response = cors.preflight(&head(&Method::OPTIONS, "https://app.example.com"));
            let allowed =
                response.unwrap().headers().contains_key(ACCESS_CONTROL_ALLOW_CREDENTIALS);
            assert_eq!(allowed, allows);
        }
    }
}
