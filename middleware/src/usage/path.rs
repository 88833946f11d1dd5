//! The way to a number in a JSON document.

use std::str::FromStr;
use std::sync::Arc;

use thiserror::Error;

/// The most paths that are summed.
const PATHS_MAX: usize = 8;
/// The most steps of a path.
const STEPS_MAX: usize = 16;
/// The greatest length of a step in bytes.
pub(super) const STEP_LEN_MAX: usize = 64;

/// The way to a number in a JSON document, such as `usage.total_tokens`.
///
/// Each step is the name of an object's member, or the index of an array's element, as `0` in
/// `choices.0.tokens`. Several are summed: `message.usage.input_tokens + usage.output_tokens`. Each
/// of them may stand in another document of an answer, and nothing is reported before all were: an
/// answer that is broken off never counts as the part that was reported first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UsagePath(Arc<[Box<[Step]>]>);

impl UsagePath {
    /// Returns the steps of each path.
    pub(super) fn paths(&self) -> impl Iterator<Item = &[Step]> {
        self.0.iter().map(|steps| &**steps)
    }
}

impl FromStr for UsagePath {
    type Err = BadUsagePath;

    fn from_str(text: &str) -> Result<Self, BadUsagePath> {
        let paths = text.split('+').map(|path| path.trim().split('.').map(Step::new).collect());
        let paths: Vec<Box<[Step]>> = paths.collect::<Result<_, _>>()?;
        if paths.len() > PATHS_MAX {
            return Err(BadUsagePath::TooMany);
        }
        if paths.iter().any(|steps| steps.len() > STEPS_MAX) {
            return Err(BadUsagePath::TooDeep);
        }
        Ok(Self(paths.into()))
    }
}

/// Why a text is no path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum BadUsagePath {
    /// There is nothing where a step should be.
    #[error("a step is empty")]
    Empty,
    /// A step has a character that no step has.
    #[error("{0:?} stands in a step; write `a.b.0` for the first element of `b` in `a`")]
    Character(char),
    /// A step is too long.
    #[error("a step has more than {STEP_LEN_MAX} bytes")]
    TooLong,
    /// A path has too many steps.
    #[error("a path has more than {STEPS_MAX} steps")]
    TooDeep,
    /// Too many paths are summed.
    #[error("more than {PATHS_MAX} paths are summed")]
    TooMany,
}

/// One step of a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Step {
    name: Box<str>,
    /// The same as an index, where it is one.
    index: Option<u64>,
}

impl Step {
    /// Checks a step. It has nothing that could be written in JSON but as it is, or by its code
    /// point: [`Events`](super::events::Events) looks for either.
    fn new(name: &str) -> Result<Self, BadUsagePath> {
        let is_foreign = |letter: char| {
            letter.is_whitespace() || letter.is_control() || "[]{}()\"'`/\\,*?".contains(letter)
        };
        if name.is_empty() {
            return Err(BadUsagePath::Empty);
        }
        if let Some(letter) = name.chars().find(|letter| is_foreign(*letter)) {
            return Err(BadUsagePath::Character(letter));
        }
        if name.len() > STEP_LEN_MAX {
            return Err(BadUsagePath::TooLong);
        }
        let is_index = name.bytes().all(|digit| digit.is_ascii_digit())
            && (name == "0" || !name.starts_with('0'));
        let index = is_index.then(|| name.parse().ok()).flatten();
        Ok(Self { name: name.into(), index })
    }

    /// Returns the name of a member of an object that it leads to.
    pub(super) const fn name(&self) -> &str {
        &self.name
    }

    /// Tells whether it leads to an element of an array.
    pub(super) fn is_index(&self, index: u64) -> bool {
        self.index == Some(index)
    }

    /// Tells whether it leads into any array.
    pub(super) const fn enters_array(&self) -> bool {
        self.index.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn steps(path: &str) -> Vec<Vec<String>> {
        let path = UsagePath::from_str(path).unwrap();
        path.paths().map(|steps| steps.iter().map(|step| step.name.to_string()).collect()).collect()
    }

    #[test]
    fn a_path_has_its_steps_between_points() {
        assert_eq!(steps("tokens"), [["tokens"]]);
        assert_eq!(steps("usage.total_tokens"), [["usage", "total_tokens"]]);
        assert_eq!(steps(" a.0.größe-in:B "), [["a", "0", "größe-in:B"]]);
    }

    #[test]
    fn several_paths_are_summed() {
        assert_eq!(steps("usage.in+usage.out"), [["usage", "in"], ["usage", "out"]]);
        assert_eq!(steps("a + b.c +d"), [vec!["a"], vec!["b", "c"], vec!["d"]]);
    }

    #[test]
    fn a_text_that_is_no_path_is_refused() {
        let refused = |path: &str| UsagePath::from_str(path).unwrap_err();
        for path in ["", " ", ".", "a.", ".a", "a..b", "a+", "+a", "a++b"] {
            assert_eq!(refused(path), BadUsagePath::Empty, "{path}");
        }
        for (path, letter) in
            [("/a", '/'), ("a b", ' '), ("choices[0]", '['), ("\"a\"", '"'), ("a\u{7}", '\u{7}')]
        {
            assert_eq!(refused(path), BadUsagePath::Character(letter), "{path}");
        }
        assert_eq!(refused(&"a".repeat(STEP_LEN_MAX + 1)), BadUsagePath::TooLong);
        assert_eq!(refused(&["a"; STEPS_MAX + 1].join(".")), BadUsagePath::TooDeep);
        assert_eq!(refused(&["a"; PATHS_MAX + 1].join("+")), BadUsagePath::TooMany);
        assert_eq!(steps(&"a".repeat(STEP_LEN_MAX)).len(), 1);
        assert_eq!(steps(&["a"; STEPS_MAX].join("."))[0].len(), STEPS_MAX);
        assert_eq!(steps(&["a"; PATHS_MAX].join("+")).len(), PATHS_MAX);
    }
}
