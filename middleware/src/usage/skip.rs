//! JSON of no interest, passed over as it comes.

use memchr::memchr2;

/// A value that is passed over. Its nesting is counted and not checked, so it may be as deep as it
/// likes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Skip {
    depth: u64,
    place: Place,
}

#[derive(Clone, Copy, Debug)]
enum Place {
    Outside,
    String,
    Escape,
}

impl Skip {
    /// Passes over an object or an array that has begun.
    pub(super) const fn container() -> Self {
        Self { depth: 1, place: Place::Outside }
    }

    /// Passes over a string that has begun.
    pub(super) const fn string() -> Self {
        Self { depth: 0, place: Place::String }
    }

    /// Passes over more of it. Returns what belongs to it and what comes after, once it has ended.
    pub(super) fn pass<'d>(&mut self, data: &'d [u8]) -> Option<(&'d [u8], &'d [u8])> {
        let mut rest = data;
        loop {
            let mark = match self.place {
                Place::Outside => rest.iter().position(|byte| is_mark(*byte))?,
                Place::String => memchr2(b'"', b'\\', rest)?,
                Place::Escape => 0,
            };
            let (mark, after) = rest.get(mark..)?.split_first()?;
            rest = after;
            (self.depth, self.place) = match (self.place, mark) {
                (Place::Outside, b'"') | (Place::Escape, _) => (self.depth, Place::String),
                (Place::Outside, b'{' | b'[') => (self.depth.saturating_add(1), Place::Outside),
                (Place::Outside, _) => (self.depth.saturating_sub(1), Place::Outside),
                (Place::String, b'\\') => (self.depth, Place::Escape),
                (Place::String, _) => (self.depth, Place::Outside),
            };
            if self.depth == 0 && matches!(self.place, Place::Outside) {
                return data.split_at_checked(data.len().saturating_sub(rest.len()));
            }
        }
    }
}

/// Tells whether a byte begins a string, or begins or ends an object or array.
const fn is_mark(byte: u8) -> bool {
    matches!(byte, b'"' | b'{' | b'[' | b'}' | b']')
}
