//! What a misspelt key was meant to be.

/// How like a key must be to what was written: 1 is the same.
const LIKENESS_MIN: f64 = 0.7;

/// Returns the key that is most like the one which a message of the parser calls unknown.
///
/// Such a message has the unknown key and then all that are known, each between backticks.
pub(super) fn nearest(message: &str) -> Option<&str> {
    let (_, named) = message.split_once("unknown field `")?;
    let mut quoted = named.split('`').step_by(2);
    let unknown = quoted.next()?;
    quoted
        .map(|known| (strsim::jaro_winkler(unknown, known), known))
        .filter(|(likeness, _)| *likeness >= LIKENESS_MIN)
        .max_by(|(a, _), (b, _)| a.total_cmp(b))
        .map(|(_, known)| known)
}

#[cfg(test)]
mod tests {
    use super::nearest;

    #[test]
    fn a_misspelt_key_is_recognised() {
        let message = "unknown field `netwrok`, expected one of `listen`, `network`, `store`";
        assert_eq!(nearest(message), Some("network"));
        assert_eq!(nearest("unknown field `usrl`, expected `url`"), Some("url"));
    }

    #[test]
    fn a_key_that_is_like_no_other_is_left_alone() {
        let message = "unknown field `zzz`, expected one of `listen`, `network`";
        assert_eq!(nearest(message), None);
        assert_eq!(nearest("missing field `network`"), None);
    }
}
