//! The passphrase of the wallet, from a file or from a person.

use std::error::Error;
use std::fs;
use std::path::PathBuf;

use clap::Args;
use farebox_client::Passphrase;
use zeroize::Zeroizing;

/// Where the passphrase of the wallet comes from.
#[derive(Clone, Debug, Args)]
pub(super) struct PassphraseArguments {
    /// A file whose first line is the passphrase of your wallet [default: the terminal is asked]
    #[arg(long, value_name = "FILE", env = "FAREBOX_PASSPHRASE_FILE")]
    passphrase_file: Option<PathBuf>,
}

impl PassphraseArguments {
    /// Reads the passphrase, or asks for it.
    pub(super) fn ask(&self) -> Result<Passphrase, String> {
        match &self.passphrase_file {
            Some(file) => {
                let text = fs::read_to_string(file).map(Zeroizing::new);
                let text = text.map_err(|error| format!("{}: {error}", file.display()))?;
                Ok(Passphrase::new(text.lines().next().unwrap_or_default()))
            }
            None => prompt("Passphrase of your wallet: "),
        }
    }

    /// Reads a new passphrase, or asks for it twice.
    pub(super) fn choose(&self) -> Result<Passphrase, Box<dyn Error>> {
        let chosen = match &self.passphrase_file {
            Some(_) => self.ask()?,
            None => {
                let chosen = prompt("A passphrase for your wallet: ")?;
                if prompt("The same again: ")? != chosen {
                    return Err("these are two different passphrases".into());
                }
                chosen
            }
        };
        if chosen.is_empty() {
            return Err("without a passphrase, whoever has the file has the coins".into());
        }
        Ok(chosen)
    }
}

/// Asks at the terminal, which does not show what is typed.
fn prompt(question: &str) -> Result<Passphrase, String> {
    let typed = rpassword::prompt_password(question).map(Zeroizing::new);
    let typed = typed.map_err(|error| format!("the terminal cannot be asked ({error})"))?;
    Ok(Passphrase::new(&typed))
}
