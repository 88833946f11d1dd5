//! Errors as RFC 9457 problem documents: the only place with status codes.

use std::num::NonZeroU32;

use bytes::Bytes;
use farebox_channel::message::Receipt;
use farebox_channel::wire::{PROBLEM, PROBLEM_PREFIX};
use http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderName, RETRY_AFTER};
use http::{HeaderMap, HeaderValue, Response, StatusCode};
use serde_json::{Map, Value, json};

use crate::headers::insert;

/// When to try again what is not possible now, in seconds.
const RETRY_AFTER_SECS: NonZeroU32 = NonZeroU32::MIN.saturating_add(4);

/// What kind of problem it is. Kinds are stable: clients act on them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProblemKind {
    /// The request has no payment.
    PaymentRequired,
    /// A field cannot be read.
    Malformed,
    /// The kind of contract is not offered.
    KindNotOffered,
    /// The capacity is outside the offer.
    CapacityOutOfBounds,
    /// The lifetime or expiry is outside the offer.
    ExpiryOutOfBounds,
    /// The shown output is not the contract.
    ContractMismatch,
    /// The contract's id could change.
    ContractNotSegwit,
    /// The contract may not be mined yet.
    ContractNotFinal,
    /// The contract is spent or not to be found.
    ContractSpent,
    /// The node does not take the contract.
    ContractRefused,
    /// The signature is not the client's.
    SignatureInvalid,
    /// More is paid than the channel holds.
    BeyondCapacity,
    /// The client is left with less than dust.
    ChangeBelowDust,
    /// The first payment is too small.
    FirstPaymentTooSmall,
    /// The pass is not the channel's.
    WrongPass,
    /// The proof does not show the channel's key.
    WrongProof,
    /// The request costs more than its client agrees to.
    PriceRaised,
    /// The credit does not pay the price.
    Underpaid,
    /// The record is from a backup.
    ChannelRestored,
    /// The contract is not confirmed enough.
    ChannelPending,
    /// The contract confirmed too late.
    ChannelLate,
    /// The expiry is too near.
    ChannelExpiring,
    /// A settlement is on its way.
    ChannelClosing,
    /// The channel has ended.
    ChannelEnded,
    /// No such channel is on record.
    ChannelUnknown,
    /// The final payment is out of bounds.
    FinalOutOfBounds,
    /// A request of this name is under way.
    RequestUnderWay,
    /// The request of this name was answered.
    RequestAnswered,
    /// The name is another request's.
    KeyReused,
    /// The node is away or busy.
    NodeUnavailable,
    /// The store failed.
    StoreUnavailable,
    /// The service behind the gateway does not answer.
    UpstreamUnavailable,
    /// What the request costs is not known now.
    PriceUnavailable,
    /// Nothing is served here.
    NotFound,
    /// The client asks too much.
    TooManyRequests,
    /// All clients together ask too much.
    Overloaded,
    /// The request's body is too long.
    BodyTooLarge,
    /// The request does not arrive in time.
    RequestTimeout,
    /// Other methods are served here.
    MethodNotAllowed,
    /// The path could be read as a different one.
    BadPath,
    /// The gateway stops.
    Stopping,
}

impl ProblemKind {
    /// Every kind.
    pub const ALL: [Self; 41] = [
        Self::PaymentRequired,
        Self::Malformed,
        Self::KindNotOffered,
        Self::CapacityOutOfBounds,
        Self::ExpiryOutOfBounds,
        Self::ContractMismatch,
        Self::ContractNotSegwit,
        Self::ContractNotFinal,
        Self::ContractSpent,
        Self::ContractRefused,
        Self::SignatureInvalid,
        Self::BeyondCapacity,
        Self::ChangeBelowDust,
        Self::FirstPaymentTooSmall,
        Self::WrongPass,
        Self::WrongProof,
        Self::PriceRaised,
        Self::Underpaid,
        Self::ChannelRestored,
        Self::ChannelPending,
        Self::ChannelLate,
        Self::ChannelExpiring,
        Self::ChannelClosing,
        Self::ChannelEnded,
        Self::ChannelUnknown,
        Self::FinalOutOfBounds,
        Self::RequestUnderWay,
        Self::RequestAnswered,
        Self::KeyReused,
        Self::NodeUnavailable,
        Self::StoreUnavailable,
        Self::UpstreamUnavailable,
        Self::PriceUnavailable,
        Self::NotFound,
        Self::TooManyRequests,
        Self::Overloaded,
        Self::BodyTooLarge,
        Self::RequestTimeout,
        Self::MethodNotAllowed,
        Self::BadPath,
        Self::Stopping,
    ];

