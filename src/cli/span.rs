//! Spans of time, as people write and read them: `12h`, `3d 4h`.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::observe::access::timestamp;

const MINUTE: u64 = 60;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;
/// The units, longest first.
const UNITS: [(char, u64); 4] = [('d', DAY), ('h', HOUR), ('m', MINUTE), ('s', 1)];

/// Returns the time in Unix seconds.
pub(super) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

/// Reads a span: numbers with their units, or a number of seconds.
pub(super) fn parse(text: &str) -> Result<u64, String> {
    let wrong = || "a span of time is like `12h`, `1d 6h`, `90m` or `3600s`".to_owned();
    let mut secs = 0_u64;
    let mut digits = String::new();
    let mut is_empty = true;
    for letter in text.chars().filter(|letter| *letter != ' ') {
        if letter.is_ascii_digit() {
            digits.push(letter);
            continue;
        }
        let unit = UNITS.iter().find(|(unit, _)| *unit == letter).ok_or_else(wrong)?.1;
        let number: u64 = digits.parse().map_err(|_| wrong())?;
        secs =
            number.checked_mul(unit).and_then(|span| secs.checked_add(span)).ok_or_else(wrong)?;
        digits.clear();
        is_empty = false;
    }
    match (is_empty, digits.is_empty()) {
        (true, false) => digits.parse().map_err(|_| wrong()),
        (false, true) => Ok(secs),
        (true, true) | (false, false) => Err(wrong()),
    }
}

/// Returns the time until something in words, with its two longest units.
pub(super) fn words(secs: i64) -> String {
    let mut left = secs.unsigned_abs();
    let mut parts = Vec::new();
    for (unit, span) in UNITS {
        let number = left / span;
        left %= span;
        if number > 0 || !parts.is_empty() {
            parts.push(format!("{number}{unit}"));
        }
    }
    parts.truncate(2);
    if parts.is_empty() {
        parts.push("0s".to_owned());
    }
    let span = parts.join(" ");
    if secs < 0 { format!("past, {span} ago") } else { span }
}

/// Returns a time in Unix seconds as a date, to the minute.
pub(super) fn date(secs: u64) -> String {
    let mut text = String::new();
    timestamp(UNIX_EPOCH + Duration::from_secs(secs), &mut text);
    let (day, time) = (text.get(..10).unwrap_or_default(), text.get(11..16).unwrap_or_default());
    format!("{day} {time} UTC")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_date_is_told_to_the_minute() {
        assert_eq!(date(1_795_358_749), "2026-11-22 14:45 UTC");
    }

    #[test]
    fn a_span_is_read_with_its_units() {
        let spans =
            [("12h", 43_200), ("1d6h", 108_000), ("1d 6h", 108_000), ("90m", 5_400), ("7", 7)];
        for (text, secs) in spans {
            assert_eq!(parse(text), Ok(secs), "{text}");
        }
        for text in ["", "h", "1x", "1h30", "-1h", "1.5h", "99999999999999999999d", "३h"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_span_is_told_with_its_two_longest_units() {
        assert_eq!(words(0), "0s");
        assert_eq!(words(59), "59s");
        assert_eq!(words(3_600), "1h 0m");
        assert_eq!(words(3 * 86_400 + 4 * 3_600 + 59), "3d 4h");
        assert_eq!(words(-61), "past, 1m 1s ago");
        assert_eq!(words(i64::MIN), "past, 106751991167300d 15h ago");
    }
}
