//! The network: a bag of letters that are delivered in any order, twice, or never.

use farebox_channel::wire::Field;

use crate::lies::Lie;

/// A request on its way to the gateway.
#[derive(Clone, Debug)]
pub(crate) struct Parcel {
    /// What the client knows its answer by.
    pub(crate) ticket: u64,
    /// The client.
    pub(crate) client: usize,
    /// The path.
    pub(crate) path: String,
    /// The fields.
    pub(crate) fields: Vec<(String, String)>,
    /// The lie that it tells, if any.
    pub(crate) lie: Option<Lie>,
}

/// An answer of the gateway.
#[derive(Clone, Debug, Default)]
pub(crate) struct Answer {
    /// The status.
    pub(crate) status: u16,
    /// The fields.
    pub(crate) fields: Vec<(String, String)>,
    /// The body.
    pub(crate) body: String,
    /// Whether the body has come to its end.
    pub(crate) is_whole: bool,
}

impl Answer {
    /// Returns a message that stands in a field.
    pub(crate) fn field<F: Field>(&self) -> Option<F> {
        let (_, value) = self.fields.iter().find(|(name, _)| name == F::NAME)?;
        F::decode(value.as_bytes()).ok()
    }

    /// Puts a message in the place of the field that there is.
    pub(crate) fn replace<F: Field>(&mut self, message: &F) {
        if let Some((_, value)) = self.fields.iter_mut().find(|(name, _)| name == F::NAME) {
            *value = message.encode();
        }
    }

    /// Returns the end of the problem's type, if the answer is a problem of the gateway.
    pub(crate) fn problem(&self) -> Option<&str> {
        let (_, rest) = self.body.split_once("urn:farebox:problem:")?;
        rest.split('"').next()
    }
}

/// A letter on its way.
#[derive(Clone, Debug)]
pub(crate) enum Letter {
    /// A request.
    Request(Parcel),
    /// An answer to a client's ticket.
    Answer {
        /// The client.
        client: usize,
        /// The ticket.
        ticket: u64,
        /// The answer.
        answer: Answer,
    },
}
