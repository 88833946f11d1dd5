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

    /// Tells whether less is charged for it than for another one.
    #[must_use]
    pub(crate) fn is_below(self, other: Self) -> bool {
        let amount = |price: Self| price.charged().unwrap_or(Msat::ZERO);
        amount(self) < amount(other)
    }

    /// Returns the one for which less is charged, and this one where it is the same.
    #[must_use]
    pub(crate) fn or_lower(self, other: Self) -> Self {
        if other.is_below(self) { other } else { self }
    }
}
