//! What has spent a contract in a block.

use bitcoin::{Transaction, Txid};

use crate::contract::{Contract, Kind};
use crate::payment::SETTLEMENT_VERSION;
use crate::settlement::settled;
use crate::units::Sat;

/// What spent a contract's output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spender {
    /// A settlement, signed by both sides.
    Settlement,
    /// The client's refund.
    Refund,
    /// Nothing: the coins that the contract was made of were spent otherwise.
    DoubleSpend,
}

impl Spender {
    /// Every spender.
    pub const ALL: [Self; 3] = [Self::Settlement, Self::Refund, Self::DoubleSpend];

    /// Returns the spender's name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Settlement => "settlement",
            Self::Refund => "refund",
            Self::DoubleSpend => "double-spend",
        }
    }
}

/// The spending of a contract's output in a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mined {
    /// The id of the spending transaction.
    pub txid: Txid,
    /// The height of its block.
    pub height: u32,
    /// What it is.
    pub by: Spender,
    /// What it takes for the gateway, before the fee.
    pub settled: Sat,
}

impl Mined {
    /// Recognises what `transaction`, mined at `height`, does to `contract`.
    ///
    /// Returns nothing when it does not spend the contract. The gateway signs a `refund`
    /// contract for version 3 settlements and version 2 refunds only; a `cltv` refund has an
    /// empty signature in the gateway's place.
    #[must_use]
    pub fn recognise(contract: &Contract, transaction: &Transaction, height: u32) -> Option<Self> {
        let spends = |input: &&bitcoin::TxIn| input.previous_output == contract.outpoint;
        let input = transaction.input.iter().find(spends)?;
        let is_settlement = match contract.terms.kind {
            Kind::Refund => transaction.version == SETTLEMENT_VERSION,
            Kind::Cltv => input.witness.nth(1).is_some_and(|signature| !signature.is_empty()),
        };
        let (by, settled) = if is_settlement {
            (Spender::Settlement, settled(contract, transaction).unwrap_or_default())
        } else {
            (Spender::Refund, Sat::ZERO)
        };
        Some(Self { txid: transaction.compute_txid(), height, by, settled })
    }

    /// Notes that `transaction`, mined at `height`, spends what the contract was made of.
    #[must_use]
    pub fn double_spend(transaction: &Transaction, height: u32) -> Self {
        let (by, settled) = (Spender::DoubleSpend, Sat::ZERO);
        Self { txid: transaction.compute_txid(), height, by, settled }
    }
}
