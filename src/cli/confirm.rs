//! A question before something that cannot be taken back.

use std::error::Error;
use std::io::{self, BufRead, IsTerminal, Write};

use clap::Args;

/// How a question is answered.
#[derive(Clone, Copy, Debug, Args)]
pub(super) struct ConfirmArguments {
    /// Do not ask. Needed where there is no terminal to ask at
    #[arg(long, short)]
    yes: bool,
}

impl ConfirmArguments {
    /// Asks, and returns nothing unless the answer is yes.
    pub(super) fn ask(&self, question: &str) -> Result<(), Box<dyn Error>> {
        if self.yes {
            return Ok(());
        }
        if !io::stdin().is_terminal() || !io::stderr().is_terminal() {
            return Err("there is no terminal to ask at: give --yes".into());
        }
        write!(io::stderr(), "{question} [y/N] ")?;
        if is_yes(&mut io::stdin().lock())? { Ok(()) } else { Err("nothing was done".into()) }
    }
}

/// Reads one line, and tells whether it is a yes.
fn is_yes(input: &mut impl BufRead) -> io::Result<bool> {
    let mut line = String::new();
    input.read_line(&mut line)?;
    Ok(matches!(line.trim().to_ascii_lowercase().as_str(), "y" | "yes"))
}

#[cfg(test)]
mod tests {
    use super::is_yes;

    #[test]
    fn only_a_yes_is_a_yes() {
        for (line, expected) in [("y\n", true), (" YES \n", true), ("\n", false), ("", false)] {
            assert_eq!(is_yes(&mut line.as_bytes()).unwrap(), expected, "{line:?}");
        }
        assert!(!is_yes(&mut "yesterday\n".as_bytes()).unwrap());
    }
}