    /// Returns the name at the end of the problem type, and the title.
    const fn words(self) -> (&'static str, &'static str) {
        match self {
            Self::PaymentRequired => ("payment-required", "This request costs money"),
            Self::Malformed => ("malformed", "A header field cannot be read"),
            Self::KindNotOffered => ("kind-not-offered", "This kind of contract is not offered"),
            Self::CapacityOutOfBounds => ("capacity-out-of-bounds", "The capacity is not offered"),
            Self::ExpiryOutOfBounds => ("expiry-out-of-bounds", "The expiry is not offered"),
            Self::ContractMismatch => ("contract-mismatch", "The output is not the contract"),
            Self::ContractNotSegwit => ("contract-not-segwit", "The contract's id could change"),
            Self::ContractNotFinal => ("contract-not-final", "The contract may not be mined yet"),
            Self::ContractSpent => ("contract-spent", "The contract is spent or was never there"),
            Self::ContractRefused => ("contract-refused", "The node does not take the contract"),
            Self::SignatureInvalid => ("signature-invalid", "The payment's signature is wrong"),
            Self::BeyondCapacity => ("beyond-capacity", "More is paid than the channel holds"),
            Self::ChangeBelowDust => ("change-below-dust", "The change is below dust"),
            Self::FirstPaymentTooSmall => ("first-payment", "The first payment is too small"),
            Self::WrongPass => ("wrong-pass", "The pass is not the channel's"),
            Self::WrongProof => ("wrong-proof", "The proof does not show the channel's key"),
            Self::PriceRaised => ("price-raised", "The request costs more than was agreed to"),
            Self::Underpaid => ("underpaid", "The credit does not pay the price"),
            Self::ChannelRestored => ("channel-restored", "The record is from a backup"),
            Self::ChannelPending => ("channel-pending", "The contract is not confirmed yet"),
            Self::ChannelLate => ("channel-late", "The contract confirmed too late"),
            Self::ChannelExpiring => ("channel-expiring", "The channel expires too soon"),
            Self::ChannelClosing => ("channel-closing", "The channel is closing"),
            Self::ChannelEnded => ("channel-ended", "The channel has ended"),
            Self::ChannelUnknown => ("channel-unknown", "No such channel is on record"),
            Self::FinalOutOfBounds => ("final-out-of-bounds", "The final payment is out of bounds"),
            Self::RequestUnderWay => ("request-under-way", "This request is under way"),
            Self::RequestAnswered => ("request-answered", "This request was answered"),
            Self::KeyReused => ("key-reused", "The Idempotency-Key is another request's"),
            Self::NodeUnavailable => ("node-unavailable", "The chain cannot be asked now"),
            Self::StoreUnavailable => ("store-unavailable", "Payments cannot be recorded now"),
            Self::UpstreamUnavailable => ("upstream-unavailable", "The service does not answer"),
            Self::PriceUnavailable => ("price-unavailable", "The price is not known now"),
            Self::NotFound => ("not-found", "Nothing is served here"),
            Self::TooManyRequests => ("too-many-requests", "There are too many requests"),
            Self::Overloaded => ("overloaded", "The gateway has too much to do"),
            Self::BodyTooLarge => ("body-too-large", "The request's body is too long"),
            Self::RequestTimeout => ("request-timeout", "The request took too long to arrive"),
            Self::MethodNotAllowed => ("method-not-allowed", "Other methods are served here"),
            Self::BadPath => ("bad-path", "The path could be read as a different one"),
            Self::Stopping => ("stopping", "The gateway stops"),
        }
    }

