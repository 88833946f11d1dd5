//! How `farebox pay` ends, as scripts see it. A code never changes its meaning.

use std::error::Error;
use std::fmt;
use std::process::ExitCode;

use farebox_chain::ChainError;
use farebox_channel::client::TermsRefused;
use farebox_client::{PayError, WalletError};
use reqwest::StatusCode;

/// The table of the codes, for the help.
pub(super) const TABLE: &str = "\
Exit codes:
  0    the answer is there, and does not say that it failed
  1    something else went wrong, with the file of channels for example
  2    the command line cannot be read, or a file that it names, or nothing is paid to such a URL
  3    a limit of yours does not allow it: a price, a capacity, a lifetime, what a channel holds
  4    not agreed to: the question was answered with no, or there was no terminal to ask at
  5    too few coins, no wallet, or a wallet that does not pay
  6    the gateway is not believed: what it says contradicts what was signed
  7    the gateway refuses, or asks for payment in another way
  8    not yet: unpaid, not confirmed, or busy (429, 503); run the same command again
  9    the service answered another 4xx or 5xx, or one of these two and may have been paid for it
  10   the server cannot be reached, or its answer broke off
  11   bitcoind cannot be reached, or does not do what it was asked
  130  stopped by Ctrl-C or SIGTERM";

/// The refusals that pass.
const BUSY: [&str; 2] =
    ["urn:farebox:problem:too-many-requests", "urn:farebox:problem:request-under-way"];

/// Tells whether an answer says that it failed.
pub(super) fn is_failure(status: StatusCode) -> bool {
    status.is_client_error() || status.is_server_error()
}

/// How a command has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Exit {
    Done,
    Failed,
    Usage,
    Limit,
    Declined,
    Coins,
    Distrust,
    Refused,
    NotYet,
    Service,
    Network,
    Node,
    Stopped,
}

impl Exit {
    /// Returns how a failure ends a command.
    pub(super) fn of(error: &(dyn Error + 'static)) -> Self {
        if let Some(failure) = error.downcast_ref::<Failure>() {
            return failure.exit;
        }
        if let Some(error) = error.downcast_ref::<PayError>() {
            return Self::of_pay(error);
        }
        if let Some(error) = error.downcast_ref::<WalletError>() {
            return Self::of_wallet(error);
        }
        error.downcast_ref::<ChainError>().map_or(Self::Failed, Self::of_chain)
    }

    fn of_pay(error: &PayError) -> Self {
        match error {
            PayError::Insecure(_) | PayError::NoHost(_) => Self::Usage,
            PayError::Payment(_)
            | PayError::CannotPay(_)
            | PayError::MayBeFree { .. }
            | PayError::Limit(_) => Self::Limit,
            PayError::Terms(refused) => Self::of_terms(refused),
            PayError::Declined(_) => Self::Declined,
            PayError::Funding(_) | PayError::Payout(_) => Self::Coins,
            PayError::Distrust(_)
            | PayError::Refund(_)
            | PayError::NoField(_)
            | PayError::Malformed(_) => Self::Distrust,
            PayError::Refused { kind, .. } if BUSY.contains(&kind.as_str()) => Self::NotYet,
            PayError::Refused { .. }
            | PayError::NoOffer
            | PayError::NotOpen(..)
            | PayError::NoChannel(_) => Self::Refused,
            PayError::NotNow(_) | PayError::Unconfirmed(_) | PayError::Unpaid(_) => Self::NotYet,
            PayError::Http(_) | PayError::Silent(_) | PayError::Unanswered(_) => Self::Network,
            PayError::Chain(error) => Self::of_chain(error),
            PayError::OneShotBody
            | PayError::OutOfBounds(_)
            | PayError::Random(_)
            | PayError::Redirected(_)
            | PayError::Middleware(_)
            | PayError::File(_) => Self::Failed,
        }
    }

    const fn of_terms(refused: &TermsRefused) -> Self {
        match refused {
            TermsRefused::OtherNetwork(_) => Self::Refused,
            TermsRefused::KindNotOffered(_)
            | TermsRefused::Capacity { .. }
            | TermsRefused::Lifetime { .. }
            | TermsRefused::FirstPayment { .. } => Self::Limit,
            TermsRefused::OtherKind(_)
            | TermsRefused::OtherExpiry { .. }
            | TermsRefused::OtherScript => Self::Distrust,
        }
    }

    const fn of_wallet(error: &WalletError) -> Self {
        match error {
            WalletError::Chain(error) => Self::of_chain(error),
            WalletError::File(_) | WalletError::Random(_) => Self::Failed,
            WalletError::Exists
            | WalletError::None
            | WalletError::OtherNetwork { .. }
            | WalletError::NoWords(_)
            | WalletError::WrongPassphrase
            | WalletError::NoPassphrase(_)
            | WalletError::Damaged(_) => Self::Coins,
        }
    }

    const fn of_chain(error: &ChainError) -> Self {
        match error {
            ChainError::NoWallet(_) | ChainError::TooFewCoins { .. } | ChainError::Wallet(_) => {
                Self::Coins
            }
            ChainError::Unreachable { .. }
            | ChainError::NoCookie { .. }
            | ChainError::Unauthorized { .. }
            | ChainError::Starting(_)
            | ChainError::Refused { .. }
            | ChainError::Unexpected { .. }
            | ChainError::Pruned { .. } => Self::Node,
        }
    }

    /// Returns the code.
    pub(super) const fn code(self) -> u8 {
        self.code_and_name().0
    }

    /// Returns the name that stands in JSON.
    pub(super) const fn name(self) -> &'static str {
        self.code_and_name().1
    }

