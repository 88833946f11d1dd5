//! Contracts that a gateway refuses: which of them are given up, and where another payment is looked for.

use farebox_chain::{Chain, Wallet};
use farebox_channel::client::Held;
use farebox_channel::message::StateName;

use crate::error::PayError;
use crate::gateway::Origin;
use crate::opening::BEHIND;
use crate::paying::{PayingClient, is_one_of};
use crate::record::Record;

impl<B: Chain + Wallet> PayingClient<B> {
    /// Shows a contract no more that is refused for good. One that our own node has may be taken once the
    /// gateway's has it too. Where somebody has paid, and our node has that payment no more, another one
    /// may have replaced it, which is looked for: but not where the gateway has closed the channel.
    pub(crate) async fn give_up_contract(
        &self,
        origin: &Origin,
        record: &Record,
        held: &Held,
        error: &PayError,
    ) -> Result<(), PayError> {
        let (loss, is_away) = (Loss::of(error), self.is_away(record, held).await);
        let address = record.contract().terms.address();
        let may_be_replaced = is_away && held.transaction.is_none();
        let is_replaced = may_be_replaced
            && match loss {
                Loss::Passing | Loss::Replaced => true,
                Loss::Spent => self.is_paid_anew(origin, &address).await?,
                Loss::Final => false,
            };
        // It is looked for before the lost one is given up: whatever fails, one of them is gone on with.
        if is_replaced {
            self.file.set_found(&address, false)?;
        }
        if is_away || loss != Loss::Passing {
            self.file.refuse(&record.outpoint())?;
        }
        Ok(())
    }

    /// Tells whether our own node has a contract no more. One that is sent along may be in no mempool yet:
    /// it is away once something else has spent its coins.
    async fn is_away(&self, record: &Record, held: &Held) -> bool {
        let is_missing = async |outpoint| matches!(self.node.unspent(outpoint).await, Ok(None));
        if !is_missing(record.outpoint()).await {
            return false;
        }
        let Some(contract) = &held.transaction else { return true };
        for input in &contract.input {
            if is_missing(input.previous_output).await {
                return true;
            }
        }
        false
    }
}

/// What the refusal of a contract tells, where our own node has its payment no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Loss {
    /// A node may be behind, or the payment may have been replaced by one that waits for a block.
    Passing,
    /// Another transaction has spent the coins.
    Replaced,
    /// A settlement has spent the contract, or another transaction the coins.
    Spent,
    /// It was served, or it never will be.
    Final,
}

impl Loss {
    fn of(error: &PayError) -> Self {
        match error {
            PayError::NotOpen(_, StateName::Pending) => Self::Passing,
            PayError::NotOpen(_, StateName::Lost) => Self::Replaced,
            PayError::NotOpen(_, StateName::Closing) => Self::Spent,
            error if is_one_of(error, &BEHIND) => Self::Passing,
            _ => Self::Final,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bitcoin::OutPoint;

    #[test]
    fn a_channel_that_its_gateway_has_closed_is_not_taken_for_a_payment_that_was_replaced() {
        let not_open = |state| Loss::of(&PayError::NotOpen(OutPoint::null(), state));
        for state in [StateName::Settled, StateName::WrittenOff, StateName::Late] {
            assert_eq!(not_open(state), Loss::Final, "{state:?}");
        }
        assert_eq!(not_open(StateName::Closing), Loss::Spent, "the chain tells by what");
        assert_eq!(not_open(StateName::Pending), Loss::Passing);
        assert_eq!(not_open(StateName::Lost), Loss::Replaced);
    }
}
