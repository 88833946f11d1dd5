//! The key file: the gateway's seed, in 64 hexadecimal digits.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use bitcoin::hex::{DisplayHex, FromHex};
use farebox_channel::Seed;
use thiserror::Error;

/// Why there is no seed.
#[derive(Debug, Error)]
pub enum KeyFileError {
    /// The store is there and its key file is not.
    #[error(
        "there is a store at {store} but no key file at {key_file}: restore the key file from its \
         backup; without it nothing in the store can be settled"
    )]
    KeyMissing {
        /// Where the key file should be.
        key_file: PathBuf,
        /// Where the store is.
        store: PathBuf,
    },
    /// The key file is there and its store is not.
    #[error(
        "there is a key file at {key_file} but no store at {store}: restore the store from its \
         backup and start with --restored, start so without one if it is lost, or move the key \
         file away to start anew"
    )]
    StoreMissing {
        /// Where the key file is.
        key_file: PathBuf,
        /// Where the store should be.
        store: PathBuf,
    },
    /// There is nothing that could have been restored.
    #[error("there is no key file at {key_file}: restore it from its backup, with its store")]
    NothingToRestore {
        /// Where the key file should be.
        key_file: PathBuf,
    },
    /// Others can read the key file.
    #[error("{path} can be read by others (mode {mode:03o}): run `chmod 600` on it")]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// The file does not hold a seed.
    #[error("{0} does not hold 64 hexadecimal digits")]
    NoSeed(PathBuf),
    /// The file cannot be read or made.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What went wrong.
        source: io::Error,
    },
    /// No random numbers are to be had.
    #[error("the operating system gives no random numbers: {0}")]
    Random(getrandom::Error),
}

/// What a gateway's store is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoreAge {
    /// The one that this gateway has written last, or a new one.
    Current,
    /// A backup, or none where the store was lost.
    Restored,
}

/// A seed, and its file as far as it has come.
#[derive(Debug)]
pub struct KeyFile {
    seed: Seed,
    path: PathBuf,
    /// A new file keeps this name until the store is there.
    partial: Option<PathBuf>,
}

impl KeyFile {
    /// Reads the seed from `key_file`, or makes one when neither the file nor `store` exists.
    /// Other processes must be kept away meanwhile.
    ///
    /// A [`StoreAge::Restored`] may be lost altogether: then clients show their contracts again.
    ///
    /// # Errors
    /// [`KeyFileError`] when one exists without the other, or the file is no good.
    pub fn load_or_create(
        key_file: &Path,
        store: &Path,
        age: StoreAge,
    ) -> Result<Self, KeyFileError> {
        let path = key_file.to_owned();
        let partial = partial(key_file);
        match (key_file.exists(), store.exists()) {
            (true, true) => Ok(Self { seed: load(key_file)?, path, partial: None }),
            (true, false) if age == StoreAge::Restored => {
                Ok(Self { seed: load(key_file)?, path, partial: None })
            }
            (false, false) if age == StoreAge::Restored => {
                Err(KeyFileError::NothingToRestore { key_file: path })
            }
            (false, false) => Ok(Self { seed: create(&partial)?, path, partial: Some(partial) }),
            // The first start was cut off between the two.
            (false, true) if partial.exists() => {
                Ok(Self { seed: load(&partial)?, path, partial: Some(partial) })
            }
            (false, true) => {
                Err(KeyFileError::KeyMissing { key_file: path, store: store.to_owned() })
            }
            (true, false) => {
                Err(KeyFileError::StoreMissing { key_file: path, store: store.to_owned() })
            }
        }
    }

    /// Returns the seed.
    #[must_use]
    pub const fn seed(&self) -> &Seed {
        &self.seed
    }

    /// Gives a new file its name, now that the store is there.
    ///
    /// # Errors
    /// [`KeyFileError::Io`] when it cannot be renamed.
    pub fn keep(self) -> Result<(), KeyFileError> {
        let Self { path, partial, .. } = self;
        let Some(partial) = partial else { return Ok(()) };
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
        let folder = folder.unwrap_or_else(|| Path::new("."));
        let renamed = fs::rename(&partial, &path)
            .and_then(|()| File::open(folder))
            .and_then(|folder| folder.sync_all());
        renamed.map_err(|source| KeyFileError::Io { path, source })
    }
}

/// Returns the name of a key file that has no store yet.
fn partial(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".partial");
    name.into()
}

fn load(path: &Path) -> Result<Seed, KeyFileError> {
    let failed = |source| KeyFileError::Io { path: path.to_owned(), source };
    let mode = fs::metadata(path).map_err(failed)?.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(KeyFileError::Exposed { path: path.to_owned(), mode });
    }
    let text = fs::read_to_string(path).map_err(failed)?;
    let bytes = <[u8; 32]>::from_hex(text.trim());
    bytes.map(Seed::new).map_err(|_| KeyFileError::NoSeed(path.to_owned()))
}

/// Makes a key file that only its owner may read, and has it on disk.
fn create(path: &Path) -> Result<Seed, KeyFileError> {
    let failed = |source| KeyFileError::Io { path: path.to_owned(), source };
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).map_err(KeyFileError::Random)?;
    if path.exists() {
        // Of a first start that was cut off: no store was ever made with it.
        fs::remove_file(path).map_err(failed)?;
    }
    let mut file =
        OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(failed)?;
    writeln!(file, "{}", bytes.to_lower_hex_string()).map_err(failed)?;
    file.sync_all().map_err(failed)?;
    Ok(Seed::new(bytes))
}