    const fn code_and_name(self) -> (u8, &'static str) {
        match self {
            Self::Done => (0, "done"),
            Self::Failed => (1, "failed"),
            Self::Usage => (2, "usage"),
            Self::Limit => (3, "limit"),
            Self::Declined => (4, "declined"),
            Self::Coins => (5, "coins"),
            Self::Distrust => (6, "distrust"),
            Self::Refused => (7, "refused"),
            Self::NotYet => (8, "not-yet"),
            Self::Service => (9, "service"),
            Self::Network => (10, "network"),
            Self::Node => (11, "node"),
            Self::Stopped => (130, "stopped"),
        }
    }
}

/// Why a command has failed, and the code that it ends with.
#[derive(Debug)]
pub(super) struct Failure {
    exit: Exit,
    words: String,
    /// Whether nobody needs to be told any more.
    is_told: bool,
}

impl Failure {
    pub(super) fn new(exit: Exit, words: impl Into<String>) -> Self {
        Self { exit, words: words.into(), is_told: false }
    }

    /// Makes one of any error.
    pub(super) fn of(error: &(dyn Error + 'static)) -> Self {
        Self::new(Exit::of(error), error.to_string())
    }

    pub(super) const fn exit(&self) -> Exit {
        self.exit
    }

    pub(super) const fn is_told(&self) -> bool {
        self.is_told
    }

    /// Notes that it was told already.
    pub(super) fn told(self) -> Self {
        Self { is_told: true, ..self }
    }

    /// Adds something to know.
    pub(super) fn and(mut self, words: &str) -> Self {
        self.words = format!("{}; {words}", self.words);
        self
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.words)
    }
}

impl Error for Failure {}

/// Says in one sentence what went wrong, unless that was said, and returns the code for it: 1 unless the
/// command has another one.
pub(super) fn tell(error: &(dyn Error + 'static)) -> ExitCode {
    let failure = error.downcast_ref::<Failure>();
    if !failure.is_some_and(|failure| failure.is_told) {
        super::say(&format!("farebox: {error}"));
    }
    failure.map_or(ExitCode::FAILURE, |failure| ExitCode::from(failure.exit.code()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_has_each_code_once() {
        let all = [
            Exit::Done,
            Exit::Failed,
            Exit::Usage,
            Exit::Limit,
            Exit::Declined,
            Exit::Coins,
            Exit::Distrust,
            Exit::Refused,
            Exit::NotYet,
            Exit::Service,
            Exit::Network,
            Exit::Node,
            Exit::Stopped,
        ];
        let told = TABLE.lines().skip(1).map(|line| line.split_whitespace().next().unwrap());
        let told: Vec<u8> = told.map(|code| code.parse().unwrap()).collect();
        assert_eq!(told, all.map(Exit::code));
    }
}
