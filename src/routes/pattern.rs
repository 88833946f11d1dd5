//! Patterns of paths: what a route's `path` takes.
//!
//! All paths here are normal (see [`super::path`]), and a slash at their end does not count. Upper
//! and lower case are the same, because they are to many services: all is in lower case here.

use thiserror::Error;

use super::path::spell;

/// Why a pattern is refused. The words say what is allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum BadPattern {
    /// It is no plain path.
    #[error(
        "a plain path such as \"/forecast\": with a slash at its beginning and none at its end, \
         without empty or dot segments, and encoded no more than it must be"
    )]
    NotPlain,
    /// Two stars stand somewhere else than in a segment of their own at the end.
    #[error("`**` only as the last segment, such as in \"/files/**\"")]
    Stars,
    /// Braces stand around something else than a whole segment.
    #[error(
        "braces only around a whole segment, with a name of letters, digits, `_` and `-`, such as \
         in \"/users/{{id}}/posts\""
    )]
    Braces,
    /// A pattern that is exact by itself, or not at all, is said to be exact.
    #[error("`exact` only with a path without `*` and braces")]
    Exact,
}

/// The pattern of a route's path, ready to be compared with paths.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern {
    /// The pattern as it is written.
    text: String,
    /// What all paths begin with that it takes.
    start: Box<[u8]>,
    shape: Shape,
}

/// What a pattern takes.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Shape {
    /// The start itself, and everything below it. Nothing stands for the root.
    Below,
    /// The start alone.
    Exact,
    /// The start and then such segments, and everything below where the pattern is open.
    Segments { segments: Box<[Segment]>, is_open: bool },
}

/// What a segment of a path may be.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Segment {
    /// This one.
    Literal(Box<[u8]>),
    /// Any one.
    Any,
    /// One that has anything in the place of each star.
    Glob(Box<[u8]>),
}

impl Pattern {
    /// Reads a pattern.
    ///
    /// Without `*` and braces it takes the path and everything below it, or the path alone where
    /// `is_exact`. A `*` stands for any characters of one segment, `{name}` for one segment, and
    /// `/**` at the end for everything below.
    ///
    /// # Errors
    /// [`BadPattern`] says what is allowed.
    pub fn new(text: &str, is_exact: bool) -> Result<Self, BadPattern> {
        let rest = text.strip_prefix('/').ok_or(BadPattern::NotPlain)?;
        let mut parts: Vec<&str> = rest.split('/').collect();
        let is_open = parts.last() == Some(&"**");
        if is_open || rest.is_empty() {
            parts.pop();
        }
        let segments = parts.into_iter().map(Segment::new).collect::<Result<Vec<_>, _>>()?;
        let literals: Vec<&[u8]> = segments.iter().map_while(Segment::literal).collect();
        let start = literals.iter().flat_map(|part| [b"/", *part].concat()).collect();
        let rest: Box<[Segment]> = segments.iter().skip(literals.len()).cloned().collect();
        let shape = match is_exact {
            true if is_open || !rest.is_empty() => return Err(BadPattern::Exact),
            true => Shape::Exact,
            false if rest.is_empty() => Shape::Below,
            false => Shape::Segments { segments: rest, is_open },
        };
        Ok(Self { text: text.to_owned(), start, shape })
    }

    /// Returns the pattern as it is written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Tells whether the pattern takes a normal path in lower case without a slash at its end.
    pub(super) fn matches(&self, path: &[u8]) -> bool {
        let Some(rest) = path.strip_prefix(&*self.start) else { return false };
        match &self.shape {
            Shape::Below => rest.first().is_none_or(|byte| *byte == b'/'),
            Shape::Exact => rest.is_empty(),
            Shape::Segments { segments, is_open } => {
                let rest = segments.iter().try_fold(rest, |rest, segment| {
                    let rest = rest.strip_prefix(b"/")?;
                    let end = rest.iter().position(|byte| *byte == b'/').unwrap_or(rest.len());
                    let (part, rest) = rest.split_at_checked(end)?;
                    segment.matches(part).then_some(rest)
                });
                rest.is_some_and(|rest| rest.is_empty() || (*is_open && rest.starts_with(b"/")))
            }
        }
    }

    /// Tells whether the pattern surely takes all that `other` takes.
    pub(super) fn covers(&self, other: &Self) -> bool {
        let ((wide, is_open), (narrow, is_other_open)) = (self.segments(), other.segments());
        let fits = if is_open {
            wide.len() <= narrow.len()
        } else {
            wide.len() == narrow.len() && !is_other_open
        };
        fits && wide.iter().zip(&narrow).all(|(wide, narrow)| wide.covers(narrow))
    }

