//! A number of units, as it is written.

/// Returns the units that a number in JSON (RFC 8259 §6) says. A part of a unit counts as a whole
/// one, and what is more than a [`u64`] holds as the greatest of them. What has a minus sign, or is
/// no number, says nothing.
pub(super) fn units(text: &[u8]) -> Option<u64> {
    let text = str::from_utf8(text).ok()?;
    let (mantissa, exponent) = match text.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, shift(exponent)?),
        None => (text, 0),
    };
    let (whole, part) = match mantissa.split_once('.') {
        Some((_, "")) => return None,
        Some(parts) => parts,
        None => (mantissa, ""),
    };
    let is_whole = whole == "0" || (!whole.is_empty() && !whole.starts_with('0'));
    let digits = || whole.bytes().chain(part.bytes());
    if !is_whole || !digits().all(|digit| digit.is_ascii_digit()) {
        return None;
    }
    let point = i64::try_from(whole.len()).ok()?.saturating_add(exponent);
    Some(rounded_up(digits(), point))
}

/// Returns by how many places an exponent moves the point.
fn shift(exponent: &str) -> Option<i64> {
    let (digits, is_negative) = match exponent.strip_prefix('-') {
        Some(digits) => (digits, true),
        None => (exponent.strip_prefix('+').unwrap_or(exponent), false),
    };
    if digits.is_empty() || !digits.bytes().all(|digit| digit.is_ascii_digit()) {
        return None;
    }
    let places = digits.parse().unwrap_or(i64::MAX);
    Some(if is_negative { places.saturating_neg() } else { places })
}

/// Returns the number whose point stands after so many of its digits, or before all of them.
fn rounded_up(mut digits: impl Iterator<Item = u8> + Clone, point: i64) -> u64 {
    let is_zero = |digit: u8| digit == b'0';
    if digits.clone().all(is_zero) {
        return 0;
    }
    let mut units = 0_u64;
    // No further than the first digit that is not zero, and then the twenty of the greatest number.
    for _ in 0..point {
        let digit = digits.next().unwrap_or(b'0').saturating_sub(b'0');
        match units.checked_mul(10).and_then(|units| units.checked_add(u64::from(digit))) {
            Some(more) => units = more,
            None => return u64::MAX,
        }
    }
    units.saturating_add(u64::from(!digits.all(is_zero)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_whole_number_is_as_many_units() {
        for (text, expected) in [
            ("0", 0),
            ("7", 7),
            ("1200", 1_200),
            ("12.0", 12),
            ("1.2e1", 12),
            ("1.2E+1", 12),
            ("1200e-2", 12),
            ("0.00012e5", 12),
            ("0e99999999999999999999", 0),
            ("0.0e-99999999999999999999", 0),
            ("18446744073709551615", u64::MAX),
            ("1.8446744073709551615e19", u64::MAX),
        ] {
            assert_eq!(units(text.as_bytes()), Some(expected), "{text}");
        }
    }

    #[test]
    fn a_part_of_a_unit_counts_as_a_whole_one() {
        for (text, expected) in [
            ("12.5", 13),
            ("12.000000000000000000000000000001", 13),
            ("0.1", 1),
            ("1e-1", 1),
            ("1e-99999999999999999999", 1),
            ("1234e-2", 13),
            ("18446744073709551614.5", u64::MAX),
        ] {
            assert_eq!(units(text.as_bytes()), Some(expected), "{text}");
        }
    }

    #[test]
    fn more_than_can_be_counted_is_the_most_that_can() {
        for text in ["18446744073709551616", "1e20", "1e99999999999999999999", "0.01e400"] {
            assert_eq!(units(text.as_bytes()), Some(u64::MAX), "{text}");
        }
    }

    #[test]
    fn what_is_no_number_of_units_says_nothing() {
        for text in [
            "", "-1", "-0", "-1.5", "+1", "01", "00", "1.", ".5", "1e", "1e+", "1e1.5", "1e--1",
            "1.2.3", "NaN", "Infinity", "null", "true", "\"12\"", "0x10", "1_000", "1,2", " 1",
            "é",
        ] {
            assert_eq!(units(text.as_bytes()), None, "{text}");
        }
        assert_eq!(units(b"\xFF"), None);
    }
}
