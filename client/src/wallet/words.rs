//! The words that a wallet's keys come from.

use std::fmt;

use bdk_wallet::keys::bip39::{Language, Mnemonic};
use bitcoin::Network;
use bitcoin::bip32::{ChildNumber, DerivationPath, Fingerprint, Xpriv, Xpub};
use bitcoin::secp256k1::Secp256k1;
use zeroize::Zeroizing;

use super::error::WalletError;

/// How much chance is in the words, in bytes: 128 bits, twelve words.
const ENTROPY_LEN: usize = 16;
/// The purpose of native segwit wallets (`BIP-0084`).
const PURPOSE: u32 = 84;

/// The words of a seed (`BIP-0039`), in English. Whoever has them has the coins.
#[derive(Clone, PartialEq, Eq)]
pub struct Words(Mnemonic);

impl Words {
    /// Makes new ones.
    ///
    /// # Errors
    /// [`WalletError::Random`] when the system gives no random numbers.
    pub fn random() -> Result<Self, WalletError> {
        let mut entropy = Zeroizing::new([0; ENTROPY_LEN]);
        getrandom::fill(entropy.as_mut())?;
        Self::from_entropy(entropy.as_ref())
    }

    /// Reads the words of a seed, whatever stands between them.
    ///
    /// # Errors
    /// [`WalletError::NoWords`] when they are none, or one of them is wrong.
    pub fn read(text: &str) -> Result<Self, WalletError> {
        let text = Zeroizing::new(text.split_whitespace().collect::<Vec<_>>().join(" "));
        let words = Mnemonic::parse_in(Language::English, text.to_lowercase());
        words.map(Self).map_err(|error| WalletError::NoWords(error.to_string()))
    }

    /// Returns the words one after the other.
    pub fn iter(&self) -> impl Iterator<Item = &'static str> + '_ {
        self.0.words()
    }

    pub(crate) fn from_entropy(entropy: &[u8]) -> Result<Self, WalletError> {
        let words = Mnemonic::from_entropy_in(Language::English, entropy);
        words.map(Self).map_err(|error| WalletError::NoWords(error.to_string()))
    }

    pub(crate) fn entropy(&self) -> Zeroizing<Vec<u8>> {
        Zeroizing::new(self.0.to_entropy())
    }

    /// Returns the key that all others come from.
    pub(crate) fn master(&self, network: Network) -> Result<Xpriv, WalletError> {
        let seed = Zeroizing::new(self.0.to_seed(""));
        Xpriv::new_master(network, seed.as_ref()).map_err(damaged)
    }

    /// Returns the fingerprint of the master key, and the public key of the first account.
    pub(crate) fn account(&self, network: Network) -> Result<(Fingerprint, Xpub), WalletError> {
        let secp = Secp256k1::new();
        let master = self.master(network)?;
        let coin = if network == Network::Bitcoin { 0 } else { 1 };
        let path = [PURPOSE, coin, 0].map(|index| ChildNumber::Hardened { index });
        let account = master.derive_priv(&secp, &DerivationPath::from(path.to_vec()));
        let account = account.map_err(damaged)?;
        Ok((master.fingerprint(&secp), Xpub::from_priv(&secp, &account)))
    }
}

fn damaged(error: bitcoin::bip32::Error) -> WalletError {
    WalletError::Damaged(error.to_string())
}

impl fmt::Debug for Words {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Words").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The test vector of `BIP-0084`.
    const WORDS: &str = "abandon abandon abandon abandon abandon abandon abandon abandon abandon \
                         abandon abandon about";

    #[test]
    fn the_account_is_that_of_other_wallets() {
        let (_, account) = Words::read(WORDS).unwrap().account(Network::Bitcoin).unwrap();
        // The same key as the zpub of the BIP, written as an xpub.
        let told = "xpub6CatWdiZiodmUeTDp8LT5or8nmbKNcuyvz7WyksVFkKB4RHwCD3XyuvPEbvqAQY3rAPshWcMLoP2fMFMKHPJ4ZeZXYVUhLv1VMrjPC7PW6V";
        assert_eq!(account.to_string(), told);
    }

    #[test]
    fn words_are_read_with_any_space_and_case() {
        let spaced = WORDS.replace(' ', " \n ").to_uppercase();
        assert_eq!(Words::read(&spaced).unwrap(), Words::read(WORDS).unwrap());
    }

    #[test]
    fn a_wrong_word_is_no_seed() {
        let wrong = WORDS.replace("about", "above");
        assert!(matches!(Words::read(&wrong), Err(WalletError::NoWords(_))));
    }

    #[test]
    fn new_words_are_twelve_and_differ() {
        let (one, other) = (Words::random().unwrap(), Words::random().unwrap());
        assert_eq!(one.iter().count(), 12);
        assert_ne!(one, other);
        assert_eq!(Words::from_entropy(&one.entropy()).unwrap(), one);
    }
}
