//! Paths in the one spelling that is their own.
//!
//! A gateway prices the path that it reads, and the service behind serves the path that it reads.
//! The two are the same once [`normalise`] has made one spelling of all that mean the same, and has
//! refused what somebody else could read as another path. What it makes is matched and sent on.

use std::borrow::Cow;

use thiserror::Error;

/// Encodings that are no UTF-8, and that careless decoders take for ASCII characters.
const OVERLONG: [&str; 5] = ["%C0", "%C1", "%E0%8", "%E0%9", "%F0%8"];

/// Which bytes stand for themselves in a path, or part its segments.
const KEPT: [bool; 256] = kept();

/// Why a path is refused: another program could read it as a different one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum BadPath {
    /// It begins with something else than a slash.
    #[error("a path begins with a slash")]
    NotAbsolute,
    /// A slash is encoded, so it might part segments or not.
    #[error("a path has no encoded slash")]
    EncodedSlash,
    /// There is a backslash, which is a slash to some.
    #[error("a path has no backslash")]
    Backslash,
    /// There is a semicolon, after which some see no path any more.
    #[error("a path has no semicolon")]
    Semicolon,
    /// There is a control character, at which some end the path.
    #[error("a path has no control characters")]
    Control,
    /// There is a question mark or a number sign that does not end the path.
    #[error("a path has no question mark and no number sign")]
    Delimiter,
    /// A percent sign does not begin an encoding.
    #[error("in a path two hexadecimal digits follow each percent sign")]
    BrokenEncoding,
    /// An encoding is encoded, so it might be decoded twice.
    #[error("a path is encoded once, not twice")]
    EncodedTwice,
    /// A character is encoded in more bytes than it has.
    #[error("a path has no character that is encoded in more bytes than it needs")]
    Overlong,
    /// A `..` follows an empty segment, which some remove before it and some do not.
    #[error("in a path no `..` takes an empty segment back")]
    EmptySegment,
}

/// Returns a path in the one spelling that is its own.
///
/// Characters are encoded only where they have to be, in upper-case digits (RFC 3986 §6.2.2). Dot
/// segments are removed (§5.2.4), and so are empty segments, except for a slash at the end. A path
/// that is normal already is only looked through once.
///
/// # Errors
/// [`BadPath`] where somebody else could read the path as a different one.
pub fn normalise(path: &str) -> Result<Cow<'_, str>, BadPath> {
    if is_plain(path.as_bytes()) {
        return Ok(Cow::Borrowed(path));
    }
    if !path.starts_with('/') {
        return Err(BadPath::NotAbsolute);
    }
    let normal = without_dots(&respell(path)?)?;
    Ok(if normal == path { Cow::Borrowed(path) } else { Cow::Owned(normal) })
}

/// Returns a part of a path as it stands in normal paths, or nothing where the part is no such
/// part or encodes what need not be encoded.
pub(super) fn spell(written: &str) -> Option<String> {
    let is_needed = |(at, _): (usize, &str)| {
        let encoded = written.get(at..).and_then(|rest| rest.get(..3));
        encoded.is_some_and(|encoded| respell(encoded).as_deref() == Ok(encoded))
    };
    let is_spelled = written.match_indices('%').all(is_needed);
    respell(written).ok().filter(|_| is_spelled)
}

/// Tells whether a path is normal and has no encodings: the common case.
fn is_plain(path: &[u8]) -> bool {
    let is_kept = |byte: &u8| KEPT.get(usize::from(*byte)) == Some(&true);
    // Most paths have neither pair, and to look for both is cheap because nothing ends it early.
    let is_suspect = |pair: &[u8]| matches!(pair, [b'/', b'/' | b'.']);
    let has_suspect = path.windows(2).fold(false, |found, pair| found | is_suspect(pair));
    path.first() == Some(&b'/') && path.iter().all(is_kept) && !(has_suspect && has_dots(path))
}

/// Tells whether a path has dot segments, or empty segments before its end.
fn has_dots(path: &[u8]) -> bool {
    let mut segments = path.split(|byte| *byte == b'/').skip(1).peekable();
    while let Some(segment) = segments.next() {
        let is_last = segments.peek().is_none();
        if matches!(segment, b"." | b"..") || (segment.is_empty() && !is_last) {
            return true;
        }
    }
    false
}

/// Returns which bytes stand for themselves in a path, or part its segments.
const fn kept() -> [bool; 256] {
    let mut kept = [false; 256];
    let mut rest: &mut [bool] = &mut kept;
    let mut byte = 0_u8;
    while let Some((first, after)) = rest.split_first_mut() {
        *first = byte == b'/' || is_literal(byte);
        byte = byte.wrapping_add(1);
        rest = after;
    }
    kept
}

/// Tells whether a character stands for itself in a path: `pchar` of RFC 3986 §3.3, but for the
/// semicolon.
const fn is_literal(byte: u8) -> bool {
    match byte {
        b'-' | b'.' | b'_' | b'~' | b':' | b'@' => true,
        b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'*' | b'+' | b',' | b'=' => true,
        _ => byte.is_ascii_alphanumeric(),
    }
}

