//! Where the client's change goes: the standard output scripts, and their dust.

use bitcoin::{Address, Network, Script, ScriptBuf};
use thiserror::Error;

use crate::units::Sat;

/// The greatest dust limit of all payout scripts: P2PKH's.
pub const DUST_MAX: Sat = Sat::saturating(546);

/// A payout script that is none of the five standard ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("a payout script is P2WPKH, P2WSH, P2TR, P2SH or P2PKH")]
pub struct UnusualScript;

/// An output script that change may be paid to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Payout {
    script: ScriptBuf,
    dust: Sat,
}

impl Payout {
    /// Checks that `script` is one that change may be paid to.
    ///
    /// # Errors
    /// [`UnusualScript`] for all but P2WPKH, P2WSH, P2TR, P2SH and P2PKH.
    pub fn new(script: ScriptBuf) -> Result<Self, UnusualScript> {
        let dust = dust(&script).ok_or(UnusualScript)?;
        Ok(Self { script, dust })
    }

    /// Returns the output script.
    #[must_use]
    pub fn script(&self) -> &Script {
        &self.script
    }

    /// Returns the least amount that the network relays to this script.
    #[must_use]
    pub const fn dust(&self) -> Sat {
        self.dust
    }

    /// Returns the script as an address, for people.
    #[must_use]
    pub fn address(&self, network: Network) -> Option<Address> {
        Address::from_script(&self.script, network).ok()
    }
}

impl TryFrom<&Address> for Payout {
    type Error = UnusualScript;

    fn try_from(address: &Address) -> Result<Self, UnusualScript> {
        Self::new(address.script_pubkey())
    }
}

/// Returns the dust limit of a standard script at the relay policy of 3 sat/vB.
fn dust(script: &Script) -> Option<Sat> {
    let sat = if script.is_p2wpkh() {
        294
    } else if script.is_p2wsh() || script.is_p2tr() {
        330
    } else if script.is_p2sh() {
        540
    } else if script.is_p2pkh() {
        546
    } else {
        return None;
    };
    Sat::new(sat).ok()
}

#[cfg(test)]
mod tests {
    use bitcoin::opcodes::all::OP_RETURN;
    use bitcoin::script::Builder;

    use super::*;

    #[test]
    fn only_standard_scripts_take_change_each_with_its_dust() {
        let witness = |version, length: usize| {
            let mut script = vec![version, u8::try_from(length).unwrap()];
            script.extend(vec![7; length]);
            Payout::new(ScriptBuf::from_bytes(script)).map(|payout| payout.dust().get())
        };
        assert_eq!(witness(0x00, 20), Ok(294));
        assert_eq!(witness(0x00, 32), Ok(330));
        assert_eq!(witness(0x51, 32), Ok(330));
        assert_eq!(witness(0x52, 32), Err(UnusualScript));
        assert_eq!(witness(0x51, 2), Err(UnusualScript));
        let hash = [7; 20];
        let p2sh = ScriptBuf::new_p2sh(&bitcoin::ScriptHash::from(
            bitcoin::hashes::hash160::Hash::from_bytes_ref(&hash).to_owned(),
        ));
        let p2pkh = ScriptBuf::new_p2pkh(&bitcoin::PubkeyHash::from(
            bitcoin::hashes::hash160::Hash::from_bytes_ref(&hash).to_owned(),
        ));
        assert_eq!(Payout::new(p2sh).unwrap().dust().get(), 540);
        assert_eq!(Payout::new(p2pkh).unwrap().dust().get(), 546);
        let op_return = Builder::new().push_opcode(OP_RETURN).into_script();
        assert_eq!(Payout::new(op_return), Err(UnusualScript));
    }
}
