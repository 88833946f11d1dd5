//! What the ledger, the node and the codec refuse, told as problems.

use farebox_channel::gateway::Refusal;
use farebox_channel::wire::Malformed;
use farebox_channel::{ContractMismatch, PaymentError};
use farebox_ledger::LedgerError;

use crate::node::NodeError;
use crate::problem::{Problem, ProblemKind};

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        let kind = match &refusal {
            Refusal::KindNotOffered(_) => ProblemKind::KindNotOffered,
            Refusal::CapacityOutOfBounds { .. } => ProblemKind::CapacityOutOfBounds,
            Refusal::ExpiryOutOfBounds { .. } => ProblemKind::ExpiryOutOfBounds,
            Refusal::Contract(mismatch) => contract_kind(mismatch),
            Refusal::OtherCapacity { .. } | Refusal::OtherTerms => ProblemKind::ContractMismatch,
            Refusal::ContractSpent(_) => ProblemKind::ContractSpent,
            Refusal::ContractRefused(_) => ProblemKind::ContractRefused,
            Refusal::Payment(error) => payment_kind(error),
            Refusal::FirstPaymentTooSmall { .. } => ProblemKind::FirstPaymentTooSmall,
            Refusal::WrongPass => ProblemKind::WrongPass,
            Refusal::UnknownChannel => ProblemKind::ChannelUnknown,
            Refusal::Proof(_) => ProblemKind::WrongProof,
            Refusal::Stale => ProblemKind::ChannelRestored,
            Refusal::Pending => ProblemKind::ChannelPending,
            Refusal::Late => ProblemKind::ChannelLate,
            Refusal::PriceRaised { .. } => ProblemKind::PriceRaised,
            Refusal::Underpaid { .. } => ProblemKind::Underpaid,
            Refusal::Expiring => ProblemKind::ChannelExpiring,
            Refusal::Closing => ProblemKind::ChannelClosing,
            Refusal::Ended => ProblemKind::ChannelEnded,
            Refusal::FinalOutOfBounds { .. } => ProblemKind::FinalOutOfBounds,
            Refusal::UnderWay => ProblemKind::RequestUnderWay,
            Refusal::Answered(_) => ProblemKind::RequestAnswered,
            Refusal::NameReused => ProblemKind::KeyReused,
        };
        let problem = Self::new(kind, refusal.to_string());
        match refusal {
            Refusal::Underpaid { paid, spent, credit, price } => problem
                .with("paid", paid.get())
                .with("spent", spent.get())
                .with("credit", credit.get())
                .with("price", price.get()),
            Refusal::PriceRaised { price, .. } => problem.with("price", price.get()),
            Refusal::FinalOutOfBounds { least, most, .. } => {
                problem.with("least", least.get()).with("most", most.get())
            }
            Refusal::Answered(receipt) => problem.with_receipt(receipt),
            _ => problem,
        }
    }
}

const fn contract_kind(mismatch: &ContractMismatch) -> ProblemKind {
    match mismatch {
        ContractMismatch::OtherTransaction(_)
        | ContractMismatch::NoOutput(_)
        | ContractMismatch::OtherScript
        | ContractMismatch::Value(_) => ProblemKind::ContractMismatch,
        ContractMismatch::NotSegwit(_) => ProblemKind::ContractNotSegwit,
        ContractMismatch::NotFinal => ProblemKind::ContractNotFinal,
    }
}

const fn payment_kind(error: &PaymentError) -> ProblemKind {
    match error {
        PaymentError::BeyondCapacity { .. } => ProblemKind::BeyondCapacity,
        PaymentError::ChangeBelowDust { .. } => ProblemKind::ChangeBelowDust,
        PaymentError::BadSignature => ProblemKind::SignatureInvalid,
    }
}

impl From<Malformed> for Problem {
    fn from(malformed: Malformed) -> Self {
        Self::new(ProblemKind::Malformed, malformed.to_string())
    }
}

impl From<LedgerError> for Problem {
    /// What a store says is logged here and not told: it is nobody's business outside.
    fn from(error: LedgerError) -> Self {
        match error {
            LedgerError::Refused(refusal) => refusal.into(),
            LedgerError::Unknown => Refusal::UnknownChannel.into(),
            LedgerError::Busy => {
                let detail = "too many payments wait to be recorded; try again later";
                Self::new(ProblemKind::StoreUnavailable, detail)
            }
            LedgerError::Store(_) | LedgerError::Stopped => {
                tracing::error!(error = %error, "the ledger failed");
                let detail = "payments cannot be recorded now; try again later";
                Self::new(ProblemKind::StoreUnavailable, detail)
            }
        }
    }
}

impl From<NodeError> for Problem {
    fn from(error: NodeError) -> Self {
        match error {
            NodeError::Away(_) => {
                tracing::warn!(error = %error, "an opening could not be looked up");
                let detail = "channels cannot be opened until the node is back";
                Self::new(ProblemKind::NodeUnavailable, detail)
            }
            NodeError::Busy => Self::new(ProblemKind::NodeUnavailable, error.to_string()),
            NodeError::Missing(reason) => Refusal::ContractSpent(reason).into(),
            NodeError::Refused(reason) => Refusal::ContractRefused(reason).into(),
        }
    }
}