/// Spells each character as it has to be. Slashes stay.
fn respell(path: &str) -> Result<String, BadPath> {
    let mut spelled = String::with_capacity(path.len());
    let mut bytes = path.bytes();
    while let Some(byte) = bytes.next() {
        match byte {
            b'/' => spelled.push('/'),
            b'%' => push(&mut spelled, decode(bytes.next(), bytes.next())?)?,
            _ => push(&mut spelled, byte)?,
        }
    }
    let is_digits = |after: &str| {
        after.len() >= 2 && after.bytes().take(2).all(|digit| digit.is_ascii_hexdigit())
    };
    if spelled.split("%25").skip(1).any(is_digits) {
        return Err(BadPath::EncodedTwice);
    }
    if OVERLONG.iter().any(|overlong| spelled.contains(overlong)) {
        return Err(BadPath::Overlong);
    }
    Ok(spelled)
}

/// Returns the byte that two hexadecimal digits stand for.
fn decode(high: Option<u8>, low: Option<u8>) -> Result<u8, BadPath> {
    let digit = |byte: Option<u8>| char::from(byte?).to_digit(16);
    let value = digit(high).zip(digit(low)).map(|(high, low)| high * 16 + low);
    value.and_then(|value| u8::try_from(value).ok()).ok_or(BadPath::BrokenEncoding)
}

/// Adds a character that is meant as itself, encoded if it has to be.
fn push(spelled: &mut String, byte: u8) -> Result<(), BadPath> {
    match byte {
        b'/' => return Err(BadPath::EncodedSlash),
        b'\\' => return Err(BadPath::Backslash),
        b';' => return Err(BadPath::Semicolon),
        b'?' | b'#' => return Err(BadPath::Delimiter),
        0..=0x1F | 0x7F => return Err(BadPath::Control),
        _ if is_literal(byte) => spelled.push(char::from(byte)),
        _ => {
            let digit = |digit: u8| char::from_digit(u32::from(digit), 16).unwrap_or('0');
            let digits = [digit(byte >> 4), digit(byte & 0xF)];
            spelled.push('%');
            spelled.extend(digits.map(|digit| digit.to_ascii_uppercase()));
        }
    }
    Ok(())
}

