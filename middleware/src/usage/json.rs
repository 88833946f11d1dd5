//! Numbers in JSON documents, read while they pass.

use crate::usage::number;
use crate::usage::path::{STEP_LEN_MAX, Step, UsagePath};
use crate::usage::skip::Skip;

/// The most of a name or number that is kept: no step is longer than this, however it is written.
const TOKEN_LEN_MAX: usize = STEP_LEN_MAX * 6 + 1;

/// JSON documents that come one after another.
///
/// A document counts once it is whole: of the names in an object that are the same the last one
/// counts, and of documents the last one that has a number there. What is not JSON ends them all.
/// What no path leads to is not looked at but for its strings and brackets.
// Parsers from elsewhere, such as json-event-parser, keep a string until they have all of it.
#[derive(Debug)]
pub(super) struct Documents {
    state: State,
    /// The containers that are open, and that a path leads into: no more than a path has steps.
    open: Vec<Container>,
    /// The name or number that is being read, up to one byte more than is allowed.
    token: Vec<u8>,
    tracks: Vec<Track>,
}

/// Where a path has got to.
#[derive(Debug)]
struct Track {
    steps: Box<[Step]>,
    /// How many of its steps lead to where the document is.
    taken: usize,
    /// What the document says so far.
    found: Option<u64>,
    /// What the documents before it have said.
    known: Option<u64>,
}

#[derive(Clone, Copy, Debug)]
enum Container {
    Object,
    /// With the index of the element.
    Array(u64),
}

/// What comes next.
#[derive(Clone, Copy, Debug)]
enum State {
    /// A document.
    Document,
    /// What an object or array has first, or its end.
    First,
    /// The name of a member.
    Name,
    /// The rest of a name.
    InName(Skip),
    /// The colon after a name.
    Colon,
    /// The value of a member.
    Member,
    /// An element of an array.
    Element,
    /// The rest of a number or a word, which a path may lead to.
    InScalar { is_wanted: bool },
    /// The rest of a value that no path leads to.
    InOther(Skip),
    /// A comma, or the end of an object or array.
    After,
    /// Nothing that could be understood.
    Broken,
}

impl Documents {
    /// Begins before the first document.
    pub(super) fn new(path: &UsagePath) -> Self {
        let track =
            |steps: &[Step]| Track { steps: steps.into(), taken: 0, found: None, known: None };
        Self {
            state: State::Document,
            open: Vec::new(),
            token: Vec::new(),
            tracks: path.paths().map(track).collect(),
        }
    }

    /// Reads a piece.
    pub(super) fn read(&mut self, mut data: &[u8]) {
        while let Some((byte, rest)) = data.split_first() {
            data = match self.state {
                State::Broken => return,
                State::InName(skip) => self.name(skip, data),
                State::InScalar { is_wanted } => self.scalar(is_wanted, data),
                State::InOther(skip) => self.other(skip, data),
                _ if matches!(byte, b' ' | b'\n' | b'\r' | b'\t') => rest,
                state => {
                    self.state = self.next(state, *byte);
                    rest
                }
            };
        }
    }

    /// Forgets a document that is not whole, and begins anew.
    pub(super) fn reset(&mut self) {
        self.state = State::Document;
        self.open.clear();
        for track in &mut self.tracks {
            (track.taken, track.found) = (0, None);
        }
    }

    /// Tells whether no document is under way.
    pub(super) const fn is_between(&self) -> bool {
        matches!(self.state, State::Document)
    }

    /// Returns the sum, once each path has led to a number.
    pub(super) fn units(&self) -> Option<u64> {
        self.tracks.iter().try_fold(0_u64, |sum, track| Some(sum.saturating_add(track.known?)))
    }

    /// Returns the state after a byte that is no space.
    fn next(&mut self, state: State, byte: u8) -> State {
        match (state, self.open.last_mut(), byte) {
            (State::Document | State::Member, ..) => self.value(byte),
            (State::First | State::After, Some(Container::Object), b'}')
            | (State::First | State::After, Some(Container::Array(_)), b']') => {
                self.open.pop();
                self.after()
            }
            (State::First | State::Name, Some(Container::Object), b'"') => {
                self.token.clear();
                State::InName(Skip::string())
            }
            (State::Colon, _, b':') => State::Member,
            (State::First | State::Element, Some(Container::Array(index)), _) => {
                let index = *index;
                self.take(|step| step.is_index(index));
                self.value(byte)
            }
            (State::After, Some(Container::Object), b',') => State::Name,
            (State::After, Some(Container::Array(index)), b',') => {
                *index = index.saturating_add(1);
                State::Element
            }
            _ => State::Broken,
        }
    }

    /// Returns the state after the first byte of a value.
    fn value(&mut self, byte: u8) -> State {
        match byte {
            b'{' if self.leads_on(|_| true) => {
                self.open.push(Container::Object);
                State::First
            }
            b'[' if self.leads_on(Step::enters_array) => {
                self.open.push(Container::Array(0));
                State::First
            }
            b'{' | b'[' => State::InOther(Skip::container()),
            b'"' => State::InOther(Skip::string()),
            b'-' | b'0'..=b'9' | b'f' | b'n' | b't' => {
                self.token.clear();
                self.token.push(byte);
                State::InScalar { is_wanted: self.ending().next().is_some() }
            }
            _ => State::Broken,
        }
    }

