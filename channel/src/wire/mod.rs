//! Messages as `Payment-Channel-*` header fields (RFC 9651).
//!
//! Amounts named `price`, `spent` and `credit` are in millisatoshi, all others in satoshi; times
//! are Unix seconds; binary values are Byte Sequences. `docs/protocol.md` has every field.

mod entries;
mod fields;
mod opening;
mod paying;

use thiserror::Error;

use crate::message::{
    CloseRequest, ContractRequest, OpenRequest, PayRequest, StatusRequest, WatchRequest,
};
use crate::refund::RefundRequest;

/// The greatest length of one field's value in bytes.
pub const FIELD_LEN_MAX: usize = 6 * 1024;
/// The greatest length of all payment fields of one request in bytes, with their names.
pub const REQUEST_LEN_MAX: usize = 8 * 1024;
/// The beginning of every field's name.
pub const PREFIX: &str = "payment-channel-";

/// Where every step works, and where no request is charged (RFC 8615).
pub const WELL_KNOWN: &str = "/.well-known/payment-channel";
/// The beginning of every problem type (RFC 9457).
pub const PROBLEM_PREFIX: &str = "urn:farebox:problem:";
/// The field that tells a problem without its document.
pub const PROBLEM: &str = "payment-channel-problem";

/// Reads the type of the problem that a [`PROBLEM`] field tells.
///
/// # Errors
/// [`Malformed`] says what is wrong with the field.
pub fn problem_type(value: &[u8]) -> Result<String, Malformed> {
    fields::read(PROBLEM, value, |reader| reader.string("type").map(str::to_owned))
}

/// A field that does not say what its name promises.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{name}: {fault}")]
pub struct Malformed {
    /// The field's name.
    pub name: &'static str,
    /// What is wrong.
    pub fault: Fault,
}

/// What is wrong with a field.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Fault {
    /// The value is too long.
    #[error("longer than {FIELD_LEN_MAX} bytes")]
    TooLong,
    /// All payment fields of a request are too long.
    #[error("together longer than {REQUEST_LEN_MAX} bytes")]
    TooLongTogether,
    /// The value is no structured field.
    #[error("not a structured field (RFC 9651): {0}")]
    Syntax(String),
    /// The request asks for another step too, or for this one twice.
    #[error("a request has this field once, and asks for one step only")]
    Repeated,
    /// A required key is missing.
    #[error("`{0}` is missing")]
    Missing(&'static str),
    /// A value is of another type.
    #[error("`{key}` is not {expected}")]
    Type {
        /// The key.
        key: &'static str,
        /// What stands there in good fields.
        expected: &'static str,
    },
    /// A value is of the right type and still none.
    #[error("`{key}`: {reason}")]
    Value {
        /// The key.
        key: &'static str,
        /// Why it is none.
        reason: String,
    },
}

/// A message with a header field of its own.
pub trait Field: Sized {
    /// The field's name in lower case.
    const NAME: &'static str;

    /// Returns the field's value.
    fn encode(&self) -> String;

    /// Reads a field's value.
    ///
    /// # Errors
    /// [`Malformed`] says what is wrong with it.
    fn decode(value: &[u8]) -> Result<Self, Malformed>;
}

/// What a client asks for with one request: at most one of these.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Asks for terms.
    Open(OpenRequest),
    /// Asks for the refund's signature.
    Refund(RefundRequest),
    /// Asks whether the contract's address was paid.
    Watch(WatchRequest),
    /// Shows the contract.
    Contract(Box<ContractRequest>),
    /// Pays for the request.
    Pay(PayRequest),
    /// Asks what is on record.
    Status(StatusRequest),
    /// Closes the channel.
    Close(CloseRequest),
}

impl Step {
    /// The names of the fields that ask for a step.
    pub const NAMES: [&'static str; 7] = [
        OpenRequest::NAME,
        RefundRequest::NAME,
        WatchRequest::NAME,
        ContractRequest::NAME,
        PayRequest::NAME,
        StatusRequest::NAME,
        CloseRequest::NAME,
    ];

    /// Reads the step that the field `name` asks for, or nothing if it asks for none.
    ///
    /// # Errors
    /// [`Malformed`] says what is wrong with the field.
    pub fn decode(name: &str, value: &[u8]) -> Result<Option<Self>, Malformed> {
        Ok(Some(match name {
            OpenRequest::NAME => Self::Open(OpenRequest::decode(value)?),
            RefundRequest::NAME => Self::Refund(RefundRequest::decode(value)?),
            WatchRequest::NAME => Self::Watch(WatchRequest::decode(value)?),
            ContractRequest::NAME => Self::Contract(Box::new(ContractRequest::decode(value)?)),
            PayRequest::NAME => Self::Pay(PayRequest::decode(value)?),
            StatusRequest::NAME => Self::Status(StatusRequest::decode(value)?),
            CloseRequest::NAME => Self::Close(CloseRequest::decode(value)?),
            _ => return Ok(None),
        }))
    }
}
