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
         backup, or move the key file away to start anew"
    )]
    StoreMissing {
        /// Where the key file is.
        key_file: PathBuf,
        /// Where the store should be.
        store: PathBuf,
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

/// Reads the seed from `key_file`, or makes one when neither the file nor `store` exists.
///
/// # Errors
/// [`KeyFileError`] when one exists without the other, or the file is no good.
pub fn load_or_create(key_file: &Path, store: &Path) -> Result<Seed, KeyFileError> {
    match (key_file.exists(), store.exists()) {
        (true, true) => load(key_file),
        (false, false) => create(key_file),
        (false, true) => Err(KeyFileError::KeyMissing {
            key_file: key_file.to_owned(),
            store: store.to_owned(),
        }),
        (true, false) => Err(KeyFileError::StoreMissing {
            key_file: key_file.to_owned(),
            store: store.to_owned(),
        }),
    }
}

fn load(path: &Path) -> Result<Seed, KeyFileError> {
    let failed = |source| KeyFileError::Io {
        path: path.to_owned(),
        source,
    };
    let mode = fs::metadata(path).map_err(failed)?.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(KeyFileError::Exposed {
            path: path.to_owned(),
            mode,
        });
    }
    let text = fs::read_to_string(path).map_err(failed)?;
    let bytes = <[u8; 32]>::from_hex(text.trim());
    bytes
        .map(Seed::new)
        .map_err(|_| KeyFileError::NoSeed(path.to_owned()))
}

/// Makes a key file. It has its name only once all of it is on disk.
fn create(path: &Path) -> Result<Seed, KeyFileError> {
    let failed = |source| KeyFileError::Io {
        path: path.to_owned(),
        source,
    };
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).map_err(KeyFileError::Random)?;
    let partial = path.with_extension("partial");
    let mut options = OpenOptions::new();
    let mut file = options
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&partial);
    let written = file
        .as_mut()
        .map_err(|error| io::Error::new(error.kind(), error.to_string()));
    let written = written.and_then(|file| {
        writeln!(file, "{}", bytes.to_lower_hex_string())?;
        file.sync_all()
    });
    written.map_err(failed)?;
    fs::rename(&partial, path).map_err(failed)?;
    let folder = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty());
    let folder = folder.unwrap_or_else(|| Path::new("."));
    File::open(folder)
        .and_then(|folder| folder.sync_all())
        .map_err(failed)?;
    Ok(Seed::new(bytes))
}
