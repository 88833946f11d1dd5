//! Contracts paid from the wallet's own coins.

use bdk_wallet::TxOrdering;
use bdk_wallet::coin_selection::LargestFirstCoinSelection;
use bdk_wallet::error::CreateTxError;
use bitcoin::absolute::LockTime;
use bitcoin::secp256k1::Secp256k1;
use bitcoin::{Amount, FeeRate, Psbt, ScriptBuf, Sequence, Transaction};
use farebox_chain::ChainError;

use super::books::{Books, coins, damaged};
use super::error::WalletError;
use super::words::Words;

impl Books {
    /// Builds a transaction that pays `amount_sat` to `script`, from confirmed coins that are not
    /// locked. The greatest go first, so that it is short.
    pub(super) fn build(
        &mut self,
        script: ScriptBuf,
        amount_sat: u64,
        rate: FeeRate,
    ) -> Result<Psbt, WalletError> {
        let mut builder = self.wallet.build_tx().coin_selection(LargestFirstCoinSelection);
        builder
            .add_recipient(script, Amount::from_sat(amount_sat))
            .ordering(TxOrdering::Untouched)
            .version(2)
            .nlocktime(LockTime::ZERO)
            // A refund spends its output, so it must not be replaced.
            .set_exact_sequence(Sequence::ENABLE_LOCKTIME_NO_RBF)
            .fee_rate(rate)
            .exclude_unconfirmed();
        builder.finish().map_err(|error| match error {
            CreateTxError::CoinSelection(few) => {
                let (available_sat, needed_sat) = (few.available.to_sat(), few.needed.to_sat());
                ChainError::TooFewCoins { available_sat, needed_sat }.into()
            }
            error => damaged(error),
        })
    }

    /// Signs a transaction, and keeps its coins from being spent otherwise.
    pub(super) fn sign_and_lock(
        &mut self,
        mut psbt: Psbt,
        words: &Words,
    ) -> Result<Transaction, WalletError> {
        let master = words.master(self.wallet.network())?;
        // Whatever is not signed is missing below.
        let _signed = psbt.sign(&master, &Secp256k1::new());
        let outcome = self.wallet.try_finalize_psbt(&mut psbt).map_err(damaged)?;
        if !outcome.is_finalized() {
            return Err(damaged("the keys do not sign for the coins"));
        }
        let transaction = psbt.extract_tx().map_err(damaged)?;
        for coin in coins(&transaction) {
            self.wallet.lock_outpoint(coin);
        }
        self.save()?;
        Ok(transaction)
    }
}