/// Removes dot segments and empty segments.
fn without_dots(path: &str) -> Result<String, BadPath> {
    let mut kept: Vec<&str> = Vec::new();
    // What stands before the first slash is no segment.
    for segment in path.split('/').skip(1) {
        match segment {
            "." => {}
            ".." => {
                // Some remove empty segments first, and would remove another one here.
                if kept.pop() == Some("") {
                    return Err(BadPath::EmptySegment);
                }
            }
            _ => kept.push(segment),
        }
    }
    let mut normal = String::with_capacity(path.len());
    for segment in kept.iter().filter(|segment| !segment.is_empty()) {
        normal.push('/');
        normal.push_str(segment);
    }
    if normal.is_empty() || ["/", "/.", "/.."].iter().any(|end| path.ends_with(end)) {
        normal.push('/');
    }
    Ok(normal)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{Just, Strategy, any, prop, prop_assert, prop_assert_eq, prop_oneof};
    use proptest::proptest;

    use super::*;

    fn normal(path: &str) -> String {
        normalise(path).unwrap_or_else(|error| panic!("{path}: {error}")).into_owned()
    }

    #[test]
    fn a_plain_path_is_borrowed() {
        for path in ["/", "/a", "/a/", "/.well-known/x", "/...", "/a:b@c/~d!$&'()*+,=", "/a%20b"] {
            assert!(matches!(normalise(path), Ok(Cow::Borrowed(same)) if same == path), "{path}");
        }
        for path in ["/", "/a/b.c/..d/.e/f../", "/a/..."] {
            assert!(is_plain(path.as_bytes()), "{path}");
        }
        for path in ["", "a", "*", "//", "/.", "/..", "/a/./b", "/a/../b", "/a//b", "/%41", "/;"] {
            assert!(!is_plain(path.as_bytes()), "{path}");
        }
    }

    #[test]
    fn encodings_are_undone_where_they_need_not_be() {
        assert_eq!(normal("/%70%41id%2d%2E%5f%7e"), "/pAid-._~");
        assert_eq!(normal("/%3a%40%2c%26%2b%3d%24%21%27%28%29%2a"), "/:@,&+=$!'()*");
        assert_eq!(normal("/caf%c3%a9/%7b%22%7D"), "/caf%C3%A9/%7B%22%7D");
        assert_eq!(
            normal("/café/a b/{x}|[^`]<\">"),
            "/caf%C3%A9/a%20b/%7Bx%7D%7C%5B%5E%60%5D%3C%22%3E"
        );
        assert_eq!(normal("/100%25"), "/100%25");
        assert_eq!(normal("/100%25%20"), "/100%25%20");
    }

    #[test]
    fn dot_segments_and_empty_segments_are_removed() {
        for (path, expected) in [
            ("/a/b/../c", "/a/c"),
            ("/a/./b/.", "/a/b/"),
            ("/a/b/..", "/a/"),
            ("/a/..", "/"),
            ("/../../a", "/a"),
            ("/free/%2e%2e/paid", "/paid"),
            ("/free/.%2E/paid", "/paid"),
            ("/%2e", "/"),
            ("//a///b//", "/a/b/"),
            ("//", "/"),
            ("/a/../..//b", "/b"),
        ] {
            assert_eq!(normal(path), expected, "{path}");
        }
    }

    #[test]
    fn a_path_that_others_could_read_otherwise_is_refused() {
        for (path, error) in [
            ("*", BadPath::NotAbsolute),
            ("", BadPath::NotAbsolute),
            ("paid", BadPath::NotAbsolute),
            ("%2Fpaid", BadPath::NotAbsolute),
            ("/free%2fpaid", BadPath::EncodedSlash),
            ("/free/%2e%2e%2Fpaid", BadPath::EncodedSlash),
            ("/free\\..\\paid", BadPath::Backslash),
            ("/free/%5c", BadPath::Backslash),
            ("/free/..;/paid", BadPath::Semicolon),
            ("/free/%3Bx=1", BadPath::Semicolon),
            ("/free/%00", BadPath::Control),
            ("/free/\u{0}", BadPath::Control),
            ("/free/%1f", BadPath::Control),
            ("/free/%0d%0a", BadPath::Control),
            ("/free/%7F", BadPath::Control),
            ("/free/\u{7f}", BadPath::Control),
            ("/free%3Fx", BadPath::Delimiter),
            ("/free/%23", BadPath::Delimiter),
            ("/free/%", BadPath::BrokenEncoding),
            ("/free/%4", BadPath::BrokenEncoding),
            ("/free/%zz", BadPath::BrokenEncoding),
            ("/free/%+f", BadPath::BrokenEncoding),
            ("/free/%u002f", BadPath::BrokenEncoding),
            ("/free/%252e%252e/paid", BadPath::EncodedTwice),
            ("/free/%25%32e", BadPath::EncodedTwice),
            ("/free/%2525", BadPath::EncodedTwice),
            ("/free/%c0%af", BadPath::Overlong),
            ("/free/%e0%80%af", BadPath::Overlong),
            ("/free//../paid", BadPath::EmptySegment),
            ("/free//x/../../paid", BadPath::EmptySegment),
        ] {
            assert_eq!(normalise(path), Err(error), "{path}");
        }
    }

    /// Makes a part of a path: mostly what is dangerous.
    fn part() -> impl Strategy<Value = String> {
        prop_oneof![
            4 => "[a-zA-Z0-9~_:@!$&'()*+,=-]{1,3}",
            2 => Just("/".to_owned()),
            2 => Just(".".to_owned()),
            1 => any::<u8>().prop_map(|byte| format!("%{byte:02X}")),
            1 => any::<u8>().prop_map(|byte| format!("%{byte:02x}")),
            1 => Just("%25".to_owned()),
            1 => any::<char>().prop_map(String::from),
        ]
    }

    proptest! {
        #[test]
        fn what_is_normal_stays_as_it_is(parts in prop::collection::vec(part(), 0..12)) {
            let path = format!("/{}", parts.concat());
            if let Ok(normal) = normalise(&path) {
                prop_assert_eq!(normalise(&normal), Ok(Cow::Borrowed(&*normal)));
                let is_kept = |byte: u8| is_literal(byte) || byte == b'/' || byte == b'%';
                prop_assert!(normal.starts_with('/') && normal.bytes().all(is_kept));
                prop_assert!(!normal.contains("//") && !normal.contains("/./"));
                prop_assert!(!normal.contains("/../") && !normal.ends_with("/.."));
            }
        }

        #[test]
        fn two_spellings_of_a_path_are_one(
            segments in prop::collection::vec("[a-zA-Z0-9.~_:@!$&'()*+,= é{}-]{1,6}", 1..5),
            choices in prop::collection::vec(0_u8..4, 64),
            slashes in prop::collection::vec(1_usize..3, 5),
        ) {
            let is_dots = |segment: &String| segment == "." || segment == "..";
            let mut choices = choices.iter().cycle();
            let mut other = String::new();
            for (segment, slashes) in segments.iter().zip(&slashes) {
                // An empty segment before a `..` is refused.
                let slashes = if segments.iter().any(is_dots) { 1 } else { *slashes };
                other.push_str(&"/".repeat(slashes));
                for byte in segment.bytes() {
                    match choices.next() {
                        Some(1) => other.push_str(&format!("%{byte:02X}")),
                        Some(2) => other.push_str(&format!("%{byte:02x}")),
                        _ if byte.is_ascii() => other.push(char::from(byte)),
                        _ => other.push_str(&format!("%{byte:02X}")),
                    }
                }
            }
            let path = format!("/{}", segments.join("/"));
            prop_assert_eq!(normalise(&other), normalise(&path));
            prop_assert!(normalise(&path).is_ok());
        }
    }
}
