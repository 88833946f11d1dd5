//! A secret at rest: encrypted with a key that a passphrase makes.

use std::fmt;

use argon2::{Algorithm, Argon2, Params, Version};
use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{Key, XChaCha20Poly1305, XNonce};
use zeroize::Zeroizing;

use super::error::WalletError;

/// What a guess costs: 64 MiB, three passes, four lanes (`RFC 9106 §4`, second choice).
const MEMORY_KIB: u32 = 64 * 1024;
const PASSES: u32 = 3;
const LANES: u32 = 4;

const KEY_LEN: usize = 32;
pub(crate) const SALT_LEN: usize = 16;
pub(crate) const NONCE_LEN: usize = 24;

/// What opens a seed. It is wiped from memory after use.
#[derive(Clone, PartialEq, Eq)]
pub struct Passphrase(Zeroizing<String>);

impl Passphrase {
    /// Takes a passphrase as it was typed, without the end of the line.
    #[must_use]
    pub fn new(typed: &str) -> Self {
        Self(Zeroizing::new(typed.trim_end_matches(['\r', '\n']).to_owned()))
    }

    /// Tells whether there is nothing in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Debug for Passphrase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Passphrase").finish_non_exhaustive()
    }
}

/// A secret that only its passphrase opens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Sealed {
    pub(crate) salt: [u8; SALT_LEN],
    pub(crate) nonce: [u8; NONCE_LEN],
    pub(crate) bytes: Vec<u8>,
}

impl Sealed {
    /// Seals a secret that belongs to something.
    pub(crate) fn new(
        secret: &[u8],
        belongs_to: &[u8],
        passphrase: &Passphrase,
    ) -> Result<Self, WalletError> {
        let (mut salt, mut nonce) = ([0; SALT_LEN], [0; NONCE_LEN]);
        getrandom::fill(&mut salt)?;
        getrandom::fill(&mut nonce)?;
        let payload = Payload { msg: secret, aad: belongs_to };
        let cipher = cipher(passphrase, &salt)?;
        let bytes = cipher.encrypt(&XNonce::from(nonce), payload);
        let bytes = bytes.map_err(|error| WalletError::Damaged(error.to_string()))?;
        Ok(Self { salt, nonce, bytes })
    }

    /// Opens it, where it belongs to that and the passphrase is the right one.
    pub(crate) fn open(
        &self,
        belongs_to: &[u8],
        passphrase: &Passphrase,
    ) -> Result<Zeroizing<Vec<u8>>, WalletError> {
        let payload = Payload { msg: &self.bytes, aad: belongs_to };
        let opened = cipher(passphrase, &self.salt)?.decrypt(&XNonce::from(self.nonce), payload);
        opened.map(Zeroizing::new).map_err(|_| WalletError::WrongPassphrase)
    }
}

/// Returns the cipher of a passphrase.
fn cipher(passphrase: &Passphrase, salt: &[u8]) -> Result<XChaCha20Poly1305, WalletError> {
    let damaged = |error: argon2::Error| WalletError::Damaged(error.to_string());
    let params = Params::new(MEMORY_KIB, PASSES, LANES, Some(KEY_LEN)).map_err(damaged)?;
    let mut key = Zeroizing::new([0; KEY_LEN]);
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
        .hash_password_into(passphrase.0.as_bytes(), salt, key.as_mut())
        .map_err(damaged)?;
    Ok(XChaCha20Poly1305::new(&Key::from(*key)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_its_passphrase_opens_a_secret_where_it_belongs() {
        let right = Passphrase::new("right\n");
        let sealed = Sealed::new(b"secret", b"regtest", &right).unwrap();
        assert!(!sealed.bytes.windows(6).any(|bytes| bytes == b"secret"));

        assert_eq!(*sealed.open(b"regtest", &Passphrase::new("right")).unwrap(), b"secret");
        let wrong = sealed.open(b"regtest", &Passphrase::new("wrong"));
        assert!(matches!(wrong, Err(WalletError::WrongPassphrase)));
        let elsewhere = sealed.open(b"main", &right);
        assert!(matches!(elsewhere, Err(WalletError::WrongPassphrase)));
    }
}
