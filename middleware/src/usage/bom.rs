//! The mark that some services put before a text.

/// A byte order mark in UTF-8.
const MARK: &[u8] = b"\xEF\xBB\xBF";

/// Takes the mark off the beginning of a text (RFC 8259 §8.1, WHATWG HTML §9.2.5).
#[derive(Clone, Debug, Default)]
pub(crate) struct Bom {
    /// How much of the mark has been seen, and is held back.
    seen: usize,
    /// Whether the text has begun.
    has_begun: bool,
}

impl Bom {
    /// Tells whether a text that goes on like this may begin with a mark.
    pub(crate) fn may_begin(&self, data: &[u8]) -> bool {
        !self.has_begun && self.seen == 0 && data.first() == MARK.first()
    }

    /// Tells whether a part of the mark has come, or of what is none.
    pub(crate) const fn is_within(&self) -> bool {
        !self.has_begun && self.seen > 0 && self.seen < MARK.len()
    }

    /// Returns what there is of the text: what was held back and is no mark, and the rest of a
    /// piece.
    pub(crate) fn strip<'d>(&mut self, mut data: &'d [u8]) -> [&'d [u8]; 2] {
        let mut held = &b""[..];
        while !self.has_begun
            && let Some((byte, rest)) = data.split_first()
        {
            let (seen, expected) = MARK.split_at_checked(self.seen).unwrap_or_default();
            match expected.first() {
                Some(mark) if mark == byte => {
                    self.seen = self.seen.saturating_add(1);
                    data = rest;
                }
                Some(_) => (held, self.has_begun) = (seen, true),
                None => self.has_begun = true,
            }
        }
        [held, data]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns a text that comes byte by byte, without its mark.
    fn stripped(text: &[u8]) -> Vec<u8> {
        let mut bom = Bom::default();
        text.chunks(1).flat_map(|data| bom.strip(data).concat()).collect()
    }

    #[test]
    fn one_mark_at_the_beginning_is_no_part_of_a_text() {
        for (text, rest) in [
            (&b"\xEF\xBB\xBFa"[..], &b"a"[..]),
            (b"\xEF\xBB\xBF\xEF\xBB\xBFa", b"\xEF\xBB\xBFa"),
            (b"\xEF\xBB\xBF", b""),
            (b"a\xEF\xBB\xBF", b"a\xEF\xBB\xBF"),
            (b"\xEF\xBBa", b"\xEF\xBBa"),
            (b"\xEFdata", b"\xEFdata"),
        ] {
            assert_eq!(stripped(text), rest, "{text:?}");
            assert_eq!(Bom::default().strip(text).concat(), rest, "{text:?}");
        }
    }
}
