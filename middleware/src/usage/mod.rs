//! How many units a service says that its answer has used.
//!
//! Everything here is read while the answer passes: nothing is kept of it but what is needed to go
//! on, however long its keys, strings and lines are and however deep it nests, and where it is cut
//! into pieces makes no difference. What units cost is not decided here.

mod bom;
mod events;
mod json;
mod number;
mod path;
mod skip;
#[cfg(test)]
mod tests;

pub(crate) use bom::Bom;
pub use path::{BadUsagePath, UsagePath};

use http::header::{CONTENT_ENCODING, HeaderName};
use http::{HeaderMap, HeaderValue};

use events::Events;
use json::Documents;

/// Where a service says how many units its answer has used.
///
/// A number of units is written as in JSON (RFC 8259 §6). A part of a unit counts as a whole one,
/// so that nothing is counted below what was used, and what is more than a [`u64`] holds as the
/// greatest of them. Anything else, such as a negative number, says nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UsageSource {
    /// A field of its head; the last of them where it is repeated.
    Header(HeaderName),
    /// A field of its trailers; the last of them where it is repeated.
    Trailer(HeaderName),
    /// A JSON document, or several one after another, such as lines of JSON.
    Json(UsagePath),
    /// The JSON documents in the data of Server-Sent Events.
    Event(UsagePath),
}

impl UsageSource {
    /// Tells whether the body is read, so that the service has to be asked for one that is not
    /// encoded.
    pub(crate) const fn reads_body(&self) -> bool {
        match self {
            Self::Json(_) | Self::Event(_) => true,
            Self::Header(_) | Self::Trailer(_) => false,
        }
    }
}

/// Reads the units while an answer passes.
#[derive(Debug)]
pub(crate) struct UsageReader(Reading);

/// What is read, and what is known of it.
#[derive(Debug)]
enum Reading {
    Head(Option<u64>),
    Trailers(HeaderName, Option<u64>),
    Json(Bom, Documents),
    Events(Bom, Events),
    /// A body that is encoded.
    Nothing,
}

impl UsageReader {
    /// Begins with the head of an answer.
    pub(crate) fn new(source: &UsageSource, head: &HeaderMap) -> Self {
        Self(match source {
            UsageSource::Header(field) => Reading::Head(reported(head, field)),
            UsageSource::Trailer(field) => Reading::Trailers(field.clone(), None),
            UsageSource::Json(_) | UsageSource::Event(_) if is_encoded(head) => Reading::Nothing,
            UsageSource::Json(path) => Reading::Json(Bom::default(), Documents::new(path)),
            UsageSource::Event(path) => Reading::Events(Bom::default(), Events::new(path)),
        })
    }

    /// Reads a piece of the body.
    pub(crate) fn read(&mut self, data: &[u8]) {
        match &mut self.0 {
            Reading::Json(bom, documents) => {
                bom.strip(data).into_iter().for_each(|data| documents.read(data));
            }
            Reading::Events(bom, events) => {
                bom.strip(data).into_iter().for_each(|data| events.read(data));
            }
            Reading::Head(_) | Reading::Trailers(..) | Reading::Nothing => {}
        }
    }

    /// Reads the trailers.
    pub(crate) fn trailers(&mut self, trailers: &HeaderMap) {
        if let Reading::Trailers(field, units) = &mut self.0 {
            *units = reported(trailers, field);
        }
    }

    /// Returns the units that are known by now, or nothing where none were reported.
    pub(crate) fn units(&self) -> Option<u64> {
        match &self.0 {
            Reading::Head(units) | Reading::Trailers(_, units) => *units,
            Reading::Json(_, documents) => documents.units(),
            Reading::Events(_, events) => events.units(),
            Reading::Nothing => None,
        }
    }
}

/// Returns what a field says.
fn reported(fields: &HeaderMap, field: &HeaderName) -> Option<u64> {
    number::units(fields.get_all(field).iter().next_back()?.as_bytes().trim_ascii())
}

/// Tells whether a body is encoded (RFC 9110 §8.4).
pub(crate) fn is_encoded(head: &HeaderMap) -> bool {
    let is_none = |coding: &[u8]| {
        let coding = coding.trim_ascii();
        coding.is_empty() || coding.eq_ignore_ascii_case(b"identity")
    };
    let is_plain = |value: &HeaderValue| value.as_bytes().split(|byte| *byte == b',').all(is_none);
    !head.get_all(CONTENT_ENCODING).iter().all(is_plain)
}