    /// Returns the segments, and whether everything below them is taken, too.
    fn segments(&self) -> (Vec<Segment>, bool) {
        let parts = self.start.split(|byte| *byte == b'/').skip(1);
        let start = parts.map(|part| Segment::Literal(part.into()));
        match &self.shape {
            Shape::Below => (start.collect(), true),
            Shape::Exact => (start.collect(), false),
            Shape::Segments { segments, is_open } => {
                (start.chain(segments.iter().cloned()).collect(), *is_open)
            }
        }
    }
}

impl Segment {
    /// Reads a segment of a pattern.
    fn new(text: &str) -> Result<Self, BadPattern> {
        if matches!(text, "" | "." | "..") {
            return Err(BadPattern::NotPlain);
        }
        if text.contains("**") {
            return Err(BadPattern::Stars);
        }
        if text.contains(['{', '}']) {
            let name = text.strip_prefix('{').and_then(|rest| rest.strip_suffix('}'));
            let is_in_name = |byte: u8| byte.is_ascii_alphanumeric() || b"_-".contains(&byte);
            return match name {
                Some(name) if !name.is_empty() && name.bytes().all(is_in_name) => Ok(Self::Any),
                _ => Err(BadPattern::Braces),
            };
        }
        let parts = text.split('*').map(spell).collect::<Option<Vec<String>>>();
        let spelled = parts.ok_or(BadPattern::NotPlain)?.join("*").to_ascii_lowercase();
        Ok(match text {
            "*" => Self::Any,
            _ if text.contains('*') => Self::Glob(spelled.into_bytes().into()),
            _ => Self::Literal(spelled.into_bytes().into()),
        })
    }

    /// Returns the one segment that this takes, if it is one.
    fn literal(&self) -> Option<&[u8]> {
        match self {
            Self::Literal(literal) => Some(literal),
            Self::Any | Self::Glob(_) => None,
        }
    }

    /// Tells whether this takes a segment.
    fn matches(&self, part: &[u8]) -> bool {
        match self {
            Self::Literal(literal) => part == &**literal,
            Self::Any => true,
            Self::Glob(glob) => is_like(part, glob),
        }
    }

    /// Tells whether this surely takes all that `other` takes.
    fn covers(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Any, _) => true,
            (Self::Glob(_) | Self::Literal(_), Self::Literal(literal)) => self.matches(literal),
            (Self::Glob(one), Self::Glob(other)) => one == other,
            (Self::Glob(_) | Self::Literal(_), Self::Any) | (Self::Literal(_), Self::Glob(_)) => {
                false
            }
        }
    }
}

