//! Requests that their client has named, so that it can ask again without paying again.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bitcoin::hashes::{Hash, HashEngine, sha256};
use farebox_channel::gateway::RequestName;
use farebox_ledger::{AttemptId, Table};
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderName};
use http::request::Parts;

use crate::problem::{Problem, ProblemKind};

/// The field that names a request.
const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
/// The digest of a request's body (RFC 9530 §2).
const CONTENT_DIGEST: HeaderName = HeaderName::from_static("content-digest");
/// The greatest length of a name in bytes.
const KEY_LEN_MAX: usize = 255;

/// Returns the name of a request, if it has one.
///
/// What makes a request the same is where it is sold, its method, its path with the query, and what
/// the fields say of its body: type, length and digest. So a name never buys what is sold elsewhere
/// at another price. What the same request costs by now makes it no other one: a client whose first
/// answer was lost gets it also where the price was raised since.
///
/// # Errors
/// [`ProblemKind::Malformed`] when it has two names, or one that is empty or too long.
pub(crate) fn name(request: &Parts, sold_at: &str) -> Result<Option<RequestName>, Problem> {
    let mut values = request.headers.get_all(IDEMPOTENCY_KEY).iter();
    let Some(value) = values.next() else { return Ok(None) };
    let key = value.as_bytes();
    if values.next().is_some() || key.is_empty() || key.len() > KEY_LEN_MAX {
        let detail = format!("idempotency-key: one value of 1 to {KEY_LEN_MAX} bytes");
        return Err(Problem::new(ProblemKind::Malformed, detail));
    }
    let field = |name| request.headers.get(name).map_or(&b""[..], |value| value.as_bytes());
    let path = request.uri.path_and_query().map_or("", |path| path.as_str());
    let sold_at = sold_at.to_ascii_lowercase();
    let request = hash(&[
        sold_at.as_bytes(),
        request.method.as_str().as_bytes(),
        path.as_bytes(),
        field(CONTENT_TYPE),
        field(CONTENT_LENGTH),
        field(CONTENT_DIGEST),
    ]);
    Ok(Some(RequestName { key: hash(&[key]), request }))
}

/// Hashes parts, each after its length.
fn hash(parts: &[&[u8]]) -> [u8; 32] {
    let mut engine = sha256::Hash::engine();
    for part in parts {
        let length = u64::try_from(part.len()).unwrap_or(u64::MAX);
        engine.input(&length.to_be_bytes());
        engine.input(part);
    }
    sha256::Hash::from_engine(engine).to_byte_array()
}

/// The named requests that are under way.
#[derive(Clone, Debug, Default)]
pub(crate) struct UnderWay(Arc<Mutex<Table<AttemptId, ()>>>);

impl UnderWay {
    /// Notes that a named request is under way, unless one of that name is already.
    pub(crate) fn begin(&self, id: AttemptId) -> Option<Run> {
        self.lock().insert(id, ()).is_none().then(|| Run { under_way: self.clone(), id })
    }

    fn lock(&self) -> MutexGuard<'_, Table<AttemptId, ()>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A named request under way, for as long as this value lives.
#[derive(Debug)]
pub(crate) struct Run {
    under_way: UnderWay,
    id: AttemptId,
}

impl Drop for Run {
    fn drop(&mut self) {
        self.under_way.lock().remove(&self.id);
    }
}
