//! What a request costs.

use farebox_channel::Msat;

/// What a request costs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Price {
    /// Nothing.
    Free,
    /// Nothing, and it is reported that it would have cost so much.
    Shadow(Msat),
    /// So much.
    Charged(Msat),
}

impl Price {
    /// Returns what is charged, if anything is.
    #[must_use]
    pub const fn charged(self) -> Option<Msat> {
        match self {
            Self::Charged(price) => Some(price),
            Self::Free | Self::Shadow(_) => None,
        }
    }

    /// Returns the one for which less is charged, and this one where it is the same.
    #[must_use]
    pub(super) fn or_lower(self, other: Self) -> Self {
        let amount = |price: Self| price.charged().unwrap_or(Msat::ZERO);
        if amount(other) < amount(self) { other } else { self }
    }
}