/// Tells whether a segment is like a glob. A star takes whole characters, encoded ones too.
fn is_like(part: &[u8], glob: &[u8]) -> bool {
    let (mut part, mut glob) = (part, glob);
    // What follows the last star, and from where on it was looked for.
    let mut retry: Option<(&[u8], &[u8])> = None;
    loop {
        match (glob.split_first(), part.split_first()) {
            (Some((b'*', after)), _) => {
                retry = Some((after, part));
                glob = after;
            }
            (Some((wanted, after)), Some((byte, rest))) if wanted == byte => {
                (glob, part) = (after, rest);
            }
            (None, None) => return true,
            _ => {
                let Some((after, from)) = retry else { return false };
                let width = if from.first() == Some(&b'%') { 3 } else { 1 };
                let Some(rest) = from.get(width..) else { return false };
                retry = Some((after, rest));
                (glob, part) = (after, rest);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pattern(text: &str) -> Pattern {
        Pattern::new(text, false).unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    fn takes(text: &str, path: &str) -> bool {
        let path = path.strip_suffix('/').unwrap_or(path).to_ascii_lowercase();
        pattern(text).matches(path.as_bytes())
    }

    #[test]
    fn a_path_takes_what_is_below_it_and_ends_at_a_segment() {
        for path in ["/paid", "/paid/", "/PAID/x", "/paid/x/y"] {
            assert!(takes("/paid", path) && takes("/Paid/**", path) && takes("/", path), "{path}");
        }
        for path in ["/", "/paidx", "/pai", "/x/paid"] {
            assert!(!takes("/paid", path) && !takes("/paid/**", path), "{path}");
            assert!(takes("/**", path), "{path}");
        }
        assert!(takes("/café", "/caf%C3%A9/x") && takes("/caf%C3%A9", "/caf%C3%A9"));
    }

    #[test]
    fn an_exact_path_takes_itself_alone() {
        let exact = |text| Pattern::new(text, true).unwrap();
        assert!(exact("/Paid").matches(b"/paid") && !exact("/paid").matches(b"/paid/x"));
        assert!(exact("/").matches(b"") && !exact("/").matches(b"/x"));
        for text in ["/a/**", "/a/*", "/{x}", "/**"] {
            assert_eq!(Pattern::new(text, true), Err(BadPattern::Exact), "{text}");
        }
    }

    #[test]
    fn a_star_takes_characters_of_one_segment() {
        for (text, path) in [
            ("/*", "/x"),
            ("/*.json", "/a.json"),
            ("/*.json", "/.JSON"),
            ("/v*/a", "/v/a"),
            ("/v*/a", "/v12/A/"),
            ("/a*b*c", "/abbc"),
            ("/a*b*c", "/aXbYbZc"),
            ("/caf*", "/caf%C3%A9"),
            ("/*%20x", "/a%20b%20x"),
        ] {
            assert!(takes(text, path), "{text} {path}");
        }
        for (text, path) in [
            ("/*", "/"),
            ("/*", "/x/y"),
            ("/*.json", "/a.jsonx"),
            ("/*.json", "/a/b.json"),
            ("/a*b*c", "/acb"),
            ("/v*/a", "/v1"),
            ("/v*/a", "/v1/a/b"),
            // The 9 is a digit of the encoding, not a character.
            ("/*9", "/caf%C3%A9"),
        ] {
            assert!(!takes(text, path), "{text} {path}");
        }
    }

    #[test]
    fn braces_take_one_segment_and_two_stars_all_that_is_below() {
        assert!(takes("/users/{id}", "/users/7") && takes("/users/{id}", "/Users/7/"));
        assert!(!takes("/users/{id}", "/users") && !takes("/users/{id}", "/users/7/x"));
        assert!(takes("/{a}/x/{b}", "/1/x/2") && !takes("/{a}/x/{b}", "/1/y/2"));
        for path in ["/users/7", "/users/7/", "/users/7/x/y"] {
            assert!(takes("/users/{id}/**", path), "{path}");
        }
        assert!(!takes("/users/{id}/**", "/users"));
    }

    #[test]
    fn a_pattern_that_is_none_is_refused() {
        for text in
            ["", "x", "/x/", "//x", "/./x", "/x/..", "/p%61id", "/a%2a", "/%2", "/a;b", "/a?"]
        {
            assert_eq!(Pattern::new(text, false), Err(BadPattern::NotPlain), "{text}");
        }
        for text in ["/**/x", "/x**", "/***", "/**.json"] {
            assert_eq!(Pattern::new(text, false), Err(BadPattern::Stars), "{text}");
        }
        for text in ["/{}", "/x{id}", "/{id}x", "/{", "/}{", "/{i d}", "/{a*}"] {
            assert_eq!(Pattern::new(text, false), Err(BadPattern::Braces), "{text}");
        }
    }

    #[test]
    fn a_pattern_covers_only_what_it_surely_takes() {
        for (wide, narrow) in [
            ("/", "/x"),
            ("/", "/{x}/*.json"),
            ("/**", "/"),
            ("/paid", "/PAID/x"),
            ("/paid", "/paid/{x}"),
            ("/paid", "/paid/**"),
            ("/{a}/**", "/x"),
            ("/{a}/{b}", "/{c}/x*"),
            ("/v*/**", "/v1/x"),
            ("/v*", "/V*"),
        ] {
            assert!(pattern(wide).covers(&pattern(narrow)), "{wide} {narrow}");
        }
        for (wide, narrow) in [
            ("/x", "/"),
            ("/paid", "/paidx"),
            ("/paid/x", "/paid/{y}"),
            ("/{a}", "/x"),
            ("/{a}/**", "/"),
            ("/v*", "/v1"),
            ("/*x", "/x*"),
            ("/v1/{a}", "/{a}/v1"),
        ] {
            assert!(!pattern(wide).covers(&pattern(narrow)), "{wide} {narrow}");
        }
        let exact = |text| Pattern::new(text, true).unwrap();
        assert!(exact("/x").covers(&exact("/X")) && pattern("/{a}").covers(&exact("/x")));
        assert!(!exact("/x").covers(&pattern("/x")) && pattern("/x").covers(&exact("/x")));
    }
}