    /// Reads on in a name, and returns what comes after it.
    fn name<'d>(&mut self, mut skip: Skip, data: &'d [u8]) -> &'d [u8] {
        let Some((end, rest)) = skip.pass(data) else {
            self.keep(data);
            self.state = State::InName(skip);
            return b"";
        };
        self.state = State::Colon;
        match end {
            // Nearly every name comes as one, and need not be copied.
            [plain @ .., b'"'] if self.token.is_empty() && !plain.contains(&b'\\') => {
                self.take(|step| step.name().as_bytes() == plain);
            }
            _ => {
                self.keep(end);
                let name = decoded(&self.token).unwrap_or_default();
                self.take(|step| step.name() == name);
            }
        }
        rest
    }

    /// Reads on in a number or a word, and returns what comes after it.
    fn scalar<'d>(&mut self, is_wanted: bool, data: &'d [u8]) -> &'d [u8] {
        let is_part =
            |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.');
        let end = data.iter().position(|byte| !is_part(byte));
        let (part, rest) = data.split_at_checked(end.unwrap_or(data.len())).unwrap_or_default();
        if is_wanted {
            self.keep(part);
        }
        if end.is_some() {
            if is_wanted && self.token.len() <= TOKEN_LEN_MAX {
                let units = number::units(&self.token);
                self.ending().for_each(|track| track.found = units);
            }
            self.state = self.after();
        }
        rest
    }

    /// Passes over a value that no path leads to, and returns what comes after it.
    fn other<'d>(&mut self, mut skip: Skip, data: &'d [u8]) -> &'d [u8] {
        match skip.pass(data) {
            Some((_, rest)) => {
                self.state = self.after();
                rest
            }
            None => {
                self.state = State::InOther(skip);
                b""
            }
        }
    }

    /// Returns the state after a value.
    fn after(&mut self) -> State {
        let depth = self.open.len();
        let Some(above) = depth.checked_sub(1) else {
            for track in &mut self.tracks {
                track.known = track.found.take().or(track.known);
            }
            return State::Document;
        };
        for track in self.tracks.iter_mut().filter(|track| track.taken == depth) {
            track.taken = above;
        }
        State::After
    }

    /// Takes a step of each path that leads to the next value.
    fn take(&mut self, is_it: impl Fn(&Step) -> bool) {
        let depth = self.open.len();
        let Some(above) = depth.checked_sub(1) else { return };
        for track in self.tracks.iter_mut().filter(|track| track.taken == above) {
            if track.steps.get(above).is_some_and(&is_it) {
                (track.taken, track.found) = (depth, None);
            }
        }
    }

    /// Tells whether a path leads into the next value.
    fn leads_on(&self, enters: impl Fn(&Step) -> bool) -> bool {
        let depth = self.open.len();
        let mut here = self.tracks.iter().filter(|track| track.taken == depth);
        here.any(|track| track.steps.get(depth).is_some_and(&enters))
    }

    /// Returns the paths that end at the value.
    fn ending(&mut self) -> impl Iterator<Item = &mut Track> {
        let depth = self.open.len();
        let ends = move |track: &&mut Track| track.taken == depth && track.steps.len() == depth;
        self.tracks.iter_mut().filter(ends)
    }

    /// Keeps a piece of a name or number.
    fn keep(&mut self, piece: &[u8]) {
        let room = TOKEN_LEN_MAX.saturating_add(1).saturating_sub(self.token.len());
        self.token.extend_from_slice(piece.get(..room).unwrap_or(piece));
    }
}

/// Returns the name that was kept, with the quote that ends it.
fn decoded(token: &[u8]) -> Option<String> {
    let quoted = [b"\"", token].concat();
    (token.len() <= TOKEN_LEN_MAX).then(|| serde_json::from_slice(&quoted).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_does_not_grow_with_what_is_sent() {
        for (beginning, endless) in [
            ("{\"", "a"),
            ("{\"", "\\u0061"),
            ("{\"a\":", "1"),
            ("{\"a\":\"", "b"),
            ("{\"a\":{\"b\":", "[{\"b\":"),
            ("", "{\"a\":"),
            ("", "["),
            ("{", "\"a\":1,"),
            ("{\"a\":{", "\"a\":{\"b\":[]},"),
            ("", " "),
            ("", "{\"a\":{\"b\":1}}"),
        ] {
            let mut documents = Documents::new(&"a.b".parse().unwrap());
            documents.read(beginning.as_bytes());
            for _ in 0..100 {
                documents.read(endless.repeat(1_000).as_bytes());
            }
            let kept = (documents.open.capacity(), documents.token.capacity());
            assert!(kept.0 <= 8 && kept.1 <= 2 * TOKEN_LEN_MAX, "{beginning}{endless}: {kept:?}");
        }
    }
}
