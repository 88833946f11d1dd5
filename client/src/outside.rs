//! A wallet that is elsewhere, and somebody who brings what it says.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use bitcoin::consensus::encode::deserialize_hex;
use bitcoin::{Address, Amount, Denomination, FeeRate, Network, Psbt, ScriptBuf, Transaction};
use farebox_chain::{ChainError, Wallet};
use tokio::task::spawn_blocking;

/// What somebody is asked to pay.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invoice {
    /// The contract's address.
    pub address: Address,
    /// What it is to hold, exactly.
    pub amount: Amount,
}

impl Invoice {
    /// Returns it as other wallets read it (`BIP-0021`).
    #[must_use]
    pub fn uri(&self) -> String {
        let amount = self.amount.to_string_in(Denomination::Bitcoin);
        format!("bitcoin:{}?amount={amount}", self.address)
    }
}

/// Shows an invoice to somebody, who pays it from any wallet.
type Show = dyn Fn(&Invoice) + Send + Sync;
/// Has somebody sign a transaction that pays an invoice, and keep it to themselves. It may take a while.
type Sign = dyn Fn(&Invoice) -> Result<String, String> + Send + Sync;

/// How somebody pays.
#[derive(Clone)]
enum Manner {
    Address(Arc<Show>),
    Psbt(Arc<Sign>),
}

/// A wallet that this program cannot reach. Clones are the same.
#[derive(Clone)]
pub struct OutsideWallet {
    network: Network,
    payout: Address,
    manner: Manner,
}

impl OutsideWallet {
    /// A wallet that pays addresses, for contracts of kind `cltv`. Change and refunds go to
    /// `payout`.
    #[must_use]
    pub fn by_address(
        network: Network,
        payout: Address,
        show: impl Fn(&Invoice) + Send + Sync + 'static,
    ) -> Self {
        Self { network, payout, manner: Manner::Address(Arc::new(show)) }
    }

    /// A wallet that signs a transaction without sending it, for contracts of both kinds. It is
    /// handed over as a finalized PSBT (`BIP-0174`) in base64, or as a transaction in hexadecimal.
    #[must_use]
    pub fn by_psbt(
        network: Network,
        payout: Address,
        sign: impl Fn(&Invoice) -> Result<String, String> + Send + Sync + 'static,
    ) -> Self {
        Self { network, payout, manner: Manner::Psbt(Arc::new(sign)) }
    }
}

impl fmt::Debug for OutsideWallet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OutsideWallet").field("payout", &self.payout).finish_non_exhaustive()
    }
}

impl Wallet for OutsideWallet {
    async fn check_wallet(&self) -> Result<(), ChainError> {
        Ok(())
    }

    async fn fresh_address(&self) -> Result<Address, ChainError> {
        Ok(self.payout.clone())
    }

    fn asks(&self) -> bool {
        matches!(self.manner, Manner::Address(_))
    }

    fn shows(&self) -> bool {
        true
    }

    fn ask(&self, address: Address, amount_sat: u64) {
        if let Manner::Address(show) = &self.manner {
            show(&Invoice { address, amount: Amount::from_sat(amount_sat) });
        }
    }

    async fn fund(
        &self,
        script: ScriptBuf,
        amount_sat: u64,
        _rate: FeeRate,
    ) -> Result<Transaction, ChainError> {
        let failed = |reason: String| ChainError::Wallet(reason);
        let Manner::Psbt(sign) = &self.manner else {
            return Err(failed(
                "a `refund` contract is funded by a PSBT, not by an address".to_owned(),
            ));
        };
        let address = Address::from_script(&script, self.network);
        let address = address.map_err(|error| failed(error.to_string()))?;
        let invoice = Invoice { address, amount: Amount::from_sat(amount_sat) };
        let sign = Arc::clone(sign);
        let signed = spawn_blocking(move || sign(&invoice)).await;
        let signed = signed.map_err(|error| failed(error.to_string()))?.map_err(failed)?;
        read(&signed).map_err(failed)
    }

    /// Whose coins they are is not known here, nor who else keeps them.
    async fn release(&self, _: Transaction) -> Result<(), ChainError> {
        Err(ChainError::Wallet("the contract's coins are in a wallet elsewhere".to_owned()))
    }
}

/// Reads a transaction as other wallets hand it over.
fn read(signed: &str) -> Result<Transaction, String> {
    let signed = signed.trim();
    if let Ok(transaction) = deserialize_hex(signed) {
        return Ok(transaction);
    }
    let psbt = Psbt::from_str(signed);
    let psbt =
        psbt.map_err(|error| format!("this is neither a PSBT nor a transaction: {error}"))?;
    let is_final = |input: &bitcoin::psbt::Input| {
        input.final_script_witness.is_some() || input.final_script_sig.is_some()
    };
    if !psbt.inputs.iter().all(is_final) {
        return Err("the PSBT is not signed and finalized".to_owned());
    }
    psbt.extract_tx().map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_invoice_is_a_uri_in_bitcoin() {
        let address = Address::from_str("bcrt1q2nfxmhd4n3c8834pj72xagvyr9gl57n5r94fsl").unwrap();
        let amount = Amount::from_sat(100_000);
        let invoice = Invoice { address: address.assume_checked(), amount };
        let told = "bitcoin:bcrt1q2nfxmhd4n3c8834pj72xagvyr9gl57n5r94fsl?amount=0.001";
        assert_eq!(invoice.uri(), told);
    }

    #[test]
    fn words_are_no_transaction() {
        assert!(read("I have paid").unwrap_err().starts_with("this is neither a PSBT"));
    }
}