    /// Returns its short name: the end of the problem type.
    #[must_use]
    pub const fn name(self) -> &'static str {
        self.words().0
    }

    /// Returns the problem type.
    #[must_use]
    pub fn type_uri(self) -> String {
        format!("{PROBLEM_PREFIX}{}", self.name())
    }

    /// Returns the status: 402 to pay differently, 409 and 410 for a channel on its way out or
    /// gone, 400 for what cannot be read, 429 for what is too much, 503 for what is not possible
    /// now.
    #[must_use]
    pub const fn status(self) -> StatusCode {
        match self {
            Self::PaymentRequired
            | Self::KindNotOffered
            | Self::CapacityOutOfBounds
            | Self::ExpiryOutOfBounds
            | Self::ContractMismatch
            | Self::ContractNotSegwit
            | Self::ContractNotFinal
            | Self::ContractSpent
            | Self::ContractRefused
            | Self::SignatureInvalid
            | Self::BeyondCapacity
            | Self::ChangeBelowDust
            | Self::FirstPaymentTooSmall
            | Self::WrongPass
            | Self::WrongProof
            | Self::PriceRaised
            | Self::Underpaid
            | Self::ChannelRestored
            | Self::FinalOutOfBounds => StatusCode::PAYMENT_REQUIRED,
            Self::Malformed | Self::BadPath => StatusCode::BAD_REQUEST,
            Self::ChannelClosing
            | Self::ChannelExpiring
            | Self::ChannelLate
            | Self::RequestUnderWay
            | Self::RequestAnswered => StatusCode::CONFLICT,
            Self::KeyReused => StatusCode::UNPROCESSABLE_ENTITY,
            Self::ChannelEnded | Self::ChannelUnknown => StatusCode::GONE,
            Self::ChannelPending
            | Self::NodeUnavailable
            | Self::StoreUnavailable
            | Self::PriceUnavailable
            | Self::Overloaded
            | Self::Stopping => StatusCode::SERVICE_UNAVAILABLE,
            Self::UpstreamUnavailable => StatusCode::BAD_GATEWAY,
            Self::NotFound => StatusCode::NOT_FOUND,
            Self::TooManyRequests => StatusCode::TOO_MANY_REQUESTS,
            Self::BodyTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::RequestTimeout => StatusCode::REQUEST_TIMEOUT,
            Self::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
        }
    }
}

/// An error that is told to the client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The kind.
    pub kind: ProblemKind,
    /// What is wrong this time.
    pub detail: String,
    /// Figures for programs.
    members: Map<String, Value>,
    /// The receipt of an earlier charge, or of one that stays.
    receipt: Option<Receipt>,
    /// When to try again.
    retry_after_secs: Option<NonZeroU32>,
}

impl Problem {
    /// Makes a problem of a kind.
    #[must_use]
    pub fn new(kind: ProblemKind, detail: impl Into<String>) -> Self {
        let (members, detail) = (Map::new(), detail.into());
        Self { kind, detail, members, receipt: None, retry_after_secs: None }
    }

    /// Says in how many seconds to try again (RFC 9110 §10.2.3). A 503 says 5 s by itself.
    #[must_use]
    pub fn retry_after(self, secs: NonZeroU32) -> Self {
        Self { retry_after_secs: Some(secs), ..self }
    }

    /// Adds the receipt of an earlier charge, or of one that stays.
    pub(crate) fn with_receipt(self, receipt: Receipt) -> Self {
        Self { receipt: Some(receipt), ..self }
    }

    /// Adds a figure.
    pub(crate) fn with(mut self, name: &str, value: u64) -> Self {
        self.members.insert(name.to_owned(), value.into());
        self
    }

    /// Returns when to try again, in seconds. What is not possible now may be so soon.
    pub(crate) fn retry_after_secs(&self) -> Option<NonZeroU32> {
        let is_passing = self.kind.status() == StatusCode::SERVICE_UNAVAILABLE;
        self.retry_after_secs.or_else(|| is_passing.then_some(RETRY_AFTER_SECS))
    }

    /// Puts the document without its words among fields of a head, or of trailers.
    pub(crate) fn put_field(&self, fields: &mut HeaderMap) {
        if let Ok(value) = HeaderValue::try_from(self.field()) {
            fields.insert(HeaderName::from_static(PROBLEM), value);
        }
    }

    /// Returns it as such a field (RFC 9651).
    fn field(&self) -> String {
        let (kind, status) = (self.kind.type_uri(), self.kind.status().as_u16());
        let figure = |(name, figure): (&String, &Value)| format!(", {name}={figure}");
        let figures: String = self.members.iter().map(figure).collect();
        format!("type=\"{kind}\", status={status}{figures}")
    }

    /// Returns the answer, with the document as its body. Whoever stands before finds the problem
    /// and its kind among its extensions.
    #[must_use]
    pub fn response(&self) -> Response<Bytes> {
        let status = self.kind.status();
        let mut document = json!({
            "type": self.kind.type_uri(),
            "title": self.kind.words().1,
            "status": status.as_u16(),
            "detail": self.detail,
        });
        if let Some(object) = document.as_object_mut() {
            object.extend(self.members.clone());
        }
        let mut response = Response::new(Bytes::from(document.to_string()));
        *response.status_mut() = status;
        response.extensions_mut().insert(self.kind);
        response.extensions_mut().insert(self.clone());
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        // An answer to HEAD has no document.
        self.put_field(headers);
        if let Some(receipt) = &self.receipt {
            insert(headers, receipt);
        }
        if let Some(secs) = self.retry_after_secs() {
            headers.insert(RETRY_AFTER, secs.get().into());
        }
        response
    }
}
